//! Kuma's `Dataplane` resource, as far as it is about the transparent proxy.

mod backends;
mod check;
mod document;
mod host;
mod proxy;
pub mod reachability;
pub(in crate::config) mod reader;
mod resource;
mod template;
mod transparent;

pub use backends::{BackendKind, BackendRef, BackendSelector, ReachableBackends};
pub use document::{Dataplane, DataplaneInbound};
pub use host::compare;
pub use template::fill;
pub use transparent::{ResourceFamilyMode, TransparentProxying};
