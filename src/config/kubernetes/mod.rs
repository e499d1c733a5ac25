//! Kuma on Kubernetes: the annotations of a pod, over ConfigMaps, over the control plane's settings.
//!
//! [`Sources`] takes what there is and [`Sources::resolve`] says which [`Config`] comes of it, from where each setting
//! came, and what it won against. Nothing is read but what is given: no cluster, no file, no environment.
//!
//! ```
//! # #[cfg(feature = "yaml")] {
//! use kumatp::config::{Format, kubernetes::Sources};
//!
//! let mut sources = Sources::new();
//! sources.pod_document(
//!     r#"
//! apiVersion: v1
//! kind: Pod
//! metadata:
//!   name: web
//!   annotations:
//!     traffic.kuma.io/exclude-inbound-ports: "8081"
//! "#,
//!     Format::Yaml,
//! );
//! sources.control_plane([
//!     ("KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS".to_owned(), "22".to_owned()),
//!     ("KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND".to_owned(), "15101".to_owned()),
//! ]);
//! sources.config_map("redirect: {dns: {enabled: true, captureAll: true}}", Format::Yaml);
//! let resolved = sources.resolve()?;
//!
//! // 9001 is where the sidecar serves the application's probes.
//! assert_eq!(resolved.config.redirect.inbound.exclude_ports.to_string(), "8081,9001");
//! assert_eq!(resolved.config.redirect.outbound.port.number(), 15101);
//! assert_eq!(
//!     resolved.origin("redirect.inbound.excludePorts").unwrap().to_string(),
//!     "redirect.inbound.excludePorts = [8081,9001]: annotation traffic.kuma.io/exclude-inbound-ports; \
//!      with 9001 (control plane's default, KUMA_RUNTIME_KUBERNETES_APPLICATION_PROBE_PROXY_PORT); \
//!      not [22] (control plane, KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS)"
//! );
//! # }
//! # Ok::<(), kumatp::Error>(())
//! ```
//!
//! # Who wins
//!
//! | setting | order |
//! |---|---|
//! | excluded ports and addresses | annotation, ConfigMap, control plane, default; an empty one is treated as none |
//! | `ipFamilyMode` | annotation, ConfigMap if it is not `dualstack`, control plane |
//! | `redirect.{inbound,outbound,dns}.port` | control plane; the ConfigMap's has no effect |
//! | `kumaDPUser`, `cniMode` | control plane, always |
//! | `redirect.dns.enabled` | ConfigMap; the control plane's has no effect |
//! | `dropInvalidPackets`, `log.enabled`, `redirect.outbound.excludePortsForUIDs` | annotation if present, ConfigMap |
//! | `redirect.inbound.enabled` | off for a gateway, else ConfigMap |
//! | all other keys | ConfigMap |
//!
//! Where inbound traffic is redirected, `redirect.inbound.excludePorts` has besides the port of the application probe
//! proxy, or where that is 0 the ports that the pod's probes go to; and the sidecar's readiness port where Envoy's
//! administration listens on a Unix socket. Where it is not (a gateway), the inbound port and exclusions are the
//! ConfigMap's.
//!
//! The keys of the ConfigMap that `traffic.kuma.io/transparent-proxy-configmap-name` names come over all that, except
//! for `kumaDPUser` and `cniMode`. In [`Profile::Kuma29`] it takes the place of the system ConfigMap instead. Kuma's own
//! CNI plugin leaves it out, while the sidecar honours it; here it always counts.
//!
//! A pod that the injector has been at carries the result in `traffic.kuma.io/transparent-proxy-config`
//! ([`to_annotation`] writes it). Where that annotation is present, **it is the configuration**, and only the ConfigMap
//! of the pod's namespace comes over it.
//!
//! # Profiles
//!
//! [`Profile::Kuma29`] reads the annotations that Kuma 3 has dropped. Without a ConfigMap (none given, and none named by
//! the control plane) it follows the older way of delivery: `kuma.io/builtin-dns` and the control plane decide on DNS,
//! whose redirection then takes all queries; and on an injected pod the ports and the uid are those of its annotations.
//!
//! # What a tenant may not decide
//!
//! Annotations and the ConfigMap of the pod's namespace are written by the tenant, but a CNI plugin acts on them in the
//! operator's name. In those two places
//!
//! - `redirect.dns.resolvConfigPath`, `storeFirewalld` and `iptablesExecutables` are refused: they name files and
//!   programs of the host;
//! - `dryRun` is refused: it would leave the pod without rules while its installation reports success;
//! - `kumaDPUser` must be a uid: a name would be looked up on the host;
//! - `wait` may be 300 at most, `retry.maxRetries` 20, `retry.sleepBetweenRetries` 15 seconds: they hold up the node.
//!
//! A value that only repeats what the system ConfigMap says, or the default, is no problem; so whoever sets one of
//! these in the system ConfigMap gives that to [`Sources`] together with the injected pod. What concerns nothing but the
//! pod's own traffic is the tenant's to decide, as in Kuma: exclusions, logging, switching a direction off.
//!
//! # Differences from Kuma
//!
//! - The control plane's family mode counts. In Kuma the ConfigMap's default always hides it.
//! - A DNS port of 0 is taken where DNS is not redirected, and becomes the default.
//! - `traffic.kuma.io/exclude-outbound-ports-for-uids` may not have an empty item, which would exclude every user.
//! - `kuma.io/gateway: provided` makes a gateway.
//! - Blanks around addresses are trimmed, and a port that is excluded already is not added once more.
//! - Values that Kuma 2.9 passes over where they are not valid are refused.

mod annotations;
mod candidates;
mod config_map;
mod control_plane;
mod injected_annotation;
mod origin;
mod pod;
mod precedence;
mod read;
mod resolve;
mod section;
mod sources;
mod tenant_limits;

pub use annotations::Annotation;
#[cfg(all(feature = "cni", target_os = "linux"))]
pub(crate) use annotations::{CONFIG, CONFIG_MAP_NAME, INJECTED};
pub use control_plane::Variable;
pub use injected_annotation::to_annotation;
pub use origin::{Contribution, Origin, SettingSource};
pub use pod::{Container, Pod};
#[cfg(all(feature = "cni", target_os = "linux"))]
pub(crate) use pod::{INIT, SIDECAR};
pub use section::transparent_proxying;
pub use sources::{Resolved, Sources};

#[cfg(doc)]
use crate::config::{Config, Profile};

#[cfg(test)]
mod tests;
