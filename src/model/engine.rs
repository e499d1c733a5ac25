use crate::named::named;

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

named! {
    /// All of them, as far as this version knows; `ebpf` is not in every build.
    EngineName { Iptables = "iptables", Netlink = "netlink", Ebpf = "ebpf" } else "one of the engines netlink, iptables and ebpf"
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

named! {
    /// Both, the preferred one first.
    IptablesMode { Nft = "nft", Legacy = "legacy" }
}

impl IptablesMode {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Nft => Self::Legacy,
            Self::Legacy => Self::Nft,
        }
    }
}
