//! The protocol, for which no privilege is needed: nothing here gets as far as a namespace.

use serde_json::{Value, json};

use crate::runtime::{ANNOTATIONS, Call, Network, Pod, result};

/// A request for ADD that is right but for its namespace, which is not there.
fn right() -> (Network, Pod) {
    (Network::usual(), Pod::new("/var/run/netns/nowhere", &[]))
}

fn add() -> Call {
    let (network, pod) = right();
    network.last("ADD", &pod, Some(&result("1.1.0")))
}

/// A request of which one key is replaced.
fn with(key: &str, value: Value) -> Call {
    let mut call = add();
    let mut request: Value = serde_json::from_slice(&call.input).unwrap();
    request[key] = value;
    call.input = request.to_string().into_bytes();
    call
}

#[track_caller]
fn refused(call: &Call, code: u64, words: &[&str]) {
    let reply = call.run();
    assert_eq!(reply.stderr, "", "an error is told on standard output");
    let (found, text) = reply.error("1.1.0");
    assert_eq!(found, code, "{text}");
    for word in words {
        assert!(text.contains(word), "{word} is not in: {text}");
    }
}

#[test]
fn bad_environments() {
    refused(&Call::of("", ""), 4, &["CNI_COMMAND", "not by hand"]);
    for command in ["add", "UPDATE", "ADD "] {
        refused(&Call::of(command, ""), 4, &["CNI_COMMAND", command, "ADD, DEL"]);
    }
    for (name, value) in [
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "an-interface-name"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth0\n"),
        ("CNI_NETNS", ""),
        ("CNI_NETNS", "relative/path"),
        ("CNI_NETNS", "/var/run/netns/nowhere"),
        ("CNI_NETNS", "/"),
        ("CNI_NETNS", "/dev/null"),
        ("CNI_NETNS", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")),
        ("CNI_ARGS", "K8S_POD_NAME"),
        ("CNI_ARGS", "=x"),
        ("CNI_ARGS", "K8S_POD_NAME=a;K8S_POD_NAME=b"),
    ] {
        refused(&add().with(name, value), 4, &[name]);
    }
    // All at once.
    let call = add().with("CNI_CONTAINERID", "-").with("CNI_IFNAME", "").with("CNI_NETNS", "x").with("CNI_ARGS", "y");
    refused(&call, 4, &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"]);
    // The namespace of the plugin itself, by whichever path.
    refused(&add().with("CNI_NETNS", "/proc/self/ns/net"), 4, &["CNI_NETNS", "plugin itself", "CNI_NETNS_OVERRIDE"]);
}

#[test]
fn bad_input() {
    for input in ["", " ", "{", "[]", "7", "null", "{\"cniVersion\": 1.1}", "{\"cniVersion\": \"1.1.0\"}x"] {
        refused(&Call { input: input.into(), ..add() }, 6, &[]);
    }
    refused(&Call { input: vec![b'{', 0xff, b'}'], ..add() }, 6, &[]);
    refused(&Call { input: "[".repeat(100_000).into_bytes(), ..add() }, 6, &[]);
    refused(&Call { input: vec![b' '; (4 << 20) + 1], ..add() }, 5, &["4194304"]);
    for version in ["0.1.0", "0.2.0", "1.1", "1.2.0", "2.0.0", "", "\n"] {
        refused(&with("cniVersion", version.into()), 1, &["0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"]);
    }
    refused(&with("cniVersion", Value::Null), 1, &["0.1.0"]);
    let annotation = |value: Value| json!({ANNOTATIONS: {"a": value}});
    for (key, value, words) in [
        ("name", Value::Null, &["name"][..]),
        ("name", "".into(), &["name"]),
        ("name", "../x".into(), &["name", "../x"]),
        ("name", 7.into(), &["name", "7"]),
        ("prevResult", "x".into(), &["prevResult", "object"]),
        ("prevResult", json!({"dns": []}), &["prevResult.dns"]),
        ("prevResult", json!({"dns": {"nameservers": [1]}}), &["prevResult.dns.nameservers[0]"]),
        ("runtimeConfig", json!([]), &["runtimeConfig"]),
        ("runtimeConfig", json!({ANNOTATIONS: "x"}), &["runtimeConfig", ANNOTATIONS]),
        ("runtimeConfig", annotation(true.into()), &["runtimeConfig", "a", "true"]),
        ("runtimeConfig", annotation(json!({"b": "c"})), &["runtimeConfig", "a"]),
        ("runtimeConfig", json!({"dns": {"servers": "10.0.0.1"}}), &["runtimeConfig.dns.servers"]),
        ("dns", json!({"nameservers": {}}), &["dns.nameservers"]),
        ("podFile", "pods/{name}".into(), &["podFile", "{containerID}"]),
        ("podFile", "/pods/{pod}".into(), &["podFile", "/pods/{pod}"]),
        ("podFile", 1.into(), &["podFile"]),
        ("configMapFile", "/x/{name}".into(), &["configMapFile", "{configMap}"]),
        ("systemConfigMapFile", "x".into(), &["systemConfigMapFile"]),
        ("profile", "kuma-4".into(), &["profile", "kuma-4", "kuma-2.9"]),
        ("kubernetes", json!([]), &["kubernetes"]),
        ("kubernetes", json!({"exclude_namespaces": "a"}), &["kubernetes.exclude_namespaces"]),
    ] {
        refused(&with(key, value), 7, words);
    }
    for (key, value, near) in [
        ("podfile", json!("/x"), "podFile"),
        ("pod_file", json!("/x"), "podFile"),
        ("ConfigMapFile", json!("/x"), "configMapFile"),
        ("kubernetes", json!({"excludeNamespaces": ["a"]}), "kubernetes.exclude_namespaces"),
        ("kubernetes", json!({"exclude_namespace": ["a"]}), "kubernetes.exclude_namespaces"),
    ] {
        refused(&with(key, value), 2, &[near, "did you mean"]);
    }
    // What others may have there.
    for (key, value) in [("kubernetes", json!({"kubeconfig": "/x", "cni_bin_dir": "/y"})), ("log_level", json!("info"))]
    {
        refused(&with(key, value), 4, &["nowhere"]);
    }
}

#[test]
fn operations_by_version() {
    let (network, pod) = right();
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let network = network.clone().in_version(version);
        // As far as the namespace, which is not there.
        assert_eq!(network.last("ADD", &pod, Some(&result(version))).run().error(version).0, 4);
        assert_eq!(network.last("DEL", &pod, Some(&result(version))).run().done(), "");
        let check = network.last("CHECK", &pod, Some(&result(version))).run().error(version).0;
        assert_eq!(check, if version < "0.4.0" { 1 } else { 4 }, "{version}");
        let gc = network.general("GC", &json!({"cni.dev/valid-attachments": []})).run();
        match version {
            "1.1.0" => assert_eq!(gc.done(), ""),
            _ => assert_eq!(gc.error(version).0, 1),
        }
        if version != "1.1.0" {
            assert_eq!(network.general("STATUS", &json!({})).run().error(version).0, 1);
        }
    }
}

#[test]
fn versions() {
    let supported = json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    for (input, version) in [
        (r#"{"cniVersion": "1.1.0"}"#, "1.1.0"),
        (r#"{"cniVersion": "0.2.0"}"#, "0.2.0"),
        ("{}", "1.1.0"),
        ("", "1.1.0"),
    ] {
        let reply: Value = serde_json::from_str(&Call::of("VERSION", input).run().done()).unwrap();
        assert_eq!(reply, json!({"cniVersion": version, "supportedVersions": supported}));
    }
    refused(&Call::of("VERSION", "{"), 6, &[]);
    refused(&Call::of("VERSION", r#"{"cniVersion": 1}"#), 6, &["cniVersion"]);
}

#[test]
fn attachments_that_are_still_valid() {
    let network = Network::usual();
    let gc = |list: Value| network.general("GC", &json!({"cni.dev/valid-attachments": list}));
    for list in [json!([]), Value::Null, json!([{"containerID": "3f0c", "ifname": "eth0"}])] {
        assert_eq!(gc(list).run().done(), "");
    }
    for list in [
        json!({}),
        json!(["3f0c"]),
        json!([{"containerID": "3f0c"}]),
        json!([{"containerID": "", "ifname": "eth0"}]),
        json!([{"containerID": "3f0c", "ifname": 0}]),
    ] {
        refused(&gc(list), 7, &["cni.dev/valid-attachments"]);
    }
}

/// Only a runtime is answered in JSON.
#[test]
fn who_runs_it_by_hand_is_told_what_it_is() {
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(crate::runtime::plugin());
        let output = command.args(arguments).env_remove("CNI_COMMAND").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (status, stdout, stderr) = run(&["--help"]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    for part in ["container runtime calls it", "CNI_COMMAND", "CNI_NETNS", "Exit status"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    assert_eq!(run(&["--version"]), (Some(0), format!("kumatp-cni {}\n", env!("CARGO_PKG_VERSION")), String::new()));
    let (status, nothing, usage) = run(&["install"]);
    assert_eq!((status, nothing.as_str(), usage), (Some(2), "", stdout));
    let (status, error, _) = run(&[]);
    assert!(status == Some(1) && error.contains("CNI_COMMAND"), "{error}");
}
