//! Rules without comments: which ones an installation adds, and which of several equal ones are ours.
//!
//! Nothing in such a rule says whose it is, and others may have added an equal one. So an installation notes its own down, each
//! with the number of equal rules of other programs that stand before it.

use std::collections::{BTreeSet, HashMap};

use crate::engine::record::Recorded;
use crate::iptables_save::{self, Saved, SavedRule, SavedTable};
use crate::model::{BuiltinChain, IptablesMode, Match, Placement, Rule, Ruleset, Table};
use crate::net::{Cidr, Family};
use crate::render::iptables;

/// Where a rule is and what it says, spelled in one way.
type Key = (String, String, String);

/// The rules of a plan for built-in chains that have no comment by which they could be known again.
/// Some of them lead to our chains and are known by that; they are there to say that comments were
/// off. How many equal rules stand before them is not known yet: see [`place`].
pub(super) fn unmarked<F: Family>(ruleset: &Ruleset<F>, mode: IptablesMode) -> Vec<Recorded> {
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
                behind: if rule.placement == Placement::Insert { 0 } else { usize::MAX },
            })
            .collect::<Vec<_>>()
    };
    ruleset.tables.iter().flat_map(in_table).collect()
}

/// Says of rules that are going to be added how many equal rules of other programs will stand before them:
/// none where they are inserted, and all that there are where they are appended. `is_ours` tells of a table, a chain and a place in
/// it.
pub(super) fn place<'a, F: Family>(
    saved: &Saved<F>,
    is_ours: impl Fn(&str, &str, usize) -> bool,
    new: impl Iterator<Item = &'a mut Recorded>,
) {
    let mut new = new.filter(|rule| rule.behind > 0).peekable();
    let mut others = HashMap::<Key, usize>::new();
    for table in saved.tables.iter().filter(|_| new.peek().is_some()) {
        let mut places = HashMap::<&str, usize>::new();
        for rule in &table.rules {
            let place = places.entry(&rule.chain).or_default();
            *place += 1;
            if let Some(key) = key(&table.name, rule).filter(|_| !is_ours(&table.name, &rule.chain, *place)) {
                *others.entry(key).or_default() += 1;
            }
        }
    }
    for rule in new {
        rule.behind = known::<F>(rule).and_then(|key| others.get(&key).copied()).unwrap_or(0);
    }
}

/// The rules of a table, by their places in it, that are those recorded, each of which stands for one rule
/// only. Where there are fewer equal rules than there should be, the last ones are ours: who removes
/// a rule by what it says removes the first.
pub(super) fn recorded_in<F: Family>(table: &SavedTable<F>, recorded: &[&Recorded]) -> BTreeSet<usize> {
    let mut wanted = HashMap::<Key, Vec<usize>>::new();
    for rule in recorded.iter().filter(|rule| rule.table.as_str() == table.name) {
        if let Some(key) = known::<F>(rule) {
            wanted.entry(key).or_default().push(rule.behind);
        }
    }
    let mut found = HashMap::<Key, Vec<usize>>::new();
    for (at, rule) in table.rules.iter().enumerate().filter(|_| !wanted.is_empty()) {
        if let Some(key) = key(&table.name, rule).filter(|key| wanted.contains_key(key)) {
            found.entry(key).or_default().push(at);
        }
    }
    let mut ours = BTreeSet::new();
    for (key, equal) in &found {
        let Some(mut behind) = wanted.remove(key) else { continue };
        crate::sorted::by(&mut behind, Ord::cmp);
        behind.truncate(equal.len());
        for (before, others) in behind.iter().enumerate() {
            // As many rules as are ours and not placed yet have to fit behind this place.
            let last = equal.len() - (behind.len() - before);
            ours.insert(equal[others.saturating_add(before).min(last)]);
        }
    }
    ours
}

pub(super) fn is_builtin(name: &str) -> bool {
    BuiltinChain::ALL.iter().any(|chain| chain.as_str() == name)
}

/// A rule of a built-in chain that has no comment.
fn key<F: Family>(table: &str, rule: &SavedRule<F>) -> Option<Key> {
    let known = rule.rule.as_ref().ok().filter(|_| is_builtin(&rule.chain) && rule.comment().is_none())?;
    Some((table.to_owned(), rule.chain.clone(), spelled(known)))
}

fn known<F: Family>(recorded: &Recorded) -> Option<Key> {
    let Recorded { table, chain, spec, .. } = recorded;
    let text = format!("*{table}\n-A {chain} {spec}\nCOMMIT\n");
    let rule = iptables_save::parse::<F>(&text).ok()?.tables.pop()?.rules.pop()?.rule.ok()?;
    Some((table.to_string(), chain.clone(), spelled(&rule)))
}

/// Rules that do the same are spelled the same: iptables-save prints a network without the host bits that it was given with.
fn spelled<F: Family>(rule: &Rule<F>) -> String {
    let mut rule = rule.clone().canonical();
    for condition in &mut rule.matches {
        if let Match::Source { net, .. } | Match::Destination { net, .. } = condition {
            *net = Cidr::new(net.first(), net.prefix()).unwrap_or_else(|_| net.clone());
        }
    }
    iptables::rule(&rule, iptables::Style::Short)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::iptables::ours::Ours;
    use crate::model::TableName;
    use crate::net::{FamilyName, V4};

    const EQUAL: &str = "-m conntrack --ctstate INVALID -j DROP";

    fn saved(rules: &[&str]) -> Saved<V4> {
        let rules: String = rules.iter().map(|rule| format!("-A PREROUTING {rule}\n")).collect();
        iptables_save::parse(&format!("*mangle\n:PREROUTING ACCEPT [0:0]\n{rules}COMMIT\n")).unwrap()
    }

    fn recorded(behind: usize) -> Recorded {
        Recorded {
            family: FamilyName::V4,
            mode: IptablesMode::Nft,
            table: TableName::Mangle,
            chain: "PREROUTING".into(),
            spec: EQUAL.into(),
            behind,
        }
    }

    fn ours(rules: &[&str], behind: &[usize]) -> Vec<usize> {
        let recorded: Vec<_> = behind.iter().map(|behind| recorded(*behind)).collect();
        recorded_in(&saved(rules).tables[0], &recorded.iter().collect::<Vec<_>>()).into_iter().collect()
    }

    #[test]
    fn one_of_several_equal_rules_is_ours() {
        let rules = [EQUAL, "-i eth9 -j ACCEPT", EQUAL, EQUAL];
        assert_eq!(ours(&rules, &[0]), [0]);
        assert_eq!(ours(&rules, &[1]), [2]);
        assert_eq!(ours(&rules, &[2]), [3]);
        assert_eq!(ours(&rules, &[1, 1]), [2, 3]);
        assert_eq!(ours(&rules, &[0, 1]), [0, 3]);
        assert_eq!(ours(&rules, &[usize::MAX]), [3]);
    }

    #[test]
    fn who_removes_a_rule_by_what_it_says_removes_the_first() {
        assert_eq!(ours(&["-i eth9 -j ACCEPT", EQUAL], &[1]), [1]);
        assert_eq!(ours(&[EQUAL], &[1, 2, 3]), [0]);
        assert!(ours(&["-i eth9 -j ACCEPT"], &[0]).is_empty());
    }

    #[test]
    fn networks_are_known_with_host_bits_and_without_a_mask() {
        let saved = iptables_save::parse::<V4>(
            "*mangle\n-A PREROUTING ! -d 128.0.0.0/2 -j DROP\n-A PREROUTING -s 10.0.0.1/32 -j DROP\nCOMMIT\n",
        );
        let table = &saved.unwrap().tables[0];
        let rule = |spec: &str| Recorded { spec: spec.into(), ..recorded(0) };
        let noted = [rule("! -d 143.176.74.218/2 -j DROP"), rule("-s 10.0.0.1 -j DROP")];
        assert_eq!(recorded_in(table, &noted.iter().collect::<Vec<_>>()), BTreeSet::from([0, 1]));
    }

    #[test]
    fn an_appended_rule_stands_behind_those_of_others() {
        let saved = saved(&[EQUAL, EQUAL, "-i eth9 -j ACCEPT", EQUAL]);
        let before = recorded(1);
        let ours = Ours::find(&saved, &[&before]);
        let mut new = [recorded(usize::MAX), recorded(0)];
        place(&saved, |table, chain, place| ours.has(table, chain, place), new.iter_mut());
        assert_eq!(new.map(|rule| rule.behind), [2, 0]);
    }
}
