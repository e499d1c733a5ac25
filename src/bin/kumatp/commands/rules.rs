//! Rules as text, and text as other text.

use clap::ArgMatches;
use kumatp::engine::EngineName;
use kumatp::{firewalld, policy, render, save};

use super::{print, warn};
use crate::host::{self, Target};
use crate::{Failure, input};

pub(crate) fn render(matches: &ArgMatches) -> Result<(), Failure> {
    let (mut config, notes) = input::config(matches)?;
    warn(&notes, config.verbose);
    config.dry_run = true;
    let format = matches.get_one::<String>("format").map_or("iptables", String::as_str);
    let usual = if format == "nft" { EngineName::Netlink } else { EngineName::Iptables };
    let usual = if format == "ebpf" { EngineName::Ebpf } else { usual };
    let target = Target::with(usual, matches);
    let facts = target.facts(&config)?;
    let plan = policy::plan(&config, &facts)?;
    warn(&plan.notes, config.verbose);
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

pub(crate) fn translate(matches: &ArgMatches) -> Result<(), Failure> {
    let text = input::read("-")?;
    print(&match matches.get_one::<String>("to").map(String::as_str) {
        Some("nft") => render::nft::translate(&text)?,
        Some("json") => save::to_json(&text)?,
        _ => firewalld::translate(&text)?,
    })
}
