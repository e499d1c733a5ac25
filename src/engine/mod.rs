//! Engines, which install and remove rules. All stand behind one trait.
//!
//! Real ones need Linux and the feature `host`; [`fake`] is for tests, and needs nothing.

#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "the engine in memory is asked about less")
)]
mod asked;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
mod attached;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "the engine in memory knows all of its host")
)]
mod backend;
#[cfg(all(feature = "host", target_os = "linux"))]
mod by_name;
mod compare;
mod contract;
#[cfg(all(feature = "host", target_os = "linux"))]
mod earlier;
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub mod ebpf;
mod ebpf_unsupported;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "the engine in memory has no failures of its own")
)]
mod failures;
pub mod fake;
#[cfg(all(feature = "host", target_os = "linux"))]
mod ground;
mod installation;
#[cfg(all(feature = "host", target_os = "linux"))]
mod installed;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod iptables;
mod location;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod loopback;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "some are for what is found on a host")
)]
mod messages;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod netlink;
#[cfg(all(feature = "host", target_os = "linux"))]
mod open_connections;
#[cfg(all(feature = "host", target_os = "linux"))]
mod operations;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "nothing has to be noted down where there is no host")
)]
mod passthrough;
#[cfg(all(feature = "host", target_os = "linux"))]
mod presuming;
#[cfg(all(feature = "host", target_os = "linux"))]
mod reader;
#[cfg_attr(
    not(any(test, all(feature = "host", target_os = "linux"))),
    expect(dead_code, reason = "nothing has to be noted down where there is no host")
)]
mod record;
#[cfg(all(feature = "host", target_os = "linux"))]
mod record_store;
mod report;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod resolv_backup;
#[cfg(all(feature = "host", target_os = "linux"))]
mod state;
mod status;
mod takeover;
#[cfg(all(feature = "host", target_os = "linux"))]
mod turn;

#[cfg(all(feature = "host", target_os = "linux"))]
pub use by_name::by_name;
pub use contract::Engine;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use earlier::EarlierChain;
pub use installation::Installation;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use installed::installed;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use operations::{install_all, replace_all, replace_all_by, uninstall_all};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use presuming::presuming;
pub use report::Report;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use state::{State, engine_there, state, state_with};
pub use status::Status;
