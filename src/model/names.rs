use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::error::InvalidValue;
use crate::named::named;
use crate::net::{decimal, serde_by_text};

/// A table of netfilter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the kernel has these")]
pub enum TableName {
    /// Before connection tracking.
    Raw,
    /// Packet alteration.
    Mangle,
    /// Address translation.
    Nat,
    /// Packet filtering; never used by us, but met in saved rulesets.
    Filter,
    /// Mandatory access control; never used by us, but met in saved rulesets.
    Security,
}

named! {
    /// Every table, in the order in which a packet meets them.
    TableName { Raw = "raw", Mangle = "mangle", Nat = "nat", Filter = "filter", Security = "security" }
    else "one of the tables raw, mangle, nat, filter, security"
}

impl TableName {
    /// The tables that installations put chains and rules into, in that order. In others, nothing is taken for ours, whatever
    /// its name.
    pub(crate) const OURS: [Self; 3] = [Self::Raw, Self::Mangle, Self::Nat];
}

/// A chain that the kernel provides, at one of the hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the kernel has five hooks")]
pub enum BuiltinChain {
    /// Packets that arrive, before routing.
    Prerouting,
    /// Packets for this host.
    Input,
    /// Packets that pass through.
    Forward,
    /// Packets made on this host.
    Output,
    /// Packets that leave, after routing.
    Postrouting,
}

named! {
    /// Every built-in chain, in the order in which iptables lists them.
    BuiltinChain {
        Prerouting = "PREROUTING", Input = "INPUT", Forward = "FORWARD", Output = "OUTPUT", Postrouting = "POSTROUTING",
    }
}

/// The name of a chain: built in (`OUTPUT`) or user-defined (`KUMA_MESH_OUTBOUND`).
///
/// 1 to 28 bytes, the limit of iptables; printable ASCII without white space, quotes or
/// backslashes, and not beginning with `-`, `!`, `:`, `*` or `#`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChainName(Cow<'static, str>);

impl ChainName {
    /// The longest name, in bytes.
    pub const MAX: usize = 28;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The built-in chain of this name, if it is one.
    pub fn builtin(&self) -> Option<BuiltinChain> {
        BuiltinChain::ALL.into_iter().find(|chain| chain.as_str() == self.0)
    }
}

impl From<BuiltinChain> for ChainName {
    fn from(chain: BuiltinChain) -> Self {
        Self(Cow::Borrowed(chain.as_str()))
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainName({})", self.0)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ChainName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let valid = !text.is_empty()
            && text.len() <= Self::MAX
            && text.chars().all(plain)
            && !text.starts_with(['-', '!', ':', '*', '#']);
        match valid {
            true => Ok(Self(Cow::Owned(text.to_owned()))),
            false => Err(InvalidValue::new(
                text,
                "a chain name of 1 to 28 letters, digits or signs, without blanks and quotes and not beginning with '-' or '!'",
            )),
        }
    }
}

/// Printable, and without a meaning in any of the syntaxes that we write.
fn plain(c: char) -> bool {
    c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '`' | '$' | '{' | '}' | ';' | '<' | '>' | '&')
}

/// A rule's comment: [`Comment::PREFIX`] and what the rule is for, 128 bytes at most.
///
/// 128 is what `nft` reloads; the kernel and iptables take more. No control characters, quotes or
/// backslashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Comment(Arc<str>);

impl Comment {
    /// What each comment of ours, and of kumactl, begins with. Each of the two programs knows the
    /// rules of the other by it.
    pub const PREFIX: &'static str = "kuma/mesh/transparent/proxy/";

    /// Whether a rule with this comment is ours, or kumactl's: if it *begins* with the prefix.
    pub fn is_ours(text: &str) -> bool {
        text.starts_with(Self::PREFIX)
    }

    /// The longest comment, in bytes.
    pub const MAX: usize = 128;

    /// The comment of a rule of ours: the prefix, then `words`. Characters that a comment cannot
    /// hold become `?`, and what does not fit is cut at a character boundary.
    pub fn ours(words: &str) -> Self {
        Self::lossy(&format!("{}{words}", Self::PREFIX))
    }

    /// The nearest comment to any text: characters that a comment cannot hold become `?`, and what
    /// does not fit is cut at a character boundary.
    pub fn lossy(text: &str) -> Self {
        if let Ok(same) = text.parse() {
            return same;
        }
        let mut kept = String::with_capacity(text.len().min(Self::MAX));
        for c in text.chars() {
            let c = if Self::allowed(c) { c } else { '?' };
            if kept.len() + c.len_utf8() > Self::MAX {
                break;
            }
            kept.push(c);
        }
        Self(kept.into())
    }

    /// The whole text, prefix included where it has one.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What follows [`PREFIX`](Self::PREFIX), if the comment begins with it.
    pub fn words(&self) -> Option<&str> {
        self.0.strip_prefix(Self::PREFIX)
    }

    fn allowed(c: char) -> bool {
        !c.is_control() && !matches!(c, '"' | '\\' | '\u{2028}' | '\u{2029}')
    }
}

impl fmt::Debug for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Comment({})", self.0)
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Comment {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        // By bytes where that is enough: every rule has a comment.
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
        match text.len() <= Self::MAX && (text.bytes().all(plain) || text.chars().all(Self::allowed)) {
            true => Ok(Self(text.into())),
            false => Err(InvalidValue::new(
                text,
                "a comment of at most 128 bytes without quotes, backslashes and control characters",
            )),
        }
    }
}

/// What a logged packet's line begins with: 1 to 29 bytes, the limit of iptables; printable ASCII
/// without quotes, backslashes or blanks.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPrefix(Cow<'static, str>);

impl LogPrefix {
    /// The prefix of a chain's name and a colon, as kumactl has it: `OUTPUT:`.
    pub fn of(chain: BuiltinChain) -> Self {
        Self(Cow::Owned(format!("{}:", chain.as_str())))
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LogPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogPrefix({})", self.0)
    }
}

impl fmt::Display for LogPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LogPrefix {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let valid = !text.is_empty() && text.len() <= 29 && text.chars().all(plain) && !text.starts_with(['-', '!']);
        match valid {
            true => Ok(Self(Cow::Owned(text.to_owned()))),
            false => Err(InvalidValue::new(text, "a log prefix of 1 to 29 characters, without blanks and quotes")),
        }
    }
}

/// The severity of a log line, 0 (emergency) to 7 (debug), as syslog counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct LogLevel(u8);

impl LogLevel {
    /// Debug, 7: what kumactl uses by default.
    pub const DEBUG: Self = Self(7);

    /// The level with this number; `None` above 7, which iptables refuses.
    pub const fn new(number: u8) -> Option<Self> {
        if number <= 7 { Some(Self(number)) } else { None }
    }

    /// The number, 0 to 7.
    pub const fn number(self) -> u8 {
        self.0
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for LogLevel {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        decimal(text).and_then(Self::new).ok_or_else(|| InvalidValue::new(text, "a log level from 0 to 7"))
    }
}

serde_by_text!(ChainName, Comment, LogPrefix);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_names() {
        for text in ["OUTPUT", "KUMA_MESH_INBOUND_REDIRECT", "f2b-sshd", "cali:x", "a"] {
            assert_eq!(text.parse::<ChainName>().unwrap().as_str(), text);
        }
        for text in ["", "-A", "!x", ":x", "*x", "a b", "a\nCOMMIT", "a\"b", "01234567890123456789012345678"] {
            assert!(text.parse::<ChainName>().is_err(), "{text:?}");
        }
        assert_eq!("OUTPUT".parse::<ChainName>().unwrap(), BuiltinChain::Output.into());
        assert_eq!("OUTPUT".parse::<ChainName>().unwrap().builtin(), Some(BuiltinChain::Output));
    }

    #[test]
    fn comments_are_cut_between_characters() {
        let comment = Comment::ours(&"é".repeat(200));
        assert!(comment.as_str().len() <= Comment::MAX);
        assert!(comment.words().unwrap().chars().all(|c| c == 'é'));
        assert_eq!(Comment::ours("a\"b\nc\\").words(), Some("a?b?c?"));
        assert!("a\"".parse::<Comment>().is_err());
    }

    #[test]
    fn log_levels() {
        assert_eq!("7".parse::<LogLevel>().unwrap(), LogLevel::DEBUG);
        assert!("8".parse::<LogLevel>().is_err() && "debug".parse::<LogLevel>().is_err());
    }
}
