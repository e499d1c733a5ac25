use std::fmt;
use std::str::FromStr;

use crate::error::InvalidValue;

/// The engines by name: what carries a plan out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EngineName {
    /// The distribution's iptables programs.
    Iptables,
    /// The kernel's nf_tables, without any program.
    Netlink,
    /// eBPF programs that steer sockets; in builds with the feature `ebpf`.
    Ebpf,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
            Self::Netlink => "netlink",
            Self::Ebpf => "ebpf",
        })
    }
}

impl FromStr for EngineName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "iptables" => Ok(Self::Iptables),
            "netlink" => Ok(Self::Netlink),
            "ebpf" => Ok(Self::Ebpf),
            _ => Err(InvalidValue::new(text, "one of the engines netlink, iptables and ebpf")),
        }
    }
}

/// Which of the two implementations of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum IptablesMode {
    /// On nf_tables.
    Nft,
    /// On the older ip_tables.
    Legacy,
}

impl IptablesMode {
    /// Both, the preferred one first.
    pub const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }
}

impl fmt::Display for IptablesMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        })
    }
}
