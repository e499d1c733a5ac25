//! What the programs are told: from a plan to the content of their maps. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::table::{
    Address, BUILD, NETWORK_DNS_SERVER, NETWORK_INBOUND_EXCLUDED, NETWORK_LOCAL, NETWORK_OUTBOUND_EXCLUDED,
    NETWORK_OUTBOUND_INCLUDED, NetworkKey, OWNER_GROUP, OWNER_USER, OwnerKey, OwnerPortKey, PortBlock, SETTING_DNS_ALL,
    SETTING_GROUPS, SETTING_INBOUND, SETTING_NETWORKS_INCLUDED, SETTING_OUTBOUND, SETTING_USERS, SETTING_V4,
    SETTING_V4_DNS, SETTING_V4_DNS_OVER_TCP_PASSES, SETTING_V6, SETTING_V6_DNS, SETTING_V6_DNS_OVER_TCP_PASSES,
    Settings,
};
use crate::model::{DnsServers, Owner, OwnerExclusion, RedirectedPorts, SocketPlan};
use crate::net::{AnyCidr, Cidr, Family, FamilyName, Port, PortRange, PortSet, Protocol, V4, V6};

/// What is in the maps of one generation of the programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MapContents {
    /// Without the namespace and the generation, which the loader knows.
    pub(super) settings: Settings,
    /// In the order of their keys, as the others.
    pub(super) networks: Elements,
    pub(super) owners: Elements,
    pub(super) owner_ports: Elements,
}

/// Elements of a map by their keys.
pub(super) type Elements = BTreeMap<Vec<u8>, Vec<u8>>;

/// The number of bits of the addresses that the programs deal with; those of IPv4 are mapped into those of IPv6.
const BITS: u8 = 128;
const MAPPED: u128 = 0xffff << 32;
const MAPPED_BITS: u8 = 96;

impl MapContents {
    /// What a plan asks for on a host with these addresses.
    pub(super) fn of(plan: &SocketPlan, local: &[AnyCidr]) -> Self {
        let (owners, owner_ports) = owners(plan);
        Self { settings: settings(plan), networks: networks(plan, local), owners, owner_ports }
    }

    /// What makes every part of the programs count, for trying them.
    pub(super) fn of_everything() -> Self {
        let settings = Settings {
            netns_cookie: 0,
            generation: 0,
            build: BUILD,
            flags: u32::MAX,
            sidecar_uid: 0,
            outbound_port: 0,
            inbound_port: 0,
            dns_port: 0,
            unused: 0,
            ports: std::array::from_fn(|_| PortBlock {
                outbound_excluded: 0,
                outbound_included: u64::MAX,
                inbound_redirected: u64::MAX,
            }),
        };
        let empty = Elements::new;
        Self { settings, networks: empty(), owners: empty(), owner_ports: empty() }
    }
}

fn settings(plan: &SocketPlan) -> Settings {
    let redirects = |family| plan.dns.as_ref().is_some_and(|dns| dns.is_of(family));
    let passes = |family| redirects(family) && plan.dns.as_ref().is_some_and(|dns| dns.tcp_passes);
    let has = |is_kind: fn(&Owner) -> bool| plan.excluded_owners.iter().any(|exclusion| is_kind(&exclusion.owner));
    let mut flags = SETTING_V4;
    let mut set = |flag: u32, on: bool| flags |= if on { flag } else { 0 };
    set(SETTING_OUTBOUND, plan.outbound.is_some());
    set(SETTING_INBOUND, plan.inbound.is_some());
    set(SETTING_V6, plan.ipv6);
    set(SETTING_V4_DNS, redirects(FamilyName::V4));
    set(SETTING_V6_DNS, redirects(FamilyName::V6));
    set(SETTING_DNS_ALL, plan.dns.as_ref().is_some_and(|dns| dns.servers == DnsServers::All));
    set(SETTING_V4_DNS_OVER_TCP_PASSES, passes(FamilyName::V4));
    set(SETTING_V6_DNS_OVER_TCP_PASSES, passes(FamilyName::V6));
    set(SETTING_NETWORKS_INCLUDED, !plan.included_destinations.is_empty());
    set(SETTING_USERS, has(|owner| matches!(owner, Owner::Uid(_))));
    set(SETTING_GROUPS, has(|owner| matches!(owner, Owner::Gid(_))));
    let outbound = Blocks::of(plan.outbound.as_ref());
    let inbound = Blocks::of(plan.inbound.as_ref());
    // What is for the listener itself goes there, whatever address it is bound to.
    let listener = bits(&PortRange::from(plan.listeners.inbound).into());
    Settings {
        netns_cookie: 0,
        generation: 0,
        build: BUILD,
        flags,
        sidecar_uid: plan.sidecar.number(),
        outbound_port: plan.listeners.outbound.number(),
        inbound_port: plan.listeners.inbound.number(),
        dns_port: plan.listeners.dns.number(),
        unused: 0,
        ports: std::array::from_fn(|at| PortBlock {
            outbound_excluded: outbound.excluded[at],
            outbound_included: outbound.included[at],
            inbound_redirected: (inbound.included[at] & !inbound.excluded[at]) | listener[at],
        }),
    }
}

/// Ports by their bits.
struct Blocks {
    excluded: Vec<u64>,
    included: Vec<u64>,
}

impl Blocks {
    /// Where nothing is redirected, the settings say so, and no port is asked for.
    fn of(ports: Option<&RedirectedPorts>) -> Self {
        let (none, all) = (|| vec![0; BLOCKS], || vec![u64::MAX; BLOCKS]);
        match ports {
            None => Self { excluded: none(), included: all() },
            Some(RedirectedPorts::AllBut(ports)) => Self { excluded: bits(ports), included: all() },
            Some(RedirectedPorts::Only(ports)) => Self { excluded: none(), included: bits(ports) },
        }
    }
}

/// How many blocks of 64 ports there are.
const BLOCKS: usize = 1024;

fn bits(ports: &PortSet) -> Vec<u64> {
    let mut blocks = vec![0; BLOCKS];
    for range in ports.merged().ranges() {
        for port in range.first().number()..=range.last().number() {
            blocks[usize::from(port / 64)] |= 1 << (port % 64);
        }
    }
    blocks
}

fn networks(plan: &SocketPlan, local: &[AnyCidr]) -> Elements {
    let mut known: Vec<(u32, AnyCidr)> = Vec::new();
    let mut add = |what: u32, list: &[AnyCidr]| known.extend(list.iter().map(|net| (what, net.clone())));
    add(NETWORK_OUTBOUND_EXCLUDED, &plan.excluded_destinations);
    add(NETWORK_OUTBOUND_INCLUDED, &plan.included_destinations);
    add(NETWORK_INBOUND_EXCLUDED, &plan.excluded_sources);
    add(NETWORK_LOCAL, local);
    let of_host = |addr: &IpAddr| match addr {
        IpAddr::V4(addr) => AnyCidr::V4(Cidr::host(*addr)),
        IpAddr::V6(addr) => AnyCidr::V6(Cidr::host(*addr)),
    };
    if let Some(DnsServers::These(servers)) = plan.dns.as_ref().map(|dns| &dns.servers) {
        add(NETWORK_DNS_SERVER, &servers.iter().map(of_host).collect::<Vec<_>>());
    }
    // The loopback network, and the address that stands for it.
    for text in ["127.0.0.0/8", "0.0.0.0/32", "::1/128", "::6/128", "::/128"] {
        known.push((NETWORK_LOCAL, text.parse().expect("a literal network is valid")));
    }
    let mut all = of_family::<V4>(&known, MAPPED, MAPPED_BITS);
    // No IPv6 prefix is to match addresses of IPv4, which are in it only here.
    all.entry((MAPPED, MAPPED_BITS)).or_default();
    all.extend(of_family::<V6>(&known, 0, 0));
    let element = |((bits, prefix), what): ((u128, u8), u32)| {
        let key = NetworkKey { prefix_bits: prefix.into(), address: Address::of(bits) };
        (key.to_bytes().to_vec(), what.to_ne_bytes().to_vec())
    };
    all.into_iter().map(element).collect()
}

impl Address {
    pub(super) fn of(bits: u128) -> Self {
        let bytes = bits.to_be_bytes();
        Self { words: std::array::from_fn(|at| u32::from_ne_bytes(std::array::from_fn(|byte| bytes[4 * at + byte]))) }
    }
}

/// What is known of each prefix and of those that it is in, since the longest one counts.
fn of_family<F: Family>(known: &[(u32, AnyCidr)], base: u128, shift: u8) -> BTreeMap<(u128, u8), u32> {
    let mut all: BTreeMap<(u128, u8), u32> = BTreeMap::new();
    for (what, net) in known.iter().filter_map(|(what, net)| Some((what, F::pick(net)?))) {
        *all.entry((base | F::to_bits(net.first()), shift + net.prefix())).or_default() |= what;
    }
    // In this order, a prefix comes behind those that it is in.
    let mut around: Vec<(u128, u8, u32)> = Vec::new();
    for ((bits, prefix), what) in &mut all {
        while around.last().is_some_and(|(outer, length, _)| (bits ^ outer) & mask(*length) != 0) {
            around.pop();
        }
        *what |= around.last().map_or(0, |(.., what)| *what);
        around.push((*bits, *prefix, *what));
    }
    all
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl((BITS - prefix).into()).unwrap_or(0)
}

/// What a user or group is excluded from: the indices of exclusions.
type Class = BTreeSet<usize>;

/// The exclusions of users and groups. Those that have the same exclusions are a class.
fn owners(plan: &SocketPlan) -> (Elements, Elements) {
    let (mut owners, mut ports) = (Elements::new(), Elements::new());
    let mut number = 0;
    for kind in [OWNER_USER, OWNER_GROUP] {
        let of_kind = |exclusion: &&OwnerExclusion| ids(&exclusion.owner).0 == kind;
        let exclusions: Vec<_> = plan.excluded_owners.iter().filter(of_kind).collect();
        let ids: Vec<_> = exclusions.iter().map(|exclusion| ids(&exclusion.owner).1).collect();
        let mut classes: HashMap<Class, u32> = HashMap::new();
        for (first, last, class) in intervals(&ids) {
            let number = *classes.entry(class).or_insert_with_key(|class| {
                number += 1;
                ports.extend(ports_of_class(number, class.iter().map(|index| exclusions[*index])));
                number
            });
            for (id, length) in prefixes(first.into(), last.into(), 32) {
                // A prefix of a 32-bit number fits.
                let key = OwnerKey { prefix_bits: 32 + length, kind, id: (id as u32).to_be() };
                owners.insert(key.to_bytes().to_vec(), number.to_ne_bytes().to_vec());
            }
        }
    }
    (owners, ports)
}

/// The kind of an owner, and the first and the last number.
fn ids(owner: &Owner) -> (u32, (u32, u32)) {
    match owner {
        Owner::Uid(range) => (OWNER_USER, (range.first().number(), range.last().number())),
        Owner::Gid(range) => (OWNER_GROUP, (range.first().number(), range.last().number())),
    }
}

fn ports_of_class<'a>(class: u32, exclusions: impl Iterator<Item = &'a OwnerExclusion>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let exclusions: Vec<_> = exclusions.collect();
    let mut list = Vec::new();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let with = exclusions.iter().filter(|exclusion| exclusion.protocols.contains(&protocol));
        let ports: PortSet = with.flat_map(|exclusion| exclusion.ports.ranges()).copied().collect();
        for range in ports.merged().ranges() {
            let number = |port: Port| u64::from(port.number());
            for (port, length) in prefixes(number(range.first()), number(range.last()), 16) {
                let key = OwnerPortKey {
                    prefix_bits: 48 + length,
                    class,
                    protocol: protocol.number().into(),
                    // A prefix of a 16-bit number fits.
                    port: (port as u16).to_be(),
                };
                list.push((key.to_bytes().to_vec(), 1_u32.to_ne_bytes().to_vec()));
            }
        }
    }
    list
}

/// Intervals of numbers, and which of the given ones they are in; without those that are in none.
fn intervals(given: &[(u32, u32)]) -> Vec<(u32, u32, Class)> {
    let mut events: BTreeMap<u64, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (index, (first, last)) in given.iter().enumerate() {
        events.entry((*first).into()).or_default().0.push(index);
        events.entry(u64::from(*last) + 1).or_default().1.push(index);
    }
    let mut list = Vec::new();
    let mut open = Class::new();
    let mut from = 0_u64;
    for (at, (begin, end)) in events {
        if !open.is_empty() {
            // Between two events, so at most the highest number.
            list.push((from as u32, (at - 1) as u32, open.clone()));
        }
        for index in end {
            open.remove(&index);
        }
        open.extend(begin);
        from = at;
    }
    list
}

/// The prefixes that together are the numbers from `first` to `last` of this many bits.
fn prefixes(first: u64, last: u64, bits: u32) -> Vec<(u64, u32)> {
    let mut list = Vec::new();
    let mut at = first;
    while at <= last {
        let aligned = at.trailing_zeros().min(bits);
        let fitting = (last - at + 1).ilog2();
        let free = aligned.min(fitting);
        list.push((at, bits - free));
        at += 1 << free;
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::facts::{Facts, Resolvers};
    use crate::net::Uid;

    fn content(change: impl FnOnce(&mut Config)) -> MapContents {
        let mut config = Config::default();
        change(&mut config);
        let mut facts = Facts::capable_host(Uid::SIDECAR);
        facts.resolvers = Some(Resolvers::new(["10.9.0.53".parse().unwrap()]));
        let plan = crate::policy::plan(&config, &facts).unwrap();
        MapContents::of(&plan.sockets, &["10.77.0.1".parse().unwrap(), "fd77::1".parse().unwrap()])
    }

    fn known(content: &MapContents, addr: &str) -> u32 {
        let bits = match addr.parse().unwrap() {
            IpAddr::V4(addr) => MAPPED | u128::from(u32::from(addr)),
            IpAddr::V6(addr) => u128::from(addr),
        };
        let found = (0..=BITS).rev().find_map(|prefix| {
            let key = NetworkKey { prefix_bits: prefix.into(), address: Address::of(bits & mask(prefix)) };
            content.networks.get(key.to_bytes().as_slice())
        });
        found.map_or(0, |value| u32::from_ne_bytes(value[..].try_into().unwrap()))
    }

    #[test]
    fn the_longest_prefix_knows_what_the_wider_ones_do() {
        let content = content(|config| {
            config.redirect.outbound.exclude_ips = ["10.0.0.0/8", "::/0"].map(|net| net.parse().unwrap()).to_vec();
            config.redirect.inbound.exclude_ips = vec!["10.77.0.0/16".parse().unwrap()];
        });
        assert_eq!(known(&content, "10.1.1.1"), NETWORK_OUTBOUND_EXCLUDED);
        assert_eq!(known(&content, "10.77.9.9"), NETWORK_OUTBOUND_EXCLUDED | NETWORK_INBOUND_EXCLUDED);
        assert_eq!(known(&content, "10.77.0.1"), NETWORK_OUTBOUND_EXCLUDED | NETWORK_INBOUND_EXCLUDED | NETWORK_LOCAL);
        assert_eq!(known(&content, "127.9.9.9"), NETWORK_LOCAL);
        assert_eq!(known(&content, "192.168.1.1"), 0, "no IPv6 network has addresses of IPv4");
        assert_eq!(known(&content, "2001:db8::1"), NETWORK_OUTBOUND_EXCLUDED);
        assert_eq!(known(&content, "fd77::1"), NETWORK_OUTBOUND_EXCLUDED | NETWORK_LOCAL);
    }

    #[test]
    fn name_servers_and_ports() {
        let content = content(|config| {
            config.redirect.dns.enabled = true;
            config.redirect.outbound.exclude_ports = "80,65535".parse().unwrap();
            config.redirect.inbound.include_ports = "1,64-65".parse().unwrap();
        });
        assert_eq!(known(&content, "10.9.0.53"), NETWORK_DNS_SERVER);
        let ports = &content.settings.ports;
        assert_eq!((ports[1].outbound_excluded, ports[1023].outbound_excluded), (1 << 16, 1 << 63));
        assert_eq!((ports[0].inbound_redirected, ports[1].inbound_redirected), (2, 3));
        assert_eq!(content.settings.flags & SETTING_V4_DNS, SETTING_V4_DNS);
        assert_eq!(content.settings.flags & (SETTING_V6_DNS | SETTING_DNS_ALL), 0);
    }

    #[test]
    fn users_have_what_any_exclusion_gives_them() {
        let content = content(|config| {
            config.redirect.outbound.exclude_ports_for_uids =
                ["tcp:22:1000-2000", "udp:53:1500", "80-83:7"].map(|text| text.parse().unwrap()).to_vec();
            config.redirect.outbound.exclude_ports_for_gids = vec!["tcp::7".parse().unwrap()];
        });
        let excluded = |kind: u32, id: u32, protocol: Protocol, port: u16| {
            let class = (0..=32).rev().find_map(|length: u32| {
                let id = if length == 0 { 0 } else { id >> (32 - length) << (32 - length) };
                content.owners.get(OwnerKey { prefix_bits: 32 + length, kind, id: id.to_be() }.to_bytes().as_slice())
            });
            class.is_some_and(|class| {
                let class = u32::from_ne_bytes(class[..].try_into().unwrap());
                (0..=16).any(|length: u32| {
                    let port = if length == 0 { 0 } else { port >> (16 - length) << (16 - length) };
                    let protocol = protocol.number().into();
                    let key = OwnerPortKey { prefix_bits: 48 + length, class, protocol, port: port.to_be() };
                    content.owner_ports.contains_key(key.to_bytes().as_slice())
                })
            })
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        for id in [1000, 1500, 2000] {
            assert!(excluded(OWNER_USER, id, tcp, 22) && !excluded(OWNER_USER, id, tcp, 23));
            assert_eq!(excluded(OWNER_USER, id, udp, 53), id == 1500);
        }
        assert!(!excluded(OWNER_USER, 999, tcp, 22) && !excluded(OWNER_USER, 2001, tcp, 22));
        assert!(excluded(OWNER_USER, 7, udp, 83) && !excluded(OWNER_USER, 7, udp, 84));
        assert!(excluded(OWNER_GROUP, 7, tcp, 9999) && !excluded(OWNER_GROUP, 7, udp, 9999));
        assert!(!excluded(OWNER_GROUP, 1500, tcp, 22));
    }

    #[test]
    fn ranges_become_prefixes() {
        assert_eq!(prefixes(1, 65535, 16).len(), 16);
        assert_eq!(prefixes(0, u32::MAX.into(), 32), [(0, 0)]);
        assert_eq!(prefixes(4, 6, 16), [(4, 15), (6, 16)]);
        assert_eq!(intervals(&[(5, 9), (7, u32::MAX)]).len(), 3);
    }
}
