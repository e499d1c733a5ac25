//! Packets that connection tracking finds invalid: they pass by every redirection, unless they are dropped.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Facts, policy};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::common::world::{Backend, Place, SIDECAR, World, possible};

/// The flags SYN and FIN together, which no connection has.
const SYN_AND_FIN: u8 = 0b11;

const RST: u8 = 0b100;

/// A port that nobody serves, and the stranger's own.
const PORTS: [u16; 2] = [7777, 41000];

/// The workload answers such a packet with a reset, or not at all if it is dropped. Native rules let no reset out that belongs to
/// no connection.
pub(crate) fn run(backend: Backend) {
    if !possible() {
        return;
    }
    for dropped in [false, true] {
        let world = World::new().expect("the world can be made");
        let mut config = Config::default();
        config.drop_invalid_packets = dropped;
        let facts = Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid"));
        let plan = policy::plan(&config, &facts).expect("the configuration fits the facts");
        backend.install(&world, &plan).expect("the rules load");
        for family in FamilyName::ALL {
            let reset = world.outside.enter(|| is_reset(Place::Outside.addr(family), Place::Own.addr(family)));
            let expected = !dropped && !backend.is_native();
            assert_eq!(reset.expect("the packet can be sent"), expected, "{family}, dropInvalidPackets: {dropped}");
        }
    }
}

/// Sends a packet with impossible flags from an address of the calling thread's namespace; whether a reset comes back.
fn is_reset(from: IpAddr, to: IpAddr) -> io::Result<bool> {
    let family = if from.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let raw = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp)?;
    setsockopt(&raw, sockopt::ReceiveTimeout, &TimeVal::milliseconds(500))?;
    bind(raw.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    let segment = segment(from, to, SYN_AND_FIN);
    sendto(raw.as_raw_fd(), &segment, &SockaddrStorage::from(SocketAddr::new(to, 0)), MsgFlags::empty())?;
    // A raw socket hears every TCP packet of its host, with the IPv4 header.
    let header = if from.is_ipv4() { 20 } else { 0 };
    for _ in 0..100 {
        let mut buffer = [0; 256];
        let length = match recv(raw.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Err(Errno::EAGAIN) => return Ok(false),
            result => result?,
        };
        let Some(heard) = buffer[..length].get(header..) else { continue };
        if heard.len() >= 20 && heard[..4] == segment_ports([PORTS[0], PORTS[1]]) && heard[13] & RST != 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

fn segment_ports([source, destination]: [u16; 2]) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.to_be_bytes(), destination.to_be_bytes());
    [a, b, c, d]
}

/// A TCP header without data (RFC 9293), with the checksum that the kernel would look at first.
fn segment(from: IpAddr, to: IpAddr, flags: u8) -> [u8; 20] {
    let mut segment = [0; 20];
    segment[..4].copy_from_slice(&segment_ports([PORTS[1], PORTS[0]]));
    segment[4..8].copy_from_slice(&1u32.to_be_bytes()); // sequence number
    segment[12] = 5 << 4; // length of the header in words
    segment[13] = flags;
    segment[14..16].copy_from_slice(&1024u16.to_be_bytes()); // window
    let mut summed = Vec::new();
    for addr in [from, to] {
        match addr {
            IpAddr::V4(addr) => summed.extend(addr.octets()),
            IpAddr::V6(addr) => summed.extend(addr.octets()),
        }
    }
    summed.extend([0, 6, 0, 20]); // protocol and length, in the order that both pseudo-headers sum up to
    summed.extend(segment);
    let mut sum: u32 = summed.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let checksum = !u16::try_from(sum).expect("the sum was folded");
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}
