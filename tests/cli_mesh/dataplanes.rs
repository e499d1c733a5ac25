//! Dataplanes: made into configurations, checked, and compared with their host.

use kumatp::config::{Config, Format};
use serde_json::Value;

use crate::command::{kumatp, refused, text};
use crate::{ADDRESS, DATAPLANE, RESOURCES, asked, files, said};

#[test]
fn a_dataplane_as_a_configuration_and_back() {
    let yaml = said(&["config", "from-dataplane", DATAPLANE, ADDRESS], "");
    assert_eq!(Config::parse(&yaml, Format::Yaml).unwrap(), Config::default());
    let back = said(&["config", "to-dataplane", "--config=-", "--redirect-outbound-port=15101"], &yaml);
    assert_eq!(
        back,
        "networking:\n  transparentProxying:\n    redirectPortInbound: 15006\n    redirectPortOutbound: 15101\n    \
         ipFamilyMode: DualStack\n"
    );
    let json = said(&["config", "to-dataplane", "-ojson", "--redirect-inbound=false"], "");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.pointer("/networking/transparentProxying/redirectPortInbound"), None);

    let resource =
        "{type: Dataplane, name: a, networking: {address: '{{ a }}', transparentProxying: {redirectPortOutbound: 7}}}";
    let told = said(&["config", "from-dataplane", "-", "--var=a=fd00::1", "--explain"], resource);
    let from = "redirect.inbound.enabled = false\n  from networking.transparentProxying.redirectPortInbound\n";
    assert!(told.starts_with(from) && told.contains("By default:\n"), "{told}");
    let json = said(&["config", "from-dataplane", "-", "--var=a=fd00::1", "--explain", "-ojson"], resource);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json.pointer("/config/redirect/outbound/port"), Some(&7.into()));
    assert!(json["origins"].as_array().unwrap().len() > 20);

    let ipv4 = resource.replace("redirectPortOutbound: 7", "redirectPortOutbound: 7, ipFamilyMode: IPv4");
    let (_, warnings) = asked(&["config", "from-dataplane", "-", "--var=a=fd00::1"], &ipv4);
    assert!(warnings.starts_with("warning: networking.address: is fd00::1"), "{warnings}");
}

#[test]
fn variables_from_files_and_flags() {
    let directory = files("variables", &[("vars", "address=192.0.2.7\n"), ("wrong", "address\n")]);
    let file = |name: &str| format!("--var-file={}", directory.join(name).display());
    assert_eq!(said(&["dataplane", "validate", DATAPLANE, &file("vars")], ""), format!("{DATAPLANE}: valid\n"));
    refused(2, &["dataplane", "validate", DATAPLANE, &file("wrong")], "", &["wrong: line 1: 'address'", "NAME=VALUE"]);
    let bad = ["dataplane", "validate", DATAPLANE, &file("vars"), "--var=address=a: b"];
    refused(2, &bad, "", &["error: variable address: 'a: b'"]);
    refused(2, &["dataplane", "validate", DATAPLANE], "", &[&format!("{DATAPLANE}: line 7: '{{{{ address }}}}'")]);
    for wrong in ["address", "=1"] {
        refused(2, &["dataplane", "validate", DATAPLANE, "--var", wrong], "", &["--var: ", wrong, "address=192.0.2.7"]);
    }
}

#[test]
fn every_violation_of_every_dataplane_at_once() {
    let wrong = r#"{"type": "Dataplane", "name": "a", "networking": {"inbound": [{"port": 0}], "transparentProxying": {
        "ipFamilyMode": "ipv4", "reachableBackends": {"refs": [{"kind": "MeshMulitZoneService", "name": "a"}, {"kind": "MeshService"}]}}}}"#;
    let directory = files("violations", &[("a.json", wrong), ("b.yaml", "type: Mesh")]);
    let path = |name: &str| directory.join(name).display().to_string();
    let (a, b) = (path("a.json"), path("b.yaml"));
    let output = kumatp(&["dataplane", "validate", &a, DATAPLANE, &b, ADDRESS], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), format!("{DATAPLANE}: valid\n")));
    let stderr = text(&output.stderr);
    for line in [
        format!("error: {a}: networking.inbound[0].port: '0'"),
        format!("error: {a}: networking.transparentProxying.ipFamilyMode: 'ipv4'"),
        format!("error: {a}: networking.transparentProxing.reachableBackends.refs[0].kind: 'MeshMulitZoneService'"),
        format!("error: {a}: networking.transparentProxing.reachableBackends.refs[1].name: ''"),
        format!("error: {b}: type: 'Mesh' is not valid: expected Dataplane"),
    ] {
        assert!(stderr.contains(&line), "{line}: {stderr}");
    }
    assert!(stderr.contains("did you mean 'MeshMultiZoneService'?"), "{stderr}");
    refused(2, &["config", "from-dataplane", &b], "", &[&format!("{b}: type")]);
    refused(
        2,
        &["config", "from-dataplane", "-"],
        "{type: Dataplane, name: a}",
        &["-: networking.transparentProxying"],
    );
    refused(2, &["dataplane", "validate", "/nowhere"], "", &["/nowhere"]);
    refused(2, &["dataplane"], "", &["validate"]);
}

/// By the rules of both generations, with what Kuma drops as warnings.
#[test]
fn dataplanes_by_the_rules_of_a_generation() {
    let older = "{type: Dataplane, mesh: default, name: a, networking: {address: 192.0.2.7, \
                 inbound: [{port: 80, tags: {kuma.io/service: a}}], outbound: [{port: 1, tags: {kuma.io/service: b}}]}}";
    let validate = ["dataplane", "validate", "-"];
    let by = |profile| [&validate[..], &[profile]].concat();
    assert_eq!(asked(&by("--profile=kuma-2.9"), older), ("-: valid\n".into(), String::new()));
    refused(2, &by("--profile=kuma-3"), older, &["error: -: networking.outbound[0].backendRef: ''"]);
    refused(2, &validate, older, &["networking.outbound[0].backendRef"]);
    refused(2, &by("--profile=kuma-4"), older, &["kuma-4"]);

    let dropped = older.replace("outbound", "outbounds");
    let (out, warnings) = asked(&validate, &dropped);
    assert_eq!(out, "-: valid\n");
    for line in [
        "warning: -: networking.inbound[0].tags: has no effect in the profile kuma-3",
        "warning: -: networking.outbounds: is unknown, and Kuma drops it; did you mean `outbound`?",
    ] {
        assert!(warnings.contains(line), "{line}: {warnings}");
    }
    let strict = kumatp(&[&validate[..], &["--strict", "--json"]].concat(), &dropped);
    assert_eq!(strict.status.code(), Some(1));
    let told: Value = serde_json::from_str(&text(&strict.stdout)).unwrap();
    assert_eq!((&told["valid"], told["files"][0]["warnings"].as_array().unwrap().len()), (&Value::Bool(true), 2));
    // What the transparent proxy depends on is right in both.
    said(&["reachable", "--dataplane=-", RESOURCES, "--profile=kuma-2.9"], older);
}

#[test]
fn a_dataplane_beside_its_host() {
    let compared = |host: &str| asked(&["dataplane", "validate", DATAPLANE, ADDRESS, "--config=-"], host);
    assert_eq!(compared(""), (format!("{DATAPLANE}: valid\n"), String::new()));
    let (out, warnings) =
        compared("{ipFamilyMode: ipv4, redirect: {inbound: {excludePorts: [8080]}, outbound: {port: 15101}}}");
    assert_eq!(out, format!("{DATAPLANE}: valid\n"));
    for about in [
        "redirect.outbound.port: the host redirects to 15101",
        "ipFamilyMode: the host has",
        "networking.inbound[0].port: ",
    ] {
        assert!(warnings.contains(&format!("warning: {DATAPLANE}: {about}")), "{about}: {warnings}");
    }
    refused(2, &["dataplane", "validate", DATAPLANE, ADDRESS, "--config=-"], "wait: soon", &["wait", "'soon'"]);
}
