//! A plan as the netlink engine has it: the lowered rules decide, which are those that get installed, and people read about the rules
//! of the plan that they were made from.

use std::collections::HashMap;

use super::additions::Additions;
use super::native;
use super::outcome::RulePosition;
use super::program::{Base, Code, Line, Program, Role};
use crate::model::{Chain, ChainName, EngineName, Placement, Ruleset, TableName};
use crate::net::Family;
use crate::nftables::{self, ChainType, Guarding, Marker, RuleSource};

/// How far what tells stands before what it tells of, so that it meets packets as these do.
const AHEAD: i32 = 2;

impl<'r> Program<'r> {
    /// The rules of a plan as the netlink engine installs them.
    pub(super) fn lowered<F: Family>(ruleset: &'r Ruleset<F>, guarding: &Guarding) -> Self {
        let mut program = Self::default();
        let additions = Additions(guarding);
        for table in &ruleset.tables {
            program.add(table, EngineName::Netlink, Some(additions));
        }
        program.add_to_raw(ruleset, additions);
        program.only_tell();
        program.decide(&nftables::Table::guarded(ruleset, guarding.clone()), &Positions::of(ruleset));
        program
    }

    /// Makes all that there is yet something that decides nothing.
    fn only_tell(&mut self) {
        self.chains.iter_mut().for_each(|chain| chain.role = Role::Tells);
        self.bases_mut().for_each(|base| base.priority -= AHEAD);
    }

    /// Adds what decides.
    fn decide<F: Family>(&mut self, table: &nftables::Table, positions: &Positions<'r, F>) {
        let first = self.chains.len();
        let places: HashMap<&str, usize> =
            table.chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), first + at)).collect();
        for (at, chain) in table.chains.iter().enumerate() {
            let rules = chain.rules.iter().filter(|_| chain.name.as_str() != Marker::CHAIN);
            let lines = rules.map(|rule| Line {
                tests: rule.conditions.iter().map(native::test).collect(),
                act: native::act(&rule.action, &places),
                place: positions.position(chain, rule),
            });
            let role = if chain.closes() { Role::Closes } else { Role::Decides };
            let code = Code::new(lines.collect()).with(role);
            self.chains.push(code);
            if let Some(base) = chain.base {
                let base_of_program =
                    Base { chain: first + at, kind: base.kind, priority: base.priority, policy: None };
                self.call(base.hook, base_of_program);
            }
        }
    }
}

/// Where the rules of a plan stand.
struct Positions<'r, F: Family> {
    ruleset: &'r Ruleset<F>,
    /// For each chain, the places of its rules in the order in which packets meet them.
    in_effect: HashMap<(TableName, &'r ChainName), Vec<usize>>,
}

impl<'r, F: Family> Positions<'r, F> {
    fn of(ruleset: &'r Ruleset<F>) -> Self {
        let mut in_effect = HashMap::new();
        for table in &ruleset.tables {
            for chain in &table.chains {
                let inserted = chain.rules.iter().filter(|rule| rule.placement == Placement::Insert).count();
                let (mut first, mut last) = (0..inserted, inserted..);
                let places = chain.rules.iter().map(|rule| match rule.placement {
                    Placement::Insert => first.next(),
                    Placement::Append => last.next(),
                });
                in_effect.entry((table.name, &chain.name)).or_insert_with(|| places.flatten().collect());
            }
        }
        Self { ruleset, in_effect }
    }

    /// What people read about a lowered rule: the rule of the plan, or what the lowering added it for.
    fn position(&self, chain: &nftables::Chain, rule: &nftables::Rule) -> RulePosition<'r> {
        let source = rule.sources.first();
        match (rule.added, source.and_then(|source| self.of_plan(source))) {
            (None, Some(position)) => position,
            (words, _) => {
                let of_packets = chain.base.is_some_and(|base| base.kind == ChainType::Filter) && !chain.closes();
                let table = if of_packets { TableName::Raw } else { TableName::Nat };
                let name = match (chain.base, source.and_then(|source| self.chain(source))) {
                    (Some(base), _) => base.hook.as_str(),
                    (None, Some(chain)) => chain.name.as_str(),
                    (None, None) => "any",
                };
                RulePosition::added(F::NAME, table.as_str(), name, words.unwrap_or("let pass"))
            }
        }
    }

    fn chain(&self, source: &RuleSource) -> Option<&'r Chain<F>> {
        self.ruleset.table(source.table)?.chain(&source.chain)
    }

    fn of_plan(&self, source: &RuleSource) -> Option<RulePosition<'r>> {
        let chain = self.chain(source)?;
        let at = *self.in_effect.get(&(source.table, &chain.name))?.get(source.index)?;
        let rule = chain.rules.get(source.index)?;
        Some(RulePosition::rule(F::NAME, source.table.as_str(), chain.name.as_str(), at, rule))
    }
}
