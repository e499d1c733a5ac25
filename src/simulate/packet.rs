//! What is sent through the rules.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;

use crate::error::InvalidValue;
use crate::net::{Family, FamilyName, Gid, InterfaceName, Port, Protocol, Uid, V4, V6};

/// The ordinary user of [`Packet::outbound`]: neither root nor the sidecar.
const USER: Socket = Socket { uid: Uid::new(1000).unwrap(), gid: Gid::new(1000).unwrap() };

/// The first of the ports that clients get (RFC 6335 section 6).
const EPHEMERAL: Port = Port::new(49152).unwrap();

/// A packet as netfilter meets it first.
///
/// Made by [`outbound`](Self::outbound), [`inbound`](Self::inbound) or [`forwarded`](Self::forwarded), changed by the methods behind
/// them, or written as text (see [`AnyPacket`]).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Packet<F: Family> {
    /// Where it comes from and where it goes.
    pub direction: Direction,
    /// What it carries.
    pub protocol: IpProtocol,
    /// The address that it is from.
    pub source: F::Addr,
    /// The port that it is from; has no meaning unless it is TCP or UDP.
    pub source_port: Port,
    /// The address that it is for.
    pub destination: F::Addr,
    /// The port that it is for; has no meaning unless it is TCP or UDP.
    pub destination_port: Port,
    /// Who made it. `None` for packets from elsewhere and for those that the kernel makes by itself, such as the RST
    /// to a port that nobody listens on.
    pub socket: Option<Socket>,
    /// The interface that it comes in by; `None` if it was made here.
    pub in_interface: Option<InterfaceName>,
    /// The interface that it goes out by, before any redirection; `None` if it is for this host.
    pub out_interface: Option<InterfaceName>,
    /// What connection tracking knows of it.
    pub tracking: Tracking,
}

impl<F: Family> Packet<F> {
    /// The first packet of a connection, or a query, that a process on this host makes.
    ///
    /// By user and group 1000; from port 49152; to a loopback address from the same address and by `lo`, to any other from an
    /// address that is set aside for documentation and by `eth0`.
    pub fn outbound(protocol: impl Into<IpProtocol>, destination: F::Addr, port: Port) -> Self {
        let local = Into::<IpAddr>::into(destination).is_loopback();
        let by = if local { InterfaceName::lo() } else { eth0() };
        Self {
            direction: Direction::Outbound,
            protocol: protocol.into(),
            source: if local { F::localhost().addr() } else { example::<F>(1) },
            source_port: EPHEMERAL,
            destination,
            destination_port: port,
            socket: Some(USER),
            in_interface: None,
            out_interface: Some(by),
            tracking: Tracking::New,
        }
    }

    /// The first packet of a connection, or a query, that arrives for this host.
    ///
    /// From port 49152 of an address that is set aside for documentation, by `eth0`.
    pub fn inbound(protocol: impl Into<IpProtocol>, destination: F::Addr, port: Port) -> Self {
        Self {
            direction: Direction::Inbound,
            source: example::<F>(2),
            socket: None,
            in_interface: Some(eth0()),
            out_interface: None,
            ..Self::outbound(protocol, destination, port)
        }
    }

    /// The first packet of a connection, or a query, that arrives from a container or virtual machine on this host and is for
    /// a host elsewhere.
    ///
    /// From port 49152 of an address that is set aside for documentation, in by `interface`, out by `eth0`.
    pub fn forwarded(
        protocol: impl Into<IpProtocol>,
        destination: F::Addr,
        port: Port,
        interface: InterfaceName,
    ) -> Self {
        Self {
            direction: Direction::Forwarded,
            in_interface: Some(interface),
            out_interface: Some(eth0()),
            ..Self::inbound(protocol, destination, port)
        }
    }

    /// From this address and port.
    pub fn from(mut self, source: F::Addr, port: Port) -> Self {
        self.source = source;
        self.source_port = port;
        self
    }

    /// Made by a socket of this user and group.
    pub fn by(mut self, uid: Uid, gid: Gid) -> Self {
        self.socket = Some(Socket { uid, gid });
        self
    }

    /// Made by the kernel itself.
    pub fn without_socket(mut self) -> Self {
        self.socket = None;
        self
    }

    /// In by this interface.
    pub fn on(mut self, interface: InterfaceName) -> Self {
        self.in_interface = Some(interface);
        self
    }

    /// Out by this interface.
    pub fn out(mut self, interface: InterfaceName) -> Self {
        self.out_interface = Some(interface);
        self
    }

    /// In this state of connection tracking.
    pub fn tracked(mut self, tracking: Tracking) -> Self {
        self.tracking = tracking;
        self
    }
}

fn eth0() -> InterfaceName {
    "eth0".parse().expect("a literal interface name is valid")
}

/// An address that is set aside for documentation (RFC 5737, RFC 3849).
fn example<F: Family>(host: u8) -> F::Addr {
    let four = Ipv4Addr::new(192, 0, 2, host).into();
    let six = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()).into();
    F::from_ip(four).or(F::from_ip(six)).expect("one of them is of the family")
}

/// Where a packet comes from and where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "netfilter knows these three ways")]
pub enum Direction {
    /// Made on this host.
    Outbound,
    /// Arrives for this host.
    Inbound,
    /// Arrives for another host, and this one passes it on.
    Forwarded,
}

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the last one is for all others")]
pub enum IpProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Another one, by its number: 1 is ICMP, 58 ICMPv6.
    Other(u8),
}

impl IpProtocol {
    /// Those with a name, besides TCP and UDP.
    const NAMES: [(&'static str, u8); 3] = [("icmp", 1), ("icmpv6", 58), ("sctp", 132)];

    /// The number in the IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => Protocol::Tcp.number(),
            Self::Udp => Protocol::Udp.number(),
            Self::Other(number) => number,
        }
    }

    /// Whether it is this one.
    pub fn is(self, protocol: Protocol) -> bool {
        self == protocol.into()
    }
}

impl From<Protocol> for IpProtocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

impl From<u8> for IpProtocol {
    fn from(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            _ => Self::Other(number),
        }
    }
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Tcp => f.write_str("tcp"),
            Self::Udp => f.write_str("udp"),
            Self::Other(number) => match Self::NAMES.iter().find(|(_, other)| *other == number) {
                Some((name, _)) => f.write_str(name),
                None => number.fmt(f),
            },
        }
    }
}

impl std::str::FromStr for IpProtocol {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = || Self::NAMES.iter().find(|(name, _)| *name == text).map(|(_, number)| Self::Other(*number));
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            _ => known().or_else(|| crate::net::decimal::<u8>(text).map(Self::from)).ok_or_else(|| {
                InvalidValue::new(text, "tcp, udp, icmp, icmpv6, sctp or the number of a protocol from 0 to 255")
            }),
        }
    }
}

crate::net::serde_by_text!(IpProtocol);

/// The owner of the socket that a packet was made by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[expect(clippy::exhaustive_structs, reason = "xt_owner knows users and groups")]
pub struct Socket {
    /// Its user.
    pub uid: Uid,
    /// Its group.
    pub gid: Gid,
}

/// What connection tracking knows of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Tracking {
    /// It opens a connection, or is the first that is seen of a query. Of TCP, a SYN.
    New,
    /// TCP that begins in the middle: it opens no connection, and none is known that it belongs to, so connection tracking takes it
    /// for new. No socket of this host has its connection.
    MidStream,
    /// TCP of a connection that is open, but whose entry in connection tracking was lost, which takes it for new. Who opened the
    /// connection speaks first; and what became of that was decided by these rules.
    Lost,
    /// The same where who was asked speaks first. A packet that arrives here is for a socket of this host.
    LostAnswer,
    /// TCP that opens a connection, from and to where an entry of connection tracking says that one is which is not translated:
    /// an older one than the rules, or one that another socket has left. Nat is not asked again.
    Reused,
    /// It belongs to a connection that is known, and is translated as that was.
    Established,
    /// It fits no connection. Of TCP, for example, a SYN with a RST, and never just a SYN.
    Invalid,
}

impl Tracking {
    /// Whether it passes the nat chains: connection tracking takes it for the first packet of a connection.
    pub(super) fn is_fresh(self) -> bool {
        matches!(self, Self::New | Self::MidStream | Self::Lost | Self::LostAnswer)
    }

    /// Whether it opens a connection: of TCP, whether it is just a SYN.
    pub(super) fn opens(self) -> bool {
        matches!(self, Self::New | Self::Reused)
    }

    /// Whether only TCP can be so: no other protocol has a beginning to miss, or to repeat.
    pub(super) fn is_of_tcp(self) -> bool {
        matches!(self, Self::MidStream | Self::Lost | Self::LostAnswer | Self::Reused)
    }

    pub(super) const NAMES: [(Self, &'static str); 7] = [
        (Self::New, "new"),
        (Self::MidStream, "midstream"),
        (Self::Lost, "lost"),
        (Self::LostAnswer, "lostanswer"),
        (Self::Reused, "reused"),
        (Self::Established, "established"),
        (Self::Invalid, "invalid"),
    ];

    /// Its word.
    pub(super) fn name(self) -> &'static str {
        Self::NAMES.into_iter().find(|(other, _)| *other == self).map_or("", |(_, name)| name)
    }

    /// All names, as a sentence lists them.
    pub(super) fn names() -> String {
        let names = Self::NAMES.map(|(_, name)| name);
        let (last, others) = names.split_last().expect("there are some");
        format!("{} or {last}", others.join(", "))
    }
}

/// A packet of either family, which text can be parsed to.
///
/// ```text
/// [outbound|inbound|forwarded] PROTOCOL DESTINATION [from SOURCE] [uid N] [gid N] [no-socket]
///                              [in INTERFACE] [out INTERFACE]
///                              [new|midstream|lost|lostanswer|reused|established|invalid]
/// ```
///
/// `DESTINATION` is an address with a port, `10.1.2.3:443` or `[fd00::1]:443`; `SOURCE` may do without the port, and so may both
/// if the protocol has none. The direction is `outbound` if nothing is said; a group that is not said has the number of the user; what
/// else is not said is as in [`Packet::outbound`], [`Packet::inbound`] and [`Packet::forwarded`].
///
/// ```
/// use kumatp::net::{Port, Uid};
/// use kumatp::simulate::{AnyPacket, Packet};
///
/// let packet: AnyPacket = "tcp 10.1.2.3:443 uid 1001".parse()?;
/// let AnyPacket::V4(packet) = packet else { panic!("an IPv4 address") };
/// assert_eq!(packet.socket.unwrap().uid, Uid::new(1001).unwrap());
///
/// let error = "tcp 10.1.2.3".parse::<AnyPacket>().unwrap_err();
/// assert_eq!(error.to_string(), "'10.1.2.3' is not valid: expected an address with a port, such as 10.1.2.3:443 or [fd00::1]:443");
/// # Ok::<(), kumatp::error::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two families")]
pub enum AnyPacket {
    /// An IPv4 packet.
    V4(Packet<V4>),
    /// An IPv6 packet.
    V6(Packet<V6>),
}

impl AnyPacket {
    /// The family.
    pub fn family(&self) -> FamilyName {
        match self {
            Self::V4(_) => FamilyName::V4,
            Self::V6(_) => FamilyName::V6,
        }
    }
}

impl From<Packet<V4>> for AnyPacket {
    fn from(packet: Packet<V4>) -> Self {
        Self::V4(packet)
    }
}

impl From<Packet<V6>> for AnyPacket {
    fn from(packet: Packet<V6>) -> Self {
        Self::V6(packet)
    }
}
