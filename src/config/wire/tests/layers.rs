//! Documents, variables and flags, one over the other.

use super::*;

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
