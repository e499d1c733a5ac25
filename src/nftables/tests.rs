use super::*;
use crate::config::Config;
use crate::facts::{Facts, Resolvers};
use crate::model::{Chain as ModelChain, ChainName, Match, Rule as ModelRule, Ruleset, TableName, Target, Transport};
use crate::net::{Port, Uid, V4};
use crate::render::nft;

fn facts(servers: &[&str]) -> Facts {
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(servers.iter().map(|server| server.parse().unwrap())));
    facts
}

fn dns(capture_all: bool) -> Config {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = capture_all;
    config
}

fn native(config: &Config, facts: &Facts) -> Native {
    Native::of(&crate::policy::plan(config, facts).unwrap())
}

/// The rules of a chain as nft's text without comments; empty if there is no such chain.
fn rules(table: &Table, chain: &str) -> Vec<String> {
    let rules = table.chain(chain).into_iter().flat_map(|chain| chain.rules.clone());
    rules.map(|rule| nft::rule(&Rule { comment: None, ..rule }, table.family)).collect()
}

/// What closes behind every plan that redirects both ways.
const CLOSING: [(&str, i32); 3] = [("closing_prerouting", -98), ("closing_output", -98), ("closing_postrouting", 1)];

const NO_MARTIANS: &str = "iifname != \"lo\" ip daddr @addresses_1 drop";

fn base_chains(table: &Table) -> Vec<(&str, i32)> {
    table.chains.iter().filter_map(|chain| Some((chain.name.as_str(), chain.base?.priority))).collect()
}

#[test]
fn the_default_rules() {
    let native = native(&Config::default(), &facts(&[]));
    let table = &native.v4;
    let base = [("raw_prerouting", -299), ("nat_prerouting_last", -99), ("nat_output_last", -99)];
    assert_eq!(base_chains(table), [&base[..], &CLOSING].concat());
    let socket = "tcp flags & (fin | syn | rst | ack) != syn tcp dport 32768-60999 socket wildcard 0 accept";
    assert_eq!(
        rules(table, "nat_prerouting_last"),
        ["meta l4proto != tcp accept", socket, "meta l4proto tcp jump KUMA_MESH_INBOUND"]
    );
    assert_eq!(rules(table, "nat_output_last"), ["meta l4proto tcp jump KUMA_MESH_OUTBOUND"]);
    assert_eq!(
        rules(table, "KUMA_MESH_OUTBOUND"),
        [
            "oifname \"lo\" ip saddr 127.0.0.6 fib daddr type local return",
            "oifname \"lo\" meta l4proto tcp ip daddr != 127.0.0.1 meta skuid 5678 jump KUMA_MESH_INBOUND_REDIRECT",
            // The two that are swapped: together they say "on lo by another than 5678" without `!=`.
            "meta skuid 5678 return",
            "oifname \"lo\" meta l4proto tcp fib daddr type local return",
            "ip daddr 127.0.0.1 return",
            "jump KUMA_MESH_OUTBOUND_REDIRECT",
        ]
    );
    assert_eq!(
        rules(table, "KUMA_MESH_OUTBOUND_REDIRECT"),
        [
            "oifname != \"lo\" meta l4proto tcp fib saddr type local dnat to ip saddr : 15001",
            "meta l4proto tcp redirect to :15001"
        ]
    );
    assert_eq!(
        rules(table, "KUMA_MESH_INBOUND_REDIRECT"),
        [
            "meta l4proto tcp fib saddr type != local fib daddr type local dnat to :15006",
            "meta l4proto tcp redirect to :15006"
        ]
    );
    let v6 = native.v6.as_ref().unwrap();
    assert_eq!(rules(v6, "KUMA_MESH_OUTBOUND")[0], "oifname \"lo\" ip6 saddr ::6 fib daddr type local return");
}

#[test]
fn dns_comes_before_the_nat_of_others_and_the_rest_after() {
    let table = native(&dns(true), &facts(&[])).v4;
    let base = [
        ("raw_prerouting", -299),
        ("raw_output", -299),
        ("nat_prerouting_last", -99),
        ("nat_output_first", -101),
        ("nat_output_last", -99),
    ];
    assert_eq!(base_chains(&table), [&base[..], &CLOSING].concat());
    assert_eq!(rules(&table, "raw_prerouting"), [NO_MARTIANS, "udp sport 53 ct zone set 1"]);
    assert_eq!(
        rules(&table, "raw_output"),
        [
            "udp dport 53 meta skuid 5678 ct zone set 1",
            "udp sport 15053 meta skuid 5678 ct zone set 2",
            "udp dport 53 ct zone set 2",
        ]
    );
    assert_eq!(
        rules(&table, "nat_output_first"),
        [
            "meta l4proto != udp accept",
            "udp dport 53 meta skuid 5678 accept",
            "oifname != \"lo\" udp dport 53 fib saddr type local dnat to ip saddr : 15053",
            "udp dport 53 redirect to :15053",
        ]
    );
    assert_eq!(
        rules(&table, "nat_output_last"),
        [
            "meta l4proto != tcp accept",
            "tcp dport 53 meta skuid 5678 jump KUMA_MESH_OUTBOUND",
            "tcp dport 53 accept",
            "meta l4proto tcp jump KUMA_MESH_OUTBOUND",
        ]
    );
}

#[test]
fn exclusions_stand_where_they_can_matter() {
    let mut config = dns(true);
    config.redirect.outbound.exclude_ports_for_uids =
        ["tcp:22,3000-5000:106-108", "udp:53:9", "1000", "1001"].map(|t| t.parse().unwrap()).to_vec();
    config.redirect.outbound.exclude_ips = vec!["10.0.0.0/8".parse().unwrap(), "192.168.0.1".parse().unwrap()];
    let exclusions = |config: &Config, chain: &str| {
        let mut rules = rules(&native(config, &facts(&[])).v4, chain);
        rules.retain(|rule| {
            rule.ends_with(" accept") && !rule.contains("!=") && !rule.contains("port 53 meta skuid 5678")
        });
        rules
    };
    let neutral = "ip daddr @outbound_exclude_ports_for_ips accept";
    assert_eq!(
        exclusions(&config, "nat_output_first"),
        ["udp dport 53 meta skuid 9 accept", "udp dport 1-65535 meta skuid 1000-1001 accept", neutral]
    );
    assert_eq!(
        exclusions(&config, "nat_output_last")[..3],
        [
            "tcp dport @outbound_exclude_ports_for_uids meta skuid 106-108 accept",
            "tcp dport 1-65535 meta skuid 1000-1001 accept",
            neutral,
        ]
    );
    // Without DNS nothing is left for a first chain to do.
    config.redirect.dns.enabled = false;
    assert_eq!(exclusions(&config, "nat_output_first"), [""; 0]);
    assert_eq!(exclusions(&config, "nat_output_last").len(), 3);
    // Logging must see what is excluded, once.
    config.log.enabled = true;
    let logging = native(&config, &facts(&[])).v4;
    assert_eq!(rules(&logging, "nat_output_first"), ["log prefix \"OUTPUT:\" level debug"]);
    assert!(!rules(&logging, "nat_output_last").iter().any(|rule| rule.starts_with("log")));
}

#[test]
fn insert_mode_decides_before_the_nat_of_others() {
    let mut config = dns(false);
    config.redirect.outbound.insert = true;
    config.redirect.inbound.insert = true;
    config.redirect.outbound.exclude_ips = vec!["10.0.0.0/8".parse().unwrap()];
    config.log.enabled = true;
    let table = native(&config, &facts(&["10.1.1.1"])).v4;
    // The appended rule for DNS over TCP is never reached, as in iptables.
    assert_eq!(
        rules(&table, "nat_output_first"),
        [
            "log prefix \"OUTPUT:\" level debug",
            "ip daddr 10.0.0.0/8 accept",
            "udp dport 53 meta skuid 5678 accept",
            "udp dport 53 ip daddr 10.1.1.1 redirect to :15053",
            "meta l4proto tcp jump KUMA_MESH_OUTBOUND",
        ]
    );
    let nat: Vec<_> = base_chains(&table).into_iter().filter(|(name, _)| name.starts_with("nat")).collect();
    // kumactl appends the log rule of PREROUTING even here.
    assert_eq!(nat, [("nat_prerouting_first", -101), ("nat_prerouting_last", -99), ("nat_output_first", -101)]);
}

#[test]
fn docker_dns_in_all_its_forms() {
    // Every query, with Docker's chain there: no zones, and `accept` lets Docker's rules have it.
    let mut docker = facts(&[]);
    docker.v4.docker_output = true;
    let table = native(&dns(true), &docker).v4;
    assert!(table.chain("raw_output").is_none());
    assert_eq!(rules(&table, "nat_output_first")[1], "udp dport 53 meta skuid 5678 accept");

    // Docker's server in resolv.conf, its chain not known: answers come from another port.
    let table = native(&dns(false), &facts(&["127.0.0.11"])).v4;
    assert_eq!(
        rules(&table, "raw_output")[2..],
        [
            "udp dport 53 ip daddr 127.0.0.11 ct zone set 2",
            "meta l4proto udp ip saddr 127.0.0.11 ip daddr 127.0.0.1 ct zone set 1",
        ]
    );
    assert_eq!(rules(&table, "raw_prerouting")[1..], ["udp sport 53 ip saddr 127.0.0.11 ct zone set 1"]);
    assert_eq!(rules(&table, "nat_output_first")[2], "udp dport 53 ip daddr 127.0.0.11 redirect to :15053");

    // Both: zones, and Docker's rules still have the sidecar's queries.
    docker.resolvers = facts(&["127.0.0.11"]).resolvers;
    let table = native(&dns(false), &docker).v4;
    assert_eq!(rules(&table, "raw_output").len(), 4);
    assert_eq!(rules(&table, "nat_output_first")[1], "udp dport 53 meta skuid 5678 accept");
}

#[test]
fn queries_of_virtual_networks_are_tracked_with_their_answers() {
    let mut config = dns(true);
    config.redirect.vnet = vec!["br+:172.18.0.0/16".parse().unwrap(), "docker0:172.17.0.0/16".parse().unwrap()];
    let table = native(&config, &facts(&[])).v4;
    assert_eq!(
        rules(&table, "raw_prerouting"),
        [
            NO_MARTIANS,
            "iifname \"br*\" udp dport 53 ct zone set 2",
            "iifname \"docker0\" udp dport 53 ct zone set 2",
            "udp sport 53 ct zone set 1",
        ]
    );
    assert_eq!(
        rules(&table, "nat_prerouting_first")[1..3],
        [
            "iifname \"br*\" udp dport 53 redirect to :15053",
            "iifname \"br*\" meta l4proto tcp ip daddr != 172.18.0.0/16 redirect to :15001",
        ]
    );
    // Without zones there is nothing to keep together.
    config.redirect.dns.skip_conntrack_zone_split = true;
    assert_eq!(rules(&native(&config, &facts(&[])).v4, "raw_prerouting"), [NO_MARTIANS]);
}

#[test]
fn a_thousand_ports_and_prefixes_are_two_rules() {
    let mut config = Config::default();
    let ports: Vec<_> = (0..1000).map(|i| (i * 2 + 1).to_string()).collect();
    config.redirect.outbound.exclude_ports = ports.join(",").parse().unwrap();
    config.redirect.outbound.exclude_ips =
        (0..1000).map(|i| format!("10.{}.{}.0/24", i / 250, i % 250 + 1).parse().unwrap()).collect();
    let native = native(&config, &facts(&[]));
    let sets: Vec<_> = native.v4.sets().iter().map(|set| (set.name.to_string(), set.spans.len())).collect();
    let expected = [("addresses_1", 2), ("outbound_exclude_ports_for_ips", 4), ("outbound_exclude_ports", 1000)];
    assert_eq!(sets, expected.map(|(name, spans)| (name.to_owned(), spans)));
    let rule = &native.v4.chain("KUMA_MESH_OUTBOUND").unwrap().rules[0];
    assert_eq!(rule.sources.len(), 1000);
    assert_eq!(rule.sources[7].origin.unwrap().to_string(), "redirect.outbound.excludePorts[7]");
    assert_eq!(native.v4.chain("nat_output_last").unwrap().rules.len(), 3);
}

#[test]
fn a_rule_with_a_negated_owner_takes_the_owner_past_itself() {
    let rule = |target| ModelRule::<V4>::new(target).with(Match::not_by(Uid::SIDECAR)).with(Transport::tcp());
    let port = |port| ModelRule::<V4>::new(Target::redirect(Port::new(port).unwrap())).with(Transport::tcp());
    let lowered = |chains: &[(&str, Vec<ModelRule<V4>>)]| {
        let chains = chains.iter().map(|(name, rules)| {
            let mut chain = ModelChain::new(name.parse().unwrap());
            rules.iter().for_each(|rule| chain.push(rule.clone()));
            chain
        });
        Table::of(&Ruleset::new([crate::model::Table::new(TableName::Nat, chains)]))
    };
    let udp = || ModelRule::new(Target::redirect(Port::DNS)).with(Transport::udp());
    let table = lowered(&[("A", vec![rule(Target::Return), port(1), udp()])]);
    assert_eq!(
        rules(&table, "A"),
        ["meta l4proto tcp meta skuid 5678 goto A_rest", "meta l4proto tcp return", "goto A_rest"]
    );
    assert_eq!(rules(&table, "A_rest"), ["meta l4proto tcp redirect to :1", "meta l4proto udp redirect to :53"]);
    // At the end of a chain there is nothing to go on with.
    let table = lowered(&[("A", vec![port(1), rule(Target::Return)]), ("B", vec![rule(Target::Drop)])]);
    assert_eq!(rules(&table, "A"), ["meta l4proto tcp redirect to :1"]);
    assert_eq!(rules(&table, "B"), ["meta l4proto tcp meta skuid 5678 return", "meta l4proto tcp drop"]);
}

#[test]
fn foreign_names_cannot_collide_or_break_the_script() {
    let mut output = ModelChain::<V4>::new("OUTPUT".parse().unwrap());
    let names: [ChainName; 4] = ["nat_output_last", "accept", "cali:x", "kuma_mesh_marker"].map(|n| n.parse().unwrap());
    let mut chains = Vec::new();
    for name in &names {
        output.push(ModelRule::new(Target::jump(name)));
        let mut chain = ModelChain::new(name.clone());
        chain.push(ModelRule::new(Target::Drop));
        chains.push(chain);
    }
    chains.insert(0, output);
    let table = Table::of(&Ruleset::new([crate::model::Table::new(TableName::Nat, chains)]));
    let names: Vec<_> = table.chains.iter().map(|chain| chain.name.to_string()).collect();
    assert_eq!(names, ["nat_output_last", "nat_output_last_2", "x_accept", "cali_x", "kuma_mesh_marker_2"]);
    assert_eq!(rules(&table, "nat_output_last")[0], "jump nat_output_last_2");
}

#[test]
fn what_should_be_redirected_and_was_not_is_dropped() {
    let mut config = Config::default();
    config.redirect.inbound.exclude_ports = "22,8000-8080".parse().unwrap();
    let table = native(&config, &facts(&[])).v4;
    let middle = "tcp flags & (fin | syn | rst | ack) != syn";
    assert_eq!(
        rules(&table, "closing_prerouting"),
        [
            "iifname \"lo\" accept",
            "ct status dnat accept",
            "meta l4proto != tcp accept",
            &format!("{middle} accept"),
            "meta l4proto tcp jump KUMA_MESH_INBOUND_CLOSING",
        ]
    );
    assert_eq!(
        rules(&table, "KUMA_MESH_INBOUND_CLOSING"),
        ["tcp dport @inbound_exclude_ports return", "meta l4proto tcp jump KUMA_MESH_INBOUND_REDIRECT_CLOSING"]
    );
    assert_eq!(
        rules(&table, "KUMA_MESH_INBOUND_REDIRECT_CLOSING"),
        ["tcp dport 15006 fib daddr type local accept", "meta l4proto tcp drop"]
    );
    assert_eq!(
        rules(&table, "closing_output"),
        [
            "ct status dnat accept",
            "meta l4proto != tcp accept",
            &format!("{middle} ct state & invalid == 0 accept"),
            &format!("{middle} tcp sport @inbound_exclude_ports accept"),
            "meta l4proto tcp jump KUMA_MESH_OUTBOUND_CLOSING",
        ]
    );
    let copy = |chain: &str| rules(&table, chain).join("\n").replace("_CLOSING", "");
    assert_eq!(copy("KUMA_MESH_OUTBOUND_CLOSING"), rules(&table, "KUMA_MESH_OUTBOUND").join("\n"));
    assert_eq!(rules(&table, "KUMA_MESH_OUTBOUND_REDIRECT_CLOSING"), ["meta l4proto tcp drop"]);
    assert_eq!(rules(&table, "closing_postrouting"), ["oifname \"lo\" accept", "ip daddr 127.0.0.0/8 drop",]);
    // What is not redirected needs no closing.
    config.redirect.inbound.enabled = false;
    let names: Vec<_> =
        base_chains(&native(&config, &facts(&[])).v4).into_iter().map(|(name, _)| name.to_owned()).collect();
    assert!(
        !names.contains(&"closing_prerouting".to_owned()) && names.contains(&"closing_output".to_owned()),
        "{names:?}"
    );
    config.redirect.outbound.enabled = false;
    let table = native(&config, &facts(&[])).v4;
    assert!(!table.chains.iter().any(|chain| chain.name.as_str().contains("CLOSING")), "{table:?}");
    assert!(table.chain("closing_output").is_none());
}

#[test]
fn without_what_the_kernel_lacks_the_rest_stands() {
    let mut less = facts(&[]);
    (less.v4.address_types, less.v6.sockets) = (false, false);
    let plan = crate::policy::plan(&dns(true), &less).unwrap();
    let texts: Vec<_> = plan.warnings().map(|note| note.text.as_str()).collect();
    assert!(texts.iter().any(|text| text.contains("CONFIG_NFT_FIB_IPV4")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("CONFIG_NFT_SOCKET")), "{texts:?}");
    let script = nft::native(&Native::of(&plan));
    for (absent, there) in
        [("fib ", "ct status dnat accept"), ("socket ", "_CLOSING"), ("dnat to", "redirect to :15001")]
    {
        assert!(!script.contains(absent) && script.contains(there), "{script}");
    }
}

#[test]
fn queries_to_excluded_servers_are_tracked_as_their_answers() {
    let mut config = dns(true);
    config.redirect.outbound.exclude_ips = vec!["10.9.0.0/16".parse().unwrap()];
    config.redirect.outbound.exclude_ports_for_uids =
        ["udp:50-60:7", "udp:80:8", "tcp:53:9"].map(|t| t.parse().unwrap()).to_vec();
    let zoned = |config: &Config, servers: &[&str]| {
        let mut rules = rules(&native(config, &facts(servers)).v4, "raw_output");
        rules.retain(|rule| rule.ends_with("zone set 1") && !rule.contains("skuid 5678"));
        rules
    };
    let by_user = "udp dport 53 udp dport 50-60 meta skuid 7 ct zone set 1";
    let found = zoned(&config, &[]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found.contains(&"udp dport 53 ip daddr 10.9.0.0/16 ct zone set 1".to_owned()), "{found:?}");
    assert!(found.iter().any(|rule| rule.contains("skuid 7")), "{by_user}: {found:?}");
    // Of the servers that are asked, only those whose queries are excluded.
    config.redirect.dns.capture_all = false;
    config.redirect.outbound.exclude_ports_for_uids.clear();
    let found = zoned(&config, &["10.9.0.1", "10.8.0.1"]);
    assert_eq!(found, ["udp dport 53 ip daddr 10.9.0.0/16 ip daddr 10.9.0.1 ct zone set 1"]);
    // Also where the answer has to come in by the interface that the query leaves by.
    config.redirect.outbound.exclude_ips = vec!["fe80::/64".parse().unwrap()];
    let mut facts = facts(&[]);
    facts.resolvers = Some(Resolvers::parse(std::path::Path::new(""), "nameserver fe80::1%eth0"));
    let found = rules(native(&config, &facts).v6.as_ref().unwrap(), "raw_output");
    let zoned = |rule: &&String| rule.contains("fe80::/64") && rule.contains("oifname") && rule.ends_with("zone set 1");
    assert_eq!(found.iter().filter(zoned).count(), 1, "{found:?}");
}

/// What holds whatever the configuration is.
#[test]
fn never() {
    let mut config = dns(false);
    config.redirect.vnet = vec!["br+:172.18.0.0/16".parse().unwrap(), "br+:172.19.0.0/16".parse().unwrap()];
    config.redirect.outbound.exclude_ports_for_gids = vec!["7-9".parse().unwrap()];
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    for insert in [false, true] {
        config.redirect.outbound.insert = insert;
        let native = native(&config, &facts(&["127.0.0.11", "8.8.8.8", "8.8.4.4", "fd00::53"]));
        let script = nft::native(&native);
        assert!(!script.contains("skuid !=") && !script.contains("skgid !="), "{script}");
        for table in native.tables() {
            for chain in &table.chains {
                assert!(chain.base.is_none_or(|base| ![-100, -150, -300].contains(&base.priority)));
                for rule in &chain.rules {
                    assert!(rule.comment.as_ref().unwrap().as_str().len() <= 128);
                }
            }
        }
    }
}

#[test]
fn the_marker_tells_plans_apart() {
    let marker = |native: &Native| {
        let chain = native.v4.chain(Marker::CHAIN).unwrap();
        Marker::parse(chain.rules[0].comment.as_ref().unwrap().as_str()).unwrap()
    };
    let one = native(&Config::default(), &facts(&[]));
    assert_eq!(marker(&one), marker(&native(&Config::default(), &facts(&[]))));
    assert_ne!(marker(&one), marker(&native(&dns(true), &facts(&[]))));
    // A difference in the other family counts, too.
    let mut config = Config::default();
    config.redirect.outbound.exclude_ips = vec!["fd00::/8".parse().unwrap()];
    assert_ne!(marker(&one), marker(&native(&config, &facts(&[]))));
}

#[test]
fn spans_know_their_prefix() {
    let span = |first, last| Span { first, last };
    assert_eq!(span(0x0a00_0000, 0x0aff_ffff).prefix(32), Some(8));
    assert_eq!(span(1, 1).prefix(32), Some(32));
    assert_eq!(span(1, 2).prefix(32), None);
    assert_eq!(span(0, u128::MAX).prefix(128), Some(0));
    assert_eq!(span(0, u32::MAX.into()).prefix(32), Some(0));
}

/// Found by the random comparison: a packet that comes to such a chain twice is logged twice.
#[test]
fn jumps_to_a_chain_that_logs_are_not_folded() {
    use crate::model::{BuiltinChain, Chain, LogLevel, Rule, Ruleset, Table, TableName, Target};
    let name: crate::model::ChainName = "LOGS".parse().unwrap();
    let mut output = Chain::<crate::net::V4>::builtin(BuiltinChain::Output);
    output.push(Rule::new(Target::jump(&name)));
    output.push(Rule::new(Target::jump(&name)));
    let mut logs = Chain::new(name);
    logs.push(Rule::new(Target::Log { prefix: "twice:".parse().unwrap(), level: LogLevel::DEBUG }));
    let native = super::Table::of(&Ruleset::new([Table::new(TableName::Mangle, [output, logs])]));
    let base = native.chains.iter().find(|chain| chain.base.is_some()).unwrap();
    assert_eq!(base.rules.len(), 2);
}
