//! The commands about pods, Dataplanes and what they reach, as a user meets them.
#![cfg(feature = "cli")]
#![expect(clippy::duplicate_mod, reason = "both of what is shared here can say that a test was skipped")]

#[path = "common/command.rs"]
mod command;
#[path = "common/isolated.rs"]
mod isolated;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use kumatp::config::kubernetes::Sources;
use kumatp::config::{Config, Format};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use self::command::{in_a_namespace, kumatp, refused, text, with_variables};
use self::isolated::{isolated, run};

const POD: &str = "examples/kubernetes/pod.yaml";
const CP_ENV: &str = "--cp-env=examples/kubernetes/cp.env";
const CONFIG_MAP: &str = "--configmap=examples/kubernetes/configmap.yaml";
const DATAPLANE: &str = "examples/vm/dataplane.yaml";
const ADDRESS: &str = "--var=address=192.0.2.7";
const RESOURCES: &str = "--resources=examples/vm/resources";

/// A clean run: what it prints, and what it warns of.
fn asked(args: &[&str], stdin: &str) -> (String, String) {
    let output = kumatp(args, stdin);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn said(args: &[&str], stdin: &str) -> String {
    asked(args, stdin).0
}

/// A directory for a test, with these files.
fn files(test: &str, files: &[(&str, &str)]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-mesh-{test}"));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
    directory
}

fn pod(annotations: &str) -> String {
    format!("{{kind: Pod, metadata: {{name: a, namespace: b, annotations: {{{annotations}}}}}}}")
}

#[test]
fn a_pod_as_a_configuration() {
    let (yaml, warnings) = asked(&["config", "from-pod", POD, CP_ENV, CONFIG_MAP], "");
    assert_eq!(warnings, "", "a clean run writes nothing to standard error");
    let config = Config::parse(&yaml, Format::Yaml).unwrap();
    assert_eq!(config.redirect.inbound.exclude_ports.to_string(), "9090,9001");
    assert_eq!(config.redirect.outbound.exclude_ports.to_string(), "5432");
    assert!(config.drop_invalid_packets && config.redirect.dns.capture_all);
    let json =
        said(&["config", "from-pod", "-", "-o", "json", CP_ENV, CONFIG_MAP], &std::fs::read_to_string(POD).unwrap());
    assert_eq!(Config::parse(&json, Format::Json).unwrap(), config);
}

#[test]
fn a_pod_explained() {
    let args = ["config", "from-pod", POD, CP_ENV, CONFIG_MAP, "--explain"];
    let told = said(&args, "");
    let lost = "redirect.outbound.excludePorts = [5432]\n  from annotation traffic.kuma.io/exclude-outbound-ports\n  \
                not  [3306] from control plane, KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS\n";
    assert!(told.contains(lost), "{told}");
    assert!(told.contains("By default of the control plane:\n  kumaDPUser = \"5678\"\n"), "{told}");
    for origin in Sources::new().resolve().unwrap().origins {
        let begin = format!("{} = ", origin.key);
        assert_eq!(told.lines().filter(|line| line.trim_start().starts_with(&begin)).count(), 1, "{begin}: {told}");
    }

    let json: Value = serde_json::from_str(&said(&[&args[..], &["--output=json"]].concat(), "")).unwrap();
    assert_eq!(json.pointer("/config/redirect/outbound/excludePorts/0"), Some(&5432.into()));
    let origin = json["origins"].as_array().unwrap().iter().find(|one| one["key"] == "redirect.outbound.excludePorts");
    assert_eq!(origin.unwrap().pointer("/overridden/0/value"), Some(&"[3306]".into()));
    assert!(said(&[&args[..], &["--output=yaml"]].concat(), "").contains("sidecarUid: 5678"));
}

#[test]
fn what_the_injector_writes_is_read_back() {
    let annotations = said(&["config", "from-pod", POD, CP_ENV, CONFIG_MAP, "--annotation"], "");
    let indented: String = annotations.lines().map(|line| format!("    {line}\n")).collect();
    let injected = format!("kind: Pod\nmetadata:\n  annotations:\n{indented}");
    let before = said(&["config", "from-pod", POD, CP_ENV, CONFIG_MAP], "");
    assert_eq!(said(&["config", "from-pod", "-"], &injected), before);
    let json: Value =
        serde_json::from_str(&said(&["config", "from-pod", "-", "--annotation", "-ojson"], &injected)).unwrap();
    assert_eq!(json["kuma.io/sidecar-injected"], "true");
}

#[test]
fn settings_of_the_control_plane() {
    const PORT: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND";
    let directory = files("settings", &[("cp.env", &format!("# comment\nexport {PORT}='15201'\n"))]);
    let file = format!("--cp-env={}", directory.join("cp.env").display());
    let port = |args: &[&str], stdin: &str| {
        let args = [&["config", "from-pod", POD, "-ojson"], args].concat();
        let output = with_variables(&args, stdin, &[(PORT, "15301")]);
        let config = Config::parse(&text(&output.stdout), Format::Json).unwrap();
        config.redirect.outbound.port.number()
    };
    // The environment counts only if it is asked for.
    assert_eq!(port(&[], ""), 15001);
    assert_eq!(port(&["--cp-env-inherit"], ""), 15301);
    assert_eq!(port(&["--cp-env-inherit", &file], ""), 15201);
    assert_eq!(port(&[&file, "--cp-env=-"], &format!("{PORT}=15401\n")), 15401);
}

#[test]
fn the_two_config_maps_and_the_profile() {
    let named = pod("traffic.kuma.io/transparent-proxy-configmap-name: mine");
    let directory = files("maps", &[("own.yaml", "redirect: {outbound: {excludePorts: [77]}}"), ("pod.yaml", &named)]);
    let own = format!("--custom-configmap={}", directory.join("own.yaml").display());
    let path = directory.join("pod.yaml").display().to_string();
    let told = said(&["config", "from-pod", &path, CONFIG_MAP, &own, "--explain"], "");
    assert!(told.contains("redirect.outbound.excludePorts = [77]\n  from custom ConfigMap\n"), "{told}");

    let (_, warnings) = asked(&["config", "from-pod", POD, &own], "");
    assert!(warnings.contains("warning: custom ConfigMap: has no effect"), "{warnings}");

    let dns = pod("kuma.io/builtin-dns: enabled, kuma.io/builtin-dns-port: '1053'");
    assert!(said(&["config", "from-pod", "-", "--profile=kuma-2.9"], &dns).contains("port: 1053"));
    let (yaml, warnings) = asked(&["config", "from-pod", "-"], &dns);
    assert!(!yaml.contains("1053"), "{yaml}");
    assert!(warnings.contains("kuma.io/builtin-dns-port: has no effect in the profile kuma-3"), "{warnings}");
}

#[test]
fn mistakes_in_pods_name_file_and_field() {
    let wrong = pod("traffic.kuma.io/exclude-inbound-ports: x, kuma.io/gateway: maybe");
    let system = "{kind: ConfigMap, metadata: {name: tp}, data: {config.yaml: '{wait: soon}'}}";
    let directory = files(
        "mistakes",
        &[
            ("pod.yaml", &wrong),
            ("cp.env", "KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT=99999\n"),
            ("words.env", "KUMA_MODE zone\n"),
            ("system.yaml", system),
            ("bare.yaml", "wait: soon"),
            ("own.yaml", "retry: {maxRetries: 99}"),
        ],
    );
    let path = |name: &str| directory.join(name).display().to_string();
    let file = path("pod.yaml");
    refused(
        2,
        &["config", "from-pod", &file, "--cp-env", &path("cp.env"), "--configmap", &path("system.yaml")],
        "",
        &[
            &format!("{file}: traffic.kuma.io/exclude-inbound-ports: 'x' is not valid"),
            &format!("{file}: kuma.io/gateway: 'maybe'"),
            &format!("{}: KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT: '99999'", path("cp.env")),
            &format!("{}: ConfigMap tp: wait: 'soon'", path("system.yaml")),
        ],
    );
    let named = pod("traffic.kuma.io/transparent-proxy-configmap-name: own");
    let maps = ["--configmap", &path("bare.yaml"), "--custom-configmap", &path("own.yaml")];
    refused(
        2,
        &[&["config", "from-pod", "-"], &maps[..]].concat(),
        &named,
        &[
            &format!("{}: system ConfigMap: wait: 'soon'", path("bare.yaml")),
            &format!("{}: custom ConfigMap: retry.maxRetries: '99'", path("own.yaml")),
        ],
    );
    let words = path("words.env");
    refused(
        2,
        &["config", "from-pod", POD, "--cp-env", &words],
        "",
        &[&format!("{words}: line 1: 'KUMA_MODE zone'"), "NAME=VALUE"],
    );
    refused(2, &["config", "from-pod", "/nowhere"], "", &["/nowhere"]);
    refused(
        2,
        &["config", "from-pod", "-"],
        "kind: Deployment\nspec: {template: {}}",
        &["-: kind", "'Deployment'", "spec.template"],
    );
    let dataplane = "{type: Dataplane, mesh: default, name: web, networking: {address: 192.0.2.1}}";
    for (document, words) in [(dataplane, ["-: type", "'Dataplane'"]), ("a: 1", ["-: pod", "kind, metadata and spec"])]
    {
        refused(2, &["config", "from-pod", "-"], document, &words);
        refused(2, &["install", "--dry-run", "--pod=-"], document, &words);
    }
    let near = "{kind: Pod, metadata: {annotation: {traffic.kuma.io/exclude-inbound-ports: '22'}}, spec: {}}";
    let warned = text(&kumatp(&["config", "from-pod", "-"], near).stderr);
    assert!(warned.contains("metadata.annotation: ") && warned.contains("`metadata.annotations`"), "{warned}");
    refused(2, &["config", "from-pod", "-", "--cp-env=-"], "", &["'-'", "once"]);
    refused(2, &["config", "from-pod", "-", "--profile=kuma-1"], "", &["kuma-1", "kuma-2.9"]);
    refused(2, &["config", "from-pod", "-", "--annotation", "--explain"], "", &["--annotation", "--explain"]);
    refused(2, &["config"], "", &["from-pod", "from-dataplane"]);
    // A tenant may not name files of the host.
    let evil = pod(r#"traffic.kuma.io/transparent-proxy-config: "redirect: {dns: {resolvConfigPath: /etc/shadow}}""#);
    refused(2, &["config", "from-pod", "-"], &evil, &["resolvConfigPath", "'/etc/shadow'", "a pod may not name files"]);
}

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

#[test]
fn what_is_reachable() {
    let args = ["reachable", "--dataplane", DATAPLANE, ADDRESS, RESOURCES];
    let (told, warnings) = asked(&args, "");
    assert_eq!(warnings, "");
    assert_eq!(
        told,
        "Backends: reachableBackends lists what is reachable\n  MeshExternalService bank: 443\n  MeshService orders: 80 \
         (http), 9000 (admin)\n  MeshService redis: 6379\n"
    );
    let json: Value = serde_json::from_str(&said(&[&args[..], &["--json"]].concat(), "")).unwrap();
    assert_eq!(json.pointer("/backends/2/ports/0/port"), Some(&6379.into()));

    let why = |name: &str| said(&[&args[..], &["--explain", name]].concat(), "");
    assert!(why("redis").starts_with("MeshService redis is reachable on port 6379\n  refs[1] "), "{}", why("redis"));
    assert!(why("billing").starts_with("MeshService billing is not reachable: no item"), "{}", why("billing"));
    let json: Value = serde_json::from_str(&said(&[&args[..], &["--explain=bank", "--json"]].concat(), "")).unwrap();
    assert_eq!(json.pointer("/0/reachable"), Some(&true.into()));
    assert_eq!(json.pointer("/0/references/2/matches"), Some(&true.into()));
    refused(2, &[&args[..], &["--explain", "reddis"]].concat(), "", &["--explain: 'reddis'"]);
}

#[test]
fn services_of_the_older_form_by_profile() {
    let resources = "{type: Dataplane, name: x, networking: {inbound: [{port: 1, tags: {kuma.io/service: db}}, {port: 2, tags: {kuma.io/service: mq}}]}}";
    let workload = "{type: Dataplane, name: a, networking: {transparentProxying: {redirectPortOutbound: 15001, reachableServices: [db]}}}";
    let directory = files("services", &[("dp.yaml", workload)]);
    let path = directory.join("dp.yaml").display().to_string();
    let args = ["reachable", "--dataplane", &path, "--resources=-"];
    let old = said(&[&args[..], &["--profile=kuma-2.9"]].concat(), resources);
    assert!(old.ends_with("Services: reachableServices lists what is reachable\n  db\n"), "{old}");
    let (new, warnings) = asked(&args, resources);
    assert!(!new.contains("Services") && !new.contains("db"), "{new}");
    assert!(warnings.contains("reachableServices: has no effect in Kuma 3"), "{warnings}");
    let why = said(&[&args[..], &["--profile=kuma-2.9", "--explain=mq"]].concat(), resources);
    assert_eq!(why, "service mq is not reachable: it is not in reachableServices\n");
}

/// What Kuma leaves to chance is told as that, in text and in JSON.
#[test]
fn what_kuma_might_choose() {
    let service = |name: &str, port: u16| {
        format!(
            "type: MeshService\nname: {name}\nlabels: {{team: shop}}\nspec: {{ports: [{{port: {port}, name: p{port}}}]}}\n---\n"
        )
    };
    let resources = [service("a", 80), service("b", 80), service("c", 81)].concat();
    let workload = |port: u16| {
        format!(
            "{{type: Dataplane, name: a, networking: {{transparentProxying: {{redirectPortOutbound: 15001, reachableBackends: {{refs: \
             [{{kind: MeshService, labels: {{team: shop}}, port: {port}}}]}}}}}}}}"
        )
    };
    let directory = files("chance", &[("80.yaml", &workload(80)), ("81.yaml", &workload(81))]);
    let path = |name: &str| directory.join(name).display().to_string();
    let args = ["reachable", "--dataplane", &path("80.yaml"), "--resources=-"];
    let (told, warnings) = asked(&args, &resources);
    assert_eq!(
        told,
        "Backends: reachableBackends lists what is reachable\n  none for certain\n\
         By chance, for refs[0] (MeshService with team=shop, port 80):\n\
         \x20 Kuma might choose any one of these, but no other:\n    MeshService a: 80 (p80)\n    MeshService b: 80 (p80)\n\
         \x20 and besides it any of these, or none:\n    MeshService c: 81 (p81)\n"
    );
    assert!(warnings.contains("refs[0]: Kuma takes one of these 2 matches"), "{warnings}");
    let json: Value = serde_json::from_str(&said(&[&args[..], &["--json"]].concat(), &resources)).unwrap();
    assert_eq!(
        (json["backends"].as_array().map(Vec::len), json["byChance"].as_array().map(Vec::len)),
        (Some(0), Some(3))
    );
    assert_eq!(json.pointer("/choices/0/oneOf/1/name"), Some(&"b".into()));
    assert_eq!(json.pointer("/choices/0/perhaps/0/ports/0/port"), Some(&81.into()));
    let why = said(&[&args[..], &["--explain=a"]].concat(), &resources);
    assert!(why.starts_with("MeshService a might be reachable on port 80 (p80), by Kuma's choice\n"), "{why}");

    let args = ["reachable", "--dataplane", &path("81.yaml"), "--resources=-"];
    let told = said(&args, &resources);
    assert!(told.contains("reachable\n  MeshService c: 81 (p81)\nBy chance"), "{told}");
    assert!(told.contains("  Kuma might choose any of these, or none:\n    MeshService a: 80 (p80)\n"), "{told}");

    // A hundred of one choice are listed, and the rest counted.
    let many: String = (0..103).map(|index| service(&format!("s{index}"), 80)).collect();
    let told = said(&["reachable", "--dataplane", &path("80.yaml"), "--resources=-"], &many);
    assert!(told.lines().count() == 105 && told.ends_with("    and 3 more\n"), "{told}");
}

/// Kuma makes no listeners where it knows of no transparent proxy, unless kuma-dp says by a flag that there is one.
#[test]
fn the_flag_of_kuma_dp() {
    let resources = "type: MeshService\nname: a\nspec: {ports: [{port: 80}]}\n";
    let workload = "{type: Dataplane, name: w, networking: {address: '2001:db8::7'}}";
    let config = "redirect: {inbound: {enabled: false}, outbound: {enabled: false}}\n";
    let directory = files(
        "flag",
        &[
            ("dp.yaml", workload),
            ("off.yaml", config),
            ("ipv4.yaml", "ipFamilyMode: ipv4\n"),
            ("odd.yaml", "wait: x\n"),
        ],
    );
    let path = |name: &str| directory.join(name).display().to_string();
    let args = ["reachable", "--dataplane", &path("dp.yaml"), "--resources=-"];
    let (told, warnings) = asked(&args, resources);
    assert_eq!(
        told,
        "Backends: the Dataplane has no transparentProxying, so Kuma makes no outbound listeners\n  none\n"
    );
    assert!(warnings.contains("unless kuma-dp runs with --transparent-proxy"), "{warnings}");
    let with = |more: &[&str]| asked(&[&args[..], more].concat(), resources);
    let (told, warnings) = with(&["--transparent-proxy"]);
    assert!(told.ends_with("nothing is filtered\n  MeshService a: 80\n") && warnings.is_empty(), "{told}{warnings}");
    for (file, rule) in [("off.yaml", "neither direction has a redirect port"), ("ipv4.yaml", "ipFamilyMode is IPv4")] {
        let (told, _) = with(&["--transparent-proxy-config", &path(file)]);
        assert!(told.starts_with(&format!("Backends: {rule}")) && told.ends_with("\n  none\n"), "{told}");
    }
    let (_, warnings) = with(&["--transparent-proxy", "--profile=kuma-2.9"]);
    assert!(warnings.contains("has no effect in Kuma 2.9"), "{warnings}");
    let odd = path("odd.yaml");
    let wrong = [&args[..], &["--transparent-proxy-config", &odd]].concat();
    refused(2, &wrong, resources, &["wait: 'x'"]);
}

/// Numbers that are no ports: the warning says what becomes of them.
#[test]
fn ports_that_are_none() {
    let resources = "type: MeshService\nname: a\nspec: {ports: [{port: 80, name: http}, {port: 81, name: admin}]}\n";
    for (port, words) in [
        (
            0,
            "refs[0].port: 0 is no port: Kuma 3 takes it for none, which means all ports, or the first that has no name",
        ),
        (70000, "refs[0].port: 70000 is no port: in Kuma 3 all ports are reachable instead; in Kuma 2.9 none is"),
    ] {
        let workload = format!(
            "{{type: Dataplane, name: w, networking: {{transparentProxying: {{redirectPortOutbound: 15001, reachableBackends: \
             {{refs: [{{kind: MeshService, name: a, port: {port}}}]}}}}}}}}"
        );
        let directory = files(&format!("port-{port}"), &[("dp.yaml", &workload)]);
        let path = directory.join("dp.yaml").display().to_string();
        let args = ["reachable", "--dataplane", &path, "--resources=-"];
        let (told, warnings) = asked(&args, resources);
        assert!(
            told.ends_with("  MeshService a: 80 (http), 81 (admin)\n") && warnings.contains(words),
            "{told}{warnings}"
        );
        let (told, _) = asked(&[&args[..], &["--profile=kuma-2.9"]].concat(), resources);
        assert!(told.ends_with("  none\n"), "{told}");
    }
}

#[test]
fn mistakes_in_resources() {
    let directory = files(
        "resources",
        &[("a.yaml", "type: MeshService\nname: a\nspec: {ports: [{port: x}]}\n"), ("notes.txt", "?")],
    );
    let empty = files("empty", &[("notes.txt", "?")]);
    let reachable = |path: &str, words: &[&str]| {
        refused(2, &["reachable", "--dataplane", DATAPLANE, ADDRESS, "--resources", path], "", words);
    };
    reachable(&directory.display().to_string(), &["a.yaml: spec.ports[0].port: 'x'"]);
    reachable(&empty.display().to_string(), &["--resources", ".yaml", ".json"]);
    reachable("/nowhere", &["/nowhere"]);
    refused(2, &["reachable", "--dataplane", DATAPLANE, RESOURCES], "", &[&format!("{DATAPLANE}: line 7")]);
    refused(2, &["reachable", RESOURCES], "", &["--dataplane"]);
    refused(2, &["reachable", "--dataplane", DATAPLANE], "", &["--resources"]);
    let (_, warnings) =
        asked(&["reachable", "--dataplane", DATAPLANE, ADDRESS, "--resources=-"], "type: MeshServise\nname: a\n");
    assert!(warnings.contains("did you mean MeshService?") && warnings.contains("matches nothing"), "{warnings}");
}

#[test]
fn other_commands_take_a_pod() {
    let facts = r#"{"sidecarUid": "5678"}"#;
    let pod = ["--pod", POD, CP_ENV, CONFIG_MAP, "--facts=-"];
    let rules = said(&[&["install", "--dry-run"], &pod[..]].concat(), facts);
    assert!(rules.contains("--dport 9090 -j RETURN") && rules.contains("--uid-owner 5678"), "{rules}");
    assert_eq!(said(&[&["render"], &pod[..]].concat(), facts), rules);
    let ask = ["explain", "tcp 10.1.2.3:5432", "--expect=delivered"];
    assert!(said(&[&ask, &pod[..]].concat(), facts).contains("redirect.outbound.excludePorts[0]"));
    // Flags and variables are over the pod.
    let flag = ["explain", "tcp 10.1.2.3:5432", "--expect=redirected:15101", "--exclude-outbound-ports=1"];
    let args = [&flag, &pod[..]].concat();
    let output = with_variables(&args, facts, &[("KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT", "15101")]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    refused(2, &["install", "--dry-run", "--pod", POD, "--config=x.yaml"], "", &["--pod", "--config"]);
    refused(2, &["explain", "tcp 10.1.2.3:5432", "--live", "--pod", POD], "", &["--pod", "--live"]);
    for flag in ["--cp-env=x", "--cp-env-inherit", "--configmap=x", "--custom-configmap=x", "--profile=kuma-3"] {
        refused(2, &["install", "--dry-run", flag], "", &["--pod"]);
    }
    refused(2, &["install", "--pod=-"], &self::pod("kuma.io/gateway: maybe"), &["-: kuma.io/gateway: 'maybe'"]);
    refused(
        2,
        &["install", "--pod=-"],
        "{kind: Pod, spec: {hostNetwork: true}}",
        &["-: spec.hostNetwork: 'true'", "host"],
    );
}

#[test]
fn the_name_servers_of_the_host_are_not_those_of_a_pod() {
    let directory = files("servers", &[("tp.yaml", "redirect: {dns: {enabled: true}}")]);
    let map = format!("--configmap={}", directory.join("tp.yaml").display());
    let args = ["render", "--pod", POD, &map, "--netns=/proc/self/ns/net"];
    refused(2, &args, "", &["redirect.dns.resolvConfigPath: '/etc/resolv.conf'", "captureAll"]);
    let facts = r#"{"sidecarUid": "5678", "resolvers": {"servers": ["192.0.2.53"]}, "ipv6": {"state": "unusable", "reason": "none"}}"#;
    assert!(said(&[&args[..], &["--facts=-"]].concat(), facts).contains("-d 192.0.2.53 "));
}

/// Runs something on a thread in another network namespace.
fn inside<R: Send>(path: &str, work: impl FnOnce() -> R + Send) -> R {
    let file = File::open(path).unwrap();
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Tells everyone who connects which port this is.
fn serve(port: u16) {
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(port.to_string().as_bytes());
        }
    });
}

/// Who answers; `None` if the host says that nobody does.
fn answerer(to: &str) -> Option<String> {
    let to: SocketAddr = to.parse().unwrap();
    let mut stream = match TcpStream::connect_timeout(&to, Duration::from_secs(60)) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => return None,
        other => other.unwrap(),
    };
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    Some(text)
}

#[test]
fn install_for_a_pod_redirects_its_connections() {
    isolated(|| {
        for line in [
            "netns add web",
            "link add node type veth peer name eth0 netns web",
            "addr add 10.77.0.1/24 dev node",
            "link set node up",
            "-n web addr add 10.77.0.2/24 dev eth0",
            "-n web link set eth0 up",
            "-n web link set lo up",
            "-n web route add default via 10.77.0.1",
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>(), "");
        }
        let netns = "/run/netns/web";
        inside(netns, || [15006, 15001, 8080, 9090].map(serve));
        serve(5432);
        // Before: nothing is redirected, and 10.77.0.1 answers on 5432 alone.
        let inbound = |port: u16| answerer(&format!("10.77.0.2:{port}"));
        let outbound = |port: u16| inside(netns, || answerer(&format!("10.77.0.1:{port}")));
        assert_eq!((inbound(8080), outbound(443)), (Some("8080".into()), None));

        let pod = ["--pod", POD, CP_ENV, CONFIG_MAP, "--netns", netns];
        let command = |name: &'static str, more: &[&'static str]| {
            let output = kumatp(&[&[name], &pod[..], more].concat(), "");
            (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
        };
        let (status, rules, _) = command("install", &["--dry-run"]);
        assert!(status == 0 && rules.contains("--dport 9090 -j RETURN"), "{rules}");
        assert_eq!(command("status", &[]).0, 4, "a dry run installs nothing");

        let (status, done, notes) = command("install", &[]);
        // Its link-local address is one that neighbours reach.
        assert_eq!((status, done.as_str()), (0, "transparent proxy installed for IPv4 and IPv6\n"), "{notes}");
        assert_eq!(notes, "");
        assert_eq!((inbound(8080), inbound(9090)), (Some("15006".into()), Some("9090".into())));
        assert_eq!((outbound(443), outbound(5432)), (Some("15001".into()), Some("5432".into())));

        assert_eq!(command("install", &[]).1, "unchanged: these rules for IPv4 and IPv6 were in force\n");
        assert_eq!(command("status", &[]).0, 0);
        assert_eq!(command("status", &["--redirect-outbound-port=1"]).0, 3);
        assert_eq!(kumatp(&["status"], "").status.code(), Some(4), "the node is left alone");
        assert_eq!(
            kumatp(&["diff", "/dev/null", "live", "--pod", POD, CP_ENV, CONFIG_MAP, "--netns", netns], "")
                .status
                .code(),
            Some(0)
        );
        assert!(kumatp(&["uninstall", "--netns", netns], "").status.success());
        assert_eq!(outbound(443), None);
        run("ip", &["netns", "del", "web"], "");
    });
}

#[test]
fn a_pod_whose_rules_cannot_be_installed_fails() {
    let script = r#"
        code $KUMATP install --pod examples/kubernetes/pod.yaml --netns /nowhere
        code $KUMATP install --pod examples/kubernetes/pod.yaml --netns /etc/hostname
        code setpriv --bounding-set=-net_admin --inh-caps=-all --ambient-caps=-all $KUMATP install --pod examples/kubernetes/pod.yaml
        code $KUMATP status
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    assert_eq!(text(&output.stdout), "1\n1\n1\n4\n", "{}", text(&output.stderr));
}

#[test]
fn help_has_an_example_of_each() {
    for words in [
        &["config", "from-pod"][..],
        &["config", "from-dataplane"],
        &["config", "to-dataplane"],
        &["dataplane", "validate"],
        &["reachable"],
    ] {
        let help = said(&[words, &["--help"]].concat(), "");
        assert!(help.contains("Example") && help.contains(&format!("kumatp {}", words.join(" "))), "{help}");
    }
    assert!(said(&["install", "--help"], "").contains("kumatp install --pod pod.yaml --netns"));
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completion", shell], "");
        assert!(["from-pod", "cp-env-inherit", "reachable"].iter().all(|word| script.contains(word)), "{shell}");
    }
}

/// The commands of a section of the README that are shown with what they print, in its order: all that begin with `$`.
fn session(heading: &str) -> Vec<(String, String)> {
    let readme = include_str!("../README.md");
    let section = readme.split(&format!("\n## {heading}\n")).nth(1).unwrap().split("\n## ").next().unwrap();
    let blocks = section.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap());
    let commands = blocks.flat_map(|block| block.strip_prefix("$ ").unwrap().split("\n$ "));
    commands
        .map(|one| one.split_once('\n').unwrap_or((one, "")))
        .map(|(command, shown)| (command.into(), shown.into()))
        .collect()
}

/// Runs them where the files of an example are, and compares what is printed; where lines are broken does not matter.
/// With `KUMATP_BLESS=1`, prints what they print instead.
fn follow(heading: &str, example: &str) {
    let directory = files(&format!("readme-{}", example.replace('/', "-")), &[]);
    run("cp", &["-r", &format!("{example}/."), &directory.display().to_string()], "");
    let programs = Path::new(env!("CARGO_BIN_EXE_kumatp")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut kumatps = 0;
    for (command, shown) in session(heading) {
        let output =
            Command::new("sh").args(["-c", &command]).current_dir(&directory).env("PATH", &path).output().unwrap();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        if std::env::var_os("KUMATP_BLESS").is_some() {
            eprintln!("$ {command}\n{stdout}{stderr}");
            continue;
        }
        let both = format!("{stderr}{stdout}");
        let is_shown = |printed: &str| printed.split_whitespace().eq(shown.split_whitespace());
        assert!(is_shown(&stdout) || is_shown(&both), "{command}\n{both}");
        kumatps += usize::from(command.contains("kumatp "));
    }
    assert!(kumatps >= 6 || std::env::var_os("KUMATP_BLESS").is_some());
}

#[test]
fn the_readme_on_kubernetes() {
    isolated(|| follow("On Kubernetes", "examples/kubernetes"));
}

#[test]
fn the_readme_on_a_vm() {
    isolated(|| follow("On a VM", "examples/vm"));
}
