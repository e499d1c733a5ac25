//! What has a name like ours and was not installed by us is a conflict, or nothing to us: it is never taken over, never removed and
//! never called an installation.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;
#[path = "common/plans.rs"]
mod plans;

use std::path::Path;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, State, Status, state};
use kumatp::model::Options;
use kumatp::{Error, Plan};

use self::isolated::{isolated, run, skipped};
use self::plans::{plan, plans};

fn nft(command: &str) -> String {
    run("nft", &[command], "")
}

fn ruleset() -> String {
    run("nft", &["-a", "list", "ruleset"], "")
}

fn default_plan() -> Plan {
    plans().remove(0).1
}

fn conflict(result: Result<impl std::fmt::Debug, Error>) -> String {
    match result {
        Err(error @ Error::Conflict { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn warnings(state: &State) -> Vec<&str> {
    let about_tables = state.notes.iter().filter(|note| note.text.contains("kuma-mesh"));
    about_tables.map(|note| note.text.as_str()).collect()
}

#[test]
fn a_table_of_our_name_without_our_marks_is_a_conflict() {
    isolated(|| {
        let (engine, plan) = (Netlink::default(), default_plan());
        for body in
            ["", "chain OUTPUT { type filter hook output priority 0; tcp dport 1 drop; };", "chain KUMA_MESH_X { };"]
        {
            nft(&format!("table ip6 kuma-mesh {{ {body} }}"));
            let before = ruleset();
            let error = conflict(engine.apply(&plan));
            assert!(error.starts_with("conflict: the table ip6 kuma-mesh was not installed by kumatp"), "{error}");
            conflict(engine.uninstall(&Options::default()));
            assert_eq!(ruleset(), before, "{body}");
            for plan in [None, Some(&plan)] {
                let state = state(plan, None).unwrap();
                assert!(state.installations.is_empty(), "{body}: {state:?}");
                // In a user namespace, nobody knows what there is besides.
                let unknown = !all_users_are_mapped() && matches!(state.status, Status::Uncompared { .. });
                assert!(unknown || state.status == Status::Absent, "{body}: {state:?}");
                let warnings = warnings(&state);
                assert!(warnings.len() == 1 && warnings[0].contains("ip6 kuma-mesh"), "{:?}", state.notes);
            }
            nft("delete table ip6 kuma-mesh");
        }
        // Beside an installation of ours, the rest of which goes.
        engine.apply(&plan).unwrap();
        nft("delete table ip6 kuma-mesh");
        nft("add table ip6 kuma-mesh");
        let state = state(None, None).unwrap();
        assert!(matches!(&state.status, Status::Drifted { .. }), "{state:?}");
        let mut dry = Config::default();
        dry.dry_run = true;
        conflict(engine.uninstall(&dry.options()));
        assert!(ruleset().contains("table ip kuma-mesh"));
        conflict(engine.uninstall(&Options::default()));
        assert_eq!(nft("list tables"), "table ip6 kuma-mesh\n");
        // A plan that does not want the name does not meet it.
        let mut ipv4 = Config::default();
        ipv4.ip_family_mode = kumatp::model::IpFamilyMode::Ipv4;
        let plan = self::plan(&ipv4, &[], false);
        assert!(engine.apply(&plan).unwrap().changed);
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);
        assert_eq!(nft("list table ip6 kuma-mesh"), "table ip6 kuma-mesh {\n}\n");
    });
}

#[test]
fn our_table_is_known_again_whatever_was_done_to_it() {
    isolated(|| {
        let (engine, plan) = (Netlink::default(), default_plan());
        for change in [
            "flush chain ip kuma-mesh kuma_mesh_marker",
            "flush table ip kuma-mesh",
            "flush chain ip kuma-mesh kuma_mesh_marker; delete chain ip kuma-mesh kuma_mesh_marker",
            "flush chain ip kuma-mesh kuma_mesh_marker; add rule ip kuma-mesh kuma_mesh_marker accept",
        ] {
            engine.apply(&plan).unwrap();
            nft(change);
            for plan in [None, Some(&plan)] {
                let state = state(plan, None).unwrap();
                assert!(matches!(&state.status, Status::Drifted { .. }), "{change}: {state:?}");
                assert!(warnings(&state).is_empty(), "{:?}", state.notes);
            }
            assert!(engine.apply(&plan).unwrap().changed, "{change}");
            assert_eq!(engine.status(&plan).unwrap(), Status::Current, "{change}");
            nft(change);
            assert!(engine.uninstall(&Options::default()).unwrap().changed, "{change}");
            assert_eq!(nft("list tables"), "", "{change}");
        }
    });
}

#[test]
fn chains_of_our_name_in_a_table_that_we_do_not_use_are_not_ours() {
    isolated(|| {
        if !all_users_are_mapped() || !Path::new("/usr/sbin/iptables-nft").exists() {
            return skipped("the iptables programs are needed, and root for them");
        }
        let rules = "*filter\n:KUMA_MESH_GUARD -\n-A KUMA_MESH_GUARD -p tcp -m tcp --dport 1 -j DROP\n\
                     -A OUTPUT -j KUMA_MESH_GUARD\nCOMMIT\n";
        run("/usr/sbin/iptables-nft-restore", &["--noflush"], rules);
        let before = ruleset();
        assert_eq!(state(None, None).unwrap().status, Status::Absent);
        let iptables = Iptables::default();
        for report in [Netlink::default().uninstall(&Options::default()), iptables.uninstall(&Options::default())] {
            assert!(!report.unwrap().changed);
        }
        assert_eq!(ruleset(), before);
        let plan = default_plan();
        iptables.apply(&plan).unwrap();
        assert_eq!(state(Some(&plan), None).unwrap().status, Status::Current);
        iptables.uninstall(&Options::default()).unwrap();
        assert!(run("/usr/sbin/iptables-nft-save", &["-t", "filter"], "").contains("-A OUTPUT -j KUMA_MESH_GUARD"));
    });
}

/// In a user namespace of an ordinary user, rules of iptables cannot name users, and the kernel keeps legacy tables back.
fn all_users_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}
