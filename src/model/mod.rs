//! The pure rule model: rulesets of tables, chains and rules, one family at a time.
//!
//! It knows netfilter and nothing of Kuma, holds no text of any syntax and does no I/O.
//! [`Ruleset`] → [`Table`] → [`Chain`] → [`Rule`]; a rule is a list of [`Match`]es that must all
//! hold, a [`Target`], a [`Comment`] and the configuration key that it came from ([`Origin`]).

mod chain_pair;
mod engine;
mod matches;
mod names;
mod options;
mod plan;
mod rule;
mod ruleset;
mod sockets;
mod target;

pub use chain_pair::ChainPair;
pub use engine::{EngineName, IptablesMode};
pub use matches::{CtState, End, Match, Owner, PortMatch, Transport};
pub use names::{BuiltinChain, ChainName, Comment, LogLevel, LogPrefix, TableName};
pub use options::{Executables, FamilyExecutables, IpFamilyMode, Options, Retry, Wait};
pub use plan::{Guards, Hardened, Note, Plan, Severity};
pub use rule::{Origin, Placement, Rule};
pub use ruleset::{Chain, Ruleset, Table};
pub use sockets::{DnsServers, DnsSockets, Listeners, NeedsPackets, OwnerExclusion, RedirectedPorts, SocketPlan};
pub use target::Target;
