//! Plans of every shape.

use kumatp::config::Config;
use kumatp::facts::{Facts, Resolvers};
use kumatp::model::Plan;
use kumatp::net::Uid;

pub(crate) fn plan(config: &Config, servers: &[&str], docker: bool) -> Plan {
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(servers.iter().map(|server| server.parse().unwrap())));
    facts.v4.docker_output = docker;
    kumatp::policy::plan(config, &facts).unwrap()
}

/// A spread over all that changes the shape of the rules. Without privileges, nft can send no more than
/// the default of a socket's buffer, which bounds the number of rules here.
pub(crate) fn plans() -> Vec<(&'static str, Plan)> {
    let list = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>();
    let config = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config
    };
    let dns = |all: bool| {
        config(&|c| {
            c.redirect.dns.enabled = true;
            c.redirect.dns.capture_all = all;
        })
    };
    let everything = config(&|c| {
        c.redirect.dns.enabled = true;
        c.drop_invalid_packets = true;
        c.log.enabled = true;
        let outbound = &mut c.redirect.outbound;
        outbound.exclude_ports = list(250, &|i| format!("{}", 2 * i + 1)).join(",").parse().unwrap();
        outbound.exclude_ips = list(200, &|i| format!("10.{}.{}.0/25", i / 200, i % 200))
            .into_iter()
            .chain(list(200, &|i| format!("fd00:{i:x}::/33")))
            .chain(["0.0.0.0/1", "255.255.255.255", "ffff::/16", "::/127"].map(str::to_owned))
            .map(|net| net.parse().unwrap())
            .collect();
        outbound.exclude_ports_for_uids = list(60, &|i| format!("tcp:{}-{}:{}", 10 * i + 1, 10 * i + 5, 3 * i))
            .into_iter()
            .chain(list(100, &|i| format!("udp:53:{}-{}", 1_000_000 + 10 * i, 1_000_005 + 10 * i)))
            .chain(["tcp:1-3,7,9-65535:4294967294".to_owned(), "0".to_owned()])
            .map(|text| text.parse().unwrap())
            .collect();
        outbound.exclude_ports_for_gids =
            list(100, &|i| format!("tcp:443:{}", 2 * i)).iter().map(|t| t.parse().unwrap()).collect();
        c.redirect.inbound.exclude_ports = "1,3,5-9,65535".parse().unwrap();
        c.redirect.inbound.exclude_ips = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|net| net.parse().unwrap()).to_vec();
        c.redirect.vnet = [
            "br+:172.18.0.0/16",
            "br+:172.20.0.0/16",
            "docker0:172.17.0.0/16",
            "+:10.9.0.0/16",
            "br+:fd00:9::/64",
            "abcdefghijklmno:fd00:8::/64",
        ]
        .map(|net| net.parse().unwrap())
        .to_vec();
    });
    let mut plans = vec![
        ("default", plan(&config(&|_| ()), &[], false)),
        ("all DNS", plan(&dns(true), &[], false)),
        ("all DNS, Docker", plan(&dns(true), &[], true)),
        ("DNS of servers", plan(&dns(false), &["1.1.1.1", "8.8.8.8", "fd00::53", "fd00::54"], false)),
        ("DNS of a loopback server", plan(&dns(false), &["127.0.0.11", "::1"], true)),
        (
            "nothing redirected",
            plan(
                &config(&|c| {
                    c.redirect.inbound.enabled = false;
                    c.redirect.outbound.enabled = false;
                }),
                &[],
                false,
            ),
        ),
        (
            "included",
            plan(
                &config(&|c| {
                    c.redirect.inbound.include_ports = "80,443,3000-4000".parse().unwrap();
                    c.redirect.outbound.include_ports = "80,443".parse().unwrap();
                    c.redirect.outbound.include_ips =
                        ["10.0.0.0/8", "192.168.1.1", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
                }),
                &[],
                false,
            ),
        ),
        (
            "no comments",
            plan(
                &config(&|c| {
                    c.comments.disabled = true;
                    c.redirect.dns.enabled = true;
                }),
                &["1.1.1.1"],
                false,
            ),
        ),
        ("IPv4 only", plan(&config(&|c| c.ip_family_mode = kumatp::model::IpFamilyMode::Ipv4), &[], false)),
    ];
    let servers = ["127.0.0.11", "1.1.1.1", "10.0.0.3", "fd00::53"];
    for level in [0, 3, 4, 7] {
        let mut inserting = everything.clone();
        inserting.redirect.inbound.insert = level % 2 == 0;
        inserting.redirect.outbound.insert = level < 4;
        inserting.log.level = kumatp::model::LogLevel::new(level).unwrap();
        plans.push(("everything", plan(&inserting, &servers, false)));
    }
    plans
}
