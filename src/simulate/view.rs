//! A packet as rules see it at a place on its way.

use super::packet::{Direction, IpProtocol, Packet, Tracking};
use super::program::Test;
use super::translation::{Endpoint, Known, Translation};
use crate::iptables_save::CtStates;
use crate::model::End;
use crate::net::{Family, InterfaceName};
use crate::nftables::Field;

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value {
    Is(u128),
    Absent,
    Unknown,
}

/// A packet as the rules see it.
pub(super) struct View<'p> {
    /// In the order of [`Field`].
    fields: [Value; 6],
    protocol: u8,
    pub(super) tracking: Tracking,
    /// Whether connection tracking has seen it.
    pub(super) tracked: bool,
    /// Whether a rule keeps it out of connection tracking.
    pub(super) untracked: bool,
    /// How its connection is translated, as far as that was decided.
    pub(super) translation: Translation,
    /// The interface that it came in by; empty if none.
    pub(super) input: &'p str,
    /// The interface that it goes out by, empty if none; `None` if it is not known.
    pub(super) output: Option<&'p str>,
    direction: Direction,
    loopback: &'p str,
    /// Whether the first packet of its connection was translated; `None` if that is not known.
    translated_before: Option<bool>,
}

impl<'p> View<'p> {
    pub(super) fn of<F: Family>(packet: &'p Packet<F>, known: &Known, loopback: &'p str) -> Self {
        let has_ports = matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp);
        let port = |port: Value| if has_ports { port } else { Value::Absent };
        let owner = |id: Option<u32>| id.map_or(Value::Absent, |id| Value::Is(id.into()));
        let source = known.source.unwrap_or(Endpoint::of::<F>(packet.source, packet.source_port));
        let destination = known.destination.unwrap_or(Endpoint::of::<F>(packet.destination, packet.destination_port));
        let fresh = packet.tracking.is_fresh();
        Self {
            fields: [
                source.address,
                destination.address,
                port(source.port),
                port(destination.port),
                owner(packet.socket.map(|socket| socket.uid.number())),
                owner(packet.socket.map(|socket| socket.gid.number())),
            ],
            protocol: packet.protocol.number(),
            tracking: packet.tracking,
            tracked: false,
            untracked: false,
            translation: if fresh { Translation::NONE } else { known.translation },
            input: packet.in_interface.as_ref().map_or("", InterfaceName::as_str),
            output: Some(packet.out_interface.as_ref().map_or("", InterfaceName::as_str)),
            direction: packet.direction,
            loopback,
            translated_before: known.translation.dnat,
        }
    }

    pub(super) fn get(&self, field: Field) -> Value {
        self.fields[field as usize]
    }

    pub(super) fn set(&mut self, field: Field, value: Value) {
        self.fields[field as usize] = value;
    }

    pub(super) fn source(&self) -> Endpoint {
        Endpoint { address: self.get(Field::SourceAddress), port: self.get(Field::SourcePort) }
    }

    pub(super) fn set_source(&mut self, end: Endpoint) {
        self.set(Field::SourceAddress, end.address);
        self.set_port(Field::SourcePort, end.port);
    }

    pub(super) fn destination(&self) -> Endpoint {
        Endpoint { address: self.get(Field::DestinationAddress), port: self.get(Field::DestinationPort) }
    }

    pub(super) fn set_destination(&mut self, end: Endpoint) {
        self.set(Field::DestinationAddress, end.address);
        self.set_port(Field::DestinationPort, end.port);
    }

    /// A protocol without ports stays one.
    fn set_port(&mut self, field: Field, value: Value) {
        if self.get(field) != Value::Absent {
            self.set(field, value);
        }
    }

    /// Whether the condition holds; `None` if that is not known.
    pub(super) fn holds(&self, test: &Test) -> Option<bool> {
        Some(match test {
            Test::Interface { out, pattern, negated } => {
                let name = if *out { self.output? } else { self.input };
                pattern.matches(name) != *negated
            }
            Test::Protocol { number, negated } => (self.protocol == *number) != *negated,
            Test::Value { field, spans, negated } => match self.get(*field) {
                Value::Is(value) => spans.contains(value) != *negated,
                Value::Absent => *negated,
                Value::Unknown => return None,
            },
            Test::MidStream => !self.tracking.opens() && self.protocol == IpProtocol::Tcp.number(),
            Test::Local { end, negated } => return self.is_local(*end).map(|local| local != *negated),
            Test::BoundSocket => return self.has_socket(),
            Test::CtState { states, negated } => {
                let (own, perhaps) = self.states();
                match states.intersects(own) {
                    true => !negated,
                    false if states.intersects(perhaps) => return None,
                    false => *negated,
                }
            }
            #[cfg(all(feature = "host", target_os = "linux"))]
            Test::Flags { mask, flags } => return self.has_flags(*mask, *flags),
            #[cfg(all(feature = "host", target_os = "linux"))]
            Test::Not(other) => !self.holds(other)?,
            Test::Unknown(_) => return None,
        })
    }

    /// Whether of the TCP flags of the mask exactly these are set. What opens a connection has SYN, and neither FIN, RST nor ACK;
    /// of everything else it is only known that this is not so.
    #[cfg(all(feature = "host", target_os = "linux"))]
    fn has_flags(&self, mask: u8, flags: u8) -> Option<bool> {
        const SYN: u8 = 0x02;
        const KNOWN: u8 = 0x01 | SYN | 0x04 | 0x10;
        if self.protocol != IpProtocol::Tcp.number() {
            return None;
        }
        match self.tracking.opens() {
            true if flags & KNOWN != SYN & mask => Some(false),
            true => (mask & !KNOWN == 0).then_some(true),
            false => (mask & KNOWN == KNOWN && flags & KNOWN == SYN).then_some(false),
        }
    }

    /// Whether the address of an end is one of this host, as far as interfaces tell: a packet of this host is from one of its
    /// addresses, and one that goes out by the loopback interface is for one.
    fn is_local(&self, end: End) -> Option<bool> {
        let by_loopback = |interface: &str| interface == self.loopback;
        match (end, self.direction) {
            (End::Source, Direction::Outbound) => Some(true),
            (End::Source, _) => Some(by_loopback(self.input)),
            (End::Destination, _) if self.translation.to_this_host => Some(true),
            (End::Destination, Direction::Outbound) if by_loopback(self.input) => Some(true),
            (End::Destination, Direction::Outbound) => self.output.map(by_loopback),
            (End::Destination, direction) => Some(direction == Direction::Inbound),
        }
    }

    /// Whether a socket of this host has the connection.
    fn has_socket(&self) -> Option<bool> {
        match (self.direction, self.tracking) {
            (Direction::Outbound, _) => Some(self.get(Field::User) != Value::Absent),
            (Direction::Inbound, Tracking::Lost) => self.translated_before.map(|translated| !translated),
            (Direction::Inbound, Tracking::LostAnswer | Tracking::Established) => Some(true),
            _ => Some(false),
        }
    }

    /// The states that the packet is in, and those that it may be in besides.
    fn states(&self) -> (CtStates, CtStates) {
        let mut own = match self.tracking {
            _ if self.untracked => CtStates::UNTRACKED,
            _ if !self.tracked => CtStates::INVALID,
            Tracking::New | Tracking::MidStream | Tracking::Lost | Tracking::LostAnswer => CtStates::NEW,
            Tracking::Established => CtStates::ESTABLISHED,
            Tracking::Reused => CtStates::empty(),
            Tracking::Invalid => CtStates::INVALID,
        };
        let mut perhaps = CtStates::empty();
        if own.is_empty() {
            // It depends on whether the older connection was answered.
            perhaps = CtStates::NEW | CtStates::ESTABLISHED;
        }
        if !own.intersects(CtStates::INVALID | CtStates::UNTRACKED) {
            let translated = [(self.translation.snat, CtStates::SNAT), (self.translation.dnat, CtStates::DNAT)];
            for (is_translated, state) in translated {
                own.set(state, is_translated == Some(true));
                perhaps.set(state, is_translated.is_none());
            }
        }
        (own, perhaps)
    }

    /// Whether all hold, except the one at `but`.
    pub(super) fn all_hold(&self, tests: &[Test], but: Option<usize>) -> Option<bool> {
        let mut known = true;
        for (index, test) in tests.iter().enumerate() {
            match self.holds(test) {
                _ if Some(index) == but => {}
                Some(true) => {}
                Some(false) => return Some(false),
                None => known = false,
            }
        }
        known.then_some(true)
    }
}
