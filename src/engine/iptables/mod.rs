//! The engine that runs the distribution's iptables programs.
//!
//! Every family gets one text for `iptables-restore --noflush`: it takes our older rules away and
//! puts the new ones in, so each table changes in one step. Rules of other programs are never written.

mod backend;
mod child;
mod compare;
mod host;
mod kernel;
mod legacy_tables;
mod listing;
mod locate;
mod ours;
mod program;
mod programs;
mod questions;
mod removal;
mod transaction;
mod uncommented;

use std::ffi::OsStr;
use std::sync::Arc;

use self::host::Host;
use self::locate::Search;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::Options;
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

pub(super) use self::listing::has_ours;
pub(super) use self::programs::Programs;

/// The distribution's iptables programs, in the network namespace of the calling thread or another
/// one.
#[derive(Debug, Clone)]
pub struct Iptables {
    search: Search,
    namespace: Option<Arc<Namespace>>,
}

impl Default for Iptables {
    /// Looks for the programs in the absolute directories of the environment variable `PATH`, and
    /// then in `/usr/sbin`, `/sbin`, `/usr/bin` and `/bin`.
    fn default() -> Self {
        Self { search: Search::path(&std::env::var_os("PATH").unwrap_or_default()).and_usual(), namespace: None }
    }
}

impl Iptables {
    /// Looks for the programs in these directories only, given in the form of `PATH`. Those that are
    /// not absolute are left out.
    pub fn in_path(path: impl AsRef<OsStr>) -> Self {
        Self { search: Search::path(path.as_ref()), namespace: None }
    }

    /// Works in another network namespace: the programs are started there. They are those of the
    /// caller's file system. The caller's thread stays where it is.
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(Arc::new(namespace));
        self
    }

    /// The programs, for one operation.
    pub(super) fn programs(&self) -> Programs {
        Programs::new(&self.search)
    }

    /// The abilities that the engine has in the network namespace of the calling thread, the programs' part of it included.
    pub(super) fn abilities_in(&self, kernel: &mut Kernel, config: &Options) -> Result<HostAbilities, Error> {
        Host::new(&self.programs(), config, kernel).thorough().abilities()
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_deref(), work)
    }
}
