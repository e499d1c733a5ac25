//! Random plans, loaded by the distribution's iptables programs in network namespaces of their own.
#![cfg(target_os = "linux")]

#[path = "common/generate.rs"]
mod generate;
#[path = "common/skip.rs"]
mod skip;

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use arbitrary::Unstructured;
use kumatp::iptables_save;
use kumatp::model::{Plan, Ruleset};
use kumatp::net::Family;
use kumatp::policy::plan;
use kumatp::render::iptables::{self, Style};

/// How many plans each program gets.
const PLANS: u64 = 16;

/// Runs a script with `text` on standard input, in a new network namespace. Root is needed: in a
/// user namespace most owners have no number.
fn in_namespace(script: &str, text: &str) -> std::io::Result<Output> {
    let mut child = Command::new("unshare")
        .args(["-n", "sh", "-ec", script])
        // The lock is of the host, and nothing here is.
        .env("XTABLES_LOCKFILE", std::env::temp_dir().join("kumatp-test-xtables.lock"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // A program that ends early does not read all; its status says why.
    let _ = child.stdin.take().expect("piped").write_all(text.as_bytes());
    child.wait_with_output()
}

/// The same plans each time: they differ enough among themselves.
fn plans() -> Vec<Plan> {
    let plans = (0..PLANS).map(|seed| {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        let bytes: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .take(1024)
        .flatten()
        .collect();
        let mut u = Unstructured::new(&bytes);
        let (config, mut facts) = (generate::config(&mut u).unwrap(), generate::facts(&mut u).unwrap());
        // Docker's chain is not there.
        facts.v4.docker_output = false;
        plan(&config, &facts).unwrap()
    });
    plans.collect()
}

fn load<F: Family>(program: &str, rules: &Ruleset<F>) {
    for style in [Style::Short, Style::Long] {
        let text = iptables::ruleset(rules, style);
        let script = format!("{program}-restore --noflush --test");
        let output = in_namespace(&script, &text).unwrap();
        assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
    let text = iptables::ruleset(rules, Style::Short);
    let output = in_namespace(&format!("{program}-restore --noflush; {program}-save"), &text).unwrap();
    assert!(output.status.success(), "{}\n{text}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    let read =
        iptables_save::parse::<F>(&listed).unwrap().ruleset().unwrap_or_else(|error| panic!("{error}\n{listed}"));
    assert_eq!(read.canonical(), rules.canonical(), "{text}\n{listed}");
}

fn every_plan_loads(v4: &str, v6: &str) {
    for program in [v4, v6] {
        match in_namespace(&format!("{program}-restore --noflush; {program}-save"), "*nat\nCOMMIT\n") {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                return skip::skipped(&format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
            }
            Err(error) => return skip::skipped(&format!("unshare: {error}")),
        }
    }
    for plan in plans() {
        load(v4, &plan.v4);
        if let Some(rules) = &plan.v6 {
            load(v6, rules);
        }
    }
}

#[test]
fn with_iptables_nft() {
    every_plan_loads("iptables-nft", "ip6tables-nft");
}

#[test]
fn with_iptables_legacy() {
    every_plan_loads("iptables-legacy", "ip6tables-legacy");
}
