//! From the rules of a plan to the native form.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::Draft;
use super::effects::Chains;
use super::guards::{self, Copies, Guarding, Hooks};
use super::layout;
use super::native::{Action, Base, Chain, ChainType, Condition, Field, Native, RuleSource, Span, Table};
use super::{Marker, merge_rules, names, owner, zones};
use super::{Name, names::Names};
use crate::model::{self, BuiltinChain, ChainName, Match, Placement, Plan, Rule, Ruleset, TableName, Target};
use crate::net::{Family, Port, Protocol};

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
        let guarding = Guarding { can: plan.guards, loopback: plan.loopback.clone() };
        let v6 = plan.v6.as_ref().map(|v6| Table::guarded(v6, guarding.clone()));
        let mut native = Self { v4: Table::guarded(&plan.v4, guarding), v6 };
        let digest = Marker::digest(native.tables());
        for table in std::iter::once(&mut native.v4).chain(&mut native.v6) {
            Marker::of(table, digest).put_into(table);
        }
        native
    }
}

impl Table {
    /// The native form of any rules, without a marker, and without what [`Native::of`] adds to a plan's.
    pub fn of<F: Family>(ruleset: &Ruleset<F>) -> Self {
        Self::lowered(Lowering::new(ruleset, None))
    }

    /// The native form of any rules with what keeps connections from passing without a redirection.
    pub(crate) fn guarded<F: Family>(ruleset: &Ruleset<F>, guarding: Guarding) -> Self {
        Self::lowered(Lowering::new(ruleset, Some(guarding)))
    }

    fn lowered<F: Family>(lowering: Lowering<'_, F>) -> Self {
        let mut table = Self { family: F::NAME, chains: lowering.chains() };
        name_sets(&mut table);
        table
    }
}

/// A chain on its way to the native form.
type Drafted = (Name, Option<Base>, Vec<Draft>);

/// The base chains that close what translation leaves open: right behind ours that translate, and behind routing.
const CLOSING: [(BuiltinChain, &str, i32); 3] = [
    (BuiltinChain::Prerouting, "closing_prerouting", -98),
    (BuiltinChain::Output, "closing_output", -98),
    (BuiltinChain::Postrouting, "closing_postrouting", 1),
];

impl Chain {
    /// Whether it is one of these.
    pub(crate) fn closes(&self) -> bool {
        CLOSING.iter().any(|(_, name, _)| self.name.as_str() == *name)
    }
}

struct Lowering<'a, F: Family> {
    ruleset: &'a Ruleset<F>,
    /// How what should be redirected is kept from passing; none for rules that are only translated.
    guarding: Option<Guarding>,
    names: Names,
    /// The names of user-defined chains.
    regular: BTreeMap<(TableName, &'a ChainName), Name>,
    /// Whether rules that are added have comments: if any rule has.
    comments: bool,
}

impl<'a, F: Family> Lowering<'a, F> {
    fn new(ruleset: &'a Ruleset<F>, guarding: Option<Guarding>) -> Self {
        let mut names = Names::default();
        names.take(Marker::CHAIN);
        CLOSING.iter().for_each(|(_, name, _)| drop(names.take(name)));
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
        Self { ruleset, guarding, names, regular, comments }
    }

    fn chains(mut self) -> Vec<Chain> {
        let hooks = self.hooks();
        let regular = self.regular_chains(&hooks);
        let mirrored = self.mirrored(&regular);
        let mut drafts = Vec::new();
        for table in TableName::ALL {
            for hook in BuiltinChain::ALL {
                drafts.extend(self.base_chains(table, hook, &regular));
            }
        }
        let mut closing = self.closing_chains(&hooks, &regular, &mirrored);
        let copied = closing.split_off(closing.iter().take_while(|(_, base, _)| base.is_some()).count());
        drafts.extend(closing);
        let ordered = self.ruleset.tables.iter().flat_map(|table| {
            table.user_defined().map(|chain| self.regular[&(table.name, &chain.name)].clone()).collect::<Vec<_>>()
        });
        let mut done = BTreeSet::new();
        for name in ordered.collect::<Vec<_>>() {
            // A name that stands twice in a table is one chain.
            let Some(rules) = regular.rules.get(&name).filter(|_| done.insert(name.clone())) else { continue };
            drafts.push((name, None, merge_rules::fold(rules.clone(), &regular, F::NAME)));
        }
        drafts.extend(copied);
        owner::resolve(drafts, &mut self.names)
    }

    /// Which hooks lead to each regular chain of nat.
    fn hooks(&self) -> BTreeMap<Name, Hooks> {
        let mut found = BTreeMap::new();
        let Some(table) = self.ruleset.table(TableName::Nat) else { return found };
        for (hook, builtin) in [(Hooks::PREROUTING, BuiltinChain::Prerouting), (Hooks::OUTPUT, BuiltinChain::Output)] {
            let mut waiting = vec![ChainName::from(builtin)];
            while let Some(chain) = waiting.pop().and_then(|name| table.chain(&name)) {
                for to in chain.rules.iter().filter_map(|rule| rule.target.chain()) {
                    let Some(name) = self.regular.get(&(TableName::Nat, to)) else { continue };
                    let hooks = found.entry(name.clone()).or_insert(Hooks::empty());
                    if !hooks.contains(hook) {
                        hooks.insert(hook);
                        waiting.push(to.clone());
                    }
                }
            }
        }
        found
    }

    fn regular_chains(&self, hooks: &BTreeMap<Name, Hooks>) -> Chains {
        let mut chains = BTreeMap::new();
        for table in &self.ruleset.tables {
            for chain in table.user_defined() {
                let name = &self.regular[&(table.name, &chain.name)];
                let hooks = hooks.get(name).copied().filter(|_| table.name == TableName::Nat);
                let rules = self.drafts(table.name, &chain.name, None);
                chains.entry(name.clone()).or_insert_with(|| self.translating(rules, hooks));
            }
        }
        Chains::new(chains)
    }

    /// The rules of a chain that these hooks lead to, with what does better than a redirection before each.
    fn translating(&self, drafts: Vec<Draft>, hooks: Option<Hooks>) -> Vec<Draft> {
        let (Some(guarding), Some(hooks)) = (&self.guarding, hooks) else { return drafts };
        drafts.into_iter().flat_map(|draft| guarding.translation(&draft, hooks).into_iter().chain([draft])).collect()
    }

    /// The answers of inbound connections that are not redirected.
    fn mirrored(&self, regular: &Chains) -> Vec<Draft> {
        let entry = self.ruleset.table(TableName::Nat).and_then(|table| table.chain(&BuiltinChain::Prerouting.into()));
        let jumps = entry.into_iter().flat_map(|chain| chain.rules.iter().filter_map(|rule| rule.target.chain()));
        let names = jumps.filter_map(|to| self.regular.get(&(TableName::Nat, to)));
        let drafts: Vec<_> = names.filter_map(|name| regular.rules.get(name)).flatten().cloned().collect();
        guards::mirrored(&drafts, self.comments)
    }

    /// The base chains for a built-in chain: none if it has nothing to do.
    fn base_chains(&self, table: TableName, hook: BuiltinChain, regular: &Chains) -> Vec<Drafted> {
        let name = ChainName::from(hook);
        let mut inserted = self.drafts(table, &name, Some(Placement::Insert));
        let mut appended = self.drafts(table, &name, Some(Placement::Append));
        let first = self.first_of(table, hook);
        match inserted.is_empty() {
            true => appended.splice(0..0, first),
            false => inserted.splice(0..0, first),
        };
        let (first, last) = match table {
            TableName::Nat => {
                let from_here = (hook == BuiltinChain::Output).then_some(Hooks::OUTPUT);
                inserted = self.translating(inserted, from_here);
                appended = self.translating(appended, from_here);
                let (first, last) = layout::nat(inserted, appended, regular);
                let lost = self.guarding.as_ref().map(|guards| guards.lost_entries(hook, self.comments));
                let lost = lost.unwrap_or_default();
                let guard = |drafts| layout::guard(drafts, lost.clone(), regular, self.comments, F::NAME);
                (guard(first), guard(last))
            }
            // A packet that was let pass in one base chain would meet the other, so there is only one.
            _ if inserted.is_empty() => (Vec::new(), merge_rules::fold(appended, regular, F::NAME)),
            _ => {
                inserted.append(&mut appended);
                (merge_rules::fold(inserted, regular, F::NAME), Vec::new())
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

    /// What stands before the rules of a built-in chain of raw.
    fn first_of(&self, table: TableName, hook: BuiltinChain) -> Vec<Draft> {
        let drafts = |table, hook: BuiltinChain| self.drafts(table, &hook.into(), None);
        let output = || drafts(TableName::Raw, BuiltinChain::Output);
        match (table, hook, &self.guarding) {
            (TableName::Raw, BuiltinChain::Prerouting, guarding) => {
                let redirecting = drafts(TableName::Nat, hook);
                let zones = zones::of_answers(&redirecting, &output(), self.comments);
                let martians = guarding.as_ref().map(|guarding| guarding.no_martians::<F>(self.comments));
                martians.into_iter().chain(zones).collect()
            }
            (TableName::Raw, BuiltinChain::Output, Some(_)) => {
                let answered = drafts(TableName::Raw, BuiltinChain::Prerouting);
                zones::of_excluded(&drafts(TableName::Nat, hook), &answered, &output(), self.comments)
            }
            _ => Vec::new(),
        }
    }

    /// The chains that close what translation leaves open: base chains, then the regular ones that they lead to.
    fn closing_chains(&mut self, hooks: &BTreeMap<Name, Hooks>, regular: &Chains, mirrored: &[Draft]) -> Vec<Drafted> {
        let Some(guarding) = self.guarding.clone() else { return Vec::new() };
        let names = &mut self.names;
        let copies = Copies::of(regular, hooks, guarding.can, |name| names.take(&format!("{name}_CLOSING")));
        let mut base = Vec::new();
        for (hook, name, priority) in CLOSING {
            let drafts = match hook {
                BuiltinChain::Postrouting => guarding.stays_here::<F>(&self.redirected(), self.comments),
                _ => {
                    let drafts = self.drafts(TableName::Nat, &hook.into(), None);
                    guarding.closing::<F>(hook, drafts, mirrored, &copies, self.comments)
                }
            };
            if !drafts.is_empty() {
                base.push((Name::nearest(name), Some(Base { kind: ChainType::Filter, hook, priority }), drafts));
            }
        }
        let copied = copies.reached_from(base.iter().flat_map(|(_, _, drafts)| drafts));
        let copied =
            copied.into_iter().map(|(name, rules)| (name, None, merge_rules::fold(rules, &copies.chains, F::NAME)));
        base.extend(copied.collect::<Vec<_>>());
        base
    }

    /// What nat redirects, and where to.
    fn redirected(&self) -> BTreeSet<(Protocol, Port)> {
        let rules = self.ruleset.rules().filter(|(table, _, _)| *table == TableName::Nat);
        let redirection = |rule: &Rule<F>| {
            let Target::Redirect { port } = rule.target else { return None };
            rule.matches.iter().find_map(|condition| match condition {
                Match::Transport(transport) => Some((transport.protocol, port)),
                _ => None,
            })
        };
        crate::sorted::set(rules.filter_map(|(_, _, rule)| redirection(rule)))
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
        let mut draft =
            Draft::of(rule, action, RuleSource { table, chain: chain.clone(), index, origin: rule.origin })?;
        if let (TableName::Nat, Some(guarding)) = (table, &self.guarding) {
            guarding.keep_local(&mut draft);
        }
        Some(draft)
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
            let wanted = wanted.as_deref().unwrap_or(names::of_field(*field));
            let sets = known.entry(values.spans.to_vec()).or_default();
            let name = match sets.iter().find(|(other, _)| other.same_type(*field)) {
                Some((_, name)) => name.clone(),
                None => {
                    let name = names.take(wanted);
                    sets.push((*field, name.clone()));
                    name
                }
            };
            values.set = Some(name);
        }
    }
}
