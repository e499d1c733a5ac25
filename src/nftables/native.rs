//! The types of the native form.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::Name;

use crate::model::{BuiltinChain, ChainName, Comment, CtState, End, LogLevel, LogPrefix, Origin, TableName};
use crate::net::{FamilyName, InterfacePattern, Port, Protocol};

/// The name of our table in the families `ip` and `ip6`.
pub const TABLE: &str = "kuma-mesh";

/// Our table of a family, as `nft` calls it.
pub(crate) fn table_name(family: FamilyName) -> &'static str {
    // With the name that `TABLE` has.
    match family {
        FamilyName::V4 => "ip kuma-mesh",
        FamilyName::V6 => "ip6 kuma-mesh",
    }
}

/// The tables of both families.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Native {
    /// The table of the family `ip`.
    #[serde(rename = "ipv4")]
    pub v4: Table,
    /// The table of the family `ip6`; none if the plan leaves IPv6 out.
    #[serde(rename = "ipv6", skip_serializing_if = "Option::is_none")]
    pub v6: Option<Table>,
}

impl Native {
    /// The tables that there are.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        std::iter::once(&self.v4).chain(&self.v6)
    }
}

/// A table of one family, named [`TABLE`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Table {
    /// The family: `ip` or `ip6`.
    pub family: FamilyName,
    /// Its chains: base chains, then regular ones.
    pub chains: Vec<Chain>,
}

impl Table {
    /// The chain of this name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name.as_str() == name)
    }

    /// The sets that its rules look values up in, in the order of first use.
    pub fn sets(&self) -> Vec<Set> {
        let mut seen = HashSet::new();
        let values = self.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.conditions);
        values
            .filter_map(|condition| match condition {
                Condition::Value { field, values, .. } => Some((field, values)),
                _ => None,
            })
            .filter_map(|(field, values)| {
                let name = values.set.clone()?;
                seen.insert(name.clone()).then(|| Set { name, field: *field, spans: values.spans.clone() })
            })
            .collect()
    }
}

/// A chain of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Chain {
    /// Its name.
    pub name: Name,
    /// Where the kernel calls it; none for a regular chain, which rules jump to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// Where the kernel calls a base chain. Its policy is always `accept`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Base {
    /// The type of the chain.
    pub kind: ChainType,
    /// The hook.
    #[serde(serialize_with = "hook")]
    pub hook: BuiltinChain,
    /// The priority: chains of a hook are called from the lowest to the highest.
    pub priority: i32,
}

fn hook<S: serde::Serializer>(hook: &BuiltinChain, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(hook.as_str())
}

/// The type of a base chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "a translation is nat, everything else is filter")]
pub enum ChainType {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of a connection, and may translate it.
    Nat,
}

/// A rule: if all conditions hold, then the action.
///
/// Two rules are equal if they do the same and are described the same; where they came from is not
/// compared.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Rule {
    /// The conditions. One on the protocol stands before those on its ports.
    pub conditions: Vec<Condition>,
    /// What happens if all hold.
    pub action: Action,
    /// What the rule is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<Comment>,
    /// The rules of the plan that it stands for, in order: several where it looks values up in a
    /// set, none where the lowering added it.
    #[serde(skip)]
    pub sources: Vec<RuleSource>,
    /// What it is for, if it does other than the rules that it stands for: the lowering added it. A comment says the same, where
    /// rules have comments.
    #[serde(skip)]
    pub(crate) added: Option<&'static str>,
}

impl Rule {
    /// One with these conditions, for who needs a rule to say them.
    pub(crate) fn of_conditions(conditions: &[Condition]) -> Self {
        Self {
            conditions: conditions.to_vec(),
            action: Action::Accept,
            comment: None,
            sources: Vec::new(),
            added: None,
        }
    }

    /// The first configuration key that asked for it.
    pub fn origin(&self) -> Option<Origin> {
        self.sources.iter().find_map(|source| source.origin)
    }
}

impl PartialEq for Rule {
    fn eq(&self, other: &Self) -> bool {
        self.conditions == other.conditions && self.action == other.action && self.comment == other.comment
    }
}

impl Eq for Rule {}

/// A rule of the plan: where it stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RuleSource {
    /// Its table.
    pub table: TableName,
    /// Its chain.
    pub chain: ChainName,
    /// Its place in [`Chain::rules`](crate::model::Chain::rules), counted from 0.
    pub index: usize,
    /// The configuration key that asked for it.
    pub origin: Option<Origin>,
}

/// A condition on a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "condition", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Condition {
    /// It came in by this interface.
    InInterface {
        /// The interface.
        interface: InterfacePattern,
        /// Whether it must not have.
        negated: bool,
    },
    /// It goes out by this interface.
    OutInterface {
        /// The interface.
        interface: InterfacePattern,
        /// Whether it must not.
        negated: bool,
    },
    /// Its transport protocol.
    Protocol {
        /// The protocol.
        protocol: Protocol,
        /// Whether it must be another.
        negated: bool,
    },
    /// A field is one of some values.
    Value {
        /// The field. Ports are asked for only behind a condition on the protocol.
        field: Field,
        /// The values.
        values: Values,
        /// Whether it must be none of them. Never so for an owner, which a packet may lack.
        negated: bool,
    },
    /// It is TCP and does not open a connection: of the flags FIN, SYN, RST and ACK, not just SYN.
    MidStream,
    /// An address of it belongs to this host, as the kernel's routes say (`fib … type local`).
    Local {
        /// Which address.
        end: End,
        /// Whether it must not.
        negated: bool,
    },
    /// A socket of this host that is bound to an address has the connection (`socket wildcard 0`): in PREROUTING the socket
    /// that the packet is for, in OUTPUT the one that it is from.
    BoundSocket,
    /// The destination of its connection was translated, by any rule (`ct status dnat`). A packet that connection tracking does
    /// not follow has no connection.
    Translated,
    /// Its connection-tracking state.
    CtState {
        /// The state.
        state: CtState,
        /// Whether it must be another.
        negated: bool,
    },
}

impl Condition {
    /// Where it stands among the conditions of a rule: cheap and telling ones first, and the protocol
    /// before its ports.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::InInterface { .. } => 0,
            Self::OutInterface { .. } => 1,
            Self::Protocol { .. } | Self::MidStream => 2,
            Self::Value { field, .. } => match field {
                Field::SourcePort => 3,
                Field::DestinationPort => 4,
                Field::SourceAddress => 5,
                Field::DestinationAddress => 6,
                Field::User => 7,
                Field::Group => 8,
            },
            Self::CtState { .. } => 9,
            Self::Translated => 10,
            // What is looked up elsewhere comes last.
            Self::Local { .. } => 11,
            Self::BoundSocket => 12,
        }
    }
}

/// A field of a packet, or of the socket that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_enums, reason = "the model matches on no others")]
pub enum Field {
    /// The source address, in the family's width.
    SourceAddress,
    /// The destination address, in the family's width.
    DestinationAddress,
    /// The source port, 2 bytes.
    SourcePort,
    /// The destination port, 2 bytes.
    DestinationPort,
    /// The user of the socket, 4 bytes. A packet without a socket matches no value.
    User,
    /// The group of the socket, 4 bytes. A packet without a socket matches no value.
    Group,
}

impl Field {
    /// The field that has this one's value in the answer to a packet.
    pub(crate) fn of_answer(self) -> Self {
        match self {
            Self::SourceAddress => Self::DestinationAddress,
            Self::DestinationAddress => Self::SourceAddress,
            Self::SourcePort => Self::DestinationPort,
            Self::DestinationPort => Self::SourcePort,
            owner => owner,
        }
    }

    /// The width of a value in bytes.
    pub fn width(self, family: FamilyName) -> usize {
        match (self, family) {
            (Self::SourcePort | Self::DestinationPort, _) => 2,
            (Self::User | Self::Group, _) => 4,
            (Self::SourceAddress | Self::DestinationAddress, FamilyName::V4) => 4,
            (Self::SourceAddress | Self::DestinationAddress, FamilyName::V6) => 16,
        }
    }

    /// The highest value.
    pub fn max(self, family: FamilyName) -> u128 {
        u128::MAX >> (128 - 8 * self.width(family))
    }

    /// Whether two fields have values of the same type, so that a set can serve both.
    pub fn same_type(self, other: Self) -> bool {
        use Field::{DestinationAddress, DestinationPort, SourceAddress, SourcePort};
        matches!(
            (self, other),
            (SourceAddress | DestinationAddress, SourceAddress | DestinationAddress)
                | (SourcePort | DestinationPort, SourcePort | DestinationPort)
        ) || self == other
    }
}

/// The values that a field is compared with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Values {
    /// The values: sorted, neither overlapping nor touching, never none.
    #[serde(serialize_with = "spans")]
    pub spans: Arc<[Span]>,
    /// The set that holds them; always there if there are several spans.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set: Option<Name>,
}

impl Values {
    /// Whether `value` is one of them.
    pub fn contains(&self, value: u128) -> bool {
        let after = self.spans.partition_point(|span| span.first <= value);
        after.checked_sub(1).is_some_and(|index| value <= self.spans[index].last)
    }
}

/// Values from `first` to `last`, both included: addresses, ports and ids as numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "an interval has two ends")]
pub struct Span {
    /// The lowest value.
    pub first: u128,
    /// The highest value.
    pub last: u128,
}

impl Span {
    /// The same values as sorted spans that neither overlap nor touch.
    pub(crate) fn union(mut spans: Vec<Self>) -> Vec<Self> {
        spans.sort_unstable();
        let mut merged: Vec<Self> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if span.first <= last.last.saturating_add(1) => last.last = last.last.max(span.last),
                _ => merged.push(span),
            }
        }
        merged
    }

    /// Whether it is one value only.
    pub fn is_single(self) -> bool {
        self.first == self.last
    }

    /// The number of leading bits, in a field of `bits` bits, that its values share and that no
    /// other values have: `Some(24)` for the addresses of `10.0.0.0/24`.
    pub fn prefix(self, bits: u32) -> Option<u32> {
        let size = self.last.wrapping_sub(self.first).wrapping_add(1);
        // The size wraps to 0 for all values of 128 bits.
        let host = if size == 0 { 128 } else { size.trailing_zeros() };
        let aligned = size == 0 || (size.is_power_of_two() && self.first & (size - 1) == 0);
        (aligned && host <= bits).then(|| bits - host)
    }
}

/// As text: not every reader of JSON takes numbers of this size.
impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}-{}", self.first, self.last))
    }
}

fn spans<S: serde::Serializer>(spans: &Arc<[Span]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(spans.iter())
}

/// A named interval set.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Set {
    /// Its name.
    pub name: Name,
    /// A field that is looked up in it, which gives the type of its elements.
    pub field: Field,
    /// Its elements: sorted, neither overlapping nor touching.
    pub spans: Arc<[Span]>,
}

/// What a rule does with a packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Action {
    /// Done with this base chain; the later chains of the hook still see the packet.
    Accept,
    /// The packet is gone.
    Drop,
    /// Back to where the chain was jumped to from.
    Return,
    /// On in another chain, and back after it.
    Jump {
        /// The other chain.
        chain: Name,
    },
    /// On in another chain, and not back here after it.
    Goto {
        /// The other chain.
        chain: Name,
    },
    /// The connection goes to a port of this host instead; done with the hook's nat chains.
    Redirect {
        /// The port.
        port: Port,
    },
    /// The connection goes to a port of one of the two addresses that the packet has; done with the hook's nat chains. To its
    /// destination, the address stays as it is; to its source, it is as in [`Redirect`](Self::Redirect), at an address that a
    /// socket bound to an interface can reach.
    Translate {
        /// Whose address.
        to: End,
        /// The port.
        port: Port,
    },
    /// A line in the kernel log, then on to the next rule.
    Log {
        /// What the line begins with.
        prefix: LogPrefix,
        /// How severe it is.
        level: LogLevel,
    },
    /// The connection is tracked in this zone, then on to the next rule. The first zone that a
    /// packet gets is kept.
    Zone {
        /// The zone.
        zone: u16,
    },
}

impl Action {
    /// Whether the chain ends here for a packet.
    pub(super) fn is_final(&self) -> bool {
        match self {
            Self::Accept
            | Self::Drop
            | Self::Return
            | Self::Goto { .. }
            | Self::Redirect { .. }
            | Self::Translate { .. } => true,
            Self::Jump { .. } | Self::Log { .. } | Self::Zone { .. } => false,
        }
    }
}
