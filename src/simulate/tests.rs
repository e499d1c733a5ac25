//! The way of packets through the rules of plans, and through rules that no plan has.

use super::*;
use crate::config::Config;
use crate::facts::{Facts, Resolvers};
use crate::model::{
    BuiltinChain, Chain, ChainName, CtState, LogLevel, LogPrefix, Match, Rule, Table, TableName, Target, Transport,
};
use crate::net::{Port, Uid, V4};
use crate::policy;

const ENGINES: [EngineName; 2] = [EngineName::Netlink, EngineName::Iptables];

fn plan(change: impl FnOnce(&mut Config, &mut Facts)) -> Plan {
    let (mut config, mut facts) = (Config::default(), Facts::capable_host(Uid::SIDECAR));
    change(&mut config, &mut facts);
    policy::plan(&config, &facts).unwrap()
}

fn redirected(port: u16) -> Verdict {
    Verdict::Redirected { port: Port::new(port).unwrap() }
}

/// The same for every engine, over the plan and over the native form.
fn check(plan: &Plan, packet: &str, verdict: &Verdict, zone: u16, key: Option<&str>) {
    let parsed = packet.parse().unwrap();
    for engine in ENGINES {
        let simulator = Simulator::of(plan, engine);
        let outcome = simulator.run(&parsed);
        assert_eq!((&outcome.verdict, outcome.zone), (verdict, zone), "{engine}: {packet}: {outcome}");
        assert_eq!(outcome.key().map(|key| key.to_string()).as_deref(), key, "{engine}: {packet}: {outcome}");
    }
    let native = Native::of(plan);
    let outcome = Simulator::of_native(&native).run(&parsed);
    assert_eq!((&outcome.verdict, outcome.zone), (verdict, zone), "native: {packet}: {outcome}");
}

#[test]
fn defaults() {
    let plan = plan(|_, _| {});
    let outbound = redirected(15001);
    check(&plan, "tcp 10.1.2.3:443", &outbound, 0, Some("redirect.outbound.enabled"));
    check(&plan, "tcp [fd00::1]:443", &outbound, 0, Some("redirect.outbound.enabled"));
    check(&plan, "tcp 10.1.2.3:443 uid 5678", &Verdict::Delivered, 0, Some("redirect.outbound.enabled"));
    check(&plan, "tcp 127.0.0.1:80", &Verdict::Delivered, 0, Some("redirect.outbound.enabled"));
    check(&plan, "tcp 10.0.0.1:80 out lo", &Verdict::Delivered, 0, Some("redirect.outbound.enabled"));
    check(&plan, "tcp 10.0.0.1:80 out lo uid 5678", &redirected(15006), 0, Some("redirect.outbound.enabled"));
    check(
        &plan,
        "tcp 10.0.0.1:80 from 127.0.0.6 out lo uid 5678",
        &Verdict::Delivered,
        0,
        Some("redirect.outbound.enabled"),
    );
    check(&plan, "tcp 10.0.0.1:80 no-socket out lo", &Verdict::Delivered, 0, Some("redirect.outbound.enabled"));
    check(&plan, "udp 10.1.2.3:53", &Verdict::Delivered, 0, None);
    check(&plan, "icmp 10.1.2.3", &Verdict::Delivered, 0, None);
    check(&plan, "inbound tcp 10.0.0.5:8080", &redirected(15006), 0, Some("redirect.inbound.enabled"));
    check(&plan, "inbound tcp [fd00::5]:8080", &redirected(15006), 0, Some("redirect.inbound.enabled"));
    check(&plan, "inbound udp 10.0.0.5:8080", &Verdict::Delivered, 0, None);
    check(&plan, "tcp 10.1.2.3:443 established", &Verdict::Established, 0, None);
    check(&plan, "inbound tcp 10.0.0.5:80 invalid", &Verdict::Delivered, 0, None);
}

#[test]
fn what_is_for_the_listener_itself_needs_no_translation() {
    let plan = plan(|config, _| config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()]);
    check(&plan, "inbound tcp 10.0.0.5:15001 in docker0", &redirected(15001), 0, Some("redirect.vnet.networks[0]"));
    check(&plan, "inbound tcp 10.0.0.5:15006", &redirected(15006), 0, Some("redirect.inbound.enabled"));
}

/// Where nat is not asked, or by a packet that opens nothing: what the netlink engine closes and iptables leaves open.
#[test]
fn what_should_be_redirected_does_not_pass_by_netlink() {
    let plan = plan(|config, _| {
        config.log.enabled = true;
        config.redirect.inbound.exclude_ports = "22,8000-8080".parse().unwrap();
        config.redirect.outbound.exclude_ports = "9000".parse().unwrap();
    });
    let native = Native::of(&plan);
    let (dropped, delivered) = (Verdict::Dropped, Verdict::Delivered);
    for (packet, by_iptables, by_netlink) in [
        // What begins in the middle is redirected, and leaves no entry that lets anything pass.
        ("tcp 10.1.2.3:443 midstream", redirected(15001), redirected(15001)),
        ("inbound tcp 10.0.0.5:80 midstream", redirected(15006), redirected(15006)),
        ("tcp 10.1.2.3:443 reused", delivered.clone(), dropped.clone()),
        ("tcp [fd00::1]:443 reused", delivered.clone(), dropped.clone()),
        ("tcp 10.1.2.3:9000 reused", delivered.clone(), delivered.clone()),
        ("tcp 10.1.2.3:443 uid 5678 reused", delivered.clone(), delivered.clone()),
        ("tcp 10.0.0.1:80 out lo reused", delivered.clone(), delivered.clone()),
        ("inbound tcp 10.0.0.5:80 reused", delivered.clone(), dropped.clone()),
        ("inbound tcp 10.0.0.5:8080 reused", delivered.clone(), delivered.clone()),
        ("inbound tcp 10.0.0.5:15006 reused", delivered.clone(), delivered.clone()),
        ("inbound tcp [fd00::5]:80 in lo reused", delivered.clone(), delivered.clone()),
        // A redirected connection heals, and one that was not redirected goes on.
        ("tcp 10.1.2.3:443 lost", redirected(15001), redirected(15001)),
        ("inbound tcp 10.0.0.5:80 lost", redirected(15006), redirected(15006)),
        ("inbound tcp 10.0.0.5:22 lost", delivered.clone(), delivered.clone()),
        ("inbound tcp 192.0.2.1:40000 from 10.1.2.3:9000 lostanswer", redirected(15006), delivered.clone()),
        ("inbound tcp 192.0.2.1:8443 from 10.1.2.3:9000 lostanswer", redirected(15006), redirected(15006)),
        ("tcp 192.0.2.2:40000 from 10.0.0.5:8000 lostanswer", redirected(15001), redirected(15001)),
        ("tcp 192.0.2.2:40000 from 10.0.0.5:80 lostanswer", redirected(15001), redirected(15001)),
        // What no connection is known of would leave with the workload's data.
        ("tcp 10.1.2.3:443 invalid", delivered.clone(), dropped.clone()),
        ("tcp 10.1.2.3:9000 invalid", delivered.clone(), delivered.clone()),
        // From the link, nothing reaches loopback.
        ("inbound tcp 127.0.0.1:9901", redirected(15006), dropped.clone()),
        ("inbound udp 0.0.0.0:53", delivered.clone(), dropped.clone()),
        ("inbound tcp [::]:9901", redirected(15006), dropped.clone()),
        ("inbound tcp [::1]:9901 in lo", redirected(15006), redirected(15006)),
    ] {
        let parsed = packet.parse().unwrap();
        for (simulator, expected) in [
            (Simulator::of(&plan, EngineName::Iptables), &by_iptables),
            (Simulator::of(&plan, EngineName::Netlink), &by_netlink),
            (Simulator::of_native(&native), &by_netlink),
        ] {
            let outcome = simulator.run(&parsed);
            assert_eq!(&outcome.verdict, expected, "{packet}: {outcome}");
        }
    }
}

#[test]
fn dns() {
    let plan = plan(|config, facts| {
        config.redirect.dns.enabled = true;
        facts.resolvers = Some(Resolvers::new(["10.0.0.53".parse().unwrap(), "127.0.0.11".parse().unwrap()]));
    });
    check(&plan, "udp 10.0.0.53:53", &redirected(15053), 2, Some("redirect.dns.resolvConfigPath"));
    check(&plan, "udp 10.0.0.54:53", &Verdict::Delivered, 0, None);
    check(&plan, "udp 10.0.0.53:53 uid 5678", &Verdict::Delivered, 1, Some("redirect.dns.enabled"));
    check(&plan, "udp 192.0.2.1:40000 from 127.0.0.1:15053 uid 5678", &Verdict::Delivered, 2, None);
    check(&plan, "tcp 10.0.0.53:53", &Verdict::Delivered, 0, Some("redirect.dns.enabled"));
    check(&plan, "inbound udp 192.0.2.1:40000 from 10.0.0.53:53", &Verdict::Delivered, 1, None);
    check(&plan, "udp 127.0.0.1:40000 from 127.0.0.11:45353 out lo", &Verdict::Delivered, 1, None);
}

#[test]
fn programs_decide_as_rules_do_about_sockets_that_open_a_connection() {
    let plan = plan(|config, _| {
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.redirect.outbound.exclude_ports = "22".parse().unwrap();
    });
    let rules = Simulator::of(&plan, EngineName::Iptables);
    let programs = Simulator::of(&plan, EngineName::Ebpf);
    for packet in [
        "tcp 10.1.2.3:443",
        "tcp 10.1.2.3:22",
        "tcp 10.1.2.3:53",
        "udp 10.1.2.3:53",
        "udp 10.1.2.3:53 uid 5678",
        "tcp 10.1.2.3:443 uid 5678",
        "tcp 10.0.0.5:80 uid 5678 out lo",
        "tcp 10.0.0.5:80 from 127.0.0.6:1 uid 5678 out lo",
        "tcp [fd00::1]:443",
        "inbound tcp 10.0.0.5:80",
        "inbound udp 10.0.0.5:53",
        "inbound icmp 10.0.0.5",
    ] {
        let parsed = packet.parse().unwrap();
        let (by_rules, by_programs) = (rules.run(&parsed), programs.run(&parsed));
        assert_eq!(by_programs.verdict, by_rules.verdict, "{packet}");
        assert_eq!(by_programs.key(), by_rules.key(), "{packet}");
        assert_eq!(by_programs.zone, 0, "{packet}");
    }
    for packet in
        ["forwarded tcp 10.1.2.3:443 in br0", "tcp 10.1.2.3:443 midstream", "inbound tcp 10.0.0.5:80 midstream"]
    {
        let parsed = packet.parse().unwrap();
        assert!(matches!(rules.run(&parsed).verdict, Verdict::Redirected { .. }), "{packet}");
        assert_eq!(programs.run(&parsed).verdict, Verdict::Delivered, "{packet}");
    }
}

#[test]
fn virtual_networks_and_the_zone_of_their_answers() {
    let plan = plan(|config, _| {
        config.redirect.vnet = vec!["br+:172.20.0.0/16".parse().unwrap()];
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
    });
    check(&plan, "forwarded tcp 10.1.2.3:443 in br0", &redirected(15001), 0, Some("redirect.vnet.networks[0]"));
    check(&plan, "forwarded tcp 10.1.2.3:443 in eth1", &redirected(15006), 0, Some("redirect.inbound.enabled"));
    let query = "forwarded udp 10.1.2.3:53 in br0".parse().unwrap();
    let zone = |engine| Simulator::of(&plan, engine).run(&query).zone;
    assert_eq!((zone(EngineName::Iptables), zone(EngineName::Netlink)), (0, 2));
    assert_eq!(Simulator::of_native(&Native::of(&plan)).run(&query).zone, 2);
}

#[test]
fn another_programs_chain_is_not_guessed_at() {
    let plan = plan(|config, facts| {
        config.redirect.dns.enabled = true;
        facts.v4.docker_output = true;
        facts.resolvers = Some(Resolvers::new(["127.0.0.11".parse().unwrap()]));
    });
    let query = "udp 127.0.0.11:53 uid 5678".parse().unwrap();
    let outcome = Simulator::of(&plan, EngineName::Iptables).run(&query);
    assert!(matches!(&outcome.verdict, Verdict::Undecided { reason } if reason.contains("DOCKER_OUTPUT")), "{outcome}");
    assert_eq!(outcome.trace.len(), outcome.decided_by.unwrap() + 1);
    assert_eq!(Simulator::of(&plan, EngineName::Netlink).run(&query).verdict, Verdict::Delivered);
}

#[test]
fn invalid_packets_are_dropped_on_both_ways() {
    let plan = plan(|config, _| config.drop_invalid_packets = true);
    check(&plan, "inbound tcp 10.0.0.5:80 invalid", &Verdict::Dropped, 0, Some("dropInvalidPackets"));
    check(&plan, "tcp 10.0.0.5:80 out lo invalid", &Verdict::Dropped, 0, Some("dropInvalidPackets"));
    check(&plan, "tcp 10.0.0.5:80 uid 5678 invalid", &Verdict::Delivered, 0, None);
}

#[test]
fn no_ipv6_rules_means_as_sent() {
    let plan = plan(|config, _| config.ip_family_mode = crate::model::IpFamilyMode::Ipv4);
    check(&plan, "tcp [fd00::1]:443", &Verdict::Delivered, 0, None);
}

fn table(name: TableName, chains: Vec<(ChainName, Vec<Rule<V4>>)>) -> Ruleset<V4> {
    let chain = |(name, rules): (ChainName, Vec<_>)| {
        let mut chain = Chain::new(name);
        rules.into_iter().for_each(|rule| chain.push(rule));
        chain
    };
    Ruleset::new([Table::new(name, chains.into_iter().map(chain))])
}

#[test]
fn loops_and_explosions_end() {
    let name = |name: &str| name.parse::<ChainName>().unwrap();
    let jump = |to: &str| Rule::new(Target::jump(&name(to)));
    let looping = table(
        TableName::Nat,
        vec![
            (BuiltinChain::Output.into(), vec![jump("A")]),
            (name("A"), vec![jump("B")]),
            (name("B"), vec![jump("A")]),
        ],
    );
    let mut chains = vec![(BuiltinChain::Output.into(), vec![jump("C0")])];
    for n in 0..60 {
        chains.push((name(&format!("C{n}")), vec![jump(&format!("C{}", n + 1)), jump(&format!("C{}", n + 1))]));
    }
    chains.push((name("C60"), vec![Rule::new(Target::Return)]));
    let exploding = table(TableName::Nat, chains);
    for ruleset in [looping, exploding] {
        let outcome = Simulator::of_ruleset(&ruleset, EngineName::Iptables).run(&"tcp 10.0.0.1:80".parse().unwrap());
        assert!(matches!(outcome.verdict, Verdict::Undecided { .. }), "{}", outcome.verdict);
    }
}

#[test]
fn the_first_zone_counts_and_the_state_is_unknown_before_tracking() {
    let zone = |zone| Rule::new(Target::Zone { zone });
    let invalid = |negated| Match::CtState { state: CtState::Invalid, negated };
    let rules = vec![zone(7).with(invalid(true)), zone(3), zone(4)];
    let ruleset = table(TableName::Raw, vec![(BuiltinChain::Output.into(), rules)]);
    let outcome = Simulator::of_ruleset(&ruleset, EngineName::Iptables).run(&"udp 10.0.0.1:80".parse().unwrap());
    assert_eq!((outcome.zone, outcome.trace.len()), (3, 2));
}

/// Long lists are searched, and the answer is the first rule that matches, as if each had been tried.
#[test]
fn searching_finds_the_first_rule() {
    let port = |range: &str| Transport::tcp().to_port(range.parse::<crate::net::PortRange>().unwrap());
    let ranges =
        ["10-20", "5-12", "100", "100-110", "1-3", "18-30", "65535", "65000-65535", "40-41", "41", "15", "1-65535"];
    let mut rules: Vec<Rule<V4>> = ranges.iter().map(|range| Rule::new(Target::Return).with(port(range))).collect();
    rules.push(Rule::new(Target::Log { prefix: LogPrefix::of(BuiltinChain::Output), level: LogLevel::DEBUG }));
    let ruleset = table(TableName::Nat, vec![(BuiltinChain::Output.into(), rules)]);
    let simulator = Simulator::of_ruleset(&ruleset, EngineName::Iptables);
    for number in (1..200).chain(64_990..=65_535) {
        let port = Port::new(number).unwrap();
        let packet = Packet::<V4>::outbound(crate::net::Protocol::Tcp, std::net::Ipv4Addr::LOCALHOST, port);
        let outcome = simulator.send(&packet);
        let expected = ranges.iter().position(|range| range.parse::<crate::net::PortRange>().unwrap().contains(port));
        assert_eq!(outcome.deciding().unwrap().number(), expected.map(|index| index + 1), "{number}: {outcome}");
    }
    let udp = simulator.run(&"udp 10.0.0.1:15".parse().unwrap());
    assert_eq!((udp.trace.len(), udp.log.len()), (1, 1));
}

#[test]
fn differences_by_rule_and_by_traffic() {
    let before = plan(|config, _| config.redirect.outbound.exclude_ports = "9000".parse().unwrap());
    let after = plan(|config, _| {
        config.redirect.outbound.exclude_ports = "9000-9005".parse().unwrap();
        config.redirect.outbound.exclude_ports_for_uids = vec!["udp:1-65535:77".parse().unwrap()];
    });
    for engine in ENGINES {
        let (a, b) = (Simulator::of(&before, engine), Simulator::of(&after, engine));
        assert!(a.diff(&a).is_empty());
        let diff = a.diff(&b);
        assert_eq!((diff.removed.len(), diff.added.len(), diff.reordered.len()), (2, 4, 0), "{diff}");
        // A rule that lets UDP pass changes nothing where no UDP is redirected.
        // Of each family, the workload's connections, and the sidecar's to its own host.
        let before: Vec<_> = diff.traffic.iter().map(|change| change.before.verdict.clone()).collect();
        assert_eq!(before, [15001, 15006, 15001, 15006].map(redirected), "{diff}");
        for change in &diff.traffic {
            assert_eq!(change.after.key.unwrap().to_string(), "redirect.outbound.excludePorts[0]");
            assert!(change.tried >= 2, "{diff}");
        }
    }
}

/// The sidecar's connections to the workload, too, are let pass by another excluded port.
#[test]
fn a_second_rule_of_a_kind_changes_as_much_as_the_first() {
    let of = |ports: &str| plan(|config, _| config.redirect.outbound.exclude_ports = ports.parse().unwrap());
    let (before, after) = (of("5432"), of("5432,6379"));
    for engine in ENGINES {
        let diff = Simulator::of(&before, engine).diff(&Simulator::of(&after, engine));
        let verdicts: Vec<_> = diff.traffic.iter().map(|change| change.before.verdict.clone()).collect();
        assert_eq!(verdicts, [redirected(15001), redirected(15006), redirected(15001), redirected(15006)], "{diff}");
    }
}

#[test]
fn edges_are_of_each_constant_and_its_neighbours() {
    let plan = plan(|config, _| {
        config.redirect.inbound.exclude_ports = "8000-8100".parse().unwrap();
        config.redirect.outbound.exclude_ips = vec!["10.5.0.0/16".parse().unwrap()];
    });
    let edges: Vec<String> =
        Simulator::of(&plan, EngineName::Netlink).edges().iter().map(ToString::to_string).collect();
    for wanted in [
        "inbound tcp 10.1.2.3:7999 ",
        "inbound tcp 10.1.2.3:8000 ",
        "inbound tcp 10.1.2.3:8100 ",
        "inbound tcp [2001:db8:7::3]:8101 ",
        "outbound tcp 10.4.255.255:443 ",
        "outbound tcp 10.5.0.0:443 ",
        "outbound tcp 10.5.255.255:443 ",
        "outbound tcp 10.6.0.0:443 ",
        "uid 5677 ",
        "uid 5679 ",
        " no-socket ",
        " midstream",
    ] {
        assert!(edges.iter().any(|packet| packet.contains(wanted)), "{wanted}: {edges:#?}");
    }
}

/// What a text of IPv4 rules makes of packets.
fn saved(text: &str, cases: &[(&str, &str)]) {
    let saved = crate::iptables_save::parse(text).unwrap();
    let simulator = Simulator::of_saved(Some(&saved), None).unwrap();
    for (packet, verdict) in cases {
        let outcome = simulator.run(&packet.parse().unwrap());
        assert_eq!(outcome.verdict.to_string(), *verdict, "{packet}: {outcome}");
    }
}

#[test]
fn rules_of_others_are_judged_by_what_is_known_of_them() {
    saved(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:DOCKER_OUTPUT - [0:0]\n\
         -A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT\n\
         -A OUTPUT -p tcp -m mark --mark 0x1 -m comment --comment \"not for uid 7\" -j LOG\n\
         -A OUTPUT -p tcp -m addrtype --dst-type BROADCAST -m tcp --dport 80 -j RETURN\n\
         -A OUTPUT -p tcp -j REDIRECT --to-ports 15001\n\
         -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:45353\n\
         COMMIT\n",
        &[
            ("tcp 10.1.2.3:443", "redirected to port 15001"),
            ("tcp 10.1.2.3:80", "undecided: it is not known whether '-m addrtype --dst-type BROADCAST' holds"),
            ("udp 127.0.0.11:53", "undecided: the target DNAT --to-destination 127.0.0.11:45353 is not known"),
            ("udp 127.0.0.11:54", "delivered as sent"),
            ("udp 10.0.0.53:53", "delivered as sent"),
        ],
    );
}

#[test]
fn filters_of_others() {
    saved(
        "*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
         -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
         -A INPUT -i lo -j ACCEPT\n\
         -A INPUT -p icmp -j ACCEPT\n\
         -A INPUT -p tcp -m tcp --dport 15006 -j ACCEPT\n\
         -A OUTPUT -d 10.9.0.0/16 -j REJECT --reject-with icmp-port-unreachable\n\
         COMMIT\n\
         *nat\n-A PREROUTING -p tcp -m tcp ! --dport 22 -j REDIRECT --to-ports 15006\nCOMMIT\n",
        &[
            ("inbound tcp 10.0.0.5:80", "redirected to port 15006"),
            ("inbound tcp 10.0.0.5:22", "dropped"),
            ("inbound tcp 10.0.0.5:22 established", "delivered as its connection is"),
            ("inbound icmp 10.0.0.5", "delivered as sent"),
            ("inbound udp 10.0.0.5:22", "dropped"),
            ("tcp 10.0.0.5:22 out lo", "delivered as sent"),
            ("tcp 10.9.0.5:22", "dropped"),
            ("tcp 10.10.0.5:22", "delivered as sent"),
        ],
    );
}

/// By the engine ebpf: the verdict and, where no rule decides, why.
fn by_sockets(plan: &Plan, packet: &str) -> (Verdict, Option<String>) {
    let outcome = Simulator::of(plan, EngineName::Ebpf).run(&packet.parse().unwrap());
    assert_eq!((outcome.zone, outcome.log.len()), (0, 0), "{packet}: {outcome}");
    let why = outcome.deciding().filter(|step| step.rule().is_none()).and_then(Step::purpose);
    (outcome.verdict.clone(), why.map(str::to_owned))
}

#[test]
fn sockets_are_steered_as_first_packets_are_redirected() {
    let plan = plan(|config, facts| {
        let redirect = &mut config.redirect;
        redirect.inbound.exclude_ports = "22".parse().unwrap();
        redirect.inbound.exclude_ips = vec!["192.0.2.0/24".parse().unwrap()];
        redirect.outbound.exclude_ports = "5432".parse().unwrap();
        redirect.outbound.exclude_ips = vec!["10.9.0.0/16".parse().unwrap()];
        redirect.outbound.exclude_ports_for_uids = vec!["tcp,udp:53,80:1000".parse().unwrap()];
        redirect.dns.enabled = true;
        facts.resolvers = Some(Resolvers::new(["10.9.0.53".parse().unwrap(), "10.8.0.53".parse().unwrap()]));
    });
    let iptables = Simulator::of(&plan, EngineName::Iptables);
    let mut ends = std::collections::HashSet::new();
    for packet in [
        "tcp 10.1.2.3:443",
        "tcp [fd00::1]:443",
        "tcp 10.1.2.3:443 uid 5678",
        "tcp 10.1.2.3:5432",
        "tcp 10.1.2.3:80 uid 1000",
        "tcp 10.1.2.3:80 uid 1001",
        "tcp 10.9.1.1:443",
        "tcp 127.0.0.1:80",
        "tcp 127.0.0.2:80 uid 5678",
        "tcp 10.0.0.1:80 out lo",
        "tcp 10.0.0.1:80 out lo uid 5678",
        "tcp 10.0.0.1:80 from 127.0.0.6 out lo uid 5678",
        "tcp 127.0.0.1:80 out lo uid 5678",
        "tcp 10.8.0.53:53",
        "tcp 10.8.0.53:53 uid 5678",
        // An exclusion of addresses comes before DNS, and so does one of users.
        "udp 10.9.0.53:53",
        "udp 10.8.0.53:53 uid 1000",
        "udp 10.8.0.53:53 uid 1001",
        "udp 10.8.0.53:53 uid 5678",
        "udp 10.7.0.53:53",
        "udp 10.8.0.53:54",
        "icmp 10.1.2.3",
        "inbound tcp 10.0.0.5:8080",
        "inbound tcp [fd00::5]:8080",
        "inbound tcp 10.0.0.5:22",
        "inbound tcp 10.0.0.5:8080 from 192.0.2.9:40000",
        "inbound udp 10.0.0.5:8080",
    ] {
        let (verdict, why) = by_sockets(&plan, packet);
        let rules = iptables.run(&packet.parse().unwrap());
        assert_eq!((&verdict, why), (&rules.verdict, None), "{packet}: {rules}");
        ends.insert(verdict);
    }
    assert_eq!(ends.len(), 4, "delivered, and redirected to each of three listeners: {ends:?}");
}

#[test]
fn where_sockets_are_steered_otherwise_the_reason_is_told() {
    let plan = plan(|config, _| {
        config.drop_invalid_packets = true;
        config.log.enabled = true;
        config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()];
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
    });
    for (packet, part) in [
        ("forwarded tcp 10.1.2.3:443 from 172.17.0.2:40000 in docker0", "forwarded"),
        ("forwarded udp 10.1.2.3:53 from 172.17.0.2:40000 in docker0", "forwarded"),
        ("tcp 10.1.2.3:443 midstream", "from before"),
        ("inbound tcp 10.0.0.5:8080 midstream", "from before"),
        ("tcp 10.1.2.3:443 invalid", "no packets"),
        ("inbound tcp 10.0.0.5:8080 invalid", "no packets"),
        ("tcp 10.1.2.3:443 no-socket", "no socket"),
        ("udp 10.1.2.3:53 no-socket", "no socket"),
        ("inbound tcp 10.0.0.5:8080 from 10.0.0.5:40000 in lo", "to itself"),
        ("inbound tcp 127.0.0.1:8080", "to itself"),
    ] {
        let (verdict, why) = by_sockets(&plan, packet);
        assert_eq!(verdict, Verdict::Delivered, "{packet}");
        assert!(why.as_ref().is_some_and(|why| why.contains(part)), "{packet}: {why:?}");
    }
    // Virtual networks are refused, so what comes from one for this host is as what comes from elsewhere.
    assert_eq!(by_sockets(&plan, "inbound tcp 172.17.0.1:80 in docker0"), (redirected(15006), None));
    assert_eq!(by_sockets(&plan, "inbound udp 172.17.0.1:53 in docker0"), (Verdict::Delivered, None));
    // Whatever the interface, these are addresses of this host.
    assert_eq!(by_sockets(&plan, "tcp 127.0.0.2:80 out eth0"), (Verdict::Delivered, None));
    assert_eq!(by_sockets(&plan, "tcp 127.0.0.2:80 out eth0 uid 5678"), (redirected(15006), None));
    assert_eq!(by_sockets(&plan, "tcp 0.0.0.0:80 uid 5678"), (Verdict::Delivered, None));
    assert_eq!(by_sockets(&plan, "tcp [::]:80 uid 5678"), (Verdict::Delivered, None));
    assert_eq!(by_sockets(&plan, "udp 10.1.2.3:53"), (redirected(15053), None));
    assert_eq!(by_sockets(&plan, "tcp 10.1.2.3:443 established"), (Verdict::Established, None));
}

#[test]
fn nothing_is_translated_where_sockets_are_steered() {
    let plan = plan(|_, _| {});
    let simulator = Simulator::of(&plan, EngineName::Ebpf);
    let said = simulator.explain(&"tcp 10.1.2.3:443".parse().unwrap()).to_string();
    assert!(said.ends_with("Nothing is translated: the client sees 10.1.2.3:443 as the source of replies."), "{said}");
    let said = simulator.explain(&"forwarded tcp 10.1.2.3:443 from 172.17.0.2:40000 in docker0".parse().unwrap());
    assert!(said.to_string().contains("sk_lookup in ebpf decides: what is forwarded"), "{said}");
    // The same rules, as others would have them, and other traffic.
    let diff = Simulator::of(&plan, EngineName::Iptables).diff(&simulator);
    assert!(diff.added.is_empty() && diff.removed.is_empty(), "{diff}");
    assert!(!diff.traffic.is_empty());
}

#[test]
#[cfg(all(feature = "host", target_os = "linux"))]
fn what_programs_do_that_are_in_force_is_not_known() {
    let installed = crate::in_force::Installed {
        native: Vec::new(),
        iptables: Vec::new(),
        foreign: Vec::new(),
        others: Vec::new(),
        programs: true,
        programs_suspected: false,
        missing: Vec::new(),
        loopback: InterfaceName::lo(),
        notes: Vec::new(),
    };
    assert_eq!(installed.engine(), Some(EngineName::Ebpf));
    assert!(installed.unknown()[0].text.contains("programs of the engine ebpf are active"));
    let simulator = Simulator::of_installed(&installed).unwrap();
    for packet in ["tcp 10.1.2.3:443", "udp 10.1.2.3:53", "inbound tcp 10.0.0.5:80"] {
        let verdict = simulator.run(&packet.parse().unwrap()).verdict;
        assert!(matches!(verdict, Verdict::Undecided { .. }), "{packet}: {verdict}");
    }
    for packet in [
        "udp 10.1.2.3:443",
        "forwarded tcp 10.1.2.3:443 in docker0",
        "tcp 10.1.2.3:443 midstream",
        "inbound udp 10.0.0.5:53",
    ] {
        assert_eq!(simulator.run(&packet.parse().unwrap()).verdict, Verdict::Delivered, "{packet}");
    }
    let error = Simulator::of_installed_ours(&installed).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    // There may be some: that is not known, either, but rules can be compared.
    let suspected = crate::in_force::Installed { programs: false, programs_suspected: true, ..installed };
    let verdict = Simulator::of_installed(&suspected).unwrap().run(&"tcp 10.1.2.3:443".parse().unwrap()).verdict;
    assert!(matches!(verdict, Verdict::Undecided { .. }), "{verdict}");
    assert_eq!((suspected.engine(), Simulator::of_installed_ours(&suspected).is_ok()), (None, true));
}

#[test]
#[cfg(all(feature = "host", target_os = "linux"))]
fn what_is_missing_besides_rules_is_a_difference() {
    let mut installed = crate::in_force::Installed {
        native: Vec::new(),
        iptables: Vec::new(),
        foreign: Vec::new(),
        others: Vec::new(),
        programs: false,
        programs_suspected: false,
        missing: Vec::new(),
        loopback: InterfaceName::lo(),
        notes: Vec::new(),
    };
    let same = installed.clone();
    let nothing = Simulator::of_installed_ours(&same).unwrap();
    assert!(nothing.diff(&Simulator::of_installed_ours(&installed).unwrap()).is_empty());
    installed.missing.push("::6 is missing".to_owned());
    let diff = nothing.diff(&Simulator::of_installed_ours(&installed).unwrap());
    assert!(!diff.is_empty() && diff.to_string().starts_with("::6 is missing\n"), "{diff}");
}
