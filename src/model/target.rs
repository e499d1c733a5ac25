use super::{ChainName, LogLevel, LogPrefix};
use crate::net::Port;

/// What happens to a packet that all matches of a rule hold for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(tag = "target", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Target {
    /// The packet is done with this table.
    Accept,
    /// The packet is gone.
    Drop,
    /// Back to the calling chain; from a built-in chain, the packet is done with this table.
    Return,
    /// On in another chain, and back after it.
    Jump {
        /// The other chain.
        chain: ChainName,
    },
    /// The connection goes to a port of this host instead (nat only).
    Redirect {
        /// The port.
        port: Port,
    },
    /// A line in the kernel log, then on to the next rule.
    Log {
        /// What the line begins with.
        prefix: LogPrefix,
        /// How severe it is.
        level: LogLevel,
    },
    /// The connection is tracked in this zone (raw only), then on to the next rule. The first zone
    /// that a packet gets is kept.
    Zone {
        /// The zone.
        zone: u16,
    },
}

impl Target {
    /// A jump to a chain.
    pub fn jump(chain: &ChainName) -> Self {
        Self::Jump { chain: chain.clone() }
    }

    /// The chain that it jumps to.
    pub(crate) fn chain(&self) -> Option<&ChainName> {
        match self {
            Self::Jump { chain } => Some(chain),
            _ => None,
        }
    }

    /// A redirection to a port.
    pub fn redirect(port: Port) -> Self {
        Self::Redirect { port }
    }
}
