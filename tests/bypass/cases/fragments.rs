//! Segments in pieces.

use std::ops::Range;

use kumatp::net::FamilyName;

use super::{Cases, Ends, Kind};
use crate::lab::OTHER_APP_PORT;
use crate::segment::{Header, Piece, TCP, v4, v6};

/// Where a segment with 20 bytes of data is cut, in the order of sending; the end of a piece may be the segment's.
const END: usize = usize::MAX;

/// Where the first fragment has less than the whole header of TCP, newer kernels take none of IPv6 (RFC 7112).
const CUTS: [(&str, &[Range<usize>]); 11] = [
    ("8 and the rest", &[0..8, 8..END]),
    ("16 and the rest", &[0..16, 16..END]),
    ("24 and the rest", &[0..24, 24..END]),
    ("24, 8 and the rest", &[0..24, 24..32, 32..END]),
    ("32 and the rest", &[0..32, 32..END]),
    ("the rest and 24", &[24..END, 0..24]),
    ("the rest, 8 and 24", &[32..END, 24..32, 0..24]),
    ("the rest and 16", &[16..END, 0..16]),
    ("the rest, 8 and 8", &[16..END, 8..16, 0..8]),
    ("overlapping", &[0..16, 8..16, 16..END]),
    ("one twice", &[0..16, 0..16, 16..END]),
];

pub(super) fn add(cases: &mut Cases) {
    for (name, cuts) in CUTS {
        cases.one(Kind::Fragments4, name, FamilyName::V4, |ends| vec![fragments(ends, &long(ends), cuts, &[])]);
        for (before, headers) in headers() {
            let name = format!("{name}{before}");
            cases.one(Kind::Fragments6, &name, FamilyName::V6, |ends| {
                vec![fragments(ends, &long(ends), cuts, &headers)]
            });
        }
    }
    cases.both(Kind::Fragments4, "the first only", |ends| {
        vec![vec![one(ends, piece(ends, 0, true), &[], TCP, &long(ends))]]
    });
    other_port(cases);
    for split in [8, 16, 24] {
        let name = format!("fragments of a fragment of {split}");
        cases.one(Kind::Fragments6, &name, FamilyName::V6, |ends| vec![nested(ends, split)]);
    }
    for count in [1, 3] {
        let name = format!("the segment is in the second, behind {count} headers");
        cases.one(Kind::Fragments6, &name, FamilyName::V6, |ends| vec![late(ends, count)]);
    }
}

/// A segment that opens a connection, in more than 24 bytes of whose header and data.
fn long(ends: Ends) -> Vec<u8> {
    ends.syn().with(|s| s.data = b"twenty bytes of data".to_vec()).bytes()
}

/// What stands before the header of a fragment.
fn headers() -> Vec<(&'static str, Vec<Header>)> {
    let (hops, options) = (Header::hops, Header::options);
    let whole = || Header::fragment(Piece { id: 0x0a70_0002, ..Piece::WHOLE });
    let route = Header::routing(0, 0, "fd77::11".parse().expect("a literal address"));
    vec![
        ("", vec![]),
        (" behind options", vec![options()]),
        (" behind hops", vec![hops()]),
        (" behind an atomic fragment", vec![whole()]),
        (" behind an atomic fragment and options", vec![whole(), options()]),
        (" behind options and an atomic fragment", vec![options(), whole()]),
        (" behind a route", vec![route]),
    ]
}

fn fragments(ends: Ends, segment: &[u8], cuts: &[Range<usize>], headers: &[Header]) -> Vec<Vec<u8>> {
    let fragment = |cut: &Range<usize>| {
        let end = cut.end.min(segment.len());
        let piece = piece(ends, cut.start, end < segment.len());
        one(ends, piece, headers, TCP, &segment[cut.start..end])
    };
    cuts.iter().map(fragment).collect()
}

/// A piece of the only packet that a peer sends in pieces.
fn piece(ends: Ends, at: usize, more: bool) -> Piece {
    Piece { id: ends.from.port().into(), at, more, reserved: false }
}

fn one(ends: Ends, piece: Piece, headers: &[Header], protocol: u8, content: &[u8]) -> Vec<u8> {
    let (from, to) = (ends.from.ip(), ends.to.ip());
    match from.is_ipv4() {
        true => v4(from, to, protocol, &[], piece, content),
        false => v6(from, to, &[headers, &[Header::fragment(piece)]].concat(), protocol, content),
    }
}

/// Two first pieces, for different ports.
fn other_port(cases: &mut Cases) {
    for (name, backwards) in [("two ports", false), ("two ports, backwards", true)] {
        cases.both(Kind::Fragments4, name, |ends| {
            let other = ends.syn().with(|s| s.to.set_port(OTHER_APP_PORT)).bytes();
            let right = ends.syn().bytes();
            let mut packets = vec![
                one(ends, piece(ends, 0, true), &[], TCP, &other[..16]),
                one(ends, piece(ends, 0, true), &[], TCP, &right[..16]),
                one(ends, piece(ends, 16, false), &[], TCP, &right[16..]),
            ];
            if backwards {
                packets.reverse();
            }
            vec![packets]
        });
    }
}

/// Both fragments of a segment, each in two fragments.
fn nested(ends: Ends, split: usize) -> Vec<Vec<u8>> {
    let segment = long(ends);
    let mut packets = Vec::new();
    for (number, cut) in [0..split, split..segment.len()].into_iter().enumerate() {
        let more = cut.end < segment.len();
        let inner = v6(
            ends.from.ip(),
            ends.to.ip(),
            &[Header::fragment(piece(ends, cut.start, more))],
            TCP,
            &segment[cut.clone()],
        );
        let inner = &inner[40..];
        for (at, part) in [(0, &inner[..8]), (8, &inner[8..])] {
            let id = 0x00f0_0000 + u32::from(ends.from.port()) * 2 + number as u32;
            let outer = Piece { id, at, more: at == 0, reserved: false };
            packets.push(one(ends, outer, &[], Header::FRAGMENT, part));
        }
    }
    packets
}

/// The first fragment has other headers only.
fn late(ends: Ends, count: usize) -> Vec<Vec<u8>> {
    let whole = v6(ends.from.ip(), ends.to.ip(), &vec![Header::options(); count], TCP, &ends.syn().bytes());
    let (first, second) = whole[40..].split_at(8 * count);
    [(0, first, true), (8 * count, second, false)]
        .map(|(at, part, more)| one(ends, piece(ends, at, more), &[], Header::DESTINATION, part))
        .into()
}
