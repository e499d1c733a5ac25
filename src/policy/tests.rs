use super::*;
use crate::net::Uid;
use crate::render::iptables;

fn facts() -> Facts {
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.ipv6 = Ipv6::Unusable { reason: "this is a test".into() };
    facts
}

/// The rendered text with every comment gone.
fn text(config: &Config, facts: &Facts) -> String {
    let mut config = config.clone();
    config.comments.disabled = true;
    iptables::plan(&plan(&config, facts).unwrap())
}

fn warnings(config: &Config, facts: &Facts) -> Vec<String> {
    plan(config, facts).unwrap().warnings().map(ToString::to_string).collect()
}

#[test]
fn the_default_rules() {
    let mut config = Config::default();
    config.ip_family_mode = IpFamilyMode::Ipv4;
    assert_eq!(
        text(&config, &facts()),
        "### IPv4 ###

* nat
-N KUMA_MESH_INBOUND
-N KUMA_MESH_OUTBOUND
-N KUMA_MESH_INBOUND_REDIRECT
-N KUMA_MESH_OUTBOUND_REDIRECT
-A PREROUTING -p tcp -j KUMA_MESH_INBOUND
-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND
-A KUMA_MESH_INBOUND -p tcp -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND -s 127.0.0.6/32 -o lo -j RETURN
-A KUMA_MESH_OUTBOUND -p tcp -o lo ! -d 127.0.0.1/32 -m owner --uid-owner 5678 -j KUMA_MESH_INBOUND_REDIRECT
-A KUMA_MESH_OUTBOUND -p tcp -o lo -m owner ! --uid-owner 5678 -j RETURN
-A KUMA_MESH_OUTBOUND -m owner --uid-owner 5678 -j RETURN
-A KUMA_MESH_OUTBOUND -d 127.0.0.1/32 -j RETURN
-A KUMA_MESH_OUTBOUND -j KUMA_MESH_OUTBOUND_REDIRECT
-A KUMA_MESH_INBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A KUMA_MESH_OUTBOUND_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"
    );
}

#[test]
fn several_networks_of_an_interface_need_a_chain() {
    let mut config = Config::default();
    config.redirect.vnet = ["docker0:172.17.0.0/16", "br+:172.18.0.0/16", "docker0:10.0.0.0/8", "docker0:fd00::/8"]
        .map(|t| t.parse().unwrap())
        .to_vec();
    let text = text(&config, &facts());
    for line in [
        "-N KUMA_MESH_VNET_1\n",
        "-I PREROUTING 1 -i br+ -m udp -p udp --dport 53 -j REDIRECT --to-ports 15053\n",
        "-I PREROUTING 2 ! -d 172.18.0.0/16 -i br+ -p tcp -j REDIRECT --to-ports 15001\n",
        "-I PREROUTING 3 -i docker0 -m udp -p udp --dport 53 -j REDIRECT --to-ports 15053\n",
        "-I PREROUTING 4 -i docker0 -p tcp -j KUMA_MESH_VNET_1\n",
        "-I PREROUTING 5 -p tcp -j KUMA_MESH_INBOUND\n",
        "-A KUMA_MESH_VNET_1 -d 172.17.0.0/16 -j RETURN\n-A KUMA_MESH_VNET_1 -d 10.0.0.0/8 -j RETURN\n-A KUMA_MESH_VNET_1 -p tcp -j REDIRECT --to-ports 15001\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn included_destinations_and_ports_must_both_hold() {
    let mut config = Config::default();
    config.redirect.outbound.include_ips = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
    let end = |text: &str| {
        text.lines().filter(|l| l.ends_with("-j KUMA_MESH_OUTBOUND_REDIRECT")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(end(&text(&config, &facts())), ["-A KUMA_MESH_OUTBOUND -d 10.0.0.0/8 -j KUMA_MESH_OUTBOUND_REDIRECT"]);
    config.redirect.outbound.include_ports = "80,443".parse().unwrap();
    assert_eq!(
        end(&text(&config, &facts())),
        ["-A KUMA_MESH_OUTBOUND -d 10.0.0.0/8 -m multiport -p tcp --dport 80,443 -j KUMA_MESH_OUTBOUND_REDIRECT"]
    );
}

#[test]
fn more_than_fifteen_ports_become_several_rules() {
    let mut config = Config::default();
    config.redirect.outbound.exclude_ports_for_uids =
        vec!["tcp:1,2,3,4,5,6,7,8,9,10,11,12,13,14-15,16,17:7".parse().unwrap(), "udp:53:8".parse().unwrap()];
    let text = text(&config, &facts());
    assert!(text.contains(
        "-I OUTPUT 1 -m multiport -p tcp --dport 1,2,3,4,5,6,7,8,9,10,11,12,13,14:15 -m owner --uid-owner 7 -j RETURN
-I OUTPUT 2 -m multiport -p tcp --dport 16,17 -m owner --uid-owner 7 -j RETURN
-I OUTPUT 3 -m multiport -p udp --dport 53 -m owner --uid-owner 8 -j RETURN
"
    ), "{text}");
}

#[test]
fn protections_left_out_are_named() {
    let mut config = Config::default();
    config.drop_invalid_packets = true;
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    let mut facts = facts();
    facts.v4.conntrack_zones = false;
    facts.v4.mangle = false;
    let warnings = warnings(&config, &facts).join("\n");
    for words in ["conntrack zone split for DNS", "IPv6", "mangle"] {
        assert!(warnings.contains(words), "{warnings}");
    }
    assert!(!text(&config, &facts).contains("* raw") && !text(&config, &facts).contains("* mangle"));
}

#[test]
fn docker_dns() {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    let mut facts = facts();
    facts.v4.docker_output = true;
    let text = text(&config, &facts);
    assert!(text.contains("--uid-owner 5678 -j DOCKER_OUTPUT\n") && !text.contains("* raw"));
    assert!(warnings(&config, &facts).iter().any(|w| w.contains("conntrack zone split for DNS")));
}

#[test]
fn ipv6_is_never_passed_over_in_silence() {
    let mut config = Config::default();
    let mut facts = facts();
    assert_eq!(warnings(&config, &facts), ["ipFamilyMode: IPv6 left out: this is a test"]);
    config.ip_family_mode = IpFamilyMode::Required;
    assert!(plan(&config, &facts).unwrap_err().to_string().contains("IPv6 is required, but this is a test"));
    for mode in [IpFamilyMode::DualStack, IpFamilyMode::Required] {
        config.ip_family_mode = mode;
        facts.ipv6 = Ipv6::Refused { reason: "ip6tables says no".into(), remedy: "load ip6_tables".into() };
        assert!(plan(&config, &facts).unwrap_err().to_string().contains("load ip6_tables"));
    }
    config.ip_family_mode = IpFamilyMode::Ipv4;
    assert!(warnings(&config, &facts).is_empty(), "who asks for it has decided");
    assert!(plan(&config, &facts).unwrap().notes.iter().any(|note| note.text.contains("past the sidecar")));
}

#[test]
fn rules_for_ipv6_do_not_depend_on_its_addresses() {
    let mut config = Config::default();
    let mut facts = facts();
    for found in [Ipv6::Usable, Ipv6::LinkLocal, Ipv6::Unaddressed] {
        facts.ipv6 = found;
        for mode in [IpFamilyMode::DualStack, IpFamilyMode::Required] {
            config.ip_family_mode = mode;
            assert!(plan(&config, &facts).unwrap().v6.is_some());
            assert!(warnings(&config, &facts).is_empty());
        }
    }
}

#[test]
fn a_host_of_ipv4_alone_is_not_warned_of_name_servers_that_it_cannot_reach() {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    let mut facts = facts();
    facts.resolvers = Some(crate::facts::Resolvers::new(["192.0.2.53".parse().unwrap()]));
    for (found, expected) in [(Ipv6::Usable, 1), (Ipv6::LinkLocal, 0), (Ipv6::Unaddressed, 0)] {
        facts.ipv6 = found;
        assert_eq!(warnings(&config, &facts).len(), expected);
        assert!(
            plan(&config, &facts).unwrap().notes.iter().any(|note| note.text.contains("IPv6 DNS is not redirected"))
        );
    }
}

#[test]
fn unknown_resolvers_are_an_error_only_if_needed() {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    assert!(plan(&config, &facts()).is_err());
    config.redirect.dns.capture_all = true;
    assert!(plan(&config, &facts()).is_ok());
}

#[test]
fn a_server_with_a_zone_is_asked_by_its_interface() {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    let servers = "nameserver fe80::1%eth0\nnameserver fe80::1\nnameserver 010.1\n";
    facts.resolvers = Some(crate::facts::Resolvers::parse(std::path::Path::new("/r"), servers));
    assert!(warnings(&config, &facts).is_empty(), "{:?}", warnings(&config, &facts));
    let text = text(&config, &facts);
    for rule in [
        "-o eth0 -d fe80::1 -p udp --dport 53 -j REDIRECT --to-ports 15053",
        " -d fe80::1 -p udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A OUTPUT -o eth0 -d fe80::1 -p udp --dport 53 -j CT --zone 2",
        "-A PREROUTING -i eth0 -s fe80::1 -p udp --sport 53 -j CT --zone 1",
        " -d 8.0.0.1 -p udp --dport 53 -j REDIRECT --to-ports 15053",
    ] {
        assert!(text.contains(rule), "{rule}: {text}");
    }
}

#[test]
fn every_rule_has_a_comment_and_an_origin() {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(crate::facts::Resolvers::new(["127.0.0.11".parse().unwrap(), "fd00::53".parse().unwrap()]));
    let plan = plan(&config, &facts).unwrap();
    for (table, chain, rule) in plan.v4.rules() {
        let comment = rule.comment.as_ref().unwrap();
        assert!(comment.words().is_some() && comment.as_str().len() < 128, "{comment}");
        assert!(rule.origin.is_some(), "{table} {chain} {rule:?}");
    }
    assert!(plan.v6.unwrap().rules().all(|(_, _, rule)| rule.comment.is_some() && rule.origin.is_some()));
}

/// iptables-nft refuses a rule for what is not in 0.0.0.0/0, and no packet would match it.
#[test]
fn nothing_leaves_a_network_of_all_addresses() {
    let mut config = Config::default();
    config.redirect.vnet = vec!["docker0:0.0.0.0/0".parse().unwrap()];
    let text = text(&config, &facts());
    assert!(!text.contains("0.0.0.0/0") && text.contains("-i docker0"), "{text}");
    let warnings = warnings(&config, &facts()).join("\n");
    assert!(warnings.contains("redirect.vnet.networks[0]: 0.0.0.0/0 is all addresses"), "{warnings}");
}
