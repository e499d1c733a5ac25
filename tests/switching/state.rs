//! What is said of what is installed.

use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, Status, state, uninstall_all};
use kumatp::model::{EngineName, IptablesMode, Options};
use kumatp::net::FamilyName;
use kumatp::policy;

use super::generate;
use super::netns::{isolated, run};
use super::outside::{TABLES, network, program};
use super::{config, differences, kumactl, netlink, now, other, plan};

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

/// Whoever may not look does not know: that is another answer than that there is nothing.
#[test]
fn what_cannot_be_looked_into_is_not_absent() {
    isolated(|| {
        network();
        let lists = std::fs::canonicalize("/proc/thread-self/net").unwrap();
        let lists = lists.to_str().unwrap();
        assert_eq!(now().status, Status::Absent);
        run("mount", &["-t", "tmpfs", "none", lists]);
        let found = now();
        let Status::Uncompared { reason } = &found.status else { panic!("{found:?}") };
        assert!(reason.starts_with("cannot look for an older installation in the IPv4 and IPv6 tables"), "{reason}");
        assert!(found.installations.is_empty() && found.notes.iter().any(|note| note.text == *reason), "{found:?}");
        // What is there is as it should be, whatever there is besides.
        netlink(&config(IptablesMode::Nft)).unwrap();
        let found = now();
        assert_eq!((&found.status, found.installations.len()), (&Status::Current, 1));
        assert!(found.notes.iter().any(|note| note.text.contains("tables of iptables-legacy")), "{found:?}");
        run("umount", &[lists]);
        uninstall_all(&Options::default(), None).unwrap();
        assert_eq!(now().status, Status::Absent);
    });
}
