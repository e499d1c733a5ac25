//! How many programs of iptables the command runs. What the kernel says itself, none is run for.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]
#![expect(clippy::duplicate_mod, reason = "both of the common modules skip tests")]

#[path = "common/command.rs"]
#[expect(dead_code, reason = "only running the command is wanted")]
mod command;
#[path = "common/netns.rs"]
mod netns;
#[path = "common/outside.rs"]
#[expect(dead_code, reason = "no connections are made")]
mod outside;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use kumatp::model::IptablesMode;

use self::command::{text, with_variables};
use self::netns::{isolated, run};
use self::outside::{foreign_rules, network};

const WRAPPED: &str = "/run/wrapped";
const CALLS: &str = "/run/calls";
const FAMILIES: [&str; 2] = ["iptables", "ip6tables"];

/// Programs that note each call of them, before all others in `PATH`.
fn wrap() {
    fs::create_dir(WRAPPED).unwrap();
    for family in FAMILIES {
        for mode in ["", "-nft", "-legacy"] {
            for end in ["", "-save", "-restore"] {
                let (name, path) = (format!("{family}{mode}{end}"), format!("{WRAPPED}/{family}{mode}{end}"));
                let script = format!("#!/bin/sh\necho \"{name} $*\" >>{CALLS}\nexec /usr/sbin/{name} \"$@\"\n");
                fs::write(&path, script).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
}

/// Runs the command, which ends with this status, and says how many programs it ran for IPv4 and for IPv6.
fn programs(mode: IptablesMode, status: i32, args: &[&str]) -> [usize; 2] {
    let _ = fs::remove_file(CALLS);
    let given = FAMILIES.map(|family| {
        let own = |end| format!("{family}{end}:{WRAPPED}/{family}-{mode}{end}");
        ["", "-save", "-restore"].map(own).join(",")
    });
    let path = format!("{WRAPPED}:{}", std::env::var("PATH").unwrap());
    let given = format!("--iptables-executables={}", given.join(","));
    // Those of the nft variant are found without being named, and a removal looks for all.
    let named = mode == IptablesMode::Legacy && args[0] != "uninstall";
    let args: Vec<_> = args.iter().copied().chain(named.then_some(given.as_str())).collect();
    let output = with_variables(&args, "", &[("PATH", &path)]);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {}{}", text(&output.stdout), text(&output.stderr));
    let calls = fs::read_to_string(CALLS).unwrap_or_default();
    let different: BTreeSet<_> = calls.lines().collect();
    assert_eq!(different.len(), calls.lines().count(), "{args:?}: no program is run twice for the same: {calls}");
    FAMILIES.map(|family| calls.lines().filter(|line| line.starts_with(&format!("{family}-"))).count())
}

const INSTALL: [&str; 3] = ["install", "--kuma-dp-user=5678", "--engine=iptables"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

/// The rules that kumactl has for these flags, with comments of its own.
fn by_kumactl(mode: IptablesMode) {
    for (family, name) in ["ipv4", "ipv6"].into_iter().zip(FAMILIES) {
        let flags = ["render", "--kuma-dp-user=5678", "--redirect-dns", "--family", family];
        let output = with_variables(&flags, "", &[]);
        let rules = text(&output.stdout).replace("transparent/proxy/", "transparent/proxy/in the words of another: ");
        let mut restore = Command::new(format!("/usr/sbin/{name}-{mode}-restore"));
        let mut child = restore.arg("--noflush").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), rules.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{rules}");
    }
}

fn comes_and_goes(mode: IptablesMode, before: fn(IptablesMode)) {
    network();
    wrap();
    before(mode);
    let most = |found: [usize; 2], most: usize, what: &str| {
        assert!(found.iter().all(|count| *count <= most), "{what}: {found:?} programs, at most {most} wanted ({mode})");
        println!("{mode}, {what}: {found:?}");
    };
    let uninstall = ["uninstall", "--engine=iptables"];
    let status = ["status", "--kuma-dp-user=5678", "--redirect-dns"];
    let other = ["--redirect-all-dns-traffic", "--drop-invalid-packets", "--exclude-outbound-ports=22,80-90"];
    let usual = with(&INSTALL, &["--redirect-dns"]);

    most(programs(mode, 0, &with(&usual, &["--dry-run"])), 0, "a dry run");
    most(programs(mode, 0, &with(&INSTALL, &other)), 2, "an installation where there is none");
    most(programs(mode, 0, &with(&INSTALL, &other)), 2, "the same again");
    most(programs(mode, 0, &usual), 2, "another configuration");
    most(programs(mode, 0, &status), 1, "the state");
    most(programs(mode, 3, &with(&status, &["--exclude-inbound-ports=22"])), 2, "another state");
    most(programs(mode, 0, &with(&usual, &["--dry-run"])), 0, "a dry run over an installation");
    most(programs(mode, 0, &["install", "--kuma-dp-user=5678", "--dry-run"]), 0, "a dry run of no engine");
    most(programs(mode, 0, &with(&uninstall, &["--dry-run"])), 1, "a removal that is not made");
    most(programs(mode, 0, &uninstall), 1, "a removal");
    most(programs(mode, 0, &uninstall), 0, "a removal of nothing");
    let all = [
        "--redirect-all-dns-traffic",
        "--drop-invalid-packets",
        "--iptables-logs",
        "--exclude-outbound-ports-for-uids=tcp:22,80-90:106-108",
        "--exclude-outbound-ips=10.99.0.0/16,fd99::/64",
        "--redirect-inbound=true",
        "--vnet=docker0:172.17.0.0/16",
        "--vnet=br+:fd00::/64",
    ];
    most(programs(mode, 0, &with(&INSTALL, &all)), 2, "rules of every kind");
    most(programs(mode, 0, &uninstall), 1, "a removal of rules of every kind");
    by_kumactl(mode);
    most(programs(mode, 0, &usual), 2, "an installation over kumactl's");
    most(programs(mode, 0, &uninstall), 1, "a removal");
    by_kumactl(mode);
    most(programs(mode, 0, &["uninstall"]), 1, "a removal of kumactl's rules, by whatever engine");
    let save = |family: &str| run(&format!("/usr/sbin/{family}-{mode}-save"), &[]);
    assert!(!FAMILIES.into_iter().any(|family| save(family).contains("\n:KUMA_MESH_")));
}

#[test]
fn nft_needs_few_programs() {
    isolated(|| comes_and_goes(IptablesMode::Nft, |_| ()));
}

#[test]
fn legacy_needs_few_programs() {
    isolated(|| comes_and_goes(IptablesMode::Legacy, |_| ()));
}

#[test]
fn nft_needs_few_programs_beside_rules_of_others() {
    isolated(|| comes_and_goes(IptablesMode::Nft, foreign_rules));
}

#[test]
fn legacy_needs_few_programs_beside_rules_of_others() {
    isolated(|| comes_and_goes(IptablesMode::Legacy, foreign_rules));
}
