//! What there is of IPv6 on a host.

use serde::{Deserialize, Serialize};

/// What there is of IPv6 on the host.
///
/// Rules are made wherever the kernel has IPv6: a link-local address is a way in for every neighbour, and other addresses come
/// later, by a single router advertisement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(tag = "state", rename_all = "camelCase")]
#[non_exhaustive]
pub enum Ipv6 {
    /// There is an address that hosts beyond the link can reach, and nothing refused.
    #[default]
    Usable,
    /// There are link-local addresses only, which the neighbours on the link can reach.
    LinkLocal,
    /// The kernel has IPv6, and there is no address yet but loopback and our own `::6`.
    Unaddressed,
    /// Rules are not made: there is no IPv6 in the kernel at all, or none that the engine makes rules for.
    Unusable {
        /// Why, as text.
        reason: String,
    },
    /// There is an address that hosts beyond the link can reach, but a program or the kernel refuses to make
    /// rules for it. Leaving IPv6 out would let its traffic past the sidecar.
    Refused {
        /// What was refused, as text.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
}

impl Ipv6 {
    /// What addresses there are none of, as text.
    pub(crate) fn lacking(&self) -> &'static str {
        match self {
            Self::Unaddressed => "no interface has an IPv6 address but loopback",
            _ => "no interface has an IPv6 address that hosts beyond the link can reach",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_documents_are_read_and_new_states_are_written() {
        for (ipv6, json) in [
            (Ipv6::Usable, r#"{"state":"usable"}"#),
            (Ipv6::LinkLocal, r#"{"state":"linkLocal"}"#),
            (Ipv6::Unaddressed, r#"{"state":"unaddressed"}"#),
            (Ipv6::Unusable { reason: "none".into() }, r#"{"state":"unusable","reason":"none"}"#),
        ] {
            assert_eq!(serde_json::to_string(&ipv6).unwrap(), json);
            assert_eq!(serde_json::from_str::<Ipv6>(json).unwrap(), ipv6);
        }
    }
}
