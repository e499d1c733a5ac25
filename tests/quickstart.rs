//! The quickstart example, run as its readers run it.

#![cfg(all(feature = "yaml", feature = "host", target_os = "linux"))]

#[path = "common/skip.rs"]
mod skip;

use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use self::skip::skipped;

/// What the example prints about each connection: name, way, outcome, and where its rule comes from.
const ROWS: [[&str; 4]; 9] = [
    ["inbound", "client → workload:8080", "through the sidecar's port 15006", "redirect.inbound.enabled"],
    ["inbound, excluded port", "client → workload:22", "direct", "redirect.inbound.excludePorts[0]"],
    ["outbound", "workload → web:80", "through the sidecar's port 15001", "redirect.outbound.enabled"],
    ["outbound, excluded port", "workload → database:5432", "direct", "redirect.outbound.excludePorts[0]"],
    ["outbound, excluded address", "workload → legacy:80", "direct", "redirect.outbound.excludePortsForIPs[0]"],
    ["the sidecar's own", "sidecar → web:80", "direct", "redirect.outbound.enabled"],
    ["DNS over UDP", "workload → dns:53", "through the sidecar's port 15053", "redirect.dns.captureAll"],
    ["inbound, IPv6", "client → workload:8080", "through the sidecar's port 15006", "redirect.inbound.enabled"],
    ["outbound, IPv6", "workload → web:80", "through the sidecar's port 15001", "redirect.outbound.enabled"],
];

#[test]
fn every_connection_goes_where_it_should() {
    let Some(example) = example() else { return };
    check(&run(&mut Command::new(example)));
}

#[test]
fn an_ordinary_user_can_run_it() {
    let Some(example) = example() else { return };
    if !nix::unistd::geteuid().is_root() {
        return; // The other test has been an ordinary user's.
    }
    // Not by its path: the user may be barred from a directory on the way. A duplicate stays open in
    // the new process.
    let open = std::fs::File::open(example).and_then(|file| Ok(nix::unistd::dup(file)?)).expect("the example opens");
    let path = format!("/proc/self/fd/{}", open.as_raw_fd());
    match Command::new(path).uid(65534).gid(65534).current_dir("/").output() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => skipped("only root may run what is built here"),
        output => check(&output.expect("the example runs")),
    }
}

#[test]
fn where_namespaces_are_forbidden_it_names_the_sysctl() {
    let Some(example) = example() else { return };
    // A user namespace has limits of its own for those below it.
    let script = "cd /proc/sys/user && echo 0 >max_user_namespaces && echo 0 >max_net_namespaces && exec \"$0\"";
    let probe = Command::new("unshare").args(["-Ur", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return skipped("unshare -Ur does not work here");
    }
    let output = run(Command::new("unshare").args(["-Ur", "sh", "-c", script]).arg(example));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("user.max_user_namespaces is 0"), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// The example, which cargo builds before it runs tests; next to this program's directory.
fn example() -> Option<PathBuf> {
    let this = std::env::current_exe().expect("this program has a path");
    let path = this.parent().and_then(Path::parent)?.join("examples/quickstart");
    if !path.exists() {
        skipped("the example is not built: cargo build --example quickstart");
        return None;
    }
    Some(path)
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn check(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("may not make") || stderr.contains("cannot set the namespaces up") {
        assert_eq!(output.status.code(), Some(1));
        return skipped(&stderr);
    }
    assert!(output.status.success(), "{stdout}{stderr}");
    assert_eq!(stderr, "");

    let lines: Vec<_> = stdout.lines().collect();
    for [name, way, outcome, key] in ROWS {
        let row = format!("{name:<27} {way:<26} ");
        let at = lines.iter().position(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no {row}: {stdout}"));
        let happened = &lines[at][row.len()..];
        if happened.starts_with("skipped: ") {
            // Only these two may be, each for its reason.
            let reason = if name.contains("IPv6") { "this kernel has no IPv6" } else { "needs a second uid" };
            assert_eq!(happened, format!("skipped: {reason}"), "{name}");
            assert!(name.contains("IPv6") || name.contains("sidecar"), "{name}");
        } else {
            assert_eq!(happened, outcome, "{name}");
            assert!(lines[at + 1].starts_with(&format!("    {key}: ")), "{name}: {}", lines[at + 1]);
        }
    }
    let traffic = lines.iter().find_map(|line| line.strip_prefix("Re-install  ")).expect("a line about re-installing");
    let (connections, rest) = traffic.split_once(' ').expect("a number first");
    assert!(connections.parse::<u32>().expect("a number") > 0);
    assert_eq!(rest, "connections, 0 unredirected, 0 failed while the rules were replaced 40 times");
    assert!(lines.last().is_some_and(|line| line.trim().starts_with("nothing left: ")), "{stdout}");
}
