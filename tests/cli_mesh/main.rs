//! The commands about pods, Dataplanes and what they reach, as a user meets them.
#![cfg(feature = "cli")]
#![expect(clippy::duplicate_mod, reason = "both of what is shared here can say that a test was skipped")]

#[path = "../common/command.rs"]
mod command;
mod dataplanes;
#[path = "../common/inside.rs"]
mod inside;
#[path = "../common/isolated.rs"]
mod isolated;
mod reachable;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use kumatp::config::kubernetes::Sources;
use kumatp::config::{Config, Format};
use serde_json::Value;

use self::command::{in_a_namespace, kumatp, refused, text, with_variables};
use self::inside::inside;
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
fn explain_names_the_annotation_of_the_pod() {
    let facts = files("explain", &[("facts.json", r#"{"sidecarUid": "5678"}"#)]).join("facts.json");
    let facts = format!("--facts={}", facts.display());
    let ask = |document: &str, args: &[&str]| said(&[&["explain", "--pod=-", &facts][..], args].concat(), document);
    let (inbound, probes) = (["inbound", "tcp 10.1.2.3:8081"], ["inbound", "tcp 10.1.2.3:9001"]);
    let by_tenant = "(redirect.inbound.excludePorts[0], annotation traffic.kuma.io/exclude-inbound-ports).";
    let plain = pod(r#"traffic.kuma.io/exclude-inbound-ports: "8081""#);
    assert!(ask(&plain, &inbound).contains(by_tenant), "{}", ask(&plain, &inbound));
    let json: Value = serde_json::from_str(&ask(&plain, &[&inbound[..], &["--json"]].concat())).unwrap();
    assert_eq!(json["askedBy"], "annotation traffic.kuma.io/exclude-inbound-ports");
    assert!(json["summary"].as_str().unwrap().contains(by_tenant));
    // The injector has added a port, and written all of it down.
    let annotations = r#"traffic.kuma.io/exclude-inbound-ports: "8081", kuma.io/sidecar-injected: "true",
        traffic.kuma.io/transparent-proxy-config: "redirect: {inbound: {excludePorts: [8081, 9001]}, outbound: {excludePorts: [1]}}""#;
    let injected = pod(annotations);
    assert!(ask(&injected, &inbound).contains(by_tenant), "{}", ask(&injected, &inbound));
    let whole = "annotation traffic.kuma.io/transparent-proxy-config).";
    assert!(ask(&injected, &probes).contains(&format!("(redirect.inbound.excludePorts[1], {whole}")));
    assert!(ask(&injected, &["tcp 10.1.2.3:1"]).contains(&format!("(redirect.outbound.excludePorts[0], {whole}")));
    // What is the default, and what a flag has set, no annotation asks for.
    assert!(ask(&plain, &["tcp 10.1.2.3:443"]).contains("(redirect.outbound.enabled)."));
    let flag = ["--exclude-inbound-ports=8081", "inbound", "tcp 10.1.2.3:8081"];
    assert!(ask(&plain, &flag).contains("(redirect.inbound.excludePorts[0])."), "{}", ask(&plain, &flag));
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

        assert_eq!(command("install", &[]).1, "unchanged: these rules for IPv4 and IPv6 were already active\n");
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
