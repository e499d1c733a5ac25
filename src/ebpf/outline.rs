//! What an installation would consist of, without a host. Pure.

use std::path::{Path, PathBuf};

use super::hooks::HOOKS;
use super::map_contents::MapContents;
use super::table::Map;
use crate::model::SocketPlan;

/// Where an installation is pinned in this bpffs, as text.
pub(crate) fn directory(bpffs: &Path) -> PathBuf {
    bpffs.join(super::pin_directory::NAME).join("(cookie of the network namespace)")
}

/// The parts of an installation.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    /// What calls the programs that are attached to the cgroup.
    pub(crate) at_cgroup: Vec<&'static str>,
    /// What calls those that are attached to the network namespace.
    pub(crate) at_netns: Vec<&'static str>,
    /// The maps that are filled from the plan, and how many elements they get. Those for the addresses of the host come on top.
    pub(crate) maps: Vec<(&'static str, usize)>,
}

/// The parts of an installation of this plan.
pub(crate) fn outline(plan: &SocketPlan) -> Outline {
    let content = MapContents::of(plan, &[]);
    let titles =
        |of_netns: bool| HOOKS.iter().filter(move |hook| hook.is_of_netns() == of_netns).map(|hook| hook.title);
    let maps = [
        (Map::Settings, 1),
        (Map::Networks, content.networks.len()),
        (Map::Owners, content.owners.len()),
        (Map::OwnerPorts, content.owner_ports.len()),
    ];
    Outline {
        at_cgroup: titles(false).collect(),
        at_netns: titles(true).collect(),
        maps: maps.map(|(map, elements)| (map.definition().name, elements)).to_vec(),
    }
}
