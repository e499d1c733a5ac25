//! Engines: what carries a plan out on a host. All stand behind one trait.
//!
//! Real ones need Linux and the feature `host`; [`fake`] is for tests, and needs nothing.

mod compare;
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
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "not everything is looked for where there is no host")
)]
mod holders;
#[cfg(all(feature = "host", target_os = "linux"))]
mod install;
#[cfg(all(feature = "host", target_os = "linux"))]
mod installed;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod iptables;
#[cfg(all(feature = "host", target_os = "linux"))]
mod left_open;
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
mod record;
#[cfg(all(feature = "host", target_os = "linux"))]
mod replace;
#[cfg(all(feature = "host", target_os = "linux"))]
pub mod resolv_backup;
#[cfg(all(feature = "host", target_os = "linux"))]
mod state;
#[cfg(all(feature = "host", target_os = "linux"))]
mod turn;
#[cfg(all(feature = "host", target_os = "linux"))]
mod uninstall;

use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};

#[cfg(all(feature = "host", target_os = "linux"))]
pub use earlier::EarlierChain;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use install::presuming;
#[cfg(all(feature = "host", target_os = "linux"))]
pub use installed::{Installed, installed};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use replace::{install_all, replace_all, replace_all_by};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use state::{Installation, State, engine_there, state, state_with};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use uninstall::uninstall_all;

/// What carries plans out on a host.
///
/// Installations and uninstallations of the real engines take turns in a network namespace, whichever engine they are by: one waits for
/// another that is under way, for a minute at most.
pub trait Engine {
    /// Which engine it is.
    fn name(&self) -> EngineName;

    /// What the host can do with this engine; reads, never changes. What cannot be looked at for want
    /// of a privilege is taken to be there, and a remark says so.
    ///
    /// # Errors
    /// If the engine cannot work on this host at all; never for a dry run ([`Options::dry_run`]), whose
    /// plan is for a capable host unless the real one was seen to be another.
    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error>;

    /// What an installation may begin with: as [`abilities`](Self::abilities), but what could only be found out by trying is
    /// taken to be there, since the installation itself tries it.
    ///
    /// # Errors
    /// As [`abilities`](Self::abilities).
    fn presumed(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.abilities(config)
    }

    /// Makes the plan's rules the ones that are in force, replacing an older installation.
    ///
    /// # Errors
    /// Whatever the error, the rules are those from before, unless the error says otherwise.
    fn apply(&self, plan: &Plan) -> Result<Report, Error>;

    /// Removes what any version of ours, or kumactl, has installed, and nothing else. Of the
    /// configuration only what concerns the engine itself matters: programs, waiting, retries, and
    /// `dry_run`, with which the report has what would be removed and nothing is changed. `::6` on the loopback interface stays
    /// where an installation of another engine needs it, or nobody can tell; a note says so.
    ///
    /// # Errors
    /// If something could not be removed.
    fn uninstall(&self, config: &Options) -> Result<Report, Error>;
}

/// How what is installed compares with a plan.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Status {
    /// Nothing is installed.
    Absent,
    /// What is installed is what the plan asks for or, without one, what was installed.
    Current,
    /// Something else is installed, or it has been changed.
    Drifted {
        /// What is different, in words; never empty.
        differences: Vec<String>,
    },
    /// Something is installed, and there is nothing to compare it with, or no way to.
    Uncompared {
        /// Why not, in words.
        reason: String,
    },
}

impl Status {
    /// The same, with another difference if there is one; nothing can be missing of what is absent.
    pub(crate) fn and(self, difference: Option<String>) -> Self {
        match (self, difference) {
            (Self::Drifted { mut differences }, Some(difference)) => {
                differences.push(difference);
                Self::Drifted { differences }
            }
            (Self::Current | Self::Uncompared { .. }, Some(difference)) => {
                Self::Drifted { differences: vec![difference] }
            }
            (status, _) => status,
        }
    }

    /// The status of something that is there and differs in this.
    pub(crate) fn of(differences: Vec<String>) -> Self {
        match differences.is_empty() {
            true => Self::Current,
            false => Self::Drifted { differences },
        }
    }
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The engine that did it.
    pub engine: EngineName,
    /// Whether anything is different now.
    pub changed: bool,
    /// The steps, in order, each in the past tense: `added ::6/128 to lo`.
    pub steps: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<Note>,
}

impl Report {
    /// A report of an engine that has done nothing yet.
    pub fn new(engine: EngineName) -> Self {
        Self { engine, changed: false, steps: Vec::new(), notes: Vec::new() }
    }

    /// Adds a step that changed something.
    pub fn step(&mut self, step: impl Into<String>) {
        self.changed = true;
        self.steps.push(step.into());
    }
}
