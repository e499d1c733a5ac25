//! What iptables-save says of a rule of iptables-legacy, of the kinds that installations put into built-in chains.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::legacy_rules::{Entry, Part, is_word};
use crate::net::FamilyName;
use crate::netlink::wire::{array, text};

/// Flags of `invflags` (`IPT_INV_*`, `IP6T_INV_*`).
const INV_IN: u8 = 0x01;
const INV_OUT: u8 = 0x02;
const INV_SOURCE: u8 = 0x08;
const INV_DESTINATION: u8 = 0x10;
const INV_PROTOCOL: u8 = 0x40;

/// What a rule says, without its chain; `to` is the chain that it leads to. None if it says something that is not known here.
///
/// Who removes a rule by what it says removes one that is equal, or none: a mistake here cannot remove another.
pub(super) fn spec(family: FamilyName, entry: &Entry<'_>, to: Option<&str>) -> Option<String> {
    let mut spec = conditions(family, entry.head)?;
    for part in &entry.matches {
        spec.push_str(&of_match(part)?);
    }
    spec.push_str(&of_target(family, entry, to)?);
    Some(spec)
}

/// Addresses, interfaces and the protocol (`struct ipt_ip`, `struct ip6t_ip6`).
fn conditions(family: FamilyName, head: &[u8]) -> Option<String> {
    let (address, interfaces, protocol, flags) = match family {
        FamilyName::V4 => (4, 16, 80, 82),
        FamilyName::V6 => (16, 64, 128, 131),
    };
    let inverted = *head.get(flags + 1)?;
    // The only flags of rules that are known here: `IP6T_F_PROTO`, which says that there is a protocol.
    let known = if family == FamilyName::V6 { 0x01 } else { 0 };
    if *head.get(flags)? & !known != 0
        || inverted & !(INV_IN | INV_OUT | INV_SOURCE | INV_DESTINATION | INV_PROTOCOL) != 0
    {
        return None;
    }
    let not = |flag: u8| if inverted & flag != 0 { "! " } else { "" };
    let mut spec = String::new();
    for (index, (option, flag)) in [("-s", INV_SOURCE), ("-d", INV_DESTINATION)].into_iter().enumerate() {
        let bytes = |at: usize| head.get(at..at + address);
        let (net, mask) = (bytes(index * address)?, bytes((index + 2) * address)?);
        let length = prefix(mask)?;
        if length > 0 {
            let _ = write!(spec, "{}{option} {}/{length} ", not(flag), address_of(net)?);
        }
    }
    for (index, (option, flag)) in [("-i", INV_IN), ("-o", INV_OUT)].into_iter().enumerate() {
        let bytes = |at: usize| head.get(at..at + 16);
        let (name, mask) = (text(bytes(interfaces + 16 * index)?)?, bytes(interfaces + 32 + 16 * index)?);
        if !name.is_empty() {
            is_word(name).then_some(())?;
            // What is compared: of a name as a whole, the byte that ends it as well, and of a pattern all but its `+`.
            let compared = name.strip_suffix('+').map_or(name.len() + 1, str::len);
            let is_usual = mask.iter().enumerate().all(|(at, byte)| (*byte != 0) == (at < compared));
            is_usual.then_some(())?;
            let _ = write!(spec, "{}{option} {name} ", not(flag));
        }
    }
    match u16::from_ne_bytes(array(head, protocol)?) {
        0 => {}
        6 => _ = write!(spec, "{}-p tcp ", not(INV_PROTOCOL)),
        17 => _ = write!(spec, "{}-p udp ", not(INV_PROTOCOL)),
        _ => return None,
    }
    Some(spec)
}

fn of_match(Part { name, revision, data }: &Part<'_>) -> Option<String> {
    let byte = |at: usize| data.get(at).copied();
    let short = |at: usize| array(data, at).map(u16::from_ne_bytes);
    let long = |at: usize| array(data, at).map(u32::from_ne_bytes);
    let not = |inverted: bool| if inverted { "! " } else { "" };
    match (*name, *revision) {
        // `struct xt_tcp`, `struct xt_udp`: both begin with the ports.
        ("tcp" | "udp", 0) => {
            let inverted = if *name == "tcp" { byte(11)? } else { byte(8)? };
            let flags = *name == "tcp" && (byte(8)?, byte(9)?, byte(10)?) != (0, 0, 0);
            if flags || inverted & !3 != 0 {
                return None;
            }
            let mut spec = format!("-m {name} ");
            for (option, at, flag) in [("--sport", 0, 1), ("--dport", 4, 2)] {
                let ports = (short(at)?, short(at + 2)?);
                if ports != (0, u16::MAX) || inverted & flag != 0 {
                    let _ = write!(spec, "{}{option} {} ", not(inverted & flag != 0), range(ports, ':'));
                }
            }
            Some(spec)
        }
        // `struct xt_multiport_v1`: destination ports only.
        ("multiport", 1) if byte(0)? == 1 => {
            let (mut ports, mut index) = (Vec::new(), 0);
            while index < usize::from(byte(1)?.min(15)) {
                let first = short(2 + 2 * index)?;
                let last = if byte(32 + index)? != 0 { short(4 + 2 * index)? } else { first };
                index += 1 + usize::from(byte(32 + index)? != 0);
                ports.push(range((first, last), ':'));
            }
            Some(format!("-m multiport {}--dports {} ", not(byte(47)? != 0), ports.join(",")))
        }
        // `struct xt_owner_match_info`: a user, and neither a group nor whether there is a socket.
        ("owner", 1) if byte(16)? == 1 => {
            Some(format!("-m owner {}--uid-owner {} ", not(byte(17)? & 1 != 0), range((long(0)?, long(4)?), '-')))
        }
        // `struct xt_conntrack_mtinfo3`: the state, and nothing else.
        ("conntrack", 2 | 3) if short(146)? == 1 => {
            let mask = short(150)?;
            let states = [("INVALID", 1), ("NEW", 8), ("RELATED", 4), ("ESTABLISHED", 2), ("UNTRACKED", 64)];
            let named: Vec<_> = states.iter().filter(|(_, bit)| mask & bit != 0).map(|(name, _)| *name).collect();
            if mask & !79 != 0 || named.is_empty() {
                return None;
            }
            Some(format!("-m conntrack {}--ctstate {} ", not(short(148)? & 1 != 0), named.join(",")))
        }
        ("comment", 0) => Some(format!("-m comment --comment {} ", quoted(text(data)?)?)),
        _ => None,
    }
}

fn of_target(family: FamilyName, entry: &Entry<'_>, to: Option<&str>) -> Option<String> {
    let Part { name, revision, data } = &entry.target;
    let number = |at: usize| array(data, at).map(u32::from_ne_bytes);
    let port = |at: usize| array(data, at).map(u16::from_be_bytes);
    match (*name, *revision) {
        ("", _) => Some(match (to, entry.verdict()?) {
            (Some(chain), _) => format!("-j {chain}"),
            (None, -1) => "-j DROP".to_owned(),
            (None, -2) => "-j ACCEPT".to_owned(),
            (None, -5) => "-j RETURN".to_owned(),
            _ => return None,
        }),
        // `struct nf_nat_ipv4_multi_range_compat` with one range, `struct nf_nat_range`: ports (`NF_NAT_RANGE_PROTO_SPECIFIED`).
        ("REDIRECT", 0) => {
            let (flags, first) = match family {
                FamilyName::V4 if number(0)? == 1 => (number(4)?, 16),
                FamilyName::V4 => return None,
                FamilyName::V6 => (number(0)?, 36),
            };
            (flags == 2).then_some(())?;
            Some(format!("-j REDIRECT --to-ports {}", range((port(first)?, port(first + 2)?), '-')))
        }
        // `struct xt_ct_target_info`: a zone, and no flag, event or helper.
        ("CT", _) => {
            let others = data.get(..2)?.iter().chain(data.get(4..28)?);
            (others.into_iter().all(|byte| *byte == 0)).then_some(())?;
            Some(format!("-j CT --zone {}", array(data, 2).map(u16::from_ne_bytes)?))
        }
        // `struct xt_log_info`.
        ("LOG", 0) if data.get(1) == Some(&0) => {
            let prefix = text(data.get(2..32)?)?;
            Some(format!("-j LOG --log-prefix {} --log-level {}", quoted(prefix)?, data.first()?))
        }
        _ => None,
    }
}

/// The length of a mask; none if it is none of a prefix.
fn prefix(mask: &[u8]) -> Option<u32> {
    let bits = mask.iter().fold(0_u128, |all, byte| all << 8 | u128::from(*byte)) << (128 - 8 * mask.len());
    let length = bits.leading_ones();
    (bits.count_ones() == length).then_some(length)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    Some(match bytes.len() {
        4 => Ipv4Addr::from(array::<4>(bytes, 0)?).into(),
        _ => Ipv6Addr::from(array::<16>(bytes, 0)?).into(),
    })
}

fn range<N: PartialEq + std::fmt::Display>((first, last): (N, N), between: char) -> String {
    if first == last { first.to_string() } else { format!("{first}{between}{last}") }
}

/// A text in quotes; none if it has what would have to be escaped.
fn quoted(text: &str) -> Option<String> {
    let plain = |c: char| !c.is_control() && !matches!(c, '"' | '\\');
    text.chars().all(plain).then(|| format!("\"{text}\""))
}
