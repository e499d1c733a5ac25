//! `kumatp demo`, run as people run it, and the example `quickstart`, which shows the same.

#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "common/skip.rs"]
mod skip;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output};

use self::skip::skipped;

/// What it prints about each connection: name, way, outcome, and where its rule comes from.
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
    check(&run(&mut demo()));
}

#[test]
fn the_example_shows_the_same() {
    // Cargo builds it before it runs tests; next to this program's directory.
    let this = std::env::current_exe().expect("this program has a path");
    let example = this.ancestors().nth(2).expect("a directory").join("examples/quickstart");
    if !example.exists() {
        return skipped("the example is not built: cargo build --example quickstart");
    }
    check(&run(&mut Command::new(example)));
}

#[test]
fn an_ordinary_user_can_run_it() {
    if !nix::unistd::geteuid().is_root() {
        return; // The other test has been an ordinary user's.
    }
    // Not by its path: the user may be barred from a directory on the way. A duplicate stays open in
    // the new process.
    let open = File::open(KUMATP).and_then(|file| Ok(nix::unistd::dup(file)?)).expect("the command opens");
    let path = format!("/proc/self/fd/{}", open.as_raw_fd());
    match Command::new(path).arg("demo").uid(65534).gid(65534).current_dir("/").output() {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => skipped("only root may run what is built here"),
        output => check(&output.expect("the command runs")),
    }
}

#[test]
fn where_namespaces_are_forbidden_it_names_the_sysctl() {
    // A user namespace has limits of its own for those below it.
    let script = "cd /proc/sys/user && echo 0 >max_user_namespaces && echo 0 >max_net_namespaces && exec \"$0\" demo";
    let Some(output) = in_namespaces("-Ur", script) else { return };
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.contains("user.max_user_namespaces is 0"), "{stderr}");
    assert!(output.stdout.is_empty());
}

/// The namespace that it is started in stands for the host's.
#[test]
fn nothing_of_the_host_is_changed() {
    let look = "cat /proc/net/dev_mcast /proc/net/if_inet6 /proc/net/fib_trie /proc/net/tcp; ls /proc/sys/net/ipv4/conf; nft list ruleset";
    let script = format!(
        "ip link set lo up; {look} >/dev/null || exit 77; before=$({look}); \"$0\" demo || exit; after=$({look}); [ \"$before\" = \"$after\" ] || {{ echo \"$before\" \"$after\" >&2; exit 99; }}"
    );
    let Some(output) = in_namespaces("-Urn", &script) else { return };
    match output.status.code() {
        Some(77) => skipped("nft, or something of /proc/net, is missing"),
        _ => check(&output),
    }
}

#[test]
fn no_port_is_opened_where_it_was_started() {
    let here = std::fs::read_link("/proc/self/ns/net").expect("a namespace");
    let output = run(demo().arg("sidecar").arg(here));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in namespaces of its own only"));
    assert!(output.stdout.is_empty(), "it has listened");
}

#[test]
fn it_takes_no_arguments() {
    let output = run(demo().arg("please"));
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "error: unexpected argument 'please': demo takes none\n");
    assert!(output.stdout.is_empty());
}

#[test]
fn what_it_shows_has_to_be_written() {
    let full = File::options().write(true).open("/dev/full").expect("a device");
    let output = demo().stdout(full).output().expect("the command runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    if forbidden(&stderr) {
        return skipped(&stderr);
    }
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr, "error: cannot write to standard output: No space left on device\n");
}

const KUMATP: &str = env!("CARGO_BIN_EXE_kumatp");

fn demo() -> Command {
    let mut command = Command::new(KUMATP);
    command.arg("demo");
    command
}

/// Runs a script, whose `$0` is the command, in namespaces that `unshare` makes; `None` where it cannot.
fn in_namespaces(kinds: &str, script: &str) -> Option<Output> {
    let probe = Command::new("unshare").args([kinds, "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        skipped(&format!("unshare {kinds} does not work here"));
        return None;
    }
    Some(run(Command::new("unshare").args([kinds, "sh", "-c", script, KUMATP])))
}

/// Whether namespaces cannot be made here.
fn forbidden(stderr: &str) -> bool {
    stderr.contains("may not make") || stderr.contains("cannot set the namespaces up")
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

fn check(output: &Output) {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    if forbidden(&stderr) {
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
