//! Installing for somebody who starts a workload right after it.

use super::{Netlink, abilities, missing_address, status};
use crate::engine::compare::ExpectedTables;
use crate::engine::install::first_presuming;
use crate::engine::turn::Turn;
use crate::engine::{Report, Status};
use crate::error::Error;
use crate::facts::{self, Facts};
use crate::model::{EngineName, Options, Plan};
use crate::netlink::Kernel;
use crate::nftables::Native;

impl Netlink {
    /// Finds out what is needed, installs, and looks what is in force then: all in one turn and by one way to the kernel, in the
    /// network namespace of the calling thread. `plan` makes the plan from the facts; it is called once or twice.
    ///
    /// # Errors
    /// As [`presuming`](crate::engine::presuming), [`facts::probe`] and [`apply`](crate::engine::Engine::apply).
    pub(crate) fn install(
        &self,
        config: &Options,
        needed: &facts::Request,
        mut plan: impl FnMut(Facts) -> Result<Plan, Error>,
    ) -> Result<(Plan, Report, Status), Error> {
        let kernel = &mut Kernel::default();
        let mut waited = Report::new(EngineName::Netlink);
        let turn = Turn::take(&mut waited)?;
        let presumed = abilities::presumed(kernel, config)?;
        let find_out = || abilities::look(config);
        let (plan, wanted, report) = first_presuming(presumed, find_out, |found| {
            let plan = plan(facts::probe_by(kernel, needed, found)?)?;
            let native = Native::of(&plan);
            let wanted = ExpectedTables::of(&native);
            let report = self.apply_native_in(&turn, kernel, &plan, native, waited.clone())?;
            Ok((plan, wanted, report))
        })?;
        let (found, _) = kernel.netfilter()?.dump(&|family| wanted.of_family(family))?;
        let status = status(&wanted, &found).and(missing_address(kernel, &found.families())?);
        Ok((plan, report, status))
    }
}
