use super::constants::{NFT_SET_INTERVAL, NFT_TABLE_F_DORMANT, key_type, userdata};
use super::elements::Elements;
use super::expression::Expression;
use crate::error::counted;
use crate::model::{BuiltinChain, Comment};
use crate::net::FamilyName;
use crate::nftables::{Base, ChainType, Field, Marker, Rule, Set, Table};

/// What is in a table, in the kernel's terms.
///
/// Equal contents do the same and look the same to `nft list`; the order of chains and sets, which
/// has no effect, does not count.
#[derive(Debug, Clone, Default)]
pub struct KernelTable {
    /// `NFT_TABLE_F_*`; none in a table of ours.
    pub(super) flags: u32,
    pub(super) chains: Vec<ChainContent>,
    pub(super) sets: Vec<SetContent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainContent {
    pub(super) name: String,
    pub(super) base: Option<BaseContent>,
    pub(super) rules: Vec<RuleContent>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BaseContent {
    pub(super) kind: String,
    pub(super) hook: u32,
    pub(super) priority: i32,
    pub(super) policy: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RuleContent {
    pub(super) expressions: Vec<Expression>,
    pub(super) userdata: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SetContent {
    pub(super) name: String,
    pub(super) flags: u32,
    pub(super) key_type: u32,
    pub(super) key_len: u32,
    pub(super) elements: Elements,
}

impl KernelTable {
    /// Removes all rules of a chain. False if there is no such chain.
    pub(crate) fn flush(&mut self, name: &str) -> bool {
        let chain = self.chains.iter_mut().find(|chain| chain.name == name);
        chain.map(|chain| chain.rules.clear()).is_some()
    }

    /// What is to be in a table.
    pub fn of(table: &Table) -> Self {
        let chain = |chain: &crate::nftables::Chain| ChainContent {
            name: chain.name.to_string(),
            base: chain.base.as_ref().map(BaseContent::of),
            rules: chain.rules.iter().map(|rule| RuleContent::of(rule, table.family)).collect(),
        };
        Self {
            flags: 0,
            chains: table.chains.iter().map(chain).collect(),
            sets: table.sets().iter().map(|set| SetContent::of(set, table.family)).collect(),
        }
    }

    /// Whether a table of our name with this in it is ours, whatever has been done to it since: it has the marker's chain,
    /// which every version makes, or a rule whose comment is one of ours.
    pub(super) fn is_ours(&self) -> bool {
        let mut rules = self.chains.iter().flat_map(|chain| &chain.rules);
        self.chains.iter().any(|chain| chain.name == Marker::CHAIN)
            || rules.any(|rule| rule.comment().is_some_and(Comment::is_ours))
    }

    /// The marker, if there is one.
    pub fn marker(&self) -> Option<Marker> {
        let chain = self.chains.iter().find(|chain| chain.name == Marker::CHAIN)?;
        chain.rules.iter().find_map(|rule| Marker::parse(rule.comment()?))
    }

    /// What the flags of the table are, in words, where they are not these.
    pub(super) fn unlike(&self, flags: u32) -> Option<String> {
        let dormant = |flags: u32| flags & NFT_TABLE_F_DORMANT != 0;
        match (dormant(self.flags), dormant(flags)) {
            _ if self.flags == flags => None,
            (true, false) => Some("the table is switched off (flags dormant)".to_owned()),
            (false, true) => Some("the table is not switched off (flags dormant)".to_owned()),
            _ => Some(format!("the table has the flags {:#x} instead of {flags:#x}", self.flags)),
        }
    }

    /// How `found` differs from this, in words, one difference an item; none if the two are equal.
    pub fn differences(&self, found: &Self) -> Vec<String> {
        let mut list = Vec::new();
        list.extend(found.unlike(self.flags));
        for chain in &self.chains {
            match found.chains.iter().find(|other| other.name == chain.name) {
                None => list.push(format!("the chain {} is missing", chain.name)),
                Some(other) => chain.compare(other, &mut list),
            }
        }
        for set in &self.sets {
            match found.sets.iter().find(|other| other.name == set.name) {
                None => list.push(format!("the set {} is missing", set.name)),
                Some(other) if other != set => list.push(format!("the set {} has been changed", set.name)),
                Some(_) => {}
            }
        }
        let foreign_chain = |other: &&ChainContent| self.chains.iter().all(|chain| chain.name != other.name);
        let foreign_set = |other: &&SetContent| self.sets.iter().all(|set| set.name != other.name);
        list.extend(
            found.chains.iter().filter(foreign_chain).map(|chain| format!("the chain {} was added", chain.name)),
        );
        list.extend(found.sets.iter().filter(foreign_set).map(|set| format!("the set {} was added", set.name)));
        list
    }
}

impl PartialEq for KernelTable {
    fn eq(&self, other: &Self) -> bool {
        self.differences(other).is_empty()
    }
}

impl ChainContent {
    fn compare(&self, found: &Self, list: &mut Vec<String>) {
        if self.base != found.base {
            list.push(format!("chain {} has a different hook, priority or policy", self.name));
        }
        match (self.rules.len(), found.rules.len()) {
            (wanted, there) if wanted != there => {
                list.push(format!("the chain {} has {}, expected {wanted}", self.name, counted(there, "rule")));
            }
            _ => {
                // What a marker says is compared by those who know what it means.
                let marks = self.name == Marker::CHAIN;
                let same = |(a, b): (&RuleContent, &RuleContent)| a == b || marks && a.marks_as(b);
                let differing = self.rules.iter().zip(&found.rules).position(|pair| !same(pair));
                list.extend(differing.map(|index| format!("rule {} of chain {} differs", index + 1, self.name)));
            }
        }
    }
}

impl BaseContent {
    pub(super) fn of(base: &Base) -> Self {
        let kind = match base.kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        // `enum nf_inet_hooks` of linux/netfilter.h.
        let hook = match base.hook {
            BuiltinChain::Prerouting => 0,
            BuiltinChain::Input => 1,
            BuiltinChain::Forward => 2,
            BuiltinChain::Output => 3,
            BuiltinChain::Postrouting => 4,
        };
        Self { kind: kind.to_owned(), hook, priority: base.priority, policy: Self::ACCEPT }
    }

    /// `NF_ACCEPT`.
    pub(super) const ACCEPT: u32 = 1;
}

impl RuleContent {
    pub(super) fn of(rule: &Rule, family: FamilyName) -> Self {
        let comment = rule.comment.as_ref().map(|comment| entry(userdata::RULE_COMMENT, comment.as_str(), "\0"));
        Self { expressions: Expression::of(rule, family), userdata: comment.unwrap_or_default() }
    }

    /// Whether both are markers.
    fn marks_as(&self, other: &Self) -> bool {
        let is_marker = |rule: &Self| rule.comment().and_then(Marker::parse).is_some();
        self.expressions == other.expressions && is_marker(self) && is_marker(other)
    }

    /// The comment in the userdata.
    pub(super) fn comment(&self) -> Option<&str> {
        comment(&self.userdata)
    }
}

/// The comment in a rule's userdata.
pub(super) fn comment(mut rest: &[u8]) -> Option<&str> {
    while let [kind, length, more @ ..] = rest {
        let (value, after) = more.split_at_checked(usize::from(*length))?;
        if *kind == userdata::RULE_COMMENT {
            return super::wire::text(value);
        }
        rest = after;
    }
    None
}

/// An entry of userdata. A comment has at most 128 bytes, so its length fits.
fn entry(kind: u8, text: &str, end: &str) -> Vec<u8> {
    let value: Vec<u8> = text.bytes().chain(end.bytes()).take(usize::from(u8::MAX)).collect();
    [&[kind, value.len() as u8], &value[..]].concat()
}

impl SetContent {
    pub(super) fn of(set: &Set, family: FamilyName) -> Self {
        Self {
            name: set.name.to_string(),
            flags: NFT_SET_INTERVAL,
            key_type: match (set.field, family) {
                (Field::SourceAddress | Field::DestinationAddress, FamilyName::V4) => key_type::IPV4_ADDR,
                (Field::SourceAddress | Field::DestinationAddress, FamilyName::V6) => key_type::IPV6_ADDR,
                (Field::SourcePort | Field::DestinationPort, _) => key_type::INET_SERVICE,
                (Field::User, _) => key_type::UID,
                (Field::Group, _) => key_type::GID,
            },
            // 2, 4 or 16.
            key_len: set.field.width(family) as u32,
            elements: Elements::Intervals(set.spans.clone()),
        }
    }

    /// What nft wants to know to list the keys right.
    pub(super) fn userdata(&self) -> Vec<u8> {
        let order: u32 = if matches!(self.key_type, key_type::UID | key_type::GID) { 1 } else { 2 };
        [&[userdata::SET_KEYBYTEORDER, 4], &order.to_ne_bytes()[..]].concat()
    }
}
