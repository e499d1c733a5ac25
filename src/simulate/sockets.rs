//! What is different where programs steer sockets, and no rule sees a packet: the engine ebpf.
//!
//! The programs ask what the rules in the table nat ask, in the same order, but once for a connection or a query: when a socket
//! connects or sends, and when the kernel looks for the socket that a connection is for.

use std::net::IpAddr;

use super::outcome::{Effect, Outcome, RulePosition, Step, Verdict};
use super::packet::{Direction, IpProtocol, Packet, Tracking};
use crate::net::{Family, FamilyName, InterfaceName};

/// What the table is called where a program decides without a rule of the plan.
const TABLE: &str = "ebpf";

/// Why no program deals with the packet, if none does: what would have to call it, and why that does not.
fn exempt<F: Family>(packet: &Packet<F>, loopback: &InterfaceName) -> Option<(&'static str, &'static str)> {
    if !matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp) || packet.tracking == Tracking::Established {
        return None;
    }
    let connect = if F::NAME == FamilyName::V4 { "cgroup/connect4" } else { "cgroup/connect6" };
    let at = if packet.direction == Direction::Outbound { connect } else { "sk_lookup" };
    let why = match (packet.direction, packet.tracking) {
        (Direction::Forwarded, _) => "what is forwarded meets no socket of this host",
        (_, Tracking::MidStream | Tracking::Lost | Tracking::LostAnswer) => "connections from before stay as they are",
        (_, Tracking::Invalid) => "only sockets are looked at, and no packets",
        (Direction::Outbound, _) if packet.socket.is_none() => "no socket of a process sends this",
        (Direction::Inbound, _) if packet.protocol == IpProtocol::Tcp && is_own(packet, loopback) => {
            "what this host sends to itself is not inbound"
        }
        _ => return None,
    };
    Some((at, why))
}

/// Whether a packet that arrives is from this host.
fn is_own<F: Family>(packet: &Packet<F>, loopback: &InterfaceName) -> bool {
    let (from, to): (IpAddr, IpAddr) = (packet.source.into(), packet.destination.into());
    packet.in_interface.as_ref() == Some(loopback) || is_local(from) || is_local(to) || from == to
}

/// Whether it is an address of every host.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_unspecified(),
        // The second one is Kuma's, for what the sidecar passes through.
        IpAddr::V6(address) => address.is_loopback() || address.is_unspecified() || address.to_bits() == 6,
    }
}

/// The outcome of the packet, if no program deals with it.
pub(super) fn untouched<'r, F: Family>(packet: &Packet<F>, loopback: &InterfaceName) -> Option<Outcome<'r>> {
    let (at, why) = exempt(packet, loopback)?;
    let step = Step { place: RulePosition::added(F::NAME, TABLE, at, why), effect: Effect::Passed };
    Some(Outcome { verdict: Verdict::Delivered, zone: 0, log: Vec::new(), trace: vec![step], decided_by: Some(0) })
}

/// The packet as it is asked about: where a program asks whether the destination is of this host, a rule asks for the loopback
/// interface.
pub(super) fn as_packet<F: Family>(packet: &Packet<F>, loopback: &InterfaceName) -> Packet<F> {
    let mut packet = packet.clone();
    let to: IpAddr = packet.destination.into();
    if packet.direction == Direction::Outbound && is_local(to) {
        packet.out_interface = Some(loopback.clone());
        if to.is_unspecified() {
            // The kernel connects to itself.
            packet.destination = F::localhost().addr();
        }
    }
    packet
}

/// Whether programs that are not known may redirect it.
#[cfg(all(feature = "host", target_os = "linux"))]
pub(super) fn may_redirect<F: Family>(packet: &Packet<F>, loopback: &InterfaceName) -> bool {
    let concerned = match packet.protocol {
        IpProtocol::Tcp => true,
        IpProtocol::Udp => packet.direction == Direction::Outbound && packet.destination_port == crate::net::Port::DNS,
        IpProtocol::Other(_) => false,
    };
    concerned && packet.tracking.opens() && exempt(packet, loopback).is_none()
}
