//! What every engine offers.

use super::report::Report;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Options, Plan};

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
