//! Which generation of Kuma a source was written for.

use std::str::FromStr;

use crate::error::InvalidValue;
use crate::named::named;

/// The generation of Kuma whose way of reading annotations and resources is followed. It changes what sources mean,
/// never the rules that are made of a [`Config`](crate::Config).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Profile {
    /// Kuma 3: `kuma-3`.
    #[default]
    Kuma3,
    /// Kuma 2.9: `kuma-2.9`.
    Kuma29,
}

named! {
    /// Every profile, newest first.
    Profile { Kuma3 = "kuma-3", Kuma29 = "kuma-2.9" }
}

impl FromStr for Profile {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|profile| profile.as_str() == text.trim());
        known.ok_or_else(|| InvalidValue::new(text, "the profile 'kuma-3' or 'kuma-2.9'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for profile in Profile::ALL {
            assert_eq!(profile.to_string().parse(), Ok(profile));
        }
        assert!("kuma-2".parse::<Profile>().is_err());
    }
}
