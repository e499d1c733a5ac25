//! Cases that always run: one for every disagreement that there ever was, and some for what is rarely drawn.

use std::fmt::Debug;
use std::str::FromStr;

use kumatp::config::Config;
use kumatp::facts::{Facts, Resolvers};
use kumatp::model::IpFamilyMode;
use kumatp::net::Uid;

use crate::shot::{Shot, Volley};
use crate::trial::Trial;

/// A configuration and packets, and where each ends.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) config: Config,
    pub(crate) facts: Facts,
    pub(crate) packets: Vec<Expected>,
}

/// A packet, and where it ends.
pub(crate) struct Expected {
    pub(crate) packet: &'static str,
    pub(crate) with_iptables: &'static str,
    pub(crate) natively: &'static str,
}

/// A packet that ends in the same place whatever the engine.
fn everywhere(packet: &'static str, end: &'static str) -> Expected {
    Expected { packet, with_iptables: end, natively: end }
}

/// A packet that native rules drop.
fn closed_natively(packet: &'static str, end: &'static str) -> Expected {
    Expected { packet, with_iptables: end, natively: DROPPED }
}

impl Case {
    fn new(name: &'static str, change: impl FnOnce(&mut Config, &mut Facts), packets: Vec<Expected>) -> Self {
        let (mut config, mut facts) = (Config::default(), Facts::capable_host(Uid::SIDECAR));
        change(&mut config, &mut facts);
        Self { name, config, facts, packets }
    }

    /// The packets as they are sent.
    pub(crate) fn trial(&self) -> Trial {
        let mut volley = Volley::new(&self.config, FIRST_PORT);
        for Expected { packet, .. } in &self.packets {
            let shot = Shot::of(&packet.parse().expect("a packet"));
            volley.add(shot).unwrap_or_else(|why| panic!("{}: {packet} cannot be sent: {why}", self.name));
        }
        Trial::new(self.name.to_owned(), self.config.clone(), self.facts.clone(), volley.shots)
    }
}

/// Packets without a port of their own are from this one and those after it.
const FIRST_PORT: u16 = 60000;

const DELIVERED: &str = "delivered as sent";
const DROPPED: &str = "dropped";
const INBOUND: &str = "redirected to port 15006";
const OUTBOUND: &str = "redirected to port 15001";
const DNS: &str = "redirected to port 15053";

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    vec![
        Case::new(
            "the defaults",
            |_, _| {},
            vec![
                everywhere("tcp 203.0.113.9:443 from 10.77.0.1 uid 1000 out eth0", OUTBOUND),
                everywhere("tcp [2001:db8::9]:443 from fd77::1 uid 1000 out eth0", OUTBOUND),
                everywhere("tcp 203.0.113.9:443 from 10.77.0.1 uid 5678 out eth0", DELIVERED),
                everywhere("tcp 10.77.0.11:8080 from 10.77.0.1 uid 5678 out lo", INBOUND),
                everywhere("tcp 10.77.0.11:8080 from 10.77.0.1 uid 5679 out lo", DELIVERED),
                everywhere("tcp 10.77.0.11:8080 from 127.0.0.6 uid 5678 out lo", DELIVERED),
                everywhere("tcp [fd77::11]:8080 from ::6 uid 5678 out lo", DELIVERED),
                everywhere("udp 203.0.113.9:53 from 10.77.0.1 uid 1000 out eth0", DELIVERED),
                everywhere("icmp 203.0.113.9 from 10.77.0.1 uid 1000 out eth0", DELIVERED),
                everywhere("inbound tcp 10.77.0.1:8080 from 203.0.113.9 in eth0", INBOUND),
                everywhere("inbound tcp [fd77::1]:8080 from 2001:db8::9 in br0", INBOUND),
                everywhere("inbound icmpv6 fd77::1 from 2001:db8::9 in eth0", DELIVERED),
                everywhere("inbound tcp 10.77.0.1:8080 from 203.0.113.10 in eth0 invalid", DELIVERED),
                everywhere("forwarded tcp 203.0.113.9:443 from 172.20.0.2 in br0 out eth0", INBOUND),
                everywhere("tcp 203.0.113.9:443 from 10.77.0.11 uid 1000 out eth0 midstream", OUTBOUND),
            ],
        ),
        Case::new(
            "invalid packets, on their way to this host too",
            |config, _| config.drop_invalid_packets = true,
            vec![
                everywhere("inbound tcp 10.77.0.1:8080 from 203.0.113.9 in eth0 invalid", DROPPED),
                everywhere("forwarded tcp 203.0.113.9:8080 from 172.20.0.2 in br0 out eth0 invalid", DROPPED),
                closed_natively("tcp 203.0.113.9:8080 from 10.77.0.1 uid 1000 out eth0 invalid", DELIVERED),
                everywhere("tcp 10.77.0.11:8080 from 10.77.0.1 uid 1000 out lo invalid", DROPPED),
            ],
        ),
        Case::new(
            "queries of a virtual network, in the zone of their answers",
            |config, _| {
                config.redirect.dns.enabled = true;
                config.redirect.dns.capture_all = true;
                config.redirect.vnet = vec!["br+:172.20.0.0/16".parse().expect("a network")];
            },
            vec![
                everywhere("forwarded udp 203.0.113.53:53 from 172.20.0.2 in br0 out eth0", DNS),
                everywhere("forwarded tcp 203.0.113.9:443 from 172.20.0.2 in br0 out eth0", OUTBOUND),
                everywhere("forwarded tcp 172.20.0.9:443 from 172.20.0.2 in br0 out br0", INBOUND),
                everywhere("udp 203.0.113.53:53 from 10.77.0.1 uid 5678 out eth0", DELIVERED),
                everywhere("udp 203.0.113.53:53 from 10.77.0.1 uid 1000 out eth0", DNS),
            ],
        ),
        Case::new(
            "queries of named servers, from ports that rules tell from others",
            |config, facts| {
                config.redirect.dns.enabled = true;
                facts.resolvers = Some(Resolvers::new([parsed("203.0.113.53"), parsed("127.0.0.11"), parsed("::1")]));
            },
            vec![
                everywhere("udp 203.0.113.53:53 from 10.77.0.1 uid 1000 out eth0", DNS),
                // The answer is lost: it is to port 53, so it is tracked like a query of the sidecar.
                everywhere("udp 203.0.113.53:53 from 10.77.0.1:53 uid 1000 out eth0", DNS),
                everywhere("udp 203.0.113.53:53 from 10.77.0.11:15053 uid 1000 out eth0", DNS),
                everywhere("udp 203.0.113.53:53 from 172.20.0.1:15053 uid 5678 out eth0", DELIVERED),
                everywhere("udp 203.0.113.54:53 from 172.20.0.1 uid 1000 out eth0", DELIVERED),
                everywhere("udp 127.0.0.11:53 from 127.0.0.1 uid 1000 out lo", DNS),
                everywhere("udp 127.0.0.11:53 from 127.0.0.1 uid 5678 out lo", DELIVERED),
                everywhere("udp [::1]:53 from fd77::1 uid 1000 out lo", DNS),
                everywhere("tcp 203.0.113.53:53 from 10.77.0.1 uid 1000 out eth0", DELIVERED),
                everywhere("tcp 203.0.113.53:53 from 10.77.0.1 uid 5678 out eth0", DELIVERED),
            ],
        ),
        Case::new(
            "IPv4 only, and one listener for both directions",
            |config, _| {
                config.ip_family_mode = IpFamilyMode::Ipv4;
                config.redirect.inbound.port = parsed("15001");
                config.drop_invalid_packets = true;
            },
            vec![
                everywhere("tcp 203.0.113.9:15001 from 10.77.0.1 uid 1000 out eth0", OUTBOUND),
                everywhere("inbound tcp 10.77.0.1:15001 from 203.0.113.9 in eth0", OUTBOUND),
                everywhere("tcp 127.0.0.1:15001 from 127.0.0.1 uid 1000 out lo", DELIVERED),
                everywhere("tcp [2001:db8::9]:443 from fd77::1 uid 1000 out eth0", DELIVERED),
                everywhere("inbound tcp [fd77::1]:8080 from 2001:db8::9 in eth0 invalid", DELIVERED),
            ],
        ),
        Case::new(
            "the highest ids, and all ports",
            |config, facts| {
                facts.sidecar_uid = parsed("4294967294");
                let outbound = &mut config.redirect.outbound;
                outbound.exclude_ports_for_uids = vec![parsed("4294967292-4294967293")];
                outbound.exclude_ports_for_gids = vec![parsed("tcp:65535:4294967294")];
            },
            vec![
                everywhere("tcp 203.0.113.9:1 from 10.77.0.1 uid 4294967294 gid 0 out eth0", DELIVERED),
                everywhere("tcp 203.0.113.9:1 from 10.77.0.1 uid 4294967293 gid 0 out eth0", DELIVERED),
                everywhere("tcp 203.0.113.9:65535 from 10.77.0.1 uid 4294967292 gid 0 out eth0", DELIVERED),
                everywhere("tcp 203.0.113.9:1 from 10.77.0.1 uid 4294967291 gid 0 out eth0", OUTBOUND),
                everywhere("tcp 203.0.113.9:65535 from 10.77.0.1 uid 0 gid 4294967294 out eth0", DELIVERED),
                everywhere("tcp 203.0.113.9:65535 from 10.77.0.1 uid 0 gid 4294967293 out eth0", OUTBOUND),
                everywhere("tcp 203.0.113.9:65534 from 10.77.0.1 uid 0 gid 4294967294 out eth0", OUTBOUND),
            ],
        ),
        Case::new(
            "connections from before",
            |config, _| config.redirect.vnet = vec![parsed("docker0:172.17.0.0/16")],
            vec![
                everywhere("inbound tcp 10.77.0.1:8080 from 203.0.113.9 in eth0 midstream", INBOUND),
                everywhere("inbound tcp [fd77::1]:8080 from 2001:db8::9 in eth0 midstream", INBOUND),
                everywhere("forwarded tcp 203.0.113.9:443 from 172.17.0.2 in docker0 out eth0 midstream", OUTBOUND),
                everywhere("tcp [2001:db8::9]:443 from fd77::1 uid 1000 out eth0 midstream", OUTBOUND),
                everywhere("tcp 203.0.113.9:443 from 10.77.0.1 uid 5678 out eth0 midstream", DELIVERED),
            ],
        ),
    ]
}

/// A configuration with facts.
pub(crate) type Host = (Config, Facts);

/// Two that differ by one, as little as may be: what is in force, and what is believed to be.
pub(crate) fn mistakes() -> Vec<(&'static str, Host, Host)> {
    type Change = fn(&mut Config, &mut Facts, bool);
    let mistakes: [(&'static str, Change); 19] = [
        ("outbound port", |config, _, other| config.redirect.outbound.port = parsed(either(other, "15001", "15002"))),
        ("inbound port", |config, _, other| config.redirect.inbound.port = parsed(either(other, "15006", "15007"))),
        ("DNS port", |config, _, other| config.redirect.dns.port = parsed(either(other, "15053", "15054"))),
        ("excluded outbound ports", |config, _, other| {
            config.redirect.outbound.exclude_ports = parsed(either(other, "80-90", "80-91"));
        }),
        ("excluded inbound port", |config, _, other| {
            config.redirect.inbound.exclude_ports = parsed(either(other, "22", "23"));
        }),
        ("included outbound ports", |config, _, other| {
            config.redirect.outbound.include_ports = parsed(either(other, "80-90", "81-90"));
        }),
        ("included inbound ports", |config, _, other| {
            config.redirect.inbound.include_ports = parsed(either(other, "80-90", "80-89"));
        }),
        ("excluded destination", |config, _, other| {
            config.redirect.outbound.exclude_ips = vec![parsed(either(other, "203.0.113.0/24", "203.0.113.0/25"))];
        }),
        ("excluded IPv6 destination", |config, _, other| {
            config.redirect.outbound.exclude_ips = vec![parsed(either(other, "2001:db8::/32", "2001:db8::/31"))];
        }),
        ("included destination", |config, _, other| {
            config.redirect.outbound.include_ips = vec![parsed(either(other, "203.0.113.9", "203.0.113.8/31"))];
        }),
        ("excluded source", |config, _, other| {
            config.redirect.inbound.exclude_ips = vec![parsed(either(other, "2001:db8::9", "2001:db8::8"))];
        }),
        ("excluded users", |config, _, other| {
            config.redirect.outbound.exclude_ports_for_uids = vec![parsed(either(other, "1000-1002", "1000-1001"))];
        }),
        ("excluded group", |config, _, other| {
            config.redirect.outbound.exclude_ports_for_gids =
                vec![parsed(either(other, "tcp:443:1000", "tcp:443:1001"))];
        }),
        ("the sidecar's user", |_, facts, other| facts.sidecar_uid = parsed(either(other, "5678", "5679"))),
        ("invalid packets", |config, _, other| config.drop_invalid_packets = other),
        ("a virtual network", |config, _, other| {
            config.redirect.vnet = vec![parsed(either(other, "br0:172.20.0.0/16", "br0:172.20.0.0/17"))];
        }),
        ("its interface", |config, _, other| {
            config.redirect.vnet = vec![parsed(either(other, "br0:fd20::/64", "br+:fd20::/64"))];
        }),
        ("DNS to any server", |config, _, other| config.redirect.dns.capture_all = other),
        ("zones", |config, _, other| config.redirect.dns.skip_conntrack_zone_split = other),
    ];
    let host = |change: Change, other: bool| {
        let (mut config, mut facts) = (Config::default(), Facts::capable_host(Uid::SIDECAR));
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        facts.resolvers = Some(Resolvers::new([parsed("203.0.113.53"), parsed("2001:db8::53")]));
        change(&mut config, &mut facts, other);
        (config, facts)
    };
    mistakes.into_iter().map(|(name, change)| (name, host(change, false), host(change, true))).collect()
}

fn either(other: bool, first: &'static str, second: &'static str) -> &'static str {
    if other { second } else { first }
}

fn parsed<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"))
}
