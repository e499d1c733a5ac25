//! Packets as bytes: right ones, and such as no host's own TCP would send.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;

/// Flags of TCP (RFC 9293 section 3.1), and the one that was added to them (RFC 9768).
pub(crate) const FIN: u16 = 1;
pub(crate) const SYN: u16 = 2;
pub(crate) const RST: u16 = 4;
pub(crate) const PSH: u16 = 8;
pub(crate) const ACK: u16 = 16;
pub(crate) const URG: u16 = 32;
pub(crate) const ECE: u16 = 64;
pub(crate) const CWR: u16 = 128;
pub(crate) const AE: u16 = 256;

/// A segment of TCP, in which everything may be wrong.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// With the reserved bits above them.
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// The length of the header in words, if it is not to be the right one.
    pub(crate) words: Option<u8>,
    /// The checksum, if it is not to be the right one.
    pub(crate) checksum: Option<u16>,
}

impl Segment {
    pub(crate) fn new(from: SocketAddr, to: SocketAddr, flags: u16) -> Self {
        Self {
            from,
            to,
            flags,
            sequence: 1000,
            acknowledged: 0,
            urgent: 0,
            options: Vec::new(),
            data: Vec::new(),
            words: None,
            checksum: None,
        }
    }

    pub(crate) fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Header and data.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = self.words.map_or(5 + options.len() / 4, usize::from) as u16;
        let mut bytes = [self.from.port().to_be_bytes(), self.to.port().to_be_bytes()].concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledged.to_be_bytes());
        bytes.extend((words << 12 | self.flags).to_be_bytes());
        bytes.extend([0xfa, 0, 0, 0]); // window, checksum
        bytes.extend(self.urgent.to_be_bytes());
        bytes.extend(options);
        bytes.extend(&self.data);
        let sum = self.checksum.unwrap_or_else(|| sum_with_addresses(self.from.ip(), self.to.ip(), TCP, &bytes));
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The whole packet.
    pub(crate) fn packet(&self) -> Vec<u8> {
        packet(self.from.ip(), self.to.ip(), TCP, &self.bytes())
    }
}

/// An ordinary packet of either family.
pub(crate) fn packet(from: IpAddr, to: IpAddr, protocol: u8, content: &[u8]) -> Vec<u8> {
    match from {
        IpAddr::V4(_) => v4(from, to, protocol, &[], Piece::WHOLE, content),
        IpAddr::V6(_) => v6(from, to, &[], protocol, content),
    }
}

/// Which part of a packet a fragment is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) id: u32,
    /// Where it begins, in bytes.
    pub(crate) at: usize,
    pub(crate) more: bool,
    /// IPv4's bit that is reserved.
    pub(crate) reserved: bool,
}

impl Piece {
    pub(crate) const WHOLE: Self = Self { id: 0, at: 0, more: false, reserved: false };
}

/// A packet of IPv4 (RFC 791).
pub(crate) fn v4(from: IpAddr, to: IpAddr, protocol: u8, options: &[u8], piece: Piece, content: &[u8]) -> Vec<u8> {
    let mut options = options.to_vec();
    options.resize(options.len().next_multiple_of(4), 0);
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + content.len()) as u16).to_be_bytes());
    packet.extend((piece.id as u16).to_be_bytes());
    let flags = u16::from(piece.reserved) << 15 | u16::from(piece.more) << 13;
    packet.extend((flags | (piece.at / 8) as u16).to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(octets(from));
    packet.extend(octets(to));
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(content);
    packet
}

/// A packet of IPv6 (RFC 8200), with headers before its content.
pub(crate) fn v6(from: IpAddr, to: IpAddr, headers: &[Header], protocol: u8, content: &[u8]) -> Vec<u8> {
    let mut kinds = headers.iter().map(|header| header.kind).chain([protocol]);
    let mut packet = vec![0x60, 0, 0, 0, 0, 0, kinds.next().unwrap_or(protocol), 64];
    packet.extend(octets(from));
    packet.extend(octets(to));
    for (header, next) in headers.iter().zip(kinds) {
        packet.push(next);
        packet.extend(&header.rest);
    }
    packet.extend(content);
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
    packet
}

/// An extension header of IPv6, without its first byte, which says what comes next.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    kind: u8,
    rest: Vec<u8>,
}

impl Header {
    const HOP_BY_HOP: u8 = 0;
    const ROUTING: u8 = 43;
    pub(crate) const FRAGMENT: u8 = 44;
    pub(crate) const AUTHENTICATION: u8 = 51;
    pub(crate) const DESTINATION: u8 = 60;

    /// Of hop-by-hop options, with padding only.
    pub(crate) fn hops() -> Self {
        Self { kind: Self::HOP_BY_HOP, rest: vec![0, 1, 4, 0, 0, 0, 0] }
    }

    /// Of destination options, with padding only.
    pub(crate) fn options() -> Self {
        Self::options_of(vec![0, 1, 4, 0, 0, 0, 0])
    }

    /// Of destination options.
    pub(crate) fn options_of(rest: Vec<u8>) -> Self {
        Self { kind: Self::DESTINATION, rest }
    }

    /// With the option of packets that are longer than any packet (RFC 2675).
    pub(crate) fn jumbo() -> Self {
        Self { kind: Self::HOP_BY_HOP, rest: vec![0, 0xc2, 4, 0, 0, 0, 24] }
    }

    /// Of a route of one address.
    pub(crate) fn routing(kind: u8, left: u8, by: Ipv6Addr) -> Self {
        let mut rest = vec![2, kind, left, 0, 0, 0, 0];
        rest.extend(by.octets());
        Self { kind: Self::ROUTING, rest }
    }

    /// Of a fragment.
    pub(crate) fn fragment(piece: Piece) -> Self {
        let mut rest = vec![0];
        rest.extend((piece.at as u16 & !7 | u16::from(piece.more)).to_be_bytes());
        rest.extend(piece.id.to_be_bytes());
        Self { kind: Self::FRAGMENT, rest }
    }

    /// Of an authentication for which nobody has a key.
    pub(crate) fn authentication() -> Self {
        Self { kind: Self::AUTHENTICATION, rest: [&[4, 0, 0], [0; 20].as_slice()].concat() }
    }
}

/// What was seen of a packet. What has no ports has port 0.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) protocol: u8,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// Of TCP.
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledged: u32,
    /// What is behind the headers.
    pub(crate) payload: Vec<u8>,
}

/// Reads an ordinary packet; `None` if it is none.
pub(crate) fn read(packet: &[u8]) -> Option<Seen> {
    let (from, to, protocol, content) = match packet.first()? >> 4 {
        4 => {
            let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let addr = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (addr(12)?, addr(16)?, *packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..length)?)
        }
        6 => {
            let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
            let addr = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (addr(8)?, addr(24)?, packet[6], packet.get(40..40 + length)?)
        }
        _ => return None,
    };
    let short = |at: usize| Some(u16::from_be_bytes(content.get(at..at + 2)?.try_into().ok()?));
    let long = |at: usize| Some(u32::from_be_bytes(content.get(at..at + 4)?.try_into().ok()?));
    let mut seen = Seen {
        protocol,
        from: SocketAddr::new(from, 0),
        to: SocketAddr::new(to, 0),
        flags: 0,
        sequence: 0,
        acknowledged: 0,
        payload: content.to_vec(),
    };
    if protocol == TCP || protocol == UDP {
        seen.from.set_port(short(0)?);
        seen.to.set_port(short(2)?);
        let header = if protocol == UDP { 8 } else { usize::from(content.get(12)? >> 4) * 4 };
        seen.payload = content.get(header..)?.to_vec();
    }
    if protocol == TCP {
        (seen.flags, seen.sequence, seen.acknowledged) = (short(12)? & 0xfff, long(4)?, long(8)?);
    }
    Some(seen)
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// The checksum that covers the addresses as well (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn sum_with_addresses(from: IpAddr, to: IpAddr, protocol: u8, content: &[u8]) -> u16 {
    let length = (content.len() as u16).to_be_bytes();
    // In the order that both pseudo-headers sum up to.
    checksum(&[&octets(from), &octets(to), [0, protocol].as_slice(), &length, content].concat())
}

fn checksum(bytes: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
