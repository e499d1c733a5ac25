use std::fmt;
use std::net::IpAddr;

use super::Owner;
use crate::net::{AnyCidr, FamilyName, Port, PortSet, Protocol, Uid};

/// Where sockets are steered by programs and no rule sees a packet: who is excluded where, and what is redirected to
/// which port. It is about the same traffic as the rules of the plan, and asked in the order in which it is written here: of a
/// socket that connects or sends, what is not excluded is redirected, and so of one that connections come to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketPlan {
    /// Whether sockets of IPv6 are steered besides those of IPv4.
    pub ipv6: bool,
    /// The user that the sidecar runs as. Its sockets go where they are sent; but what they send to this very host is inbound.
    pub sidecar: Uid,
    /// Where redirected connections and queries go.
    pub listeners: Listeners,
    /// First: whose connections and queries go where they are sent, users before groups.
    pub excluded_owners: Vec<OwnerExclusion>,
    /// Then: where they do, whoever it is.
    pub excluded_destinations: Vec<AnyCidr>,
    /// The DNS queries that are redirected of the others; none if no query is.
    pub dns: Option<DnsSockets>,
    /// The ports to which connections are redirected of the others; none if no connection from this host is.
    pub outbound: Option<RedirectedPorts>,
    /// If not empty, connections to other destinations go where they are sent.
    pub included_destinations: Vec<AnyCidr>,
    /// Whose connections to this host go where they are sent.
    pub excluded_sources: Vec<AnyCidr>,
    /// The ports of this host to which other connections are redirected; none if no connection to this host is.
    pub inbound: Option<RedirectedPorts>,
    /// What is asked for and needs packets.
    pub beyond: Vec<NeedsPackets>,
}

/// The ports that the sidecar listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listeners {
    /// For connections to the workload.
    pub inbound: Port,
    /// For connections from the workload.
    pub outbound: Port,
    /// For DNS queries.
    pub dns: Port,
}

/// Users or groups that reach some ports without the sidecar: `tcp,udp:1-65535:1000`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnerExclusion {
    /// Who it is.
    pub owner: Owner,
    /// By these protocols; never none.
    pub protocols: Vec<Protocol>,
    /// To these ports; never none.
    pub ports: PortSet,
}

/// Queries by UDP to port 53 that are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DnsSockets {
    /// To whom.
    pub servers: DnsServers,
    /// Whether connections to port 53 go where they are sent, as the sidecar answers no query by TCP.
    pub tcp_passes: bool,
}

/// DNS servers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there are all or some")]
pub enum DnsServers {
    /// All.
    All,
    /// These.
    These(Vec<IpAddr>),
}

/// Ports to which connections are redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "ports are given by what they are or by what they are not")]
pub enum RedirectedPorts {
    /// These; never none.
    Only(PortSet),
    /// All others.
    AllBut(PortSet),
}

/// What no steering of sockets can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NeedsPackets {
    /// Redirecting what other machines or containers send: `redirect.vnet.networks`.
    VirtualNetworks,
    /// Logging packets: `log.enabled`.
    Log,
    /// Dropping packets that connection tracking finds invalid: `dropInvalidPackets`.
    InvalidPackets,
}

impl DnsSockets {
    /// Whether queries to any server of the family are redirected.
    pub fn is_of(&self, family: FamilyName) -> bool {
        match &self.servers {
            DnsServers::All => true,
            DnsServers::These(servers) => servers.iter().any(|server| server.is_ipv6() == (family == FamilyName::V6)),
        }
    }
}

impl fmt::Display for OwnerExclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, protocol) in self.protocols.iter().enumerate() {
            write!(f, "{}{protocol}", if index > 0 { "," } else { "" })?;
        }
        match &self.owner {
            Owner::Uid(uids) => write!(f, ":{}:{uids}", self.ports),
            Owner::Gid(gids) => write!(f, ":{}:{gids}", self.ports),
        }
    }
}
