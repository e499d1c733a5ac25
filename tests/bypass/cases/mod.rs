//! What a peer may begin with: packets, one or several, each time from a port of its own.

mod addresses;
mod fragments;
mod headers;
mod segments;

use std::net::{IpAddr, SocketAddr};

use kumatp::net::FamilyName;

use crate::lab::{APP_PORT, PEER, own};
use crate::segment::Segment;

/// Packets of one peer's port, and what is known of them.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Who opens the connection, and what it is for.
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The packets, and those that are sent after them when all other cases' have been: so the host has answered.
    pub(crate) rounds: Vec<Vec<Frame>>,
}

/// A packet, and for whom on the link it is, if not for the host.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) hardware: Option<[u8; 6]>,
    pub(crate) packet: Vec<u8>,
}

/// What a case is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// The first segment is unusual.
    First,
    /// Something comes before the first segment.
    Before,
    /// IPv4 options.
    Options,
    /// Fragments of IPv4.
    Fragments4,
    /// Headers of IPv6.
    Headers,
    /// Fragments of IPv6.
    Fragments6,
    /// The destination is unusual.
    Destination,
    /// The destination is a loopback address, and routing would drop it.
    Loopback,
    /// The source is unusual.
    Source,
}

/// All cases, from ports that begin with this one.
pub(crate) fn all(first_port: u16) -> Vec<Case> {
    let mut cases = Cases { next: first_port, all: Vec::new() };
    segments::add(&mut cases);
    headers::add(&mut cases);
    fragments::add(&mut cases);
    addresses::add(&mut cases);
    cases.all
}

/// Those about addresses.
pub(crate) fn addresses(first_port: u16) -> Vec<Case> {
    let mut cases = Cases { next: first_port, all: Vec::new() };
    addresses::add(&mut cases);
    cases.all
}

/// An ordinary connection, by which all others can be waited for.
pub(crate) fn ordinary(port: u16) -> Vec<Case> {
    let mut cases = Cases { next: port, all: Vec::new() };
    cases.both(Kind::First, "an ordinary connection", |ends| vec![vec![ends.syn().packet()]]);
    cases.all
}

/// Collects cases.
struct Cases {
    next: u16,
    all: Vec<Case>,
}

/// The ends of a connection.
#[derive(Debug, Clone, Copy)]
struct Ends {
    from: SocketAddr,
    to: SocketAddr,
}

impl Ends {
    fn segment(self, flags: u16) -> Segment {
        Segment::new(self.from, self.to, flags)
    }

    /// What opens a connection.
    fn syn(self) -> Segment {
        self.segment(crate::segment::SYN).with(|segment| segment.options = vec![2, 4, 5, 180])
    }

    fn token(self) -> Vec<u8> {
        token(self.from)
    }
}

/// What a peer says that has this port.
pub(crate) fn token(from: SocketAddr) -> Vec<u8> {
    format!("<{}>", from.port()).into_bytes()
}

impl Cases {
    /// The next peer, which asks for the application.
    fn ends(&mut self, family: FamilyName) -> Ends {
        self.next += 1;
        Ends {
            from: SocketAddr::new(PEER[index(family)].parse().expect("a literal address"), self.next),
            to: SocketAddr::new(own(family), APP_PORT),
        }
    }

    /// One of each family; `rounds` makes the packets.
    fn both(&mut self, kind: Kind, name: &str, rounds: impl Fn(Ends) -> Vec<Vec<Vec<u8>>>) {
        for family in FamilyName::ALL {
            self.one(kind, name, family, &rounds);
        }
    }

    fn one(&mut self, kind: Kind, name: &str, family: FamilyName, rounds: impl Fn(Ends) -> Vec<Vec<Vec<u8>>>) {
        let ends = self.ends(family);
        self.between(kind, name, ends, None, rounds);
    }

    fn between(
        &mut self,
        kind: Kind,
        name: &str,
        ends: Ends,
        hardware: Option<[u8; 6]>,
        rounds: impl Fn(Ends) -> Vec<Vec<Vec<u8>>>,
    ) {
        let family = if ends.from.is_ipv4() { FamilyName::V4 } else { FamilyName::V6 };
        let rounds = rounds(ends)
            .into_iter()
            .map(|packets| packets.into_iter().map(|packet| Frame { hardware, packet }).collect())
            .collect();
        self.all.push(Case { name: format!("{name}, {family}"), kind, from: ends.from, to: ends.to, rounds });
    }
}

fn index(family: FamilyName) -> usize {
    usize::from(family == FamilyName::V6)
}

fn addr(text: &str) -> IpAddr {
    text.parse().expect("a literal address")
}
