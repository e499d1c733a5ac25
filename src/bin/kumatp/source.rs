//! The rules that are asked about.

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::EngineName;
use kumatp::simulate::{AnyPacket, Simulator};
use kumatp::{Facts, Plan, policy};

use crate::commands::warn;
use crate::host::Target;
use crate::{Failure, input};

/// Where rules come from; a [`Simulator`] borrows them.
pub(crate) enum Source {
    /// A plan, as an engine would make it work.
    Plan(Box<Plan>, EngineName),
}

impl Source {
    /// The rules that `explain` asks about.
    pub(crate) fn of(matches: &ArgMatches, _packet: &AnyPacket) -> Result<Self, Failure> {
        let (mut config, notes) = input::layered(matches, None)?;
        warn(&notes, config.verbose);
        config.dry_run = true;
        let target = Target::of(matches, EngineName::Netlink)?;
        let facts = target.facts(&config, &*target.engine()?)?;
        Self::plan(&config, &facts, target.engine)
    }

    /// The rules that `diff` compares.
    pub(crate) fn two(matches: &ArgMatches, a: &str, b: &str) -> Result<(Self, Self), Failure> {
        let target = Target::of(matches, EngineName::Netlink)?;
        let (mut a, notes) = input::layered(matches, Some(a))?;
        warn(&notes, a.verbose);
        let (mut b, more) = input::layered(matches, Some(b))?;
        // What is wrong with the environment has been said.
        let more: Vec<_> = more.into_iter().filter(|note| !notes.contains(note)).collect();
        warn(&more, b.verbose);
        (a.dry_run, b.dry_run) = (true, true);
        let (facts, others) = target.facts_of_both(&a, &b)?;
        Ok((Self::plan(&a, &facts, target.engine)?, Self::plan(&b, &others, target.engine)?))
    }

    fn plan(config: &Config, facts: &Facts, engine: EngineName) -> Result<Self, Failure> {
        let plan = policy::plan(config, facts)?;
        warn(&plan.notes, config.verbose);
        Ok(Self::Plan(Box::new(plan), engine))
    }

    pub(crate) fn simulator(&self) -> Simulator<'_> {
        match self {
            Self::Plan(plan, engine) => Simulator::of(plan, *engine),
        }
    }
}
