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
//!     "redirectPortInbound": 15006, "redirectPortOutbound": 15001,
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
//! The answer is that of Kuma: the listeners of virtual addresses that the sidecar gets. It gets none where Kuma takes
//! the workload for one without a transparent proxy: without the section `transparentProxying`, without a redirect
//! port, and with `ipFamilyMode: IPv4` at an address that is none. [`Reachability::by_flag`] is for a kuma-dp that says
//! by a flag that there is one, as on Kubernetes; then the section counts for its lists only. It is also for a kuma-dp
//! with `--bind-outbounds`, which gets the same listeners at other addresses.
//!
//! Kuma 3 is not released yet. `kuma-3` is its state of August 2026 (348b6528bc23).
//!
//! | `reachableBackends` | `kuma-3` | `kuma-2.9` |
//! |---|---|---|
//! | absent | every backend of the mesh | the same; none if `reachableServices` names any, or if the mesh has `meshServices.mode: ReachableBackends` |
//! | empty | none | none |
//! | references | the union of what they match | the same |
//! | a reference by name | the kind, the label `kuma.io/display-name` and, if one is given or the workload has one, `k8s.kuma.io/namespace` must match | the kind, the name, and the namespace and the zone of the workload must match |
//! | a reference by labels | the kind and all the labels must match | the same |
//! | several matches | see below: Kuma chooses | all of them |
//! | no port, or 0 | the first port that has no name; all ports of a destination whose ports all have names | all ports; none for 0 |
//! | a port that a destination has, by number or name | that port, the first of those in its list | that port, by number before by name |
//! | a port that it does not have | all its ports | none |
//! | a port, and a `MeshExternalService` | its port, whatever is asked for | its port, if it is the one asked for |
//! | a `MeshService` named `a_b_svc_80`, no namespace given | `a` in namespace `b`, port 80 | nothing special |
//! | `networking.outbound[].backendRef` that matches anything | takes the place of `reachableBackends` | no effect |
//!
//! | `reachableServices` | `kuma-3` | `kuma-2.9` |
//! |---|---|---|
//! | absent or empty | no service: Kuma 3 makes no listeners for `kuma.io/service` | every service |
//! | a list | the same: the key has no effect, and a note says so | the values of `kuma.io/service` in the list |
//!
//! Only the mesh of the workload counts. An address and port that the workload's own inbound has gets no listener, where
//! the resources tell their virtual addresses.
//!
//! # What Kuma leaves to chance
//!
//! Kuma 3 goes through the matches of a reference in an order that changes from one time to the next, and the first that
//! has the port ends the search: the port that is asked for, or one without a name where none is. What comes before it
//! adds all its ports. So of several services with the port, Kuma takes one; [`Reachability::backends`] has only
//! what is reachable whatever Kuma takes, [`Reachability::by_chance`] has the rest, and [`Reachability::choices`] says
//! for each reference what excludes what. To have all of them, name each in a reference of its own.
//!
//! # Where the answer differs from Kuma's on purpose
//!
//! - A host name as the address of a workload with `ipFamilyMode: IPv4` is treated as an IPv4 address, and a warning says
//!   that Kuma looks it up: nobody knows the answer here.
//! - A backend whose status has no virtual address is treated as one that gets one: a file can be asked about before
//!   it is applied.
//! - Labels that the control plane adds to what it stores, such as `kuma.io/zone`, are compared as they are in the
//!   files. A reference that asks for one that no resource has matches nothing, and its warning says why. In `kuma-2.9`
//!   the zone is not compared where that of the workload is not known.
//! - In `kuma-2.9` there are no backends without redirect ports either, although Kuma 2.9 makes listeners there:
//!   nothing leads to them. Services that traffic permissions make unreachable are not left out.

mod choice;
mod conditions;
mod explain;
mod index;
mod notes;
mod resolve;
mod resources;
mod rule;

pub use choice::Choice;
pub use explain::{Chance, Explanation, Lack, Matched, ReferenceOutcome};
pub use resolve::{Reachability, Reached};
pub use resources::{Backend, BackendPort, Destinations, MeshMode, Resources, Service};
pub use rule::Rule;
