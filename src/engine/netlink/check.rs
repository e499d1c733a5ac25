//! Asking the kernel about rules without making them.

use super::{Netlink, problem};
use crate::engine::compare::ExpectedTables;
use crate::error::Error;
use crate::model::Plan;
use crate::net::FamilyName;
use crate::netlink::{Batch, Socket};
use crate::nftables::Native;

impl Netlink {
    /// Has the kernel check the plan's rules, in full and in place of those that are there, and changes
    /// nothing: it gets the batch of an installation without its end, and gives it up.
    ///
    /// # Errors
    /// What an installation would fail with; [`Error::Permission`] without `CAP_NET_ADMIN`.
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        self.run(|| {
            let native = Native::of(plan);
            let wanted = ExpectedTables::of(&native);
            let mut batch = Batch::new(None);
            for family in FamilyName::ALL {
                if let Some(content) = wanted.of_family(family) {
                    batch.remove(family);
                    batch.add(family, content);
                }
            }
            let failures = Socket::open()?.send(&batch.rehearse())?.failures;
            match failures.first() {
                None => Ok(()),
                Some(first) => Err(problem::explain(first, failures.len() - 1, Some(&native))),
            }
        })
    }
}
