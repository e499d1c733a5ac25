//! Kuma's `Dataplane` resource, as far as it is about the transparent proxy.

mod backends;
pub(in crate::config) mod reader;
mod transparent;

pub use backends::{BackendKind, BackendRef, BackendSelector, ReachableBackends};
pub use transparent::{ResourceFamilyMode, TransparentProxying};
