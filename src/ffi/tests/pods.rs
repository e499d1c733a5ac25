//! Configurations of pods by C are those by Rust.

use arbtest::arbtest;
use serde_json::json;

use super::*;
use crate::config::kubernetes::{Pod, Resolved, Sources, to_annotation};
use crate::config::{Config, Format, Profile};
use crate::error::Error;

const POD: &str = r#"{"kind": "Pod", "metadata": {"name": "web", "annotations": {
    "traffic.kuma.io/exclude-inbound-ports": "8081", "kuma.io/reachable-backends": "{}",
    "traffic.kuma.io/transparent-proxy-configmap-name": "own"}}}"#;
const CONFIG_MAP: &str = "redirect: {dns: {enabled: true, captureAll: true}}\nkumaDPUser: '7'\n";
const CUSTOM: &str = r#"{"kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"config.yaml": "wait: 7"}}"#;
const OUTBOUND: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND";
const ADMIN: &str = "KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_PORT";

/// The configuration and the report.
type Pair = Result<(*mut kumatp_config, Value), (kumatp_status, String, Option<String>)>;

fn from_pod(sources: &str) -> Pair {
    let (text, len) = data(sources);
    let mut report = null_mut();
    // SAFETY: a text and slots that outlive the call.
    let config = call(|out, err| unsafe { kumatp_config_from_pod(text, len, out, &raw mut report, err) });
    match config {
        Ok(config) => Ok((config, json(Ok(report)))),
        Err(error) => {
            assert!(report.is_null(), "a report is written only on success");
            Err(error)
        }
    }
}

/// The configuration as a document, with its report; the handle is freed.
fn resolved(sources: &Value) -> (String, Value) {
    let (config, report) = from_pod(&sources.to_string()).unwrap();
    // SAFETY: given out by the call, and freed after its use.
    unsafe {
        let document = take(call(|out, err| kumatp_config_to_json(config, out, err)));
        let notes = json(call(|out, err| kumatp_config_notes(config, out, err)));
        assert_eq!(notes, report["notes"]);
        assert_eq!(serde_json::from_str::<Value>(&document).unwrap(), report["config"]);
        kumatp_config_free(config);
        (document, report)
    }
}

fn refused(sources: &str) -> (kumatp_status, String, String) {
    let (status, message, field) = from_pod(sources).unwrap_err();
    (status, message, field.unwrap_or_default())
}

fn rust(profile: Profile) -> Resolved {
    let mut sources = Sources::new();
    sources.profile(profile);
    sources.pod_document(POD, Format::Json);
    sources.control_plane([(OUTBOUND.to_owned(), "15101".to_owned()), (ADMIN.to_owned(), "1".to_owned())]);
    sources.config_map(CONFIG_MAP, Format::Yaml);
    sources.custom_config_map(CUSTOM, Format::Json);
    sources.resolve().unwrap()
}

#[test]
fn every_form_of_the_sources_says_the_same_as_rust() {
    let pod: Value = serde_json::from_str(POD).unwrap();
    let custom: Value = serde_json::from_str(CUSTOM).unwrap();
    let object = json!({OUTBOUND: "15101", ADMIN: "1"});
    let list = json!([format!("{OUTBOUND}=15101"), format!("{ADMIN}=1"), "PATH=/bin:a=b", "EMPTY="]);
    let lines = json!(format!("# of the control plane\n{OUTBOUND}=15101\r\n\n  # more\n{ADMIN}=1\n"));
    for profile in Profile::ALL {
        let rust = rust(profile);
        let forms = [(&pod, &object, &custom), (&json!(POD), &list, &json!(CUSTOM)), (&pod, &lines, &custom)];
        for (pod, variables, custom) in forms {
            let (document, report) = resolved(&json!({
                "profile": profile.to_string(), "pod": pod, "controlPlane": variables, "configMap": CONFIG_MAP,
                "customConfigMap": custom,
            }));
            assert_eq!(document, rust.config.to_json() + "\n");
            assert_eq!(report["origins"], serde_json::to_value(&rust.origins).unwrap());
            assert_eq!(report["notes"], serde_json::to_value(&rust.notes).unwrap());
            assert_eq!(report["annotations"], serde_json::to_value(rust.annotations()).unwrap());
            assert_eq!(report["transparentProxying"], serde_json::to_value(&rust.transparent_proxying).unwrap());
            assert_eq!(report["sidecarUid"], json!(rust.sidecar_uid.number()));
            assert_eq!(report["sidecarGid"], 5678);
            assert_eq!((&report["adminPort"], &report["probeProxyPort"]), (&json!(1), &json!(9001)));
            let switches = ["gateway", "injected", "fromAnnotation"].map(|name| report[name].as_bool());
            assert_eq!(switches, [Some(false), Some(false), Some(false)]);
        }
    }
}

#[test]
fn nothing_given_is_kumas_default_and_the_report_is_optional() {
    let (document, report) = resolved(&json!({}));
    let rust = Sources::new().resolve().unwrap();
    assert_eq!(document, rust.config.to_json() + "\n");
    assert_eq!(report["origins"].as_array().map(Vec::len), Some(rust.origins.len()));
    let keys: Vec<_> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        keys,
        [
            "adminPort",
            "annotations",
            "config",
            "fromAnnotation",
            "gateway",
            "injected",
            "notes",
            "origins",
            "probeProxyPort",
            "sidecarGid",
            "sidecarUid"
        ]
    );
    let (text, len) = data("{\"pod\": null}");
    // SAFETY: a text and slots that outlive the call, and the handle that it gives out.
    unsafe {
        let config = call(|out, err| kumatp_config_from_pod(text, len, out, null_mut(), err)).unwrap();
        assert_eq!(take(call(|out, err| kumatp_config_to_json(config, out, err))), document);
        kumatp_config_free(config);
        // With nowhere to put the configuration there is no report either.
        let mut report = null_mut();
        assert_eq!(kumatp_config_from_pod(text, len, null_mut(), &raw mut report, null_mut()), KUMATP_E_ARGUMENT);
        assert!(report.is_null());
    }
}

#[test]
fn a_pod_and_what_is_not_in_its_document() {
    let (_, report) = resolved(&json!({"annotations": {"kuma.io/gateway": "enabled"}}));
    assert_eq!((&report["gateway"], report.get("probeProxyPort")), (&json!(true), None));
    let pod = json!({"kind": "Pod"});
    let section = |only: bool| resolved(&json!({"pod": pod, "zoneProxyOnly": only})).1["transparentProxying"].clone();
    let mut rust = Pod::default();
    for only in [false, true] {
        rust.zone_proxy_only = only;
        let expected = crate::config::kubernetes::transparent_proxying(&rust, Profile::Kuma3).unwrap().0;
        assert_eq!(section(only), serde_json::to_value(expected).unwrap());
    }
    assert_ne!(section(false), section(true));
}

#[test]
fn the_annotation_goes_there_and_back() {
    let text =
        "redirect: {inbound: {excludePorts: [22]}, dns: {enabled: true}}\nkumaDPUser: '5678'\nlog: {enabled: true}";
    let config = parse(text).unwrap();
    // SAFETY: given out by the call, and freed after its use.
    let annotation = unsafe {
        let annotation = take(call(|out, err| kumatp_config_to_annotation(config, out, err)));
        kumatp_config_free(config);
        annotation
    };
    let rust = Config::parse(text, Format::Yaml).unwrap();
    assert_eq!(annotation, to_annotation(&rust));
    let (document, report) = resolved(&json!({"annotations": {
        "kuma.io/sidecar-injected": "true", "traffic.kuma.io/transparent-proxy-config": annotation,
    }}));
    assert_eq!(document, rust.to_json() + "\n");
    assert_eq!((&report["fromAnnotation"], &report["injected"]), (&json!(true), &json!(true)));
    assert_eq!(report["annotations"]["traffic.kuma.io/transparent-proxy-config"], annotation);
}

#[test]
fn what_is_no_document_of_sources_is_a_wrong_argument() {
    for (sources, says) in [
        ("", "sources: EOF while parsing a value at line 1 column 0"),
        ("[]", "sources: expected a JSON object, and was given something that begins with '['"),
        ("{\"pods\": {}}", "unknown field `pods`, expected one of `profile`, `pod`, "),
        ("{\"pod\": {}, \"pod\": {}}", "duplicate field `pod`"),
        ("{\"pod\": {}, \"annotations\": {}}", "sources: expected either \"pod\" or \"annotations\""),
        ("{\"annotations\": {\"kuma.io/gateway\": true}}", "expected a string at line 1"),
        ("{\"zoneProxyOnly\": 1}", "expected a boolean"),
        ("{\"profile\": 3}", "expected a string"),
        ("{\"controlPlane\": {\"A\": 1}}", "sources: controlPlane: invalid type: integer `1`, expected a string"),
        ("{\"controlPlane\": 7}", "sources: controlPlane: invalid type: integer `7`, expected a map"),
    ] {
        let (status, message, field) = refused(sources);
        assert_eq!((status, field.as_str()), (KUMATP_E_ARGUMENT, "sources"), "{sources}: {message}");
        assert!(message.contains(says), "{sources}: {message}");
    }
}

#[test]
fn wrong_sources_are_named_all_at_once() {
    let sources = json!({
        "pod": "metadata: {annotations: {kuma.io/gateway: on, traffic.kuma.io/exclude-inbound-ports: \"70000\"}}",
        "controlPlane": {OUTBOUND: "outbound"}, "configMap": {"redirect": {"dns": {"port": "x"}}},
    });
    let (status, message, field) = refused(&sources.to_string());
    assert_eq!((status, field.as_str()), (KUMATP_E_CONFIG, "kuma.io/gateway"), "{message}");
    for part in ["traffic.kuma.io/exclude-inbound-ports: '70000'", OUTBOUND, "system ConfigMap: redirect.dns.port: 'x'"]
    {
        assert!(message.contains(part), "nothing of {part} in {message}");
    }
    for (sources, path) in [
        (json!({"profile": "kuma-2"}), "profile"),
        (json!({"controlPlane": ["A=1", "B"]}), "controlPlane[1]"),
        (json!({"controlPlane": "A=1\n\nB"}), "controlPlane: line 3"),
        (json!({"pod": 3}), "pod"),
        (json!({"pod": {"kind": "Deployment"}}), "kind"),
        (json!({"pod": {"type": "Dataplane", "mesh": "default", "name": "web"}}), "type"),
        (json!({"pod": {"networking": {}}}), "pod"),
        (json!({"pod": "{"}), "pod: line 2 column 1"),
        (json!({"configMap": "["}), "system ConfigMap: line 2 column 1"),
        (
            json!({"annotations": {"traffic.kuma.io/transparent-proxy-config": "dryRun: true"}}),
            "traffic.kuma.io/transparent-proxy-config: dryRun",
        ),
    ] {
        let (status, message, field) = refused(&sources.to_string());
        assert_eq!((status, field.as_str()), (KUMATP_E_CONFIG, path), "{sources}: {message}");
        assert!(
            [" is not valid: expected ", ": not valid YAML: "].iter().any(|text| message.contains(text)),
            "{message}"
        );
    }
    // A key that is there twice is seen, since the Pod is read as it is given.
    let twice = r#"{"pod": {"metadata": {"annotations": {"a": "1", "a": "2"}}}}"#;
    assert_eq!(refused(twice).2, "a");
}

#[test]
fn random_annotations_end_as_in_rust() {
    const NAMES: [&str; 6] = [
        "traffic.kuma.io/exclude-inbound-ports",
        "traffic.kuma.io/exclude-outbound-ports-for-uids",
        "kuma.io/transparent-proxying-ip-family-mode",
        "kuma.io/gateway",
        "kuma.io/builtin-dns",
        "traffic.kuma.io/transparent-proxy-config",
    ];
    const VALUES: [&str; 9] = ["enabled", "ipv4", "80,90", "tcp:22:7", "", "{wait: 7}", "\u{0}", "0", "\"\\{\u{e9}\n"];
    let (answered, wrong) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    arbtest(|u| {
        let profile = *u.choose(&Profile::ALL)?;
        let mut annotations = std::collections::BTreeMap::new();
        for _ in 0..u.int_in_range(0..=3)? {
            annotations.insert((*u.choose(&NAMES)?).to_owned(), (*u.choose(&VALUES)?).to_owned());
        }
        let sources = json!({"profile": profile.to_string(), "annotations": annotations}).to_string();
        let mut rust = Sources::new();
        rust.profile(profile);
        rust.pod(Pod::with_annotations(annotations));
        match (from_pod(&sources), rust.resolve()) {
            (Ok((config, report)), Ok(rust)) => {
                // SAFETY: given out by the call, and freed after its use.
                unsafe {
                    assert_eq!(
                        take(call(|out, err| kumatp_config_to_json(config, out, err))),
                        rust.config.to_json() + "\n"
                    );
                    kumatp_config_free(config);
                }
                assert_eq!(report["origins"], serde_json::to_value(&rust.origins).unwrap());
                answered.set(answered.get() + 1);
            }
            (Err((status, message, field)), Err(Error::Config(problems))) => {
                assert_eq!((status, field.as_deref()), (KUMATP_E_CONFIG, Some(problems[0].path.as_str())));
                assert_eq!(message, Error::Config(problems).to_string());
                wrong.set(wrong.get() + 1);
            }
            (c, rust) => panic!("{sources}: {c:?} is not {rust:?}"),
        }
        Ok(())
    })
    .budget_ms(2_000);
    assert!(answered.get() > 1 && wrong.get() > 1, "{} answered, {} refused", answered.get(), wrong.get());
}
