//! Facts: all that the rules depend on besides the configuration.
//!
//! Facts are plain data with a JSON form, so that a plan can be made, and tested, for a host that
//! is not there. Only `facts::probe` (feature `host`) reads a real one.

mod abilities;
#[cfg(all(feature = "host", target_os = "linux"))]
mod host;
mod ipv6;
mod remarks;
mod resolv_conf;

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use abilities::{Abilities, HostAbilities};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use host::{ipv6_is_off, look_for_ipv6, loopback_by, probe_by};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use host::{loopback, probe, probe_in};
pub use ipv6::Ipv6;
pub use resolv_conf::{NameServer, Resolvers};

use crate::model::Note;
use crate::net::{Family, FamilyName, InterfaceName, InterfacePattern, Uid};

/// What is known of the host.
///
/// ```
/// use kumatp::facts::Facts;
/// use kumatp::net::Uid;
///
/// let facts = Facts::capable_host(Uid::SIDECAR);
/// let json = serde_json::to_string(&facts)?;
/// assert_eq!(serde_json::from_str::<Facts>(&json)?, facts);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Facts {
    /// The user that the sidecar runs as.
    pub sidecar_uid: Uid,
    /// The loopback interface.
    #[serde(default = "InterfacePattern::lo")]
    pub loopback: InterfacePattern,
    /// The name servers of the host; unset if nobody looked, which only matters if their queries
    /// are to be redirected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolvers: Option<Resolvers>,
    /// What there is of IPv6.
    #[serde(default)]
    pub ipv6: Ipv6,
    /// What the host can do for IPv4.
    #[serde(default, rename = "ipv4Abilities")]
    pub v4: Abilities,
    /// What the host can do for IPv6.
    #[serde(default, rename = "ipv6Abilities")]
    pub v6: Abilities,
    /// What was noticed while looking, as text.
    #[serde(default, with = "remarks", skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<Note>,
}

/// Which facts are wanted, so that nothing is looked at that nobody needs.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Request {
    /// The sidecar's user, a uid or a name; if unset, uid 5678 or the user `kuma-dp`.
    pub user: Option<String>,
    /// Take the user as it is given, without looking it up: the caller runs as a CNI plugin, so the
    /// users here are those of the host and not of the workload.
    pub cni: bool,
    /// The `resolv.conf` to read the name servers from; unset if they are not needed.
    pub resolv_conf: Option<PathBuf>,
    /// Whether it matters what there is of IPv6.
    pub ipv6: bool,
}

impl Facts {
    /// A host that can do everything, with IPv6, without Docker, whose name servers nobody looked
    /// for.
    pub fn capable_host(sidecar_uid: Uid) -> Self {
        Self {
            sidecar_uid,
            loopback: InterfacePattern::lo(),
            resolvers: None,
            ipv6: Ipv6::Usable,
            v4: Abilities::default(),
            v6: Abilities::default(),
            remarks: Vec::new(),
        }
    }

    /// What the host can do for a family.
    pub fn abilities<F: Family>(&self) -> &Abilities {
        match F::NAME {
            FamilyName::V4 => &self.v4,
            FamilyName::V6 => &self.v6,
        }
    }
}

impl Resolvers {
    /// The servers of a family, in the order of the file.
    pub fn of<F: Family>(&self) -> impl Iterator<Item = F::Addr> {
        self.by_interface::<F>().map(|(addr, _)| addr)
    }

    /// The same, each with the interface by which it is asked, if it has to be that one.
    pub fn by_interface<F: Family>(&self) -> impl Iterator<Item = (F::Addr, Option<&InterfaceName>)> {
        self.servers.iter().filter_map(|server| Some((F::from_ip(server.addr)?, server.interface.as_ref())))
    }

    /// Servers that were not read from a file.
    pub fn new(servers: impl IntoIterator<Item = IpAddr>) -> Self {
        Self { path: PathBuf::new(), servers: servers.into_iter().map(NameServer::from).collect(), skipped: Vec::new() }
    }
}
