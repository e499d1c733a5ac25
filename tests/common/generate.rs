//! Random configurations and facts, all of them valid.
//!
//! Sizes lean towards the small, so that lists are often empty and rules often alike.

use std::fmt::Debug;
use std::str::FromStr;

use arbitrary::{Result, Unstructured};
use kumatp::config::Config;
use kumatp::facts::{Facts, Resolvers};
use kumatp::model::{IpFamilyMode, LogLevel};
use kumatp::net::{AnyCidr, Uid};

/// A configuration that asks for anything.
pub(crate) fn config(u: &mut Unstructured<'_>) -> Result<Config> {
    let mut config = Config::default();
    config.ip_family_mode = *u.choose(&[IpFamilyMode::DualStack, IpFamilyMode::Ipv4, IpFamilyMode::Required])?;
    config.drop_invalid_packets = u.arbitrary()?;
    config.verbose = u.arbitrary()?;
    config.comments.disabled = u.ratio(1, 4)?;
    config.log.enabled = u.arbitrary()?;
    config.log.level = LogLevel::new(u.int_in_range(0..=7)?).unwrap();

    let inbound = &mut config.redirect.inbound;
    inbound.enabled = u.ratio(7, 8)?;
    inbound.port = parsed(&port(u)?);
    inbound.include_ports = parsed(&ports(u, 0)?);
    inbound.exclude_ports = parsed(&ports(u, 0)?);
    inbound.exclude_ips = list(u, 3, cidr)?;
    inbound.insert = u.arbitrary()?;

    let outbound = &mut config.redirect.outbound;
    outbound.enabled = u.ratio(7, 8)?;
    outbound.port = parsed(&port(u)?);
    outbound.include_ports = parsed(&ports(u, 0)?);
    outbound.include_ips = list(u, 2, cidr)?;
    outbound.exclude_ports = parsed(&ports(u, 0)?);
    outbound.exclude_ports_for_uids = list(u, 3, owner_exclusion)?;
    outbound.exclude_ports_for_gids = list(u, 3, owner_exclusion)?;
    outbound.exclude_ips = list(u, 3, cidr)?;
    outbound.insert = u.arbitrary()?;
    if u.ratio(1, 4)? {
        // Distinct, and not one of those that the networks get.
        outbound.chains.decide = parsed(&format!("KUMA_MESH_A_{}", word(u, 16)?));
        outbound.chains.redirect = parsed(&format!("KUMA_MESH_B_{}", word(u, 16)?));
    }

    let dns = &mut config.redirect.dns;
    dns.enabled = u.arbitrary()?;
    dns.capture_all = u.arbitrary()?;
    dns.port = parsed(&port(u)?);
    dns.skip_conntrack_zone_split = u.ratio(1, 4)?;
    config.redirect.vnet = list(u, 4, virtual_network)?;
    Ok(config)
}

/// A host with IPv6 and some name servers.
pub(crate) fn facts(u: &mut Unstructured<'_>) -> Result<Facts> {
    let mut facts = Facts::capable_host(Uid::new(u.int_in_range(0..=u32::MAX - 1)?).unwrap());
    if u.ratio(1, 4)? {
        facts.loopback = parsed(&interface(u)?);
    }
    let addresses = ["127.0.0.11", "10.0.0.53", "::1", "fd00::53", "fe80::1", "192.0.2.1"];
    let mut servers = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        servers.push(u.choose(&addresses)?.parse().unwrap());
    }
    facts.resolvers = Some(Resolvers::new(servers));
    facts.v4.docker_output = u.ratio(1, 8)?;
    facts.v6.conntrack_zones = u.ratio(7, 8)?;
    facts.v4.mangle = u.ratio(7, 8)?;
    Ok(facts)
}

/// A port as text.
pub(crate) fn port(u: &mut Unstructured<'_>) -> Result<String> {
    let top = *u.choose(&[3, 1024, u16::MAX])?;
    Ok(u.int_in_range(1..=top)?.to_string())
}

/// A port or a range as text.
pub(crate) fn port_range(u: &mut Unstructured<'_>) -> Result<String> {
    let first = u.int_in_range(1..=u16::MAX)?;
    match u.ratio(1, 3)? {
        true => Ok(format!("{first}-{}", u.int_in_range(first..=u16::MAX)?)),
        false => port(u),
    }
}

/// A list of at least `least` ports and ranges as text; sometimes longer than one rule takes.
pub(crate) fn ports(u: &mut Unstructured<'_>, least: usize) -> Result<String> {
    let most = *u.choose(&[least, 3, 20])?;
    let mut items = Vec::new();
    for _ in 0..u.int_in_range(least..=most.max(least))? {
        items.push(port_range(u)?);
    }
    Ok(items.join(","))
}

/// One id, or a range, as text.
pub(crate) fn ids(u: &mut Unstructured<'_>) -> Result<String> {
    let first: u32 = u.int_in_range(0..=u32::MAX - 1)?;
    match u.ratio(1, 3)? {
        true => Ok(format!("{first}-{}", u.int_in_range(first..=u32::MAX - 1)?)),
        false => Ok(first.to_string()),
    }
}

/// A uid or gid exclusion as text, in any of its forms.
pub(crate) fn owner_exclusion(u: &mut Unstructured<'_>) -> Result<String> {
    let ids = ids(u)?;
    let ports = match u.ratio(1, 3)? {
        true => u.choose(&["", "*"])?.to_string(),
        false => ports(u, 1)?,
    };
    Ok(match u.int_in_range(0..=2)? {
        0 => ids,
        1 => format!("{ports}:{ids}"),
        _ => format!("{}:{ports}:{ids}", u.choose(&["", "*", "tcp", "udp", "TCP,udp", "udp,tcp"])?),
    })
}

/// An address or a prefix of either family as text, host bits included.
pub(crate) fn cidr(u: &mut Unstructured<'_>) -> Result<String> {
    let (addr, bits) = match u.ratio(1, 2)? {
        true => (std::net::Ipv4Addr::from(u.arbitrary::<u32>()?).to_string(), 32),
        false => (std::net::Ipv6Addr::from(u.arbitrary::<u128>()?).to_string(), 128),
    };
    let text = match u.ratio(1, 3)? {
        true => addr.clone(),
        false => format!("{addr}/{}", u.int_in_range(0..=bits)?),
    };
    // A prefix that is shorter than that of all mapped addresses is of no use with one of them.
    Ok(if text.parse::<AnyCidr>().is_ok() { text } else { addr })
}

/// An interface pattern as text.
pub(crate) fn interface(u: &mut Unstructured<'_>) -> Result<String> {
    let name = word(u, 14)?;
    let end = if u.ratio(1, 3)? { "+" } else { "" };
    Ok(format!("{name}{end}"))
}

/// A virtual network as text.
pub(crate) fn virtual_network(u: &mut Unstructured<'_>) -> Result<String> {
    // Often the same interface, so that it has several networks.
    let interface = if u.arbitrary()? { "docker0".to_owned() } else { interface(u)? };
    let cidr: AnyCidr = parsed(&cidr(u)?);
    match cidr.to_string().contains('/') {
        true => Ok(format!("{interface}:{cidr}")),
        false => Ok(format!("{interface}:{cidr}/{}", cidr.prefix())),
    }
}

/// 1 to `most` characters that any name may have.
pub(crate) fn word(u: &mut Unstructured<'_>, most: usize) -> Result<String> {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
    const MORE: &[u8] = b"abcXYZ019_-.@%=~,";
    let mut word = char::from(*u.choose(LETTERS)?).to_string();
    for _ in 1..u.int_in_range(1..=most)? {
        word.push(char::from(*u.choose(MORE)?));
    }
    Ok(word)
}

/// The value of a text that is right by construction.
fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}

fn list<T: FromStr<Err: Debug>>(
    u: &mut Unstructured<'_>,
    most: usize,
    item: impl Fn(&mut Unstructured<'_>) -> Result<String>,
) -> Result<Vec<T>> {
    let length = u.int_in_range(0..=most)?;
    (0..length).map(|_| Ok(parsed(&item(u)?))).collect()
}
