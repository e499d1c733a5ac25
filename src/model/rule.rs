use std::fmt;

use super::{Comment, Match, PortMatch, Target, Transport};
use crate::net::Family;

/// One rule: if all `matches` hold, then `target`.
///
/// Two rules are equal if they do the same at the same place: the comment and the origin are not
/// compared.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(rename_all = "camelCase", bound = "")]
#[non_exhaustive]
pub struct Rule<F: Family> {
    /// Where it goes in its chain.
    pub placement: Placement,
    /// The conditions, in the order in which they are written.
    pub matches: Vec<Match<F>>,
    /// What happens if they hold.
    #[serde(flatten)]
    pub target: Target,
    /// What it is for; none if comments are switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
    /// The configuration key that asked for it; none in rules that were read from a host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

impl<F: Family> Rule<F> {
    /// A rule at the end of its chain, for every packet.
    pub fn new(target: Target) -> Self {
        Self { placement: Placement::Append, matches: Vec::new(), target, comment: None, origin: None }
    }

    /// Puts the rule at the top of its chain, below the rules inserted before it.
    pub fn inserted(mut self) -> Self {
        self.placement = Placement::Insert;
        self
    }

    /// Adds a condition.
    pub fn with(mut self, condition: impl Into<Match<F>>) -> Self {
        self.matches.push(condition.into());
        self
    }

    /// Says what the rule is for, in our own words; see [`Comment::ours`].
    pub fn comment(mut self, words: &str) -> Self {
        self.comment = Some(Comment::ours(words));
        self
    }

    /// Says which configuration key asked for it.
    pub fn because(mut self, origin: impl Into<Origin>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// The rule as iptables takes it: one whose `multiport` match names more than
    /// [`MULTIPORT_SLOTS`](Self::MULTIPORT_SLOTS) ports becomes several, in order. A negated match is never
    /// split, since several rules cannot say "none of these"; nothing that we plan has one.
    pub fn split_multiport(self) -> Vec<Self> {
        let position = self.matches.iter().position(|m| match m {
            Match::Transport(Transport {
                destination: Some(PortMatch::Multiport { ports, negated: false }), ..
            }) => ports.slots() > Self::MULTIPORT_SLOTS,
            _ => false,
        });
        let Some(position) = position else { return vec![self] };
        let Match::Transport(transport) = &self.matches[position] else { return vec![self] };
        let Some(destination) = &transport.destination else { return vec![self] };
        destination
            .ports()
            .split(Self::MULTIPORT_SLOTS)
            .map(|ports| {
                let mut rule = self.clone();
                rule.matches[position] = Match::Transport(transport.clone().to_ports(ports));
                rule
            })
            .collect()
    }

    /// How many ports one `multiport` match of iptables takes, a range counting as two
    /// (`XT_MULTI_PORTS` of linux/netfilter/xt_multiport.h).
    pub const MULTIPORT_SLOTS: usize = 15;

    /// The rule as iptables-save would list it: appended, matches in the order that all versions
    /// print them in, spelling details and conditions that hold for every packet gone.
    pub fn canonical(mut self) -> Self {
        self.placement = Placement::Append;
        for condition in &mut self.matches {
            if let Match::Transport(transport) = condition {
                transport.module_first = false;
            }
        }
        self.matches.retain(|condition| !condition.is_always());
        crate::sorted::by_key(&mut self.matches, Match::canonical_rank);
        self
    }
}

impl<F: Family> PartialEq for Rule<F> {
    fn eq(&self, other: &Self) -> bool {
        self.placement == other.placement && self.matches == other.matches && self.target == other.target
    }
}

impl<F: Family> Eq for Rule<F> {}

/// Where a rule goes in its chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "there is a top and an end")]
pub enum Placement {
    /// After all that is there.
    Append,
    /// Before all that is there, but after the inserted rules that stand above it in the same
    /// [`Chain`](super::Chain). Renderers number these from 1.
    Insert,
}

/// The configuration key that asked for a rule: `redirect.outbound.excludePorts[2]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a key and an index is all that there is")]
pub struct Origin {
    /// The key.
    pub key: &'static str,
    /// The item, counted from 0, where the key holds a list.
    pub index: Option<u32>,
}

impl Origin {
    /// An item of a list.
    pub fn item(key: &'static str, index: usize) -> Self {
        // Lists are bounded by the size of a document, far below u32::MAX items.
        Self { key, index: u32::try_from(index).ok() }
    }
}

impl From<&'static str> for Origin {
    fn from(key: &'static str) -> Self {
        Self { key, index: None }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "{}[{index}]", self.key),
            None => f.write_str(self.key),
        }
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
