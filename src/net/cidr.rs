use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::{Family, V4, V6, serde_by_text};
use crate::error::InvalidValue;

const EXPECTED: &str = "an IP address or a CIDR, such as 10.0.0.1, 172.16.0.0/16 or fd00::/8";

/// A set of addresses of one family that share a prefix; a bare address is the set of itself.
///
/// Printed as it was written, since rendered rules keep the spelling that the operator chose (host
/// bits, a missing mask). Two are **equal when they match the same addresses**: `10.0.0.1` equals
/// `10.0.0.1/32`, and `172.32.16.8/16` equals `172.32.0.0/16`.
///
/// An IPv4-mapped IPv6 address (`::ffff:10.0.0.1`) is taken as the IPv4 address that it stands for.
#[derive(Clone)]
pub struct Cidr<F: Family> {
    addr: F::Addr,
    prefix: u8,
    /// The spelling, where it is not `addr/prefix`. Only characters of an address can be in it.
    spelling: Option<Box<str>>,
}

impl<F: Family> Cidr<F> {
    /// The addresses that share the first `prefix` bits with `addr`. Host bits in `addr` are kept
    /// for printing.
    ///
    /// # Errors
    /// If `prefix` is more than [`Family::BITS`].
    pub fn new(addr: F::Addr, prefix: u8) -> Result<Self, InvalidValue> {
        if prefix > F::BITS {
            return Err(InvalidValue::new(
                format!("{addr}/{prefix}"),
                format!("a prefix length of at most {}", F::BITS),
            ));
        }
        Ok(Self { addr, prefix, spelling: None })
    }

    /// One address, printed with its mask (`/32`, `/128`).
    pub fn host(addr: F::Addr) -> Self {
        Self { addr, prefix: F::BITS, spelling: None }
    }

    /// One address, printed without a mask.
    pub fn bare(addr: F::Addr) -> Self {
        Self { addr, prefix: F::BITS, spelling: Some(addr.to_string().into()) }
    }

    /// The address as it was given, host bits included.
    pub fn addr(&self) -> F::Addr {
        self.addr
    }

    /// The prefix length in bits.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// The lowest address of the set.
    pub fn first(&self) -> F::Addr {
        F::from_bits(F::to_bits(self.addr) & self.mask())
    }

    /// The highest address of the set.
    pub fn last(&self) -> F::Addr {
        F::from_bits(F::to_bits(self.addr) | !self.mask())
    }

    /// Whether the set holds `addr`.
    pub fn contains(&self, addr: F::Addr) -> bool {
        (F::to_bits(addr) ^ F::to_bits(self.addr)) & self.mask() == 0
    }

    /// The mask within [`Family::BITS`].
    fn mask(&self) -> u128 {
        let all = u128::MAX >> (128 - u32::from(F::BITS));
        let host = u32::from(F::BITS - self.prefix);
        all & all.checked_shl(host).unwrap_or(0)
    }

    fn key(&self) -> (u128, u8) {
        (F::to_bits(self.first()), self.prefix)
    }
}

/// The prefix with its host bits, as ipnet holds it.
impl From<Cidr<V4>> for ipnet::Ipv4Net {
    fn from(cidr: Cidr<V4>) -> Self {
        Self::new_assert(cidr.addr, cidr.prefix)
    }
}

/// The prefix with its host bits, as ipnet holds it.
impl From<Cidr<V6>> for ipnet::Ipv6Net {
    fn from(cidr: Cidr<V6>) -> Self {
        Self::new_assert(cidr.addr, cidr.prefix)
    }
}

impl From<ipnet::Ipv4Net> for Cidr<V4> {
    fn from(net: ipnet::Ipv4Net) -> Self {
        Self { addr: net.addr(), prefix: net.prefix_len(), spelling: None }
    }
}

impl From<ipnet::Ipv6Net> for Cidr<V6> {
    fn from(net: ipnet::Ipv6Net) -> Self {
        Self { addr: net.addr(), prefix: net.prefix_len(), spelling: None }
    }
}

impl<F: Family> PartialEq for Cidr<F> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<F: Family> Eq for Cidr<F> {}

impl<F: Family> Hash for Cidr<F> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl<F: Family> PartialOrd for Cidr<F> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<F: Family> Ord for Cidr<F> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl<F: Family> fmt::Debug for Cidr<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cidr({self})")
    }
}

impl<F: Family> fmt::Display for Cidr<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.spelling {
            Some(spelling) => f.write_str(spelling),
            None => write!(f, "{}/{}", self.addr, self.prefix),
        }
    }
}

impl<F: Family> FromStr for Cidr<F> {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let any: AnyCidr = text.parse()?;
        F::pick(&any).cloned().ok_or_else(|| InvalidValue::new(text, format!("an {} address or CIDR", F::NAME)))
    }
}

/// A prefix of either family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there are two families")]
pub enum AnyCidr {
    /// An IPv4 prefix.
    V4(Cidr<V4>),
    /// An IPv6 prefix.
    V6(Cidr<V6>),
}

impl AnyCidr {
    /// The prefix length in bits.
    pub fn prefix(&self) -> u8 {
        match self {
            Self::V4(cidr) => cidr.prefix(),
            Self::V6(cidr) => cidr.prefix(),
        }
    }
}

impl fmt::Display for AnyCidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(cidr) => cidr.fmt(f),
            Self::V6(cidr) => cidr.fmt(f),
        }
    }
}

impl FromStr for AnyCidr {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let text = text.trim();
        let invalid = || InvalidValue::new(text, EXPECTED);
        let (addr, prefix) = match text.split_once('/') {
            Some((addr, prefix)) => {
                // Digits only, as u8's parser would take a sign; and no leading zero, as iptables takes
                // it for octal.
                let octal = prefix.len() > 1 && prefix.starts_with('0');
                if prefix.is_empty() || octal || !prefix.bytes().all(|b| b.is_ascii_digit()) {
                    return Err(invalid());
                }
                (addr, Some(prefix.parse::<u8>().map_err(|_| invalid())?))
            }
            None => (text, None),
        };
        let spelled = |canonical: String| (text != canonical).then(|| text.into());
        match addr.parse::<IpAddr>().map_err(|_| invalid())? {
            IpAddr::V4(addr) => {
                let mut cidr = Cidr::<V4>::new(addr, prefix.unwrap_or(32)).map_err(|_| invalid())?;
                cidr.spelling = spelled(cidr.to_string());
                Ok(Self::V4(cidr))
            }
            IpAddr::V6(addr) => match mapped(addr, prefix) {
                Some(cidr) => Ok(Self::V4(cidr)),
                None => {
                    let mut cidr = Cidr::<V6>::new(addr, prefix.unwrap_or(128)).map_err(|_| invalid())?;
                    cidr.spelling = spelled(cidr.to_string());
                    Ok(Self::V6(cidr))
                }
            },
        }
    }
}

/// The IPv4 prefix that an IPv4-mapped IPv6 prefix stands for. iptables takes only the IPv4 form.
fn mapped(addr: Ipv6Addr, prefix: Option<u8>) -> Option<Cidr<V4>> {
    let four = addr.to_ipv4_mapped()?;
    match prefix {
        None => Some(Cidr::bare(four)),
        Some(prefix) => Cidr::new(four, prefix.checked_sub(96)?).ok(),
    }
}

impl<F: Family> serde::Serialize for Cidr<F> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de, F: Family> serde::Deserialize<'de> for Cidr<F> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str> as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

serde_by_text!(AnyCidr);

#[cfg(test)]
mod tests {
    use super::*;

    fn any(text: &str) -> AnyCidr {
        text.parse().unwrap()
    }

    #[test]
    fn the_spelling_is_kept_and_does_not_count() {
        for text in ["10.0.0.1", "10.0.0.1/32", "172.32.16.8/16", "FD00::1/8", "fd00:0:0::1", "::6/24"] {
            assert_eq!(any(text).to_string(), text);
        }
        assert_eq!(any("10.0.0.1"), any("10.0.0.1/32"));
        assert_eq!(any("172.32.16.8/16"), any("172.32.0.0/16"));
        assert_eq!(any("FD00:0::1"), any("fd00::1/128"));
        assert_ne!(any("10.0.0.0/8"), any("10.0.0.0/9"));
        assert_eq!(any(" 10.0.0.1 ").to_string(), "10.0.0.1");
    }

    #[test]
    fn mapped_addresses_become_ipv4() {
        assert_eq!(any("::ffff:10.0.0.1").to_string(), "10.0.0.1");
        assert_eq!(any("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
        assert!(matches!(any("::ffff:0:0/95"), AnyCidr::V6(_)));
    }

    #[test]
    fn bounds() {
        let net: Cidr<V4> = "10.1.2.3/8".parse().unwrap();
        assert_eq!((net.first().to_string(), net.last().to_string()), ("10.0.0.0".into(), "10.255.255.255".into()));
        assert!(net.contains([10, 255, 0, 1].into()) && !net.contains([11, 0, 0, 0].into()));
        let all: Cidr<V6> = "::/0".parse().unwrap();
        assert!(all.contains(Ipv6Addr::LOCALHOST));
        assert_eq!(all.last(), Ipv6Addr::from(u128::MAX));
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "10.0.0.300",
            "10.0.0.1/33",
            "10.0.0.1/+8",
            "10.0.0.1/08",
            "10.0.0.1/010",
            "10.0.0.1/",
            "::1/129",
            "fe80::1%eth0",
            "a b",
            "1.2.3.4/8 -j DROP",
        ] {
            let error = text.parse::<AnyCidr>().unwrap_err();
            assert_eq!(error.value(), text);
        }
        assert!("fd00::1".parse::<Cidr<V4>>().is_err());
    }
}
