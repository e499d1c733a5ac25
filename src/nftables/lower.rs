//! From the rules of a plan to the native form.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::layout::{self, Chains};
use super::native::{Action, Base, Chain, ChainType, Condition, Field, Native, Source, Span, Table};
use super::{Marker, fold, names, owner};
use super::{Name, names::Names};
use crate::model::{self, BuiltinChain, ChainName, Comment, Match, Placement, Plan, Rule, Ruleset, TableName, Target};
use crate::net::Family;

impl Native {
    /// The native form of a plan. The same plan gives the same form.
    ///
    /// ```
    /// use kumatp::nftables::Native;
    /// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
    /// # let plan = kumatp::policy::plan(&Default::default(), &facts)?;
    /// let native = Native::of(&plan);
    /// assert_eq!(native.v4.chain("nat_output_last").unwrap().base.unwrap().priority, -99);
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    pub fn of(plan: &Plan) -> Self {
        let mut native = Self { v4: Table::of(&plan.v4), v6: plan.v6.as_ref().map(Table::of) };
        let digest = Marker::digest(native.tables());
        for table in std::iter::once(&mut native.v4).chain(&mut native.v6) {
            Marker::of(table, digest).put_into(table);
        }
        native
    }
}

impl Table {
    /// The native form of any rules, without a marker.
    pub fn of<F: Family>(ruleset: &Ruleset<F>) -> Self {
        let mut table = Self { family: F::NAME, chains: Lowering::new(ruleset).chains() };
        name_sets(&mut table);
        table
    }
}

struct Lowering<'a, F: Family> {
    ruleset: &'a Ruleset<F>,
    names: Names,
    /// The names of user-defined chains.
    regular: BTreeMap<(TableName, &'a ChainName), Name>,
    /// Whether rules that are added have comments: if any rule has.
    comments: bool,
}

impl<'a, F: Family> Lowering<'a, F> {
    fn new(ruleset: &'a Ruleset<F>) -> Self {
        let mut names = Names::default();
        names.take(Marker::CHAIN);
        for table in TableName::ALL {
            for hook in BuiltinChain::ALL {
                for (_, suffix) in Half::of(table) {
                    names.take(&base_name(table, hook, suffix));
                }
            }
        }
        let mut regular = BTreeMap::new();
        for table in &ruleset.tables {
            for chain in table.user_defined() {
                regular.entry((table.name, &chain.name)).or_insert_with(|| names.take(chain.name.as_str()));
            }
        }
        let comments = ruleset.rules().any(|(_, _, rule)| rule.comment.is_some());
        Self { ruleset, names, regular, comments }
    }

    fn chains(mut self) -> Vec<Chain> {
        let regular = self.regular_chains();
        let mut drafts = Vec::new();
        for table in TableName::ALL {
            for hook in BuiltinChain::ALL {
                drafts.extend(self.base_chains(table, hook, &regular));
            }
        }
        let ordered = self.ruleset.tables.iter().flat_map(|table| {
            table.user_defined().map(|chain| self.regular[&(table.name, &chain.name)].clone()).collect::<Vec<_>>()
        });
        let mut done = BTreeSet::new();
        for name in ordered.collect::<Vec<_>>() {
            // A name that stands twice in a table is one chain.
            let Some(rules) = regular.rules.get(&name).filter(|_| done.insert(name.clone())) else { continue };
            drafts.push((name, None, fold::fold(rules.clone(), &regular, F::NAME)));
        }
        owner::resolve(drafts, &mut self.names)
    }

    fn regular_chains(&self) -> Chains {
        let mut chains = BTreeMap::new();
        for table in &self.ruleset.tables {
            for chain in table.user_defined() {
                let rules = self.drafts(table.name, &chain.name, None);
                chains.entry(self.regular[&(table.name, &chain.name)].clone()).or_insert(rules);
            }
        }
        Chains::new(chains)
    }

    /// The base chains for a built-in chain: none if it has nothing to do.
    fn base_chains(
        &self,
        table: TableName,
        hook: BuiltinChain,
        regular: &Chains,
    ) -> Vec<(Name, Option<Base>, Vec<Draft>)> {
        let name = ChainName::from(hook);
        let mut inserted = self.drafts(table, &name, Some(Placement::Insert));
        let mut appended = self.drafts(table, &name, Some(Placement::Append));
        if (table, hook) == (TableName::Raw, BuiltinChain::Prerouting) {
            let answered = self.zones_of_answers();
            if inserted.is_empty() {
                appended.splice(0..0, answered);
            } else {
                inserted.splice(0..0, answered);
            }
        }
        let (first, last) = match table {
            TableName::Nat => {
                let (first, last) = layout::nat(inserted, appended, regular);
                let guard = |drafts| layout::guard(drafts, regular, self.comments, F::NAME);
                (guard(first), guard(last))
            }
            // A packet that was let pass in one base chain would meet the other, so there is only one.
            _ if inserted.is_empty() => (Vec::new(), fold::fold(appended, regular, F::NAME)),
            _ => {
                inserted.append(&mut appended);
                (fold::fold(inserted, regular, F::NAME), Vec::new())
            }
        };
        let kind = if table == TableName::Nat { ChainType::Nat } else { ChainType::Filter };
        Half::of(table)
            .into_iter()
            .zip([first, last])
            .filter(|(_, drafts)| !drafts.is_empty())
            .map(|((step, suffix), drafts)| {
                let base = Base { kind, hook, priority: priority(table, hook) + step };
                (Name::nearest(&base_name(table, hook, suffix)), Some(base), drafts)
            })
            .collect()
    }

    /// The rules of a chain of the model, in the order in which packets meet them.
    fn drafts(&self, table: TableName, name: &ChainName, placement: Option<Placement>) -> Vec<Draft> {
        let Some(chain) = self.ruleset.table(table).and_then(|table| table.chain(name)) else { return Vec::new() };
        numbered(chain)
            .filter(|(_, rule)| placement.is_none_or(|placement| placement == rule.placement))
            .filter_map(|(index, rule)| self.draft(table, name, index, rule))
            .collect()
    }

    fn draft(&self, table: TableName, chain: &ChainName, index: usize, rule: &Rule<F>) -> Option<Draft> {
        let action = match &rule.target {
            Target::Accept => Action::Accept,
            Target::Drop => Action::Drop,
            // In a base chain, `return` would do the same; `accept` says it.
            Target::Return if chain.builtin().is_some() => Action::Accept,
            Target::Return => Action::Return,
            Target::Jump { chain } => match self.regular.get(&(table, chain)) {
                Some(name) => Action::Jump { chain: name.clone() },
                None => Action::Accept,
            },
            Target::Redirect { port } => Action::Redirect { port: *port },
            Target::Log { prefix, level } => Action::Log { prefix: prefix.clone(), level: *level },
            Target::Zone { zone } => Action::Zone { zone: *zone },
        };
        Draft::of(rule, action, Source { table, chain: chain.clone(), index, origin: rule.origin })
    }

    /// For each rule of nat PREROUTING that redirects to a port whose answers raw OUTPUT puts into a
    /// zone: what tracks the redirected packets in that zone, too.
    fn zones_of_answers(&self) -> Vec<Draft> {
        let prerouting = ChainName::from(BuiltinChain::Prerouting);
        let Some(chain) = self.ruleset.table(TableName::Nat).and_then(|table| table.chain(&prerouting)) else {
            return Vec::new();
        };
        let output = self.drafts(TableName::Raw, &BuiltinChain::Output.into(), None);
        let zone_of = |rule: &Rule<F>| {
            let Target::Redirect { port } = rule.target else { return None };
            let protocol = rule.matches.iter().find_map(|condition| match condition {
                Match::Transport(transport) => Some(transport.protocol),
                _ => None,
            })?;
            output.iter().find_map(|answer| {
                let from_port = answer.rule.conditions.iter().any(|condition| {
                    matches!(condition, Condition::Value { field: Field::SourcePort, values, negated: false }
                        if values.contains(port.number().into()))
                });
                match answer.rule.action {
                    Action::Zone { zone } if from_port && answer.protocol() == Some(protocol) => Some(zone),
                    _ => None,
                }
            })
        };
        numbered(chain)
            .filter_map(|(index, rule)| {
                let source = Source { table: TableName::Nat, chain: prerouting.clone(), index, origin: rule.origin };
                let mut draft = Draft::of(rule, Action::Zone { zone: zone_of(rule)? }, source)?;
                draft.rule.comment =
                    self.comments.then(|| Comment::ours("track what is redirected in the zone of its answers"));
                Some(draft)
            })
            .collect()
    }
}

/// The rules of a chain in the order in which packets meet them, with their places in it.
fn numbered<F: Family>(chain: &model::Chain<F>) -> impl Iterator<Item = (usize, &Rule<F>)> {
    let at = |placement| chain.rules.iter().enumerate().filter(move |(_, rule)| rule.placement == placement);
    at(Placement::Insert).chain(at(Placement::Append))
}

/// The base chains that a built-in chain can become: priority relative to iptables', name suffix.
struct Half;

impl Half {
    fn of(table: TableName) -> [(i32, &'static str); 2] {
        match table {
            TableName::Nat => [(-1, "_first"), (1, "_last")],
            _ => [(-1, ""), (1, "")],
        }
    }
}

fn base_name(table: TableName, hook: BuiltinChain, suffix: &str) -> String {
    format!("{table}_{}{suffix}", hook.as_str().to_ascii_lowercase())
}

/// The priority of iptables' own chains (linux/netfilter_ipv4.h, `enum nf_ip_hook_priorities`).
pub(crate) fn priority(table: TableName, hook: BuiltinChain) -> i32 {
    match (table, hook) {
        (TableName::Raw, _) => -300,
        (TableName::Mangle, _) => -150,
        (TableName::Nat, BuiltinChain::Input | BuiltinChain::Postrouting) => 100,
        (TableName::Nat, _) => -100,
        (TableName::Filter, _) => 0,
        (TableName::Security, _) => 50,
    }
}

/// Gives every condition with several spans a set; conditions with the same values share one.
fn name_sets(table: &mut Table) {
    let mut names = Names::default();
    let mut known: BTreeMap<Vec<Span>, Vec<(Field, Name)>> = BTreeMap::new();
    // Translation first, since a set is better called after what redirects than after what tracks.
    let filter = |chain: &&mut Chain| chain.base.is_some_and(|base| base.kind == ChainType::Filter);
    let (tracking, translating): (Vec<_>, Vec<_>) = table.chains.iter_mut().partition(filter);
    for rule in translating.into_iter().chain(tracking).flat_map(|chain| &mut chain.rules) {
        let wanted = names::of_origin(rule.origin());
        for condition in &mut rule.conditions {
            let Condition::Value { field, values, .. } = condition else { continue };
            if values.spans.len() < 2 {
                continue;
            }
            let sets = known.entry(values.spans.to_vec()).or_default();
            let name = match sets.iter().find(|(other, _)| other.same_type(*field)) {
                Some((_, name)) => name.clone(),
                None => {
                    let name = names.take(&wanted);
                    sets.push((*field, name.clone()));
                    name
                }
            };
            values.set = Some(name);
        }
    }
}
