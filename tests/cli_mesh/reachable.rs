//! What a workload reaches.

use serde_json::Value;

use crate::command::refused;
use crate::{ADDRESS, DATAPLANE, RESOURCES, asked, files, said};

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
