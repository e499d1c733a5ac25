//! From the text of iptables-save to a program.

use std::collections::HashMap;
use std::sync::Arc;

use super::compile;
use super::outcome::Place;
use super::program::{Act, Base, Code, Line, Program, Test};
use crate::config::ChainPair;
use crate::error::Error;
use crate::model::{ChainName, Comment, TableName, Target};
use crate::net::Family;
use crate::nftables::{ChainType, priority};
use crate::save::{PartialMatch, PartialTarget, Saved, SavedRule, SavedTable};

/// Which rules of a text count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Everybody's.
    All,
    /// Ours, and kumactl's.
    Ours,
}

impl<'r> Program<'r> {
    /// The rules that a text has.
    ///
    /// # Errors
    /// [`Error::Config`] if the text has a table that is none of iptables', or inserts a rule below rules that it does not have.
    pub(super) fn of_saved<F: Family>(saved: &'r Saved<F>, whose: Whose) -> Result<Self, Error> {
        let mut program = Self::default();
        for table in &saved.tables {
            let name: TableName = table
                .name
                .parse()
                .map_err(|error: crate::error::InvalidValue| Error::Config(vec![error.at("table")]))?;
            program.add_saved(table, name, whose)?;
        }
        Ok(program)
    }

    fn add_saved<F: Family>(&mut self, table: &'r SavedTable<F>, name: TableName, whose: Whose) -> Result<(), Error> {
        let chains = table.in_effect()?;
        let first = self.chains.len();
        let places: HashMap<&str, usize> = chains.keys().enumerate().map(|(at, name)| (*name, first + at)).collect();
        for (chain, rules) in &chains {
            let ours = |rule: &&SavedRule<F>| whose == Whose::All || TableName::OURS.contains(&name) && is_ours(rule);
            let lines = rules.iter().copied().filter(ours).enumerate().map(|(index, rule)| {
                let parts = rule.parts();
                Line {
                    tests: parts.matches.iter().flat_map(test).collect(),
                    act: act(parts.target, &places),
                    place: Place::rule(F::NAME, name.as_str(), chain, index, rule),
                }
            });
            self.chains.push(Code::new(lines.collect()));
            let builtin = chain.parse::<ChainName>().ok().and_then(|chain| chain.builtin());
            if let Some(hook) = builtin {
                let kind = if name == TableName::Nat { ChainType::Nat } else { ChainType::Filter };
                let drops = |policy: &String| policy == "DROP" && whose == Whose::All;
                let declared = table.chains.iter().find(|declared| declared.name == *chain);
                let policy = declared
                    .filter(|declared| declared.policy.as_ref().is_some_and(drops))
                    .map(|_| Place::added(F::NAME, name.as_str(), hook.as_str(), "the policy is DROP"));
                let priority = priority(name, hook);
                self.call(hook, Base { chain: places[chain], kind, priority, policy });
            }
        }
        Ok(())
    }
}

/// Whether the rule is one of ours, or kumactl's.
fn is_ours<F: Family>(rule: &SavedRule<F>) -> bool {
    let owned = ChainPair::owns;
    rule.comment().is_some_and(|comment| Comment::is_ours(&comment))
        || owned(&rule.chain)
        || rule.target().is_some_and(owned)
}

fn test<F: Family>(part: &PartialMatch<F>) -> Vec<Test> {
    match part {
        PartialMatch::Known(known) => compile::tests([known]),
        PartialMatch::Protocol { number, negated } => vec![Test::Protocol { number: *number, negated: *negated }],
        PartialMatch::CtState { states, negated } => vec![Test::CtState { states: *states, negated: *negated }],
        PartialMatch::Unknown { text } => vec![Test::Unknown(text.as_str().into())],
    }
}

fn act(target: PartialTarget, places: &HashMap<&str, usize>) -> Act {
    let unknown = |reason: String| Act::Unknown(Arc::from(reason));
    let to = |chain: &str, go: fn(usize) -> Act| match places.get(chain) {
        Some(place) => go(*place),
        None => unknown(format!("the target {chain} is not known")),
    };
    match target {
        target if target.goes_on() && !matches!(target, PartialTarget::Known(_)) => Act::Next,
        PartialTarget::Known(target) => match target {
            Target::Accept => Act::Accept,
            Target::Drop => Act::Drop,
            Target::Return => Act::Return,
            Target::Jump { chain } => to(chain.as_str(), Act::Jump),
            Target::Redirect { port } => Act::Redirect(port),
            Target::Log { prefix, level } => Act::Log(prefix, level),
            Target::Zone { zone } => Act::Zone(zone),
        },
        PartialTarget::Jump { chain } => to(&chain, Act::Jump),
        PartialTarget::Goto { chain } => to(&chain, Act::Goto),
        // Gone, although whoever sent it hears of it.
        PartialTarget::Unknown { name, .. } if name == "REJECT" => Act::Drop,
        // These translate the source, in POSTROUTING and INPUT, where the destination has been decided on.
        PartialTarget::Unknown { name, .. } if matches!(name.as_str(), "SNAT" | "MASQUERADE") => Act::Accept,
        PartialTarget::Unknown { name, text } => {
            let what = [name.as_str(), text.as_str()].join(" ");
            unknown(format!("the target {} is not known", what.trim()))
        }
        PartialTarget::None => Act::Next,
    }
}
