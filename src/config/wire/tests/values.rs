//! What each kind of value may be.

use super::*;

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
