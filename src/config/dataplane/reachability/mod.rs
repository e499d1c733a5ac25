//! What a workload may reach: the references of its `Dataplane` against the resources of its mesh.
//!
//! [`Resources`] collects documents into [`Destinations`]; [`Reachability`] holds them against a
//! [`Dataplane`](super::Dataplane) in one pass over an index, and [`Reachability::explain`] says why.
//!
//! ```
//! use kumatp::config::dataplane::reachability::{Reachability, Resources};
//! use kumatp::config::dataplane::Dataplane;
//! use kumatp::config::{Format, Profile};
//!
//! let mut resources = Resources::new();
//! for (name, port) in [("redis", 6379), ("elastic", 9200)] {
//!     let text = format!(r#"{{"type": "MeshService", "name": "{name}", "spec": {{"ports": [{{"port": {port}}}]}}}}"#);
//!     resources.document(name, &text, Format::Json);
//! }
//! let (destinations, _) = resources.finish()?;
//!
//! let text = r#"{"type": "Dataplane", "name": "web", "networking": {"transparentProxying": {
//!     "reachableBackends": {"refs": [{"kind": "MeshService", "name": "redis", "port": 6379}]}}}}"#;
//! let (dataplane, _) = Dataplane::parse(text, Format::Json)?;
//!
//! let reachability = Reachability::of(&dataplane, &destinations, Profile::Kuma3);
//! let reached: Vec<_> = reachability.backends().map(|reached| reached.backend.name.as_str()).collect();
//! assert_eq!(reached, ["redis"]);
//!
//! let why_not = reachability.explain("elastic").remove(0);
//! assert_eq!(
//!     why_not.to_string(),
//!     "MeshService elastic is not reachable: no item of reachableBackends matches\n  \
//!      refs[0] (MeshService redis, port 6379) needs the label kuma.io/display-name=redis; here it is elastic"
//! );
//! # Ok::<(), kumatp::Error>(())
//! ```
//!
//! # What is reachable
//!
//! | `reachableBackends` | `kuma-3` | `kuma-2.9` |
//! |---|---|---|
//! | absent | every backend of the mesh | the same; none if `reachableServices` names any, or if the mesh has `meshServices.mode: ReachableBackends` |
//! | empty | none | none |
//! | references | the union of what they match | the same |
//! | a reference by name | the kind, the label `kuma.io/display-name` and, if one is given or the workload has one, `k8s.kuma.io/namespace` must match | the kind, the name, and the namespace and the zone of the workload must match |
//! | a reference by labels | the kind and all the labels must match | the same |
//! | a port that a destination has, by number or name | that port | that port |
//! | a port that it does not have | all its ports | none |
//! | a port, and a `MeshExternalService` | its port, whatever is asked for | its port, if it is the one asked for |
//! | a `MeshService` named `a_b_svc_80`, no namespace given | `a` in namespace `b`, port 80 | nothing special |
//! | `networking.outbound[].backendRef` that matches anything | takes the place of `reachableBackends` | no effect |
//!
//! | `reachableServices` | `kuma-3` | `kuma-2.9` |
//! |---|---|---|
//! | absent or empty | every service | every service |
//! | a list | every service: the key has no effect, and a note says so | the values of `kuma.io/service` in the list |
//!
//! A `Dataplane` without the section `transparentProxying` is not filtered at all. Only the mesh of the workload counts.
//!
//! Kuma 3 stops a reference at the first destination whose port matches, in an order that changes from one run to the
//! next. Here all matches count, in a fixed order, and a note says where Kuma takes one of several. It also
//! takes a port without a name for the one that is meant where a reference names no port; here such a
//! reference means all ports.
//!
//! What depends on more than these resources is left out: services that traffic permissions make unreachable
//! (`kuma-2.9`), and addresses that are the workload's own inbounds. Where the zone of the workload is not known, it
//! is not compared.

mod explain;
mod resolve;
mod resources;
mod wanted;

pub use explain::{Explanation, Lack, Matched, ReferenceOutcome};
pub use resolve::{Reachability, Reached, Rule};
pub use resources::{Backend, BackendPort, Destinations, MeshMode, Resources, Service};
