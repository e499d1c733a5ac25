//! Destinations that are not simply the host's address, and sources that no peer has.

use kumatp::net::FamilyName;

use super::{Cases, Kind, addr};

const EVERYBODY: [u8; 6] = [0xff; 6];
const ALL_HOSTS_4: [u8; 6] = [1, 0, 0x5e, 0, 0, 1];
const ALL_HOSTS_6: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];

const DESTINATIONS: [(Kind, &str, Option<[u8; 6]>); 22] = [
    (Kind::Destination, "10.77.0.1", Some(EVERYBODY)),
    (Kind::Destination, "10.77.0.255", Some(EVERYBODY)),
    (Kind::Destination, "10.77.0.0", Some(EVERYBODY)),
    (Kind::Destination, "255.255.255.255", Some(EVERYBODY)),
    (Kind::Destination, "224.0.0.1", Some(ALL_HOSTS_4)),
    (Kind::Destination, "10.77.0.11", None),
    (Kind::Destination, "172.20.0.1", None),
    (Kind::Loopback, "127.0.0.1", None),
    (Kind::Loopback, "127.0.0.6", None),
    (Kind::Loopback, "127.255.255.255", None),
    (Kind::Loopback, "0.0.0.0", None),
    (Kind::Loopback, "0.1.2.3", None),
    (Kind::Destination, "fd77::1", Some(ALL_HOSTS_6)),
    (Kind::Destination, "ff02::1", Some(ALL_HOSTS_6)),
    (Kind::Destination, "fd77::11", None),
    (Kind::Destination, "fd20::1", None),
    (Kind::Destination, "::ffff:10.77.0.1", None),
    (Kind::Destination, "fd77::", None),
    (Kind::Loopback, "::1", None),
    (Kind::Loopback, "::6", None),
    (Kind::Loopback, "::", None),
    (Kind::Destination, "::10.77.0.1", None),
];

const SOURCES: [&str; 16] = [
    "10.77.0.1",
    "10.77.0.11",
    "172.20.0.1",
    "127.0.0.1",
    "127.0.0.6",
    "0.0.0.0",
    "10.77.0.255",
    "255.255.255.255",
    "224.0.0.5",
    "::6",
    "::1",
    "::",
    "fd77::1",
    "::ffff:10.77.0.66",
    "ff02::5",
    "fe80::1234",
];

pub(super) fn add(cases: &mut Cases) {
    for (kind, to, hardware) in DESTINATIONS {
        let mut ends = cases.ends(family(to));
        ends.to.set_ip(addr(to));
        cases.between(kind, &format!("to {to}"), ends, hardware, |ends| vec![vec![ends.syn().packet()]]);
    }
    for from in SOURCES {
        let mut ends = cases.ends(family(from));
        ends.from.set_ip(addr(from));
        cases.between(Kind::Source, &format!("from {from}"), ends, None, |ends| vec![vec![ends.syn().packet()]]);
    }
}

fn family(text: &str) -> FamilyName {
    if text.contains(':') { FamilyName::V6 } else { FamilyName::V4 }
}
