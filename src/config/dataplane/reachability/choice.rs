//! What Kuma leaves to chance.
//!
//! Kuma 3 goes through the matches of a reference in an order that differs from one time to the next. A match that
//! has the port ends the search; a match that has not adds all its ports, and the search goes on.

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::super::BackendRef;
use super::Reached;
use super::conditions::Ports;

/// How sure a port is to be reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Grade {
    /// Not.
    Never,
    /// If Kuma happens to take it.
    ByChance,
    /// Always.
    Always,
}

/// The matches of one reference, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// All of them.
    pub(super) matches: usize,
    /// Those that end the search.
    pub(super) ending: usize,
    /// Those that add all their ports, of which they have some, and let the search go on.
    pub(super) passing: usize,
    /// Those that have not the port that is asked for.
    pub(super) without_port: usize,
}

impl Tally {
    pub(super) fn add(&mut self, ports: &Ports, has_ports: bool) {
        self.matches += 1;
        self.ending += usize::from(ports.ends());
        self.passing += usize::from(!ports.ends() && has_ports);
        self.without_port += usize::from(matches!(ports, Ports::AllInstead | Ports::None));
    }

    pub(super) fn grade(&self, ports: &Ports) -> Grade {
        let rivals = if ports.ends() { self.ending > 1 } else { self.ending > 0 };
        if rivals { Grade::ByChance } else { Grade::Always }
    }

    pub(super) fn by_chance(&self) -> bool {
        self.ending > 1 || self.ending == 1 && self.passing > 0
    }
}

/// A reference whose matches Kuma takes by chance.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Choice<'a> {
    /// Which one: `refs[3]`.
    pub path: String,
    /// The reference.
    pub reference: &'a BackendRef,
    /// Kuma takes exactly one of these, on these ports.
    pub one_of: Vec<Reached<'a>>,
    /// Beside it Kuma takes any number of these, or none: those that it happens to come across before.
    pub perhaps: Vec<Reached<'a>>,
}

impl Choice<'_> {
    /// How many backends a description lists of each kind. [`Reachability::by_chance`](super::Reachability::by_chance)
    /// has all of them.
    pub const LISTED: usize = 100;
}

/// `path`, `reference`, `oneOf` and `perhaps`, of which the first [`LISTED`](Choice::LISTED) are written, and
/// `oneOfCount` and `perhapsCount`.
impl Serialize for Choice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let listed = |list: &'_ [Reached<'_>]| list.len().min(Self::LISTED);
        let mut fields = serializer.serialize_struct("Choice", 6)?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("reference", self.reference)?;
        fields.serialize_field("oneOf", &self.one_of[..listed(&self.one_of)])?;
        fields.serialize_field("oneOfCount", &self.one_of.len())?;
        fields.serialize_field("perhaps", &self.perhaps[..listed(&self.perhaps)])?;
        fields.serialize_field("perhapsCount", &self.perhaps.len())?;
        fields.end()
    }
}
