//! Our tables as they are in the kernel, where anybody may have changed them.

use std::fmt;

use super::marker::Marker;
use super::native::{Base, Condition, Rule};
use crate::net::FamilyName;

/// Our table of a family as it was found: as [`Table`](super::Table), but anything in it may be none of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveTable {
    /// The family: `ip` or `ip6`.
    pub family: FamilyName,
    /// Whether it is switched off (`flags dormant`): then the kernel calls none of its chains. Ours never is.
    pub dormant: bool,
    /// Its chains, without the marker's.
    pub chains: Vec<LiveChain>,
    /// What it says of itself.
    pub marker: Option<Marker>,
}

impl LiveTable {
    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<&LiveChain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}

/// A chain of a [`LiveTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LiveChain {
    /// Its name; may be one that no chain of ours can have.
    pub name: String,
    /// Where the kernel calls it, or what is said of that and not known here; none for a regular chain.
    pub base: Option<Result<Base, Foreign>>,
    /// Whether a packet at its end is dropped. One of ours never does that.
    pub drops: bool,
    /// Its rules, in order: those that one of ours could be, whoever made them, and others. Without their
    /// [`sources`](Rule::sources), which the kernel does not keep.
    pub rules: Vec<Result<Rule, Foreign>>,
}

/// Something that nothing of ours can be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Foreign {
    /// The conditions that a rule begins with, as far as they are known. If one does not hold, the rule does nothing.
    pub conditions: Vec<Condition>,
    /// What there is besides, in the kernel's words: `counter accept`.
    pub text: String,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
