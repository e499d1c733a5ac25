//! Entries of connection tracking that are older than the rules: a firewall had connections tracked, or somebody made entries.

use kumatp::Config;
use kumatp::net::FamilyName;

use crate::cases::{self, Case};
use crate::common::world::{OUTSIDE, WORKLOAD};
use crate::conntrack::{Conntrack, Flow};
use crate::lab::{Accepted, Lab, Rules};
use crate::link::check_link;
use crate::pair::{Call, Kind, end_by_reset};
use crate::range::shoot;
use crate::segment::{ACK, Segment, TCP};

/// What stateful firewalls have.
const FIREWALL: &str = "table inet fw {
    chain in { type filter hook input priority 0; ct state established,related accept; };
    chain out { type filter hook output priority 0; ct state established,related accept; };
}";

/// The ports before those of peers whose packet is signed, whose entry is made by hand, and whose connections are open.
const SIGNED: u16 = 20000;
const BY_HAND: u16 = 20100;
const OPEN: u16 = 20200;

/// None of them is a way past the rules. With those of iptables they are, as with kumactl's.
pub(crate) fn entries(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    lab.foreign(FIREWALL);
    // A peer's packet that is for no connection, and that the host does not answer, since its signature is of no known key.
    let signed = cases::ordinary(SIGNED);
    for case in &signed {
        let mut signed = Segment::new(case.from, case.to, ACK);
        signed.options = [&[19, 18], [0; 16].as_slice()].concat();
        lab.link.send(None, &signed.packet()).expect("packets can be sent");
    }
    let tracking = lab.world.workload.enter(Conntrack::new).expect("connection tracking answers");
    let by_hand = cases::ordinary(BY_HAND);
    for Case { from, to, .. } in &by_hand {
        tracking.insert(Flow { protocol: TCP, from: *from, to: *to }, 0).expect("an entry can be made");
    }
    for Case { from, to, .. } in signed.iter().chain(&by_hand) {
        let flow = Flow { protocol: TCP, from: *from, to: *to };
        assert!(tracking.knows(flow).expect("connection tracking answers"), "{from} is not tracked");
    }
    let open: Vec<_> = kinds().map(|(kind, family, port)| Open::new(&lab, kind, family, port)).collect();
    lab.install(rules, &Config::default());

    for (cases, last) in [(signed, SIGNED), (by_hand, BY_HAND)] {
        for (case, verdict) in cases.iter().zip(shoot(&lab, &cases, last + 1000).expect("packets can be sent")) {
            let is_past = verdict.reached(WORKLOAD);
            assert_eq!(is_past, !rules.close(), "{rules:?}, {} from {}: {verdict:?}", case.name, case.from);
        }
    }
    // They live on, are reset, and are opened again from the same port while their entry is still there.
    for open in open {
        let Open { kind, family, port, server, client } = open;
        end_by_reset(server.stream, client);
        let (again, _) = Call::of(kind, family, port).hopeless().place(&lab);
        let past = if kind.is_inbound() { WORKLOAD } else { OUTSIDE };
        let who = again.map(|again| again.who);
        assert_eq!(who == Some(past), !rules.close(), "{rules:?}, {kind:?} from before, {family}: {who:?}");
    }
    check_link(&lab, rules);
}

fn kinds() -> impl Iterator<Item = (Kind, FamilyName, u16)> {
    let both = FamilyName::ALL.into_iter().flat_map(|family| [(Kind::Inbound, family), (Kind::Outbound, family)]);
    (OPEN..).zip(both).map(|(port, (kind, family))| (kind, family, port))
}

/// A connection from before the rules: nobody redirects it.
struct Open {
    kind: Kind,
    family: FamilyName,
    port: u16,
    server: Accepted,
    client: std::net::TcpStream,
}

impl Open {
    fn new(lab: &Lab, kind: Kind, family: FamilyName, port: u16) -> Self {
        let (accepted, client) = Call::of(kind, family, port).place(lab);
        let server = accepted.expect("somebody accepts it");
        assert_eq!(server.who, if kind.is_inbound() { WORKLOAD } else { OUTSIDE });
        Self { kind, family, port, server, client: client.expect("it is accepted") }
    }
}
