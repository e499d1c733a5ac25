use serde::{Deserialize, Serialize};

use crate::model::Note;

/// What the host can do for one address family. All present by default, since a plan is for a
/// capable host unless somebody looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Abilities {
    /// Rules can carry comments.
    pub comments: bool,
    /// Connections can be tracked in zones: the raw table, its `CT` target, and the matches of the
    /// zone rules.
    pub conntrack_zones: bool,
    /// The mangle table is there, and the match on connection state.
    pub mangle: bool,
    /// Rules can ask whether an address belongs to this host: nf_tables' `fib`. Only the netlink engine asks.
    pub address_types: bool,
    /// Rules can ask whether a packet has a socket on this host: nf_tables' `socket`. Only the netlink engine asks.
    pub sockets: bool,
    /// Docker's embedded DNS server has its chain `DOCKER_OUTPUT` in the nat table.
    pub docker_output: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            comments: true,
            conntrack_zones: true,
            mangle: true,
            address_types: true,
            sockets: true,
            docker_output: false,
        }
    }
}

/// What an engine can do on a host, as it found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HostAbilities {
    /// For IPv4.
    pub v4: Abilities,
    /// For IPv6.
    pub v6: Abilities,
    /// Set if the engine cannot make rules for IPv6 at all: why, and what to do about it.
    pub v6_refused: Option<(String, String)>,
    /// Set if the engine makes rules for IPv6 only where an interface has an address besides loopback, as kumactl does.
    pub v6_only_with_address: bool,
    /// What was noticed while looking, as text.
    pub remarks: Vec<Note>,
}
