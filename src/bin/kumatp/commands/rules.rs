//! Rules as text, and text as other text.

use clap::ArgMatches;
use kumatp::model::EngineName;
use kumatp::net::FamilyName;
use kumatp::{Plan, firewalld, iptables_save, policy, render};

use super::{print, warn};
use crate::host::{self, Target};
use crate::{Failure, configuration, input};

pub(crate) fn render(matches: &ArgMatches) -> Result<(), Failure> {
    let (mut config, notes) = configuration::config(matches)?;
    warn(&notes, config.verbose);
    config.dry_run = true;
    let format = matches.get_one::<String>("format").map_or("iptables", String::as_str);
    let usual = if format == "nft" { EngineName::Netlink } else { EngineName::Iptables };
    let usual = if format == "ebpf" { EngineName::Ebpf } else { usual };
    let target = Target::with(usual, matches);
    let facts = target.facts_for_a_question(&config)?;
    let plan = policy::plan(&config, &facts)?;
    warn(&plan.notes, config.verbose);
    if let Some(family) = matches.get_one::<String>("family") {
        return print(&one_family(&plan, if family == "ipv4" { FamilyName::V4 } else { FamilyName::V6 }, format)?);
    }
    print(&match format {
        "nft" => render::nft::plan(&plan),
        "json" => render::json::plan(&plan),
        "firewalld" => render::firewalld::plan(&plan),
        "mermaid" => render::mermaid::plan(&plan),
        "dot" => render::dot::plan(&plan),
        "ebpf" => host::preview(&plan)?,
        _ => render::iptables::plan(&plan),
    })
}

/// The rules for one family.
fn one_family(plan: &Plan, family: FamilyName, format: &str) -> Result<String, Failure> {
    let v6 = plan.v6.as_ref();
    let text = match (format, family) {
        ("iptables", family) => render::iptables::family(plan, family),
        ("mermaid", FamilyName::V4) => Some(render::mermaid::ruleset(&plan.v4)),
        ("mermaid", FamilyName::V6) => v6.map(render::mermaid::ruleset),
        ("dot", FamilyName::V4) => Some(render::dot::ruleset(&plan.v4)),
        ("dot", FamilyName::V6) => v6.map(render::dot::ruleset),
        _ => {
            return Err(Failure::Usage(format!(
                "--family: not with --format {format}, whose text is for both families; --ip-family-mode=ipv4 leaves IPv6 out"
            )));
        }
    };
    text.ok_or_else(|| Failure::Usage(format!("--family: there are no rules for {family} here")))
}

pub(crate) fn translate(matches: &ArgMatches) -> Result<(), Failure> {
    let text = input::read("-")?;
    print(&match matches.get_one::<String>("to").map(String::as_str) {
        Some("nft") => render::nft::translate(&text)?,
        Some("json") => iptables_save::to_json(&text)?,
        _ => firewalld::translate(&text)?,
    })
}
