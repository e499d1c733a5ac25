//! Segments of TCP: unusual first ones, and what may come before the first one.

use super::{Cases, Ends, Kind};
use crate::lab::{OTHER_APP_PORT, SIDECAR_INBOUND};
use crate::segment::{ACK, AE, CWR, ECE, FIN, PSH, RST, SYN, Segment, URG};

/// A signature of TCP-MD5 (RFC 2385) and of TCP-AO (RFC 5925) for which nobody has a key.
const MD5: [u8; 18] = [19, 18, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const AO: [u8; 16] = [29, 16, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A subflow's capability (RFC 8684), and a cookie of Fast Open (RFC 7413).
const MPTCP: [u8; 12] = [30, 12, 1, 0x81, 0, 0, 0, 0, 0, 0, 0, 0];
const COOKIE: [u8; 10] = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];

pub(super) fn add(cases: &mut Cases) {
    first(cases);
    before(cases);
    others_before(cases);
}

fn first(cases: &mut Cases) {
    type Change = fn(&mut Segment);
    let changes: [(&str, Change); 25] = [
        ("SYN", |_| ()),
        ("SYN, ECE, CWR", |s| s.flags |= ECE | CWR),
        ("SYN, URG", |s| s.flags |= URG),
        ("SYN, URG at a place", |s| (s.flags, s.urgent) = (SYN | URG, 5)),
        ("SYN, PSH", |s| s.flags |= PSH),
        ("SYN, FIN", |s| s.flags |= FIN),
        ("SYN, RST", |s| s.flags |= RST),
        ("SYN, ACK", |s| s.flags |= ACK),
        ("SYN, FIN, URG, PSH", |s| s.flags |= FIN | URG | PSH),
        ("no flag", |s| s.flags = 0),
        ("FIN, PSH, URG", |s| s.flags = FIN | PSH | URG),
        ("SYN, AE", |s| s.flags |= AE),
        ("SYN, AE, ECE, CWR", |s| s.flags |= AE | ECE | CWR),
        ("SYN with reserved bits", |s| s.flags |= 0xa00),
        ("SYN with MD5", |s| s.options = MD5.to_vec()),
        ("SYN with AO", |s| s.options = AO.to_vec()),
        ("SYN with MPTCP", |s| s.options.extend(MPTCP)),
        ("SYN with an option that is too long", |s| s.options = vec![2, 40, 5, 180]),
        ("SYN without options", |s| s.options.clear()),
        ("SYN with the highest sequence number", |s| s.sequence = u32::MAX),
        ("SYN with sequence number 0", |s| s.sequence = 0),
        ("SYN with an acknowledged number", |s| s.acknowledged = 77),
        ("SYN asking for a cookie", |s| s.options.extend([34, 2])),
        ("SYN with half the header", |s| s.words = Some(3)),
        ("SYN with more header than packet", |s| s.words = Some(15)),
    ];
    for (name, change) in changes {
        cases.both(Kind::First, name, |ends| vec![vec![ends.syn().with(change).packet()]]);
    }
    cases.both(Kind::First, "SYN with data", |ends| vec![vec![ends.syn().with(|s| s.data = ends.token()).packet()]]);
    cases.both(Kind::First, "SYN with data and a cookie", |ends| {
        let fast = ends.syn().with(|s| (s.data, s.options) = (ends.token(), COOKIE.to_vec()));
        vec![vec![fast.packet()]]
    });
    cases.both(Kind::First, "SYN with a wrong checksum", |ends| {
        vec![vec![ends.syn().with(|s| s.checksum = Some(0x1234)).packet()]]
    });
    for family in kumatp::net::FamilyName::ALL {
        let mut ends = cases.ends(family);
        ends.from.set_port(0);
        cases.between(Kind::First, "SYN from port 0", ends, None, |ends| vec![vec![ends.syn().packet()]]);
    }
}

/// Every combination of flags that opens no connection, without and with what makes a host keep silent.
fn before(cases: &mut Cases) {
    let flags: [(&str, u16); 13] = [
        ("ACK", ACK),
        ("FIN, ACK", FIN | ACK),
        ("RST, ACK", RST | ACK),
        ("RST", RST),
        ("FIN", FIN),
        ("SYN, ACK", SYN | ACK),
        ("PSH, ACK", PSH | ACK),
        ("FIN, PSH, URG", FIN | PSH | URG),
        ("no flag", 0),
        ("ACK, URG", ACK | URG),
        ("FIN, ACK, URG", FIN | ACK | URG),
        ("SYN, FIN, ACK", SYN | FIN | ACK),
        ("SYN, RST, ACK", SYN | RST | ACK),
    ];
    for (name, flags) in flags {
        for (signed, options) in [("", [].as_slice()), (" with MD5", &MD5), (" with AO", &AO)] {
            then_opens(cases, &format!("{name}{signed}"), |ends| {
                vec![middle(ends, flags).with(|s| s.options = options.to_vec()).packet()]
            });
        }
    }
}

/// A segment in the middle of a connection.
fn middle(ends: Ends, flags: u16) -> Segment {
    ends.segment(flags).with(|s| s.acknowledged = 2000)
}

fn others_before(cases: &mut Cases) {
    let md5 = |s: &mut Segment| s.options = MD5.to_vec();
    then_opens(cases, "SYN with MD5", |ends| vec![ends.syn().with(md5).packet()]);
    then_opens(cases, "SYN, then SYN and ACK, then ACK, with MD5", |ends| {
        [SYN, SYN | ACK, ACK].map(|flags| middle(ends, flags).with(md5).packet()).into()
    });
    then_opens(cases, "ACK with MD5 to the inbound listener", |ends| {
        vec![to_port(ends, SIDECAR_INBOUND, ACK).with(md5).packet()]
    });
    then_opens(cases, "SYN to the inbound listener", |ends| vec![to_port(ends, SIDECAR_INBOUND, SYN).packet()]);
    then_opens(cases, "SYN to another port", |ends| vec![to_port(ends, OTHER_APP_PORT, SYN).packet()]);
    then_opens(cases, "data with MD5", |ends| {
        vec![middle(ends, PSH | ACK).with(md5).with(|s| s.data = b"hello".to_vec()).packet()]
    });
    then_opens(cases, "FIN with MD5, then RST", |ends| {
        vec![middle(ends, FIN | ACK).with(md5).packet(), middle(ends, RST).packet()]
    });
    then_opens(cases, "twelve bytes of a SYN", |ends| {
        let (from, to) = (ends.from.ip(), ends.to.ip());
        vec![crate::segment::packet(from, to, crate::segment::TCP, &ends.syn().bytes()[..12])]
    });
    for (name, words) in [("SYN with half the header", 3), ("SYN with more header than packet", 15)] {
        then_opens(cases, name, |ends| vec![ends.syn().with(|s| s.words = Some(words)).packet()]);
    }
    then_opens(cases, "SYN with a wrong checksum", |ends| {
        vec![ends.syn().with(|s| s.checksum = Some(0x1234)).packet()]
    });
    then_opens(cases, "ACK with a wrong checksum", |ends| {
        vec![middle(ends, ACK).with(|s| s.checksum = Some(0x1234)).packet()]
    });
}

fn to_port(ends: Ends, port: u16, flags: u16) -> Segment {
    middle(ends, flags).with(|s| s.to.set_port(port))
}

/// What comes first, and then, from the same port, what opens a connection; once with another flag.
fn then_opens(cases: &mut Cases, name: &str, first: impl Fn(Ends) -> Vec<Vec<u8>>) {
    for (then, flags) in [("SYN", SYN), ("SYN, URG", SYN | URG)] {
        cases.both(Kind::Before, &format!("{name}, then {then}"), |ends| {
            let opens = ends.syn().with(|s| (s.flags, s.sequence) = (flags, 7777));
            first(ends).into_iter().chain([opens.packet()]).map(|packet| vec![packet]).collect()
        });
    }
}
