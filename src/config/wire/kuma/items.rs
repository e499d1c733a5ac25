//! Items of lists as kumactl takes them.

use std::collections::HashSet;

use super::{FormFinding, KumaProgram};
use crate::config::{UidExclusion, VirtualNetwork};
use crate::net::AnyCidr;

/// What lists of texts hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Items {
    Uids,
    Addresses,
    Networks,
}

/// The most ports of one match of iptables, where a range is two.
const MOST_PORTS: usize = 15;

impl Items {
    /// What kumactl has against items that are valid here.
    pub(super) fn look(self, items: &[(Option<usize>, &str)]) -> Vec<FormFinding> {
        let mut networks = HashSet::new();
        let look = |(index, text): &(Option<usize>, &str)| {
            let found = match self {
                Self::Uids => uids(text),
                Self::Addresses => addresses(text),
                Self::Networks => network(text, &mut networks),
            };
            found.map(|found| found.at(*index).only(KumaProgram::Kumactl))
        };
        items.iter().filter_map(look).collect()
    }
}

/// `[protocols:][ports:]uids`, where only protocols may have blanks around them.
fn uids(text: &str) -> Option<FormFinding> {
    let mut parts = text.rsplit(':');
    let owner = parts.next().unwrap_or_default();
    let ports = parts.next().unwrap_or_default();
    let blank = |part: &str| part.contains(char::is_whitespace);
    if blank(owner) || blank(ports) || parts.next().is_some_and(|protocols| protocols.trim() == "*" && blank(protocols))
    {
        return Some(FormFinding::refused(text, "no blanks around ports and uids"));
    }
    let exclusion: UidExclusion = text.parse().ok()?;
    if exclusion.uids.last().number() > u16::MAX.into() {
        return Some(FormFinding::refused(text, "uids up to 65535, the most that kumactl takes"));
    }
    (exclusion.ports.slots() > MOST_PORTS).then(|| {
        FormFinding::refused(
            text,
            format!("at most {MOST_PORTS} ports in an item, a range being two; use several items"),
        )
    })
}

/// Of addresses, iptables does not take those of IPv4 in the form of IPv6.
fn addresses(text: &str) -> Option<FormFinding> {
    let is_mapped = |item: &str| item.contains(':') && matches!(item.trim().parse(), Ok(AnyCidr::V4(_)));
    let mapped = text.split(',').find(|item| is_mapped(item))?;
    Some(FormFinding::refused(mapped.trim(), "the IPv4 address in its own form"))
}

/// An interface has one network of each family.
fn network(text: &str, seen: &mut HashSet<(String, bool)>) -> Option<FormFinding> {
    let network: VirtualNetwork = text.parse().ok()?;
    if text.contains(char::is_whitespace) {
        return Some(FormFinding::refused(text, "no blanks"));
    }
    let key = (network.interface.to_string(), matches!(network.network, AnyCidr::V4(_)));
    (!seen.insert(key)).then(|| {
        FormFinding::otherwise(text, "of several networks of an interface and family, it uses the last one only")
    })
}
