//! From the text of iptables-save to a program.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::compile;
use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, NewSource, Program, Test};
use super::view::Value;
use crate::error::Error;
use crate::iptables_save::{PartialMatch, PartialTarget, Saved, SavedRule, SavedTable};
use crate::model::{ChainName, ChainPair, Comment, TableName, Target};
use crate::net::{Family, Port};
use crate::nftables::{ChainType, priority};

/// Which rules of a text count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Everybody's.
    All,
    /// Ours, and kumactl's.
    Ours,
}

impl<'r> Program<'r> {
    /// The rules that a text has, all of them in the order of the text.
    ///
    /// # Errors
    /// [`Error::Config`] if the text has a table that is none of iptables', or inserts a rule below rules that it does not have.
    pub(super) fn of_saved<F: Family>(saved: &'r Saved<F>, whose: Whose) -> Result<Self, Error> {
        Self::of_tables(saved.tables.iter(), whose)
    }

    /// What else the text may mean, if a table stands there twice: that the last one of each name counts, as for iptables-restore;
    /// or that those of iptables-nft and iptables-legacy are both in force, called in the other order.
    ///
    /// # Errors
    /// As [`of_saved`](Self::of_saved).
    pub(super) fn other_readings<F: Family>(saved: &'r Saved<F>, whose: Whose) -> Result<Option<[Self; 2]>, Error> {
        let tables = &saved.tables;
        let mut names = HashSet::new();
        let last: Vec<_> = tables.iter().rev().filter(|table| names.insert(&table.name)).collect();
        if last.len() == tables.len() {
            return Ok(None);
        }
        Ok(Some([Self::of_tables(last.into_iter().rev(), whose)?, Self::of_tables(tables.iter().rev(), whose)?]))
    }

    fn of_tables<F: Family>(tables: impl Iterator<Item = &'r SavedTable<F>>, whose: Whose) -> Result<Self, Error> {
        let mut program = Self::default();
        for table in tables {
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
                    act: act::<F>(parts.target, &places),
                    place: RulePosition::rule(F::NAME, name.as_str(), chain, index, rule),
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
                    .map(|_| RulePosition::added(F::NAME, name.as_str(), hook.as_str(), "the policy is DROP"));
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

fn act<F: Family>(target: PartialTarget, places: &HashMap<&str, usize>) -> Act {
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
        PartialTarget::Unknown { name, text } if matches!(name.as_str(), "SNAT" | "MASQUERADE") => {
            Act::Source(new_source::<F>(&text))
        }
        PartialTarget::Unknown { name, text } => {
            let what = [name.as_str(), text.as_str()].join(" ");
            unknown(format!("the target {} is not known", what.trim()))
        }
        PartialTarget::None => Act::Next,
    }
}

/// What SNAT or MASQUERADE with these options make of a source. Where it is one of several, it is not known; the port is kept if
/// nothing is said of it.
fn new_source<F: Family>(text: &str) -> NewSource {
    let mut new = NewSource { address: Value::Unknown, port: None };
    let mut words = text.split_ascii_whitespace();
    while let Some(word) = words.next() {
        match word {
            "--to-source" => {
                let value = words.next().unwrap_or_default();
                let (address, ports) = split_ports(value);
                let address = address.trim_matches(['[', ']']).parse().ok().and_then(F::from_ip);
                new.address = address.map_or(Value::Unknown, |address| Value::Is(F::to_bits(address)));
                new.port = ports.map(one_port);
            }
            "--to-ports" => new.port = words.next().map(one_port),
            "--random" | "--random-fully" => new.port = Some(Value::Unknown),
            "--persistent" => {}
            _ => return NewSource { address: Value::Unknown, port: Some(Value::Unknown) },
        }
    }
    new
}

/// An address, or several, and the ports behind it: `10.0.0.1:80`, `[fd00::1]:80`, but `fd00::1` has none.
fn split_ports(value: &str) -> (&str, Option<&str>) {
    match value.rsplit_once(':') {
        Some((address, ports)) if address.ends_with(']') || !address.contains(':') => (address, Some(ports)),
        _ => (value, None),
    }
}

fn one_port(ports: &str) -> Value {
    ports.parse::<Port>().map_or(Value::Unknown, |port| Value::Is(port.number().into()))
}
