//! Validated values: address families, ports, ids, prefixes and interface patterns.
//!
//! Each type is made by `FromStr` (or a checked constructor) and printed by `Display`; printing
//! and parsing again gives an equal value. None of them can hold text that would add a line or an
//! option to a rendered rule.

mod cidr;
mod family;
mod id;
mod interface;
mod port;

pub use cidr::{AnyCidr, Cidr};
pub use family::{Family, FamilyName, V4, V6};
pub use id::{Gid, GidRange, Uid, UidRange};
pub use interface::{InterfaceName, InterfacePattern};
pub use port::{Port, PortRange, PortSet, Protocol};

/// The number that a text of decimal digits is, blanks around it aside. `str::parse` alone would
/// take a sign as well.
pub(crate) fn decimal<N: std::str::FromStr>(text: &str) -> Option<N> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Deriving serde by text: serialised by `Display`, deserialised by `FromStr`.
macro_rules! serde_by_text {
    ($($type:ty),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}
pub(crate) use serde_by_text;
