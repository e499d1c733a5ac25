use super::ChainName;

/// The two chains of a direction: where it is decided, and where it is redirected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChainPair {
    /// The chain that decides: `KUMA_MESH_INBOUND`, `KUMA_MESH_OUTBOUND`.
    pub decide: ChainName,
    /// The chain that redirects: `KUMA_MESH_INBOUND_REDIRECT`, `KUMA_MESH_OUTBOUND_REDIRECT`.
    pub redirect: ChainName,
}

impl ChainPair {
    /// What the name of every chain of ours, and of kumactl's, begins with.
    pub const PREFIX: &'static str = "KUMA_MESH_";

    /// Whether a chain of this name is ours, or kumactl's.
    pub fn owns(chain: &str) -> bool {
        chain.starts_with(Self::PREFIX)
    }

    /// Those of Kuma for a direction: `INBOUND` or `OUTBOUND`.
    pub(crate) fn kuma(direction: &str) -> Self {
        let name = |suffix: &str| {
            format!("{}{direction}{suffix}", Self::PREFIX).parse().expect("a literal chain name is valid")
        };
        Self { decide: name(""), redirect: name("_REDIRECT") }
    }
}
