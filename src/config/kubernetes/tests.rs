use super::*;
use crate::config::{Format, Profile};
use crate::error::Error;
use crate::model::IpFamilyMode;
use crate::net::Port;

fn sources(annotations: &[(&str, &str)]) -> Sources {
    let mut sources = Sources::new();
    let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    sources.pod(Pod::with_annotations(annotations));
    sources
}

fn resolve(annotations: &[(&str, &str)]) -> Result<Resolved, Error> {
    sources(annotations).resolve()
}

fn resolve_29(annotations: &[(&str, &str)]) -> Result<Resolved, Error> {
    let mut sources = sources(annotations);
    sources.profile(Profile::Kuma29);
    sources.resolve()
}

fn set(sources: &mut Sources, suffix: &str, value: &str) {
    sources.control_plane([(format!("KUMA_RUNTIME_KUBERNETES_{suffix}"), value.to_owned())]);
}

/// The configuration's value of a key, or what is wrong: `path: 'value'`.
fn outcome(resolved: Result<Resolved, Error>, key: &str) -> String {
    match resolved {
        Ok(resolved) => resolved.origin(key).map_or("", |origin| &origin.value).to_owned(),
        Err(error) => {
            let told: Vec<String> =
                error.problems().iter().map(|problem| format!("{}: '{}'", problem.path, problem.value)).collect();
            told.join("; ")
        }
    }
}

#[test]
fn every_annotation_that_sets_a_key() {
    let ports = "redirect.outbound.excludePorts";
    let ips = "redirect.outbound.excludePortsForIPs";
    let uids = "redirect.outbound.excludePortsForUIDs";
    for (name, value, key, result) in [
        ("traffic.kuma.io/exclude-inbound-ports", "80, 90", "redirect.inbound.excludePorts", "[80,90,9001]"),
        ("traffic.kuma.io/exclude-inbound-ports", "0", "", "traffic.kuma.io/exclude-inbound-ports: '0'"),
        ("traffic.kuma.io/exclude-outbound-ports", "80,,3000-5000", ports, "[80,\"3000-5000\"]"),
        ("traffic.kuma.io/exclude-outbound-ports", "", ports, "[]"),
        ("traffic.kuma.io/exclude-outbound-ports", "80;90", "", "traffic.kuma.io/exclude-outbound-ports: '80;90'"),
        (
            "traffic.kuma.io/exclude-inbound-ips",
            "10.0.0.1,,::1",
            "redirect.inbound.excludePortsForIPs",
            "[\"10.0.0.1\",\"::1\"]",
        ),
        ("traffic.kuma.io/exclude-inbound-ips", "10.0.0", "", "traffic.kuma.io/exclude-inbound-ips: '10.0.0'"),
        ("traffic.kuma.io/exclude-outbound-ips", "10.0.0.0/8, fd00::/8", ips, "[\"10.0.0.0/8\",\"fd00::/8\"]"),
        ("traffic.kuma.io/exclude-outbound-ips", "here", "", "traffic.kuma.io/exclude-outbound-ips: 'here'"),
        (
            "traffic.kuma.io/exclude-outbound-ports-for-uids",
            "tcp:22,80:7;8",
            uids,
            "[\"tcp:22,80:7\",\"tcp,udp:1-65535:8\"]",
        ),
        (
            "traffic.kuma.io/exclude-outbound-ports-for-uids",
            "tcp:22:7;",
            "",
            "traffic.kuma.io/exclude-outbound-ports-for-uids[1]: ''",
        ),
        (
            "traffic.kuma.io/exclude-outbound-ports-for-uids",
            "",
            "",
            "traffic.kuma.io/exclude-outbound-ports-for-uids[0]: ''",
        ),
        (
            "traffic.kuma.io/exclude-outbound-ports-for-uids",
            "*",
            "",
            "traffic.kuma.io/exclude-outbound-ports-for-uids[0]: '*'",
        ),
        ("traffic.kuma.io/drop-invalid-packets", "yes", "dropInvalidPackets", "true"),
        ("traffic.kuma.io/drop-invalid-packets", "enabled", "", "traffic.kuma.io/drop-invalid-packets: 'enabled'"),
        ("traffic.kuma.io/iptables-logs", "true", "log.enabled", "true"),
        ("traffic.kuma.io/iptables-logs", "True", "", "traffic.kuma.io/iptables-logs: 'True'"),
        ("kuma.io/transparent-proxying-ip-family-mode", "IPv4", "ipFamilyMode", "\"ipv4\""),
        ("kuma.io/transparent-proxying-ip-family-mode", "", "ipFamilyMode", "\"dualstack\""),
        (
            "kuma.io/transparent-proxying-ip-family-mode",
            "ipv6",
            "",
            "kuma.io/transparent-proxying-ip-family-mode: 'ipv6'",
        ),
        ("kuma.io/gateway", "enabled", "redirect.inbound.enabled", "false"),
        ("kuma.io/gateway", "provided", "redirect.inbound.enabled", "false"),
        ("kuma.io/gateway", "no", "redirect.inbound.enabled", "true"),
        ("kuma.io/gateway", "builtin", "", "kuma.io/gateway: 'builtin'"),
        ("kuma.io/application-probe-proxy-port", "19000", "redirect.inbound.excludePorts", "[19000]"),
        ("kuma.io/application-probe-proxy-port", "0", "redirect.inbound.excludePorts", "[]"),
        ("kuma.io/application-probe-proxy-port", "65536", "", "kuma.io/application-probe-proxy-port: '65536'"),
        ("kuma.io/envoy-admin-port", "-1", "", "kuma.io/envoy-admin-port: '-1'"),
        ("kuma.io/sidecar-uid", "x", "", "kuma.io/sidecar-uid: 'x'"),
        ("kuma.io/sidecar-injected", "on", "", "kuma.io/sidecar-injected: 'on'"),
        ("kuma.io/transparent-proxying", "never", "", "kuma.io/transparent-proxying: 'never'"),
        ("kuma.io/reachable-backends", "[", "", "kuma.io/reachable-backends: document: line 2 column 1: '['"),
    ] {
        let found = outcome(resolve(&[(name, value)]), key);
        // Where a document ends is the parser's affair.
        match name {
            "kuma.io/reachable-backends" => {
                assert!(found.starts_with("kuma.io/reachable-backends: document"), "{found}")
            }
            _ => assert_eq!(found, result, "{name}: {value}"),
        }
    }
}

#[test]
fn annotations_of_kuma_2_9() {
    let injected = ("kuma.io/sidecar-injected", "true");
    for (annotations, key, result) in [
        (&[("kuma.io/builtin-dns", "disabled")][..], "redirect.dns.captureAll", "false"),
        (&[("kuma.io/builtin-dns", "enabled")], "redirect.dns.enabled", "true"),
        (&[("kuma.io/builtin-dns", "on")], "", "kuma.io/builtin-dns: 'on'"),
        (&[("kuma.io/builtin-dns-port", "1053")], "redirect.dns.port", "1053"),
        (&[("kuma.io/builtin-dns-port", "0")], "", "kuma.io/builtin-dns-port: '0'"),
        (&[("kuma.io/builtin-dns-port", "0"), ("kuma.io/builtin-dns", "no")], "redirect.dns.port", "15053"),
        (&[("kuma.io/builtin-dns-logging", "maybe")], "", "kuma.io/builtin-dns-logging: 'maybe'"),
        // Before the injector, it is the control plane's port.
        (&[("kuma.io/transparent-proxying-inbound-port", "7006")], "redirect.inbound.port", "15006"),
        (&[injected, ("kuma.io/transparent-proxying-inbound-port", "7006")], "redirect.inbound.port", "7006"),
        (&[injected, ("kuma.io/transparent-proxying-outbound-port", "7001")], "redirect.outbound.port", "7001"),
        (&[("kuma.io/transparent-proxying-outbound-port", "x")], "", "kuma.io/transparent-proxying-outbound-port: 'x'"),
        (&[injected, ("kuma.io/sidecar-uid", "1337")], "kumaDPUser", "\"1337\""),
        (&[("kuma.io/transparent-proxying-ip-family-mode", "ipv4")], "ipFamilyMode", "\"ipv4\""),
        (
            &[("kuma.io/transparent-proxying-ip-family-mode", "IPv4")],
            "",
            "kuma.io/transparent-proxying-ip-family-mode: 'IPv4'",
        ),
        (&[("kuma.io/transparent-proxying-ebpf", "enabled")], "", "kuma.io/transparent-proxying-ebpf: 'enabled'"),
        (&[("kuma.io/transparent-proxying-ebpf", "disabled")], "ipFamilyMode", "\"dualstack\""),
        (&[("traffic.kuma.io/iptables-logs", "enabled")], "", "traffic.kuma.io/iptables-logs: 'enabled'"),
        (&[("traffic.kuma.io/exclude-outbound-ports", "22")], "redirect.outbound.excludePorts", "[22]"),
    ] {
        assert_eq!(outcome(resolve_29(annotations), key), result, "{annotations:?}");
    }
    // With a ConfigMap, it is all as in Kuma 3.
    let mut sources = sources(&[("kuma.io/builtin-dns", "enabled")]);
    sources.profile(Profile::Kuma29);
    sources.config_map("{}", Format::Json);
    let resolved = sources.resolve().unwrap();
    assert!(!resolved.config.redirect.dns.enabled);
    assert!(resolved.notes.iter().any(|note| note.about == "kuma.io/builtin-dns"), "{:?}", resolved.notes);
}

#[test]
fn annotations_without_effect_are_noted() {
    for (name, value, text) in [
        ("kuma.io/transparent-proxying", "disabled", "has no effect: on Kubernetes"),
        ("kuma.io/builtin-dns", "enabled", "has no effect in the profile kuma-3, only in kuma-2.9"),
        ("kuma.io/sidecar-uid", "1337", "kumaDPUser = \"1337\" has no effect; control plane's default,"),
        ("kuma.io/transparent-proxying-reachable-services", "a", "is of kuma-2.9 and taken here all the same"),
        ("traffic.kuma.io/transparent-proxy-configmap-name", "own", "the ConfigMap 'own' was not given"),
        ("traffic.kuma.io/transparent-proxy-config", "", "is empty"),
        ("traffic.kuma.io/exclude-inbound-port", "80", "did you mean `traffic.kuma.io/exclude-inbound-ports`?"),
    ] {
        let notes = resolve(&[(name, value)]).unwrap().notes;
        assert!(notes.iter().any(|note| note.about == name && note.text.contains(text)), "{name}: {notes:?}");
    }
    let notes =
        resolve(&[("kuma.io/gateway", "enabled"), ("traffic.kuma.io/exclude-inbound-ports", "80")]).unwrap().notes;
    assert!(notes.iter().any(|note| note.about == "traffic.kuma.io/exclude-inbound-ports"), "{notes:?}");
}

#[test]
fn values_of_the_operator_without_effect_are_noted() {
    let mut sources = sources(&[]);
    sources.config_map(
        r#"{"kumaDPUser": "7", "redirect": {"inbound": {"port": 7}, "dns": {"enabled": true}}}"#,
        Format::Json,
    );
    set(&mut sources, "INJECTOR_BUILTIN_DNS_ENABLED", "false");
    let resolved = sources.resolve().unwrap();
    assert!(resolved.config.redirect.dns.enabled);
    assert_eq!(resolved.config.redirect.inbound.port.number(), 15006);
    let about: Vec<&str> = resolved.notes.iter().map(|note| note.about.as_str()).collect();
    assert_eq!(
        about,
        [
            "system ConfigMap: kumaDPUser",
            "system ConfigMap: redirect.inbound.port",
            "KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_ENABLED"
        ]
    );
    // The control plane's default is no cause for alarm.
    let resolved = resolve(&[]).unwrap();
    assert_eq!(resolved.notes.len(), 1);
    assert_eq!(resolved.notes[0].severity, crate::model::Severity::Info);
}

#[test]
fn gateways() {
    let resolved = resolve(&[("kuma.io/gateway", "provided")]).unwrap();
    assert!(resolved.gateway && !resolved.config.redirect.inbound.enabled && resolved.probe_proxy_port.is_none());
    assert!(resolved.config.redirect.inbound.exclude_ports.is_empty());
    let error = resolve(&[("kuma.io/gateway", "true"), ("kuma.io/application-probe-proxy-port", "9001")]).unwrap_err();
    assert_eq!(error.problems()[0].path, "kuma.io/application-probe-proxy-port");
    assert!(resolve(&[("kuma.io/gateway", "true"), ("kuma.io/application-probe-proxy-port", "0")]).is_ok());
}

#[test]
fn all_problems_at_once() {
    let mut sources = sources(&[("kuma.io/gateway", "x"), ("traffic.kuma.io/exclude-inbound-ports", "a,b")]);
    set(&mut sources, "INJECTOR_SIDECAR_CONTAINER_UID", "root");
    sources.config_map(r#"{"redirect": {"dns": {"enabled": true, "port": 70000}}}"#, Format::Json);
    sources.custom_config_map("[]", Format::Json);
    let paths: Vec<String> =
        sources.resolve().unwrap_err().problems().iter().map(|problem| problem.path.clone()).collect();
    assert_eq!(
        paths,
        [
            "kuma.io/gateway",
            "traffic.kuma.io/exclude-inbound-ports",
            "traffic.kuma.io/exclude-inbound-ports",
            "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_UID",
            "system ConfigMap: redirect.dns.port"
        ]
    );
}

#[test]
fn ports_of_probes_and_of_readiness() {
    let mut pod = Pod::default();
    let mut container = Container::default();
    container.name = "app".to_owned();
    container.probe_ports = ["3001", "8080", "3001"].iter().map(|port| port.parse().unwrap()).collect();
    let mut sidecar = container.clone();
    sidecar.name = "kuma-sidecar".to_owned();
    sidecar.probe_ports = vec![Port::new(9902).unwrap()];
    pod.containers = vec![sidecar, container];

    let mut sources = Sources::new();
    sources.pod(pod);
    set(&mut sources, "APPLICATION_PROBE_PROXY_PORT", "0");
    sources.control_plane([("KUMA_EXPERIMENTAL_ENVOY_ADMIN_UNIX_SOCKET".to_owned(), "true".to_owned())]);
    let resolved = sources.resolve().unwrap();
    assert_eq!(resolved.config.redirect.inbound.exclude_ports.to_string(), "3001,8080,9902");
    let added = &resolved.origin("redirect.inbound.excludePorts").unwrap().added;
    assert_eq!(added[0].source, SettingSource::Pod("probes of container app".to_owned()));
    assert_eq!(added.len(), 3);
}

#[test]
fn no_container_may_run_as_the_sidecar() {
    let user = |uid| format!(r#""securityContext": {{"runAsUser": {uid}}}"#);
    let pod = format!(
        r#"{{"spec": {{"containers": [{{"name": "kuma-sidecar", {0}}}, {{"name": "app", {1}}}], "initContainers": [{{"name": "first", {0}}}]}}}}"#,
        user(5678),
        user(1000)
    );
    let mut sources = Sources::new();
    sources.pod_document(&pod, Format::Json);
    let notes = sources.resolve().unwrap().notes;
    assert!(notes.iter().any(|note| note.about == "spec.initContainers[first].securityContext.runAsUser"), "{notes:?}");

    let mut sources = Sources::new();
    sources.pod_document(&pod, Format::Json);
    set(&mut sources, "INJECTOR_SIDECAR_CONTAINER_UID", "1000");
    let error = sources.resolve().unwrap_err();
    assert_eq!(error.problems()[0].path, "spec.containers[app].securityContext.runAsUser");
    assert_eq!(error.problems()[0].value, "1000");

    // A name of its own choice does not help.
    let mut sources = Sources::new();
    sources.pod_document(&pod.replace("\"app\"", "\"kuma-app\""), Format::Json);
    set(&mut sources, "INJECTOR_SIDECAR_CONTAINER_UID", "1000");
    assert!(sources.resolve().is_err());
}

#[test]
fn a_tenant_may_not_name_files_of_the_host() {
    let evil = r#"{"iptablesExecutables": {"iptables": "/x"}, "storeFirewalld": true, "dryRun": true, "wait": 999999,
                   "kumaDPUser": "root", "redirect": {"dns": {"resolvConfigPath": "/etc/shadow"}}}"#;
    let config = "traffic.kuma.io/transparent-proxy-config";
    let own = ("traffic.kuma.io/transparent-proxy-configmap-name", "own");
    let keys = [
        "kumaDPUser",
        "redirect.dns.resolvConfigPath",
        "storeFirewalld",
        "dryRun",
        "wait",
        "iptablesExecutables.iptables",
    ];
    let paths = |sources: Sources| -> Vec<String> {
        sources.resolve().unwrap_err().problems().iter().map(|problem| problem.path.clone()).collect()
    };

    assert_eq!(paths(sources(&[(config, evil)])), keys.map(|key| format!("{config}: {key}")));
    for profile in Profile::ALL {
        let mut tenants = sources(&[own]);
        tenants.profile(profile);
        tenants.custom_config_map(evil, Format::Json);
        assert_eq!(paths(tenants), keys.map(|key| format!("custom ConfigMap: {key}")));
    }

    // The operator may, and then the annotation that comes of it is good as well.
    let operators =
        r#"{"redirect": {"dns": {"resolvConfigPath": "/run/resolv.conf"}}, "storeFirewalld": true, "wait": 999}"#;
    let mut injector = sources(&[]);
    injector.config_map(operators, Format::Json);
    let written = to_annotation(&injector.resolve().unwrap().config);
    assert!(resolve(&[(config, &written)]).is_err());
    let mut plugin = sources(&[(config, &written)]);
    plugin.config_map(operators, Format::Json);
    let resolved = plugin.resolve().unwrap();
    assert_eq!(resolved.config.redirect.dns.resolv_conf, std::path::Path::new("/run/resolv.conf"));
    assert!(resolved.config.store_firewalld);
}

#[test]
fn the_custom_config_map() {
    let own = ("traffic.kuma.io/transparent-proxy-configmap-name", "own");
    let text = r#"{"kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"config.yaml":
        "{\"kumaDPUser\": \"7\", \"redirect\": {\"inbound\": {\"port\": 7006, \"excludePorts\": [80]}}}"}}"#;
    let mut kuma3 = sources(&[own, ("traffic.kuma.io/exclude-inbound-ports", "90")]);
    kuma3.custom_config_map(text, Format::Json);
    let resolved = kuma3.resolve().unwrap();
    assert_eq!(resolved.config.redirect.inbound.port.number(), 7006);
    assert_eq!(resolved.config.redirect.inbound.exclude_ports.to_string(), "80");
    assert_eq!(resolved.config.kuma_dp_user.as_deref(), Some("5678"));
    let about: Vec<&str> = resolved.notes.iter().map(|note| note.about.as_str()).collect();
    assert!(about.contains(&"ConfigMap own: kumaDPUser"), "{about:?}");
    // The list replaces the one that had the port of the probes.
    assert!(about.contains(&"redirect.inbound.excludePorts"), "{about:?}");

    // In 2.9 it stands where the system's stands.
    let mut kuma29 = sources(&[own, ("traffic.kuma.io/exclude-inbound-ports", "90")]);
    kuma29.profile(Profile::Kuma29);
    kuma29.config_map(r#"{"dropInvalidPackets": true}"#, Format::Json);
    kuma29.custom_config_map(text, Format::Json);
    let resolved = kuma29.resolve().unwrap();
    assert_eq!(resolved.config.redirect.inbound.port.number(), 15006);
    assert_eq!(resolved.config.redirect.inbound.exclude_ports.to_string(), "90,9001");
    assert!(!resolved.config.drop_invalid_packets);
    assert!(
        resolved.notes.iter().any(|note| note.about == "ConfigMap own: redirect.inbound.port"),
        "{:?}",
        resolved.notes
    );

    let mut other = sources(&[("traffic.kuma.io/transparent-proxy-configmap-name", "others")]);
    other.custom_config_map(text, Format::Json);
    assert_eq!(outcome(other.resolve(), ""), "traffic.kuma.io/transparent-proxy-configmap-name: 'others'");
    let mut unnamed = sources(&[]);
    unnamed.custom_config_map(text, Format::Json);
    let resolved = unnamed.resolve().unwrap();
    assert_eq!(resolved.config.redirect.inbound.port.number(), 15006);
    assert!(resolved.notes.iter().any(|note| note.about == "ConfigMap own"), "{:?}", resolved.notes);
}

#[test]
fn a_written_configuration_without_a_user_gets_the_control_planes() {
    let resolved =
        resolve(&[("traffic.kuma.io/transparent-proxy-config", r#"{"redirect": {"inbound": {"port": 1}}}"#)]).unwrap();
    assert_eq!(resolved.config.kuma_dp_user.as_deref(), Some("5678"));
    assert_eq!((resolved.sidecar_uid.number(), resolved.sidecar_gid.number()), (5678, 5678));
    assert!(resolved.notes.iter().any(|note| note.text.contains("the injector would replace it")));
    let outcome = outcome(resolve(&[("traffic.kuma.io/transparent-proxy-config", r#"{"wait": "x"}"#)]), "");
    assert_eq!(outcome, "traffic.kuma.io/transparent-proxy-config: wait: 'x'");
}

#[test]
fn a_dns_port_of_0_matters_where_dns_is_redirected() {
    let of = |enabled: bool| {
        let mut sources = sources(&[]);
        set(&mut sources, "INJECTOR_BUILTIN_DNS_PORT", "0");
        sources.config_map(&format!(r#"{{"redirect": {{"dns": {{"enabled": {enabled}}}}}}}"#), Format::Json);
        outcome(sources.resolve(), "redirect.dns.port")
    };
    assert_eq!(of(false), "15053");
    assert_eq!(of(true), "KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT: '0'");
}

#[test]
fn the_control_planes_family_mode_counts() {
    let mut one = sources(&[]);
    set(&mut one, "INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE", "ipv4");
    one.config_map(r#"{"ipFamilyMode": "dualstack"}"#, Format::Json);
    assert_eq!(one.resolve().unwrap().config.ip_family_mode, IpFamilyMode::Ipv4);
}

#[test]
fn no_source_redirects_a_pod_by_ebpf() {
    let on = r#"{"ebpf": {"enabled": true, "bpffsPath": "/mnt/bpf"}}"#;
    let mut by_system = sources(&[]);
    by_system.config_map(on, Format::Json);
    let error = by_system.resolve().unwrap_err().to_string();
    assert!(error.contains("ebpf.enabled: 'true'") && error.contains("agent"), "{error}");
    let written = sources(&[("traffic.kuma.io/transparent-proxy-config", on), ("kuma.io/sidecar-injected", "true")]);
    let error = written.resolve().unwrap_err().to_string();
    assert!(error.contains("ebpf.enabled: 'true'"), "{error}");
    let mut off = sources(&[]);
    off.config_map(r#"{"ebpf": {"enabled": false, "bpffsPath": "/mnt/bpf"}}"#, Format::Json);
    assert_eq!(off.resolve().unwrap().config.ebpf, crate::config::Ebpf::default());
}
