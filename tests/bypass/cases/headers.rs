//! What may stand between the addresses and the segment.

use std::net::Ipv6Addr;

use kumatp::net::FamilyName;

use super::{Cases, Ends, Kind, addr};
use crate::segment::{Header, Piece, TCP, v4, v6};

pub(super) fn add(cases: &mut Cases) {
    options(cases);
    for (name, headers) in orders() {
        cases.one(Kind::Headers, name, FamilyName::V6, |ends| vec![vec![behind(ends, &headers)]]);
    }
    // One packet in another.
    for (name, family, protocol) in [("IPv4 in it", FamilyName::V4, 4), ("IPv6 in it", FamilyName::V6, 41)] {
        cases.one(Kind::Headers, name, family, |ends| {
            vec![vec![crate::segment::packet(ends.from.ip(), ends.to.ip(), protocol, &ends.syn().packet())]]
        });
    }
}

fn options(cases: &mut Cases) {
    let by = [10, 77, 0, 11];
    let route = |kind: u8| [&[kind, 7, 4], by.as_slice()].concat();
    let options = [
        ("record of the route", [&[7, 11, 4], [0; 8].as_slice()].concat()),
        ("times", vec![68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("loose route", route(131)),
        ("strict route", route(137)),
        ("router alert", vec![148, 4, 0, 0]),
        ("nothing", vec![1]),
        ("security", [&[130, 11], [0; 9].as_slice()].concat()),
        ("a wrong length", vec![7, 1, 0, 0]),
    ];
    for (name, options) in options {
        cases.one(Kind::Options, &format!("option of {name}"), FamilyName::V4, |ends| {
            vec![vec![v4(ends.from.ip(), ends.to.ip(), TCP, &options, Piece::WHOLE, &ends.syn().bytes())]]
        });
    }
    cases.one(Kind::Options, "the reserved bit", FamilyName::V4, |ends| {
        let piece = Piece { reserved: true, ..Piece::WHOLE };
        vec![vec![v4(ends.from.ip(), ends.to.ip(), TCP, &[], piece, &ends.syn().bytes())]]
    });
}

fn behind(ends: Ends, headers: &[Header]) -> Vec<u8> {
    v6(ends.from.ip(), ends.to.ip(), headers, TCP, &ends.syn().bytes())
}

fn orders() -> Vec<(&'static str, Vec<Header>)> {
    let by: Ipv6Addr = "fd77::11".parse().expect("a literal address");
    let route = |kind, left| Header::routing(kind, left, by);
    let (hops, options) = (Header::hops, Header::options);
    let whole = || Header::fragment(Piece { id: 0x0a70_0001, ..Piece::WHOLE });
    let home = match addr("fd77::99") {
        std::net::IpAddr::V6(home) => [&[2, 1, 2, 0, 0, 201, 16], home.octets().as_slice()].concat(),
        std::net::IpAddr::V4(_) => Vec::new(),
    };
    vec![
        ("hops", vec![hops()]),
        ("options", vec![options()]),
        ("hops, options", vec![hops(), options()]),
        ("options twice", vec![options(), options()]),
        ("options, hops", vec![options(), hops()]),
        ("hops twice", vec![hops(), hops()]),
        ("route 0", vec![route(0, 0)]),
        ("route 0 with one left", vec![route(0, 1)]),
        ("route 2", vec![route(2, 0)]),
        ("route 3", vec![route(3, 0)]),
        ("route 4", vec![route(4, 0)]),
        ("route 253", vec![route(253, 0)]),
        ("route, options", vec![route(0, 0), options()]),
        ("atomic fragment", vec![whole()]),
        ("atomic fragment twice", vec![whole(), whole()]),
        ("options, atomic fragment", vec![options(), whole()]),
        ("atomic fragment, options", vec![whole(), options()]),
        ("hops, atomic fragment, options", vec![hops(), whole(), options()]),
        ("options 8 times", vec![options(); 8]),
        ("options 20 times", vec![options(); 20]),
        (
            "all of them",
            vec![hops(), options(), route(0, 0), whole(), options(), route(0, 0), options(), options(), options()],
        ),
        ("home address", vec![Header::options_of(home)]),
        ("unknown option", vec![Header::options_of(vec![0, 0x3e, 4, 0, 0, 0, 0])]),
        ("longer than any packet", vec![Header::jumbo()]),
        ("authentication", vec![Header::authentication()]),
    ]
}
