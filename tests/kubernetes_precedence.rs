//! Which source wins: the rules as a table, evaluated the plain way, against the library.
#![cfg(feature = "yaml")]

use std::collections::BTreeMap;

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;
use kumatp::config::kubernetes::{Pod, Sources};
use kumatp::config::{Format, Profile};
use serde_json::{Value, json};

/// How the sources of a key are weighed.
#[derive(Clone, Copy, PartialEq)]
enum Rule {
    /// Annotation, ConfigMap, control plane: the first that is not empty.
    FirstNonEmpty,
    /// Annotation, ConfigMap unless it says what is the default anyway, control plane.
    FirstButDefault,
    /// The control plane alone.
    ControlPlane,
    /// Annotation if present, ConfigMap.
    AnnotationThenMap,
    /// The ConfigMap alone.
    Map,
}
use Rule::*;

/// One row a key: the annotation and the control plane's variable (without their beginnings), the rule, the default, and
/// values to draw from as they stand in an annotation or variable, with the value that the configuration has then.
struct Row {
    key: &'static str,
    annotation: &'static str,
    variable: &'static str,
    rule: Rule,
    default: &'static str,
    values: &'static [(&'static str, &'static str)],
}

const PORTS: &[(&str, &str)] =
    &[("", "[]"), ("80", "[80]"), ("443,8080", "[443,8080]"), ("1000-2000,22", "[\"1000-2000\",22]")];
const IPS: &[(&str, &str)] =
    &[("", "[]"), ("10.0.0.1", "[\"10.0.0.1\"]"), ("10.0.0.0/8,fd00::/8", "[\"10.0.0.0/8\",\"fd00::/8\"]")];
const PORT: &[(&str, &str)] = &[("15001", "15001"), ("15006", "15006"), ("15053", "15053"), ("7000", "7000")];
const SWITCH: &[(&str, &str)] = &[("true", "true"), ("false", "false")];

const MODES: &[(&str, &str)] = &[("dualstack", "\"dualstack\""), ("ipv4", "\"ipv4\"")];
const USERS: &[(&str, &str)] = &[("5678", "\"5678\""), ("1337", "\"1337\""), ("0", "\"0\"")];
const UIDS: &[(&str, &str)] =
    &[("tcp:22:1000", "[\"tcp:22:1000\"]"), ("udp::7;tcp:80:9", "[\"udp:1-65535:7\",\"tcp:80:9\"]")];

#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("redirect.inbound.excludePorts", "traffic.kuma.io/exclude-inbound-ports", "SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS", FirstNonEmpty, "[]", PORTS),
    row("redirect.outbound.excludePorts", "traffic.kuma.io/exclude-outbound-ports", "SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS", FirstNonEmpty, "[]", PORTS),
    row("redirect.inbound.excludePortsForIPs", "traffic.kuma.io/exclude-inbound-ips", "SIDECAR_TRAFFIC_EXCLUDE_INBOUND_IPS", FirstNonEmpty, "[]", IPS),
    row("redirect.outbound.excludePortsForIPs", "traffic.kuma.io/exclude-outbound-ips", "SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_IPS", FirstNonEmpty, "[]", IPS),
    row("ipFamilyMode", "kuma.io/transparent-proxying-ip-family-mode", "INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE", FirstButDefault, "\"dualstack\"", MODES),
    row("kumaDPUser", "kuma.io/sidecar-uid", "INJECTOR_SIDECAR_CONTAINER_UID", ControlPlane, "\"5678\"", USERS),
    row("redirect.inbound.port", "", "INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_INBOUND", ControlPlane, "15006", PORT),
    row("redirect.outbound.port", "", "INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND", ControlPlane, "15001", PORT),
    row("redirect.dns.port", "", "INJECTOR_BUILTIN_DNS_PORT", ControlPlane, "15053", PORT),
    row("cniMode", "", "INJECTOR_CNI_ENABLED", ControlPlane, "false", SWITCH),
    row("redirect.dns.enabled", "", "INJECTOR_BUILTIN_DNS_ENABLED", Map, "false", SWITCH),
    row("redirect.dns.captureAll", "", "", Map, "false", SWITCH),
    row("redirect.outbound.enabled", "", "", Map, "true", SWITCH),
    row("dropInvalidPackets", "traffic.kuma.io/drop-invalid-packets", "", AnnotationThenMap, "false", SWITCH),
    row("log.enabled", "traffic.kuma.io/iptables-logs", "", AnnotationThenMap, "false", SWITCH),
    row("redirect.outbound.excludePortsForUIDs", "traffic.kuma.io/exclude-outbound-ports-for-uids", "", AnnotationThenMap, "[]", UIDS),
];

const fn row(
    key: &'static str,
    annotation: &'static str,
    variable: &'static str,
    rule: Rule,
    default: &'static str,
    values: &'static [(&'static str, &'static str)],
) -> Row {
    Row { key, annotation, variable, rule, default, values }
}

/// What each source says about a key: an index into the values of its row.
#[derive(Clone, Copy, Default, Debug)]
struct Said {
    annotation: Option<usize>,
    map: Option<usize>,
    control_plane: Option<usize>,
    custom: Option<usize>,
}

impl Said {
    fn any(u: &mut Unstructured<'_>, row: &Row) -> Result<Self> {
        let mut one = |there: bool| match there && u.arbitrary()? {
            true => u.choose_index(row.values.len()).map(Some),
            false => Ok(None),
        };
        Ok(Self {
            annotation: one(!row.annotation.is_empty())?,
            map: one(true)?,
            control_plane: one(!row.variable.is_empty())?,
            custom: one(true)?,
        })
    }
}

fn value(row: &Row, index: usize) -> Value {
    serde_json::from_str(row.values[index].1).unwrap()
}

/// The sources that say something about a key, in the order in which they count.
fn expected(row: &Row, said: Said, inbound: bool, custom_counts: bool) -> (Value, &'static str) {
    let default: Value = serde_json::from_str(row.default).unwrap();
    let of = |index: Option<usize>| index.map(|index| value(row, index));
    // An empty variable is none, of whatever kind.
    let control_plane = of(said.control_plane).filter(|value| *value != json!([]));
    let annotation = of(said.annotation).map(|value| (value, "annotation"));
    let map = of(said.map).map(|value| (value, "ConfigMap system/tp"));
    let control_plane = control_plane.map(|value| (value, "control plane, "));
    let full = |(value, _): &(Value, &str)| *value != json!([]);
    let changed = |(value, _): &(Value, &str)| *value != default;

    let operators = matches!(row.key, "kumaDPUser" | "cniMode");
    if let Some(custom) = of(said.custom).filter(|_| custom_counts && !operators) {
        return (custom, "ConfigMap web/own");
    }
    let about_inbound = row.key.starts_with("redirect.inbound.");
    let winner = match row.rule {
        _ if about_inbound && !inbound => map,
        FirstNonEmpty => annotation.filter(full).or(map.filter(full)).or(control_plane),
        FirstButDefault => annotation.or(map.filter(changed)).or(control_plane),
        ControlPlane => control_plane,
        AnnotationThenMap => annotation.or(map),
        Map => map,
    };
    winner.unwrap_or((default, ""))
}

/// A document in which these keys have these values.
fn document(values: &BTreeMap<&str, Value>) -> String {
    let mut root = json!({});
    for (key, value) in values {
        let mut at = &mut root;
        for name in key.split('.') {
            at = &mut at[name];
        }
        *at = value.clone();
    }
    root.to_string()
}

fn config_map(namespace: &str, name: &str, text: String) -> String {
    json!({"kind": "ConfigMap", "metadata": {"namespace": namespace, "name": name}, "data": {"config.yaml": text}})
        .to_string()
}

#[test]
fn the_order_of_precedence() {
    arbtest(|u| {
        let gateway: bool = u.ratio(1, 4)?;
        let custom_counts: bool = u.arbitrary()?;
        let probes = *u.choose(&[0u16, 9001, 80])?;
        let said: Vec<Said> = ROWS.iter().map(|row| Said::any(u, row)).collect::<Result<_>>()?;

        let mut annotations = BTreeMap::new();
        let mut variables =
            vec![("KUMA_RUNTIME_KUBERNETES_APPLICATION_PROBE_PROXY_PORT".to_owned(), probes.to_string())];
        let (mut map, mut custom) = (BTreeMap::new(), BTreeMap::new());
        for (row, said) in ROWS.iter().zip(&said) {
            if let Some(index) = said.annotation {
                annotations.insert(row.annotation.to_owned(), row.values[index].0.to_owned());
            }
            if let Some(index) = said.control_plane {
                variables.push((format!("KUMA_RUNTIME_KUBERNETES_{}", row.variable), row.values[index].0.to_owned()));
            }
            map.extend(said.map.map(|index| (row.key, value(row, index))));
            custom.extend(said.custom.map(|index| (row.key, value(row, index))));
        }
        if gateway {
            annotations.insert("kuma.io/gateway".to_owned(), (*u.choose(&["enabled", "provided"])?).to_owned());
        }
        if custom_counts {
            annotations.insert("traffic.kuma.io/transparent-proxy-configmap-name".to_owned(), "own".to_owned());
        }

        let mut sources = Sources::new();
        sources.pod(Pod::with_annotations(annotations));
        sources.control_plane(variables);
        sources.config_map(&config_map("system", "tp", document(&map)), Format::Json);
        sources.custom_config_map(&config_map("web", "own", document(&custom)), Format::Json);
        let resolved = sources.resolve().unwrap();
        let written: Value = serde_json::from_str(&resolved.config.to_json()).unwrap();

        for (row, said) in ROWS.iter().zip(&said) {
            let (mut value, source) = expected(row, *said, !gateway, custom_counts);
            let from_custom = source == "ConfigMap web/own";
            if row.key == "redirect.inbound.excludePorts" && !gateway && !from_custom && probes != 0 {
                let ports = value.as_array_mut().unwrap();
                if !ports.contains(&json!(probes)) {
                    ports.push(json!(probes));
                }
            }
            let found = written.pointer(&format!("/{}", row.key.replace('.', "/"))).cloned();
            let found = found.unwrap_or_else(|| serde_json::from_str(row.default).unwrap());
            assert_eq!(found, value, "{}: {said:?}", row.key);

            let origin = resolved.origin(row.key).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&origin.value).unwrap(), value, "{origin}");
            // Where nobody counts who set it, the source may be any that happens to say the same.
            if !source.is_empty() {
                let told = origin.source.to_string();
                assert!(told.starts_with(source), "{}: {told}, not {source}; {said:?}", row.key);
            }
            // Whoever else set it is listed.
            let set = [said.annotation, said.map, said.custom.filter(|_| custom_counts)].into_iter().flatten().count();
            let empty = said.annotation.filter(|index| row.values[*index].0.is_empty()).iter().count();
            let listed =
                origin.overridden.iter().filter(|other| !other.source.to_string().starts_with("control plane"));
            let winner = usize::from(!origin.source.to_string().starts_with("control plane") && origin.source.is_set());
            assert_eq!(listed.count() + winner, set - empty, "{origin}: {said:?}");
        }
        assert_eq!(resolved.config.redirect.inbound.enabled, !gateway);
        assert_eq!(resolved.sidecar_uid.to_string(), resolved.config.kuma_dp_user.unwrap());
        Ok(())
    })
    .budget_ms(10_000);
}

#[test]
fn the_injected_pod_gives_the_same() {
    arbtest(|u| {
        let mut pod = Pod::default();
        let (mut map, mut custom) = (BTreeMap::new(), BTreeMap::new());
        for row in ROWS {
            let said = Said::any(u, row)?;
            if let Some(index) = said.annotation {
                pod.annotations.insert(row.annotation.to_owned(), row.values[index].0.to_owned());
            }
            map.extend(said.map.map(|index| (row.key, value(row, index))));
            custom.extend(said.custom.map(|index| (row.key, value(row, index))));
        }
        let name = "traffic.kuma.io/transparent-proxy-configmap-name";
        let with_custom = |pod: &Pod| {
            let mut sources = Sources::new();
            let mut pod = pod.clone();
            pod.annotations.insert(name.to_owned(), "own".to_owned());
            sources.pod(pod);
            sources.config_map(&document(&map), Format::Json);
            sources.custom_config_map(&document(&custom), Format::Json);
            sources.resolve().unwrap()
        };
        let before = with_custom(&pod);

        let mut injector = Sources::new();
        injector.pod(pod.clone());
        injector.config_map(&document(&map), Format::Json);
        let written = injector.resolve().unwrap().annotations();
        pod.annotations.extend(written.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let after = with_custom(&pod);
        assert_eq!(after.config, before.config);
        assert!(after.from_annotation && !before.from_annotation);
        assert_eq!(after.sidecar_uid, before.sidecar_uid);
        Ok(())
    })
    .budget_ms(3_000);
}

#[test]
fn kuma_2_9_without_a_config_map() {
    let mut sources = Sources::new();
    sources.profile(Profile::Kuma29);
    let resolved = sources.resolve().unwrap();
    // DNS is redirected unless somebody says otherwise, and then all of it.
    assert!(resolved.config.redirect.dns.enabled && resolved.config.redirect.dns.capture_all);
    let origin = resolved.origin("redirect.dns.captureAll").unwrap();
    assert!(origin.source.to_string().contains("BUILTIN_DNS_ENABLED"), "{origin}");
}
