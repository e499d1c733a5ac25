//! Lists the rules that a configuration makes, each with the key that asked for it.
//!
//! `cargo run --example origins` shows it for a small configuration of its own; give a file in YAML
//! to see it for that.

use std::error::Error;

use kumatp::config::Format;
use kumatp::net::{Family, Uid};
use kumatp::render::iptables::{self, Style};
use kumatp::{Config, Facts, model, policy};

const SAMPLE: &str = "
redirect:
  inbound: { excludePorts: [22] }
  outbound: { excludePortsForIPs: [10.0.0.0/8, 'fd00::/8'] }
  dns: { enabled: true, captureAll: true }
";

fn main() -> Result<(), Box<dyn Error>> {
    let text = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => SAMPLE.to_owned(),
    };
    let mut config = Config::parse(&text, Format::Yaml)?;
    config.comments.disabled = true;
    let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR))?;
    for note in &plan.notes {
        println!("note: {note}");
    }
    show(&plan.v4);
    if let Some(v6) = &plan.v6 {
        show(v6);
    }
    Ok(())
}

fn show<F: Family>(ruleset: &model::Ruleset<F>) {
    println!("{}", ruleset.family());
    for (table, chain, rule) in ruleset.rules() {
        let origin = rule.origin.map(|origin| origin.to_string()).unwrap_or_default();
        println!("  {origin:<45} {table} {chain} {}", iptables::rule(rule, Style::Short));
    }
}
