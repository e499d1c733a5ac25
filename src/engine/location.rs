//! Where installations are, of whichever engine.

use crate::model::EngineName;

/// Where installations are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// Tables of our own.
    Tables,
    /// Tables of iptables-nft.
    IptablesNft,
    /// Tables of iptables-legacy.
    IptablesLegacy,
    /// eBPF programs.
    Programs,
}

impl Location {
    pub(super) const ALL: [Self; 4] = [Self::Tables, Self::IptablesNft, Self::IptablesLegacy, Self::Programs];

    /// The engine whose installations are there.
    pub(super) fn engine(self) -> EngineName {
        match self {
            Self::Tables => EngineName::Netlink,
            Self::IptablesNft | Self::IptablesLegacy => EngineName::Iptables,
            Self::Programs => EngineName::Ebpf,
        }
    }

    /// Where an engine can remove installations: what iptables-nft left is in nf_tables, as netlink's tables are.
    pub(super) fn of(engine: EngineName) -> &'static [Self] {
        match engine {
            EngineName::Netlink => &[Self::Tables, Self::IptablesNft],
            EngineName::Iptables => &[Self::IptablesNft, Self::IptablesLegacy],
            EngineName::Ebpf => &[Self::Programs],
        }
    }
}
