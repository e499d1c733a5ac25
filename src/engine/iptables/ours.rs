//! Which of the rules of a host are ours, and the text that takes them away or puts others in their
//! place.
//!
//! In the tables that installations use (raw, mangle and nat), ours, and kumactl's, are the chains whose
//! names begin with [`ChainPair::PREFIX`], the rules in them, the rules of built-in chains that lead to
//! them, every rule whose comment begins with [`Comment::PREFIX`], and those that a record names. In other
//! tables (filter, security) nothing is ours, whatever its name. Nobody else's rule is ever written: what
//! is not ours stays, in its place and with its counters.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::locate::Toolset;
use super::uncommented::{is_builtin, recorded_in};
use crate::engine::messages;
use crate::engine::record::{Record, Recorded};
use crate::engine::report::Report;
use crate::error::Error;
use crate::iptables_save::{self, Saved, SavedRule, SavedTable};
use crate::model::{ChainPair, Comment, Note, Ruleset, TableName, Target};
use crate::net::Family;
use crate::netlink::Marked;
use crate::render::iptables;

/// What is ours in the tables of one family and mode.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    tables: Vec<OursIn>,
    /// Rules that may be ours and carry nothing that says so; only where comments were off.
    suspects: Vec<String>,
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
    /// Rules of other programs that lead to our chains, and where to.
    intruders: Vec<(String, String)>,
    /// How many rules of other programs each chain has.
    others: BTreeMap<String, usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Outside {
    chain: String,
    /// Its place among all rules of the chain, from 1.
    place: usize,
    spec: String,
    /// Whether an equal rule of other programs stands before it: removing by what the rule says would remove that one.
    behind_equal: bool,
}

impl Ours {
    /// Finds what is ours. `recorded` are the rules without a comment that an installation of this
    /// family and mode noted down.
    pub(super) fn find<F: Family>(saved: &Saved<F>, recorded: &[&Recorded]) -> Self {
        let tables: Vec<_> = saved.tables.iter().map(|table| OursIn::find(table, recorded)).collect();
        // Comments were off when our chains were filled, and nothing tells what else was installed.
        let used = saved.tables.iter().filter(|table| is_used(&table.name));
        let uncommented = used.flat_map(|t| &t.rules).any(|r| ChainPair::owns(&r.chain) && !has_our_comment(r));
        let suspects = match uncommented {
            true => suspects(saved, &tables),
            false => Vec::new(),
        };
        Self { tables, suspects }
    }

    /// What the kernel says is ours, which is enough to remove it: of the rules in our chains only how many there are.
    pub(super) fn marked(tables: Vec<Marked>) -> Self {
        let tables = tables.into_iter().map(|Marked { table, chains, inside, outside }| OursIn {
            table: table.to_string(),
            chains,
            inside: inside.into_iter().map(|chain| (chain, String::new())).collect(),
            outside: outside
                .into_iter()
                .map(|(chain, place, spec)| Outside { chain, place, spec, behind_equal: false })
                .collect(),
            ..OursIn::default()
        });
        Self { tables: tables.collect(), suspects: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tables.iter().all(OursIn::is_empty)
    }

    /// Whether the rule at a place of a chain that is not ours is ours; places are counted from 1.
    pub(super) fn has(&self, table: &str, chain: &str, place: usize) -> bool {
        let here = self.tables.iter().filter(|known| known.table == table);
        here.flat_map(|known| &known.outside).any(|rule| rule.place == place && rule.chain == chain)
    }

    /// Rules of other programs that would lead to a chain that is no longer there, if only these chains stay.
    pub(super) fn in_the_way(&self, stay: &ExpectedRules) -> Vec<String> {
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
    pub(super) fn replace_by(&self, wanted: &ExpectedRules) -> String {
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

    /// The text that puts back what was ours `before` in the tables that have the rules `written` since, and the names of the
    /// tables that somebody else has changed meanwhile: those stay as they are.
    pub(super) fn undo<F: Family>(&self, before: &Self, written: &Ruleset<F>) -> (String, Vec<String>) {
        let names = crate::sorted::set(self.tables.iter().chain(&before.tables).map(|table| &table.table));
        let (mut text, mut changed) = (String::new(), Vec::new());
        for name in names {
            let none = OursIn { table: name.clone(), ..OursIn::default() };
            let of = |all: &'_ [OursIn]| all.iter().find(|table| table.table == *name).cloned();
            let (now, was) = (of(&self.tables), of(&before.tables));
            let (now, was) = (now.as_ref().unwrap_or(&none), was.as_ref().unwrap_or(&none));
            if now.says() == was.says() {
                continue;
            }
            match now.is_written(written) {
                true => now.replace_by(&was.to_be_put_back(now), &mut text),
                false => changed.push(name.clone()),
            }
        }
        (text, changed)
    }

    /// The same in the model's terms, without the rules of other programs.
    ///
    /// # Errors
    /// [`Error::Config`] with the rules that the model cannot say.
    pub(super) fn ruleset<F: Family>(&self) -> Result<Ruleset<F>, Error> {
        let text: String = self.tables.iter().map(OursIn::text).collect();
        iptables_save::parse::<F>(&text)?.ruleset()
    }

    /// What there is, as text: one item a table.
    pub(super) fn describe(&self) -> Vec<String> {
        self.tables
            .iter()
            .filter(|table| !table.is_empty())
            .map(|t| {
                let rules = t.inside.len() + t.outside.len();
                messages::in_table(rules, t.chains.len(), &t.table)
            })
            .collect()
    }

    /// Names rules that may be ours, unless an installation has noted down which are.
    pub(super) fn note_suspects(&self, tools: &Toolset, old: &Record, report: &mut Report) {
        if !old.of(tools.family, tools.mode).is_empty() {
            return;
        }
        report.notes.extend(self.suspects.iter().map(|rule| {
            let text = format!(
                "may be left from an installation without comments; as nothing tells whose it is, it stays: {} {rule}",
                tools.tables.display()
            );
            Note::warning("comments.disabled", text)
        }));
    }
}

impl OursIn {
    fn find<F: Family>(table: &SavedTable<F>, recorded: &[&Recorded]) -> Self {
        let recorded = recorded_in(table, recorded);
        let mut passed = BTreeSet::new();
        let mut ours = Self { table: table.name.clone(), ..Self::default() };
        if !is_used(&table.name) {
            return ours;
        }
        ours.chains = table.chains.iter().map(|c| c.name.clone()).filter(|name| ChainPair::owns(name)).collect();
        let mut places = BTreeMap::<&str, usize>::new();
        for (at, rule) in table.rules.iter().enumerate() {
            let place = places.entry(&rule.chain).or_default();
            *place += 1;
            if ChainPair::owns(&rule.chain) {
                ours.inside.push((rule.chain.clone(), rule.spec.clone()));
                continue;
            }
            let leads_to_us = rule.target().filter(|target| ChainPair::owns(target));
            let is_ours =
                has_our_comment(rule) || leads_to_us.is_some() && is_builtin(&rule.chain) || recorded.contains(&at);
            // A line break cannot be said in a text, so such a rule cannot be named for removal.
            if is_ours && !rule.spec.contains('\n') {
                let (chain, spec) = (rule.chain.clone(), rule.spec.clone());
                let behind_equal = passed.contains(&(&rule.chain, &rule.spec));
                ours.outside.push(Outside { chain, place: *place, spec, behind_equal });
                continue;
            }
            if !recorded.is_empty() {
                passed.insert((&rule.chain, &rule.spec));
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

    /// What is ours, wherever in their chains the rules stand.
    fn says(&self) -> impl PartialEq {
        let outside: Vec<_> = self.outside.iter().map(|rule| (rule.chain.clone(), rule.spec.clone())).collect();
        (self.chains.clone(), self.inside.clone(), outside)
    }

    /// Whether what is ours is what these rules have for the table.
    fn is_written<F: Family>(&self, rules: &Ruleset<F>) -> bool {
        let wanted = rules.tables.iter().filter(|table| table.name.as_str() == self.table).cloned();
        let found = iptables_save::parse::<F>(&self.text()).and_then(|saved| saved.ruleset());
        found.is_ok_and(|found| found.canonical() == Ruleset::new(wanted).canonical())
    }

    /// What is ours, as iptables-save would list it without the rules of other programs.
    fn text(&self) -> String {
        if self.is_empty() {
            return String::new();
        }
        let mut text = format!("*{}\n", self.table);
        for chain in &self.chains {
            let _ = writeln!(text, ":{chain} - [0:0]");
        }
        let outside = self.outside.iter().map(|rule| (&rule.chain, &rule.spec));
        for (chain, spec) in outside.chain(self.inside.iter().map(|(chain, spec)| (chain, spec))) {
            let _ = writeln!(text, "-A {chain} {spec}");
        }
        text.push_str("COMMIT\n");
        text
    }

    fn replace_by(&self, want: &WantedIn, text: &mut String) {
        let stays = |chain: &&String| want.chains.contains(chain);
        let is_there = |chain: &&String| self.chains.contains(chain);
        let gone: Vec<_> = self.chains.iter().filter(|chain| !stays(chain)).collect();
        let _ = writeln!(text, "*{}", want.table);
        let (numbered, named): (Vec<_>, Vec<_>) = self.outside.iter().partition(|rule| rule.behind_equal);
        // The last ones first, so that the numbers of the others stay.
        for rule in numbered.into_iter().rev() {
            let _ = writeln!(text, "-D {} {}", rule.chain, rule.place);
        }
        for rule in named {
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
        for Outside { chain, place, spec, .. } in &self.outside {
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
pub(super) struct ExpectedRules {
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

impl ExpectedRules {
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

/// Whether installations put anything into the table of this name.
fn is_used(table: &str) -> bool {
    TableName::OURS.iter().any(|name| name.as_str() == table)
}

fn has_our_comment<F: Family>(rule: &SavedRule<F>) -> bool {
    rule.comment().is_some_and(|comment| Comment::is_ours(&comment))
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
    use crate::model::IptablesMode;
    use crate::net::{FamilyName, V4};

    const FOREIGN: &str = "-A OUTPUT -p udp -m udp --dport 123 -j ACCEPT\n";

    fn ours(text: &str, recorded: &[Recorded]) -> Ours {
        Ours::find(&iptables_save::parse::<V4>(text).unwrap(), &recorded.iter().collect::<Vec<_>>())
    }

    fn nat(rules: &str) -> String {
        format!(
            "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:KUMA_MESH_OUTBOUND - [0:0]\n:MINE - [0:0]\n{rules}COMMIT\n"
        )
    }

    fn recorded(spec: &str) -> Recorded {
        Recorded {
            family: FamilyName::V4,
            mode: IptablesMode::Nft,
            table: TableName::Nat,
            chain: "OUTPUT".into(),
            spec: spec.into(),
            behind: 0,
        }
    }

    /// What puts `before` in the place of what is there now.
    fn put_back(now: &Ours, before: &Ours) -> String {
        let written = now.ruleset::<V4>().unwrap();
        let (text, changed) = now.undo(before, &written);
        assert!(changed.is_empty(), "{changed:?}");
        text
    }

    #[test]
    fn a_mention_of_us_is_not_a_mark() {
        let text = nat("-A OUTPUT -m comment --comment \"not KUMA_MESH_ but kuma/mesh/transparent/proxy/\" -j MINE\n");
        let found = ours(&text.replace(":KUMA_MESH_OUTBOUND - [0:0]\n", ""), &[]);
        assert!(found.is_empty() && found.replace_by(&ExpectedRules::default()).is_empty());
    }

    #[test]
    fn nothing_is_ours_in_a_table_that_installations_do_not_use() {
        let filter = nat("-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j DROP\n");
        let found = ours(&filter.replace("*nat", "*filter"), &[]);
        assert!(found.is_empty() && found.suspects.is_empty(), "{found:?}");
        assert_eq!(found.replace_by(&ExpectedRules::default()), "");
        assert!(!ours(&filter, &[]).is_empty());
    }

    #[test]
    fn removal_names_exactly_our_rules_and_chains() {
        let text = nat(&format!(
            "-A OUTPUT -m comment --comment \"kuma/mesh/transparent/proxy/a \\\"b\\\"\" -j RETURN\n{FOREIGN}-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j RETURN\n"
        ));
        assert_eq!(
            ours(&text, &[]).replace_by(&ExpectedRules::default()),
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
            put_back(&now, &before),
            "*nat\n-N KUMA_MESH_OUTBOUND\n-I OUTPUT 1 -d 10.0.0.0/8 -j RETURN\n-I OUTPUT 3 -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j RETURN\nCOMMIT\n"
        );
    }

    #[test]
    fn what_somebody_else_wrote_is_not_undone() {
        let before = ours(&nat("-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j RETURN\n"), &[]);
        let mine = ours(&nat("-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j DROP\n"), &[]);
        let theirs = ours(&nat("-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n-A KUMA_MESH_OUTBOUND -j ACCEPT\n"), &[]);
        let written = mine.ruleset::<V4>().unwrap();
        assert_eq!(theirs.undo(&before, &written), (String::new(), vec!["nat".to_owned()]));
        assert_eq!(before.undo(&before, &written), (String::new(), Vec::new()));
        assert!(mine.undo(&before, &written).0.contains("-A KUMA_MESH_OUTBOUND -j RETURN\n"));
    }

    #[test]
    fn a_rule_behind_an_equal_one_of_others_goes_by_its_number() {
        let text = nat(&format!(
            "-A OUTPUT -d 10.0.0.0/8 -j RETURN\n{FOREIGN}-A OUTPUT -d 10.0.0.0/8 -j RETURN\n-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n"
        ));
        let mut ours_is = recorded("-d 10.0.0.0/8 -j RETURN");
        ours_is.behind = 1;
        let text = ours(&text, &[ours_is]).replace_by(&ExpectedRules::default());
        assert!(text.starts_with("*nat\n-D OUTPUT 3\n-D OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n"), "{text}");
    }

    #[test]
    fn a_recorded_rule_stands_for_one_rule() {
        let text = nat("-A OUTPUT -d 10.0.0.0/8 -j RETURN\n-A OUTPUT -d 10.0.0.0/8 -j RETURN\n");
        let text = ours(&text, &[recorded("-d 10.0.0.0/8 -j RETURN")]).replace_by(&ExpectedRules::default());
        assert_eq!(text.matches("-D OUTPUT -d 10.0.0.0/8 -j RETURN\n").count(), 1, "{text}");
    }

    #[test]
    fn without_marks_and_record_rules_are_suspected_only() {
        let text = nat(&format!(
            "-A OUTPUT -d 10.0.0.0/8 -j RETURN\n-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\n{FOREIGN}-A KUMA_MESH_OUTBOUND -j RETURN\n"
        ));
        let found = ours(&text, &[]);
        assert!(found.suspects.contains(&"-t nat -A OUTPUT -d 10.0.0.0/8 -j RETURN".to_owned()));
        assert!(!found.replace_by(&ExpectedRules::default()).contains("10.0.0.0/8"));
        let known = ours(&text, &[recorded("-d 10.0.0.0/8 -j RETURN")]);
        assert!(!known.suspects.iter().any(|rule| rule.contains("10.0.0.0/8")));
    }

    #[test]
    fn rules_of_others_that_lead_to_us_are_in_the_way_of_removal() {
        let text = nat("-A MINE -p tcp -j KUMA_MESH_OUTBOUND\n");
        let found = ours(&text, &[]);
        assert_eq!(found.in_the_way(&ExpectedRules::default()), ["-t nat -A MINE -p tcp -j KUMA_MESH_OUTBOUND"]);
        let stays = WantedIn { table: "nat".into(), chains: vec!["KUMA_MESH_OUTBOUND".into()], rules: String::new() };
        assert!(found.in_the_way(&ExpectedRules { tables: vec![stays] }).is_empty());
    }
}
