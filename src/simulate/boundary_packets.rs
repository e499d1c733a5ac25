//! Packets that rules tell apart: at the edges of all that the rules name, and next to them.

use std::collections::HashSet;

use super::Simulator;
use super::packet::{AnyPacket, Direction, IpProtocol, Packet, Socket, Tracking};
use super::program::{Line, Program, Test};
use crate::iptables_save::CtStates;
use crate::net::{Family, FamilyName, Gid, InterfaceName, InterfacePattern, Port, Protocol, Uid, V4, V6};
use crate::nftables::{Field, Span};

/// How many kinds of rules are combined with each other.
const KINDS: usize = 64;

/// How many spans of a set are looked at from both sides; of longer ones, the first and the last of them.
const SPANS: usize = 4;

impl Simulator<'_> {
    /// Packets that these rules tell apart: for each rule, packets that it is for, and packets that differ from those in one thing
    /// so that it is not. Each once, in a fixed order. What the first rule of each kind is for is combined with every other kind.
    ///
    /// They are good witnesses of a change: what two sets of rules do differently, they do mostly differently with one of these.
    pub fn edges(&self) -> Vec<AnyPacket> {
        self.edges_closer(&|_| false)
    }

    /// The same, where what these lines are for is combined with every kind too, as far as they are not too many.
    pub(super) fn edges_closer(&self, to: &dyn Fn(&Line<'_>) -> bool) -> Vec<AnyPacket> {
        let mut packets: Vec<AnyPacket> = Vec::new();
        packets.extend(of_program::<V4>(&self.v4, self, to).into_iter().map(AnyPacket::V4));
        packets.extend(of_program::<V6>(&self.v6, self, to).into_iter().map(AnyPacket::V6));
        packets
    }
}

fn of_program<F: Family>(
    program: &Program<'_>,
    simulator: &Simulator<'_>,
    closer: &dyn Fn(&Line<'_>) -> bool,
) -> Vec<Packet<F>> {
    let ordinary = Ordinary::of::<F>(program);
    let mut wanted = vec![PacketShape::default(); 7];
    wanted[1].protocol = Some(Protocol::Udp.number());
    wanted[2].protocol = Some(icmp::<F>());
    wanted[3].user = Some(simulator.sidecar.number().into());
    for (wanted, tracking) in wanted[4..].iter_mut().zip([Tracking::Lost, Tracking::LostAnswer, Tracking::Reused]) {
        wanted.tracking = Some(tracking);
    }
    let lines: Vec<&Line<'_>> =
        program.chains.iter().filter(|chain| chain.role.is_told()).flat_map(|chain| &chain.lines).collect();
    let kinds = kinds(&lines);
    let mut left = KINDS;
    for line in lines {
        let around = PacketShape::around(line, &ordinary);
        // What one rule is for, another may be for as well, by what the first one does not ask for.
        let is_kind = kinds.iter().any(|kind| *kind == around[0]);
        let combined = match is_kind {
            true => &around[..],
            false if left > 0 && closer(line) => {
                left -= 1;
                &around[..1]
            }
            false => &[],
        };
        for packet in combined {
            wanted.extend(kinds.iter().map(|kind| packet.clone().or(kind)));
        }
        wanted.extend(around);
    }
    let mut seen = HashSet::new();
    let mut packets = Vec::new();
    for wanted in wanted {
        for direction in [Direction::Outbound, Direction::Inbound, Direction::Forwarded] {
            let packet = wanted.packet::<F>(direction, &ordinary, simulator);
            let Some(packet) = packet.filter(|packet| seen.insert(packet.clone())) else { continue };
            packets.push(packet);
        }
    }
    // Last, so that a first packet is the example of a class where it can be.
    crate::sorted::by_key(&mut packets, |packet| packet.tracking.is_of_tcp());
    packets
}

/// What the first rule of each kind is for: rules are of a kind if they ask for the same things, whatever the values.
fn kinds(lines: &[&Line<'_>]) -> Vec<PacketShape> {
    let mut seen = HashSet::new();
    let mut kinds = Vec::new();
    for line in lines {
        let asked = line.tests.iter().map(|test| match test {
            Test::Interface { out, pattern, negated } => format!("{out}{pattern}{negated}"),
            Test::Protocol { number, negated } => format!("{number}{negated}"),
            Test::Value { field, negated, .. } => format!("{field:?}{negated}"),
            Test::MidStream | Test::Local { .. } | Test::BoundSocket => format!("{test:?}"),
            Test::CtState { states, negated } => format!("{states:?}{negated}"),
            #[cfg(all(feature = "host", target_os = "linux"))]
            Test::Flags { .. } | Test::Not(_) => format!("{test:?}"),
            Test::Unknown(text) => text.to_string(),
        });
        if seen.insert(asked.collect::<Vec<_>>()) && kinds.len() < KINDS {
            kinds.push(PacketShape::inside(line));
        }
    }
    kinds
}

fn icmp<F: Family>() -> u8 {
    match F::NAME {
        FamilyName::V4 => 1,
        FamilyName::V6 => 58,
    }
}

/// Values that no rule names, as far as there are any.
struct Ordinary {
    address: u128,
    port: u128,
    id: u128,
    interface: InterfaceName,
}

impl Ordinary {
    fn of<F: Family>(program: &Program<'_>) -> Self {
        let tests: Vec<&Test> =
            program.chains.iter().flat_map(|chain| &chain.lines).flat_map(|line| &line.tests).collect();
        let unnamed = |fields: &[Field], candidates: &mut dyn Iterator<Item = u128>| {
            let candidates: Vec<u128> = candidates.collect();
            let named = |value: u128| {
                tests.iter().any(|test| match test {
                    Test::Value { field, spans, negated: false } => fields.contains(field) && spans.contains(value),
                    _ => false,
                })
            };
            candidates.iter().copied().find(|value| !named(*value)).unwrap_or(candidates[0])
        };
        let addresses = ["10.1.2.3", "203.0.113.7", "172.31.7.9", "8.8.4.4", "2001:db8:7::3", "fd00:7::9", "2a00:7::9"];
        let mut addresses = addresses.iter().filter_map(|text| F::from_ip(text.parse().ok()?)).map(F::to_bits);
        let names = ["eth0", "ens7", "wlan0", "other0"];
        let patterns = tests.iter().filter_map(|test| match test {
            Test::Interface { pattern, negated: false, .. } => Some(pattern),
            _ => None,
        });
        let patterns: Vec<&InterfacePattern> = patterns.collect();
        let interface = names.iter().find(|name| patterns.iter().all(|pattern| !pattern.matches(name)));
        Self {
            address: unnamed(&[Field::SourceAddress, Field::DestinationAddress], &mut addresses),
            port: unnamed(&[Field::DestinationPort], &mut [8080, 443, 12_345, 3_306, 61_111].into_iter()),
            id: unnamed(&[Field::User, Field::Group], &mut [1000, 1001, 4242, 65_534, 99_999].into_iter()),
            interface: interface.unwrap_or(&names[0]).parse().expect("a literal interface name is valid"),
        }
    }
}

/// What a packet has to be like; the rest is ordinary.
#[derive(Debug, Clone, Default, PartialEq)]
struct PacketShape {
    protocol: Option<u8>,
    source: Option<u128>,
    destination: Option<u128>,
    source_port: Option<u128>,
    destination_port: Option<u128>,
    user: Option<u128>,
    group: Option<u128>,
    no_socket: bool,
    input: Option<InterfaceName>,
    output: Option<InterfaceName>,
    tracking: Option<Tracking>,
}

impl PacketShape {
    /// What a rule is for.
    fn inside(line: &Line<'_>) -> Self {
        let mut inside = Self::default();
        for test in &line.tests {
            inside.satisfy(test);
        }
        inside
    }

    /// What is not said, as `other` has it.
    fn or(mut self, other: &Self) -> Self {
        self.protocol = self.protocol.or(other.protocol);
        self.source = self.source.or(other.source);
        self.destination = self.destination.or(other.destination);
        self.source_port = self.source_port.or(other.source_port);
        self.destination_port = self.destination_port.or(other.destination_port);
        self.user = self.user.or(other.user);
        self.group = self.group.or(other.group);
        self.input = self.input.or_else(|| other.input.clone());
        self.output = self.output.or_else(|| other.output.clone());
        self.tracking = self.tracking.or(other.tracking);
        self
    }

    /// What a rule is for, and what it is not for by one thing.
    fn around(line: &Line<'_>, ordinary: &Ordinary) -> Vec<Self> {
        let inside = Self::inside(line);
        let mut all = vec![inside.clone()];
        for test in &line.tests {
            inside.beside(test, ordinary, &mut all);
        }
        all
    }

    fn satisfy(&mut self, test: &Test) {
        match test {
            Test::Interface { out, pattern, negated: false } => self.set_interface(*out, name_of(pattern)),
            Test::Protocol { number, negated: false } => self.protocol = Some(*number),
            Test::Protocol { number, negated: true } => {
                self.protocol = Some(if *number == Protocol::Tcp.number() {
                    Protocol::Udp.number()
                } else {
                    Protocol::Tcp.number()
                })
            }
            Test::Value { field, spans, negated: false } => self.set(*field, spans.as_slice().first().map(|s| s.first)),
            Test::MidStream => self.tracking = Some(Tracking::MidStream),
            // Of their translation, packets say nothing.
            Test::CtState { states: CtStates::DNAT, .. } => {}
            Test::CtState { states, negated } => {
                let invalid = states.contains(CtStates::INVALID) != *negated;
                self.tracking = Some(if invalid { Tracking::Invalid } else { Tracking::New });
            }
            // An ordinary value is none of those that are named.
            Test::Interface { negated: true, .. } | Test::Value { negated: true, .. } | Test::Unknown(_) => {}
            Test::BoundSocket => self.tracking = Some(Tracking::LostAnswer),
            // Of this, the packet says nothing.
            Test::Local { .. } => {}
            #[cfg(all(feature = "host", target_os = "linux"))]
            Test::Flags { .. } | Test::Not(_) => {}
        }
    }

    /// What is at another edge of a condition, or beyond one.
    fn beside(&self, test: &Test, ordinary: &Ordinary, all: &mut Vec<Self>) {
        let mut add = |change: &dyn Fn(&mut Self)| {
            let mut near = self.clone();
            change(&mut near);
            all.push(near);
        };
        match test {
            Test::Interface { out, pattern, .. } => {
                for name in [name_of(pattern), Some(ordinary.interface.clone())] {
                    add(&|wanted| wanted.set_interface(*out, name.clone()));
                }
            }
            Test::Protocol { .. } => {
                for number in [Protocol::Tcp.number(), Protocol::Udp.number()] {
                    add(&|wanted| wanted.protocol = Some(number));
                }
            }
            Test::Value { field, spans, .. } => {
                let spans = spans.as_slice();
                let ends = spans.iter().take(SPANS - 1).chain(spans.iter().skip(SPANS - 1).last());
                for Span { first, last } in ends {
                    for value in [first.checked_sub(1), Some(*first), Some(*last), last.checked_add(1)] {
                        add(&|wanted| wanted.set(*field, value.or(Some(0))));
                    }
                }
                if matches!(field, Field::User | Field::Group) {
                    add(&|wanted| wanted.no_socket = true);
                    // Whoever is meant may send anywhere.
                    add(&|wanted| (wanted.user, wanted.group) = (None, None));
                }
            }
            Test::MidStream => add(&|wanted| wanted.tracking = None),
            Test::CtState { states, .. } if *states != CtStates::DNAT => {
                for tracking in [Tracking::New, Tracking::Established, Tracking::Invalid] {
                    add(&|wanted| wanted.tracking = Some(tracking));
                }
            }
            Test::CtState { .. } => add(&|wanted| wanted.tracking = Some(Tracking::Reused)),
            Test::BoundSocket => {
                for tracking in [Tracking::MidStream, Tracking::Lost] {
                    add(&|wanted| wanted.tracking = Some(tracking));
                }
            }
            Test::Local { .. } | Test::Unknown(_) => {}
            #[cfg(all(feature = "host", target_os = "linux"))]
            Test::Flags { .. } | Test::Not(_) => {}
        }
    }

    fn set(&mut self, field: Field, value: Option<u128>) {
        match field {
            Field::SourceAddress => self.source = value,
            Field::DestinationAddress => self.destination = value,
            Field::SourcePort => self.source_port = value,
            Field::DestinationPort => self.destination_port = value,
            Field::User => self.user = value,
            Field::Group => self.group = value,
        }
    }

    fn set_interface(&mut self, out: bool, name: Option<InterfaceName>) {
        match out {
            true => self.output = name,
            false => self.input = name,
        }
    }

    /// The packet; `None` if there is none of this direction that is like this.
    fn packet<F: Family>(
        &self,
        direction: Direction,
        ordinary: &Ordinary,
        simulator: &Simulator<'_>,
    ) -> Option<Packet<F>> {
        let protocol = IpProtocol::from(self.protocol.unwrap_or(Protocol::Tcp.number()));
        let number = |value: u128| u32::try_from(value).ok();
        let port = |value: u128| u16::try_from(value).ok().and_then(Port::new);
        let bits = |value: u128| (F::BITS == 128 || value >> F::BITS == 0).then(|| F::from_bits(value));
        let destination = bits(self.destination.unwrap_or(ordinary.address))?;
        let to_port = port(self.destination_port.unwrap_or(ordinary.port))?;
        let loopback = Into::<std::net::IpAddr>::into(destination).is_loopback();
        let mut packet = match direction {
            Direction::Outbound => {
                if self.input.is_some() {
                    return None;
                }
                let mut packet = Packet::outbound(protocol, destination, to_port);
                packet.out_interface = Some(match (&self.output, loopback) {
                    (_, true) => simulator.loopback.clone(),
                    (Some(name), false) => name.clone(),
                    (None, false) => ordinary.interface.clone(),
                });
                packet.socket = match self.no_socket {
                    true => None,
                    false => Some(Socket {
                        uid: Uid::new(number(self.user.unwrap_or(ordinary.id))?)?,
                        gid: Gid::new(number(self.group.unwrap_or(ordinary.id))?)?,
                    }),
                };
                packet
            }
            Direction::Inbound | Direction::Forwarded => {
                if loopback || self.user.is_some() || self.group.is_some() || self.no_socket {
                    return None;
                }
                let input = self.input.clone().unwrap_or_else(|| ordinary.interface.clone());
                match (direction, &self.output) {
                    (Direction::Inbound, None) => Packet::inbound(protocol, destination, to_port).on(input),
                    (Direction::Inbound, Some(_)) => return None,
                    (_, output) => {
                        let mut packet = Packet::forwarded(protocol, destination, to_port, input);
                        packet.out_interface = output.clone().or(packet.out_interface);
                        packet
                    }
                }
            }
        };
        if let Some(source) = self.source {
            packet.source = bits(source)?;
        }
        if let Some(from) = self.source_port {
            packet.source_port = port(from)?;
        }
        packet.tracking = match self.tracking {
            Some(tracking) if tracking.is_of_tcp() && protocol != IpProtocol::Tcp => return None,
            Some(tracking) => tracking,
            None => Tracking::New,
        };
        Some(packet)
    }
}

/// An interface that the pattern is for.
fn name_of(pattern: &InterfacePattern) -> Option<InterfaceName> {
    match pattern.prefix() {
        None => pattern.as_str().parse().ok(),
        Some(prefix) => format!("{prefix}0").parse().or_else(|_| prefix.parse()).ok(),
    }
}
