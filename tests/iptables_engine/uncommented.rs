//! Rules without comments, of which nothing tells whose they are.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use kumatp::model::IptablesMode;

use crate::netns::{isolated, run};
use crate::outside::{TABLES, foreign_rules, network, program};
use crate::{config, everything, install, other_options, ours_is_there, saved, uninstall};

#[test]
fn rules_without_comments_are_known_from_the_record() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            foreign_rules(mode);
            let foreign = everything();
            let mut plain = config(mode);
            plain.comments.disabled = true;
            let mut other = other_options(mode);
            other.comments.disabled = true;
            other.retry.sleep = Duration::from_millis(10);
            install(&other).unwrap();
            let first = everything();
            let record = std::fs::read_dir("/run/kumatp").unwrap().next().unwrap().unwrap();
            assert_eq!(record.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            install(&other).unwrap();
            assert_eq!(everything(), first);
            install(&plain).unwrap();
            install(&other).unwrap();
            assert_eq!(everything(), first);
            // With comments over those without.
            install(&other_options(mode)).unwrap();
            install(&other).unwrap();
            assert_eq!(everything(), first);
            let report = uninstall();
            assert!(report.notes.is_empty(), "{report:?}");
            assert_eq!(everything(), foreign);
            assert!(!Path::new("/run/kumatp").exists());

            // Without the record, what has no mark is named, and stays.
            install(&other).unwrap();
            std::fs::remove_dir_all("/run/kumatp").unwrap();
            let report = uninstall();
            let notes: Vec<_> = report.notes.iter().map(|note| note.text.as_str()).collect();
            assert!(notes.iter().any(|note| note.contains("-d 10.99.0.0/16 -j RETURN")), "{notes:?}");
            assert!(!notes.iter().any(|note| note.contains("SOMEBODY")), "{notes:?}");
            assert!(!ours_is_there("iptables", mode) && saved("iptables", mode).join("").contains("10.99.0.0/16"));
            for family in ["iptables", "ip6tables"] {
                for table in TABLES {
                    run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-F"]);
                    run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-X"]);
                }
            }
            // Before Linux 5.18, nothing tells whose the address is without the record.
            let _ = std::process::Command::new("ip").args(["addr", "del", "::6/128", "dev", "lo"]).output();
        }
    });
}

#[test]
fn an_equal_rule_of_an_administrator_stays_in_its_place_with_its_counters() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            let tables = program("iptables", mode, "");
            let tables = tables.to_str().unwrap();
            let equal = ["-t", "mangle", "-A", "PREROUTING", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"];
            run(tables, &[&equal[..], &["-c", "7", "700"]].concat());
            run(tables, &["-t", "mangle", "-A", "PREROUTING", "-i", "eth9", "-j", "ACCEPT"]);
            let before = everything();
            let mut config = config(mode);
            config.comments.disabled = true;
            config.drop_invalid_packets = true;
            let mine = |state: &[Vec<String>]| state.concat().join("\n").matches("--ctstate INVALID -j DROP").count();
            for _ in 0..3 {
                install(&config).unwrap();
                let now = everything();
                // One for IPv6.
                assert_eq!(mine(&now), 3);
                assert!(now.concat().join("\n").contains("[7:700] -A PREROUTING -m conntrack"), "{now:?}");
            }
            // One that comes later is not ours either.
            run(tables, &[&equal[..], &["-c", "8", "800"]].concat());
            install(&config).unwrap();
            uninstall();
            let now = everything().concat().join("\n");
            assert_eq!(mine(&everything()), 2);
            assert!(now.contains("[7:700]") && now.contains("[8:800]"), "{now}");
            run(tables, &["-t", "mangle", "-D", "PREROUTING", "3"]);
            assert_eq!(everything(), before);
            run(tables, &["-t", "mangle", "-F", "PREROUTING"]);
        }
    });
}
