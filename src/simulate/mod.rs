//! What the kernel would do with a packet, without a kernel, and which rule decides.
//!
//! [`Simulator`] sends an [`AnyPacket`] through the rules and says how it ends: an [`Outcome`] with the [`Verdict`], the rules that
//! matched on the way, the one that decided and the configuration key that it came from. It is
//! total: any packet through any rules gives an answer, in bounded time.
//!
//! ```
//! use kumatp::model::EngineName;
//! use kumatp::simulate::{Simulator, Verdict};
//! # use kumatp::{Config, Facts, net::Uid, policy};
//!
//! let mut config = Config::default();
//! config.redirect.outbound.exclude_ports = "9000-9100".parse()?;
//! let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR))?;
//!
//! let simulator = Simulator::of(&plan, EngineName::Netlink);
//! let outcome = simulator.run(&"tcp 10.1.2.3:9042 uid 1000".parse()?);
//! assert_eq!(outcome.verdict, Verdict::Delivered);
//! assert_eq!(outcome.key().unwrap().to_string(), "redirect.outbound.excludePorts[0]");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is followed
//!
//! The hooks in their order, with a second pass by the loopback interface for what is sent to this host; in each hook the chains by
//! priority; calls and returns, out of built-in chains too; translation only for the first packet of a connection, by the first
//! chain that decides; conntrack zones, of which the first one counts, and none once the packet has its connection; packets
//! without a socket, which have no owner. Not followed is what depends on more than rules and packet: routes, marks, and whether the
//! interface that a redirected packet came in by has an address to redirect it to (an IPv6 one of the destination's scope; Linux
//! net/netfilter/nf_nat_redirect.c), without which the kernel drops it. The engines differ on purpose in a few points, which
//! [`nftables`](crate::nftables) lists; the simulator answers for the one that it is asked about.
//!
//! If it is not known whether a rule matches, both cases are tried. Only if they end differently is the answer
//! [`Undecided`](Verdict::Undecided).
//!
//! Of tables that other programs have in nf_tables, [`Simulator::of_installed`] follows base chains of the types filter, route and
//! nat, those of network devices too; conditions on addresses, ports, protocols, interfaces, owners, TCP flags, the
//! connection-tracking state and local addresses; look-ups in sets and verdict maps, concatenated ones too; calls, verdicts,
//! redirections, source translation, `notrack` and zones. A translation to another address, a queue or a transparent proxy leaves
//! a packet undecided, as does a mark, a counter or a random number that the answer depends on. The order of chains that have the
//! same priority in different tables is not known: an answer that depends on it is undecided as well. Bridges and ARP are not
//! followed.
//!
//! # The engine ebpf
//!
//! Its programs steer sockets, and the simulator sends the first packet through them as if they were rules. Where they differ, the
//! step that decides says why: forwarded packets, connections from before, packets that no process sends and what this host sends
//! to itself stay as they are. There are no conntrack zones, no drops and no log lines; UDP other than DNS is left alone, as by
//! rules. An interface tells nothing: what goes to `0.0.0.0`, `::` or a loopback address goes to this host, and of other addresses
//! the packet says so by going out by the loopback interface. A user is that of the process, and what comes from elsewhere keeps its
//! destination address and port where it is redirected. Not followed is whether the process is in the cgroup that the programs
//! are attached to, and that a listener on the inbound port is reached even where that port is excluded.

mod additions;
mod boundary_packets;
mod compile;
mod diff;
mod document;
mod expect;
mod explain;
#[cfg(all(feature = "host", target_os = "linux"))]
mod live;
mod lowered;
mod native;
#[cfg(test)]
mod oracle;
#[cfg(all(feature = "host", target_os = "linux"))]
mod others;
mod outcome;
mod packet;
mod planned;
mod program;
mod saved;
mod sockets;
mod text;
mod translation;
mod view;
mod walk;

pub use diff::{Change, Diff, Fate, Listed};
pub use document::Packets;
pub use expect::{Expectation, Matched};
pub use explain::{Arrival, Explanation, Reply};
pub use outcome::{Effect, LogLine, Outcome, Step, Verdict};
pub use packet::{AnyPacket, Direction, IpProtocol, Packet, Socket, Tracking};
pub use planned::Planned;

use crate::error::Error;
use crate::iptables_save::Saved;
use crate::model::{EngineName, Plan, Ruleset};
use crate::net::{Family, FamilyName, InterfaceName, Port, Uid, V4, V6};
use crate::nftables::{Guarding, Native, Table};
use program::Program;
use saved::Whose;
use translation::{Known, Translation};
use walk::Sent;

/// Programs for both families that may be the right ones as well.
#[derive(Debug, Clone)]
struct Reading<'r> {
    programs: [Program<'r>; 2],
    /// What is not known.
    why: &'static str,
}

/// Rules that packets can be sent through, as often as wanted.
#[derive(Debug, Clone)]
pub struct Simulator<'r> {
    v4: Program<'r>,
    v6: Program<'r>,
    /// What else the rules may be, where it is not known.
    readings: Vec<Reading<'r>>,
    loopback: InterfaceName,
    sidecar: Uid,
    /// Whether programs that steer sockets do what the rules say.
    sockets: bool,
    /// Whether programs that are not known deal with sockets first.
    #[cfg(all(feature = "host", target_os = "linux"))]
    programs: bool,
    /// What is missing of an installation besides rules, in words.
    missing: Vec<String>,
    /// What listens on a port, where it is known.
    listeners: Vec<(Port, &'static str)>,
}

impl<'r> Simulator<'r> {
    /// The rules of a plan, as this engine makes them work. A family that the plan leaves out has no rules.
    ///
    /// The engine ebpf has no rules, but its programs ask the same questions in the same order; steps of the trace are the rules that
    /// iptables would have. Of a plan that this engine refuses, what it refuses is left out.
    pub fn of(plan: &'r Plan, engine: EngineName) -> Self {
        let guarding = Guarding { can: plan.guards, loopback: plan.loopback.clone() };
        let (v4, v6) = match engine {
            EngineName::Iptables => (plan.iptables_v4(), plan.iptables_v6()),
            _ => (&plan.v4, plan.v6.as_ref()),
        };
        let v6 = v6.map(|v6| Program::of(v6, engine, &guarding));
        let mut simulator = Self::new(Program::of(v4, engine, &guarding), v6).knowing(plan);
        simulator.sockets = engine == EngineName::Ebpf;
        simulator
    }

    /// With what a plan tells besides its rules.
    fn knowing(mut self, plan: &Plan) -> Self {
        let listeners = &plan.sockets.listeners;
        self.sidecar = plan.sockets.sidecar;
        self.loopback = plan.loopback.as_str().parse().unwrap_or(self.loopback);
        self.listeners = vec![
            (listeners.outbound, "the outbound listener of the sidecar"),
            (listeners.inbound, "the inbound listener of the sidecar"),
            (listeners.dns, "the DNS listener of the sidecar"),
        ];
        self
    }

    /// The rules of one family, as this engine makes them work. The other family has none.
    pub fn of_ruleset<F: Family>(ruleset: &'r Ruleset<F>, engine: EngineName) -> Self {
        Self {
            sockets: engine == EngineName::Ebpf,
            ..Self::one(F::NAME, Program::of(ruleset, engine, &Guarding::default()))
        }
    }

    /// The rules of a native form: what the netlink engine installs. Steps of the trace are native rules.
    pub fn of_native(native: &'r Native) -> Self {
        Self::new(Program::of_native(&native.v4), native.v6.as_ref().map(Program::of_native))
    }

    /// The rules of one table of the native form. The other family has none.
    pub fn of_native_table(table: &'r Table) -> Self {
        Self::one(table.family, Program::of_native(table))
    }

    /// The rules of iptables-save's text, everybody's: of each family that the text has.
    ///
    /// A rule with a part that the model does not know is judged by what is known of it, and where that is not enough the verdict is
    /// [`Undecided`](Verdict::Undecided).
    ///
    /// # Errors
    /// [`Error::Config`] if a text has a table that is none of iptables', or inserts a rule below rules that it does not have.
    ///
    /// ```
    /// use kumatp::simulate::{Simulator, Verdict};
    ///
    /// let text = "*nat\n-A OUTPUT -p tcp -m owner --uid-owner 7 -j ACCEPT\n-A OUTPUT -p tcp -j REDIRECT --to-ports 15001\nCOMMIT\n";
    /// let saved = kumatp::iptables_save::parse(text)?;
    /// let rules = Simulator::of_saved(Some(&saved), None)?;
    /// rules.expect("tcp 10.1.2.3:443 uid 7").delivered();
    /// rules.expect("tcp 10.1.2.3:443 uid 8").redirected_to(15001);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_saved(v4: Option<&'r Saved<V4>>, v6: Option<&'r Saved<V6>>) -> Result<Self, Error> {
        Self::saved(v4, v6, Whose::All)
    }

    /// The same without the rules of other programs: what [`diff`](Self::diff) compares with a plan.
    ///
    /// # Errors
    /// As [`of_saved`](Self::of_saved).
    pub fn of_saved_ours(v4: Option<&'r Saved<V4>>, v6: Option<&'r Saved<V6>>) -> Result<Self, Error> {
        Self::saved(v4, v6, Whose::Ours)
    }

    fn saved(v4: Option<&'r Saved<V4>>, v6: Option<&'r Saved<V6>>, whose: Whose) -> Result<Self, Error> {
        let others = (
            v4.map(|saved| Program::other_readings(saved, whose)).transpose()?.flatten(),
            v6.map(|saved| Program::other_readings(saved, whose)).transpose()?.flatten(),
        );
        let v4 = v4.map(|saved| Program::of_saved(saved, whose)).transpose()?.unwrap_or_default();
        let v6 = v6.map(|saved| Program::of_saved(saved, whose)).transpose()?.unwrap_or_default();
        let mut simulator = Self::new(v4, Some(v6));
        if others.0.is_some() || others.1.is_some() {
            let others_v4 = others.0.unwrap_or_else(|| [simulator.v4.clone(), simulator.v4.clone()]);
            let others_v6 = others.1.unwrap_or_else(|| [simulator.v6.clone(), simulator.v6.clone()]);
            let why = "a table stands there twice, and whether the later one takes the place of the earlier one or both are in \
                       force, as those of iptables-nft and iptables-legacy, is not known";
            simulator
                .readings
                .extend(others_v4.into_iter().zip(others_v6).map(|(v4, v6)| Reading { programs: [v4, v6], why }));
        }
        Ok(simulator)
    }

    fn new(v4: Program<'r>, v6: Option<Program<'r>>) -> Self {
        let v6 = v6.unwrap_or_default();
        let sidecar = v4.sidecar().or_else(|| v6.sidecar()).unwrap_or(Uid::SIDECAR);
        Self {
            v4,
            v6,
            readings: Vec::new(),
            loopback: InterfaceName::lo(),
            sidecar,
            sockets: false,
            #[cfg(all(feature = "host", target_os = "linux"))]
            programs: false,
            missing: Vec::new(),
            listeners: Vec::new(),
        }
    }

    fn one(family: FamilyName, program: Program<'r>) -> Self {
        match family {
            FamilyName::V4 => Self::new(program, None),
            FamilyName::V6 => Self::new(Program::default(), Some(program)),
        }
    }

    /// On a host whose loopback interface has this name. Known from a plan; otherwise `lo`.
    pub fn with_loopback(mut self, name: InterfaceName) -> Self {
        self.loopback = name;
        self
    }

    /// On a host where the sidecar runs as this user, which it answers redirected connections as. Known from a plan, and from
    /// rules of ours and kumactl's; otherwise 5678.
    pub fn with_sidecar(mut self, uid: Uid) -> Self {
        self.sidecar = uid;
        self
    }

    /// Sends a packet through the rules.
    pub fn run(&self, packet: &AnyPacket) -> Outcome<'r> {
        match packet {
            AnyPacket::V4(packet) => self.send(packet),
            AnyPacket::V6(packet) => self.send(packet),
        }
    }

    /// Sends a packet of one family through the rules.
    pub fn send<F: Family>(&self, packet: &Packet<F>) -> Outcome<'r> {
        self.send_knowing(packet, None).outcome
    }

    /// The same with what is known of its connection.
    fn send_knowing<F: Family>(&self, packet: &Packet<F>, known: Option<&Known>) -> Sent<'r> {
        let as_packet;
        let packet = match self.sockets {
            false => packet,
            true => {
                if let Some(outcome) = sockets::untouched(packet, &self.loopback) {
                    return Sent { outcome, translation: Translation::NONE, untracked: false };
                }
                as_packet = sockets::as_packet(packet, &self.loopback);
                &as_packet
            }
        };
        let mut sent = self.through(of_family::<F, _>([&self.v4, &self.v6]), packet, known);
        for Reading { programs: [v4, v6], why } in &self.readings {
            let other = self.through(of_family::<F, _>([v4, v6]), packet, known);
            let same = (&other.outcome.verdict, other.outcome.zone, other.translation, other.untracked)
                == (&sent.outcome.verdict, sent.outcome.zone, sent.translation, sent.untracked);
            if !same {
                sent.outcome.leave_undecided(why);
            }
        }
        #[cfg(all(feature = "host", target_os = "linux"))]
        if self.programs && sockets::may_redirect(packet, &self.loopback) {
            sent.outcome.leave_undecided("eBPF programs are active, or may be, and what they are told is not read");
        }
        sent
    }

    fn through<F: Family>(&self, program: &Program<'r>, packet: &Packet<F>, known: Option<&Known>) -> Sent<'r> {
        let walk = |packet: &Packet<F>, known: &Known| walk::walk(program, packet, known, self.loopback.as_str());
        if let Some(known) = known {
            return walk(packet, known);
        }
        let has_past = matches!(packet.tracking, Tracking::Established | Tracking::Lost) && program.translates();
        if !has_past {
            return walk(packet, &Known::NOTHING);
        }
        let first = walk(&packet.clone().tracked(Tracking::New), &Known::NOTHING);
        if packet.tracking == Tracking::Lost {
            let unknown = matches!(first.outcome.verdict, Verdict::Undecided { .. });
            let translation = if unknown { Translation::unknown(true) } else { first.translation };
            return walk(packet, &Known::translated(translation));
        }
        let mut sent = walk(packet, &Known::NOTHING);
        // Its connection may be translated as these rules would have it, or not at all, if it is from before them.
        let perhaps = match first.outcome.verdict {
            Verdict::Undecided { .. } => vec![Translation::unknown(false), Translation::unknown(true)],
            _ => vec![first.translation],
        };
        if perhaps
            .into_iter()
            .any(|translation| walk(packet, &Known::translated(translation)).outcome.verdict != sent.outcome.verdict)
        {
            sent.outcome.leave_undecided("whether its connection is translated, and to what, is not known");
        }
        sent
    }
}

fn of_family<F: Family, T>([v4, v6]: [T; 2]) -> T {
    match F::NAME {
        FamilyName::V4 => v4,
        FamilyName::V6 => v6,
    }
}

#[cfg(test)]
mod tests;
