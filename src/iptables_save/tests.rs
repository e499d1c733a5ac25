use super::*;
use crate::config::Config;
use crate::facts::{Facts, Resolvers};
use crate::model::{Match, Plan, Target, Transport};
use crate::net::{Uid, V4, V6};
use crate::render::iptables::{self, Style};

/// A plan with a rule of every kind.
fn plan(capture_all: bool) -> Plan {
    let list = |items: &[&str]| items.iter().map(|item| item.parse().unwrap()).collect();
    let mut config = Config::default();
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = capture_all;
    config.redirect.outbound.exclude_ports_for_uids = vec![
        "tcp:1,2,3,4,5,6,7,8,9,10,11,12,13,14-15,16,17:7".parse().unwrap(),
        "udp:53,3000-4000:1000-2000".parse().unwrap(),
    ];
    config.redirect.outbound.exclude_ports_for_gids = vec!["8080:8".parse().unwrap()];
    config.redirect.outbound.exclude_ips = list(&["10.1.2.3/8", "fd00:0::1"]);
    config.redirect.inbound.exclude_ips = list(&["10.1.2.3", "0.0.0.0/0"]);
    config.redirect.inbound.exclude_ports = "22,3000-4000".parse().unwrap();
    config.redirect.outbound.include_ports = "80,443".parse().unwrap();
    config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap(), "br+:fd00::/64".parse().unwrap()];
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(["127.0.0.11".parse().unwrap(), "fd00::53".parse().unwrap()]));
    crate::policy::plan(&config, &facts).unwrap()
}

fn rules<F: Family>(text: &str) -> Ruleset<F> {
    parse(text).unwrap().ruleset().unwrap()
}

/// The one rule of a nat table with the chain X.
fn one(line: &str) -> SavedRule<V4> {
    let saved = parse::<V4>(&format!("*nat\n:X - [0:0]\n{line}\nCOMMIT\n")).unwrap();
    assert_eq!(saved.tables[0].rules.len(), 1, "{line}");
    saved.tables[0].rules[0].clone()
}

#[test]
fn what_we_print_is_read_back() {
    for all in [false, true] {
        let plan = plan(all);
        let v6 = plan.v6.as_ref().unwrap();
        for style in [Style::Short, Style::Long] {
            assert_eq!(rules::<V4>(&iptables::ruleset(&plan.v4, style)).canonical(), plan.v4.canonical());
            assert_eq!(rules::<V6>(&iptables::ruleset(v6, style)).canonical(), v6.canonical());
        }
        assert_eq!(rules::<V4>(&write(&plan.v4)).canonical(), plan.v4.canonical());
        let both = families(&iptables::plan(&plan));
        assert_eq!(rules::<V4>(&both.v4.unwrap()).canonical(), plan.v4.canonical());
        assert_eq!(rules::<V6>(&both.v6.unwrap()).canonical(), v6.canonical());
    }
}

#[test]
fn what_iptables_lists_after_loading_a_plan_is_the_plan() {
    for text in [
        include_str!("../../tests/fixtures/save/ours-v4-nft.txt"),
        include_str!("../../tests/fixtures/save/ours-v4-legacy.txt"),
    ] {
        assert_eq!(rules::<V4>(text).canonical(), plan(false).v4.canonical());
    }
    for text in [
        include_str!("../../tests/fixtures/save/ours-v6-nft.txt"),
        include_str!("../../tests/fixtures/save/ours-v6-legacy.txt"),
    ] {
        assert_eq!(rules::<V6>(text).canonical(), plan(true).v6.unwrap().canonical());
    }
}

#[test]
fn the_written_form_is_that_of_iptables_save() {
    let text = include_str!("../../tests/fixtures/save/ours-v4-nft.txt");
    let tables = |text: &str| {
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let mut tables: Vec<String> =
            lines.split_inclusive(|line| *line == "COMMIT").map(|table| table.join("\n")).collect();
        tables.sort();
        tables
    };
    assert_eq!(tables(&write(&plan(false).v4.canonical())), tables(text));
}

#[test]
fn rules_of_kumactl_are_read() {
    let v4 = parse::<V4>(include_str!("../../tests/fixtures/save/kumactl-v4-legacy.txt")).unwrap();
    let v6 = parse::<V6>(include_str!("../../tests/fixtures/save/kumactl-v6-nft.txt")).unwrap();
    assert!(v4.ruleset().is_ok() && v6.ruleset().is_ok());
    let nat = v6.table("nat").unwrap();
    assert!(nat.rules.iter().all(|rule| rule.comment().is_some_and(|c| c.starts_with("kuma/mesh/"))));
    assert_eq!(nat.rules[1].target(), Some("KUMA_MESH_INBOUND"));
    assert_eq!(nat.chains[0].policy.as_deref(), Some("ACCEPT"));
    assert_eq!(nat.chains[4], SavedChain { name: "KUMA_MESH_INBOUND".into(), policy: None });
}

#[test]
fn every_spelling_of_a_rule_is_the_same_rule() {
    let expected = Rule::<V4>::new(Target::redirect("15053".parse().unwrap()))
        .with(Match::not_to("10.0.0.0/8".parse().unwrap()))
        .with(Transport::udp().to_port("53".parse::<crate::net::Port>().unwrap()));
    for line in [
        "-A X ! -d 10.0.0.0/8 -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053",
        "[12:345] -A X ! -d 10.0.0.0/8 -p udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A X -d ! 10.1.2.3/8 -p 17 --dport 53:53 -j REDIRECT --to-port 15053",
        "--append X  --jump REDIRECT --to-ports 15053 --protocol UDP --destination-port 53 ! --destination 10.0.0.0/8",
        "-A \"X\" ! -d \"10.0.0.0/8\" -m udp -p udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A X -m comment --comment \"-j DROP\" ! --dst 10.0.0.0/8 --proto udp --dport 53 -j REDIRECT --to-ports 15053",
    ] {
        assert_eq!(one(line).rule.unwrap().canonical(), expected.clone().canonical(), "{line}");
    }
    let open = one("-A X -p tcp --sport 80: -j ACCEPT").rule.unwrap();
    assert_eq!(open.matches, [Transport::tcp().from_port("80-65535".parse::<crate::net::PortRange>().unwrap()).into()]);
    let multiport = Transport::tcp().to_ports("80,90-100".parse().unwrap());
    for line in [
        "-A X -p tcp -m multiport --dports 80,90:100 -j DROP",
        "-A X -m multiport -p tcp --dport 80,90:100 -j DROP",
        "-A X -p tcp -m multiport --destination-port 80,90:100 -j DROP",
    ] {
        assert_eq!(one(line).rule.unwrap().matches, [multiport.clone().into()], "{line}");
    }
    let log = one("-A X -j LOG --log-prefix \"OUTPUT:\"").rule.unwrap();
    assert_eq!(log, one("-A X -j LOG --log-level warning --log-prefix OUTPUT:").rule.unwrap());
    let owner = one("-A X -m owner ! --uid-owner 0-4294967294 --gid-owner 8:9 -j RETURN").rule.unwrap();
    assert_eq!(owner.matches.len(), 2);
}

#[test]
fn what_the_model_cannot_say_is_not_guessed_at() {
    for (spec, reason) in [
        ("", "no target"),
        ("-p tcp", "no target"),
        ("-s 10.0.0.1,10.0.0.2 -j DROP", "-s 10.0.0.1,10.0.0.2"),
        ("-s ::ffff:10.0.0.1 -j DROP", "-s ::ffff:10.0.0.1"),
        ("-s 10.0.0.0/255.0.0.0 -j DROP", "-s 10.0.0.0/255.0.0.0"),
        ("-s 10.0.0.0/08 -j DROP", "-s 10.0.0.0/08"),
        ("-s host.example -j DROP", "-s host.example"),
        ("-s 10.0.0.1 -s 10.0.0.2 -j DROP", "'-s' twice"),
        ("! -s ! 10.0.0.1 -j DROP", "! -s !"),
        ("! -p tcp -j DROP", "'! -p'"),
        ("-p ! tcp -j DROP", "-p !"),
        ("-p icmp -j DROP", "-p icmp"),
        ("-p all -j DROP", "-p all"),
        ("-p tcp --dport 0:1024 -j DROP", "--dport 0:1024"),
        ("-p tcp --dport :1024 -j DROP", "--dport :1024"),
        ("-p tcp --dport 010 -j DROP", "--dport 010"),
        ("-p tcp --dport 0x50 -j DROP", "--dport 0x50"),
        ("-p tcp --dport http -j DROP", "--dport http"),
        ("-p tcp --dport 90:80 -j DROP", "--dport 90:80"),
        ("-p tcp --dport=80 -j DROP", "--dport=80"),
        ("-p tcp --dport 80 -m multiport --dports 81 -j DROP", "another condition"),
        ("-p tcp -m multiport --sports 80 --dports 81 -j DROP", "another option"),
        ("-p tcp -m multiport --ports 80 -j DROP", "--ports"),
        ("-p tcp -m multiport --dports 80: -j DROP", "--dports 80:"),
        ("-p tcp -m multiport -j DROP", "-m multiport"),
        ("-m tcp -p tcp -m multiport --dport 80 -j DROP", "-m multiport"),
        ("-p udp -m tcp -j DROP", "-m tcp"),
        ("--dport 80 -p tcp -j DROP", "without a protocol"),
        ("-p tcp --tcp-flags SYN SYN -j DROP", "--tcp-flags"),
        ("-p tcp --syn -j DROP", "--syn"),
        ("-m owner --uid-owner root -j DROP", "--uid-owner root"),
        ("-m owner --uid-owner 010 -j DROP", "--uid-owner 010"),
        ("-m owner --uid-owner 1 --uid-owner 2 -j DROP", "twice"),
        ("-m owner --socket-exists -j DROP", "--socket-exists"),
        ("-m owner -j DROP", "-m owner"),
        ("-m conntrack --ctstate NEW,INVALID -j DROP", "--ctstate NEW,INVALID"),
        ("-m state --state INVALID -j DROP", "-m state"),
        ("-m set --match-set a src -j DROP", "-m set"),
        ("-i a/b -j DROP", "-i a/b"),
        ("-f -j DROP", "-f"),
        ("-c 1 2 -j DROP", "-c"),
        ("-g X", "-g"),
        ("-j MASQUERADE", "-j MASQUERADE"),
        ("-j QUEUE", "-j QUEUE"),
        ("-j X --option", "--option"),
        ("-j DROP -j ACCEPT", "twice"),
        ("-j REDIRECT", "--to-ports"),
        ("-p tcp -j REDIRECT --to-ports 1-2", "--to-ports 1-2"),
        ("-p tcp -j REDIRECT --to-ports 1 --random", "--random"),
        ("-p tcp --to-ports 1 -j REDIRECT", "--to-ports"),
        ("-j LOG --log-level 4", "--log-prefix"),
        ("-j LOG --log-prefix \"two words\"", "--log-prefix two words"),
        ("-j LOG --log-prefix a --log-uid", "--log-uid"),
        ("-j CT --notrack", "--notrack"),
        ("-j CT --zone-orig 1", "--zone-orig"),
        ("\"-j\" DROP", "'-j' where an option"),
        ("stray -j DROP", "stray"),
        ("-j DROP !", "nothing after"),
        ("-m foo [unsupported revision] -j DROP", "-m foo"),
    ] {
        let rule = one(&format!("-A X {spec}"));
        let unknown = rule.rule.expect_err(spec);
        assert!(unknown.reason.contains(reason), "{spec}: {}", unknown.reason);
        assert_eq!(rule.spec, spec);
    }
}

#[test]
fn comments_and_targets_of_unknown_rules() {
    let rule = one(
        r#"-A X -m set --match-set "-j" src -m comment --comment "it\'s \"so\" \\ -j" -j NFLOG --nflog-prefix "a b""#,
    );
    assert!(rule.rule.is_err());
    assert_eq!(rule.comment().as_deref(), Some(r#"it's "so" \ -j"#));
    assert_eq!(rule.target(), Some("NFLOG"));
    let rule = one("-A X -m comment --comment -j -j RETURN");
    assert_eq!((rule.comment().as_deref(), rule.target()), (Some("-j"), Some("RETURN")));
    let rule = one("-A X -g Y");
    assert_eq!((rule.comment(), rule.target()), (None, Some("Y")));
    let rule = one("-A X -j LOG --log-prefix --comment --log-level 7");
    assert_eq!((rule.comment(), rule.target()), (None, Some("LOG")));
    let long = "x".repeat(200);
    let rule = one(&format!("-A X -m comment --comment {long} -j RETURN"));
    assert_eq!(rule.comment(), Some(long));
    assert!(rule.rule.is_ok());
}

#[test]
fn a_line_break_in_a_comment_does_not_make_a_rule() {
    let line =
        "-A X -m comment --comment \"a\n-A X -m comment --comment kuma/mesh/transparent/proxy/ -j DROP\" -j RETURN";
    let rule = one(line);
    assert_eq!(rule.target(), Some("RETURN"));
    assert!(rule.comment().unwrap().starts_with("a\n-A X"));
}

#[test]
fn places() {
    let text = "*nat\n-A OUTPUT -j RETURN\n-I OUTPUT -j DROP\n-I OUTPUT 2 -j ACCEPT\n--insert OUTPUT 2 -p tcp -j DROP\nCOMMIT\n";
    let saved = parse::<V4>(text).unwrap();
    let places: Vec<_> = saved.tables[0].rules.iter().map(|rule| rule.placement).collect();
    use SavedPlacement::{Append, Insert};
    assert_eq!(places, [Append, Insert(1), Insert(2), Insert(2)]);
    let rules = saved.ruleset().unwrap();
    let targets: Vec<_> = rules.tables[0].chains[0].in_effect().map(|rule| rule.target.clone()).collect();
    assert_eq!(targets, [Target::Drop, Target::Drop, Target::Accept, Target::Return]);
    let error = parse::<V4>("*nat\n-I OUTPUT 2 -j DROP\nCOMMIT\n").unwrap().ruleset().unwrap_err();
    assert_eq!(error.to_string(), "nat OUTPUT: '2' is not valid: expected a place from 1 to 1");
}

#[test]
fn syntax_errors_name_the_line() {
    for (text, line) in [
        ("-A OUTPUT -j DROP\n", "line 1"),
        ("# x\n\n*nat\n*filter\n", "line 4"),
        ("*\nCOMMIT\n", "line 1"),
        ("COMMIT\n", "line 1"),
        ("*nat\n:OUTPUT\nCOMMIT\n", "line 2"),
        ("*nat\n-D OUTPUT -j DROP\nCOMMIT\n", "line 2"),
        ("*nat\n-p tcp -A OUTPUT\nCOMMIT\n", "line 2"),
        ("*nat\n-N X y\nCOMMIT\n", "line 2"),
        ("*nat\n-A\nCOMMIT\n", "line 2"),
        ("*nat\n-I OUTPUT 0 -j DROP\nCOMMIT\n", "line 2"),
        ("*nat\n-A OUTPUT -j \"DROP\nCOMMIT\n", "line 2"),
        ("*nat\n-A X -m comment --comment \"a\nb\" -j Y\nwhat\nCOMMIT\n", "line 4"),
        ("*nat\n", "the end of the text"),
    ] {
        let error = parse::<V4>(text).unwrap_err();
        assert_eq!(error.problems()[0].path, line, "{text:?}");
    }
    let both = families("### IPv4 ###\n*nat\nCOMMIT\n### IPv6 ###\n*nat\noops\nCOMMIT\n");
    assert_eq!(parse::<V6>(&both.v6.unwrap()).unwrap_err().problems()[0].path, "line 6");
}

/// What the save programs print says which of them it was.
#[test]
fn families_of_what_the_programs_print() {
    let texts = [
        include_str!("../../tests/fixtures/save/ours-v6-nft.txt"),
        include_str!("../../tests/fixtures/save/ours-v4-legacy.txt"),
    ];
    let both = families(&texts.concat());
    assert_eq!(rules::<V6>(&both.v6.unwrap()).canonical(), rules::<V6>(texts[0]).canonical());
    assert_eq!(rules::<V4>(&both.v4.unwrap()).canonical(), rules::<V4>(texts[1]).canonical());
    assert_eq!(families(texts[0]).v4, None);
}

#[test]
fn a_family_that_is_not_told_is_asked_for() {
    let old = "# Generated by xtables-save v1.8.2 on a day\n*filter\nCOMMIT\n# Completed on a day\n";
    for (before, line) in [("", 1), ("# Generated by iptables-save v1.8.2\n*nat\nCOMMIT\n", 4)] {
        let error = SavedFamilies::parse(&[before, old, old].concat()).unwrap_err().to_string();
        for words in [&format!("line {line}: '# Generated by xtables-save v1.8.2 on a day'"), "### IPv6 ###"] {
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(to_json(old).unwrap_err().problems().len(), 1);
    }
    let told = SavedFamilies::parse(&["### IPv4 ###\n", old, "### IPv6 ###\n", old, old].concat()).unwrap();
    assert_eq!((told.v4.unwrap().tables.len(), told.v6.unwrap().tables.len()), (1, 2));
}

#[test]
fn of_policies_the_last_one_counts_and_no_other_than_two_are_known() {
    let policies = |text: &str| {
        let saved = parse::<V4>(&format!("*filter\n{text}COMMIT\n"))?;
        Ok::<_, crate::Error>(saved.tables[0].chains.iter().map(|chain| chain.policy.clone()).collect::<Vec<_>>())
    };
    assert_eq!(
        policies(":OUTPUT ACCEPT [0:0]\n:OUTPUT DROP [0:0]\n:X -\n:X -\n").unwrap(),
        [Some("DROP".into()), None]
    );
    assert_eq!(policies(":OUTPUT DROP\n-N OUTPUT\n").unwrap(), [Some("DROP".into())]);
    for wrong in ["REJECT", "QUEUE", "drop", "RETURN"] {
        let error = policies(&format!(":INPUT ACCEPT [0:0]\n:OUTPUT {wrong} [0:0]\n")).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("line 3: ':OUTPUT {wrong} [0:0]'")) && error.contains("ACCEPT or DROP"),
            "{error}"
        );
    }
}

#[test]
fn no_ruleset_of_what_is_not_known() {
    let error = parse::<V4>("*nat\n:X - [0:0]\n-A X -j SNAT\n-A Y -j DROP\nCOMMIT\n*odd\nCOMMIT\n")
        .unwrap()
        .ruleset()
        .unwrap_err();
    let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["nat X", "nat Y", "table"]);
}

#[test]
fn json_names_what_is_not_known() {
    let text = "### IPv6 ###\n*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -d fd00::/8 -j RETURN\n-I OUTPUT -j SNAT\nCOMMIT\n";
    let json: serde_json::Value = serde_json::from_str(&to_json(text).unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({ "ipv6": { "tables": [{
            "name": "nat",
            "chains": [{ "name": "OUTPUT", "policy": "ACCEPT" }],
            "rules": [
                { "chain": "OUTPUT", "placement": "append", "spec": "-d fd00::/8 -j RETURN", "rule": {
                    "placement": "append",
                    "matches": [{ "match": "destination", "net": "fd00::/8", "negated": false }],
                    "target": "return",
                } },
                { "chain": "OUTPUT", "placement": { "insert": 1 }, "spec": "-j SNAT", "unknown": "'-j SNAT'", "parts": {
                    "matches": [], "target": "unknown", "name": "SNAT", "text": "", "goesOn": false,
                } },
            ],
        }] } })
    );
}

#[test]
fn json_has_the_parts_of_what_is_not_known() {
    for (spec, parts) in [
        (
            "-d 10.0.0.0/8 -p icmp -m set --match-set x dst -g X",
            serde_json::json!({ "matches": [
                { "match": "destination", "net": "10.0.0.0/8", "negated": false },
                { "match": "protocol", "number": 1, "negated": false },
                { "match": "unknown", "text": "-m set --match-set x dst" },
            ], "target": "goto", "chain": "X", "goesOn": false }),
        ),
        (
            "-p tcp -m conntrack ! --ctstate RELATED,ESTABLISHED -j RETURN",
            serde_json::json!({ "matches": [
                { "match": "transport", "protocol": "tcp" },
                { "match": "ctStates", "states": ["established", "related"], "negated": true },
            ], "target": "return", "goesOn": false }),
        ),
        (
            "-j MARK --set-mark 1",
            serde_json::json!({
                "matches": [], "target": "unknown", "name": "MARK", "text": "--set-mark 1", "goesOn": true,
            }),
        ),
        (
            "-m set --match-set x dst",
            serde_json::json!({
                "matches": [{ "match": "unknown", "text": "-m set --match-set x dst" }], "target": "none", "goesOn": true,
            }),
        ),
    ] {
        let json = to_json(&format!("*nat\n-A OUTPUT {spec}\nCOMMIT\n")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json.pointer("/ipv4/tables/0/rules/0/parts"), Some(&parts), "{spec}");
    }
}
