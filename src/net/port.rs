use std::fmt;
use std::num::NonZeroU16;
use std::str::FromStr;

use super::{decimal, serde_by_text};
use crate::error::InvalidValue;
use crate::named::named;

/// A transport protocol that the rules deal with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the transparent proxy handles no other")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// The number in the IP header: 6 or 17.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

named! {
    /// Both.
    Protocol { Tcp = "tcp", Udp = "udp" }
}

impl FromStr for Protocol {
    type Err = InvalidValue;

    /// Letter case does not matter.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let known = Self::ALL.into_iter().find(|protocol| protocol.as_str().eq_ignore_ascii_case(text.trim()));
        known.ok_or_else(|| InvalidValue::new(text, "the protocol tcp or udp"))
    }
}

/// A port number from 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port of DNS.
    pub const DNS: Self = Self::constant(53);

    /// A port known when this crate is compiled.
    pub(crate) const fn constant(number: u16) -> Self {
        match NonZeroU16::new(number) {
            Some(number) => Self(number),
            None => panic!("port 0"),
        }
    }

    /// The port with this number, unless it is 0.
    pub const fn new(number: u16) -> Option<Self> {
        match NonZeroU16::new(number) {
            Some(number) => Some(Self(number)),
            None => None,
        }
    }

    /// The number, 1 to 65535.
    pub const fn number(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Port({self})")
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Port {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        decimal(text).and_then(Self::new).ok_or_else(|| InvalidValue::new(text, "a port from 1 to 65535"))
    }
}

/// Ports from `first` to `last`, both included; a single port is a range of one.
///
/// Written `80` or `3000-5000`; `3000:5000`, the form of iptables, is read as well.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    first: Port,
    last: Port,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: Port::constant(1), last: Port::constant(u16::MAX) };

    /// The ports from `first` to `last`; `None` if `last` is below `first`.
    pub fn new(first: Port, last: Port) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest port.
    pub fn first(self) -> Port {
        self.first
    }

    /// The highest port.
    pub fn last(self) -> Port {
        self.last
    }

    /// Whether it is one port only.
    pub fn is_single(self) -> bool {
        self.first == self.last
    }

    /// Whether `port` is in the range.
    pub fn contains(self, port: Port) -> bool {
        self.first <= port && port <= self.last
    }
}

impl From<Port> for PortRange {
    fn from(port: Port) -> Self {
        Self { first: port, last: port }
    }
}

impl fmt::Debug for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortRange({self})")
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_single() {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl FromStr for PortRange {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = |expected| InvalidValue::new(text, expected);
        const EXPECTED: &str = "a port from 1 to 65535, or a range such as 3000-5000";
        match text.split_once(['-', ':']) {
            None => text.parse::<Port>().map(Self::from).map_err(|_| invalid(EXPECTED)),
            Some((first, last)) => {
                let first = first.parse().map_err(|_| invalid(EXPECTED))?;
                let last = last.parse().map_err(|_| invalid(EXPECTED))?;
                Self::new(first, last).ok_or_else(|| invalid("a range that begins with its lower port"))
            }
        }
    }
}

/// A list of ports and port ranges, in the order in which they were written.
///
/// Written `22, 80,3000-5000`: blanks around items and empty items are dropped. An empty list holds
/// no port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    /// The ranges, as they were written: in any order, repeated and overlapping where they were.
    pub fn ranges(&self) -> &[PortRange] {
        &self.0
    }

    /// Whether no port is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `port` is in it.
    pub fn contains(&self, port: Port) -> bool {
        self.0.iter().any(|range| range.contains(port))
    }

    /// The same ports as sorted ranges that neither overlap nor touch.
    pub fn merged(&self) -> Self {
        let mut ranges = self.0.clone();
        ranges.sort_unstable();
        let mut merged: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                Some(last) if range.first.number() <= last.last.number().saturating_add(1) => {
                    last.last = last.last.max(range.last);
                }
                _ => merged.push(range),
            }
        }
        Self(merged)
    }
}

impl PortSet {
    /// The ports counted as iptables' `multiport` match does: a range is two.
    pub fn slots(&self) -> usize {
        self.0.iter().map(|range| if range.is_single() { 1 } else { 2 }).sum()
    }

    /// The same ranges in runs of at most `slots` [`slots`](Self::slots), in order; `slots` below 2
    /// count as 2.
    pub fn split(&self, slots: usize) -> impl Iterator<Item = Self> {
        let mut rest = self.0.as_slice();
        std::iter::from_fn(move || {
            let mut used = 0;
            let fits = rest.iter().take_while(|range| {
                used += if range.is_single() { 1 } else { 2 };
                used <= slots.max(2)
            });
            let (head, tail) = rest.split_at(fits.count());
            rest = tail;
            (!head.is_empty()).then(|| Self(head.to_vec()))
        })
    }
}

impl FromIterator<PortRange> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortRange>>(ranges: I) -> Self {
        Self(ranges.into_iter().collect())
    }
}

impl From<PortRange> for PortSet {
    fn from(range: PortRange) -> Self {
        Self(vec![range])
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PortSet({self})")
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            range.fmt(f)?;
        }
        Ok(())
    }
}

impl FromStr for PortSet {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::parse).collect()
    }
}

serde_by_text!(Protocol, Port, PortRange, PortSet);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        assert_eq!("15001".parse::<Port>().unwrap().number(), 15001);
        for text in ["0", "65536", "-1", "+1", "", "http", "1 2", "0x10"] {
            assert_eq!(text.parse::<Port>().unwrap_err().value(), text);
        }
    }

    #[test]
    fn ranges() {
        assert_eq!("3000-5000".parse::<PortRange>().unwrap().to_string(), "3000-5000");
        assert_eq!("3000:5000".parse::<PortRange>().unwrap().to_string(), "3000-5000");
        assert_eq!("22-22".parse::<PortRange>().unwrap().to_string(), "22");
        for text in ["5000-3000", "1-2-3", "0-5", "a3000-5000", "-", "1-"] {
            assert_eq!(text.parse::<PortRange>().unwrap_err().value(), text);
        }
    }

    #[test]
    fn sets_keep_their_order() {
        assert_eq!(" 3, 1,,2-4 ".parse::<PortSet>().unwrap().to_string(), "3,1,2-4");
        assert_eq!(" 3, 1,,2-4 ".parse::<PortSet>().unwrap().merged().to_string(), "1-4");
        assert!("".parse::<PortSet>().unwrap().is_empty());
        assert_eq!("80,abc".parse::<PortSet>().unwrap_err().value(), "abc");
        let set: PortSet = "1,2-3,4-5,6".parse().unwrap();
        let runs: Vec<_> = set.split(3).map(|s| s.to_string()).collect();
        assert_eq!((set.slots(), runs), (6, vec!["1,2-3".to_owned(), "4-5,6".to_owned()]));
        assert_eq!("65535,1-65534".parse::<PortSet>().unwrap().merged().to_string(), "1-65535");
    }
}
