//! Looking at a Linux host.

mod ipv6;
mod reader;
mod users;

pub(crate) use ipv6::look as look_for_ipv6;
pub(crate) use reader::{ipv6_is_off, loopback_by, probe_by};
pub use reader::{loopback, probe, probe_in};
