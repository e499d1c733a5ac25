//! Packets that are sent together: each is told from the others by its source, and none is the answer to another.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;

use arbitrary::{Result, Unstructured};
use kumatp::net::{Family, Port};
use kumatp::simulate::{AnyPacket, Direction, Packet, Tracking};
use kumatp::{Config, Facts};

use crate::edges::{self, Edges};
use crate::netns::User;
use crate::wire::{self, Flow};

/// The source port of packets that care for none; they get one of their own.
const ANY_PORT: u16 = 49152;

/// A packet to send.
#[derive(Debug, Clone)]
pub(crate) struct Shot {
    /// As the simulator gets it.
    pub(crate) packet: AnyPacket,
    pub(crate) flow: Flow,
    pub(crate) direction: Direction,
    pub(crate) user: User,
    /// By which it arrives.
    pub(crate) interface: Option<String>,
    pub(crate) tracking: Tracking,
}

impl Shot {
    /// Of a packet.
    pub(crate) fn of(packet: &AnyPacket) -> Self {
        match packet {
            AnyPacket::V4(four) => Self::of_family(packet, four),
            AnyPacket::V6(six) => Self::of_family(packet, six),
        }
    }

    fn of_family<F: Family>(any: &AnyPacket, packet: &Packet<F>) -> Self {
        let has_ports = matches!(packet.protocol.number(), wire::TCP | wire::UDP);
        let endpoint =
            |addr: F::Addr, port: Port| SocketAddr::new(addr.into(), if has_ports { port.number() } else { 0 });
        Self {
            packet: any.clone(),
            flow: Flow {
                protocol: packet.protocol.number(),
                source: endpoint(packet.source, packet.source_port),
                destination: endpoint(packet.destination, packet.destination_port),
            },
            direction: packet.direction,
            user: packet
                .socket
                .map_or(User::ROOT, |socket| User { uid: socket.uid.number(), gid: socket.gid.number() }),
            interface: packet.in_interface.as_ref().map(|interface| interface.as_str().to_owned()),
            tracking: packet.tracking,
        }
    }

    /// The same from another port.
    fn by_port(self, port: u16) -> Self {
        let port = Port::new(port).expect("the ports that are given away are not 0");
        Self::of(&match self.packet {
            AnyPacket::V4(packet) => {
                let source = packet.source;
                packet.from(source, port).into()
            }
            AnyPacket::V6(packet) => {
                let source = packet.source;
                packet.from(source, port).into()
            }
        })
    }

    /// The same in another state of connection tracking.
    pub(crate) fn tracked(&self, tracking: Tracking) -> Self {
        Self::of(&match self.packet.clone() {
            AnyPacket::V4(packet) => packet.tracked(tracking).into(),
            AnyPacket::V6(packet) => packet.tracked(tracking).into(),
        })
    }

    fn has_ports(&self) -> bool {
        matches!(self.flow.protocol, wire::TCP | wire::UDP)
    }
}

/// Why packets were not sent, and how many.
pub(crate) type Skipped = BTreeMap<&'static str, usize>;

/// Draws packets until there are `count`, or too many cannot be sent.
pub(crate) fn draw(
    config: &Config,
    facts: &Facts,
    u: &mut Unstructured<'_>,
    count: usize,
    first_port: u16,
    skipped: &mut Skipped,
) -> Result<Vec<Shot>> {
    let edges = Edges::of(config, facts);
    let mut volley = Volley::new(config, first_port);
    for _ in 0..count * 5 {
        if volley.shots.len() == count {
            break;
        }
        if let Err(why) = volley.add(Shot::of(&edges.packet(u)?)) {
            *skipped.entry(why).or_default() += 1;
        }
    }
    Ok(volley.shots)
}

/// Packets that go together.
pub(crate) struct Volley {
    pub(crate) shots: Vec<Shot>,
    sources: HashSet<(u8, SocketAddr)>,
    destinations: HashSet<(u8, SocketAddr)>,
    listeners: [u16; 3],
    next_port: u16,
}

impl Volley {
    /// None yet, on a host where the sidecar of this configuration listens. Packets that care for no port are from this one and those
    /// after it.
    pub(crate) fn new(config: &Config, first_port: u16) -> Self {
        let redirect = &config.redirect;
        Self {
            shots: Vec::new(),
            sources: HashSet::new(),
            destinations: HashSet::new(),
            listeners: [redirect.inbound.port, redirect.outbound.port, redirect.dns.port].map(Port::number),
            next_port: first_port,
        }
    }

    /// Adds one, perhaps from another port.
    pub(crate) fn add(&mut self, mut shot: Shot) -> std::result::Result<(), &'static str> {
        let outbound = shot.direction == Direction::Outbound;
        let destination = shot.flow.destination.ip();
        if let Some(why) = wire::untakable(shot.flow.source.ip(), destination, outbound) {
            return Err(why);
        }
        if outbound && shot.flow.protocol == wire::TCP {
            // No rule asks for it, and a client that a starting process still holds tries again a second later, when another may
            // have its port.
            shot = shot.by_port(ANY_PORT);
        }
        match shot.flow.protocol {
            wire::TCP | wire::UDP => {
                while shot.flow.source.port() == ANY_PORT || self.clashes(&shot) {
                    if self.answers(shot.flow.destination, shot.flow.protocol) {
                        return Err("to a port that another is from");
                    }
                    shot = shot.by_port(self.next_port);
                    self.next_port += 1;
                }
            }
            wire::ICMP | wire::ICMPV6 => {}
            _ if edges::is_own(destination) => return Err("of a protocol that nobody speaks here"),
            _ if self.clashes(&shot) => return Err("the same as another, of a protocol without ports"),
            _ => {}
        }
        self.sources.insert((shot.flow.protocol, shot.flow.source));
        self.destinations.insert((shot.flow.protocol, shot.flow.destination));
        self.shots.push(shot);
        Ok(())
    }

    fn answers(&self, destination: SocketAddr, protocol: u8) -> bool {
        self.sources.contains(&(protocol, destination))
    }

    /// Whether its source is taken, by one like it, by who would answer one, or by a listener.
    fn clashes(&self, shot: &Shot) -> bool {
        let Flow { protocol, source, destination } = shot.flow;
        self.sources.contains(&(protocol, source))
            || self.destinations.contains(&(protocol, source))
            || self.answers(destination, protocol)
            || (shot.has_ports() && source == destination)
            || (protocol == wire::TCP && self.listeners.contains(&source.port()))
    }
}
