//! What an installation notes down, since the kernel cannot tell it: rules without comments, where eBPF
//! programs are pinned and, before Linux 5.18, whether `::6` on the loopback interface is ours. The
//! engine netlink notes nothing down here.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::model::{IptablesMode, TableName};
use crate::net::FamilyName;

/// What is noted down about a network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Record {
    /// Whether an installation added `::6` to the loopback interface.
    pub(crate) loopback_address: bool,
    /// The rules without a comment that installations added to built-in chains.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rules: Vec<Recorded>,
    /// Where eBPF programs are pinned, if that is not the usual place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bpffs: Option<PathBuf>,
}

/// A rule as it was given to iptables.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) family: FamilyName,
    pub(crate) mode: IptablesMode,
    pub(crate) table: TableName,
    pub(crate) chain: String,
    /// What stood after the chain.
    pub(crate) spec: String,
    /// How many equal rules of other programs stand before it in its chain.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) behind: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Recorded {
    fn is(&self, other: &Self) -> bool {
        let what = |rule: &Self| (rule.family, rule.mode, rule.table);
        what(self) == what(other) && self.chain == other.chain && self.spec == other.spec
    }
}

impl Record {
    /// Notes more rules down. Those that are noted already, as often, are not noted twice: either
    /// the old ones or the new ones are in force. The places are those of the new ones.
    pub(crate) fn or_rules(&mut self, new: &[Recorded]) {
        self.merge(new, |old, new| old.behind = new.behind);
    }

    /// The same for rules whose places are not known: those of the old ones stay.
    pub(crate) fn or_rules_anywhere(&mut self, new: &[Recorded]) {
        self.merge(new, |_, _| {});
    }

    fn merge(&mut self, new: &[Recorded], both: impl Fn(&mut Recorded, &Recorded)) {
        let mut left: Vec<usize> = (0..self.rules.len()).collect();
        for rule in new {
            match left.iter().position(|at| self.rules[*at].is(rule)) {
                Some(found) => both(&mut self.rules[left.remove(found)], rule),
                None => self.rules.push(rule.clone()),
            }
        }
    }

    /// The rules of a family and mode.
    pub(crate) fn of(&self, family: FamilyName, mode: IptablesMode) -> Vec<&Recorded> {
        self.rules.iter().filter(|rule| rule.family == family && rule.mode == mode).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: &str) -> Recorded {
        Recorded {
            family: FamilyName::V6,
            mode: IptablesMode::Legacy,
            table: TableName::Nat,
            chain: "OUTPUT".into(),
            spec: spec.into(),
            behind: 0,
        }
    }

    #[test]
    fn rules_are_noted_as_often_as_they_are_there() {
        let mut record = Record { rules: vec![rule("a"), rule("b")], ..Record::default() };
        record.or_rules(&[rule("a"), rule("a"), rule("c")]);
        let specs: Vec<_> = record.rules.iter().map(|r| r.spec.as_str()).collect();
        assert_eq!(specs, ["a", "b", "a", "c"]);
        assert!(record.of(FamilyName::V4, IptablesMode::Legacy).is_empty());
        let moved = Recorded { behind: 2, ..rule("a") };
        record.or_rules_anywhere(std::slice::from_ref(&moved));
        assert_eq!(record.rules[0].behind, 0);
        record.or_rules(&[moved]);
        assert_eq!((record.rules.len(), record.rules[0].behind), (4, 2));
    }
}
