//! What the pictures of a plan show, whatever their syntax.
//!
//! Rulesets become lists of [steps](steps), those of both families one list; [`draw`] makes a [`graph`] of them.

mod draw;
mod graph;
mod labels;
mod steps;

pub(super) use graph::{Graph, Kind, Node, NodeId};

use crate::model::{Plan, Ruleset};
use crate::net::Family;
use steps::Steps;

/// The picture of both families' rules.
pub(super) fn plan(plan: &Plan) -> Graph {
    let v4 = Steps::of(&plan.v4);
    match &plan.v6 {
        Some(v6) => draw::draw(&Steps::merged(v4, Steps::of(v6)), "IPv4 and IPv6"),
        None => draw::draw(&v4, "IPv4"),
    }
}

/// The picture of one family's rules.
pub(super) fn ruleset<F: Family>(ruleset: &Ruleset<F>) -> Graph {
    draw::draw(&Steps::of(ruleset), &F::NAME.to_string())
}

#[cfg(test)]
mod tests;
