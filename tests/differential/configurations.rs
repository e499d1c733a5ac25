//! Random configurations whose constants meet the host under test: its addresses, interfaces and what is behind them.

use std::fmt::Debug;
use std::str::FromStr;

use arbitrary::{Result, Unstructured};
use kumatp::config::Config;
use kumatp::facts::Facts;
use kumatp::net::{AnyCidr, PortRange};

use crate::generate;

const NETWORKS: [&str; 22] = [
    "10.77.0.0/24",
    "10.77.0.8/29",
    "10.77.0.1",
    "127.0.0.0/8",
    "127.0.0.11",
    "127.0.0.6/31",
    "172.17.0.0/16",
    "172.20.0.0/16",
    "172.16.0.0/12",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "128.0.0.0/1",
    "fd77::/64",
    "fd77::10/124",
    "::1",
    "::6",
    "::/127",
    "fd17::/64",
    "fd20::/64",
    "fd00::/8",
    "2001:db8::/32",
    "::/0",
];

const PATTERNS: [&str; 9] = ["br0", "br+", "br-+", "docker0", "docker+", "eth0", "+", "lo", "veth9"];

/// A configuration, and facts that fit it.
pub(crate) fn any(u: &mut Unstructured<'_>) -> Result<(Config, Facts)> {
    let mut config = generate::config(u)?;
    let (inbound, outbound) = (&mut config.redirect.inbound, &mut config.redirect.outbound);
    for list in [&mut inbound.exclude_ips, &mut outbound.exclude_ips] {
        if u.ratio(1, 2)? {
            list.push(network(u)?);
        }
    }
    // Each of these takes most connections away from the redirection, which is to be met as well.
    if u.ratio(2, 3)? {
        outbound.include_ips.clear();
    } else {
        outbound.include_ips.push(network(u)?);
        outbound.include_ips.push(network(u)?);
    }
    if u.ratio(1, 3)? {
        outbound.exclude_ports_for_uids.clear();
    }
    if u.ratio(1, 3)? {
        outbound.exclude_ports_for_gids.clear();
    }
    for ports in [
        &mut inbound.include_ports,
        &mut outbound.include_ports,
        &mut inbound.exclude_ports,
        &mut outbound.exclude_ports,
    ] {
        match u.int_in_range(0..=5)? {
            // Otherwise, included ports would make excluded ones rare.
            0..=2 => *ports = Default::default(),
            3 => *ports = ports.ranges().iter().copied().chain([parsed::<PortRange>("53")]).collect(),
            _ => {}
        }
    }
    for network in &mut config.redirect.vnet {
        if u.ratio(3, 4)? {
            network.interface = parsed(u.choose(&PATTERNS)?);
        }
        if u.ratio(1, 2)? {
            network.network = self::network(u)?;
        }
        if network.network.prefix() == 0 {
            // A network of all addresses leaves nothing outside of it, and iptables-nft cannot load what says so.
            network.network = parsed("fd20::/64");
        }
    }
    let mut facts = generate::facts(u)?;
    facts.loopback = match u.int_in_range(0..=7)? {
        0 => parsed("l+"),
        1 => parsed("eth0"),
        2 => facts.loopback,
        _ => parsed("lo"),
    };
    // What is in Docker's chain is no part of the rules.
    facts.v4.docker_output = false;
    if let (Some(resolvers), true) = (&mut facts.resolvers, u.ratio(1, 2)?) {
        let more = ["10.77.0.11", "172.20.0.2", "203.0.113.53", "::6", "fd77::1", "2001:db8::53"];
        resolvers.servers.push(parsed(u.choose(&more)?));
    }
    let sidecar = facts.sidecar_uid;
    if u.ratio(1, 8)? {
        config.redirect.outbound.exclude_ports_for_uids.push(parsed(&sidecar.to_string()));
    }
    Ok((config, facts))
}

fn network(u: &mut Unstructured<'_>) -> Result<AnyCidr> {
    Ok(parsed(u.choose(&NETWORKS)?))
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}
