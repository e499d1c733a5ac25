//! The native form of a plan: what it is as nf_tables rules in tables of our own.
//!
//! [`Native::of`] lowers a [`Plan`](crate::model::Plan) to one table per family, named [`TABLE`]; the nft script and the
//! netlink messages are made from it, and the simulator follows it. It is pure, knows nothing of
//! Kuma, and works from the rules alone:
//!
//! - The rules of an iptables table's built-in chain become one or two **base chains** at the same
//!   hook. Inserted rules go before the chains of iptables (priority −101 for nat), appended ones
//!   after them (−99). −100 itself is never used: with equal priorities, whoever registered last goes
//!   first. In a base chain, `RETURN` becomes `accept`, which ends the base chain but not the hook.
//! - A packet that an inserted rule lets pass must not meet the appended rules, so those exclusions
//!   are repeated before them, as far as they can matter there: one for UDP is not asked about TCP.
//! - Adjacent rules that differ only in a port, prefix or owner become one rule with an **interval
//!   set**, whose cost does not grow with its length.
//! - `! --uid-owner` matches a packet that has no socket, `skuid !=` does not; it is expressed
//!   without `!=` (see `owner.rs`).
//! - A jump to a chain that is not in the ruleset (`DOCKER_OUTPUT`) becomes `accept`: at a later
//!   priority, the owner of that chain sees the packet anyway.
//!
//! It differs from the iptables rules on purpose in this, and in nothing else:
//!
//! - Each nat base chain that redirects TCP begins with a guard that lets TCP packets pass that do
//!   not open a connection. They come here only when connection tracking has just begun and meets
//!   connections from before, which a redirection would reset.
//! - Queries that are redirected in PREROUTING are tracked in the zone of their answers, where the
//!   answers have one. Without that, the answers would not be translated back.
//! - A foreign `ACCEPT` in iptables' nat tables does not stop our appended rules, and a packet that
//!   our inserted rules let pass still meets the nat rules of others.
//! - Where Docker's DNS server has its chain and every query is captured, the sidecar's query to a
//!   server that is not Docker's is let pass. In iptables it comes back from Docker's chain and is
//!   redirected to the sidecar.

mod draft;
mod fold;
mod layout;
mod live;
mod lower;
mod marker;
mod names;
mod native;
mod owner;

pub use live::{Foreign, LiveChain, LiveTable};
pub(crate) use lower::priority;
pub use marker::{Marker, SCHEMA};
pub use names::Name;
pub(crate) use native::table_name;
pub use native::{
    Action, Base, Chain, ChainType, Condition, End, Field, Native, Rule, Set, Source, Span, TABLE, Table, Values,
};

#[cfg(test)]
mod equivalence;
#[cfg(test)]
mod tests;
