//! IP packets as bytes: those that hosts elsewhere send, and those that no ordinary socket makes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;

pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMPV6: u8 = 58;

/// Flags of TCP (RFC 9293 section 3.1).
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const ACK: u8 = 16;

/// The part of a packet that is told from others. What has no ports has port 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
}

impl Flow {
    /// The way back.
    pub(crate) fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

/// A packet that was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) flow: Flow,
    /// Of TCP: its flags, its sequence number.
    pub(crate) flags: u8,
    pub(crate) sequence: u32,
    /// What is behind the header of UDP, ICMP and others.
    pub(crate) payload: Vec<u8>,
}

/// A segment of TCP without data.
pub(crate) fn tcp(flow: Flow, flags: u8, sequence: u32, acknowledged: u32) -> Vec<u8> {
    let mut segment = [flow.source.port().to_be_bytes(), flow.destination.port().to_be_bytes()].concat();
    segment.extend(sequence.to_be_bytes());
    segment.extend(acknowledged.to_be_bytes());
    segment.extend([5 << 4, flags, 0x20, 0, 0, 0, 0, 0]); // length in words, flags, window, checksum, urgent
    set_checksum(flow, &mut segment, 16);
    ip(flow, &segment)
}

/// A datagram.
pub(crate) fn udp(flow: Flow, payload: &[u8]) -> Vec<u8> {
    let mut datagram = [flow.source.port().to_be_bytes(), flow.destination.port().to_be_bytes()].concat();
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    set_checksum(flow, &mut datagram, 6);
    ip(flow, &datagram)
}

/// An echo request.
pub(crate) fn echo(flow: Flow, payload: &[u8]) -> Vec<u8> {
    let kind = if flow.protocol == ICMP { 8 } else { 128 };
    let mut message = vec![kind, 0, 0, 0, 0, 1, 0, 1];
    message.extend(payload);
    if flow.protocol == ICMP {
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    } else {
        set_checksum(flow, &mut message, 2);
    }
    ip(flow, &message)
}

/// An IP packet with anything in it.
pub(crate) fn ip(flow: Flow, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u16;
    let mut packet;
    match (flow.source.ip(), flow.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet = vec![0x45, 0];
            packet.extend((20 + length).to_be_bytes());
            packet.extend([0, 0, 0x40, 0, 64, flow.protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = checksum(&packet);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet = vec![0x60, 0, 0, 0];
            packet.extend(length.to_be_bytes());
            packet.extend([flow.protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
        }
        _ => panic!("a packet is of one family: {flow:?}"),
    }
    packet.extend(content);
    packet
}

/// Reads a packet of either family; `None` if it is nothing that is sent here.
pub(crate) fn read_ip(packet: &[u8]) -> Option<Seen> {
    let (source, destination, protocol, content) = match packet.first()? >> 4 {
        4 => {
            let header = usize::from(packet[0] & 15) * 4;
            let length = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
            let addr = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            (addr(12)?, addr(16)?, packet[9], packet.get(header..length)?)
        }
        6 => {
            let length = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
            let addr = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            (addr(8)?, addr(24)?, packet[6], packet.get(40..40 + length)?)
        }
        _ => return None,
    };
    read_content(source, destination, protocol, content)
}

/// Reads what is in an IP packet.
pub(crate) fn read_content(source: IpAddr, destination: IpAddr, protocol: u8, content: &[u8]) -> Option<Seen> {
    let number = |at: usize| Some(u16::from_be_bytes(content.get(at..at + 2)?.try_into().ok()?));
    let (ports, header) = match protocol {
        TCP => ([number(0)?, number(2)?], 20),
        UDP => ([number(0)?, number(2)?], 8),
        ICMP | ICMPV6 => ([0, 0], 8),
        _ => ([0, 0], 0),
    };
    let payload = content.get(header..)?.to_vec();
    let (mut flags, mut sequence) = (0, 0);
    if protocol == TCP {
        flags = content[13];
        sequence = u32::from_be_bytes(content[4..8].try_into().ok()?);
    }
    let flow = Flow {
        protocol,
        source: SocketAddr::new(source, ports[0]),
        destination: SocketAddr::new(destination, ports[1]),
    };
    Some(Seen { flow, flags, sequence, payload })
}

/// Fills in the checksum at this place, which covers the addresses as well (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn set_checksum(flow: Flow, content: &mut [u8], at: usize) {
    let mut summed = Vec::new();
    for addr in [flow.source.ip(), flow.destination.ip()] {
        match addr {
            IpAddr::V4(addr) => summed.extend(addr.octets()),
            IpAddr::V6(addr) => summed.extend(addr.octets()),
        }
    }
    // In the order that both pseudo-headers sum up to.
    summed.extend([0, flow.protocol]);
    summed.extend((content.len() as u16).to_be_bytes());
    summed.extend(&*content);
    let sum = checksum(&summed);
    content[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

fn checksum(bytes: &[u8]) -> u16 {
    let pair = |pair: &[u8]| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    let mut sum: u32 = bytes.chunks(2).map(pair).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Why the kernel would not take a packet from or to these addresses, whatever the rules; `None` if it would.
///
/// `outbound` is whether it is made on the host, which takes more than what arrives.
pub(crate) fn untakable(source: IpAddr, destination: IpAddr, outbound: bool) -> Option<&'static str> {
    let own = |addr| crate::edges::is_own(addr);
    let reserved = |addr| match addr {
        IpAddr::V4(addr) => reserved_v4(addr),
        IpAddr::V6(addr) => reserved_v6(addr),
    };
    if let Some(why) = reserved(destination).or_else(|| reserved(source)) {
        return Some(why);
    }
    match outbound {
        true if source.is_loopback() && !own(destination) => Some("from a loopback address to elsewhere"),
        true => None,
        false if destination.is_loopback() || source.is_loopback() => Some("a loopback address from elsewhere"),
        false if own(source) => Some("from elsewhere with an address of this host"),
        false if is_of_deprecated_kind(destination) => Some("arriving for an IPv4-compatible or site-local address"),
        false => None,
    }
}

fn reserved_v4(addr: Ipv4Addr) -> Option<&'static str> {
    match addr {
        _ if addr.is_multicast() => Some("a multicast address"),
        _ if addr.is_broadcast() => Some("the broadcast address"),
        _ if addr.octets() == [127, 255, 255, 255] => Some("the broadcast address of the loopback network"),
        _ if addr.octets() == [127, 0, 0, 0] && lowest_is_broadcast() => {
            Some("the lowest address of the loopback network")
        }
        _ if addr.octets()[0] == 0 => Some("an address of 0.0.0.0/8"),
        _ => None,
    }
}

/// Whether the lowest address of a network is one for broadcasts too, as before Linux 5.14 (net/ipv4/fib_frontend.c).
fn lowest_is_broadcast() -> bool {
    static ANSWER: LazyLock<bool> = LazyLock::new(|| {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel tells its release");
        let mut numbers = release.split(['.', '-']).map(|number| number.parse::<u32>().unwrap_or(0));
        (numbers.next(), numbers.next()) < (Some(5), Some(14))
    });
    *ANSWER
}

fn reserved_v6(addr: Ipv6Addr) -> Option<&'static str> {
    match addr {
        _ if addr.is_multicast() => Some("a multicast address"),
        _ if addr.is_unspecified() => Some("the unspecified address"),
        _ if addr.is_unicast_link_local() => Some("a link-local address"),
        _ if addr.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

/// Addresses of these kinds have bits in their scope by which the kernel wants to redirect them only to an address of the
/// same kind, and drops them where the interface has none (linux net/netfilter/nf_nat_redirect.c, since 6.7).
fn is_of_deprecated_kind(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.segments()[..6] == [0; 6] || addr.segments()[0] & 0xffc0 == 0xfec0)
}
