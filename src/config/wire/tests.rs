use super::*;
use crate::config::IpFamilyMode;
use crate::error::Problem;
use crate::model::{Note, Severity};

const PREFIX: &str = "KUMA_TRANSPARENT_PROXY_";

/// Documents in these tests are flow style YAML that is JSON as well, unless they are about YAML itself.
fn json(text: &str) -> Config {
    Config::parse(text, Format::Json).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn problems(text: &str) -> Vec<Problem> {
    Config::parse(text, Format::Json).expect_err(text).problems().to_vec()
}

/// The path and the value of the one problem.
fn problem(text: &str) -> (String, String) {
    let problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:?}");
    (problems[0].path.clone(), problems[0].value.clone())
}

fn env(variables: &[(&str, &str)]) -> Result<(Config, Vec<Note>), Error> {
    let mut layers = Layers::new();
    layers.environment(variables.iter().map(|(name, value)| (format!("{PREFIX}{name}"), (*value).to_owned())));
    layers.finish()
}

fn flags(flags: &[(&str, &str)]) -> Result<(Config, Vec<Note>), Error> {
    let mut layers = Layers::new();
    for (flag, value) in flags {
        layers.flag(flag, value);
    }
    layers.finish()
}

fn notes(text: &str) -> Vec<String> {
    let mut layers = Layers::new();
    layers.document("tp.json", text, Format::Json);
    let notes = layers.finish().unwrap().1;
    assert!(notes.iter().all(|note| note.severity == Severity::Warning));
    notes.iter().map(ToString::to_string).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(ToString::to_string).collect()
}

#[test]
fn nothing_said_is_the_default() {
    for text in ["", " \n", "{}", "null", "{\"redirect\": null}", "{\"redirect\": {\"inbound\": {}}}", "\u{feff}{}"] {
        assert_eq!(json(text), Config::default(), "{text:?}");
    }
    assert_eq!(json(r#"{"redirect": {"inbound": {"port": null, "excludePorts": null}}}"#), Config::default());
}

#[test]
fn a_document_is_a_mapping() {
    assert_eq!(problem("[1, 2]"), ("document".into(), "[1, 2]".into()));
    assert_eq!(problem("7"), ("document".into(), "7".into()));
    assert_eq!(problem(r#"{"redirect": {"dns": true}}"#), ("redirect.dns".into(), "true".into()));
    assert_eq!(problem(r#"{"iptablesExecutables": "iptables:/x"}"#).0, "iptablesExecutables");
}

#[test]
fn ports() {
    assert_eq!(json(r#"{"redirect": {"dns": {"port": 1053}}}"#).redirect.dns.port.number(), 1053);
    assert_eq!(json(r#"{"redirect": {"dns": {"port": "1053"}}}"#).redirect.dns.port.number(), 1053);
    assert_eq!(json(r#"{"redirect": {"dns": {"port": 1053.0}}}"#).redirect.dns.port.number(), 1053);
    for value in ["http", "70000", "-1", "1.5", "true", "18446744073709551616"] {
        let quoted = if value == "http" { format!("{value:?}") } else { value.to_owned() };
        let (path, refused) = problem(&format!(r#"{{"redirect": {{"inbound": {{"port": {quoted}}}}}}}"#));
        assert_eq!(path, "redirect.inbound.port");
        // JSON's parser has such large numbers as floating point.
        assert_eq!(refused, value.replace("551616", "552000"));
    }
}

#[test]
fn lists_of_ports() {
    for (value, ports) in [
        (r#"[22, "80", "3000-5000"]"#, "22,80,3000-5000"),
        (r#""22, 80,,3000-5000""#, "22,80,3000-5000"),
        ("22", "22"),
        (r#""""#, ""),
        ("[]", ""),
    ] {
        for (direction, list) in [
            ("inbound", "includePorts"),
            ("inbound", "excludePorts"),
            ("outbound", "includePorts"),
            ("outbound", "excludePorts"),
        ] {
            let config = json(&format!(r#"{{"redirect": {{"{direction}": {{"{list}": {value}}}}}}}"#));
            let (inbound, outbound) = (&config.redirect.inbound, &config.redirect.outbound);
            let set = match (direction, list) {
                ("inbound", "includePorts") => &inbound.include_ports,
                ("inbound", _) => &inbound.exclude_ports,
                ("outbound", "includePorts") => &outbound.include_ports,
                _ => &outbound.exclude_ports,
            };
            assert_eq!(set.to_string(), ports, "{value}");
        }
    }
}

#[test]
fn bad_items_are_named_by_their_position() {
    let text = r#"{"redirect": {"inbound": {"excludePorts": [80, 99999, true, null, [1], "x", "5-3", 0]}}}"#;
    let found: Vec<_> = problems(text).into_iter().map(|p| (p.path, p.value)).collect();
    let expected = [(1, "99999"), (2, "true"), (3, "null"), (4, "[1]"), (5, "x"), (6, "5-3"), (7, "0")]
        .map(|(index, value)| (format!("redirect.inbound.excludePorts[{index}]"), value.to_owned()));
    assert_eq!(found, expected);
    let text = r#"{"redirect": {"vnet": {"networks": ["docker0:172.17.0.0/16", "br0:10.7.7.7"]}}}"#;
    assert_eq!(problem(text), ("redirect.vnet.networks[1]".into(), "br0:10.7.7.7".into()));
    assert_eq!(problem(r#"{"redirect": {"inbound": {"excludePorts": "80,abc"}}}"#).1, "abc");
}

#[test]
fn all_problems_are_reported() {
    let text =
        r#"{"wait": -1, "log": {"level": 99}, "verbose": 1, "ipFamilyMode": "ipv7", "retry": {"maxRetries": "many"}}"#;
    let found: Vec<_> = problems(text).into_iter().map(|p| (p.path, p.value)).collect();
    let expected =
        [("wait", "-1"), ("log.level", "99"), ("verbose", "1"), ("ipFamilyMode", "ipv7"), ("retry.maxRetries", "many")]
            .map(|(path, value)| (path.to_owned(), value.to_owned()));
    assert_eq!(found, expected);
}

#[test]
fn a_very_long_bad_list_is_summed_up() {
    let text = format!(r#"{{"redirect": {{"inbound": {{"excludePorts": [{}0]}}}}}}"#, "0,".repeat(5000));
    let problems = problems(&text);
    assert_eq!(problems.len(), 100);
    assert!(problems[99].to_string().contains("4901 more"), "{}", problems[99]);
}

#[test]
fn switches() {
    for (value, on) in [
        ("true", true),
        ("false", false),
        (r#""yes""#, true),
        (r#""No""#, false),
        (r#""ON""#, true),
        (r#""off""#, false),
        (r#""True""#, true),
    ] {
        assert_eq!(json(&format!(r#"{{"verbose": {value}}}"#)).verbose, on, "{value}");
    }
    for value in ["1", "0", r#""1""#, r#""maybe""#, r#""""#, "[]", "{}"] {
        assert_eq!(problem(&format!(r#"{{"verbose": {value}}}"#)).0, "verbose");
    }
    assert!(env(&[("VERBOSE", "1")]).unwrap().0.verbose);
    assert!(!flags(&[("--redirect-inbound", "f")]).unwrap().0.redirect.inbound.enabled);
    assert!(env(&[("VERBOSE", "maybe")]).is_err());
}

#[test]
fn scalars() {
    let config = json(
        r#"{"kumaDPUser": 5678, "wait": "7", "waitInterval": 100, "retry": {"maxRetries": 0, "sleepBetweenRetries": "500ms"},
            "log": {"level": "0"}, "redirect": {"dns": {"resolvConfigPath": "/run/resolv.conf"}}}"#,
    );
    assert_eq!(config.kuma_dp_user.as_deref(), Some("5678"));
    assert_eq!((config.wait.seconds, config.wait.interval_micros, config.retry.max_retries), (7, 100, 0));
    assert_eq!(config.retry.sleep.as_millis(), 500);
    assert_eq!(config.log.level.number(), 0);
    assert_eq!(config.redirect.dns.resolv_conf.to_str(), Some("/run/resolv.conf"));
    assert_eq!(json(r#"{"kumaDPUser": ""}"#).kuma_dp_user, None);
    assert_eq!(json(r#"{"redirect": {"dns": {"resolvConfigPath": ""}}}"#), Config::default());
    assert_eq!(json(r#"{"retry": {"sleepBetweenRetries": 1500000000}}"#).retry.sleep.as_millis(), 1500);
    assert_eq!(problem(r#"{"kumaDPUser": "a\nb"}"#).1, "a\nb");
    assert_eq!(problem(r#"{"wait": 4294967296}"#).1, "4294967296");
    assert_eq!(problem(r#"{"log": {"level": 8}}"#).1, "8");
    assert_eq!(problem(r#"{"retry": {"sleepBetweenRetries": "-2s"}}"#).1, "-2s");
}

#[test]
fn ip_family_mode_is_stored_in_one_spelling() {
    for (text, mode) in [
        ("", IpFamilyMode::DualStack),
        ("dualstack", IpFamilyMode::DualStack),
        ("DualStack", IpFamilyMode::DualStack),
        ("IPv4", IpFamilyMode::Ipv4),
        ("required", IpFamilyMode::Required),
    ] {
        assert_eq!(json(&format!(r#"{{"ipFamilyMode": "{text}"}}"#)).ip_family_mode, mode);
        assert_eq!(flags(&[("--ip-family-mode", text)]).unwrap().0.ip_family_mode, mode);
    }
    assert_eq!(problem(r#"{"ipFamilyMode": "ipv6"}"#).1, "ipv6");
}

#[test]
fn owners_beyond_sixteen_bits_and_empty_ones() {
    let config = json(
        r#"{"redirect": {"outbound": {"excludePortsForUIDs": [1, "2-3:4-5", "1000660000-4294967294"], "excludePortsForGIDs": ["tcp:80:7"]}}}"#,
    );
    let outbound = &config.redirect.outbound;
    assert_eq!(
        texts(&outbound.exclude_ports_for_uids),
        ["tcp,udp:1-65535:1", "tcp,udp:2-3:4-5", "tcp,udp:1-65535:1000660000-4294967294"]
    );
    assert_eq!(texts(&outbound.exclude_ports_for_gids), ["tcp:80:7"]);
    for bad in ["", "tcp:80:", "tcp:80:*", "4294967295", "5000-3000:1", "1-2-3:1", "0:1", "tcp:65536:1", "tcp:80:1:2"] {
        let text = format!(r#"{{"redirect": {{"outbound": {{"excludePortsForUIDs": ["{bad}"]}}}}}}"#);
        assert_eq!(problem(&text).0, "redirect.outbound.excludePortsForUIDs[0]");
        assert!(flags(&[("--exclude-outbound-ports-for-uids", bad)]).is_err());
    }
}

#[test]
fn addresses() {
    let config = json(
        r#"{"redirect": {"inbound": {"excludePortsForIPs": ["192.168.0.1, ::ffff:10.0.0.1,fe80::/10", "a81b::7098"]},
            "outbound": {"includeIPs": "10.0.0.0/8", "excludePortsForIPs": "10.1.0.0/16,fd00::1"}}}"#,
    );
    assert_eq!(texts(&config.redirect.inbound.exclude_ips), ["192.168.0.1", "10.0.0.1", "fe80::/10", "a81b::7098"]);
    assert_eq!(texts(&config.redirect.outbound.include_ips), ["10.0.0.0/8"]);
    assert_eq!(texts(&config.redirect.outbound.exclude_ips), ["10.1.0.0/16", "fd00::1"]);
    let error = flags(&[("--exclude-inbound-ips", "10.0.0.1,10.0.0.300")]).unwrap_err();
    assert_eq!(
        (error.problems()[0].path.as_str(), error.problems()[0].value.as_str()),
        ("--exclude-inbound-ips", "10.0.0.300")
    );
    assert!(flags(&[("--exclude-inbound-ips", "")]).is_err());
    assert!(flags(&[("--exclude-inbound-ips", "10.0.0.1,")]).is_err());
}

#[test]
fn uids_of_inbound_packets_are_refused() {
    let text = r#"{"redirect": {"inbound": {"excludePortsForUIDs": [1000]}}}"#;
    assert_eq!(problem(text), ("redirect.inbound.excludePortsForUIDs[0]".into(), "1000".into()));
    assert!(problems(text)[0].to_string().contains("not known"));
    assert_eq!(json(r#"{"redirect": {"inbound": {"excludePortsForUIDs": []}}}"#), Config::default());
    assert!(env(&[("REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS", "1000")]).is_err());
    assert!(env(&[("REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS", "")]).is_ok());
}

#[test]
fn port_0_where_nothing_is_redirected_to_it() {
    let config = json(r#"{"redirect": {"dns": {"port": 0}, "inbound": {"enabled": false, "port": "0"}}}"#);
    assert_eq!((config.redirect.dns.port.number(), config.redirect.inbound.port.number()), (15053, 15006));
    let refused = [
        (r#"{"redirect": {"dns": {"port": 0, "enabled": true}}}"#, "redirect.dns.port"),
        (r#"{"redirect": {"inbound": {"port": 0}}}"#, "redirect.inbound.port"),
        (r#"{"redirect": {"outbound": {"port": 0}}}"#, "redirect.outbound.port"),
        (r#"{"redirect": {"dns": {"port": 0}, "vnet": {"networks": ["br0:10.0.0.0/8"]}}}"#, "redirect.dns.port"),
    ];
    for (text, path) in refused {
        assert_eq!(problem(text), (path.to_owned(), "0".to_owned()));
    }
    // What counts is the configuration in the end.
    let mut layers = Layers::new();
    layers.document("1", r#"{"redirect": {"dns": {"port": 0, "enabled": true}}}"#, Format::Json);
    layers.flag("--redirect-dns-port", "53");
    assert_eq!(layers.finish().unwrap().0.redirect.dns.port.number(), 53);
    let mut layers = Layers::new();
    layers.document("1", r#"{"redirect": {"dns": {"port": 0}}}"#, Format::Json);
    layers.flag("--redirect-dns", "true");
    assert_eq!(layers.finish().unwrap_err().problems()[0].path, "redirect.dns.port");
}

#[test]
fn chain_names() {
    let (config, _) =
        env(&[("REDIRECT_INBOUND_CHAIN_NAME", "IN"), ("REDIRECT_OUTBOUND_REDIRECT_CHAIN_NAME", "OUT_R")]).unwrap();
    assert_eq!(config.redirect.inbound.chains.decide.as_str(), "KUMA_MESH_IN");
    assert_eq!(config.redirect.inbound.chains.redirect.as_str(), "KUMA_MESH_INBOUND_REDIRECT");
    assert_eq!(config.redirect.outbound.chains.redirect.as_str(), "KUMA_MESH_OUT_R");
    for bad in ["a b", "x\"", "NINETEEN_CHARACTERS"] {
        let error = env(&[("REDIRECT_INBOUND_CHAIN_NAME", bad)]).unwrap_err();
        assert_eq!(error.problems()[0].value, bad);
    }
    let longest = "X".repeat(18);
    assert!(env(&[("REDIRECT_INBOUND_CHAIN_NAME", &longest)]).is_ok());
    for (clash, names) in [
        ("REDIRECT_INBOUND_CHAIN_NAME", &[("REDIRECT_INBOUND_CHAIN_NAME", "OUTBOUND")][..]),
        ("REDIRECT_OUTBOUND_CHAIN_NAME", &[("REDIRECT_OUTBOUND_CHAIN_NAME", "INBOUND")]),
        (
            "REDIRECT_INBOUND_REDIRECT_CHAIN_NAME",
            &[("REDIRECT_INBOUND_CHAIN_NAME", "X"), ("REDIRECT_INBOUND_REDIRECT_CHAIN_NAME", "X")],
        ),
    ] {
        let error = env(names).unwrap_err();
        assert_eq!(error.problems().len(), 1, "{error}");
        assert_eq!(error.problems()[0].path, format!("{PREFIX}{clash}"));
        assert!(!error.problems()[0].value.starts_with("KUMA"));
    }
    // Exchanged names are fine, since only the result counts.
    assert!(env(&[("REDIRECT_INBOUND_CHAIN_NAME", "OUTBOUND"), ("REDIRECT_OUTBOUND_CHAIN_NAME", "INBOUND")]).is_ok());
    assert_eq!(notes(r#"{"redirect": {"inbound": {"chainName": "X"}}}"#).len(), 1);
}

#[test]
fn environment_over_documents_and_flags_over_both() {
    let mut layers = Layers::new();
    layers.flag("--redirect-inbound-port", "3003");
    layers.environment(
        [("REDIRECT_INBOUND_PORT", "2003"), ("REDIRECT_OUTBOUND_PORT", "2001"), ("WAIT", "2")]
            .map(|(name, value)| (format!("{PREFIX}{name}"), value.to_owned())),
    );
    layers.document(
        "a",
        r#"{"redirect": {"inbound": {"port": 1003, "excludePorts": [1, 2]}, "outbound": {"port": 1001}}, "dropInvalidPackets": true}"#,
        Format::Json,
    );
    layers.document("b", r#"{"redirect": {"inbound": {"excludePorts": [3]}, "dns": {"port": 7777}}}"#, Format::Json);
    let (config, notes) = layers.finish().unwrap();
    let redirect = &config.redirect;
    assert_eq!((redirect.inbound.port.number(), redirect.outbound.port.number()), (3003, 2001));
    assert_eq!((redirect.inbound.exclude_ports.to_string(), redirect.dns.port.number()), ("3".to_owned(), 7777));
    assert!(config.drop_invalid_packets && config.wait.seconds == 2 && notes.is_empty());
}

#[test]
fn problems_of_all_layers_come_together() {
    let mut layers = Layers::new();
    layers.document("a.yaml", r#"{"redirect": {"inbound": {"port": 70000}}}"#, Format::Json);
    layers.document("-", r#"{"redirect": {"inbound": {"excludePorts": [0]}}, "wait": 1"#, Format::Json);
    layers.document("c.yaml", r#"{"redirect": {"inbound": {"excludePorts": [0]}}}"#, Format::Json);
    layers.environment([(format!("{PREFIX}REDIRECT_OUTBOUND_PORT"), "notaport".to_owned())]);
    layers.flag("--redirect-dns-port", "x");
    layers.flag("--sleep-between-retries", "banana");
    let error = layers.finish().unwrap_err();
    let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "a.yaml: redirect.inbound.port",
            "-: line 1 column 58",
            "c.yaml: redirect.inbound.excludePorts[0]",
            "KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT",
            "--redirect-dns-port",
            "--sleep-between-retries",
        ]
    );
    assert!(error.to_string().contains("--redirect-dns-port: 'x' is not valid: expected a port from 1 to 65535"));
}

#[test]
fn lists_in_variables() {
    let (config, notes) = env(&[
        ("REDIRECT_INBOUND_EXCLUDE_PORTS", "11,12"),
        ("REDIRECT_OUTBOUND_INCLUDE_PORTS", " 3000-5000 , 80 "),
        ("REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_IPS", "10.7.0.0/16,10.8.0.1"),
        ("REDIRECT_OUTBOUND_INCLUDE_IPS", "10.0.0.0/8"),
        ("REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS", "1000,2000"),
        ("REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_GIDS", "tcp:80,443:7; 8"),
        ("REDIRECT_VNET_NETWORKS", "docker0:172.17.0.0/16,br+:fd00::/8"),
    ])
    .unwrap();
    assert!(notes.is_empty());
    let (inbound, outbound) = (&config.redirect.inbound, &config.redirect.outbound);
    assert_eq!(
        (inbound.exclude_ports.to_string(), outbound.include_ports.to_string()),
        ("11,12".into(), "3000-5000,80".into())
    );
    assert_eq!((outbound.exclude_ips.len(), outbound.include_ips.len()), (2, 1));
    assert_eq!(texts(&outbound.exclude_ports_for_uids), ["tcp,udp:1-65535:1000", "tcp,udp:1-65535:2000"]);
    assert_eq!(texts(&outbound.exclude_ports_for_gids), ["tcp:80,443:7", "tcp,udp:1-65535:8"]);
    assert_eq!(texts(&config.redirect.vnet), ["docker0:172.17.0.0/16", "br+:fd00::/8"]);

    let uids = |text| env(&[("REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS", text)]);
    assert_eq!(
        texts(&uids("80,443:1000;").unwrap().0.redirect.outbound.exclude_ports_for_uids),
        ["tcp,udp:80,443:1000"]
    );
    assert!(uids("1000;;2000").is_err() && uids("1000,").is_err() && uids(";").is_err());
    let error = uids("tcp:80,443:1000").unwrap_err();
    assert!(error.to_string().contains("';'"), "{error}");
    assert!(env(&[("REDIRECT_INBOUND_EXCLUDE_PORTS", "1;2")]).is_err());
}

#[test]
fn empty_variables() {
    let mut layers = Layers::new();
    layers.document(
        "",
        r#"{"redirect": {"inbound": {"excludePorts": [1], "port": 2}, "dns": {"enabled": true}}, "kumaDPUser": "x"}"#,
        Format::Json,
    );
    let names = [
        "REDIRECT_INBOUND_EXCLUDE_PORTS",
        "REDIRECT_INBOUND_PORT",
        "REDIRECT_DNS_ENABLED",
        "KUMA_DP_USER",
        "EBPF_ENABLED",
    ];
    layers.environment(names.map(|name| (format!("{PREFIX}{name}"), " ".to_owned())));
    let config = layers.finish().unwrap().0;
    assert!(config.redirect.inbound.exclude_ports.is_empty() && config.redirect.dns.enabled);
    assert_eq!((config.redirect.inbound.port.number(), config.kuma_dp_user.as_deref()), (2, Some("x")));
}

#[test]
fn only_prefixed_variables_count() {
    let mut layers = Layers::new();
    let names =
        ["CNI_MODE", "KUMA_DP_USER", "IP_FAMILY_MODE", "PATH", "EXCLUDE_PORTS_FOR_IPS", "kuma_transparent_proxy_wait"];
    layers.environment(names.map(|name| (name.to_owned(), "true".to_owned())));
    assert_eq!(layers.finish().unwrap(), (Config::default(), Vec::new()));
}

#[test]
fn unknown_variables_are_noted() {
    let (_, notes) = env(&[("REDIRECT_INBOUND_EXCLUDE_PORT", "1"), ("SOMETHING_ELSE", "1")]).unwrap();
    let notes = texts(&notes);
    assert_eq!(
        notes[0],
        "KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORT: unknown environment variable; \
         did you mean `KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORTS`?"
    );
    assert_eq!(notes[1], "KUMA_TRANSPARENT_PROXY_SOMETHING_ELSE: unknown environment variable");
}

#[test]
fn repeated_flags() {
    let mut layers = Layers::new();
    layers.document(
        "",
        r#"{"redirect": {"outbound": {"excludePorts": [1], "excludePortsForIPs": ["1.1.1.1"], "excludePortsForUIDs": [1]}}}"#,
        Format::Json,
    );
    for (flag, value) in [
        ("--exclude-outbound-ports", "2,3"),
        ("--exclude-outbound-ports", "4"),
        ("--exclude-outbound-ips", "2.2.2.2, 3.3.3.3"),
        ("--exclude-outbound-ips", "4.4.4.4"),
        ("--exclude-outbound-ports-for-uids", "tcp:1900,1902:106"),
        ("--exclude-outbound-ports-for-uids", "7"),
        ("--exclude-outbound-ports-for-gids", "8"),
        ("--exclude-outbound-ports-for-gids", "9"),
        ("--include-outbound-ips", "10.0.0.0/8"),
        ("--include-outbound-ips", "fd00::/8"),
        ("--vnet", "a:10.0.0.0/8"),
        ("--vnet", "b:10.0.0.0/8"),
        ("--wait", "1"),
        ("--wait", "2"),
    ] {
        layers.flag(flag, value);
    }
    let config = layers.finish().unwrap().0;
    let outbound = &config.redirect.outbound;
    assert_eq!(outbound.exclude_ports.to_string(), "4");
    assert_eq!(texts(&outbound.exclude_ips), ["2.2.2.2", "3.3.3.3", "4.4.4.4"]);
    assert_eq!(texts(&outbound.exclude_ports_for_uids), ["tcp:1900,1902:106", "tcp,udp:1-65535:7"]);
    assert_eq!(
        (outbound.exclude_ports_for_gids.len(), outbound.include_ips.len(), config.redirect.vnet.len()),
        (2, 2, 2)
    );
    assert_eq!(config.wait.seconds, 2);
}

#[test]
fn durations_as_a_flag() {
    for text in ["2s", "\"2s\"", "2000000000"] {
        assert_eq!(flags(&[("--sleep-between-retries", text)]).unwrap().0.retry.sleep.as_secs(), 2);
    }
    assert!(flags(&[("--sleep-between-retries", "banana")]).unwrap_err().to_string().contains("'banana'"));
}

#[test]
fn all_dns_traffic_switches_dns_on() {
    let dns = |value| flags(&[("--redirect-all-dns-traffic", value)]).unwrap().0.redirect.dns;
    assert!(dns("true").enabled && dns("true").capture_all);
    assert!(!dns("false").enabled && !dns("false").capture_all);
    assert_eq!(flags(&[("--redirect-all-dns-traffic", "x")]).unwrap_err().problems().len(), 1);
}

#[test]
fn hardening_by_every_source() {
    assert!(!Config::default().harden && !Config::default().to_json().contains("harden"));
    let config = json(r#"{"harden": true}"#);
    assert!(config.harden && config.to_json().contains(r#""harden": true"#));
    assert!(env(&[("HARDEN", "1")]).unwrap().0.harden && flags(&[("--harden", "true")]).unwrap().0.harden);
}

#[test]
fn flags_that_set_nothing_are_refused() {
    let error = flags(&[("--redirect-dsn", "true")]).unwrap_err();
    assert!(error.to_string().contains("--redirect-dsn") && error.to_string().contains("--redirect-dns"));
}

#[test]
fn programs() {
    let value = "iptables:/a/iptables, iptables-save:/a/save,iptables-restore:rel/restore,ip6tables:/b";
    for (config, notes) in
        [flags(&[("--iptables-executables", value)]).unwrap(), env(&[("IPTABLES_EXECUTABLES", value)]).unwrap()]
    {
        let programs = &config.iptables_executables;
        assert_eq!(programs.v4.save.as_deref(), Some("/a/save".as_ref()));
        assert_eq!(programs.v4.restore.as_deref(), Some("rel/restore".as_ref()));
        assert!(programs.v6.tables.is_some() && programs.v6.save.is_none());
        assert_eq!(texts(&notes).len(), 1);
        assert!(notes[0].to_string().contains("ip6tables has no effect"), "{}", notes[0]);
    }
    for (bad, part) in
        [("frobtables:/x", "frobtables:/x"), ("iptables:", "iptables:"), ("/sbin/iptables", "/sbin/iptables")]
    {
        let error = flags(&[("--iptables-executables", bad)]).unwrap_err();
        assert_eq!(error.problems()[0].value, part);
    }
    let config = json(r#"{"iptablesExecutables": {"iptables": "/x", "ip6tables-restore": "/y", "iptables-save": ""}}"#);
    assert_eq!(config.iptables_executables.v6.restore.as_deref(), Some("/y".as_ref()));
    assert_eq!(config.iptables_executables.v4.save, None);
}

#[test]
fn the_old_ebpf_mode() {
    let config =
        json(r#"{"ebpf": {"enabled": true, "bpffsPath": "/mnt/bpf", "cgroupPath": "/sys/fs/cgroup/workload"}}"#);
    assert!(config.ebpf.enabled);
    assert_eq!(config.ebpf.bpffs.as_deref(), Some("/mnt/bpf".as_ref()));
    assert_eq!(config.ebpf.cgroup.as_deref(), Some("/sys/fs/cgroup/workload".as_ref()));
    assert_eq!(Config::parse(&config.to_json(), Format::Json).unwrap(), config);
    let (config, notes_of_env) =
        env(&[("EBPF_ENABLED", "true"), ("EBPF_BPFFS_PATH", "/a"), ("EBPF_CGROUP_PATH", " ")]).unwrap();
    assert!(
        config.ebpf.enabled && config.ebpf.bpffs.is_some() && config.ebpf.cgroup.is_none() && notes_of_env.is_empty()
    );
    assert!(flags(&[("--ebpf-enabled", "true")]).unwrap().0.ebpf.enabled);
    assert_eq!(problem(r#"{"ebpf": {"enabled": "maybe"}}"#), ("ebpf.enabled".into(), "maybe".into()));
    assert_eq!(problem(r#"{"ebpf": {"cgroupPath": ["/a"]}}"#).0, "ebpf.cgroupPath");
}

#[test]
fn what_other_programs_need_for_ebpf_is_noted_once_each() {
    let document = r#"{"ebpf": {"enabled": true, "instanceIP": "10.0.0.1", "instanceIPEnvVarName": "IP",
        "programsSourcePath": "/tmp/kuma-ebpf", "tcAttachIface": "eth0"}}"#;
    let notes_of_document = notes(document);
    assert_eq!(notes_of_document.len(), 4, "{notes_of_document:?}");
    for (note, key) in
        notes_of_document.iter().zip(["instanceIP", "instanceIPEnvVarName", "programsSourcePath", "tcAttachIface"])
    {
        assert!(note.starts_with(&format!("ebpf.{key}: not needed, since ")), "{note}");
    }
    // Said by the source that counts.
    let mut layers = Layers::new();
    layers.document("", document, Format::Json);
    layers.environment([(format!("{PREFIX}EBPF_INSTANCE_IP"), "10.0.0.2".to_owned())]);
    layers.flag("--ebpf-tc-attach-iface", "eth1");
    let said = texts(&layers.finish().unwrap().1);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("KUMA_TRANSPARENT_PROXY_EBPF_INSTANCE_IP: "), "{said:?}");
    assert!(said[3].starts_with("--ebpf-tc-attach-iface: "), "{said:?}");
    // Nothing to say where the mode is off, or nothing is said.
    for quiet in [
        r#"{"ebpf": {"enabled": false, "instanceIP": "1.1.1.1", "tcAttachIface": "eth0", "cgroupPath": "/a"}}"#,
        r#"{"ebpf": {"enabled": true, "instanceIP": "", "tcAttachIface": [], "programsSourcePath": null}}"#,
    ] {
        assert!(notes(quiet).is_empty(), "{quiet}");
    }
}

#[test]
fn unknown_keys_are_noted_with_the_nearest_known_one() {
    let notes = notes(
        r#"{"redirect": {"inbound": {"excludePort": [1], "Port": 7}, "vnets": {"networks": []}, "skipConntrackZoneSplit": true},
            "somethingNew": {"a": [1]}, "exclude-inbound-ports": 1, "a\nb": 2}"#,
    );
    assert_eq!(
        notes,
        [
            "tp.json: unknown key `redirect.inbound.excludePort`; did you mean `excludePorts`?",
            "tp.json: the key `redirect.inbound.Port` is read as `redirect.inbound.port`",
            "tp.json: unknown key `redirect.vnets`; did you mean `vnet`?",
            "tp.json: unknown key `redirect.skipConntrackZoneSplit`; did you mean `redirect.dns.skipConntrackZoneSplit`?",
            "tp.json: unknown key `somethingNew`",
            "tp.json: unknown key `exclude-inbound-ports`; did you mean `redirect.inbound.excludePorts`?",
            "tp.json: unknown key `a\\nb`",
        ]
    );
    assert_eq!(json(r#"{"redirect": {"inbound": {"Port": 7}}}"#).redirect.inbound.port.number(), 7);
}

#[test]
fn very_many_unknown_keys_are_summed_up() {
    let keys: Vec<_> = (0..1000).map(|number| format!(r#""key{number}": 1"#)).collect();
    let notes = notes(&format!("{{{}}}", keys.join(",")));
    assert_eq!(notes.len(), 101);
    assert!(notes[100].contains("900 more"), "{}", notes[100]);
}

#[test]
fn a_key_twice() {
    assert_eq!(problem(r#"{"wait": 1, "wait": 2, "wait": 3}"#), ("wait".into(), "2".into()));
    assert_eq!(problem(r#"{"redirect": {}, "Redirect": {}}"#).0, "redirect");
}

#[test]
fn syntax_errors_say_where() {
    let mut layers = Layers::new();
    layers.document("tp.json", "{\n \"wait\": 1,\n \"verbose\": x\n}", Format::Json);
    let error = layers.finish().unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!((problem.path.as_str(), problem.value.as_str()), ("tp.json: line 3 column 13", "\"verbose\": x"));
    assert!(problem.expected.starts_with("valid JSON: expected value"), "{problem}");
    assert!(Config::parse("{} {}", Format::Json).is_err());
}

#[test]
fn the_written_form_is_kumas() {
    let defaults = r#"{
  "ipFamilyMode": "dualstack",
  "kumaDPUser": "",
  "redirect": {
    "dns": {
      "captureAll": false,
      "enabled": false,
      "port": 15053,
      "resolvConfigPath": "/etc/resolv.conf",
      "skipConntrackZoneSplit": false
    },
    "inbound": {
      "enabled": true,
      "port": 15006
    },
    "outbound": {
      "enabled": true,
      "port": 15001
    }
  },
  "retry": {
    "maxRetries": 4,
    "sleepBetweenRetries": "2s"
  },
  "wait": 5,
  "waitInterval": 0
}"#;
    assert_eq!(Config::default().to_json(), defaults);

    let changed = json(
        r#"{"redirect": {"inbound": {"excludePorts": ["9000", "1-2"]}, "outbound": {"excludePortsForUIDs": ["7"]}}, "log": {"level": 3},
            "comments": {"disabled": true}, "iptablesExecutables": {"iptables-save": "/s"}}"#,
    );
    let text = changed.to_json();
    let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(tree["redirect"]["inbound"]["excludePorts"], serde_json::json!([9000, "1-2"]));
    assert_eq!(tree["redirect"]["outbound"]["excludePortsForUIDs"], serde_json::json!(["tcp,udp:1-65535:7"]));
    assert_eq!(tree["log"], serde_json::json!({"enabled": false, "level": 3}));
    assert_eq!(tree["comments"], serde_json::json!({"disabled": true}));
    assert_eq!(tree["iptablesExecutables"], serde_json::json!({"iptables-save": "/s"}));
    assert_eq!(json(&text), changed);
}

#[test]
fn hostile_json_ends_soon() {
    for text in ["[".repeat(10 << 20), "{\"a\":".repeat(2 << 20), format!("\"{}\"", "x".repeat(10 << 20))] {
        assert!(Config::parse(&text, Format::Json).is_err());
    }
}

#[cfg(feature = "yaml")]
mod yaml {
    use super::*;

    fn yaml(text: &str) -> Config {
        Config::parse(text, Format::Yaml).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn refused(text: &str) -> Problem {
        let error = Config::parse(text, Format::Yaml).expect_err(text);
        assert_eq!(error.problems().len(), 1, "{error}");
        error.problems()[0].clone()
    }

    #[test]
    fn a_document_of_the_injector() {
        let text = "ipFamilyMode: dualstack\nkumaDPUser: \"5678\"\nredirect:\n  dns:\n    captureAll: false\n    enabled: false\n    \
                    port: 0\n    resolvConfigPath: /etc/resolv.conf\n    skipConntrackZoneSplit: false\n  inbound:\n    enabled: true\n    \
                    excludePorts:\n    - 1234\n    - 9000\n    port: 15006\n  outbound:\n    enabled: true\n    port: 15001\nretry:\n  \
                    maxRetries: 4\n  sleepBetweenRetries: 2s\nwait: 5\nwaitInterval: 0\n";
        let config = yaml(text);
        assert_eq!(config.redirect.inbound.exclude_ports.to_string(), "1234,9000");
        assert_eq!(config.kuma_dp_user.as_deref(), Some("5678"));
        // What we write is that text again, but for quotes and the unused port.
        let written = config.to_yaml();
        assert_eq!(written.replace('\'', "\""), text.replace("port: 0", "port: 15053"));
        assert_eq!(yaml(&written), config);
    }

    #[test]
    fn words_of_yaml_1_1() {
        let config =
            yaml("verbose: yes\ndryRun: ON\nredirect:\n  inbound: {enabled: off}\n  outbound: {enabled: No}\n");
        assert!(config.verbose && config.dry_run);
        assert!(!config.redirect.inbound.enabled && !config.redirect.outbound.enabled);
    }

    #[test]
    fn nothing_said() {
        for text in
            ["", "# nothing\n", "---\n", "~", "{}", "redirect:\n", "redirect:\n  inbound: ~\n", "\u{feff}wait: 5"]
        {
            assert_eq!(yaml(text), Config::default(), "{text:?}");
        }
    }

    #[test]
    fn json_is_read_as_well() {
        assert_eq!(yaml("{\"kumaDPUser\":\"\\u0061\\/\",\n\t\"wait\": 7}").kuma_dp_user.as_deref(), Some("a/"));
        assert_eq!(yaml("{wait: 7}").wait.seconds, 7);
    }

    #[test]
    fn anchors_and_merges() {
        let text = "a: &a {enabled: false, port: 7}\nredirect:\n  inbound:\n    <<: *a\n    port: 8\n  outbound: *a\n";
        let config = yaml(text);
        assert!(!config.redirect.inbound.enabled && config.redirect.inbound.port.number() == 8);
        assert!(!config.redirect.outbound.enabled && config.redirect.outbound.port.number() == 7);
        assert!(refused("<<: 7").expected.contains("<<"));
    }

    #[test]
    fn lists_of_the_suite() {
        let config = yaml(
            "redirect:\n  vnet:\n    networks:\n    - docker2:10.0.0.0/8\n    - br+:172.18.0.0/16\n    - iface:::1/64\n  outbound:\n    \
             excludePortsForUIDs:\n    - 1\n    - 2-3:4-5\n    excludePortsForIPs:\n    - 10.0.0.1,192.168.0.0/24,fe80::1\n    - fd00::/8\n",
        );
        assert_eq!(texts(&config.redirect.vnet), ["docker2:10.0.0.0/8", "br+:172.18.0.0/16", "iface:::1/64"]);
        assert_eq!(config.redirect.outbound.exclude_ports_for_uids.len(), 2);
        assert_eq!(config.redirect.outbound.exclude_ips.len(), 4);
    }

    #[test]
    fn what_is_no_configuration() {
        let problem = refused("redirect:\n  inbound:\n    excludePorts: [80, 99999\nwait: 1\n");
        assert!(problem.path.starts_with("document: line "), "{problem}");
        assert!(problem.expected.starts_with("valid YAML: "), "{problem}");
        for text in [
            "a: 1\n---\nb: 2\n",
            "wait: !!binary x\n",
            "wait: !tag 5\n",
            "? [a]\n: 1\n",
            "wait: 1\nwait: 2\n",
            "just text",
            "- 1\n",
            "*x",
        ] {
            let error = Config::parse(text, Format::Yaml).expect_err(text);
            assert_eq!(error.problems().len(), 1, "{error}");
            assert!(!error.problems()[0].path.is_empty());
        }
    }

    #[test]
    fn hostile_texts_end_soon() {
        const SIZE: usize = 2 << 20;
        for unit in [
            "[",
            "{a: ",
            "{\"a\":",
            "- ",
            "? ",
            "%TAG !a! b\n",
            "[[]",
            "&a ",
            "*a ",
            "!t ",
            "'",
            "\"",
            "|\n",
            "a: &a\n",
            "---\n",
        ] {
            let text = unit.repeat(SIZE / unit.len());
            let result = Config::parse(&text, Format::Yaml);
            assert!(result.is_err() || unit == "a: &a\n", "{unit}");
        }
        // As many as are let through.
        assert!(Config::parse(&"[".repeat(10_000), Format::Yaml).is_err());
        assert!(Config::parse(&"{a: ".repeat(10_000), Format::Yaml).is_err());
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for level in 1..20 {
            laughs.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
        }
        assert!(Config::parse(&laughs, Format::Yaml).is_err());
        let wide = format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(5000));
        assert!(refused(&wide).expected.contains("aliases"));
    }
}
