//! What decides which backends, or which services, are reachable.

use std::fmt;

use super::super::proxy::Proxied;

/// What decides which backends, or which services, are reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// None: the `Dataplane` has no section `transparentProxying`, so Kuma knows of no transparent proxy.
    NoSection,
    /// None: neither direction has a redirect port.
    NothingRedirected,
    /// None: `ipFamilyMode` is `IPv4`, and the address of the workload is none.
    NotIpv4,
    /// All: kuma-dp says by a flag that there is a transparent proxy, and the `Dataplane` has no section.
    Unfiltered,
    /// All: nothing is said.
    NothingSaid,
    /// None: `reachableBackends` is empty.
    Empty,
    /// What the items of `reachableBackends` match.
    ReachableBackends,
    /// What the items of `networking.outbound` match, in place of `reachableBackends`: `kuma-3`.
    Outbounds,
    /// No backend: the mesh has the mode `ReachableBackends`, and the workload says nothing: `kuma-2.9`.
    MeshMode,
    /// No backend: the workload has `reachableServices` and no `reachableBackends`: `kuma-2.9`.
    OnlyServices,
    /// The services in `reachableServices`: `kuma-2.9`.
    ReachableServices,
    /// No service: `kuma-3` makes no listeners for values of `kuma.io/service`.
    NotInProfile,
}

impl Rule {
    /// Whether everything is reachable by this rule alone.
    pub fn allows_all(self) -> bool {
        matches!(self, Self::Unfiltered | Self::NothingSaid)
    }

    /// Why nothing is reachable, if Kuma takes the workload for one without a transparent proxy.
    pub(super) fn without_proxy(proxied: Proxied) -> Option<Self> {
        match proxied {
            Proxied::Yes | Proxied::IfNameIsIpv4 => None,
            Proxied::NoSection => Some(Self::NoSection),
            Proxied::NothingRedirected => Some(Self::NothingRedirected),
            Proxied::NotIpv4 => Some(Self::NotIpv4),
        }
    }

    /// What messages call the reference at a position.
    pub(super) fn path(self, position: usize) -> String {
        match self {
            Self::Outbounds => format!("networking.outbound, backend {}", position + 1),
            _ => format!("refs[{position}]"),
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSection => "the Dataplane has no transparentProxying, so Kuma makes no outbound listeners",
            Self::NothingRedirected => "neither direction has a redirect port, so Kuma makes no outbound listeners",
            Self::NotIpv4 => {
                "ipFamilyMode is IPv4 and the address of the workload is no IPv4 address, so Kuma makes no outbound \
                 listeners"
            }
            Self::Unfiltered => "the Dataplane has no transparentProxying, so nothing is filtered",
            Self::NothingSaid => "the Dataplane does not say what it reaches, so all is reachable",
            Self::Empty => "reachableBackends is empty, so no backend is reachable",
            Self::ReachableBackends => "reachableBackends lists what is reachable",
            Self::Outbounds => "networking.outbound has backends, which take the place of reachableBackends",
            Self::MeshMode => "the mesh has meshServices.mode ReachableBackends, and there is no reachableBackends",
            Self::OnlyServices => "reachableServices is set and reachableBackends is not, so no backend is reachable",
            Self::ReachableServices => "reachableServices lists what is reachable",
            Self::NotInProfile => "Kuma 3 makes no outbound listeners for values of kuma.io/service",
        })
    }
}
