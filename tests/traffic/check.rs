//! One check: a client, a server that it wants, and what comes of it.

use std::fmt;
use std::net::SocketAddr;
use std::thread;

use kumatp::model::EngineName;
use kumatp::net::{FamilyName, Uid};
use kumatp::simulate::{Simulator, Verdict};
use kumatp::{Config, Facts, policy};

use crate::common::world::{
    APP, Backend, Client, Outcome, Place, Protocol, SIDECAR, Server, User, WORKLOAD, World, possible,
};

/// A configuration, what else there is in the namespace, and the checks, which are made in order.
pub(crate) struct Case {
    pub(crate) config: Config,
    pub(crate) facts: Facts,
    /// Rules of others, if there are any.
    pub(crate) foreign: Option<Foreign>,
    pub(crate) families: &'static [FamilyName],
    pub(crate) checks: Vec<Check>,
}

impl Case {
    /// For both families, on a capable host without other rules.
    pub(crate) fn new(config: Config, checks: impl IntoIterator<Item = Check>) -> Self {
        Self {
            config,
            facts: Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid")),
            foreign: None,
            families: &FamilyName::ALL,
            checks: checks.into_iter().collect(),
        }
    }

    /// The same with the rules of others after ours and by the legacy programs.
    pub(crate) fn with_late_and_legacy_rules(mut self) -> Self {
        self.foreign = self.foreign.map(|foreign| Foreign { late_and_legacy: true, ..foreign });
        self
    }

    /// Adds checks.
    pub(crate) fn and(mut self, checks: impl IntoIterator<Item = Check>) -> Self {
        self.checks.extend(checks);
        self
    }
}

/// Rules of others.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Foreign {
    /// Their text for iptables-restore.
    pub(crate) rules: fn(FamilyName) -> String,
    /// Whether they come after ours, and by the legacy programs whatever ours come by. To native rules, neither matters.
    pub(crate) late_and_legacy: bool,
}

impl Foreign {
    /// Rules that are there before ours, in the same mode.
    pub(crate) fn before(rules: fn(FamilyName) -> String) -> Self {
        Self { rules, late_and_legacy: false }
    }

    fn load(&self, backend: Backend, world: &World, families: &[FamilyName]) {
        let backend = if self.late_and_legacy { Backend::IptablesLegacy } else { backend };
        for family in families {
            backend.restore(world, *family, &(self.rules)(*family)).expect("the foreign rules load");
        }
    }
}

/// Who connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The workload.
    App,
    /// The sidecar.
    Sidecar,
    /// Another user beside the workload.
    Uid(u32),
    /// Somebody of another group beside the workload.
    Gid(u32),
    /// A host outside.
    Remote,
    /// The virtual machine.
    Vm,
}

/// What a client should meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// The sidecar's inbound listener, which knows where the client wanted to go.
    Inbound,
    /// The sidecar's outbound listener, which knows that too.
    Outbound,
    /// The sidecar's DNS listener.
    Dns,
    /// The server itself, at the very address and port.
    Direct,
    /// Another server, since somebody else's rule says so.
    Translated(Place, u16),
    /// No server there, and the host says so: nothing redirected the client.
    Refused,
    /// No answer at all.
    Silence,
}

/// A client and its fate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Check {
    who: Who,
    protocol: Protocol,
    to: Place,
    port: u16,
    from: Option<Place>,
    /// 0 for any.
    from_port: u16,
    expect: Expect,
    natively: Expect,
    /// By the programs of the eBPF engine, if that is different.
    by_programs: Option<Expect>,
}

/// A check by TCP.
pub(crate) fn tcp(who: Who, to: Place, port: u16, expect: Expect) -> Check {
    Check {
        who,
        protocol: Protocol::Tcp,
        to,
        port,
        from: None,
        from_port: 0,
        expect,
        natively: expect,
        by_programs: None,
    }
}

/// A check by UDP.
pub(crate) fn udp(who: Who, to: Place, port: u16, expect: Expect) -> Check {
    Check { protocol: Protocol::Udp, ..tcp(who, to, port, expect) }
}

impl Check {
    /// The client has this address.
    pub(crate) fn from(mut self, place: Place) -> Self {
        self.from = Some(place);
        self
    }

    /// The client has this port.
    pub(crate) fn by_port(mut self, port: u16) -> Self {
        self.from_port = port;
        self
    }

    /// With native rules, this is expected instead: an intended difference.
    pub(crate) fn natively(mut self, expect: Expect) -> Self {
        self.natively = expect;
        self
    }

    /// With programs that steer sockets instead of rules, this is expected instead.
    pub(crate) fn by_programs(mut self, expect: Expect) -> Self {
        self.by_programs = Some(expect);
        self
    }

    fn expected(&self, backend: Backend) -> Expect {
        match self.by_programs {
            Some(expect) if backend.is_programs() => expect,
            _ if backend.is_native() => self.natively,
            _ => self.expect,
        }
    }

    /// What the simulator says of the programs of the eBPF engine, where that is about them.
    fn predicted(&self, expect: Expect, rules: &Simulator<'_>, family: FamilyName) -> Option<Expect> {
        if matches!(expect, Expect::Refused | Expect::Silence | Expect::Translated(..)) {
            return None;
        }
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        let mut packet = format!("{protocol} {}", self.to.socket(family, self.port));
        if let Some(place) = self.from {
            packet += &format!(" from {}", place.socket(family, self.from_port.max(20000)));
        }
        let own = self.to.server() == WORKLOAD;
        let (uid, gid) = match self.who {
            Who::App => (APP.uid, APP.gid),
            Who::Sidecar => (SIDECAR.uid, SIDECAR.gid),
            Who::Uid(uid) => (uid, APP.gid),
            Who::Gid(gid) => (APP.uid, gid),
            Who::Remote | Who::Vm => {
                let interface = if self.who == Who::Vm { "br0" } else { "eth0" };
                let packet = format!("{} {packet} in {interface}", if own { "inbound" } else { "forwarded" });
                return Some(self.end(rules, &packet));
            }
        };
        packet += &format!(" uid {uid} gid {gid} out {}", if own { "lo" } else { "eth0" });
        Some(self.end(rules, &packet))
    }

    fn end(&self, rules: &Simulator<'_>, packet: &str) -> Expect {
        let parsed = packet.parse().unwrap_or_else(|error| panic!("{packet}: {error}"));
        match rules.run(&parsed).verdict {
            Verdict::Delivered => Expect::Direct,
            Verdict::Redirected { port } if port.number() == 15006 => Expect::Inbound,
            Verdict::Redirected { port } if port.number() == 15001 => Expect::Outbound,
            Verdict::Redirected { port } if port.number() == 15053 => Expect::Dns,
            other => panic!("{packet}: {other}"),
        }
    }

    fn outcome(&self, world: &World, family: FamilyName, own_port: u16, expect: Expect) -> Outcome {
        let port = if self.from_port == 0 { own_port } else { self.from_port };
        let mut client = Client::new(self.protocol, self.to.socket(family, self.port)).by_port(port);
        if let Some(place) = self.from {
            client = client.from(place.addr(family));
        }
        if expect == Expect::Silence {
            client = client.hopeless();
        }
        let (netns, user) = match self.who {
            Who::App => (&world.workload, APP),
            Who::Sidecar => (&world.workload, SIDECAR),
            Who::Uid(uid) => (&world.workload, User { uid, ..APP }),
            Who::Gid(gid) => (&world.workload, User { gid, ..APP }),
            Who::Remote => (&world.outside, User::ROOT),
            Who::Vm => (&world.machine, User::ROOT),
        };
        netns.enter_as(user, || client.outcome())
    }

    /// What is wrong with an outcome, if anything.
    fn complaint(&self, backend: Backend, expect: Expect, family: FamilyName, outcome: &Outcome) -> Option<String> {
        let wanted = self.to.socket(family, self.port);
        let reached = match (expect, outcome) {
            (Expect::Refused, Outcome::Refused) | (Expect::Silence, Outcome::Silence) => return None,
            (Expect::Refused | Expect::Silence, _) => return Some("it should not be answered".into()),
            (_, Outcome::Reached(reached)) => reached,
            _ => return Some("it should be answered".into()),
        };
        let answer = &reached.answer;
        // Redirection of what was made here goes to the loopback address, of what arrived to one of the interface; with native
        // rules, to the address that the client is from, or that it asked for.
        let local_client = !matches!(self.who, Who::Remote | Who::Vm);
        let listener = |who: &str, port: u16| {
            let local = answer.local;
            let there = match (backend.is_programs(), local_client) {
                (false, true) if backend.is_native() && expect != Expect::Inbound => {
                    let loopback = expect == Expect::Dns && local.ip().is_loopback();
                    local.port() == port && (local.ip() == reached.local.ip() || loopback)
                }
                (false, false) if backend.is_native() && self.who == Who::Remote && expect == Expect::Inbound => {
                    local == SocketAddr::new(wanted.ip(), port)
                }
                (false, _) => local.port() == port && local.ip().is_loopback() == local_client,
                // What arrives is not translated.
                (true, false) => local == wanted,
                // Nor is the address of this host that the sidecar calls.
                (true, true) if expect == Expect::Inbound => local == SocketAddr::new(wanted.ip(), port),
                (true, true) => local.port() == port && local.ip().is_loopback(),
            };
            answer.who == who && there
        };
        let at = |place: Place, local: SocketAddr| answer.who == place.server() && answer.local == local;
        let right = match expect {
            Expect::Inbound => listener(Server::INBOUND, 15006),
            Expect::Outbound => listener(Server::OUTBOUND, 15001),
            Expect::Dns => listener(Server::DNS, 15053),
            Expect::Direct => at(self.to, wanted),
            Expect::Translated(place, port) => at(place, place.socket(family, port)),
            Expect::Refused | Expect::Silence => false,
        };
        if !right {
            return Some("another server should answer".into());
        }
        let original_matters = matches!(expect, Expect::Inbound | Expect::Outbound);
        if original_matters && answer.original != Some(wanted) {
            return Some("the listener should know the original destination".into());
        }
        if expect == Expect::Direct && answer.original.is_some_and(|original| original != wanted) {
            return Some("nothing should have translated it".into());
        }
        (answer.peer != reached.local).then(|| "the server should see the client's own address".into())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {:?} to {:?}:{}", self.who, self.protocol, self.to, self.port)?;
        if let Some(place) = self.from {
            write!(f, " from {place:?}")?;
        }
        match self.from_port {
            0 => Ok(()),
            port => write!(f, " from port {port}"),
        }
    }
}

/// Makes all checks of a case, both families at a time, and reports all that is wrong.
pub(crate) fn run(backend: Backend, case: Case) {
    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    let foreign = |late| case.foreign.filter(|foreign| foreign.late_and_legacy == late);
    if let Some(foreign) = foreign(false) {
        foreign.load(backend, &world, case.families);
    }
    let plan = policy::plan(&case.config, &case.facts).expect("the configuration fits the facts");
    backend.install(&world, &plan).expect("the rules load");
    if let Some(foreign) = foreign(true) {
        foreign.load(backend, &world, case.families);
    }
    let simulator = backend.is_programs().then(|| Simulator::of(&plan, EngineName::Ebpf));
    let (world, checks) = (&world, &case.checks);
    let check_family = |family: FamilyName| {
        let mut wrong = Vec::new();
        // Each client has a port of its own: of two connections that were redirected to the same place from the same
        // port, the kernel would give one another port.
        for (check, own_port) in checks.iter().zip(20000..) {
            let expect = check.expected(backend);
            if let Some(predicted) = simulator.as_ref().and_then(|rules| check.predicted(expect, rules, family)) {
                if predicted != expect {
                    wrong.push(format!("{family}: {check}: the simulator says {predicted:?}, and not {expect:?}"));
                }
            }
            let outcome = check.outcome(world, family, own_port, expect);
            if let Some(complaint) = check.complaint(backend, expect, family, &outcome) {
                wrong.push(format!("{family}: {check}: expected {expect:?}; {outcome}: {complaint}"));
            }
        }
        wrong
    };
    let wrong: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = case.families.iter().map(|family| scope.spawn(|| check_family(*family))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("the checks do not panic")).collect()
    });
    assert!(wrong.is_empty(), "{}\n\nthe rules:\n{}", wrong.join("\n"), world.rules());
    backend.remove(world).expect("the rules can be removed");
}
