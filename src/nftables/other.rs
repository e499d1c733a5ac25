//! Tables of nf_tables that are not ours: what other programs have there, as far as it is understood here.
//!
//! Rules of other programs may use all that nf_tables can do. What of it decides where a packet ends is kept as parts that can be
//! followed; everything else is a condition or a deed that is not known, with its words.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{ChainType, Field, Span};
use crate::model::{BuiltinChain, End, LogLevel, LogPrefix};
use crate::net::{FamilyName, InterfacePattern, Port};

/// A table that is not ours.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherTable {
    /// The family.
    pub family: TableFamily,
    /// Its name.
    pub name: String,
    /// Both, as `nft` calls the table: `inet firewalld`.
    pub title: String,
    /// Whether it is switched off (`flags dormant`): then the kernel calls none of its chains.
    pub dormant: bool,
    /// Its chains.
    pub chains: Vec<OtherChain>,
}

impl OtherTable {
    /// Whether the kernel calls a chain of it that has rules, or that drops.
    pub fn has_a_say(&self) -> bool {
        !self.dormant && self.chains.iter().any(|chain| chain.has_a_say())
    }
}

/// The family of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum TableFamily {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// Both.
    Inet,
    /// ARP.
    Arp,
    /// What a bridge forwards.
    Bridge,
    /// All that goes through a network device.
    Netdev,
}

impl TableFamily {
    /// As `nft` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Netdev => "netdev",
        }
    }

    /// Whether packets of this family meet its rules.
    pub fn meets(self, family: FamilyName) -> bool {
        match self {
            Self::Ip => family == FamilyName::V4,
            Self::Ip6 => family == FamilyName::V6,
            Self::Inet | Self::Netdev => true,
            Self::Arp | Self::Bridge => false,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A chain of an [`OtherTable`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherChain {
    /// Its name.
    pub name: String,
    /// Where the kernel calls it; none for a regular chain.
    pub base: Option<OtherBase>,
    /// Its rules, in order.
    pub rules: Vec<OtherRule>,
}

impl OtherChain {
    fn has_a_say(&self) -> bool {
        self.base.as_ref().is_some_and(|base| base.drops || !self.rules.is_empty())
    }
}

/// Where the kernel calls a chain of other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherBase {
    /// The type of the chain; one that reroutes (`route`) is a filter.
    pub kind: ChainType,
    /// The hook.
    pub hook: OtherHook,
    /// The priority: chains of a hook are called from the lowest to the highest.
    pub priority: i32,
    /// Whether a packet at its end is dropped.
    pub drops: bool,
    /// The network devices that it is for, where its hook is one of devices.
    pub devices: Vec<String>,
}

/// A hook that calls a chain of other programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum OtherHook {
    /// One of those that the chains of iptables have.
    Builtin(BuiltinChain),
    /// A packet comes in by a device, before all others.
    Ingress,
    /// A packet goes out by a device, after all others.
    Egress,
    /// One that is not known here.
    Unknown(u32),
}

/// A rule of a table of other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OtherRule {
    /// The rule in the words of `nft`, as far as they are known here; otherwise in the kernel's.
    pub text: String,
    /// Its comment.
    pub comment: Option<String>,
    /// What it does with a packet of IPv4, and of IPv6.
    pub(crate) parts: [Vec<Part>; 2],
}

impl OtherRule {
    /// What it does with a packet of this family.
    pub(crate) fn parts(&self, family: FamilyName) -> &[Part] {
        match family {
            FamilyName::V4 => &self.parts[0],
            FamilyName::V6 => &self.parts[1],
        }
    }
}

/// A part of a rule. They are gone through in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// The rule goes on if all facts of one of these lists hold.
    If(Vec<Vec<Fact>>),
    /// Something is done.
    Do(Deed),
    /// The first of these is done whose facts all hold; if there is none, the rule ends.
    Choose(Vec<(Vec<Fact>, Deed)>),
}

/// A condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    Interface {
        out: bool,
        interface: InterfacePattern,
        negated: bool,
    },
    Protocol {
        number: u8,
        negated: bool,
    },
    /// The field has one of these values; a packet without it has none. Sorted, neither overlapping nor touching.
    Value {
        field: Field,
        spans: Arc<[Span]>,
    },
    /// Of the TCP flags of the mask, exactly these are set.
    Flags {
        mask: u8,
        flags: u8,
        negated: bool,
    },
    /// One of these states (`NF_CT_STATE_*`).
    State {
        bits: u32,
        negated: bool,
    },
    /// The destination of the connection was translated.
    Translated {
        negated: bool,
    },
    /// The address belongs to this host.
    Local {
        end: End,
        negated: bool,
    },
    /// It never holds.
    Never,
    /// It is not known whether it holds.
    Unknown(Arc<str>),
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Deed {
    Accept,
    Drop,
    Return,
    Jump(Arc<str>),
    Goto(Arc<str>),
    /// The destination becomes a port of this host.
    Redirect(Port),
    /// The source is translated, and what to is not known.
    Source,
    /// The packet is not tracked.
    Untrack,
    Zone(u16),
    Log {
        prefix: LogPrefix,
        level: LogLevel,
    },
    /// It is not known what happens then.
    Unknown(Arc<str>),
}

impl Deed {
    /// Whether the rule ends with it.
    pub(crate) fn is_final(&self) -> bool {
        !matches!(self, Self::Untrack | Self::Zone(_) | Self::Log { .. })
    }
}
