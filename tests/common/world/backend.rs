use std::io;
#[cfg(feature = "ebpf")]
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use kumatp::Plan;
use kumatp::engine::Engine;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::model::{FamilyExecutables, Options};
use kumatp::net::FamilyName;
use kumatp::render::nft;

use super::netns::{Netns, feed};

/// A way to put a plan into force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The iptables engine with the programs of nf_tables.
    IptablesNft,
    /// The iptables engine with the legacy programs.
    IptablesLegacy,
    /// The rendered script, by `nft -f`.
    NftScript,
    /// The netlink engine.
    Netlink,
    /// The eBPF engine, with the cgroup of the process and a bpffs at these places.
    #[cfg(feature = "ebpf")]
    Ebpf,
}

/// Where the eBPF engine pins, and where cgroups are.
#[cfg(feature = "ebpf")]
pub(crate) const BPFFS: &str = "/run/bpf";
#[cfg(feature = "ebpf")]
pub(crate) const CGROUPS: &str = "/run/cgroup";

/// The cgroup of this process; or, if there is one, that in it of the threads in the workload's namespace.
#[cfg(feature = "ebpf")]
pub(crate) fn cgroup() -> String {
    of_workload().unwrap_or_else(of_process)
}

/// The cgroup that the process itself is in.
#[cfg(feature = "ebpf")]
pub(crate) fn of_process() -> String {
    format!("{CGROUPS}/kumatp-test-{}", std::process::id())
}

/// The cgroup of the threads in the workload's namespace. Kernels whose programs cannot tell namespaces need it.
#[cfg(feature = "ebpf")]
pub(crate) fn of_workload() -> Option<String> {
    Some(of_process() + "/workload").filter(|path| Path::new(path).exists())
}

impl Backend {
    /// Puts the plan into force in a namespace or a world's workload, in place of what is in force.
    pub(crate) fn install(self, world: &impl AsRef<Netns>, plan: &Plan) -> io::Result<()> {
        let mut plan = plan.clone();
        self.choose_programs(&mut plan.options);
        world.as_ref().enter(|| match self.engine() {
            Some(engine) => engine.apply(&plan).map(drop).map_err(io::Error::other),
            None => feed(Command::new("nft").args(["-f", "-"]), &nft::plan(&plan)),
        })
    }

    /// Removes our rules.
    pub(crate) fn remove(self, world: &impl AsRef<Netns>) -> io::Result<()> {
        let mut options = Options::default();
        self.choose_programs(&mut options);
        world.as_ref().enter(|| match self.engine() {
            Some(engine) => engine.uninstall(&options).map(drop).map_err(io::Error::other),
            None => feed(Command::new("nft").args(["-f", "-"]), &nft::removal()),
        })
    }

    /// Loads somebody else's iptables rules beside those that are there. Where the backend has no iptables, they are
    /// loaded by `iptables-nft-restore`.
    pub(crate) fn restore(self, world: &impl AsRef<Netns>, family: FamilyName, text: &str) -> io::Result<()> {
        // The legacy programs share a lock with all others on the machine.
        let mut command = Command::new(self.program(family, "-restore"));
        command.args(["--noflush", "--wait=5"]);
        world.as_ref().enter(|| feed(&mut command, text))
    }

    /// Whether the rules are nf_tables of our own, where DESIGN §6 allows other outcomes than with iptables.
    pub(crate) fn is_native(self) -> bool {
        match self {
            Self::IptablesNft | Self::IptablesLegacy => false,
            Self::NftScript | Self::Netlink => true,
            #[cfg(feature = "ebpf")]
            Self::Ebpf => false,
        }
    }

    /// Whether there are no rules for packets at all.
    pub(crate) fn is_programs(self) -> bool {
        #[cfg(feature = "ebpf")]
        if self == Self::Ebpf {
            return true;
        }
        false
    }

    fn engine(self) -> Option<Box<dyn Engine>> {
        match self {
            Self::IptablesNft | Self::IptablesLegacy => Some(Box::new(Iptables::default())),
            Self::Netlink => Some(Box::new(Netlink::default())),
            Self::NftScript => None,
            #[cfg(feature = "ebpf")]
            Self::Ebpf => Some(Box::new(kumatp::engine::ebpf::Ebpf::default().bpffs(BPFFS).cgroup(cgroup()))),
        }
    }

    /// Has the iptables engine use the programs of this mode, instead of those that it would choose.
    fn choose_programs(self, options: &mut Options) {
        let programs = |family| {
            let mut programs = FamilyExecutables::default();
            programs.tables = Some(self.program(family, ""));
            programs.save = Some(self.program(family, "-save"));
            programs.restore = Some(self.program(family, "-restore"));
            programs
        };
        if !self.is_native() && !self.is_programs() {
            options.iptables_executables.v4 = programs(FamilyName::V4);
            options.iptables_executables.v6 = programs(FamilyName::V6);
        }
    }

    fn program(self, family: FamilyName, suffix: &str) -> PathBuf {
        let mode = match self {
            Self::IptablesLegacy => "legacy",
            _ => "nft",
        };
        let family = match family {
            FamilyName::V4 => "iptables",
            FamilyName::V6 => "ip6tables",
        };
        let name = format!("{family}-{mode}{suffix}");
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
            .map(|directory| directory.join(&name))
            .find(|candidate| candidate.exists())
            .unwrap_or_else(|| name.into())
    }
}
