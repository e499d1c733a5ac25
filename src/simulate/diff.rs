//! What is different between two sets of rules, and whose traffic it concerns.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::outcome::{Outcome, RulePosition, Verdict};
use super::packet::{AnyPacket, Direction, IpProtocol};
use super::program::Line;
use super::{Program, Simulator};
use crate::model::Origin;
use crate::net::FamilyName;

/// What is different between two sets of rules.
///
/// As text, as text. As JSON an object with `removed` and `added` (rules with `family`, `table`, `chain` and `rule`), `reordered`
/// (chains with `family`, `table` and `chain`) `traffic` (see [`Change`])
/// and, if something else than rules is missing of what is installed, `missing`.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Diff<'r> {
    /// The rules that only the first set has.
    pub removed: Vec<Listed<'r>>,
    /// The rules that only the second set has.
    pub added: Vec<Listed<'r>>,
    /// The chains whose common rules come in another order.
    pub reordered: Vec<Listed<'r>>,
    /// Whose traffic changes: a class of packets each.
    pub traffic: Vec<Change>,
    /// What is missing of what is installed, besides rules, in words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

impl Diff<'_> {
    /// Whether the two sets are the same.
    pub fn is_empty(&self) -> bool {
        let same_rules = self.removed.is_empty() && self.added.is_empty() && self.reordered.is_empty();
        same_rules && self.traffic.is_empty() && self.missing.is_empty()
    }
}

/// A rule, or a chain, of one of the sets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[non_exhaustive]
pub struct Listed<'r> {
    /// The family.
    pub family: FamilyName,
    /// The table.
    pub table: &'r str,
    /// The chain.
    pub chain: &'r str,
    /// The rule; none for a chain as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The configuration key that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Origin>,
}

impl Listed<'_> {
    /// The chain, and the rule.
    fn place(&self) -> ((FamilyName, &str, &str), Option<&str>) {
        ((self.family, self.table, self.chain), self.rule.as_deref())
    }
}

/// Packets that the two sets treat in different ways, by an example.
///
/// A class is all packets of a family, a direction and a protocol that end in the same way, or are tracked or logged in
/// the same way, because of the same configuration keys.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Change {
    /// One of the packets.
    pub example: AnyPacket,
    /// How many of the packets that were tried are of this class.
    pub tried: usize,
    /// Its outcome by the first set.
    pub before: Fate,
    /// Its outcome by the second set.
    pub after: Fate,
}

/// The outcome of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize)]
#[non_exhaustive]
pub struct Fate {
    /// Where it ends.
    pub verdict: Verdict,
    /// The conntrack zone.
    pub zone: u16,
    /// How many lines it leaves in the kernel log.
    pub log: usize,
    /// The configuration key of the rule that decided, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Origin>,
}

impl Fate {
    fn of(outcome: &Outcome<'_>) -> Self {
        let key = outcome.key();
        Self { verdict: outcome.verdict.clone(), zone: outcome.zone, log: outcome.log.len(), key }
    }

    /// Whether a packet notices the difference.
    fn same_as(&self, other: &Self) -> bool {
        (&self.verdict, self.zone, self.log) == (&other.verdict, other.zone, other.log)
    }
}

impl<'r> Simulator<'r> {
    /// What is different in `after`: its rules, and whose traffic it concerns. The packets that are tried are those of
    /// [`edges`](Self::edges) of both, and more of those that rules which only one of them has are for.
    pub fn diff(&self, after: &Simulator<'r>) -> Diff<'r> {
        let missing = self.missing.iter().chain(&after.missing).cloned().collect();
        let mut diff =
            Diff { removed: Vec::new(), added: Vec::new(), reordered: Vec::new(), traffic: Vec::new(), missing };
        for (a, b) in [(&self.v4, &after.v4), (&self.v6, &after.v6)] {
            diff.compare(a, b);
        }
        diff.traffic = self.changes(after, &diff);
        diff
    }

    fn changes(&self, after: &Simulator<'_>, diff: &Diff<'_>) -> Vec<Change> {
        let mut seen = HashSet::new();
        let changed: HashSet<_> = diff.removed.iter().chain(&diff.added).map(Listed::place).collect();
        let closer = |line: &Line<'_>| {
            let texts = line.place.listed();
            texts.iter().any(|text| changed.contains(&(line.place.chain(), Some(text.as_str()))))
        };
        let packets = self.edges_closer(&closer).into_iter().chain(after.edges_closer(&closer));
        let mut classes: HashMap<_, usize> = HashMap::new();
        let mut changes: Vec<Change> = Vec::new();
        for packet in packets.filter(|packet| seen.insert(packet.clone())) {
            let (before, after) = (Fate::of(&self.run(&packet)), Fate::of(&after.run(&packet)));
            if before.same_as(&after) {
                continue;
            }
            let class = (kind(&packet), before.clone(), after.clone());
            match classes.get(&class) {
                Some(at) => changes[*at].tried += 1,
                None => {
                    classes.insert(class, changes.len());
                    changes.push(Change { example: packet, tried: 1, before, after });
                }
            }
        }
        changes
    }
}

/// What packets of a class have in common.
fn kind(packet: &AnyPacket) -> (FamilyName, Direction, IpProtocol) {
    match packet {
        AnyPacket::V4(packet) => (FamilyName::V4, packet.direction, packet.protocol),
        AnyPacket::V6(packet) => (FamilyName::V6, packet.direction, packet.protocol),
    }
}

/// The rules of a chain, with how they are written.
type Listing<'r> = Vec<(String, RulePosition<'r>)>;

impl<'r> Diff<'r> {
    fn compare(&mut self, before: &Program<'r>, after: &Program<'r>) {
        let (before, after) = (listings(before), listings(after));
        for key in &crate::sorted::set(before.keys().chain(after.keys()).copied()) {
            let none = Vec::new();
            let (a, b) = (before.get(key).unwrap_or(&none), after.get(key).unwrap_or(&none));
            let (removed, kept) = without(a, b);
            let (added, kept_after) = without(b, a);
            self.removed.extend(removed);
            self.added.extend(added);
            if kept != kept_after {
                let (family, table, chain) = *key;
                self.reordered.push(Listed { family, table, chain, rule: None, key: None });
            }
        }
    }
}

fn listings<'r>(program: &Program<'r>) -> BTreeMap<(FamilyName, &'r str, &'r str), Listing<'r>> {
    let mut listings: BTreeMap<_, Listing<'r>> = BTreeMap::new();
    for line in program.chains.iter().filter(|chain| chain.role.is_told()).flat_map(|chain| &chain.lines) {
        for text in line.place.listed() {
            listings.entry(line.place.chain()).or_default().push((text, line.place));
        }
    }
    listings
}

/// The rules of `all` that `others` lacks, and how the rest is written, in order. A rule that stands there twice needs
/// two like it.
fn without<'r, 'l>(all: &'l Listing<'r>, others: &Listing<'r>) -> (Vec<Listed<'r>>, Vec<&'l str>) {
    let mut there: HashMap<&str, usize> = HashMap::new();
    for (text, _) in others {
        *there.entry(text).or_default() += 1;
    }
    let (mut missing, mut kept) = (Vec::new(), Vec::new());
    for (text, place) in all {
        match there.get_mut(text.as_str()) {
            Some(times) if *times > 0 => {
                *times -= 1;
                kept.push(text.as_str());
            }
            _ => {
                let (family, table, chain) = place.chain();
                missing.push(Listed { family, table, chain, rule: Some(text.clone()), key: place.key() });
            }
        }
    }
    (missing, kept)
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no difference");
        }
        let mut lines = Vec::new();
        let listed = self.removed.iter().map(|one| ('-', one)).chain(self.added.iter().map(|one| ('+', one)));
        lines.extend(listed.map(|(sign, one)| format!("{sign} {one}")));
        lines.extend(self.reordered.iter().map(|one| format!("~ {one}: the same rules in another order")));
        lines.extend(self.missing.iter().cloned());
        if self.traffic.is_empty() {
            lines.push("No packet that was tried is treated in another way.".to_owned());
        } else {
            lines.push("Whose traffic changes, by example:".to_owned());
        }
        lines.extend(self.traffic.iter().map(ToString::to_string));
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family, self.table, self.chain)?;
        if let Some(rule) = &self.rule {
            write!(f, ": {rule}")?;
        }
        match self.key {
            Some(key) => write!(f, "  # {key}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {}\n    before: {}\n    after:  {}", self.example, self.before, self.after)
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.verdict.fmt(f)?;
        if self.zone != 0 {
            write!(f, ", zone {}", self.zone)?;
        }
        if self.log != 0 {
            write!(f, ", logged")?;
        }
        match self.key {
            Some(key) => write!(f, " ({key})"),
            None => Ok(()),
        }
    }
}
