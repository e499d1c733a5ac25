//! What the CNI plugin costs for a pod: processor time of an ADD, and many pods at once.
//!
//! `cargo bench --features cni --bench cni`, as root. Each pod is a network namespace of its own that is made before.

mod common;

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

use common::Bench;
use common::host::{enter, located, namespace, place, run, skipped, used};
use common::timing::{settle, time, turns};

static PLUGIN: LazyLock<PathBuf> = LazyLock::new(|| common::program("kumatp-cni", env!("CARGO_BIN_EXE_kumatp-cni")));

/// A pod's namespace. The plugin stays in that of the host, which is the one that this thread was in.
fn pod() -> File {
    let host = File::open("/proc/thread-self/ns/net").expect("a namespace");
    let pod = namespace();
    enter(&host);
    pod
}

fn main() {
    let mut bench = Bench::new("cni");
    if let Err(error) = place() {
        return skipped(&error);
    }
    bench.part("CNI ADD: whole processes");
    one_pod(&mut bench);
    pods_at_once(&mut bench);
    bench.finish("cni");
}

/// An ADD that has begun, for the pod of a namespace.
fn add(pod: &File) -> Child {
    let netns = format!("/proc/{}/fd/{}", std::process::id(), pod.as_raw_fd());
    let request = serde_json::json!({
        "cniVersion": "1.1.0",
        "name": "mesh",
        "type": "kumatp-cni",
        "prevResult": { "cniVersion": "1.1.0", "ips": [{ "address": "10.42.0.7/16" }], "dns": { "nameservers": ["10.43.0.10"] } },
        "runtimeConfig": { "io.kubernetes.cri.pod-annotations": {
            "kuma.io/sidecar-injected": "true",
            "traffic.kuma.io/transparent-proxy-config": "{redirect: {dns: {enabled: true, captureAll: true}}}",
        } },
    });
    let mut child = Command::new(&*PLUGIN)
        .env_clear()
        .envs([
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "pod"),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ])
        .envs([("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"), ("CNI_NETNS", &netns)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the plugin starts");
    let mut input = child.stdin.take().expect("a pipe");
    input.write_all(request.to_string().as_bytes()).expect("the request is taken");
    child
}

/// Waits until all have ended well.
fn ends(children: impl IntoIterator<Item = Child>) {
    for child in children {
        used(child);
    }
}

fn one_pod(bench: &mut Bench) {
    let mut pods = Vec::new();
    let mut processor_time = || {
        pods.push(pod());
        settle();
        used(add(pods.last().expect("it was pushed"))).time
    };
    let mut took = || {
        let pod = pod();
        settle();
        time(|| ends([add(&pod)]))
    };
    let nothing = located("true");
    let mut nothing = || time(|| run(&mut Command::new(&nothing)));
    let took = turns(bench.turns(41), [&mut processor_time, &mut took, &mut nothing]);
    bench.seconds("a pod", "processor time", took.seconds(0));
    bench.ratio("a pod", "kumatp-cni", "`true`", took.ratio(1, 2));
}

fn pods_at_once(bench: &mut Bench) {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let (many, few) = (if bench.once() { 5 } else { 100 }, 2 * processors);
    let at_once = |count: usize| {
        move || -> Duration {
            let pods: Vec<_> = (0..count).map(|_| pod()).collect();
            settle();
            let took = time(|| {
                let children: Vec<_> = pods.iter().map(add).collect();
                ends(children);
            });
            drop(pods);
            // The kernel takes them apart in the background.
            thread::sleep(Duration::from_secs(1));
            took
        }
    };
    let took = turns(bench.turns(15), [&mut at_once(many), &mut at_once(few)]);
    bench.ratio(
        "a pod of 100 at once",
        "kumatp-cni",
        "a pod of 2 at once a processor",
        took.ratio_each((0, many as f64), (1, few as f64)),
    );
}
