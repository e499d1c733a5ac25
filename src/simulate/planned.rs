//! A plan in the form in which it gets installed.

use super::Simulator;
use crate::model::{EngineName, Plan};
use crate::nftables::Native;

/// A plan with its rules as an engine installs them, so that they can be compared with those that are installed, rule by
/// rule; a [`Simulator`] borrows them.
///
/// The rules of [`Simulator::of`] are iptables' for either engine, which are the ones that people know.
///
/// ```
/// use kumatp::model::EngineName;
/// use kumatp::simulate::{Planned, Simulator};
/// # use kumatp::{Config, Facts, net::Uid, policy};
///
/// let plan = policy::plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR))?;
/// let planned = Planned::by(EngineName::Netlink, plan);
/// let nothing = Simulator::of_saved(None, None)?;
/// let diff = nothing.diff(&planned.simulator());
/// assert_eq!(diff.added[0].table, "ip kuma-mesh");
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Planned {
    plan: Plan,
    engine: EngineName,
    native: Option<Native>,
}

impl Planned {
    /// The plan, to be installed by this engine.
    pub fn by(engine: EngineName, plan: Plan) -> Self {
        let native = (engine == EngineName::Netlink).then(|| Native::of(&plan));
        Self { plan, engine, native }
    }

    /// Its rules.
    pub fn simulator(&self) -> Simulator<'_> {
        match &self.native {
            Some(native) => Simulator::of_native(native).knowing(&self.plan),
            None => Simulator::of(&self.plan, self.engine),
        }
    }
}
