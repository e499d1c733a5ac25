//! Which pods are redirected, which are left alone, and which may not start.

use std::path::{Path, PathBuf};
use std::process::Command;

use kumatp::net::FamilyName;
use serde_json::{Value, json};

use crate::common::world::{Netns, possible};
use crate::runtime::{ANNOTATIONS, CONFIG, Network, Pod, result};

/// The network namespace of a pod whose interface was made by another plugin.
pub(crate) fn namespace() -> Netns {
    let netns = Netns::new().unwrap();
    for args in [
        "link set lo up",
        "link add eth0 type veth peer name peer",
        "addr add 10.1.0.5/16 dev eth0",
        "link set eth0 up",
    ] {
        ip(&netns, args);
    }
    netns
}

pub(crate) fn ip(netns: &Netns, args: &str) {
    let status = netns.enter(|| Command::new("ip").args(args.split(' ')).status()).unwrap();
    assert!(status.success(), "ip {args}");
}

/// All nf_tables in a namespace.
pub(crate) fn tables(netns: &Netns) -> String {
    let output = netns.enter(|| Command::new("nft").args(["list", "ruleset"]).output()).unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

const YES: (&str, &str) = ("kuma.io/sidecar-injected", "true");

/// A directory for the files of one test.
fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn pods_that_are_left_alone() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let usual = Network::usual();
    let excluding = |names: Value| {
        Network::alone(json!({"capabilities": {ANNOTATIONS: true}, "kubernetes": {"exclude_namespaces": names}}))
    };
    let redirected = [YES, (CONFIG, "{}")];
    for (network, annotations, why) in [
        (&usual, &[][..], "no annotation"),
        (&usual, &[("kuma.io/sidecar-injected", "false"), (CONFIG, "nonsense")], "says that it has no sidecar"),
        (&usual, &[(CONFIG, "{}")], "no annotation"),
        (&excluding(json!(["kube-system", "shop"])), &redirected, "namespace shop is excluded"),
    ] {
        let pod = Pod::new(netns.path(), annotations);
        let reply = network.add(&pod, Some(result("1.1.0")));
        assert!(reply.stderr.contains(why), "{why}: {}", reply.stderr);
        assert_eq!(serde_json::from_str::<Value>(&reply.done()).unwrap(), result("1.1.0"));
        assert_eq!(tables(&netns), "");
        assert_eq!(network.check(&pod, &result("1.1.0")).done(), "");
        assert_eq!(network.del(&pod, &result("1.1.0")).done(), "");
    }
    // No annotations at all, which is not the same as nobody handing them over.
    let mut pod = Pod::new(netns.path(), &[]);
    pod.capabilities.insert(ANNOTATIONS.into(), Value::Null);
    usual.add(&pod, Some(result("1.1.0"))).done();
    // In an excluded namespace nothing need be known of a pod.
    pod.capabilities.clear();
    excluding(json!(["shop"])).add(&pod, Some(result("1.1.0"))).done();
    let unknown = json!({"podFile": "/nowhere/{uid}", "kubernetes": {"exclude_namespaces": ["shop"]}});
    Network::alone(unknown).add(&pod, Some(result("1.1.0"))).done();
    assert_eq!(tables(&netns), "");
    // In another namespace the same pod is redirected.
    let mut pod = Pod::new(netns.path(), &redirected);
    pod.args = "K8S_POD_NAMESPACE=other".into();
    excluding(json!(["shop"])).add(&pod, Some(result("1.1.0"))).done();
    assert!(tables(&netns).contains("table ip kuma-mesh"));
}

#[test]
fn rules_of_others_stay_when_a_pod_goes() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let text = "* nat\n-N KUMA_MESH_OUTBOUND\n-A OUTPUT -p tcp -j KUMA_MESH_OUTBOUND\nCOMMIT\n";
    let backend = crate::common::world::Backend::IptablesNft;
    backend.restore(&netns, FamilyName::V4, text).unwrap();
    let before = tables(&netns);
    let pod = Pod::new(netns.path(), &[]);
    Network::usual().del(&pod, &result("1.1.0")).done();
    assert_eq!(tables(&netns), before);
}

#[test]
fn pods_that_may_not_start() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let refuse = |network: &Network, pod: &Pod, code: u64, words: &[&str]| {
        for command in ["ADD", "CHECK"] {
            let (found, text) = network.last(command, pod, Some(&result("1.1.0"))).run().error("1.1.0");
            assert_eq!(found, code, "{command}: {text}");
            for word in words {
                assert!(text.contains(word), "{word} is not in: {text}");
            }
        }
        assert_eq!(tables(&netns), "");
    };
    let usual = Network::usual();
    for (annotations, words) in [
        (&[YES][..], &[CONFIG][..]),
        (&[YES, (CONFIG, "")], &[CONFIG]),
        (&[YES, (CONFIG, "[1]")], &[CONFIG]),
        (&[("kuma.io/sidecar-injected", "perhaps"), (CONFIG, "{}")], &["kuma.io/sidecar-injected", "perhaps"]),
        (
            &[YES, (CONFIG, "{redirect: {inbound: {port: 70000}, outbound: {excludePorts: [x]}}}")],
            &["redirect.inbound.port", "70000", "redirect.outbound.excludePorts[0]", "'x'"],
        ),
        (&[YES, (CONFIG, "{iptablesExecutables: {iptables: /tmp/evil}}")], &["iptablesExecutables", "/tmp/evil"]),
        (&[YES, (CONFIG, "{redirect: {dns: {resolvConfigPath: /proc/1/environ}}}")], &["resolvConfigPath"]),
        (&[YES, (CONFIG, "{storeFirewalld: true}")], &["storeFirewalld"]),
        (&[YES, (CONFIG, "{dryRun: true}")], &["dryRun"]),
        (&[YES, (CONFIG, "{kumaDPUser: root}")], &["kumaDPUser", "root"]),
    ] {
        refuse(&usual, &Pod::new(netns.path(), annotations), 100, words);
    }
    // Nobody says who is to be redirected.
    let mut pod = Pod::injected(netns.path(), "{}");
    pod.capabilities.clear();
    refuse(&usual, &pod, 7, &[ANNOTATIONS, "podFile"]);
    refuse(&Network::alone(json!({})), &Pod::injected(netns.path(), "{}"), 7, &[ANNOTATIONS, "podFile"]);
    // A ConfigMap that nobody provides.
    let annotations = [YES, (CONFIG, "{}"), ("traffic.kuma.io/transparent-proxy-configmap-name", "web")];
    refuse(&usual, &Pod::new(netns.path(), &annotations), 7, &["configMapFile", "'web'"]);
}

#[test]
fn name_servers_are_the_pods_or_none() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let own = |dns: Value| Network::alone(json!({"capabilities": {ANNOTATIONS: true, "dns": true}, "dns": dns}));
    let named = "{redirect: {dns: {enabled: true}}}";
    let previous = result("1.1.0");
    let add = |network: &Network, config: &str, servers: Option<Value>, previous: &Value| {
        let mut pod = Pod::injected(netns.path(), config);
        pod.capabilities.extend(servers.map(|servers| ("dns".to_owned(), servers)));
        network.add(&pod, Some(previous.clone()))
    };
    let mut silent = previous.clone();
    silent["dns"] = json!({});
    for (network, servers, previous, expected) in [
        (own(json!({})), None, &previous, "10.77.0.53"),
        (own(json!({"nameservers": ["10.9.0.1"]})), None, &previous, "10.9.0.1"),
        (own(json!({"nameservers": ["10.9.0.1"]})), Some(json!({"servers": ["10.9.0.2"]})), &previous, "10.9.0.2"),
        // As containerd writes it.
        (own(json!({})), Some(json!({"Servers": ["10.9.0.3"], "Searches": ["x"]})), &previous, "10.9.0.3"),
        (own(json!({})), Some(json!({"servers": ["fe80::1%eth0", "10.9.0.4"]})), &silent, "10.9.0.4"),
    ] {
        add(&network, named, servers, previous).done();
        let tables = tables(&netns);
        assert!(tables.contains(&format!("ip daddr {expected}")) && tables.contains("15053"), "{expected}: {tables}");
    }
    Network::usual().del(&Pod::new(netns.path(), &[]), &previous).done();
    // The host's are none of the pod's.
    for servers in [None, Some(json!({"servers": []})), Some(json!({"servers": ["dns.example"]}))] {
        let (code, text) = add(&own(json!({})), named, servers, &silent).error("1.1.0");
        assert_eq!(code, 7, "{text}");
        for word in ["redirect.dns.enabled", "\"dns\"", "nameservers", "captureAll"] {
            assert!(text.contains(word), "{text}");
        }
        assert_eq!(tables(&netns), "");
    }
    add(&own(json!({})), "{redirect: {dns: {enabled: true, captureAll: true}}}", None, &silent).done();
    assert!(tables(&netns).contains("15053"));
}

#[test]
fn files_that_others_provide() {
    if !possible() {
        return;
    }
    let dir = directory("files");
    let netns = namespace();
    let pod = Pod::new(netns.path(), &[YES, (CONFIG, "{redirect: {outbound: {port: 11111}}}")]);
    let at = |template: &str| format!("{}/{template}", dir.display());
    let network = |template: &str| {
        Network::alone(json!({
            "capabilities": {ANNOTATIONS: true},
            "podFile": at(template),
            "configMapFile": at("{namespace}-{configMap}.yaml"),
        }))
    };
    let add = |template: &str| network(template).add(&pod, Some(result("1.1.0")));
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let clear = || drop(network("none").del(&pod, &result("1.1.0")).done());

    let (code, text) = add("{namespace}_{name}.yaml").error("1.1.0");
    assert!(code == 11 && text.contains("shop_web-0.yaml") && text.contains("podFile"), "{code} {text}");

    // A whole Pod, whose annotations count instead of the runtime's.
    let whole = |annotations: &str, init: &str, containers: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web-0\n  annotations:\n    kuma.io/sidecar-injected: 'true'\n{annotations}\
             spec:\n  initContainers: [{init}]\n  containers: [{containers}]\n"
        )
    };
    let config = format!("    {CONFIG}: |\n      redirect: {{outbound: {{port: 22222}}}}\n");
    write("shop_web-0.yaml", &whole(&config, "", "{name: web}, {name: kuma-sidecar}"));
    add("{namespace}_{name}.yaml").done();
    assert!(tables(&netns).contains("22222"));
    clear();

    // Containers tell more than annotations do.
    write("7d1c", &whole(&config, "{name: kuma-init}", "{name: web}, {name: kuma-sidecar}"));
    let reply = add("{uid}");
    assert!(reply.success && reply.stderr.contains("kuma-init"), "{reply:?}");
    assert_eq!(tables(&netns), "");

    // An ordinary container redirects nothing, whatever its name.
    write("7d1c", &whole(&config, "", "{name: web}, {name: kuma-sidecar}, {name: kuma-init}"));
    add("{uid}").done();
    assert!(tables(&netns).contains("22222"));
    clear();

    // Annotations alone, and a ConfigMap over them.
    let more = "traffic.kuma.io/transparent-proxy-configmap-name: more";
    let text = format!(
        "kuma.io/sidecar-injected: 'true'\n{CONFIG}: '{{redirect: {{outbound: {{port: 3333}}, inbound: {{port: 4444}}}}}}'\n{more}\n"
    );
    write("cnitest-3f0c.yaml", &text);
    assert_eq!(add("{containerID}.yaml").error("1.1.0").0, 11);
    write(
        "shop-more.yaml",
        "kind: ConfigMap\nmetadata: {name: more}\ndata:\n  config.yaml: |\n    redirect: {inbound: {port: 5555}}\n",
    );
    add("{containerID}.yaml").done();
    let now = tables(&netns);
    assert!(now.contains("3333") && now.contains("5555") && !now.contains("4444"), "{now}");
    clear();

    // What is no such file.
    for (name, text, word) in [
        ("kind.yaml", "kind: Deployment", "Deployment"),
        ("typo.yaml", "metdata: {annotations: {}}", "metdata"),
        ("near.yaml", "{kind: Pod, metadata: {annotation: {}}, spec: {}}", "`metadata.annotations`"),
        ("dataplane.yaml", "{type: Dataplane, mesh: default, name: web}", "Dataplane"),
        ("broken.yaml", "{", "broken.yaml"),
        ("empty.yaml", "", "empty.yaml"),
        ("switch.yaml", "kuma.io/sidecar-injected: true", "quotes"),
        ("sidecar.yaml", "kuma.io/sidecar-injected: 'maybe'", "'maybe'"),
    ] {
        write(name, text);
        let (code, text) = add(name).error("1.1.0");
        assert!(code == 100 && text.contains(word), "{code} {text}");
    }
    std::fs::write(dir.join("long.yaml"), " ".repeat((4 << 20) + 1)).unwrap();
    std::fs::write(dir.join("bytes.yaml"), [0xff]).unwrap();
    std::fs::create_dir(dir.join("directory")).unwrap();
    nix::unistd::mkfifo(&dir.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    for name in ["long.yaml", "bytes.yaml", "directory", "pipe"] {
        let (code, text) = add(name).error("1.1.0");
        assert!(code == 100 && text.contains(name), "{code} {text}");
    }

    // Names that the runtime does not give, or that would lead elsewhere.
    for (args, word) in [
        ("K8S_POD_NAMESPACE=shop", "K8S_POD_NAME"),
        ("K8S_POD_NAME=..;K8S_POD_NAMESPACE=shop", "K8S_POD_NAME"),
        ("K8S_POD_NAME=a;K8S_POD_NAMESPACE=../shop", "K8S_POD_NAMESPACE"),
    ] {
        let mut pod = pod.clone();
        pod.args = args.into();
        let (code, text) = network("{namespace}/{name}").add(&pod, Some(result("1.1.0"))).error("1.1.0");
        assert!(code == 4 && text.contains(word) && text.contains("podFile"), "{code} {text}");
    }
    write("elsewhere.yaml", &text.replace(": more", ": ../../etc/passwd"));
    let (code, text) = add("elsewhere.yaml").error("1.1.0");
    assert!(code == 100 && text.contains("configmap-name") && text.contains("../../etc/passwd"), "{code} {text}");
    assert_eq!(tables(&netns), "");
}

#[test]
fn annotations_of_kuma_2_9() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let network = Network::alone(json!({"capabilities": {ANNOTATIONS: true}, "profile": "kuma-2.9"}));
    let annotations = [
        YES,
        ("kuma.io/transparent-proxying", "enabled"),
        ("kuma.io/transparent-proxying-inbound-port", "16006"),
        ("kuma.io/transparent-proxying-outbound-port", "16001"),
        ("traffic.kuma.io/exclude-outbound-ports", "9001"),
    ];
    network.add(&Pod::new(netns.path(), &annotations), Some(result("1.1.0"))).done();
    let tables = tables(&netns);
    for word in ["16006", "16001", "9001"] {
        assert!(tables.contains(word), "{word}: {tables}");
    }
}

/// IPv6 is required, and the sidecar's own address cannot be had.
#[test]
fn required_ipv6_that_cannot_be_had() {
    if !possible() {
        return;
    }
    let netns = namespace();
    netns.enter(|| std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "1")).unwrap();
    let pod = Pod::new(netns.path(), &[YES, (CONFIG, "{ipFamilyMode: required}")]);
    let (_, text) = Network::usual().last("ADD", &pod, Some(&result("1.1.0"))).run().error("1.1.0");
    assert!(text.contains("disable_ipv6"), "{text}");
    assert_eq!(tables(&netns), "");
}
