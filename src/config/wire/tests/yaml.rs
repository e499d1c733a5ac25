//! YAML.

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
    let config = yaml("verbose: yes\ndryRun: ON\nredirect:\n  inbound: {enabled: off}\n  outbound: {enabled: No}\n");
    assert!(config.verbose && config.dry_run);
    assert!(!config.redirect.inbound.enabled && !config.redirect.outbound.enabled);
}

#[test]
fn nothing_said() {
    for text in ["", "# nothing\n", "---\n", "~", "{}", "redirect:\n", "redirect:\n  inbound: ~\n", "\u{feff}wait: 5"] {
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
    // At the end there is no value to show.
    let text = refused("redirect:\n  inbound:\n    excludePorts: [80\n").to_string();
    assert!(text.contains(" column ") && text.contains(": not valid YAML: ") && !text.contains("''"), "{text}");
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
