use crate::net::{Cidr, Family, GidRange, InterfacePattern, PortRange, PortSet, Protocol, UidRange};

/// One condition on a packet. `negated` turns it round.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(tag = "match", rename_all = "camelCase", bound = "")]
#[non_exhaustive]
pub enum Match<F: Family> {
    /// The source address is in the prefix.
    Source {
        /// The prefix.
        net: Cidr<F>,
        /// Whether it must not be.
        negated: bool,
    },
    /// The destination address is in the prefix.
    Destination {
        /// The prefix.
        net: Cidr<F>,
        /// Whether it must not be.
        negated: bool,
    },
    /// The packet came in by the interface.
    InInterface {
        /// The interface.
        interface: InterfacePattern,
        /// Whether it must not have.
        negated: bool,
    },
    /// The packet goes out by the interface.
    OutInterface {
        /// The interface.
        interface: InterfacePattern,
        /// Whether it must not.
        negated: bool,
    },
    /// The transport protocol, and perhaps its ports.
    Transport(Transport),
    /// The owner of the socket that the packet was made by. A packet without a socket has no
    /// owner: it never matches a plain owner match and **always matches a negated one**, as xt_owner
    /// has it (linux net/netfilter/xt_owner.c).
    Owner {
        /// The owner.
        owner: Owner,
        /// Whether it must be another, or none.
        negated: bool,
    },
    /// An address of the packet belongs to this host, as the kernel's routes say.
    Local {
        /// Which address.
        end: End,
    },
    /// The connection-tracking state.
    CtState {
        /// The state.
        state: CtState,
        /// Whether it must be another.
        negated: bool,
    },
    /// The destination of the packet's connection was translated, by any rule. A packet that connection tracking does not
    /// follow has no connection.
    Translated,
}

impl<F: Family> Match<F> {
    /// From these addresses.
    pub fn from(net: Cidr<F>) -> Self {
        Self::Source { net, negated: false }
    }

    /// To these addresses.
    pub fn to(net: Cidr<F>) -> Self {
        Self::Destination { net, negated: false }
    }

    /// To other addresses than these.
    pub fn not_to(net: Cidr<F>) -> Self {
        Self::Destination { net, negated: true }
    }

    /// In by this interface.
    pub fn on(interface: InterfacePattern) -> Self {
        Self::InInterface { interface, negated: false }
    }

    /// Out by this interface.
    pub fn out(interface: InterfacePattern) -> Self {
        Self::OutInterface { interface, negated: false }
    }

    /// Made by a socket of this owner.
    pub fn by(owner: impl Into<Owner>) -> Self {
        Self::Owner { owner: owner.into(), negated: false }
    }

    /// Made by another owner's socket, or by none.
    pub fn not_by(owner: impl Into<Owner>) -> Self {
        Self::Owner { owner: owner.into(), negated: true }
    }

    /// Whether it holds for every packet: any address, any interface. iptables does not store such
    /// conditions.
    pub(crate) fn is_always(&self) -> bool {
        match self {
            Self::Source { net, negated: false } | Self::Destination { net, negated: false } => net.prefix() == 0,
            Self::InInterface { interface, negated: false } | Self::OutInterface { interface, negated: false } => {
                interface.as_str() == "+"
            }
            _ => false,
        }
    }

    /// Where iptables-save puts this match among those of a rule.
    pub(crate) fn canonical_rank(&self) -> u8 {
        match self {
            Self::Source { .. } => 0,
            Self::Destination { .. } => 1,
            Self::InInterface { .. } => 2,
            Self::OutInterface { .. } => 3,
            Self::Transport(_) => 4,
            Self::Owner { .. } => 5,
            Self::Local { .. } => 6,
            Self::CtState { .. } => 7,
            Self::Translated => 8,
        }
    }
}

impl<F: Family> From<Transport> for Match<F> {
    fn from(transport: Transport) -> Self {
        Self::Transport(transport)
    }
}

/// A transport protocol with conditions on its ports.
///
/// ```
/// use kumatp::model::Transport;
/// use kumatp::net::Port;
///
/// let dns = Transport::udp().to_port(Port::DNS);
/// assert_eq!(dns.destination.unwrap().ports().ranges().len(), 1);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Transport {
    /// The protocol.
    pub protocol: Protocol,
    /// The source ports, if they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<PortMatch>,
    /// The destination ports, if they matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<PortMatch>,
    /// Whether iptables text names the protocol's match module before the protocol (`-m udp -p
    /// udp`), as kumactl does for virtual networks. It has no effect on what matches.
    #[serde(skip)]
    pub module_first: bool,
    /// Whether the packet, of TCP, must not open a connection: of the flags FIN, SYN, RST and ACK, it has not just SYN.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub mid_stream: bool,
}

impl Transport {
    /// Any packet of the protocol.
    pub fn new(protocol: Protocol) -> Self {
        Self { protocol, source: None, destination: None, module_first: false, mid_stream: false }
    }

    /// Any TCP packet.
    pub fn tcp() -> Self {
        Self::new(Protocol::Tcp)
    }

    /// Any UDP packet.
    pub fn udp() -> Self {
        Self::new(Protocol::Udp)
    }

    /// From this port, or a port of this range.
    pub fn from_port(mut self, range: impl Into<PortRange>) -> Self {
        self.source = Some(PortMatch::Range { range: range.into(), negated: false });
        self
    }

    /// To this port, or a port of this range.
    pub fn to_port(mut self, range: impl Into<PortRange>) -> Self {
        self.destination = Some(PortMatch::Range { range: range.into(), negated: false });
        self
    }

    /// To one of these ports, by the `multiport` match.
    pub fn to_ports(mut self, ports: PortSet) -> Self {
        self.destination = Some(PortMatch::Multiport { ports, negated: false });
        self
    }

    /// Sets [`mid_stream`](Self::mid_stream).
    pub fn mid_stream(mut self) -> Self {
        self.mid_stream = true;
        self
    }

    /// Sets [`module_first`](Self::module_first).
    pub fn module_first(mut self) -> Self {
        self.module_first = true;
        self
    }
}

/// A condition on a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "iptables has these two")]
pub enum PortMatch {
    /// In one range, by the protocol's own match.
    Range {
        /// The range.
        range: PortRange,
        /// Whether it must be outside.
        negated: bool,
    },
    /// In one of several ranges, by the `multiport` match. The model takes any number of them;
    /// iptables takes 15 a rule, a range counting as two, so its renderer splits.
    Multiport {
        /// The ranges, in the order in which they are written; never empty.
        ports: PortSet,
        /// Whether it must be in none.
        negated: bool,
    },
}

impl PortMatch {
    /// The ports that are named.
    pub fn ports(&self) -> PortSet {
        match self {
            Self::Range { range, .. } => (*range).into(),
            Self::Multiport { ports, .. } => ports.clone(),
        }
    }

    /// Whether the port must be another.
    pub fn negated(&self) -> bool {
        match self {
            Self::Range { negated, .. } | Self::Multiport { negated, .. } => *negated,
        }
    }
}

/// The owner of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "xt_owner knows users and groups")]
pub enum Owner {
    /// Its user.
    Uid(UidRange),
    /// Its group.
    Gid(GidRange),
}

impl From<UidRange> for Owner {
    fn from(range: UidRange) -> Self {
        Self::Uid(range)
    }
}

impl From<GidRange> for Owner {
    fn from(range: GidRange) -> Self {
        Self::Gid(range)
    }
}

impl From<crate::net::Uid> for Owner {
    fn from(uid: crate::net::Uid) -> Self {
        Self::Uid(uid.into())
    }
}

impl From<crate::net::Gid> for Owner {
    fn from(gid: crate::net::Gid) -> Self {
        Self::Gid(gid.into())
    }
}

/// One of the two ends of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "a packet has two ends")]
pub enum End {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// A state of connection tracking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum CtState {
    /// The packet fits no connection.
    Invalid,
}
