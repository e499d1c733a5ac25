use std::io;
use std::process::Command;

use kumatp::Plan;
use kumatp::net::FamilyName;
use kumatp::render::iptables::{Style, ruleset};

use kumatp::render::nft;

use super::{World, feed};

/// A way to put a plan into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The rendered text, by `iptables-nft-restore`.
    IptablesNft,
    /// The rendered text, by `iptables-legacy-restore`.
    IptablesLegacy,
    /// The rendered script, by `nft -f`.
    NftScript,
}

impl Backend {
    /// Puts the plan into force in the world's workload, which has no rules of ours, or (native backends) replaces
    /// those that are in force.
    pub(crate) fn install(self, world: &World, plan: &Plan) -> io::Result<()> {
        if self == Self::NftScript {
            return world.workload.enter(|| feed(Command::new("nft").args(["-f", "-"]), &nft::plan(plan)));
        }
        let four = ruleset(&plan.v4, Style::Short);
        self.restore(world, FamilyName::V4, &four)?;
        match &plan.v6 {
            Some(six) => self.restore(world, FamilyName::V6, &ruleset(six, Style::Short)),
            None => Ok(()),
        }
    }

    /// Removes our rules; native backends only.
    pub(crate) fn remove(self, world: &World) -> io::Result<()> {
        assert!(self.is_native(), "a text for iptables-restore removes nothing");
        world.workload.enter(|| feed(Command::new("nft").args(["-f", "-"]), &nft::removal()))
    }

    /// Loads somebody else's iptables rules beside those that are there. Where the backend has no iptables, they are
    /// loaded by `iptables-nft-restore`.
    pub(crate) fn restore(self, world: &World, family: FamilyName, text: &str) -> io::Result<()> {
        let mode = match self {
            Self::IptablesLegacy => "legacy",
            Self::IptablesNft | Self::NftScript => "nft",
        };
        let program = match family {
            FamilyName::V4 => format!("iptables-{mode}-restore"),
            FamilyName::V6 => format!("ip6tables-{mode}-restore"),
        };
        // The legacy programs share a lock with all others on the machine.
        let mut command = Command::new(program);
        command.args(["--noflush", "--wait=5"]);
        world.workload.enter(|| feed(&mut command, text))
    }

    /// Whether the rules are nf_tables of our own, where DESIGN §6 allows other outcomes than with iptables.
    pub(crate) fn is_native(self) -> bool {
        match self {
            Self::IptablesNft | Self::IptablesLegacy => false,
            Self::NftScript => true,
        }
    }
}
