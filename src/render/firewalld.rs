//! firewalld's direct configuration: the document `direct.xml`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::iptables::{self, Style};
use crate::model::{Placement, Plan, Rule, Ruleset};
use crate::net::{Family, FamilyName};

/// The priority of appended rules: that of kumactl. Rules of a chain go by priority, then by their
/// order in the document.
const APPENDED: i64 = 3;

/// The rules of a plan as a whole document.
///
/// Inserted rules get priorities below 0, so that they come before those that an administrator
/// numbered from 0; appended ones get 3, as kumactl gives them.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let document = kumatp::render::firewalld::plan(&plan);
/// assert!(document.contains(r#"<chain ipv="ipv6" table="nat" chain="KUMA_MESH_INBOUND"/>"#));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    Entries::of(plan).document()
}

/// Where a rule goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct DirectSlot {
    family: FamilyName,
    table: String,
    chain: String,
}

#[derive(Debug)]
struct RuleEntry {
    place: DirectSlot,
    inserted: bool,
    args: String,
}

/// The chains and rules of a document, in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    chains: Vec<DirectSlot>,
    rules: Vec<RuleEntry>,
    /// The inserted rules of each chain, in the order of their effect, as indices of `rules`.
    inserted: BTreeMap<DirectSlot, Vec<usize>>,
}

/// One chain or rule of a document.
#[derive(Debug)]
pub(crate) struct Entry<'a> {
    /// The family.
    pub(crate) family: FamilyName,
    /// The table.
    pub(crate) table: &'a str,
    /// The chain.
    pub(crate) chain: &'a str,
    /// For a rule: its priority and its arguments.
    pub(crate) rule: Option<(i64, &'a str)>,
}

impl Entries {
    /// The rules of a plan.
    pub(crate) fn of(plan: &Plan) -> Self {
        let style = if plan.options.verbose { Style::Long } else { Style::Short };
        let mut entries = Self::default();
        entries.add_ruleset(plan.iptables_v4(), style);
        if let Some(v6) = plan.iptables_v6() {
            entries.add_ruleset(v6, style);
        }
        entries
    }

    fn add_ruleset<F: Family>(&mut self, ruleset: &Ruleset<F>, style: Style) {
        for table in &ruleset.tables {
            for chain in table.user_defined() {
                self.add_chain(F::NAME, table.name.as_str(), chain.name.as_str());
            }
            for chain in &table.chains {
                let mut inserted = 0;
                for rule in chain.rules.iter().cloned().flat_map(Rule::split_multiport) {
                    let args = iptables::rule(&rule, style);
                    let (table, chain) = (table.name.as_str(), chain.name.as_str());
                    match rule.placement {
                        Placement::Append => self.append(F::NAME, table, chain, args),
                        Placement::Insert => {
                            self.insert(F::NAME, table, chain, inserted, args);
                            inserted += 1;
                        }
                    }
                }
            }
        }
    }

    /// Adds a chain, unless it is there.
    pub(crate) fn add_chain(&mut self, family: FamilyName, table: &str, chain: &str) {
        let place = DirectSlot { family, table: table.to_owned(), chain: chain.to_owned() };
        if !self.chains.contains(&place) {
            self.chains.push(place);
        }
    }

    /// Adds a rule at the end of its chain, unless the same is there.
    pub(crate) fn append(&mut self, family: FamilyName, table: &str, chain: &str, args: String) {
        let place = DirectSlot { family, table: table.to_owned(), chain: chain.to_owned() };
        if !self.rules.iter().any(|rule| !rule.inserted && rule.place == place && rule.args == args) {
            self.rules.push(RuleEntry { place, inserted: false, args });
        }
    }

    /// Adds a rule above the appended ones of its chain, behind `before` of the inserted ones. Says
    /// how many of these there are, if they are fewer.
    pub(crate) fn try_insert(
        &mut self,
        family: FamilyName,
        table: &str,
        chain: &str,
        before: usize,
        args: String,
    ) -> Result<(), usize> {
        let place = DirectSlot { family, table: table.to_owned(), chain: chain.to_owned() };
        let order = self.inserted.entry(place.clone()).or_default();
        if before > order.len() {
            return Err(order.len());
        }
        order.insert(before, self.rules.len());
        self.rules.push(RuleEntry { place, inserted: true, args });
        Ok(())
    }

    fn insert(&mut self, family: FamilyName, table: &str, chain: &str, before: usize, args: String) {
        let done = self.try_insert(family, table, chain, before, args);
        debug_assert!(done.is_ok(), "rules of a model are inserted one behind the other");
    }

    /// Chains, then rules. Of equal inserted rules of a chain, only the first in effect is there.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut priorities = BTreeMap::new();
        for order in self.inserted.values() {
            let mut kept: Vec<usize> = Vec::with_capacity(order.len());
            for index in order {
                if kept.iter().all(|other| self.rules[*other].args != self.rules[*index].args) {
                    kept.push(*index);
                }
            }
            for (distance, index) in kept.iter().rev().enumerate() {
                // There are fewer rules than i64::MAX in any memory.
                priorities.insert(*index, -1 - i64::try_from(distance).unwrap_or(i64::MAX - 1));
            }
        }
        let chains = self.chains.iter().map(|place| Self::entry(place, None));
        let rules = self.rules.iter().enumerate().filter_map(move |(index, rule)| {
            let priority = if rule.inserted { *priorities.get(&index)? } else { APPENDED };
            Some(Self::entry(&rule.place, Some((priority, rule.args.as_str()))))
        });
        chains.chain(rules)
    }

    fn entry<'a>(place: &'a DirectSlot, rule: Option<(i64, &'a str)>) -> Entry<'a> {
        Entry { family: place.family, table: &place.table, chain: &place.chain, rule }
    }

    /// The whole document.
    pub(crate) fn document(&self) -> String {
        let mut text = String::from("<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<direct>\n");
        for entry in self.iter() {
            entry.write(&mut text);
        }
        text.push_str("</direct>\n");
        text
    }
}

impl Entry<'_> {
    /// The family as firewalld spells it.
    pub(crate) fn ipv(&self) -> &'static str {
        match self.family {
            FamilyName::V4 => "ipv4",
            FamilyName::V6 => "ipv6",
        }
    }

    /// Writes the element, on a line of its own.
    pub(crate) fn write(&self, text: &mut String) {
        let (table, chain) = (Escaped(self.table), Escaped(self.chain));
        let _ = match self.rule {
            None => writeln!(text, "  <chain ipv=\"{}\" table=\"{table}\" chain=\"{chain}\"/>", self.ipv()),
            Some((priority, args)) => writeln!(
                text,
                "  <rule ipv=\"{}\" table=\"{table}\" chain=\"{chain}\" priority=\"{priority}\">{}</rule>",
                self.ipv(),
                EscapedText(args)
            ),
        };
    }
}

/// Text within an attribute.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        escape(self.0, true, f)
    }
}

/// Text between tags, where quotes may stand.
struct EscapedText<'a>(&'a str);

impl std::fmt::Display for EscapedText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        escape(self.0, false, f)
    }
}

fn escape(text: &str, quotes: bool, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
    for c in text.chars() {
        match c {
            '&' => f.write_str("&amp;")?,
            '<' => f.write_str("&lt;")?,
            '>' => f.write_str("&gt;")?,
            '"' if quotes => f.write_str("&quot;")?,
            _ => f.write_char(c)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: FamilyName = FamilyName::V4;

    fn rules(entries: &Entries) -> Vec<(i64, &str)> {
        entries.iter().filter_map(|entry| entry.rule).collect()
    }

    #[test]
    fn inserted_rules_come_first_in_their_order() {
        let mut entries = Entries::default();
        entries.append(V4, "nat", "OUTPUT", "last".into());
        for (before, args) in [(0, "b"), (0, "a"), (2, "d"), (2, "c")] {
            entries.try_insert(V4, "nat", "OUTPUT", before, args.into()).unwrap();
        }
        assert_eq!(entries.try_insert(V4, "nat", "OUTPUT", 5, "x".into()), Err(4));
        let mut found = rules(&entries);
        found.sort_unstable();
        assert_eq!(found, [(-4, "a"), (-3, "b"), (-2, "c"), (-1, "d"), (3, "last")]);
    }

    #[test]
    fn repeats_are_written_once() {
        let mut entries = Entries::default();
        for _ in 0..2 {
            entries.add_chain(V4, "nat", "X");
            entries.append(V4, "nat", "X", "a".into());
            entries.try_insert(V4, "nat", "X", 0, "b".into()).unwrap();
            entries.try_insert(V4, "nat", "X", 0, "c".into()).unwrap();
        }
        entries.append(FamilyName::V6, "nat", "X", "a".into());
        let mut found = rules(&entries);
        found.sort_unstable();
        assert_eq!(found, [(-2, "c"), (-1, "b"), (3, "a"), (3, "a")]);
        assert_eq!(entries.iter().filter(|entry| entry.rule.is_none()).count(), 1);
    }

    #[test]
    fn markup_is_escaped() {
        let mut entries = Entries::default();
        entries.append(V4, "nat", "a\"<&>", "--comment \"<&>\"".into());
        assert!(
            entries
                .document()
                .contains("chain=\"a&quot;&lt;&amp;&gt;\" priority=\"3\">--comment \"&lt;&amp;&gt;\"</rule>")
        );
    }
}
