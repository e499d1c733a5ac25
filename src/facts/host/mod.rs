//! Looking at a Linux host.

mod ipv6;
mod probe;
mod users;

pub(crate) use ipv6::look as look_for_ipv6;
pub(crate) use probe::{ipv6_is_off, loopback_by, probe_by};
pub use probe::{loopback, probe, probe_in};
