//! Which of the rules of a host are ours, and the text that takes them away or puts others in their
//! place.
//!
//! In the tables that installations use (raw, mangle and nat), ours, and kumactl's, are the chains whose
//! names begin with [`ChainPair::PREFIX`], the rules in them, the rules of built-in chains that lead to
//! them, every rule whose comment begins with [`Comment::PREFIX`], and those that a record names. In other
//! tables (filter, security) nothing is ours, whatever its name. Nobody else's rule is ever written: what
//! is not ours stays, in its place and with its counters.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::locate::Mode;
use crate::config::ChainPair;
use crate::engine::record::Recorded;
use crate::engine::words;
use crate::error::Error;
use crate::model::{BuiltinChain, Comment, Rule, Ruleset, Table, TableName, Target};
use crate::net::Family;
use crate::render::iptables;
use crate::save::{self, Saved, SavedRule, SavedTable};

/// What is ours in the tables of one family and mode.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    tables: Vec<OursIn>,
    /// Rules that may be ours and carry nothing that says so; only where comments were off.
    pub(super) suspects: Vec<String>,
}

/// What is ours in one table.
#[derive(Debug, Clone, Default)]
struct OursIn {
    table: String,
    /// Our chains.
    chains: Vec<String>,
    /// The rules of our chains.
    inside: Vec<(String, String)>,
    /// Our rules in chains that are not ours.
    outside: Vec<Outside>,
    /// Rules of others that lead to our chains, and where to.
    intruders: Vec<(String, String)>,
    /// How many rules of others each chain has.
    others: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outside {
    chain: String,
    /// Its place among all rules of the chain, from 1.
    place: usize,
    spec: String,
}

impl Ours {
    /// Finds what is ours. `recorded` are the rules without a comment that an installation of this
    /// family and mode noted down.
    pub(super) fn find<F: Family>(saved: &Saved<F>, recorded: &[&Recorded]) -> Self {
        let mut left: Vec<(String, String, Rule<F>)> = recorded.iter().filter_map(|r| known_rule(r)).collect();
        let tables: Vec<_> = saved.tables.iter().map(|table| OursIn::find(table, &mut left)).collect();
        // Comments were off when our chains were filled, and nothing tells what else was installed.
        let used = saved.tables.iter().filter(|table| is_used(&table.name));
        let uncommented = used.flat_map(|t| &t.rules).any(|r| ChainPair::owns(&r.chain) && !has_our_comment(r));
        let suspects = match uncommented {
            true => suspects(saved, &tables),
            false => Vec::new(),
        };
        Self { tables, suspects }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(OursIn::is_empty)
    }

    /// Whether the same rules are ours, at the same places.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        let ours = |all: &Self| {
            let tables = all.tables.iter().filter(|table| !table.is_empty());
            tables.map(|t| (t.table.clone(), t.chains.clone(), t.inside.clone(), t.outside.clone())).collect::<Vec<_>>()
        };
        ours(self) == ours(other)
    }

    /// Rules of others that would lead to a chain that is no longer there, if only these chains stay.
    pub(super) fn in_the_way(&self, stay: &Wanted) -> Vec<String> {
        let stays = |table: &OursIn, chain: &str| {
            stay.tables.iter().any(|t| t.table == table.table && t.chains.iter().any(|c| c == chain))
        };
        self.tables
            .iter()
            .flat_map(|table| {
                let goes = table.intruders.iter().filter(|(_, to)| !stays(table, to));
                goes.map(|(rule, _)| format!("-t {} {rule}", table.table))
            })
            .collect()
    }

    /// The text that puts what is wanted in the place of what is ours: one transaction a table.
    pub(super) fn replace_by(&self, wanted: &Wanted) -> String {
        let mut text = String::new();
        for want in &wanted.tables {
            let none = OursIn::default();
            let now = self.tables.iter().find(|now| now.table == want.table).unwrap_or(&none);
            now.replace_by(want, &mut text);
        }
        for now in &self.tables {
            if !now.is_empty() && !wanted.tables.iter().any(|want| want.table == now.table) {
                now.replace_by(&WantedIn { table: now.table.clone(), ..WantedIn::default() }, &mut text);
            }
        }
        text
    }

    /// What is ours, as something to be put back where it was, `now` being what is there meanwhile.
    pub(super) fn to_be_put_back(&self, now: &Self) -> Wanted {
        let tables = self.tables.iter().filter(|table| !table.is_empty()).map(|table| {
            let now = now.tables.iter().find(|now| now.table == table.table);
            table.to_be_put_back(now.unwrap_or(table))
        });
        Wanted { tables: tables.collect() }
    }

    /// The same in the model's terms, without the rules of others.
    ///
    /// # Errors
    /// [`Error::Config`] with the rules that the model cannot say.
    pub(super) fn ruleset<F: Family>(&self) -> Result<Ruleset<F>, Error> {
        let mut text = String::new();
        for table in self.tables.iter().filter(|table| !table.is_empty()) {
            let _ = writeln!(text, "*{}", table.table);
            for chain in &table.chains {
                let _ = writeln!(text, ":{chain} - [0:0]");
            }
            let outside = table.outside.iter().map(|rule| (&rule.chain, &rule.spec));
            for (chain, spec) in outside.chain(table.inside.iter().map(|(chain, spec)| (chain, spec))) {
                let _ = writeln!(text, "-A {chain} {spec}");
            }
            text.push_str("COMMIT\n");
        }
        save::parse::<F>(&text)?.ruleset()
    }

    /// What there is, for people: one item a table.
    pub(super) fn describe(&self) -> Vec<String> {
        self.tables
            .iter()
            .filter(|table| !table.is_empty())
            .map(|t| {
                let rules = t.inside.len() + t.outside.len();
                words::in_table(rules, t.chains.len(), &t.table)
            })
            .collect()
    }
}

impl OursIn {
    fn find<F: Family>(table: &SavedTable<F>, recorded: &mut Vec<(String, String, Rule<F>)>) -> Self {
        let mut ours = Self { table: table.name.clone(), ..Self::default() };
        if !is_used(&table.name) {
            return ours;
        }
        ours.chains = table.chains.iter().map(|c| c.name.clone()).filter(|name| ChainPair::owns(name)).collect();
        let mut places = BTreeMap::<&str, usize>::new();
        for rule in &table.rules {
            let place = places.entry(&rule.chain).or_default();
            *place += 1;
            if ChainPair::owns(&rule.chain) {
                ours.inside.push((rule.chain.clone(), rule.spec.clone()));
                continue;
            }
            let leads_to_us = rule.target().filter(|target| ChainPair::owns(target));
            let is_ours = has_our_comment(rule)
                || leads_to_us.is_some() && is_builtin(&rule.chain)
                || take_recorded(recorded, &table.name, rule);
            // A line break cannot be said in a text, so such a rule cannot be named for removal.
            if is_ours && !rule.spec.contains('\n') {
                ours.outside.push(Outside { chain: rule.chain.clone(), place: *place, spec: rule.spec.clone() });
                continue;
            }
            *ours.others.entry(rule.chain.clone()).or_default() += 1;
            if let Some(target) = leads_to_us {
                ours.intruders.push((format!("-A {} {}", rule.chain, rule.spec), target.to_owned()));
            }
        }
        ours
    }

    fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.outside.is_empty()
    }

    fn replace_by(&self, want: &WantedIn, text: &mut String) {
        let stays = |chain: &&String| want.chains.contains(chain);
        let is_there = |chain: &&String| self.chains.contains(chain);
        let gone: Vec<_> = self.chains.iter().filter(|chain| !stays(chain)).collect();
        let _ = writeln!(text, "*{}", want.table);
        for rule in &self.outside {
            let _ = writeln!(text, "-D {} {}", rule.chain, rule.spec);
        }
        // Declaring a chain that is there empties it.
        for chain in self.chains.iter().filter(stays) {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        for chain in &gone {
            let _ = writeln!(text, "-F {chain}");
        }
        for chain in &gone {
            let _ = writeln!(text, "-X {chain}");
        }
        // Not by a declaration: if somebody else has made the chain meanwhile, this has to fail.
        for chain in want.chains.iter().filter(|chain| !is_there(chain)) {
            let _ = writeln!(text, "-N {chain}");
        }
        text.push_str(&want.rules);
        text.push_str("COMMIT\n");
    }

    fn to_be_put_back(&self, now: &Self) -> WantedIn {
        let mut rules = String::new();
        let mut lengths = now.others.clone();
        for Outside { chain, place, spec } in &self.outside {
            let length = lengths.entry(chain.clone()).or_default();
            *length += 1;
            // If others have taken rules away meanwhile, the nearest place is the end.
            let _ = writeln!(rules, "-I {chain} {} {spec}", place.min(length));
        }
        for (chain, spec) in &self.inside {
            let _ = writeln!(rules, "-A {chain} {spec}");
        }
        WantedIn { table: self.table.clone(), chains: self.chains.clone(), rules }
    }
}

/// What is to be there.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    tables: Vec<WantedIn>,
}

#[derive(Debug, Clone, Default)]
struct WantedIn {
    table: String,
    /// Our chains, in the order of their creation.
    chains: Vec<String>,
    /// The lines that add our rules.
    rules: String,
}

impl Wanted {
    /// The rules of a plan.
    pub(super) fn of<F: Family>(ruleset: &Ruleset<F>) -> Self {
        let tables = ruleset.tables.iter().map(|table| WantedIn {
            table: table.name.to_string(),
            chains: table.user_defined().map(|chain| chain.name.to_string()).collect(),
            rules: iptables::rules(table),
        });
        Self { tables: tables.collect() }
    }
}

/// The rules of a plan for built-in chains that have no comment by which they could be known again.
/// Some of them lead to our chains and are known by that; they are there to say that comments were
/// off.
pub(super) fn unmarked<F: Family>(ruleset: &Ruleset<F>, mode: Mode) -> Vec<Recorded> {
    let in_table = |table: &Table<F>| {
        let name = table.name;
        let builtin = table.chains.iter().filter(|chain| chain.is_builtin());
        let rules = builtin.flat_map(|chain| chain.rules.iter().map(move |rule| (chain.name.to_string(), rule)));
        rules
            .filter(|(_, rule)| rule.comment.is_none())
            .flat_map(|(chain, rule)| rule.clone().split_multiport().into_iter().map(move |part| (chain.clone(), part)))
            .map(|(chain, rule)| Recorded {
                family: F::NAME,
                mode,
                table: name,
                chain,
                spec: iptables::rule(&rule, iptables::Style::Short),
            })
            .collect::<Vec<_>>()
    };
    ruleset.tables.iter().flat_map(in_table).collect()
}

/// Whether installations put anything into the table of this name.
fn is_used(table: &str) -> bool {
    TableName::OURS.iter().any(|name| name.as_str() == table)
}

fn is_builtin(name: &str) -> bool {
    BuiltinChain::ALL.iter().any(|chain| chain.as_str() == name)
}

fn has_our_comment<F: Family>(rule: &SavedRule<F>) -> bool {
    rule.comment().is_some_and(|comment| Comment::is_ours(&comment))
}

/// A recorded rule in the model's terms, in which spelling does not matter.
fn known_rule<F: Family>(recorded: &Recorded) -> Option<(String, String, Rule<F>)> {
    let Recorded { table, chain, spec, .. } = recorded;
    let text = format!("*{table}\n-A {chain} {spec}\nCOMMIT\n");
    let rule = save::parse::<F>(&text).ok()?.tables.pop()?.rules.pop()?.rule.ok()?;
    Some((table.to_string(), chain.clone(), rule.canonical()))
}

/// Whether a rule is one of those recorded, each of which stands for one rule only.
fn take_recorded<F: Family>(recorded: &mut Vec<(String, String, Rule<F>)>, table: &str, rule: &SavedRule<F>) -> bool {
    // A rule with a comment is not one that was installed without.
    let (Ok(known), None) = (&rule.rule, rule.comment()) else { return false };
    let known = known.clone().canonical();
    let found = recorded.iter().position(|(t, chain, r)| *t == table && *chain == rule.chain && *r == known);
    found.map(|at| recorded.remove(at)).is_some()
}

/// Rules of the kinds that we install, where we install them.
fn suspects<F: Family>(saved: &Saved<F>, ours: &[OursIn]) -> Vec<String> {
    let mut found = Vec::new();
    for (table, ours) in saved.tables.iter().zip(ours) {
        if !is_used(&table.name) {
            continue;
        }
        for rule in &table.rules {
            let place = matches!(rule.chain.as_str(), "PREROUTING" | "OUTPUT");
            let marked =
                rule.comment().is_some() || ours.outside.iter().any(|o| o.chain == rule.chain && o.spec == rule.spec);
            let kind = rule.rule.as_ref().is_ok_and(|rule| match &rule.target {
                Target::Jump { chain } => chain.as_str() == "DOCKER_OUTPUT",
                _ => true,
            });
            if place && !marked && kind {
                found.push(format!("-t {} -A {} {}", table.name, rule.chain, rule.spec));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{FamilyName, V4};

    const FOREIGN: &str = "-A OUTPUT -p udp -m udp --dport 123 -j ACCEPT\n";

    fn ours(text: &str, recorded: &[Recorded]) -> Ours {
        Ours::find(&save::parse::<V4>(text).unwrap(), &recorded.iter().collect::<Vec<_>>())
    }

    fn nat(rules: &str) -> String {
        format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUMA_MESH_OUTBOUND - [0:0]\n:MINE - [0:0]\n{rules}COMMIT\n"
        )
    }

    fn recorded(spec: &str) -> Recorded {
        Recorded {
            family: FamilyName::V4,
            mode: Mode::Nft,
            table: TableName::Nat,
            chain: "OUTPUT".into(),
            spec: spec.into(),
        }
    }

    #[test]
    fn a_mention_of_us_is_not_a_mark() {
        let text = nat("-A OUTPUT -m comment --comment \"not KUMA_MESH_ but kuma/mesh/transparent/proxy/\" -j MINE\n");
        let found = ours(&text.replace(":KUMA_MESH_OUTBOUND - [0:0]\n", ""), &[]);
        assert!(found.is_empty() && found.replace_by(&Wanted::default()).is_empty());
    }

    #[test]
    fn nothing_is_ours_in_a_table_that_installations_do_not_use() {
        let filter = nat("-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j DROP\n");
        let found = ours(&filter.replace("*nat", "*filter"), &[]);
        assert!(found.is_empty() && found.suspects.is_empty(), "{found:?}");
        assert_eq!(found.replace_by(&Wanted::default()), "");
        assert!(!ours(&filter, &[]).is_empty());
    }

    #[test]
    fn removal_names_exactly_our_rules_and_chains() {
        let text = nat(&format!(
            "-A OUTPUT -m comment --comment \"kuma/mesh/transparent/proxy/a \\\"b\\\"\" -j RETURN\n{FOREIGN}-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j RETURN\n"
        ));
        assert_eq!(
            ours(&text, &[]).replace_by(&Wanted::default()),
            "*nat\n-D OUTPUT -m comment --comment \"kuma/mesh/transparent/proxy/a \\\"b\\\"\" -j RETURN\n-D OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-F KUMA_MESH_OUTBOUND\n-X KUMA_MESH_OUTBOUND\nCOMMIT\n"
        );
    }

    #[test]
    fn what_was_is_put_back_in_its_place() {
        let before = nat(&format!(
            "-A OUTPUT -d 10.0.0.0/8 -j RETURN\n{FOREIGN}-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n{FOREIGN}-A KUMA_MESH_OUTBOUND -j RETURN\n"
        ));
        let now = ours(&nat(FOREIGN).replace(":KUMA_MESH_OUTBOUND - [0:0]\n", ""), &[]);
        let before = ours(&before, &[recorded("-d 10.0.0.0/8 -j RETURN")]);
        assert_eq!(
            now.replace_by(&before.to_be_put_back(&now)),
            "*nat\n-N KUMA_MESH_OUTBOUND\n-I OUTPUT 1 -d 10.0.0.0/8 -j RETURN\n-I OUTPUT 3 -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j RETURN\nCOMMIT\n"
        );
    }

    #[test]
    fn a_recorded_rule_stands_for_one_rule() {
        let text = nat("-A OUTPUT -d 10.0.0.0/8 -j RETURN\n-A OUTPUT -d 10.0.0.0/8 -j RETURN\n");
        let text = ours(&text, &[recorded("-d 10.0.0.0/8 -j RETURN")]).replace_by(&Wanted::default());
        assert_eq!(text.matches("-D OUTPUT -d 10.0.0.0/8 -j RETURN\n").count(), 1, "{text}");
    }

    #[test]
    fn without_marks_and_record_rules_are_suspected_only() {
        let text = nat(&format!(
            "-A OUTPUT -d 10.0.0.0/8 -j RETURN\n-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n{FOREIGN}-A KUMA_MESH_OUTBOUND -j RETURN\n"
        ));
        let found = ours(&text, &[]);
        assert!(found.suspects.contains(&"-t nat -A OUTPUT -d 10.0.0.0/8 -j RETURN".to_owned()));
        assert!(!found.replace_by(&Wanted::default()).contains("10.0.0.0/8"));
        let known = ours(&text, &[recorded("-d 10.0.0.0/8 -j RETURN")]);
        assert!(!known.suspects.iter().any(|rule| rule.contains("10.0.0.0/8")));
    }

    #[test]
    fn rules_of_others_that_lead_to_us_are_in_the_way_of_removal() {
        let text = nat("-A MINE -p tcp -j KUMA_MESH_OUTBOUND\n");
        let found = ours(&text, &[]);
        assert_eq!(found.in_the_way(&Wanted::default()), ["-t nat -A MINE -p tcp -j KUMA_MESH_OUTBOUND"]);
        let stays = WantedIn { table: "nat".into(), chains: vec!["KUMA_MESH_OUTBOUND".into()], rules: String::new() };
        assert!(found.in_the_way(&Wanted { tables: vec![stays] }).is_empty());
    }
}
