//! How what is installed differs from what is wanted, in words. Pure, so that the fake compares as the
//! real engines do.

use super::messages::tables;
use crate::error::counted;
use crate::model::{Chain, Ruleset, Table};
use crate::net::{Family, FamilyName};
use crate::netlink::{Dump, KernelTable};
use crate::nftables::Native;

/// What is to be in the tables of both families.
pub(crate) struct ExpectedTables {
    v4: KernelTable,
    v6: Option<KernelTable>,
}

impl ExpectedTables {
    pub(crate) fn of(native: &Native) -> Self {
        Self { v4: KernelTable::of(&native.v4), v6: native.v6.as_ref().map(KernelTable::of) }
    }

    /// Whether exactly this was found, down to whose `::6` on the loopback interface is.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(crate) fn is(&self, found: &Dump) -> bool {
        let owns =
            |content: Option<&KernelTable>| content.and_then(KernelTable::marker).is_some_and(|marker| marker.address);
        differences(self, found).is_empty() && owns(self.v6.as_ref()) == owns(found.v6.as_ref())
    }

    pub(crate) fn of_family(&self, family: FamilyName) -> Option<&KernelTable> {
        match family {
            FamilyName::V4 => Some(&self.v4),
            FamilyName::V6 => self.v6.as_ref(),
        }
    }
}

/// How what was found differs from what is wanted.
pub(crate) fn differences(wanted: &ExpectedTables, found: &Dump) -> Vec<String> {
    let mut list = Vec::new();
    for family in FamilyName::ALL {
        let table = tables(&[family]);
        match (wanted.of_family(family), found.of(family)) {
            (None, None) => {}
            (Some(_), None) => list.push(format!("{table} is missing")),
            (None, Some(_)) => list.push(format!("{table} is there, and the plan leaves {family} out")),
            (Some(wanted), Some(found)) => {
                let marks = wanted.marker().zip(found.marker());
                if !marks.is_some_and(|(wanted, found)| wanted.is_of_the_same_rules(&found)) {
                    list.push(format!(
                        "{table} was installed from a different configuration, or by another kumatp version"
                    ));
                }
                list.extend(wanted.differences(found).into_iter().map(|difference| format!("{table}: {difference}")));
            }
        }
    }
    list
}

/// How the rules of a family in the tables of iptables differ from what is wanted, both in canonical form.
pub(crate) fn of_rulesets<F: Family>(wanted: &Ruleset<F>, found: &Ruleset<F>) -> Vec<String> {
    let chains = |rules: &Ruleset<F>| {
        let of_table = |table: &Table<F>| {
            let name = table.name;
            table.chains.iter().map(|chain| ((name, chain.name.clone()), chain.clone())).collect::<Vec<_>>()
        };
        rules.tables.iter().flat_map(of_table).collect::<Vec<_>>()
    };
    let (wanted, found) = (chains(wanted), chains(found));
    let mut list = Vec::new();
    for (key, chain) in &wanted {
        let place = format!("the chain {} of the table {}", key.1, key.0);
        let there = found.iter().find(|(other, _)| other == key).map(|(_, there)| there);
        match there {
            None if chain.is_builtin() => list.push(format!("{place} has no rules of kumatp")),
            None => list.push(format!("{place} is missing")),
            Some(there) => list.extend(difference(&place, chain, there)),
        }
    }
    for (key, _) in found.iter().filter(|(key, _)| wanted.iter().all(|(other, _)| other != key)) {
        let what =
            if key.1.builtin().is_some() { "has rules of kumatp that are not expected" } else { "is not expected" };
        list.push(format!("the chain {} of the table {} {what}", key.1, key.0));
    }
    list.into_iter().map(|text| format!("{}: {text}", F::NAME)).collect()
}

fn difference<F: Family>(place: &str, wanted: &Chain<F>, found: &Chain<F>) -> Option<String> {
    let (many, there) = (wanted.rules.len(), found.rules.len());
    if many != there {
        let of_ours = if wanted.is_builtin() { " of kumatp" } else { "" };
        return Some(format!("{place} has {}{of_ours}, expected {many}", counted(there, "rule")));
    }
    let index = wanted.rules.iter().zip(&found.rules).position(|(a, b)| a != b)?;
    Some(format!("rule {} of {place} differs", index + 1))
}
