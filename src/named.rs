//! Enums whose variants have names.

/// Names the variants of an enum, each once: `ALL` has them in the order of the list, `as_str` and `Display` write the name. With
/// `else` and what would be right, `FromStr` reads it to the letter.
macro_rules! named {
    ($(#[$all:meta])* $type:ident { $($variant:ident = $name:literal),+ $(,)? } else $expected:literal) => {
        $crate::named::named! { $(#[$all])* $type { $($variant = $name),+ } }

        impl std::str::FromStr for $type {
            type Err = $crate::error::InvalidValue;

            fn from_str(text: &str) -> Result<Self, $crate::error::InvalidValue> {
                let known = Self::ALL.into_iter().find(|one| one.as_str() == text);
                known.ok_or_else(|| $crate::error::InvalidValue::new(text, $expected))
            }
        }
    };
    ($(#[$all:meta])* $type:ident { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $type {
            $(#[$all])*
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            /// The name as it is written.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::config::{KumaProgram, Profile};
    use crate::model::{BuiltinChain, EngineName, IpFamilyMode, IptablesMode, TableName};
    use crate::net::{FamilyName, Protocol};

    #[test]
    fn names_are_read_back_and_nothing_else() {
        for name in EngineName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for table in TableName::ALL {
            assert_eq!(table.to_string().parse(), Ok(table));
        }
        assert!(["", "Nat", " nat", "nat "].iter().all(|text| text.parse::<TableName>().is_err()));
        assert_eq!(
            "iptables-nft".parse::<EngineName>().unwrap_err().expected(),
            "one of the engines netlink, iptables and ebpf"
        );
        for mode in IpFamilyMode::ALL {
            assert_eq!(mode.to_string().to_ascii_uppercase().parse(), Ok(mode));
        }
        for protocol in Protocol::ALL {
            assert_eq!(format!(" {} ", protocol.as_str().to_ascii_uppercase()).parse(), Ok(protocol));
        }
    }

    #[test]
    fn lists_are_in_their_order() {
        let names = |names: &[&str]| names.join(" ");
        assert_eq!(names(&BuiltinChain::ALL.map(BuiltinChain::as_str)), "PREROUTING INPUT FORWARD OUTPUT POSTROUTING");
        assert_eq!(names(&IptablesMode::ALL.map(IptablesMode::as_str)), "nft legacy");
        assert_eq!(names(&FamilyName::ALL.map(FamilyName::as_str)), "IPv4 IPv6");
        assert_eq!(names(&Profile::ALL.map(Profile::as_str)), "kuma-3 kuma-2.9");
        assert_eq!(names(&KumaProgram::ALL.map(KumaProgram::as_str)), "kuma-dp kumactl");
    }
}
