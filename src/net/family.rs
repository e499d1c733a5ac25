use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{AnyCidr, Cidr};
use crate::named::named;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::V4 {}
    impl Sealed for super::V6 {}
}

/// An address family as a type parameter, so that a prefix of one family cannot get into a rule of
/// the other. Sealed: [`V4`] and [`V6`] are all there are.
///
/// ```compile_fail
/// use kumatp::model::{Match, Rule, Target};
/// use kumatp::net::{Cidr, V4, V6};
///
/// let six: Cidr<V6> = "fd00::/8".parse()?;
/// let four: Rule<V4> = Rule::new(Target::Return).with(Match::to(six)); // mismatched types
/// # Ok::<(), kumatp::error::InvalidValue>(())
/// ```
pub trait Family: sealed::Sealed + Copy + Clone + Debug + Default + Eq + Ord + Hash + Send + Sync + 'static {
    /// The address type of the family.
    type Addr: Copy + Debug + Display + Eq + Ord + Hash + FromStr + Into<IpAddr> + Send + Sync;

    /// The family as a value.
    const NAME: FamilyName;

    /// Bits in an address: 32 or 128.
    const BITS: u8;

    /// The address as a number, for masking and comparing; the low [`BITS`](Self::BITS) bits.
    fn to_bits(addr: Self::Addr) -> u128;

    /// The inverse of [`to_bits`](Self::to_bits); bits above [`BITS`](Self::BITS) are ignored.
    fn from_bits(bits: u128) -> Self::Addr;

    /// The address, if it is of this family.
    fn from_ip(addr: IpAddr) -> Option<Self::Addr>;

    /// The prefix of this family, if it is one.
    fn pick(cidr: &AnyCidr) -> Option<&Cidr<Self>>;

    /// The loopback host: `127.0.0.1/32` or `::1/128`.
    fn localhost() -> Cidr<Self>;

    /// The source that the sidecar uses towards its own workload for inbound traffic that it
    /// passes through: `127.0.0.6/32` or `::6/128`.
    fn passthrough() -> Cidr<Self>;
}

/// IPv4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a marker that is never built")]
pub struct V4;

/// IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a marker that is never built")]
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4Addr;
    const NAME: FamilyName = FamilyName::V4;
    const BITS: u8 = 32;

    fn to_bits(addr: Ipv4Addr) -> u128 {
        u32::from(addr).into()
    }

    fn from_bits(bits: u128) -> Ipv4Addr {
        // The documented truncation to the low 32 bits.
        Ipv4Addr::from(bits as u32)
    }

    fn from_ip(addr: IpAddr) -> Option<Ipv4Addr> {
        match addr {
            IpAddr::V4(addr) => Some(addr),
            IpAddr::V6(_) => None,
        }
    }

    fn pick(cidr: &AnyCidr) -> Option<&Cidr<Self>> {
        match cidr {
            AnyCidr::V4(cidr) => Some(cidr),
            AnyCidr::V6(_) => None,
        }
    }

    fn localhost() -> Cidr<Self> {
        Cidr::host(Ipv4Addr::LOCALHOST)
    }

    fn passthrough() -> Cidr<Self> {
        Cidr::host(Ipv4Addr::new(127, 0, 0, 6))
    }
}

impl Family for V6 {
    type Addr = Ipv6Addr;
    const NAME: FamilyName = FamilyName::V6;
    const BITS: u8 = 128;

    fn to_bits(addr: Ipv6Addr) -> u128 {
        addr.into()
    }

    fn from_bits(bits: u128) -> Ipv6Addr {
        bits.into()
    }

    fn from_ip(addr: IpAddr) -> Option<Ipv6Addr> {
        match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(addr),
        }
    }

    fn pick(cidr: &AnyCidr) -> Option<&Cidr<Self>> {
        match cidr {
            AnyCidr::V4(_) => None,
            AnyCidr::V6(cidr) => Some(cidr),
        }
    }

    fn localhost() -> Cidr<Self> {
        Cidr::host(Ipv6Addr::LOCALHOST)
    }

    fn passthrough() -> Cidr<Self> {
        Cidr::host(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))
    }
}

/// An address family as a value. Printed as `IPv4` or `IPv6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[expect(clippy::exhaustive_enums, reason = "there are two")]
pub enum FamilyName {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

named! {
    /// Every family.
    FamilyName { V4 = "IPv4", V6 = "IPv6" }
}
