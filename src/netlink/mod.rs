//! nf_tables over netlink: kumatp's tables as messages to the kernel, and back.
//!
//! The way there is [`Native`](crate::nftables::Native) → [`KernelTable`] → [`Batch`]; the way back is a
//! dump → [`KernelTable`]. What is wanted and what is there are compared as `KernelTable`, so bytes that the
//! kernel adds, and the order of its attributes, do not matter.
//!
//! What a dump says can also be lifted back to the native form, so that an installation is compared with
//! what it says of itself. Whoever installs or removes looks at tables of other programs in two places only: for
//! Docker's chain, and for what iptables installations of ours or kumactl's left, which is removed with our
//! own batch. What else is in force is read only to explain a packet, and from it what
//! rules of other programs do, as far as that is understood.
//!
//! Encoding and decoding are pure and work on any system; the `Socket` needs Linux and the feature
//! `host`.

mod batch;
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "some are only for reading from a socket")
)]
mod constants;
mod decode;
mod elements;
mod expression;
#[cfg(all(feature = "host", target_os = "linux"))]
mod host;
mod kernel_table;
mod reply;
mod wire;

pub use batch::{Batch, Finished, Object};
pub use decode::{Dump, InvalidDump};
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use host::*;
pub use kernel_table::KernelTable;
pub use reply::{BatchReply, Failure};

#[cfg(test)]
mod tests;
