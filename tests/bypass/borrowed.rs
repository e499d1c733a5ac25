//! Tuples whose entry in connection tracking is somebody else's: of an earlier socket, of the sidecar, of another zone, or made by
//! hand.

use std::net::SocketAddr;

use kumatp::Config;
use kumatp::net::FamilyName;

use crate::common::world::{APP, OUTSIDE, Place, SIDECAR, Server, WORKLOAD};
use crate::conntrack::{Conntrack, Flow};
use crate::lab::{Lab, Rules, own};
use crate::link::check_link;
use crate::pair::{Call, Kind, Pair};
use crate::places::{ask_by, dns_servers};
use crate::segment::{TCP, UDP};

pub(crate) fn tuples(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    lab.install(rules, &Config::default());
    for (number, family) in FamilyName::ALL.into_iter().enumerate() {
        let port = 20000 + 1000 * number as u16;
        let case = Case { rules, lab: &lab, family };
        case.of_loopback(port + 1);
        case.of_the_sidecar_after_a_reset(port + 2);
        case.of_the_sidecar_after_a_farewell(port + 4);
        case.of_the_same_after_a_reset(port + 10);
        case.of_other_zones(port + 20);
        case.made_by_hand(port + 30);
    }
    let zone =
        |hook| format!("chain {hook} {{ type filter hook {hook} priority -301; meta l4proto tcp ct zone set 9; }};");
    lab.foreign(&format!("table inet zones {{ {} {} }}", zone("prerouting"), zone("output")));
    for (number, family) in FamilyName::ALL.into_iter().enumerate() {
        let port = 30000 + 1000 * number as u16;
        let case = Case { rules, lab: &lab, family };
        case.of_the_same_after_a_reset(port);
        case.of_the_sidecar_after_a_reset(port + 10);
    }
    check_link(&lab, rules);
}

/// Queries from ports whose entries are others': of other zones, of the sidecar, or lost.
pub(crate) fn queries(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    let _dns = dns_servers(&lab);
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    lab.install(rules, &config);
    let workload = &lab.world.workload;
    let tracking = workload.enter(Conntrack::new).expect("connection tracking answers");
    for (port, family) in [20000, 20100].into_iter().zip(FamilyName::ALL) {
        let to = Place::Outside.socket(family, 53);
        for zone in [0, 9] {
            let from = SocketAddr::new(own(family), port);
            tracking.insert(Flow { protocol: UDP, from, to }, zone).expect("an entry can be made");
        }
        let ask = |user| workload.enter_as(user, || ask_by(port, to, None, true));
        for (user, who) in [(APP, Server::DNS), (SIDECAR, OUTSIDE), (APP, Server::DNS)] {
            assert_eq!(ask(user).as_deref(), Some(who), "{rules:?}, {family}, {user:?}");
        }
        tracking.flush().expect("entries can be removed");
        for (user, who) in [(SIDECAR, OUTSIDE), (APP, Server::DNS), (SIDECAR, OUTSIDE)] {
            assert_eq!(ask(user).as_deref(), Some(who), "{rules:?}, {family}, {user:?}, after a flush");
        }
    }
}

struct Case<'a> {
    rules: Rules,
    lab: &'a Lab,
    family: FamilyName,
}

impl Case<'_> {
    /// Who accepts a connection from a port, that perhaps nobody accepts.
    fn accepts(&self, kind: Kind, port: u16) -> Option<&'static str> {
        let (accepted, _) = Call::of(kind, self.family, port).hopeless().place(self.lab);
        accepted.map(|accepted| accepted.who)
    }

    /// With native rules, a connection by the sidecar or none; with iptables' the one that is past it, as with kumactl's.
    fn is_closed(&self, kind: Kind, port: u16, what: &str) {
        let past = if kind.is_inbound() { WORKLOAD } else { OUTSIDE };
        let who = self.accepts(kind, port);
        let is_past = who == Some(past);
        assert_eq!(is_past, !self.rules.close(), "{what}, {kind:?}, {}, {:?}: {who:?}", self.family, self.rules);
    }

    fn is_redirected(&self, kind: Kind, port: u16, what: &str) {
        let (accepted, connected) = Call::of(kind, self.family, port).place(self.lab);
        let who = accepted.map(|accepted| accepted.who);
        assert_eq!(who, Some(kind.server()), "{what}, {kind:?}, {}: {connected:?}", self.family);
    }

    /// A socket that is bound to loopback sends there what is for elsewhere, and nobody hears it.
    fn of_loopback(&self, port: u16) {
        let _ = Call::of(Kind::Outbound, self.family, port).by("lo").hopeless().place(self.lab);
        // By IPv6 there is no route.
        match self.family {
            FamilyName::V4 => match self.rules.close() {
                true => self.is_redirected(Kind::Outbound, port, "a port that was bound to loopback"),
                false => self.is_closed(Kind::Outbound, port, "a port that was bound to loopback"),
            },
            FamilyName::V6 => self.is_redirected(Kind::Outbound, port, "a port that was bound to loopback"),
        }
    }

    fn of_the_sidecar_after_a_reset(&self, port: u16) {
        Pair::open(self.lab, Kind::Sidecar, self.family, port).reset(false);
        self.is_closed(Kind::Outbound, port, "a port of the sidecar after a reset");
        Pair::open(self.lab, Kind::Sidecar, self.family, port + 1).reset(true);
        self.is_redirected(Kind::Outbound, port + 1, "a port of the sidecar after its own reset");
    }

    /// Both have said that it is over, the server first: its entry is in TIME_WAIT.
    fn of_the_sidecar_after_a_farewell(&self, port: u16) {
        Pair::open(self.lab, Kind::Sidecar, self.family, port).close();
        self.is_redirected(Kind::Outbound, port, "a port of the sidecar after a farewell");
    }

    fn of_the_same_after_a_reset(&self, port: u16) {
        for (number, kind) in [Kind::Inbound, Kind::Outbound].into_iter().enumerate() {
            for by_client in [true, false] {
                let port = port + 2 * number as u16 + u16::from(by_client);
                Pair::open(self.lab, kind, self.family, port).reset(by_client);
                self.is_redirected(kind, port, "the same port again");
            }
        }
    }

    fn tracking(&self) -> Conntrack {
        self.lab.world.workload.enter(Conntrack::new).expect("connection tracking answers")
    }

    fn flow(&self, kind: Kind, port: u16) -> Flow {
        Flow { protocol: TCP, from: kind.from(self.family, port), to: kind.to(self.family) }
    }

    fn of_other_zones(&self, port: u16) {
        for (number, kind) in [Kind::Inbound, Kind::Outbound].into_iter().enumerate() {
            let port = port + number as u16;
            for zone in [1, 2, 9] {
                self.tracking().insert(self.flow(kind, port), zone).expect("an entry can be made");
            }
            self.is_redirected(kind, port, "an entry of another zone");
        }
    }

    fn made_by_hand(&self, port: u16) {
        for (number, kind) in [Kind::Inbound, Kind::Outbound].into_iter().enumerate() {
            let port = port + number as u16;
            self.tracking().insert(self.flow(kind, port), 0).expect("an entry can be made");
            self.is_closed(kind, port, "an entry made by hand");
            // When it is gone, all is as ever.
            self.tracking().flush().expect("entries can be removed");
            self.is_redirected(kind, port, "after an entry made by hand");
        }
    }
}
