//! Connections that are open while the rules change, and clients that are processes of their own.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Facts, Plan, policy};

use crate::common::world::{
    APP, Answer, Backend, Client, Netns, OUTSIDE, Place, Protocol, SIDECAR, Server, Session, User, WORKLOAD, World,
    possible,
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
                    "exec 3<>/dev/tcp/{}/9000 && read -r -t 1 line <&3 && echo \"$line\"",
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
/// for a new connection; iptables then redirects it, which resets them. Native rules only look at packets that open one.
pub(crate) fn connections_from_before(backend: Backend) {
    if !possible() {
        return;
    }
    let world = World::new().expect("the world can be made");
    let sessions = FamilyName::ALL.map(|family| {
        let inbound = session(&world.outside, User::ROOT, family, Place::Own, 8080);
        let outbound = session(&world.workload, APP, family, Place::Outside, 9000);
        let sidecar = session(&world.workload, SIDECAR, family, Place::Outside, 9000);
        [inbound, outbound, sidecar]
    });
    backend.install(&world, &plan(&Config::default())).expect("the rules load");
    for (family, [mut inbound, mut outbound, mut sidecar]) in FamilyName::ALL.into_iter().zip(sessions) {
        assert_eq!([&inbound, &outbound, &sidecar].map(|s| s.answer.who.as_str()), [WORKLOAD, OUTSIDE, OUTSIDE]);
        assert_eq!(inbound.check().is_ok(), backend.is_native(), "inbound by {family}");
        assert_eq!(outbound.check().is_ok(), backend.is_native(), "outbound by {family}");
        sidecar.check().expect("the sidecar's connections are nobody's to redirect");
    }
}
