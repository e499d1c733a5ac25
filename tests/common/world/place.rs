use std::net::{IpAddr, SocketAddr};

use kumatp::net::FamilyName;

/// A place in the world that has an address of each family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The loopback address.
    Localhost,
    /// The address that the sidecar connects from to hand an inbound connection through: 127.0.0.6, ::6.
    Passthrough,
    /// A DNS server on the loopback interface: 127.0.0.11, as Docker has it; ::1.
    LocalResolver,
    /// The first address of the workload's interface to the outside.
    Own,
    /// The second one.
    OwnSecond,
    /// The address of the workload's host on the bridge, in the machine's first network.
    Bridge,
    /// The one in its second network.
    BridgeSecond,
    /// The machine behind the bridge.
    Machine,
    /// A host outside.
    Outside,
    /// Another.
    OutsideSecond,
    /// A name server outside.
    Resolver,
    /// Another, which no resolv.conf names.
    OtherResolver,
    /// The last address of 10.78.0.0/17, fd78::/49: the prefixes do not end at a byte.
    PrefixLast,
    /// The first address behind that prefix.
    PrefixBeyond,
}

impl Place {
    /// The prefix that [`PrefixLast`](Self::PrefixLast) is the end of.
    pub(crate) const PREFIXES: [&'static str; 2] = ["10.78.0.0/17", "fd78::/49"];

    /// The networks of the machine: the first of each family, then the second.
    pub(crate) const NETWORKS: [[&'static str; 2]; 2] =
        [["172.20.0.0/16", "fd20::/64"], ["172.21.0.0/16", "fd21::/64"]];

    /// The address.
    pub(crate) fn addr(self, family: FamilyName) -> IpAddr {
        let [four, six] = match self {
            Self::Localhost => ["127.0.0.1", "::1"],
            Self::Passthrough => ["127.0.0.6", "::6"],
            Self::LocalResolver => ["127.0.0.11", "::1"],
            Self::Own => ["10.77.0.1", "fd77::1"],
            Self::OwnSecond => ["10.77.0.11", "fd77::11"],
            Self::Bridge => ["172.20.0.1", "fd20::1"],
            Self::BridgeSecond => ["172.21.0.1", "fd21::1"],
            Self::Machine => ["172.20.0.2", "fd20::2"],
            Self::Outside => ["10.77.0.2", "fd77::2"],
            Self::OutsideSecond => ["10.77.0.3", "fd77::3"],
            Self::Resolver => ["10.77.0.53", "fd77::53"],
            Self::OtherResolver => ["10.77.0.54", "fd77::54"],
            Self::PrefixLast => ["10.78.127.255", "fd78:0:0:7fff:ffff:ffff:ffff:ffff"],
            Self::PrefixBeyond => ["10.78.128.0", "fd78:0:0:8000::"],
        };
        let text = match family {
            FamilyName::V4 => four,
            FamilyName::V6 => six,
        };
        text.parse().expect("a literal address is valid")
    }

    /// A port there.
    pub(crate) fn socket(self, family: FamilyName, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr(family), port)
    }

    /// Who serves there.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Localhost
            | Self::Passthrough
            | Self::LocalResolver
            | Self::Own
            | Self::OwnSecond
            | Self::Bridge
            | Self::BridgeSecond => super::WORKLOAD,
            Self::Machine => "machine",
            Self::Outside
            | Self::OutsideSecond
            | Self::Resolver
            | Self::OtherResolver
            | Self::PrefixLast
            | Self::PrefixBeyond => super::OUTSIDE,
        }
    }
}
