use std::fmt;
use std::str::FromStr;

use super::serde_by_text;
use crate::error::InvalidValue;

/// The longest interface name: the kernel's `IFNAMSIZ` without the final NUL.
const MAX: usize = 15;

/// The name of a network interface, or the beginning of one followed by `+`: `eth0`, `br+`.
///
/// At most 15 bytes; no white space, `/`, quotes, backslashes or control characters, not `.` or
/// `..`, and not beginning with `-` or `!`. A lone `+` matches every interface.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfacePattern(Box<str>);

impl InterfacePattern {
    /// The loopback interface under its usual name, `lo`.
    pub fn lo() -> Self {
        Self("lo".into())
    }

    /// The pattern as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The beginning that a name must have, where the pattern ends in `+`.
    pub fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('+')
    }

    /// Whether an interface of this name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self.prefix() {
            Some(prefix) => name.starts_with(prefix),
            None => *self.0 == *name,
        }
    }
}

impl fmt::Debug for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterfacePattern({})", self.0)
    }
}

impl fmt::Display for InterfacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfacePattern {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let name = text.strip_suffix('+').unwrap_or(text);
        let allowed =
            |c: char| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '+' | '*' | '"' | '\'' | '\\' | '`' | '$');
        let valid = !text.is_empty()
            && text.len() <= MAX
            && name.chars().all(allowed)
            && !text.starts_with(['-', '!', '#'])
            && !matches!(text, "." | "..");
        match valid {
            true => Ok(Self(text.into())),
            false => Err(InvalidValue::new(
                text,
                "an interface name of 1 to 15 characters, or its beginning followed by '+', such as eth0 or br+",
            )),
        }
    }
}

serde_by_text!(InterfacePattern);

/// The name of one network interface: `eth0`. As [`InterfacePattern`], without the `+` at the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(Box<str>);

impl InterfaceName {
    /// The loopback interface under its usual name, `lo`.
    pub fn lo() -> Self {
        Self("lo".into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InterfaceName({})", self.0)
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.parse::<InterfacePattern>() {
            Ok(pattern) if pattern.prefix().is_none() => Ok(Self(pattern.0)),
            _ => Err(InvalidValue::new(text, "the name of one interface, of 1 to 15 characters, such as eth0")),
        }
    }
}

serde_by_text!(InterfaceName);

/// The pattern that means this interface and no other.
impl From<InterfaceName> for InterfacePattern {
    fn from(name: InterfaceName) -> Self {
        Self(name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_and_refused() {
        for text in ["lo", "eth0", "br+", "+", "docker0", "veth1a2b3c4@if2", "cni-podman0", "eth0.100"] {
            assert_eq!(text.parse::<InterfacePattern>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "a b",
            "a\nb",
            "-j",
            "!lo",
            "sixteen-bytes-xx",
            "a+b",
            "a\"",
            "a'b",
            "é",
            ".",
            "..",
            "a/b",
            "a\0b",
            "*",
            "#a",
        ] {
            assert!(text.parse::<InterfacePattern>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_name_is_no_pattern() {
        assert_eq!("eth0".parse::<InterfaceName>().unwrap().as_str(), "eth0");
        for text in ["eth+", "+", "", "a b"] {
            assert!(text.parse::<InterfaceName>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn matching() {
        let pattern: InterfacePattern = "br+".parse().unwrap();
        assert!(pattern.matches("br0") && pattern.matches("br") && !pattern.matches("b"));
        assert!(InterfacePattern::lo().matches("lo") && !InterfacePattern::lo().matches("lo0"));
    }
}
