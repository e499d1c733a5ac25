//! One engine takes the place of another.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Status, state, uninstall_all};
use kumatp::model::{IpFamilyMode, IptablesMode, Options, Plan};
use kumatp::netns::Namespace;
use kumatp::{Error, facts, policy};

use super::netns::{isolated, run};
use super::outside::{
    TABLES, client, foreign_rules, left_unredirected, listener, native_rules, network, program, watch,
};
use super::{
    config, differences, install, kumactl, loopback_address, netlink, now, other, others, ours_in_iptables,
    ours_in_nft, plan, warnings,
};

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

        // Where the programs are run at once, nobody is told of what they remove.
        engine.uninstall(&Options::default()).unwrap();
        Iptables::default().apply(&plan).unwrap();
        let wanted = super::plan(&engine, &config(IptablesMode::Nft));
        let reports = kumatp::engine::replace_all(&wanted, None).unwrap();
        assert!(reports.len() == 2 && reports.iter().all(|report| warnings(report).is_empty()), "{reports:?}");
        let left = run(program("iptables", IptablesMode::Nft, "-save").to_str().unwrap(), &[]);
        assert!(!left.contains("-A "), "{left}");

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
            [Box::new(Netlink::default().in_namespace(pod())), Box::new(Iptables::default().in_namespace(pod()))];
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
