//! Whenever an installation ends, the old rules are in force or the new ones.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kumatp::model::IptablesMode;

use crate::netns::isolated;
use crate::outside::{TABLES, network};
use crate::{MODE, config, install, loopback_address, other_options, ours_is_there, saved, uninstall};

/// Installs in turn with two sets of options until killed; run by the test below.
#[test]
#[ignore = "a part of another test"]
fn installs_until_killed() {
    let mode = match std::env::var(MODE).as_deref() {
        Ok("nft") => IptablesMode::Nft,
        Ok("legacy") => IptablesMode::Legacy,
        _ => return,
    };
    for _ in 0..1_000_000 {
        install(&other_options(mode)).unwrap();
        // Whoever listens may be gone.
        let _ = std::io::stdout().write_all(b"installed\n");
        install(&config(mode)).unwrap();
    }
}

fn killed_at_any_moment(mode: IptablesMode) {
    network();
    let families = ["iptables", "ip6tables"];
    let state = || families.map(|family| saved(family, mode));
    let rules = |state: &[Vec<String>; 2], family: usize, table: &str| {
        let found = state[family].iter().find(|t| t.starts_with(&format!("*{table}\n")));
        // Counters begin anew with each rule.
        found.map(|t| t.lines().map(|l| l.split_once("] ").map_or(l, |(_, rule)| rule).to_owned()).collect::<Vec<_>>())
    };
    install(&other_options(mode)).unwrap();
    let other = state();
    install(&config(mode)).unwrap();
    let plain = state();
    let mut seen = [0, 0];
    // Until both were seen, which takes more rounds where other programs are busy.
    for round in 0..1_000_u64 {
        if round >= 30 && seen.iter().all(|seen| *seen > 0) {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["killed::installs_until_killed", "--exact", "--ignored", "--nocapture"])
            .env(MODE, mode.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        if round % 3 > 0 {
            assert!(told.by_ref().any(|line| line == "installed"));
        }
        // Spread over the length of some installations.
        thread::sleep(Duration::from_millis(20 + round * 37 % 211));
        child.kill().unwrap();
        child.wait().unwrap();
        // A program that was loading rules goes on for a moment.
        thread::sleep(Duration::from_millis(150));
        let now = state();
        for (family, name) in families.iter().enumerate() {
            for table in TABLES {
                let found = rules(&now, family, table);
                let which = [&plain, &other].map(|state| rules(state, family, table) == found);
                assert!(which[0] || which[1], "round {round}, {name} {table}: {found:?}");
                if which[0] != which[1] {
                    seen[usize::from(which[1])] += 1;
                }
            }
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    install(&config(mode)).unwrap();
    assert_eq!(families.map(|family| saved(family, mode)), plain);
    assert!(uninstall().notes.is_empty());
    assert!(!families.iter().any(|family| ours_is_there(family, mode)));
    assert!(!loopback_address());
}

#[test]
fn nft_killed_at_any_moment_leaves_old_or_new_rules() {
    isolated(|| killed_at_any_moment(IptablesMode::Nft));
}

#[test]
fn legacy_killed_at_any_moment_leaves_old_or_new_rules() {
    isolated(|| killed_at_any_moment(IptablesMode::Legacy));
}
