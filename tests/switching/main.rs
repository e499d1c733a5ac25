//! One engine after the other on a real kernel, and what `state` says meanwhile: in network
//! namespaces of their own.

#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

#[path = "../common/generate.rs"]
mod generate;
#[path = "../common/netns.rs"]
mod netns;
#[path = "../common/outside.rs"]
mod outside;
mod passthrough;
mod removal;
mod replacing;
mod state;

use std::io::Write as _;
use std::process::{Command, Stdio};

use kumatp::config::Config;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report, State, Status, state};
use kumatp::model::{Comment, IptablesMode, Plan, Severity};
use kumatp::render::iptables::{self, Style};
use kumatp::{Error, facts, policy};

use self::netns::run;
use self::outside::{program, programs};

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
