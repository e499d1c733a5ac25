//! The native form of a plan: nf_tables rules in tables of their own.
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
//! - **Closing chains** behind the nat chains (`closing_prerouting` and `closing_output`, priority −98) drop the first packet of
//!   a TCP connection that the rules redirect and that was not translated. Translation is decided once for each entry of
//!   connection tracking, and an entry can be older than the rules, borrowed, made by a helper or lost. The chains are
//!   copies of the rules with every redirection turned into a drop, so they cannot decide otherwise. What is not tracked as part
//!   of any connection (`nf_conntrack_tcp_loose=0`) and should be redirected is dropped as well.
//! - Nothing that arrives from elsewhere for 0.0.0.0/8, 127.0.0.0/8, `::`, `::1` or `::6` gets in (raw PREROUTING). Routing would
//!   drop it, but translation comes before routing.
//! - Nothing that was redirected leaves by another interface than loopback (`closing_postrouting`).
//! - What leaves by loopback is let pass only if its destination is an address of this host (`fib daddr type local`).
//! - A packet that opens no connection, is for a port from 32768 to 60999 (those that clients get by default) and whose socket on this
//!   host is bound to an address passes nat PREROUTING (`socket wildcard 0`): a connection that this host has opened and that is
//!   not redirected goes on though connection tracking has lost it. A redirected connection to such a port on which the
//!   application listens at one address only does not: the application's kernel resets it.
//! - In OUTPUT, TCP, and DNS where every query is captured, are redirected to the address that the packet is from and not to
//!   `127.0.0.1` or `::1`; TCP from the network to the address that it is for. Sockets that are bound to an interface, link-local
//!   destinations and interfaces without an address reach the sidecar so. The listeners have to be at the wildcard
//!   address, as Kuma's are.
//! - Queries to excluded DNS servers are tracked in the zone of their answers, as are queries that are redirected in PREROUTING.
//! - A foreign `ACCEPT` in iptables' nat tables does not stop our appended rules, and a packet that
//!   our inserted rules let pass still meets the nat rules of other programs.
//! - Where Docker's DNS server has its chain and every query is captured, the sidecar's query to a
//!   server that is not Docker's is let pass. In iptables it comes back from Docker's chain and is
//!   redirected to the sidecar.

mod draft;
mod effects;
mod guards;
mod layout;
mod live;
mod lower;
mod marker;
mod merge_rules;
mod names;
mod native;
#[cfg(all(feature = "host", target_os = "linux"))]
mod other;
mod owner;
mod zones;

pub(crate) use guards::{CLIENT_PORTS, Guarding};
pub use live::{Foreign, LiveChain, LiveTable};
pub(crate) use lower::priority;
pub use marker::{Marker, SCHEMA};
pub use names::Name;
pub(crate) use native::table_name;
pub use native::{
    Action, Base, Chain, ChainType, Condition, Field, Native, Rule, RuleSource, Set, Span, TABLE, Table, Values,
};

#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) use other::{Deed, Fact, Part};
#[cfg(all(feature = "host", target_os = "linux"))]
pub use other::{OtherBase, OtherChain, OtherHook, OtherRule, OtherTable, TableFamily};

#[cfg(test)]
mod equivalence;
#[cfg(test)]
mod tests;
