//! Connections that are open while the rules change, and clients that are processes of their own.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Facts, Plan, policy};

use crate::common::world::{
    APP, Answer, Backend, Client, Netns, OUTSIDE, Outcome, Place, Protocol, SIDECAR, Server, Session, User, WORKLOAD,
    World, possible,
};

fn plan(config: &Config) -> Plan {
    let facts = Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid"));
    policy::plan(config, &facts).expect("the configuration fits the facts")
}

fn session(netns: &Netns, user: User, family: FamilyName, place: Place, port: u16) -> Session {
    let client = Client::new(Protocol::Tcp, place.socket(family, port));
    netns.enter_as(user, || Session::open(client)).expect("the session opens")
}

/// Elsewhere threads are users; here are processes, as on a real host.
pub(crate) fn processes_of_users(backend: Backend) {
    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    backend.install(&world, &plan(&Config::default())).expect("the rules load");
    for family in FamilyName::ALL {
        for (user, who) in [(APP, Server::OUTBOUND), (SIDECAR, OUTSIDE)] {
            let line = world.workload.enter(|| {
                let script = format!(
                    "exec 3<>/dev/tcp/{}/9000 && read -r -t 10 line <&3 && echo \"$line\"",
                    Place::Outside.addr(family)
                );
                let output = Command::new("bash").args(["-c", &script]).uid(user.uid).gid(user.gid).output();
                String::from_utf8(output.expect("bash runs").stdout).expect("text")
            });
            let answer: Answer = line.parse().unwrap_or_else(|()| panic!("{user:?} by {family} read {line:?}"));
            assert_eq!(answer.who, who, "{user:?} by {family}");
        }
    }
}

/// Connections that are older than the first rules. Connection tracking begins with the rules and takes their next packet
/// for a new connection, which is then redirected, and so reset. The netlink engine tells connection tracking of them first,
/// which no text of rules can.
pub(crate) fn connections_from_before(backend: Backend) {
    if !possible() {
        return;
    }
    let mut inserted = Config::default();
    inserted.redirect.inbound.insert = true;
    inserted.redirect.outbound.insert = true;
    for config in [Config::default(), inserted] {
        connections_from_before_rules(backend, &plan(&config));
    }
}

fn connections_from_before_rules(backend: Backend, plan: &Plan) {
    let world = World::new().expect("the world can be made");
    let sessions = FamilyName::ALL.map(|family| {
        let inbound = session(&world.outside, User::ROOT, family, Place::Own, 8080);
        let outbound = session(&world.workload, APP, family, Place::Outside, 9000);
        let sidecar = session(&world.workload, SIDECAR, family, Place::Outside, 9000);
        [inbound, outbound, sidecar]
    });
    backend.install(&world, plan).expect("the rules load");
    for (family, [mut inbound, mut outbound, mut sidecar]) in FamilyName::ALL.into_iter().zip(sessions) {
        assert_eq!([&inbound, &outbound, &sidecar].map(|s| s.answer.who.as_str()), [WORKLOAD, OUTSIDE, OUTSIDE]);
        assert_eq!(inbound.check().is_ok(), backend == Backend::Netlink, "inbound by {family}");
        assert_eq!(outbound.check().is_ok(), backend == Backend::Netlink, "outbound by {family}");
        sidecar.check().expect("the sidecar's connections are nobody's to redirect");
        let new = session(&world.outside, User::ROOT, family, Place::Own, 8080);
        assert_eq!(new.answer.who, Server::INBOUND, "new connections by {family} are redirected");
        let new = session(&world.workload, APP, family, Place::Outside, 9000);
        assert_eq!(new.answer.who, Server::OUTBOUND, "new connections by {family} are redirected");
    }
}

/// A replacement changes what happens to new connections, and nothing about those that are open.
pub(crate) fn connections_survive_a_replacement(backend: Backend) {
    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    backend.install(&world, &plan(&Config::default())).expect("the rules load");
    let open = || {
        FamilyName::ALL.map(|family| {
            let inbound = session(&world.outside, User::ROOT, family, Place::Own, 8080);
            let outbound = session(&world.workload, APP, family, Place::Outside, 9000);
            [inbound, outbound]
        })
    };
    let mut config = Config::default();
    config.redirect.inbound.exclude_ports = "8080".parse().expect("ports");
    config.redirect.outbound.exclude_ports = "9000".parse().expect("ports");
    let mut sessions = open();
    for plan in [plan(&Config::default()), plan(&config)] {
        backend.install(&world, &plan).expect("the rules load again");
        for session in sessions.iter_mut().flatten() {
            session.check().expect("open connections stay redirected");
        }
    }
    let who = |sessions: [[Session; 2]; 2]| sessions.map(|pair| pair.map(|session| session.answer.who));
    assert_eq!(who(sessions), [[Server::INBOUND, Server::OUTBOUND]; 2]);
    assert_eq!(who(open()), [[WORKLOAD, OUTSIDE]; 2], "new connections follow the new rules");
}

/// Clients that connect in a loop meet the outbound listener each time, while the rules are replaced again and again.
pub(crate) fn no_connection_slips_through_a_replacement(backend: Backend) {
    const REPLACEMENTS: usize = 20;

    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    let plan = plan(&Config::default());
    backend.install(&world, &plan).expect("the rules load");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients = FamilyName::ALL.map(|family| {
            let (world, over) = (&world, &over);
            scope.spawn(move || {
                let client = Client::new(Protocol::Tcp, Place::Outside.socket(family, 9000));
                world.workload.enter_as(APP, || {
                    let mut count = 0;
                    while !over.load(Ordering::Relaxed) && count < 1_000_000 {
                        match client.outcome() {
                            Outcome::Reached(reached) if reached.answer.who == Server::OUTBOUND => count += 1,
                            other => return Err(format!("{family}, after {count} connections: {other}")),
                        }
                    }
                    Ok(count)
                })
            })
        });
        let installed: Result<Vec<()>, _> = (0..REPLACEMENTS).map(|_| backend.install(&world, &plan)).collect();
        over.store(true, Ordering::Relaxed);
        installed.expect("the rules load again");
        for client in clients {
            let count = client.join().expect("the client does not panic").unwrap_or_else(|slipped| panic!("{slipped}"));
            assert!(count > 0, "no connection in {REPLACEMENTS} replacements");
        }
    });
}

/// After a removal, it is as if there had never been rules, also for what was excluded or tracked in zones.
pub(crate) fn nothing_is_left_after_removal(backend: Backend) {
    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    backend.install(&world, &plan(&config)).expect("the rules load");
    assert!(world.has_ours());
    backend.remove(&world).expect("the rules can be removed");
    assert!(!world.has_ours(), "{}", world.rules());
    for family in FamilyName::ALL {
        for (netns, user, place, port, who) in [
            (&world.outside, User::ROOT, Place::Own, 8080, WORKLOAD),
            (&world.workload, APP, Place::Outside, 9000, OUTSIDE),
            (&world.workload, APP, Place::Resolver, 53, OUTSIDE),
        ] {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                // Not every server has both, so the ports of UDP are others.
                let port = if protocol == Protocol::Udp && port == 8080 { 9000 } else { port };
                let client = Client::new(protocol, place.socket(family, port));
                match netns.enter_as(user, || client.outcome()) {
                    Outcome::Reached(reached) if reached.answer.who == who => {}
                    other => panic!("{protocol:?} to {place:?}:{port} by {family}: {other}"),
                }
            }
        }
    }
}
