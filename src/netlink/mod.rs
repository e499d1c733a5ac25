//! nf_tables over netlink: our tables as messages to the kernel, and back.
//!
//! The way there is [`Native`](crate::nftables::Native) → [`KernelTable`] → [`Batch`]; the way back is a
//! dump → [`KernelTable`]. What is wanted and what is there are compared as `KernelTable`, so bytes that the
//! kernel adds, and the order of its attributes, do not matter.
//!
//! What a dump says can also be lifted back to the native form, so that an installation is compared with
//! what it says of itself. Whoever installs or removes looks at tables of others in two places only: for
//! Docker's chain, and for what iptables installations of ours or kumactl's left, which is removed with our
//! own batch. What else is in force is read where somebody asks what becomes of a packet, and from it what
//! rules of others do, as far as that is understood.
//!
//! Encoding and decoding are pure and work on any system; the `Socket` needs Linux and the feature
//! `host`.

#[cfg(all(feature = "host", target_os = "linux"))]
mod around;
#[cfg(all(feature = "host", target_os = "linux"))]
mod ask;
mod batch;
#[cfg(all(feature = "host", target_os = "linux"))]
mod conntrack;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "some are only for reading from a socket")
)]
mod constants;
mod decode;
#[cfg(all(feature = "host", target_os = "linux"))]
mod decompile;
mod elements;
mod expression;
#[cfg(all(feature = "host", target_os = "linux"))]
mod integrity;
#[cfg(all(feature = "host", target_os = "linux"))]
mod kernel;
mod kernel_table;
#[cfg(all(feature = "host", target_os = "linux"))]
mod leftovers;
#[cfg(all(feature = "host", target_os = "linux"))]
mod legacy;
#[cfg(all(feature = "host", target_os = "linux"))]
mod legacy_rules;
#[cfg(all(feature = "host", target_os = "linux"))]
mod legacy_spec;
#[cfg(all(feature = "host", target_os = "linux"))]
mod others;
#[cfg(all(feature = "host", target_os = "linux"))]
mod receive;
mod reply;
#[cfg(all(feature = "host", target_os = "linux"))]
mod route;
#[cfg(all(feature = "host", target_os = "linux"))]
mod sock_diag;
#[cfg(all(feature = "host", target_os = "linux"))]
mod socket;
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) mod tracking;
mod wire;
#[cfg(all(feature = "host", target_os = "linux"))]
mod xtables;

#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use around::{Around, CalledChain};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use ask::DOCKER_OUTPUT;
pub use batch::{Batch, Finished, Object};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use conntrack::Tuple;
pub use decode::{Dump, InvalidDump};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use integrity::Integrity;
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use kernel::Kernel;
pub use kernel_table::KernelTable;
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use leftovers::Leftovers;
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use legacy::{LegacyView, legacy_table_exists};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use legacy_rules::Marked;
pub use reply::{BatchReply, Failure};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use route::{Interfaces, Trouble, is_absence};
#[cfg(all(feature = "ebpf", target_os = "linux"))]
pub(crate) use sock_diag::Listener;
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use socket::{OwnTables, Socket, Stop};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use xtables::{Extension, legacy_has_extension};

#[cfg(test)]
mod tests;
