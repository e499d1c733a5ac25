//! Talking to the kernel of a Linux host: sockets, and what is asked and told through them.

mod around;
mod ask;
mod conntrack;
mod decompile;
mod dump;
mod integrity;
mod kernel;
mod leftovers;
mod legacy;
mod legacy_rules;
mod legacy_spec;
mod others;
mod probing;
mod receive;
mod route;
mod sock_diag;
mod socket;
pub(crate) mod tracking;
mod xtables;

pub(crate) use around::{Around, CalledChain};
pub(crate) use ask::DOCKER_OUTPUT;
pub(crate) use conntrack::Tuple;
pub(crate) use dump::OwnTables;
pub(crate) use integrity::Integrity;
pub(crate) use kernel::Kernel;
pub(crate) use leftovers::Leftovers;
pub(crate) use legacy::{LegacyView, legacy_table_exists};
pub(crate) use legacy_rules::Marked;
pub(crate) use route::{Interfaces, Trouble, is_absence};
#[cfg(feature = "ebpf")]
pub(crate) use sock_diag::Listener;
pub(crate) use socket::{Socket, Stop};
pub(crate) use xtables::{Extension, legacy_has_extension};
