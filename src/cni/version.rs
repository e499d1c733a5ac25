use std::str::FromStr;

use serde_json::Value;

use super::Failure;
use super::failure::Code;
use crate::error::visible;
use crate::named::named;

/// A version of the CNI specification that the plugin speaks. Chains of plugins, which it has to be part of, came
/// with 0.3.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0, which brought CHECK.
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0, which brought GC and STATUS.
    V1_1_0,
}

named! {
    /// All of them, oldest first.
    Version { V0_3_0 = "0.3.0", V0_3_1 = "0.3.1", V0_4_0 = "0.4.0", V1_0_0 = "1.0.0", V1_1_0 = "1.1.0" }
}

impl Version {
    /// The newest, in which errors are told where the request does not say its version.
    pub const NEWEST: Self = Self::V1_1_0;

    /// The version of a network configuration.
    pub(super) fn of(network: &serde_json::Map<String, Value>) -> Result<Self, Failure> {
        match network.get("cniVersion") {
            // What the specification's own library takes a missing one for.
            None | Some(Value::Null) => Err(Self::incompatible("0.1.0, since cniVersion is not given")),
            Some(Value::String(text)) => text.parse().map_err(|()| Self::incompatible(text)),
            Some(other) => {
                Err(Failure::new(Code::Decoding, "cniVersion is not a string", format!("cniVersion is {other}")))
            }
        }
    }

    fn incompatible(given: &str) -> Failure {
        Failure::new(
            Code::IncompatibleVersion,
            "incompatible CNI versions",
            format!("cniVersion is {}; supported are {}", visible(given), Self::ALL.map(Self::as_str).join(", ")),
        )
    }
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|version| version.as_str() == text).ok_or(())
    }
}
