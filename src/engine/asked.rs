//! What back ends are asked about.

use std::cell::OnceCell;

use super::compare::ExpectedTables;
use super::record::Record;
use crate::model::{Options, Plan};
use crate::nftables::Native;

/// What a back end is asked about, and with what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    #[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "only the engine ebpf has a place that is chosen"))]
    pub(super) config: &'a Options,
    pub(super) record: &'a Record,
}

/// A question about what is installed, and the plan that it is to be compared with, if there is one.
pub(super) struct Asked<'a> {
    pub(super) question: Question<'a>,
    pub(super) plan: Option<&'a Plan>,
    /// Only needed if there is something of ours.
    expected: OnceCell<ExpectedTables>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(config: &'a Options, record: &'a Record, plan: Option<&'a Plan>) -> Self {
        Self { question: Question { config, record }, plan, expected: OnceCell::new() }
    }

    /// What is to be in our tables by the plan.
    pub(super) fn expected(&self) -> Option<&ExpectedTables> {
        let plan = self.plan?;
        Some(self.expected.get_or_init(|| ExpectedTables::of(&Native::of(plan))))
    }
}
