//! Pods on Kubernetes: the data of Kuma's own tests, and configurations in annotations.
#![cfg(feature = "yaml")]

#[path = "common/generate.rs"]
#[expect(dead_code, reason = "only configurations are generated here")]
mod generate;
#[path = "common/problems.rs"]
mod problems;

use std::collections::BTreeMap;

use arbtest::arbtest;
use kumatp::config::kubernetes::{Annotation, Pod, Sources, Variable, to_annotation, transparent_proxying};
use kumatp::config::{Format, Profile};
use serde_json::{Value, json};

const PREFIX: &str = "KUMA_RUNTIME_KUBERNETES_";

fn texts(value: &Value) -> BTreeMap<String, String> {
    value.as_object().unwrap().iter().map(|(name, text)| (name.clone(), text.as_str().unwrap().to_owned())).collect()
}

/// The keys of the control plane's configuration file, and the variables that set the same. What the file does not name
/// is zero in Kuma's tests, where the file comes over nothing.
fn variables(file: &Value) -> Vec<(String, String)> {
    let text = |path: &str| match file.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => items.iter().map(Value::to_string).collect::<Vec<_>>().join(","),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let or_zero = |path| Some(text(path)).filter(|text| !text.is_empty()).unwrap_or_else(|| "0".to_owned());
    [
        ("SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS", text("/sidecarTraffic/excludeInboundPorts")),
        ("SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS", text("/sidecarTraffic/excludeOutboundPorts")),
        ("INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_INBOUND", text("/sidecarContainer/redirectPortInbound")),
        ("INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND", text("/sidecarContainer/redirectPortOutbound")),
        ("INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE", text("/sidecarContainer/ipFamilyMode")),
        ("INJECTOR_SIDECAR_CONTAINER_UID", text("/sidecarContainer/uid")),
        ("INJECTOR_BUILTIN_DNS_ENABLED", text("/builtinDNS/enabled")),
        ("INJECTOR_BUILTIN_DNS_PORT", or_zero("/builtinDNS/port")),
        ("INJECTOR_CNI_ENABLED", text("/cniEnabled")),
        ("APPLICATION_PROBE_PROXY_PORT", text("/applicationProbeProxyPort")),
    ]
    .map(|(suffix, value)| (format!("{PREFIX}{suffix}"), value))
    .to_vec()
}

/// A pod with probes to these ports.
fn pod(case: &Value) -> String {
    let probes = case["probes"].as_object().cloned().unwrap_or_default();
    let probe = |(name, port): (String, Value)| (name, json!({"httpGet": {"path": "/metrics", "port": port}}));
    let mut container: serde_json::Map<String, Value> = probes.into_iter().map(probe).collect();
    container.insert("name".into(), json!("busybox"));
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "busybox", "annotations": case["annotations"]},
        "spec": {"containers": [container]},
    })
    .to_string()
}

#[test]
fn the_injectors_own_cases() {
    let cases: Vec<Value> =
        serde_json::from_str(include_str!("fixtures/kubernetes/injector-annotations.json")).unwrap();
    let mut different = Vec::new();
    for case in &cases {
        let number = case["case"].as_str().unwrap();
        let mut sources = Sources::new();
        sources.pod_document(&pod(case), Format::Json);
        sources.control_plane(variables(&case["control_plane"]));
        let resolved = sources.resolve().unwrap_or_else(|error| panic!("case {number}: {error}"));

        let mut written = resolved.annotations();
        let annotation = written.remove("traffic.kuma.io/transparent-proxy-config").unwrap();
        let mut config: Value = yaml_serde::from_str(&annotation).unwrap();
        let mut expected = case["config"].clone();

        // A port of 0 is not kept where DNS is not redirected (kuma-limits, row 29: it is what kumactl itself refuses).
        if expected["redirect"]["dns"]["port"] == 0 {
            assert_eq!(expected["redirect"]["dns"]["enabled"], false);
            assert_eq!(config["redirect"]["dns"]["port"], 15053);
            expected["redirect"]["dns"]["port"] = json!(15053);
        }
        if config != expected {
            different.push(number.to_owned());
            // The control plane's family mode counts (kuma-limits, row 46); nothing else differs.
            assert_eq!((&config["ipFamilyMode"], &expected["ipFamilyMode"]), (&json!("ipv4"), &json!("dualstack")));
            config["ipFamilyMode"] = json!("dualstack");
            assert_eq!(config, expected, "case {number}");
        }

        assert_eq!(written.remove("kuma.io/sidecar-injected").as_deref(), Some("true"));
        let written: BTreeMap<String, String> =
            written.into_iter().map(|(name, text)| (name.to_owned(), text)).collect();
        assert_eq!(written, texts(&case["written"]), "case {number}");
    }
    assert_eq!(cases.len(), 41);
    assert_eq!(different, ["41"]);
}

#[test]
fn the_pod_converters_own_cases() {
    let cases: Vec<Value> = serde_json::from_str(include_str!("fixtures/kubernetes/pod-to-dataplane.json")).unwrap();
    for case in &cases {
        let number = case["case"].as_str().unwrap();
        let mut pod = Pod::with_annotations(texts(&case["annotations"]));
        // These pods are selected by Services of zone proxies alone, which the data does not show.
        pod.zone_proxy_only = ["36", "38", "39", "40", "41", "42", "44"].contains(&number);
        let (section, notes) = transparent_proxying(&pod, Profile::Kuma3).unwrap();
        let section = section.map_or(Value::Null, |section| serde_json::from_str(&section.to_json()).unwrap());
        assert_eq!(section, case["transparentProxying"], "case {number}");
        assert!(notes.is_empty(), "case {number}: {notes:?}");

        // It is the same beside everything else, and the annotation with the configuration is one.
        let mut sources = Sources::new();
        sources.pod(pod);
        let resolved = sources.resolve().unwrap();
        assert_eq!(resolved.transparent_proxying.is_some(), !section.is_null(), "case {number}");
        assert_eq!(
            resolved.from_annotation,
            !case["annotations"]["traffic.kuma.io/transparent-proxy-config"].is_null()
        );
    }
    assert_eq!(cases.len(), 18);
}

#[test]
fn a_configuration_in_an_annotation_reads_back_as_itself() {
    arbtest(|u| {
        let mut config = generate::config(u)?;
        config.kuma_dp_user = Some("5678".to_owned());
        config.cni_mode = u.arbitrary()?;
        let annotation = to_annotation(&config);
        // No document has the names of chains, and the level of a log that is off says nothing.
        let default = kumatp::Config::default();
        config.redirect.inbound.chains = default.redirect.inbound.chains.clone();
        config.redirect.outbound.chains = default.redirect.outbound.chains.clone();
        if !config.log.enabled {
            config.log = default.log;
        }
        for profile in Profile::ALL {
            let mut sources = Sources::new();
            sources.profile(profile);
            sources.pod(Pod::with_annotations([
                ("traffic.kuma.io/transparent-proxy-config".to_owned(), annotation.clone()),
                ("kuma.io/sidecar-injected".to_owned(), "true".to_owned()),
                // All of it is in the other.
                ("traffic.kuma.io/exclude-inbound-ports".to_owned(), "1".to_owned()),
            ]));
            sources.config_map("dropInvalidPackets: true", Format::Yaml);
            let resolved = sources.resolve().unwrap();
            assert_eq!(resolved.config, config, "{annotation}");
            assert!(resolved.from_annotation && resolved.notes.is_empty(), "{:?}", resolved.notes);
            assert_eq!(resolved.annotations()["traffic.kuma.io/transparent-proxy-config"], annotation);
        }
        Ok(())
    })
    .budget_ms(3_000);
}

#[test]
fn what_is_left_out_of_the_annotation() {
    let written = |change: fn(&mut kumatp::Config)| {
        let mut config = kumatp::Config::default();
        change(&mut config);
        let value: Value = yaml_serde::from_str(&to_annotation(&config)).unwrap();
        value
    };
    let plain = written(|_| {});
    let expected = json!({
        "ipFamilyMode": "dualstack",
        "kumaDPUser": "",
        "redirect": {
            "dns": {"captureAll": false, "enabled": false, "port": 15053, "resolvConfigPath": "/etc/resolv.conf", "skipConntrackZoneSplit": false},
            "inbound": {"enabled": true, "port": 15006},
            "outbound": {"enabled": true, "port": 15001},
        },
        "retry": {"maxRetries": 4, "sleepBetweenRetries": "2s"},
        "wait": 5,
        "waitInterval": 0,
    });
    assert_eq!(plain, expected);
    assert_eq!(written(|config| config.log.level = kumatp::model::LogLevel::new(3).unwrap()), expected);
    assert_eq!(written(|config| config.log.enabled = true)["log"], json!({"enabled": true, "level": 7}));
    assert_eq!(written(|config| config.comments.disabled = true)["comments"], json!({"disabled": true}));
    let vnet = written(|config| config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()]);
    assert_eq!(vnet["redirect"]["vnet"], json!({"networks": ["docker0:172.17.0.0/16"]}));
}

#[test]
fn no_source_makes_the_reader_panic() {
    const PIECES: &[&str] = &[
        "true",
        "enabled",
        "0",
        "9000",
        "70000",
        "a,b",
        ";",
        ":80:",
        "10.0.0.0/8",
        "ipv6",
        "dualstack",
        "{",
        "refs:",
        "- ",
        "kind: Pod\n",
        "metadata:\n",
        " annotations:\n",
        "  kuma.io/gateway: \"x\"\n",
        "data:\n  config.yaml: |\n",
        "   wait: 1\n",
        "redirect: {dns: {port: 0, enabled: true}}\n",
        "\0",
        "é",
    ];
    let annotations: Vec<Annotation> = Annotation::all().collect();
    let variables: Vec<Variable> = Variable::all().collect();
    arbtest(|u| {
        let text = |u: &mut arbitrary::Unstructured<'_>| -> arbitrary::Result<String> {
            (0..u.int_in_range(0..=4)?).map(|_| u.choose(PIECES).copied()).collect()
        };
        let mut sources = Sources::new();
        sources.profile(*u.choose(&Profile::ALL)?);
        match u.ratio(1, 4)? {
            true => sources.pod_document(&text(u)?, Format::Yaml),
            false => {
                let mut pod = BTreeMap::new();
                for _ in 0..u.int_in_range(0..=4)? {
                    pod.insert(u.choose(&annotations)?.name().to_owned(), text(u)?);
                }
                sources.pod(Pod::with_annotations(pod));
            }
        }
        for _ in 0..u.int_in_range(0..=3)? {
            sources.control_plane([(u.choose(&variables)?.name().to_owned(), text(u)?)]);
        }
        if u.arbitrary()? {
            sources.config_map(&text(u)?, Format::Yaml);
        }
        if u.arbitrary()? {
            sources.custom_config_map(&text(u)?, Format::Yaml);
        }
        match sources.resolve() {
            Ok(resolved) => assert!(resolved.notes.iter().all(|note| !note.to_string().contains(char::is_control))),
            Err(error) => {
                problems::are_told(&error);
            }
        }
        Ok(())
    })
    .budget_ms(3_000);
}
