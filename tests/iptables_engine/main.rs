//! The iptables engine on a real kernel: in network namespaces of their own, with both modes.

#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

mod asked;
mod at_once;
mod killed;
mod mixed;
#[path = "../common/netns.rs"]
mod netns;
#[path = "../common/outside.rs"]
mod outside;
mod refused;
mod uncommented;
mod users;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::{Engine as _, Report};
use kumatp::error::Error;
use kumatp::model::{IpFamilyMode, IptablesMode, Options, Severity};
use kumatp::{facts, policy};
use netns::{isolated, run};
use outside::{client, foreign_rules, left_unredirected, listener, native_rules, network, program, programs, watch};

/// Tells a part of a test which programs to use.
pub(crate) const MODE: &str = "KUMATP_TEST_MODE";

/// A configuration for programs of this mode.
pub(crate) fn config(mode: IptablesMode) -> Config {
    let mut config = Config::default();
    config.kuma_dp_user = Some("5678".into());
    config.iptables_executables.v4 = programs("iptables", mode);
    config.iptables_executables.v6 = programs("ip6tables", mode);
    config.retry.sleep = Duration::from_millis(50);
    config
}

/// Other options, with rules in every table that we use, at both ends of the chains.
pub(crate) fn other_options(mode: IptablesMode) -> Config {
    let mut config = config(mode);
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.outbound.insert = true;
    config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
    config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22,80-90:106-108".parse().unwrap()];
    config.redirect.vnet = vec![
        "docker0:172.17.0.0/16".parse().unwrap(),
        "docker0:172.18.0.0/16".parse().unwrap(),
        "br+:fd00::/64".parse().unwrap(),
    ];
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config
}

pub(crate) fn install(config: &Config) -> Result<Report, Error> {
    let engine = Iptables::default();
    let facts = facts::probe(&policy::facts_needed(config), engine.abilities(&config.options())?)?;
    engine.apply(&policy::plan(config, &facts)?)
}

pub(crate) fn uninstall() -> Report {
    Iptables::default().uninstall(&Options::default()).unwrap()
}

/// The rules of a family and mode with the counters of rules, without those of chains, and without
/// empty tables; sorted by table.
pub(crate) fn saved(family: &str, mode: IptablesMode) -> Vec<String> {
    // Looking with legacy programs makes tables.
    let text = run(program(family, mode, "-save").to_str().unwrap(), &["-c"]);
    let mut tables = Vec::new();
    for table in text.split("COMMIT\n") {
        let lines: Vec<_> = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        if lines.iter().any(|line| line.starts_with('[') || line.contains(" - [")) {
            let lines = lines.iter().map(|line| match line.strip_prefix(':') {
                Some(chain) => chain.split(" [").next().unwrap().to_owned(),
                None => (*line).to_owned(),
            });
            tables.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    tables.sort();
    tables
}

pub(crate) fn everything() -> Vec<Vec<String>> {
    ["iptables", "ip6tables"].into_iter().flat_map(|family| IptablesMode::ALL.map(|mode| saved(family, mode))).collect()
}

pub(crate) fn ours_is_there(family: &str, mode: IptablesMode) -> bool {
    saved(family, mode).iter().any(|table| table.contains("\nKUMA_MESH_") || table.contains("--comment \"kuma/mesh/"))
}

pub(crate) fn loopback_address() -> bool {
    run("ip", &["-6", "addr", "show", "dev", "lo"]).contains("inet6 ::6/128")
}

fn comes_and_goes(mode: IptablesMode) {
    network();
    foreign_rules(mode);
    if mode == IptablesMode::Nft {
        native_rules();
    }
    let native = || run("nft", &["list", "ruleset"]);
    let (before, native_before) = (everything(), native());
    assert!(before.iter().flatten().any(|table| table.contains("[3:")), "{before:?}");

    assert!(install(&config(mode)).unwrap().changed);
    let first = everything();
    assert_ne!(first, before);
    assert!(loopback_address());
    assert!(install(&config(mode)).unwrap().changed);
    assert_eq!(everything(), first);

    let report = install(&other_options(mode)).unwrap();
    assert!(report.steps.iter().any(|step| step.contains("replaced the IPv6 rules")), "{report:?}");
    let second = everything();
    install(&other_options(mode)).unwrap();
    assert_eq!(everything(), second);
    // The same as on a host that never had other options.
    install(&config(mode)).unwrap();
    assert_eq!(everything(), first);
    install(&other_options(mode)).unwrap();
    assert_eq!(everything(), second);

    let report = uninstall();
    assert!(report.changed && report.notes.is_empty(), "{report:?}");
    assert_eq!(everything(), before);
    assert_eq!(native(), native_before);
    assert!(!loopback_address());
    assert!(!Path::new("/run/kumatp").exists());
    let report = uninstall();
    assert!(!report.changed, "{report:?}");
}

#[test]
fn nft_comes_and_goes() {
    isolated(|| comes_and_goes(IptablesMode::Nft));
}

#[test]
fn legacy_comes_and_goes() {
    isolated(|| comes_and_goes(IptablesMode::Legacy));
}

fn never_goes_out_unredirected(mode: IptablesMode) {
    network();
    watch();
    let accepted = [listener("127.0.0.1:15001"), listener("[::1]:15001")];
    install(&config(mode)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [client("10.88.0.1:80", stop.clone()), client("[fd88::1]:80", stop.clone())];
    // Until there were connections to be let out, however busy the machine is.
    let enough = |round| round >= 20 && accepted.iter().all(|count| count.load(Ordering::Relaxed) > 20);
    for round in (0..1_000).take_while(|round| !enough(*round)) {
        let config = if round % 2 == 0 { other_options(mode) } else { config(mode) };
        install(&config).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(left_unredirected(), 0);
    for client in clients {
        let (made, failed) = client.join().unwrap();
        assert!(made > 0 && failed == 0, "{made} made, {failed} failed");
    }
    assert!(accepted.iter().all(|count| count.load(Ordering::Relaxed) > 20));
    assert_eq!(left_unredirected(), 0);
    // The sidecar's own connections do leave, so the counter counts.
    let connect =
        ["--reuid", "5678", "--regid", "5678", "--clear-groups", "bash", "-c", "exec 3<>/dev/tcp/10.88.0.1/80"];
    let mut sidecar = Command::new("setpriv").args(connect).stderr(Stdio::null()).spawn().unwrap();
    while left_unredirected() == 0 {
        assert!(sidecar.try_wait().unwrap().is_none(), "the sidecar's connection gets no answer");
        thread::sleep(Duration::from_millis(5));
    }
    sidecar.kill().unwrap();
    sidecar.wait().unwrap();
}

#[test]
fn nft_never_lets_a_connection_out_during_installations() {
    isolated(|| never_goes_out_unredirected(IptablesMode::Nft));
}

#[test]
fn legacy_never_lets_a_connection_out_during_installations() {
    isolated(|| never_goes_out_unredirected(IptablesMode::Legacy));
}

#[test]
fn an_installation_of_the_other_mode_or_family_is_removed() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            install(&other_options(mode)).unwrap();
            let report = install(&config(mode.other())).unwrap();
            assert!(report.steps.iter().any(|step| step.contains(&format!("(IPv6, {mode})"))), "{report:?}");
            for family in ["iptables", "ip6tables"] {
                assert!(!ours_is_there(family, mode) && ours_is_there(family, mode.other()));
            }
            let mut four = config(mode.other());
            four.ip_family_mode = IpFamilyMode::Ipv4;
            install(&four).unwrap();
            assert!(ours_is_there("iptables", mode.other()) && !ours_is_there("ip6tables", mode.other()));
            assert!(!loopback_address());
            uninstall();
            assert!(!ours_is_there("iptables", mode.other()));
        }
    });
}

#[test]
fn an_address_that_was_there_stays() {
    isolated(|| {
        network();
        run("ip", &["addr", "add", "::6/128", "dev", "lo"]);
        install(&config(IptablesMode::Nft)).unwrap();
        uninstall();
        assert!(loopback_address());
    });
}

#[test]
fn rules_of_others_that_lead_to_our_chains_are_a_conflict() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            let tables = program("iptables", mode, "");
            let tables = tables.to_str().unwrap();
            install(&config(mode)).unwrap();
            run(tables, &["-t", "nat", "-N", "SOMEBODY"]);
            run(tables, &["-t", "nat", "-A", "SOMEBODY", "-p", "tcp", "-j", "KUMA_MESH_OUTBOUND"]);
            let before = everything();
            let error = Iptables::default().uninstall(&Options::default()).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }));
            assert!(error.to_string().contains("-A SOMEBODY -p tcp -j KUMA_MESH_OUTBOUND"), "{error}");
            // What nobody leads to goes all the same.
            let four = |all: Vec<Vec<String>>| all.into_iter().take(2).collect::<Vec<_>>();
            assert_eq!(four(everything()), four(before.clone()));
            assert!(!ours_is_there("ip6tables", mode) && !loopback_address());
            // Chains that stay are not in the way.
            install(&config(mode)).unwrap();
            assert_eq!(everything(), before);
            run(tables, &["-t", "nat", "-F", "SOMEBODY"]);
            uninstall();
        }
    });
}

#[test]
fn the_mode_is_the_one_that_has_rules() {
    isolated(|| {
        network();
        let mut config = config(IptablesMode::Nft);
        config.iptables_executables = kumatp::model::Executables::default();
        let engine = Iptables::default();
        assert!(engine.abilities(&config.options()).unwrap().remarks.is_empty());
        install(&config).unwrap();
        uninstall();
        // Looking has not made legacy tables.
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default(), "");

        let (nft, legacy) = (program("iptables", IptablesMode::Nft, ""), program("iptables", IptablesMode::Legacy, ""));
        run(legacy.to_str().unwrap(), &["-t", "raw", "-N", "OLD"]);
        install(&config).unwrap();
        assert!(ours_is_there("iptables", IptablesMode::Legacy) && ours_is_there("ip6tables", IptablesMode::Legacy));
        uninstall();
        run(nft.to_str().unwrap(), &["-t", "mangle", "-N", "NEW"]);
        let abilities = engine.abilities(&config.options()).unwrap();
        assert!(abilities.remarks.iter().any(|remark| remark.severity == Severity::Warning), "{abilities:?}");
        install(&config).unwrap();
        assert!(ours_is_there("iptables", IptablesMode::Nft) && !ours_is_there("iptables", IptablesMode::Legacy));
        uninstall();
        run(legacy.to_str().unwrap(), &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let abilities = engine.abilities(&config.options()).unwrap();
        assert!(abilities.v4.docker_output && abilities.remarks.is_empty(), "{abilities:?}");
        install(&config).unwrap();
        assert!(ours_is_there("iptables", IptablesMode::Legacy) && !ours_is_there("iptables", IptablesMode::Nft));
    });
}
