//! The life of pods: real traffic after ADD, CHECK after somebody meddled, DEL whenever it comes, many at a time.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use kumatp::net::FamilyName;
use serde_json::{Value, json};

use crate::common::skip::skipped;
use crate::common::world::{APP, Client, Netns, Outcome, Place, Protocol, SIDECAR, Server, User, World, possible};
use crate::decisions::{ip, namespace, tables};
use crate::runtime::{ANNOTATIONS, Call, Network, Pod, result};

/// DNS to the pod's name server and one excluded port.
pub(crate) const CONFIG: &str = "
kumaDPUser: '5678'
cniMode: true
redirect:
  dns: {enabled: true, resolvConfigPath: /etc/resolv.conf}
  outbound: {excludePorts: [9001]}
  inbound: {excludePorts: [9002]}
";

/// The pod of a world, with its name servers.
pub(crate) fn pod(world: &World) -> Pod {
    let mut pod = Pod::injected(world.workload.path(), CONFIG);
    let servers = FamilyName::ALL.map(|family| Place::Resolver.addr(family).to_string());
    pod.capabilities.insert("dns".into(), json!({"servers": servers}));
    pod
}

#[track_caller]
fn answered(netns: &Netns, user: User, protocol: Protocol, place: Place, family: FamilyName, port: u16, who: &str) {
    let client = Client::new(protocol, place.socket(family, port));
    match netns.enter_as(user, || client.outcome()) {
        Outcome::Reached(reached) => assert_eq!(reached.answer.who, who, "{family} {place:?} {port}"),
        other => panic!("{family} {place:?} {port}: {other}"),
    }
}

/// Redirected where the configuration says so, and only there.
#[track_caller]
pub(crate) fn is_redirected(world: &World) {
    for family in FamilyName::ALL {
        let from =
            |user, protocol, place, port, who| answered(&world.workload, user, protocol, place, family, port, who);
        from(APP, Protocol::Tcp, Place::Outside, 9000, Server::OUTBOUND);
        from(APP, Protocol::Tcp, Place::Outside, 9001, Place::Outside.server());
        from(APP, Protocol::Tcp, Place::Localhost, 9000, Place::Localhost.server());
        from(APP, Protocol::Udp, Place::Resolver, 53, Server::DNS);
        from(APP, Protocol::Udp, Place::OtherResolver, 53, Place::OtherResolver.server());
        from(SIDECAR, Protocol::Tcp, Place::Outside, 9000, Place::Outside.server());
        from(SIDECAR, Protocol::Udp, Place::Resolver, 53, Place::Resolver.server());
        answered(&world.outside, APP, Protocol::Tcp, Place::Own, family, 9000, Server::INBOUND);
        answered(&world.outside, APP, Protocol::Tcp, Place::Own, family, 9002, Place::Own.server());
    }
}

#[track_caller]
pub(crate) fn is_left_alone(world: &World) {
    for family in FamilyName::ALL {
        answered(&world.workload, APP, Protocol::Tcp, Place::Outside, family, 9000, Place::Outside.server());
        answered(&world.workload, APP, Protocol::Udp, Place::Resolver, family, 53, Place::Resolver.server());
        answered(&world.outside, APP, Protocol::Tcp, Place::Own, family, 9000, Place::Own.server());
    }
    assert!(!world.has_ours(), "{}", world.rules());
}

#[test]
fn from_add_to_del() {
    if !possible() {
        return;
    }
    let world = World::new().unwrap();
    let (network, pod) = (Network::usual(), pod(&world));
    // The pod's namespace is as new, without the sidecar's own address.
    ip(&world.workload, "addr del ::6/128 dev lo");
    is_left_alone(&world);
    let (code, text) = network.check(&pod, &result("1.1.0")).error("1.1.0");
    assert!(code == 105 && text.contains("none of its rules"), "{code} {text}");

    let first: Value = serde_json::from_str(&network.add(&pod, Some(result("1.1.0"))).done()).unwrap();
    assert_eq!(first, result("1.1.0"), "the previous result is passed on as it is");
    is_redirected(&world);
    assert_eq!(network.check(&pod, &first).done(), "");
    let rules = world.rules();

    // Once more, which a runtime should not do: nothing changes.
    let again = network.add(&pod, Some(result("1.1.0")));
    assert!(!again.stderr.contains("installed"), "{}", again.stderr);
    assert_eq!(serde_json::from_str::<Value>(&again.done()).unwrap(), first);
    assert_eq!(without_counters(&world.rules()), without_counters(&rules));
    is_redirected(&world);

    // Nothing is kept outside of the pod's namespace.
    let inode = std::fs::metadata(world.workload.path()).unwrap().ino();
    assert!(!Path::new("/run/kumatp").join(format!("{inode}.json")).exists());

    for _ in 0..2 {
        assert_eq!(network.del(&pod, &first).done(), "");
        let addresses = world.workload.enter(|| Command::new("ip").args(["-6", "addr", "show", "dev", "lo"]).output());
        assert!(!String::from_utf8(addresses.unwrap().stdout).unwrap().contains("::6/128"));
        is_left_alone(&world);
    }
}

fn without_counters(rules: &str) -> String {
    rules.lines().filter(|line| !line.contains("counter")).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_version_that_is_spoken() {
    if !possible() {
        return;
    }
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let netns = namespace();
        let network = Network::usual().in_version(version);
        let pod = Pod::injected(netns.path(), "{}");
        // In older versions the addresses have one as well.
        let mut previous = result(version);
        previous["ips"][0]["version"] = "4".into();
        let passed: Value = serde_json::from_str(&network.add(&pod, Some(previous.clone())).done()).unwrap();
        assert_eq!(passed, previous);
        assert!(tables(&netns).contains("kuma-mesh"));
        if version >= "0.4.0" {
            network.check(&pod, &previous).done();
        }
        network.del(&pod, &previous).done();
        assert_eq!(tables(&netns), "");
    }
}

#[test]
fn meddling_is_noticed() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let (network, pod) = (Network::usual(), Pod::injected(netns.path(), "{redirect: {inbound: {excludePorts: [22]}}}"));
    for meddling in [
        "flush ruleset",
        "flush chain ip kuma-mesh nat_output_last",
        "insert rule ip kuma-mesh nat_output_last return",
        "add chain ip kuma-mesh other",
    ] {
        network.add(&pod, Some(result("1.1.0"))).done();
        network.check(&pod, &result("1.1.0")).done();
        let status = netns.enter(|| Command::new("nft").arg(meddling).status()).unwrap();
        assert!(status.success(), "{meddling}: {}", tables(&netns));
        let (code, text) = network.check(&pod, &result("1.1.0")).error("1.1.0");
        assert!(code == 105 && !text.ends_with(": "), "{meddling}: {code} {text}");
    }
    // The sidecar's address is no rule.
    network.add(&pod, Some(result("1.1.0"))).done();
    ip(&netns, "addr del ::6/128 dev lo");
    let (code, text) = network.check(&pod, &result("1.1.0")).error("1.1.0");
    assert!(code == 105 && text.contains("::6/128 is missing"), "{code} {text}");
    // ADD mends it, and so does it if the pod's wish is another by now.
    network.add(&pod, Some(result("1.1.0"))).done();
    network.check(&pod, &result("1.1.0")).done();
    let other = Pod::injected(netns.path(), "{}");
    assert_eq!(network.check(&other, &result("1.1.0")).error("1.1.0").0, 105);
    // The rules do not wait for addresses, so one that comes later is no drift.
    assert!(tables(&netns).contains("table ip6 kuma-mesh"));
    ip(&netns, "addr add fd77::7/64 dev eth0 nodad");
    network.check(&pod, &result("1.1.0")).done();
}

#[test]
fn del_when_the_namespace_is_gone() {
    if !possible() {
        return;
    }
    let network = Network::usual();
    let del = |path: &str| {
        let pod = Pod::injected(path, "{}");
        network.del(&pod, &result("1.1.0")).done();
        assert_eq!(network.check(&pod, &result("1.1.0")).error("1.1.0").0, 4, "{path}");
    };
    del("/var/run/netns/never-there");
    del("/proc/4194305/ns/net");
    // What an unmounted namespace leaves behind.
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni-unmounted");
    std::fs::write(&file, "").unwrap();
    del(file.to_str().unwrap());
    del(&format!("{}/below", file.display()));
    // With a pod in it until now.
    let mut child = Command::new("unshare").args(["--net", "sleep", "600"]).spawn().unwrap();
    let path = format!("/proc/{}/ns/net", child.id());
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    while std::fs::read_link(&path).unwrap() == own {
        std::thread::sleep(Duration::from_millis(5));
    }
    network.add(&Pod::injected(&path, "{}"), Some(result("1.1.0"))).done();
    child.kill().unwrap();
    child.wait().unwrap();
    del(&path);
    // Without any path, as the specification allows.
    let mut call = network.last("DEL", &Pod::injected("", "{}"), None);
    call.variables.retain(|(name, _)| name != "CNI_NETNS");
    call.run().done();
}

#[test]
fn many_pods_at_a_time() {
    if !possible() {
        return;
    }
    const PODS: u16 = 100;
    let pods: Vec<_> = (0..PODS)
        .map(|number| {
            let netns = namespace();
            let config = format!("{{redirect: {{outbound: {{port: {}}}}}}}", 16000 + number);
            let mut pod = Pod::injected(netns.path(), &config);
            pod.id = format!("pod-{number}");
            (netns, pod)
        })
        .collect();
    let network = Network::usual();
    let all = |work: &(dyn Fn(&Pod) + Sync)| {
        std::thread::scope(|scope| pods.iter().for_each(|(_, pod)| drop(scope.spawn(|| work(pod)))));
    };
    all(&|pod| drop(network.add(pod, Some(result("1.1.0"))).done()));
    all(&|pod| drop(network.check(pod, &result("1.1.0")).done()));
    for (number, (netns, _)) in (0..PODS).zip(&pods) {
        let tables = tables(netns);
        assert!(tables.contains(&format!(":{}", 16000 + number)), "{number}: {tables}");
        let foreign = (0..PODS).filter(|other| tables.contains(&format!(":{}", 16000 + other))).count();
        assert_eq!(foreign, 1, "{number}: {tables}");
    }
    all(&|pod| drop(network.del(pod, &result("1.1.0")).done()));
    assert!(pods.iter().all(|(netns, _)| tables(netns).is_empty()));
}

/// By what the kernel is asked, which no load changes.
#[test]
fn an_add_is_one_pass() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let trace = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni-add.trace");
    let network = Network::usual();
    let pod = Pod::injected(netns.path(), "{redirect: {dns: {enabled: true, captureAll: true}}}");
    let mut call = network.last("ADD", &pod, Some(&result("1.1.0")));
    let plugin = std::mem::replace(&mut call.program, "strace".into());
    call.arguments = vec!["-f".into(), "-qq".into(), "-o".into(), trace.clone(), plugin];
    if Command::new("strace").arg("-V").output().is_err() {
        return skipped("the program strace is not there");
    }
    call.run().done();
    let trace = std::fs::read_to_string(trace).unwrap();
    // Without what the allocator does, what is told a second time, and all before the request is read.
    let calls = trace
        .lines()
        .filter_map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').split_once('('));
    let calls: Vec<_> = calls.skip_while(|(name, rest)| *name != "read" || !rest.starts_with("0,")).collect();
    let calls: Vec<_> = calls
        .into_iter()
        .filter(|(name, _)| !["mprotect", "mmap", "munmap", "madvise", "brk"].contains(name) && !name.contains('<'))
        .collect();
    let count = |wanted: &str| calls.iter().filter(|(name, _)| *name == wanted).count();
    let containing = |text: &str| calls.iter().filter(|(_, rest)| rest.contains(text)).count();
    assert!(calls.len() <= 165, "{} system calls: {calls:#?}", calls.len());
    assert_eq!(count("setns"), 1);
    assert_eq!(count("clone3") + count("clone"), 1, "one thread, and no process");
    assert_eq!((count("execve"), count("fork"), count("vfork")), (0, 0, 0));
    for protocol in ["NETLINK_NETFILTER)", "NETLINK_ROUTE)", "NETLINK_SOCK_DIAG)"] {
        assert_eq!(containing(protocol), 1, "{protocol}");
    }
    assert_eq!(containing("kumatp/rules"), 1, "one turn");
    assert_eq!(containing("resolv.conf") + containing("nsswitch") + containing("/etc/passwd"), 0);
}

#[test]
fn alone_or_first_of_its_chain() {
    if !possible() {
        return;
    }
    // Beside other networks of the pod, as with Multus.
    let netns = namespace();
    let network = Network::usual();
    let pod = Pod::injected(netns.path(), "{}");
    let passed: Value = serde_json::from_str(&network.add(&pod, None).done()).unwrap();
    assert_eq!(passed, json!({"cniVersion": "1.1.0"}));
    assert!(tables(&netns).contains("kuma-mesh"));
    // Before the plugin that makes the interface, so what has to be redirected is not known yet.
    let bare = Netns::new().unwrap();
    let (code, text) = network.add(&Pod::injected(bare.path(), "{}"), None).error("1.1.0");
    assert!(code == 7 && text.contains("prevResult"), "{code} {text}");
    assert_eq!(tables(&bare), "");
}

#[test]
fn the_plugins_own_namespace() {
    if !possible() {
        return;
    }
    let netns = namespace();
    let network = Network::usual();
    let call = |command: &str| network.last(command, &Pod::injected(netns.path(), "{}"), Some(&result("1.1.0")));
    let inside = |call: &Call| netns.enter(|| call.run());
    for command in ["ADD", "CHECK", "DEL"] {
        let (code, text) = inside(&call(command)).error("1.1.0");
        assert!(code == 4 && text.contains("CNI_NETNS_OVERRIDE"), "{code} {text}");
    }
    assert_eq!(tables(&netns), "");
    for allowed in ["1", "true", "TRUE"] {
        inside(&call("ADD").with("CNI_NETNS_OVERRIDE", allowed)).done();
        assert!(tables(&netns).contains("kuma-mesh"));
        inside(&call("DEL").with("CNI_NETNS_OVERRIDE", allowed)).done();
    }
    assert_eq!(inside(&call("ADD").with("CNI_NETNS_OVERRIDE", "0")).error("1.1.0").0, 4);
}

#[test]
fn whether_pods_can_be_redirected_here() {
    if !possible() {
        return;
    }
    let network = Network::usual();
    assert_eq!(network.general("STATUS", &json!({})).run().done(), "");
    // Not asking for annotations, no pod will be known.
    let careless = Network::alone(json!({"capabilities": {"dns": true}}));
    let (code, text) = careless.general("STATUS", &json!({})).run().error("1.1.0");
    assert!(code == 50 && text.contains(ANNOTATIONS), "{code} {text}");
    Network::alone(json!({"capabilities": {}, "podFile": "/run/x"})).general("STATUS", &json!({})).run().done();
    // Without privileges.
    let program = Path::new("/tmp").join(format!("kumatp-cni-test-{}", std::process::id()));
    // By a process of its own: programs that this one starts meanwhile would keep the file open for writing.
    assert!(Command::new("cp").arg(crate::runtime::plugin()).arg(&program).status().unwrap().success());
    let mut call = network.general("STATUS", &json!({}));
    (call.ordinary, call.program) = (true, program.clone());
    let (code, text) = call.run().error("1.1.0");
    assert!(code == 50 && text.contains("CAP_SYS_ADMIN"), "{code} {text}");
    let netns = namespace();
    let mut call = network.last("ADD", &Pod::injected(netns.path(), "{}"), Some(&result("1.1.0")));
    (call.ordinary, call.program) = (true, program.clone());
    let (code, text) = call.run().error("1.1.0");
    assert!(matches!(code, 4 | 102 | 104), "{code} {text}");
    std::fs::remove_file(program).unwrap();
}
