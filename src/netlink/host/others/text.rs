//! Rules of other programs in the words of nft, as far as they are known.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::constants::*;
use super::registers::{Load, Value};
use crate::model::End;
use crate::net::FamilyName;
use crate::netlink::constants::*;
use crate::nftables::{Deed, Fact, Field, Span};

/// How many values are written out.
const VALUES: usize = 6;

/// A value as it would be asked for.
pub(super) fn value(value: &Value) -> String {
    let name = match &value.load {
        Load::Meta(key) => meta(*key),
        Load::Payload { base, offset } => {
            let header = match *base {
                NFT_PAYLOAD_NETWORK_HEADER => "nh",
                NFT_PAYLOAD_TRANSPORT_HEADER => "th",
                0 => "ll",
                _ => "ih",
            };
            format!("@{header},{},{}", offset.saturating_mul(8), value.length.saturating_mul(8))
        }
        Load::State => "ct state".to_owned(),
        Load::Status => "ct status".to_owned(),
        Load::AddressType(End::Source) => "fib saddr type".to_owned(),
        Load::AddressType(End::Destination) => "fib daddr type".to_owned(),
        Load::Constant(bytes) => hex(bytes),
        Load::Other(word) => word.clone(),
    };
    match &value.mask {
        Some(mask) => format!("{name} & {}", hex(mask)),
        None => name,
    }
}

fn meta(key: u32) -> String {
    let name = match key {
        0 => "length",
        NFT_META_PROTOCOL => "protocol",
        2 => "priority",
        3 => "mark",
        NFT_META_IIF => return "iif".to_owned(),
        NFT_META_OIF => return "oif".to_owned(),
        NFT_META_IIFNAME => return "iifname".to_owned(),
        NFT_META_OIFNAME => return "oifname".to_owned(),
        8 => "iiftype",
        9 => "oiftype",
        NFT_META_SKUID => "skuid",
        NFT_META_SKGID => "skgid",
        13 => "rtclassid",
        14 => "secmark",
        NFT_META_NFPROTO => "nfproto",
        NFT_META_L4PROTO => "l4proto",
        17 => "ibrname",
        18 => "obrname",
        19 => "pkttype",
        20 => "cpu",
        21 => "iifgroup",
        22 => "oifgroup",
        23 => "cgroup",
        24 => "random",
        _ => return format!("meta {key}"),
    };
    format!("meta {name}")
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}

/// A condition; none where it says nothing.
pub(super) fn fact(fact: &Fact, family: FamilyName) -> String {
    let not = |negated: bool| if negated { "!= " } else { "" };
    match fact {
        Fact::Interface { out, interface, negated } => {
            let name = interface.prefix().map_or_else(|| interface.as_str().to_owned(), |prefix| format!("{prefix}*"));
            format!("{} {}\"{name}\"", if *out { "oifname" } else { "iifname" }, not(*negated))
        }
        Fact::Protocol { number, negated } => format!("meta l4proto {}{}", not(*negated), protocol(*number)),
        Fact::Value { field, spans } => format!("{} {}", name(*field, family), values(*field, spans, family)),
        Fact::Flags { mask, flags, negated } => {
            format!("tcp flags & {mask:#04x} {} {flags:#04x}", if *negated { "!=" } else { "==" })
        }
        Fact::State { bits, negated } => format!("ct state {}{}", not(*negated), states(*bits)),
        Fact::Translated { negated } => format!("ct status {}dnat", not(*negated)),
        Fact::Local { end, negated } => {
            let end = if *end == End::Source { "saddr" } else { "daddr" };
            format!("fib {end} type {}local", not(*negated))
        }
        Fact::Never => "(never)".to_owned(),
        Fact::Unknown(text) => text.to_string(),
    }
}

pub(super) fn name(field: Field, family: FamilyName) -> &'static str {
    match (field, family) {
        (Field::SourceAddress, FamilyName::V4) => "ip saddr",
        (Field::SourceAddress, FamilyName::V6) => "ip6 saddr",
        (Field::DestinationAddress, FamilyName::V4) => "ip daddr",
        (Field::DestinationAddress, FamilyName::V6) => "ip6 daddr",
        (Field::SourcePort, _) => "th sport",
        (Field::DestinationPort, _) => "th dport",
        (Field::User, _) => "meta skuid",
        (Field::Group, _) => "meta skgid",
    }
}

fn values(field: Field, spans: &[Span], family: FamilyName) -> String {
    match spans {
        [one] => span(field, *one, family),
        several => {
            let mut list: Vec<_> = several.iter().take(VALUES).map(|one| span(field, *one, family)).collect();
            if several.len() > VALUES {
                list.push("…".to_owned());
            }
            format!("{{ {} }}", list.join(", "))
        }
    }
}

fn span(field: Field, span: Span, family: FamilyName) -> String {
    let address = matches!(field, Field::SourceAddress | Field::DestinationAddress);
    let one = |value: u128| match (address, family) {
        (true, FamilyName::V4) => Ipv4Addr::from_bits(u32::try_from(value).unwrap_or(u32::MAX)).to_string(),
        (true, FamilyName::V6) => Ipv6Addr::from_bits(value).to_string(),
        (false, _) => value.to_string(),
    };
    let bits = 8 * u32::try_from(field.width(family)).unwrap_or(16);
    match span.prefix(bits).filter(|_| address) {
        _ if span.is_single() => one(span.first),
        Some(prefix) => format!("{}/{prefix}", one(span.first)),
        None => format!("{}-{}", one(span.first), one(span.last)),
    }
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "ipv6-icmp".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn states(bits: u32) -> String {
    let names = [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
    let set: Vec<_> = names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| name).collect();
    set.join(",")
}

pub(super) fn deed(deed: &Deed) -> String {
    match deed {
        Deed::Accept => "accept".to_owned(),
        Deed::Drop => "drop".to_owned(),
        Deed::Return => "return".to_owned(),
        Deed::Jump(chain) => format!("jump {chain}"),
        Deed::Goto(chain) => format!("goto {chain}"),
        Deed::Redirect(port) => format!("redirect to :{port}"),
        Deed::Source => "snat".to_owned(),
        Deed::Untrack => "notrack".to_owned(),
        Deed::Zone(zone) => format!("ct zone set {zone}"),
        Deed::Log { prefix, .. } => format!("log prefix \"{}\"", prefix.as_str()),
        Deed::Unknown(text) => text.to_string(),
    }
}

/// The words of a rule: a condition on the protocol and one on its ports are said at once.
pub(super) fn join(words: &[String]) -> String {
    let mut text: Vec<String> = Vec::new();
    for word in words.iter().filter(|word| !word.is_empty()) {
        let protocol =
            text.last().and_then(|last| last.strip_prefix("meta l4proto ")).filter(|name| !name.contains(' '));
        match (protocol, word.strip_prefix("th ")) {
            (Some(protocol), Some(rest)) => {
                let joined = format!("{protocol} {rest}");
                text.pop();
                text.push(joined);
            }
            _ => text.push(word.clone()),
        }
    }
    text.join(" ")
}
