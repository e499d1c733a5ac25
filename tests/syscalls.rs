//! What the whole program asks of the kernel: each thing once, and no more than a fresh installation needs. Counted by strace, in
//! network namespaces of their own.
#![cfg(all(feature = "cli", target_os = "linux"))]

use std::collections::BTreeMap;
use std::process::Command;

#[path = "common/isolated.rs"]
mod isolated;

use self::isolated::{isolated, run, skipped};

const KUMATP: &str = env!("CARGO_BIN_EXE_kumatp");

/// The aim for a fresh installation by netlink.
const MOST: usize = 80;

/// Where the calls are written.
const CALLS: &str = "/run/calls";

/// A host with one user and one name server.
fn host(passwd: &str) {
    std::fs::write("/run/passwd", passwd).unwrap();
    std::fs::write("/run/resolv.conf", "nameserver 10.255.255.53\n").unwrap();
    for file in ["passwd", "resolv.conf"] {
        run("mount", &["--bind", &format!("/run/{file}"), &format!("/etc/{file}")], "");
    }
}

const SIDECAR: &str = "root:x:0:0:root:/root:/bin/sh\nkuma-dp:x:5678:5678::/:/bin/false\n";
const NOBODY: &str = "root:x:0:0:root:/root:/bin/sh\n";

fn is_traceable() -> bool {
    let traced = Command::new("strace").args(["-f", "-o", CALLS, "true"]).output();
    let traced = traced.is_ok_and(|output| output.status.success());
    if !traced {
        skipped("strace is missing, or may not trace here");
    }
    traced
}

/// The calls of the program and of all that it starts. They begin where the dynamic linker has done its work, with the
/// first one of the program itself, which looks whether there is a standard output.
fn calls(args: &[&str]) -> Vec<String> {
    let traced = ["-f", "-qq", "-s", "200", "-o", CALLS, KUMATP];
    let output = Command::new("strace").args(traced).args(args).env_clear().env("PATH", env!("PATH")).output().unwrap();
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(CALLS).unwrap();
    // Each line begins with the number of the process.
    let lines = text.lines().filter_map(|line| Some(line.split_once(' ')?.1.trim_start().to_owned()));
    let own: Vec<_> = lines.skip_while(|line| !line.starts_with("fcntl(1, F_GETFD)")).collect();
    assert!(!own.is_empty(), "{text}");
    without_waiting(own)
}

/// Without what depends on how busy the kernel is, or on the build: rounds of waiting until the kernel has made a route, each with a
/// question, and what the standard library asserts of each file that is closed in a build for development.
fn without_waiting(calls: Vec<String>) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for call in calls {
        match name(&call) {
            "clock_nanosleep" | "nanosleep" => {
                let asked = kept.split_off(kept.len() - 2);
                assert!(asked[0].contains("RTM_GETROUTE"), "waiting for something else than a route: {asked:?}");
            }
            "fcntl" if call.contains("F_GETFD)") && call.contains("FD_CLOEXEC") => {}
            _ => kept.push(call),
        }
    }
    kept
}

fn name(call: &str) -> &str {
    call.split('(').next().unwrap_or_default()
}

/// Each file is opened once, each part of the kernel has one socket, and no program and no thread is started.
fn nothing_twice(calls: &[String]) {
    let mut opened: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        match name(call) {
            "openat" | "open" => *opened.entry(call.split('"').nth(1).unwrap_or_default()).or_default() += 1,
            "socket" => *opened.entry(call.split(" = ").next().unwrap_or_default()).or_default() += 1,
            "execve" | "execveat" | "fork" | "vfork" | "clone" | "clone3" => panic!("it starts something: {call}"),
            _ => {}
        }
    }
    let twice: Vec<_> = opened.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "opened more than once: {twice:?}\n{}", calls.join("\n"));
    let sockets: Vec<_> = opened.keys().filter(|what| what.starts_with("socket(")).collect();
    // The lock is a Unix socket.
    let others = |socket: &&&&str| !socket.contains("AF_NETLINK") && !socket.starts_with("socket(AF_UNIX, SOCK_STREAM");
    assert_eq!(sockets.iter().find(others), None, "{sockets:?}");
    let asked: Vec<_> = opened.keys().filter(|path| path.contains("nsswitch") || path.contains("libnss")).collect();
    assert!(asked.is_empty(), "the name service is asked: {asked:?}");
}

fn fresh(args: &[&str]) {
    let calls = calls(&[&["install", "--redirect-dns"], args].concat());
    nothing_twice(&calls);
    // The kernel would go through the connections of the whole machine.
    let listed = calls.iter().find(|call| call.contains("IPCTNL_MSG_CT_GET,"));
    assert_eq!(listed, None, "connections are listed where there are none");
    assert!(calls.len() <= MOST, "{} system calls instead of {MOST}:\n{}", calls.len(), calls.join("\n"));
    // It did what it is for.
    assert!(run("nft", &["list", "tables"], "").contains("table ip6 kuma-mesh"));
}

#[test]
fn a_fresh_installation_needs_few_system_calls() {
    isolated(|| {
        if is_traceable() {
            host(SIDECAR);
            fresh(&[]);
            // What is there already is read, and nothing twice.
            nothing_twice(&calls(&["install", "--redirect-dns"]));
            nothing_twice(&calls(&["status"]));
        }
    });
}

#[test]
fn a_uid_is_not_looked_up() {
    isolated(|| {
        if is_traceable() {
            host(NOBODY);
            fresh(&["--kuma-dp-user", "5678"]);
        }
    });
}
