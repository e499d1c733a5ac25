//! One engine after the other on a real kernel, and what `state` says meanwhile: in network
//! namespaces of their own.

#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

#[path = "common/generate.rs"]
mod generate;
#[path = "common/netns.rs"]
mod netns;
#[path = "common/outside.rs"]
mod outside;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report, State, Status, state, uninstall_all};
use kumatp::model::{Comment, EngineName, IpFamilyMode, IptablesMode, Options, Plan, Severity};
use kumatp::net::FamilyName;
use kumatp::netns::Namespace;
use kumatp::render::iptables::{self, Style};
use kumatp::{Error, facts, policy};
use netns::{isolated, run};
use outside::{
    TABLES, client, foreign_rules, left_unredirected, listener, native_rules, network, program, programs, watch,
};

fn config(mode: IptablesMode) -> Config {
    let mut config = Config::default();
    config.kuma_dp_user = Some("5678".into());
    config.redirect.outbound.exclude_ports = "22,3306".parse().unwrap();
    config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
    config.iptables_executables.v4 = programs("iptables", mode);
    config.iptables_executables.v6 = programs("ip6tables", mode);
    config
}

/// Other options, with rules in every table and at both ends of the chains.
fn other(mode: IptablesMode) -> Config {
    let mut config = config(mode);
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.outbound.insert = true;
    config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22,80-90:106-108".parse().unwrap()];
    config.drop_invalid_packets = true;
    config
}

fn plan(engine: &dyn Engine, config: &Config) -> Plan {
    let facts = facts::probe(&policy::facts_needed(config), engine.abilities(&config.options()).unwrap()).unwrap();
    policy::plan(config, &facts).unwrap()
}

fn install(engine: &dyn Engine, config: &Config) -> Result<Report, Error> {
    engine.apply(&plan(engine, config))
}

fn netlink(config: &Config) -> Result<Report, Error> {
    install(&Netlink::default(), config)
}

/// What kumactl would have installed: the same rules with comments of its own, or with none.
fn kumactl(plan: &Plan, mode: IptablesMode, comments: bool) {
    let load = |family: &str, text: &str| {
        let lines = text.lines().map(|line| match line.split_once(Comment::PREFIX) {
            Some((before, rest)) => {
                let (_, after) = rest.split_once('"').unwrap();
                match comments {
                    true => format!("{before}{}foreign words\"{after}", Comment::PREFIX),
                    false => {
                        format!("{}{}", before.strip_suffix("-m comment --comment \"").unwrap(), after.trim_start())
                    }
                }
            }
            None => line.to_owned(),
        });
        let text = lines.map(|line| line + "\n").collect::<String>();
        let mut child =
            Command::new(program(family, mode, "-restore")).arg("--noflush").stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{text}");
    };
    load("iptables", &iptables::ruleset(&plan.v4, Style::Short));
    load("ip6tables", &iptables::ruleset(plan.v6.as_ref().unwrap(), Style::Short));
}

/// Everything in nf_tables but our own tables, with handles and counters.
fn others() -> String {
    let tables = run("nft", &["list", "tables"]);
    let others = tables.lines().filter(|line| !line.ends_with("kuma-mesh"));
    others
        .map(|line| {
            let words: Vec<_> = line.split(' ').collect();
            run("nft", &["-a", "list", "table", words[1], words[2]])
        })
        .collect()
}

fn ours_in_nft() -> bool {
    run("nft", &["list", "tables"]).contains("kuma-mesh")
}

fn ours_in_iptables(mode: IptablesMode) -> bool {
    ["iptables", "ip6tables"].iter().any(|family| {
        let text = run(program(family, mode, "-save").to_str().unwrap(), &[]);
        text.contains("\n:KUMA_MESH_") || text.contains(&format!("--comment \"{}", Comment::PREFIX))
    })
}

fn loopback_address() -> bool {
    run("ip", &["-6", "addr", "show", "dev", "lo"]).contains("inet6 ::6/128")
}

fn warnings(report: &Report) -> Vec<&str> {
    let warnings = report.notes.iter().filter(|note| note.severity == Severity::Warning);
    warnings.map(|note| note.text.as_str()).collect()
}

fn now() -> State {
    state(None, None).unwrap()
}

fn differences(state: &State) -> String {
    match &state.status {
        Status::Drifted { differences } => differences.join("\n"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn netlink_takes_the_place_of_iptables_nft_and_touches_nothing_else() {
    isolated(|| {
        network();
        // Tables that iptables makes and does not remove.
        for table in TABLES {
            run(program("iptables", IptablesMode::Nft, "").to_str().unwrap(), &["-t", table, "-S"]);
        }
        foreign_rules(IptablesMode::Nft);
        native_rules();
        let before = others();
        assert!(before.contains("packets 3 "), "{before}");
        let old = other(IptablesMode::Nft);
        let plan = plan(&Iptables::default(), &old);
        let installations: [&dyn Fn(); 2] =
            [&|| drop(Iptables::default().apply(&plan).unwrap()), &|| kumactl(&plan, IptablesMode::Nft, true)];
        for install_old in installations {
            install_old();
            assert_ne!(others(), before);
            let report = netlink(&config(IptablesMode::Nft)).unwrap();
            let removed = report.steps.iter().filter(|step| step.contains("nft)")).collect::<Vec<_>>();
            assert_eq!(removed.len(), 6, "raw, mangle and nat of both families: {report:?}");
            assert!(warnings(&report).is_empty(), "{report:?}");
            assert_eq!(others(), before);
            assert!(ours_in_nft() && loopback_address());
            assert_eq!(now().status, Status::Current);
            assert!(!netlink(&config(IptablesMode::Nft)).unwrap().changed);

            // An installation beside ours that is right goes without a replacement.
            install_old_again(&plan);
            let report = netlink(&config(IptablesMode::Nft)).unwrap();
            assert!(!report.steps.iter().any(|step| step.contains("kuma-mesh")), "{report:?}");
            assert_eq!(others(), before);

            // Uninstalling removes both.
            install_old_again(&plan);
            Netlink::default().uninstall(&Options::default()).unwrap();
            assert_eq!(others(), before);
            assert!(!ours_in_nft() && !loopback_address());
        }
    });
}

fn install_old_again(plan: &Plan) {
    kumactl(plan, IptablesMode::Nft, true);
    assert!(ours_in_iptables(IptablesMode::Nft));
}

#[test]
fn rules_without_comments_are_removed_as_far_as_they_are_known() {
    isolated(|| {
        network();
        let mut old = config(IptablesMode::Nft);
        old.comments.disabled = true;
        let plan = plan(&Iptables::default(), &old);
        kumactl(&plan, IptablesMode::Nft, false);
        let report = netlink(&config(IptablesMode::Nft)).unwrap();
        assert!(warnings(&report).iter().any(|text| text.contains("had no comments")), "{report:?}");
        assert!(!ours_in_iptables(IptablesMode::Nft));
        let stayed = run(program("iptables", IptablesMode::Nft, "-save").to_str().unwrap(), &[]);
        assert!(stayed.contains("-A OUTPUT -d 10.99.0.0/16 -j RETURN"), "{stayed}");
        run("nft", &["flush", "ruleset"]);

        // Ours are noted down, and go with the programs.
        Iptables::default().apply(&plan).unwrap();
        let engine = Netlink::default();
        let report = install(&engine, &config(IptablesMode::Nft)).unwrap();
        assert!(warnings(&report).iter().any(|text| text.contains("rules without comments in built-in")), "{report:?}");
        assert!(!warnings(&report).iter().any(|text| text.contains("had no comments")), "{report:?}");
        assert_eq!(engine.left_to_iptables().unwrap().len(), 1);
        Iptables::default().remove_leftovers(&old.options()).unwrap();
        assert!(engine.left_to_iptables().unwrap().is_empty());
        let left = run(program("iptables", IptablesMode::Nft, "-save").to_str().unwrap(), &[]);
        assert!(!left.contains("-A "), "{left}");
        assert!(ours_in_nft() && loopback_address());
        assert_eq!(now().status, Status::Current);

        // Nor is there anything to look into where they go with the rest.
        Iptables::default().apply(&plan).unwrap();
        let reports = uninstall_all(&Options::default(), None).unwrap();
        assert!(reports.iter().all(|report| warnings(report).is_empty()), "{reports:?}");
        let left = run(program("iptables", IptablesMode::Nft, "-save").to_str().unwrap(), &[]);
        assert!(!left.contains("-A "), "{left}");
    });
}

#[test]
fn rules_of_others_that_lead_to_what_is_to_go_are_a_conflict() {
    isolated(|| {
        network();
        install(&Iptables::default(), &config(IptablesMode::Nft)).unwrap();
        let tables = program("ip6tables", IptablesMode::Nft, "");
        run(tables.to_str().unwrap(), &["-t", "nat", "-N", "SOMEBODY"]);
        run(tables.to_str().unwrap(), &["-t", "nat", "-A", "SOMEBODY", "-p", "tcp", "-j", "KUMA_MESH_OUTBOUND"]);
        let before = run("nft", &["-a", "list", "ruleset"]);
        for error in [
            netlink(&config(IptablesMode::Nft)).unwrap_err(),
            Netlink::default().uninstall(&Options::default()).unwrap_err(),
        ] {
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("KUMA_MESH_OUTBOUND") && text.contains("ip6 nat"), "{text}");
        }
        assert_eq!(run("nft", &["-a", "list", "ruleset"]), before);
    });
}

/// Others change the same tables all the time: each change makes what was read outdated.
#[test]
fn leftovers_are_removed_while_others_change_the_same_tables() {
    isolated(|| {
        network();
        let plan = plan(&Iptables::default(), &other(IptablesMode::Nft));
        let stop = Arc::new(AtomicBool::new(false));
        let changes = Arc::new(AtomicUsize::new(0));
        let (stopped, changed) = (stop.clone(), changes.clone());
        let others = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                run(
                    "nft",
                    &[
                        "add table ip nat; add chain ip nat SOMEBODY; flush chain ip nat SOMEBODY; add rule ip nat SOMEBODY counter",
                    ],
                );
                changed.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(2));
            }
        });
        // Until there was something to disturb them, however busy the machine is.
        let enough = |round| round >= 10 && changes.load(Ordering::Relaxed) > 10;
        for _ in (0..1_000).take_while(|round| !enough(*round)) {
            kumactl(&plan, IptablesMode::Nft, true);
            netlink(&config(IptablesMode::Nft)).unwrap();
            assert!(!ours_in_iptables(IptablesMode::Nft));
            assert!(run("nft", &["list", "chain", "ip", "nat", "SOMEBODY"]).contains("counter"));
        }
        stop.store(true, Ordering::Relaxed);
        others.join().unwrap();
        assert!(changes.load(Ordering::Relaxed) > 10);
    });
}

#[test]
fn legacy_leftovers_are_a_conflict_unless_somebody_removes_them() {
    isolated(|| {
        network();
        foreign_rules(IptablesMode::Legacy);
        let foreign = run(program("iptables", IptablesMode::Legacy, "-save").to_str().unwrap(), &[]);
        // Chains and comments of others that only mention us are none of ours.
        assert!(foreign.contains("KUMA_MESH_"));
        netlink(&config(IptablesMode::Nft)).unwrap();
        Netlink::default().uninstall(&Options::default()).unwrap();

        let old = config(IptablesMode::Legacy);
        let plan = plan(&Iptables::default(), &old);
        let installations: [&dyn Fn(); 2] =
            [&|| drop(Iptables::default().apply(&plan).unwrap()), &|| kumactl(&plan, IptablesMode::Legacy, true)];
        for install_old in installations {
            install_old();
            let address = loopback_address();
            let error = netlink(&config(IptablesMode::Nft)).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
            assert!(error.to_string().contains("IPv4") && error.to_string().contains("IPv6"), "{error}");
            assert!(!ours_in_nft());
            assert_eq!(loopback_address(), address);

            let engine = Netlink::default().allow_legacy_leftovers();
            let report = install(&engine, &config(IptablesMode::Nft)).unwrap();
            assert!(report.notes.iter().any(|note| note.text.contains("iptables-legacy")), "{report:?}");
            let both = now();
            assert_eq!(both.installations.len(), 2, "{both:?}");
            assert!(differences(&both).starts_with("several engines have rules: netlink, iptables (legacy)"));
            assert_eq!(engine.left_to_iptables().unwrap().len(), 2);
            let report = Iptables::default().remove_leftovers(&old.options()).unwrap();
            assert!(report.changed);
            assert!(engine.left_to_iptables().unwrap().is_empty() && !ours_in_iptables(IptablesMode::Legacy));
            assert!(ours_in_nft() && loopback_address());
            assert_eq!(now().status, Status::Current);
            let report = engine.uninstall(&Options::default()).unwrap();
            assert!(report.notes.is_empty(), "{report:?}");
            assert!(!loopback_address());
        }
        assert_eq!(
            run(program("iptables", IptablesMode::Legacy, "-save").to_str().unwrap(), &["-t", "nat"])
                .matches(":KUMA")
                .count(),
            0
        );

        // Netlink alone cannot uninstall it, and says so.
        install(&Iptables::default(), &old).unwrap();
        let report = Netlink::default().uninstall(&Options::default()).unwrap();
        assert_eq!(warnings(&report).len(), 2, "{report:?}");
    });
}

#[test]
fn iptables_takes_the_place_of_netlink() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            netlink(&config(mode)).unwrap();
            let report = install(&Iptables::default(), &config(mode)).unwrap();
            let removed = "removed the tables ip kuma-mesh and ip6 kuma-mesh";
            assert_eq!(report.steps.last().unwrap(), removed, "{report:?}");
            assert!(!ours_in_nft() && ours_in_iptables(mode) && loopback_address());
            // The address was added by the first, and is removed with the second.
            Iptables::default().uninstall(&Options::default()).unwrap();
            assert!(!ours_in_iptables(mode) && !loopback_address());
        }
        // Without IPv6 now, nothing of IPv6 stays.
        netlink(&config(IptablesMode::Nft)).unwrap();
        let mut four = config(IptablesMode::Nft);
        four.ip_family_mode = IpFamilyMode::Ipv4;
        install(&Iptables::default(), &four).unwrap();
        assert!(!ours_in_nft() && !loopback_address());
    });
}

#[test]
fn a_switch_of_engines_lets_no_connection_out() {
    isolated(|| {
        network();
        watch();
        // As Kuma's, on every address of both families: netlink sends connections to the one that they come from.
        let accepted = listener("[::]:15001");
        netlink(&config(IptablesMode::Nft)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let clients = [client("10.88.0.1:80", stop.clone()), client("[fd88::1]:80", stop.clone())];
        // Until there were connections to be let out, however busy the machine is.
        let enough = |round| round >= 12 && accepted.load(Ordering::Relaxed) > 40;
        for round in (0..1_000).take_while(|round| !enough(*round)) {
            let mode = if round % 3 == 2 { IptablesMode::Legacy } else { IptablesMode::Nft };
            install(&Iptables::default(), &config(mode)).unwrap();
            assert!(!ours_in_nft());
            let engine = Netlink::default().allow_legacy_leftovers();
            install(&engine, &config(mode)).unwrap();
            Iptables::default().remove_leftovers(&config(mode).options()).unwrap();
            assert!(!ours_in_iptables(mode));
        }
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            let (made, failed) = client.join().unwrap();
            assert!(made > 0 && failed == 0, "{made} made, {failed} failed");
        }
        assert!(accepted.load(Ordering::Relaxed) > 40);
        assert_eq!(left_unredirected(), 0);
    });
}

#[test]
fn the_state_follows_what_happens_to_the_tables() {
    isolated(|| {
        network();
        let plan = plan(&Netlink::default(), &config(IptablesMode::Nft));
        let install = || drop(Netlink::default().apply(&plan).unwrap());
        let absent = now();
        assert_eq!((&absent.status, absent.installations.len()), (&Status::Absent, 0));
        assert_eq!(serde_json::to_string(&absent).unwrap(), r#"{"status":{"state":"absent"},"installations":[]}"#);
        install();
        let current = now();
        assert_eq!(current.status, Status::Current);
        assert_eq!(
            serde_json::to_string(&current).unwrap(),
            r#"{"status":{"state":"current"},"installations":[{"engine":"netlink","families":["ipv4","ipv6"],"status":{"state":"current"}}],"notes":[{"severity":"info","about":"kumactl","text":"it does not see what the engine netlink installed: run 'kumatp uninstall' before going back to it"}]}"#
        );

        let list = run("nft", &["-a", "list", "chain", "ip", "kuma-mesh", "KUMA_MESH_OUTBOUND"]);
        let handle = list.lines().nth(2).and_then(|rule| rule.rsplit_once("handle ")).unwrap().1.trim().to_owned();
        let set = run("nft", &["list", "sets", "ip6"]);
        assert!(set.contains("outbound_exclude_ports"), "{set}");
        // Each change, what is said of it without a plan, and what is said with it.
        let changes: &[(&[&str], &str, &str)] = &[
            (
                &["delete", "rule", "ip", "kuma-mesh", "KUMA_MESH_OUTBOUND", "handle", &handle],
                "ip kuma-mesh: it has ",
                "the chain KUMA_MESH_OUTBOUND has ",
            ),
            (
                &["add", "element", "ip6", "kuma-mesh", "outbound_exclude_ports", "{ 9000 }"],
                "ip6 kuma-mesh: its sets have 9 intervals, expected 8",
                "the set outbound_exclude_ports has been changed",
            ),
            (
                &["flush", "chain", "ip", "kuma-mesh", "KUMA_MESH_INBOUND"],
                "ip kuma-mesh: the chain KUMA_MESH_INBOUND is empty",
                "the chain KUMA_MESH_INBOUND has 0 rules",
            ),
            (
                &["add", "rule", "ip", "kuma-mesh", "nat_output_last", "counter"],
                "of chain nat_output_last is not one that kumatp makes",
                "the chain nat_output_last has 4 rules, expected 3",
            ),
            (
                &["add", "table", "ip", "kuma-mesh", "{ flags dormant; }"],
                "ip kuma-mesh: the table is switched off (flags dormant)",
                "the table is switched off (flags dormant)",
            ),
            (&["flush", "table", "ip", "kuma-mesh"], "ip kuma-mesh: it has no rules", "has 0 rules"),
            (
                &["delete", "table", "ip6", "kuma-mesh"],
                "or the table of the other family was removed",
                "the table ip6 kuma-mesh is missing",
            ),
        ];
        for (command, without, with) in changes {
            assert_eq!(now().status, Status::Current);
            run("nft", command);
            let text = differences(&now());
            assert!(text.contains(without), "{command:?}: {text}");
            let text = differences(&state(Some(&plan), None).unwrap());
            assert!(text.contains(with), "{command:?}: {text}");
            install();
            assert_eq!(state(Some(&plan), None).unwrap().status, Status::Current);
        }
        // Right as it was installed, and not what another configuration asks for.
        let other = self::plan(&Netlink::default(), &other(IptablesMode::Nft));
        assert!(differences(&state(Some(&other), None).unwrap()).contains("a different configuration"));
        run("nft", &["flush", "ruleset"]);
        assert_eq!(now().status, Status::Absent);
    });
}

#[test]
fn any_plan_is_current_once_it_is_installed() {
    isolated(|| {
        let mut state = 1_u64;
        for _ in 0..40 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()
            })
            .take(256)
            .flatten()
            .collect();
            let mut u = arbitrary::Unstructured::new(&bytes);
            let (config, facts) = (generate::config(&mut u).unwrap(), generate::facts(&mut u).unwrap());
            let plan = policy::plan(&config, &facts).unwrap();
            Netlink::default().apply(&plan).unwrap();
            assert_eq!(now().status, Status::Current, "{config:?}");
        }
    });
}

#[test]
fn the_state_names_installations_by_iptables() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            let mut plain = other(mode);
            plain.comments.disabled = true;
            for (config, comments) in [(other(mode), true), (plain, false)] {
                let plan = plan(&Iptables::default(), &config);
                let check = || {
                    let found = now();
                    assert_eq!(found.installations.len(), 1, "{found:?}");
                    let only = &found.installations[0];
                    assert_eq!((only.engine, only.mode), (EngineName::Iptables, Some(mode)));
                    assert_eq!(only.families, FamilyName::ALL);
                    assert!(matches!(found.status, Status::Uncompared { .. }), "{found:?}");
                    assert_eq!(state(Some(&plan), None).unwrap().status, Status::Current);
                    let elsewhere = self::plan(&Iptables::default(), &self::config(mode));
                    let text = differences(&state(Some(&elsewhere), None).unwrap());
                    assert!(text.contains("IPv4: ") && text.contains("IPv6: "), "{text}");
                    let tables = program("ip6tables", mode, "");
                    run(tables.to_str().unwrap(), &["-t", "nat", "-D", "KUMA_MESH_OUTBOUND", "1"]);
                    let text = differences(&state(Some(&plan), None).unwrap());
                    assert!(text.starts_with("IPv6: the chain KUMA_MESH_OUTBOUND of the table nat has "), "{text}");
                };
                Iptables::default().apply(&plan).unwrap();
                check();
                Iptables::default().uninstall(&config.options()).unwrap();
                kumactl(&plan, mode, comments);
                run("ip", &["addr", "replace", "::6/128", "dev", "lo"]);
                check();
                for family in ["iptables", "ip6tables"] {
                    for table in TABLES {
                        run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-F"]);
                        run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-X"]);
                    }
                }
                assert_eq!(now().status, Status::Absent);
            }
        }
    });
}

#[test]
fn everything_can_be_uninstalled_whatever_engine_made_it() {
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        for mode in IptablesMode::ALL {
            let plan = plan(&Iptables::default(), &other(mode));
            kumactl(&plan, mode, true);
        }
        let mut dry = Config::default();
        dry.dry_run = true;
        let before = run("nft", &["-a", "list", "ruleset"]);
        let reports = uninstall_all(&dry.options(), None).unwrap();
        let steps: Vec<_> = reports.iter().flat_map(|report| &report.steps).collect();
        // Our tables, three tables of two families and two modes, and the address; each once.
        assert_eq!(steps.len(), 1 + 3 * 2 * 2 + 1, "{steps:?}");
        assert!(reports.iter().all(|report| !report.changed));
        assert_eq!(run("nft", &["-a", "list", "ruleset"]), before);

        let reports = uninstall_all(&Options::default(), None).unwrap();
        assert!(reports.iter().all(|report| report.changed && warnings(report).is_empty()), "{reports:?}");
        assert!(!ours_in_nft() && !loopback_address());
        assert!(IptablesMode::ALL.into_iter().all(|mode| !ours_in_iptables(mode)));
        assert!(!Path::new("/run/kumatp").exists());
        let reports = uninstall_all(&Options::default(), None).unwrap();
        assert!(reports.iter().all(|report| !report.changed && report.steps.is_empty()), "{reports:?}");
    });
}

/// What nothing can remove is no success, and keeps nothing else in place.
#[test]
fn rules_that_stay_are_a_failure_that_names_them() {
    isolated(|| {
        network();
        install(&Iptables::default(), &config(IptablesMode::Legacy)).unwrap();
        install(&Netlink::default().allow_legacy_leftovers(), &config(IptablesMode::Nft)).unwrap();
        let names: Vec<_> = ["iptables", "ip6tables"]
            .into_iter()
            .flat_map(|family| {
                IptablesMode::ALL.map(|mode| ["", "-save", "-restore"].map(|end| program(family, mode, end)))
            })
            .flatten()
            .map(|path| path.canonicalize().unwrap())
            .collect();
        // The programs are gone, in this mount namespace.
        for path in names.iter().collect::<std::collections::BTreeSet<_>>() {
            run("mount", &["--bind", "/dev/null", path.to_str().unwrap()]);
        }
        let error = uninstall_all(&Options::default(), None).unwrap_err();
        let Error::Several(parts) = &error else { panic!("{error}") };
        assert!(matches!(&parts[..], [Error::Conflict { .. }, Error::Unsupported { .. }]), "{error}");
        let first = error.to_string().lines().next().unwrap().to_owned();
        assert!(
            first.contains("IPv4 and IPv6 rules in tables of iptables-legacy, and they are still active"),
            "{first}"
        );
        // The rules that stay need the address.
        assert!(!ours_in_nft() && loopback_address());
        for path in names.iter().collect::<std::collections::BTreeSet<_>>() {
            run("umount", &[path.to_str().unwrap()]);
        }
        assert!(ours_in_iptables(IptablesMode::Legacy));
        uninstall_all(&Options::default(), None).unwrap();
        assert!(!ours_in_iptables(IptablesMode::Legacy) && !loopback_address());
    });
}

/// An engine that removes what it has installed leaves `::6` to what others have in force.
#[test]
fn the_address_stays_where_rules_of_another_engine_need_it() {
    #[cfg(feature = "ebpf")]
    let programs = || -> Option<Box<dyn Engine>> { Some(Box::new(kumatp::engine::ebpf::Ebpf::default())) };
    #[cfg(not(feature = "ebpf"))]
    let programs = || -> Option<Box<dyn Engine>> { None };
    let stays = |engine: &dyn Engine, holder: &str| {
        let mut dry = Config::default();
        dry.dry_run = true;
        for config in [dry, Config::default()] {
            let report = engine.uninstall(&config.options()).unwrap();
            assert_eq!((report.steps.as_slice(), report.changed), (&[][..], false), "{holder}");
            let said =
                format!("::6/128 stays on the loopback interface: what the engine {holder} has installed needs it");
            assert!(report.notes.iter().any(|note| note.text == said), "{report:?}");
            assert!(loopback_address());
        }
    };
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        stays(&Iptables::default(), "netlink");
        programs().iter().for_each(|engine| stays(&**engine, "netlink"));
        assert_eq!(now().status, Status::Current);
        uninstall_all(&Options::default(), None).unwrap();
        assert!(!loopback_address());

        for mode in IptablesMode::ALL {
            install(&Iptables::default(), &config(mode)).unwrap();
            programs().iter().for_each(|engine| stays(&**engine, "iptables"));
            if mode == IptablesMode::Legacy {
                stays(&Netlink::default(), "iptables");
            }
            assert!(ours_in_iptables(mode));
            uninstall_all(&Options::default(), None).unwrap();
            assert!(!ours_in_iptables(mode) && !loopback_address());
        }

        // Rules for IPv4 do not need it.
        netlink(&config(IptablesMode::Nft)).unwrap();
        run("nft", &["delete", "table", "ip6", "kuma-mesh"]);
        let report = Iptables::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed ::6/128 from the loopback interface"]);
        assert!(ours_in_nft() && !loopback_address());
    });
}

/// What cannot be looked into may need the address.
#[test]
fn the_address_stays_where_nobody_can_tell_whether_rules_need_it() {
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        let lists = std::fs::canonicalize("/proc/thread-self/net").unwrap();
        run("mount", &["-t", "tmpfs", "none", lists.to_str().unwrap()]);
        let report = Netlink::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed the tables ip kuma-mesh and ip6 kuma-mesh"]);
        let said = "::6/128 stays on the loopback interface, as what may be installed besides may need it: cannot look into the \
                    IPv6 tables of iptables-legacy: ";
        assert!(warnings(&report).iter().any(|text| text.starts_with(said)), "{report:?}");
        assert!(!ours_in_nft() && loopback_address());

        run("umount", &[lists.to_str().unwrap()]);
        let report = Netlink::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed ::6/128 from the loopback interface"]);
    });
}

#[test]
fn engines_and_facts_of_another_namespace() {
    isolated(|| {
        run("ip", &["netns", "add", "pod"]);
        let pod = || Namespace::open("/run/netns/pod").unwrap();
        let inside = |program: &str, args: &[&str]| run("ip", &[&["netns", "exec", "pod", program], args].concat());
        // Loopback goes by another name there, and only there is IPv6.
        inside("ip", &["link", "set", "lo", "name", "loop"]);
        inside("ip", &["link", "set", "loop", "up"]);
        inside("ip", &["link", "add", "out0", "type", "veth", "peer", "name", "nobody0"]);
        inside("ip", &["link", "set", "out0", "up"]);
        inside("ip", &["addr", "add", "fd77::1/64", "dev", "out0", "nodad"]);
        let mut config = config(IptablesMode::Nft);
        config.redirect.dns.enabled = true;
        config.redirect.dns.resolv_conf = "/run/resolv.conf".into();
        std::fs::write("/run/resolv.conf", "nameserver 203.0.113.53\n").unwrap();
        let request = policy::facts_needed(&config);
        let engines: [Box<dyn Engine>; 2] =
            [Box::new(Netlink::in_namespace(pod())), Box::new(Iptables::default().in_namespace(pod()))];
        for engine in &engines {
            let abilities = engine.abilities(&config.options()).unwrap();
            let here = facts::probe(&request, abilities.clone()).unwrap();
            let there = facts::probe_in(Some(&pod()), &request, abilities).unwrap();
            assert_eq!((here.loopback.as_str(), there.loopback.as_str()), ("lo", "loop"));
            assert!(here.ipv6 != there.ipv6, "{here:?} {there:?}");
            assert_eq!(there.resolvers.as_ref().unwrap().path, Path::new("/run/resolv.conf"));
            let plan = policy::plan(&config, &there).unwrap();
            assert!(plan.v6.is_some());
            assert!(engine.apply(&plan).unwrap().changed);
            assert!(inside("ip", &["-6", "addr", "show", "dev", "loop"]).contains("inet6 ::6/128"));
            assert_eq!(now().status, Status::Absent);
            assert_eq!(state(Some(&plan), Some(&pod())).unwrap().status, Status::Current);
            assert_eq!(state(None, Some(&pod())).unwrap().installations[0].engine, engine.name());
            assert!(!loopback_address());
        }
        assert_eq!(run("nft", &["list", "ruleset"]), "");
        // One after the other: only the last one is there.
        assert!(!inside("nft", &["list", "tables"]).contains("kuma-mesh"));
        let reports = uninstall_all(&Options::default(), Some(&pod())).unwrap();
        assert!(reports.iter().any(|report| report.changed));
        assert!(!inside("ip", &["-6", "addr", "show", "dev", "loop"]).contains("inet6 ::6/128"));
        assert_eq!(state(None, Some(&pod())).unwrap().status, Status::Absent);
        // The record is of the namespace that it is about.
        assert!(!Path::new("/run/kumatp").exists());
    });
}
