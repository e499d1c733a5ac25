use std::fmt;
use std::str::FromStr;

use super::{decimal, serde_by_text};
use crate::error::InvalidValue;

/// The highest id the kernel takes; `u32::MAX` means "no id" there.
const MAX: u32 = u32::MAX - 1;

macro_rules! ids {
    ($id:ident, $range:ident, $noun:literal, $what:literal) => {
        #[doc = concat!("A ", $what, " id from 0 to 4294967294.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $id(u32);

        impl $id {
            #[doc = concat!("The ", $what, " id with this number; `None` for 4294967295, which the kernel reserves.")]
            pub const fn new(number: u32) -> Option<Self> {
                if number > MAX { None } else { Some(Self(number)) }
            }

            /// The number.
            pub const fn number(self) -> u32 {
                self.0
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($id), "({})"), self.0)
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $id {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                decimal(text)
                    .and_then(Self::new)
                    .ok_or_else(|| InvalidValue::new(text, concat!("a ", $noun, " from 0 to 4294967294")))
            }
        }

        #[doc = concat!("The ", $what, " ids from `first` to `last`, both included. Written `1000` or `1000-2000`; `1000:2000` is read as well.")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $range {
            first: $id,
            last: $id,
        }

        impl $range {
            /// The ids from `first` to `last`; `None` if `last` is below `first`.
            pub fn new(first: $id, last: $id) -> Option<Self> {
                (first <= last).then_some(Self { first, last })
            }

            /// The lowest id.
            pub fn first(self) -> $id {
                self.first
            }

            /// The highest id.
            pub fn last(self) -> $id {
                self.last
            }

            /// Whether it is one id only.
            pub fn is_single(self) -> bool {
                self.first == self.last
            }

            /// Whether `id` is in the range.
            pub fn contains(self, id: $id) -> bool {
                self.first <= id && id <= self.last
            }
        }

        impl From<$id> for $range {
            fn from(id: $id) -> Self {
                Self { first: id, last: id }
            }
        }

        impl fmt::Debug for $range {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($range), "({})"), self)
            }
        }

        impl fmt::Display for $range {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.is_single() {
                    true => self.first.fmt(f),
                    false => write!(f, "{}-{}", self.first, self.last),
                }
            }
        }

        impl FromStr for $range {
            type Err = InvalidValue;

            fn from_str(text: &str) -> Result<Self, InvalidValue> {
                let invalid = |expected| InvalidValue::new(text, expected);
                const EXPECTED: &str =
                    concat!("one ", $noun, " from 0 to 4294967294, or a range such as 1000-2000");
                match text.split_once(['-', ':']) {
                    None => text.parse::<$id>().map(Self::from).map_err(|_| invalid(EXPECTED)),
                    Some((first, last)) => {
                        let first = first.parse().map_err(|_| invalid(EXPECTED))?;
                        let last = last.parse().map_err(|_| invalid(EXPECTED))?;
                        Self::new(first, last).ok_or_else(|| invalid("a range that begins with its lower id"))
                    }
                }
            }
        }

        serde_by_text!($id, $range);
    };
}

ids!(Uid, UidRange, "uid", "user");
ids!(Gid, GidRange, "gid", "group");

impl Uid {
    /// The uid that the sidecar has by default: 5678.
    pub const SIDECAR: Self = Self(5678);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_kernel_range_is_accepted() {
        assert_eq!("4294967294".parse::<Uid>().unwrap().number(), 4_294_967_294);
        assert_eq!("1000660000-1000669999".parse::<UidRange>().unwrap().to_string(), "1000660000-1000669999");
        for text in ["4294967295", "-1", "root", "", "*", "1,2"] {
            assert_eq!(text.parse::<UidRange>().unwrap_err().value(), text);
        }
        assert!("9-8".parse::<GidRange>().is_err());
    }
}
