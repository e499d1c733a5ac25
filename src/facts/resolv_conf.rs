use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::InvalidValue;
use crate::net::{InterfaceName, serde_by_text};

/// The name servers of a host, as `resolv.conf` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[non_exhaustive]
pub struct Resolvers {
    /// The file that they were read from; empty if they were given.
    #[serde(default)]
    pub path: PathBuf,
    /// The servers of both families, in the order of the file.
    pub servers: Vec<NameServer>,
    /// What stood after `nameserver` and is no address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
}

/// A name server: an address, and of a link-local one perhaps the interface by which it is asked (`fe80::1%eth0`).
///
/// ```
/// use kumatp::facts::NameServer;
///
/// let server: NameServer = "fe80::1%eth0".parse()?;
/// assert_eq!(server.addr.to_string(), "fe80::1");
/// assert_eq!(server.interface.unwrap().as_str(), "eth0");
/// // As glibc reads it: octal numbers, and the last number for all bytes that are left.
/// assert_eq!("010.1".parse::<NameServer>()?.to_string(), "8.0.0.1");
/// # Ok::<(), kumatp::error::InvalidValue>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct NameServer {
    /// The address; the IPv4 form of a mapped one, which is what rules can name.
    pub addr: IpAddr,
    /// The interface, if the address is link-local and the zone names one. A number is none: queries are redirected
    /// whatever interface they take.
    pub interface: Option<InterfaceName>,
}

impl From<IpAddr> for NameServer {
    fn from(addr: IpAddr) -> Self {
        Self { addr: addr.to_canonical(), interface: None }
    }
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.interface {
            Some(interface) => write!(f, "{}%{}", self.addr, interface.as_str()),
            None => write!(f, "{}", self.addr),
        }
    }
}

impl FromStr for NameServer {
    type Err = InvalidValue;

    /// Reads what glibc takes for an address in `resolv.conf`.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Some(addr) = inet_aton(text) {
            return Ok(IpAddr::from(addr).into());
        }
        let (addr, zone) = text.split_once('%').map_or((text, None), |(addr, zone)| (addr, Some(zone)));
        let addr: Ipv6Addr =
            addr.parse().map_err(|_| InvalidValue::new(text, "an IP address, such as 10.0.0.53 or fe80::1%eth0"))?;
        let is_number = |zone: &&str| zone.bytes().all(|byte| byte.is_ascii_digit());
        // Of other addresses, the zone has no meaning.
        let zone = zone.filter(|zone| addr.is_unicast_link_local() && !is_number(zone));
        Ok(Self { interface: zone.and_then(|zone| zone.parse().ok()), ..IpAddr::from(addr).into() })
    }
}

serde_by_text!(NameServer);

/// An IPv4 address of one to four numbers, octal after `0` and hexadecimal after `0x`; the last is for all bytes that the
/// others leave.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let number = |text: &str| {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if text.len() > 1 && text.starts_with('0') => (text, 8),
            None => (text, 10),
        };
        Some(digits)
            .filter(|digits| !digits.starts_with('+'))
            .and_then(|digits| u32::from_str_radix(digits, radix).ok())
    };
    let numbers: Vec<u32> = text.split('.').map(number).collect::<Option<_>>()?;
    let (last, first) = numbers.split_last()?;
    if first.len() > 3 || first.iter().any(|number| *number > 255) {
        return None;
    }
    let left = 8 * (4 - first.len());
    let first = first.iter().enumerate().fold(0, |address, (index, number)| address | number << (24 - 8 * index));
    (u64::from(*last) < 1 << left).then(|| Ipv4Addr::from(first | last))
}

impl Resolvers {
    /// Reads the text of a `resolv.conf` (man 5 resolv.conf): of each line that begins with the
    /// word `nameserver`, the next word. All else is ignored, comments after the address included.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut resolvers = Self { path: path.to_owned(), ..Self::default() };
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            if words.next() == Some("nameserver") {
                resolvers.extend(words.next());
            }
        }
        resolvers
    }
}

/// Texts that are addresses become servers; the others are skipped.
impl<'a> Extend<&'a str> for Resolvers {
    fn extend<I: IntoIterator<Item = &'a str>>(&mut self, texts: I) {
        for text in texts {
            match text.parse() {
                Ok(server) => self.servers.push(server),
                Err(_) => self.skipped.push(text.to_owned()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{V4, V6};

    #[test]
    fn servers_of_both_families_in_order() {
        let text = "# made by a test\nsearch svc.cluster.local\nnameserver 10.96.0.10\nnameserver\t127.0.0.11 # docker\n; a comment\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nnameserver\nnameserverx 1.1.1.1\n#nameserver 8.8.8.8\nnameserver ::ffff:192.0.2.1\nnameserver dns.example\noptions ndots:5\n";
        let resolvers = Resolvers::parse(Path::new("/r"), text);
        let four: Vec<_> = resolvers.of::<V4>().map(|a| a.to_string()).collect();
        assert_eq!(four, ["10.96.0.10", "127.0.0.11", "192.0.2.1"]);
        let six: Vec<_> =
            resolvers.by_interface::<V6>().map(|(a, i)| (a.to_string(), i.map(InterfaceName::as_str))).collect();
        assert_eq!(six, [("fe80::1".to_owned(), Some("eth0")), ("2001:db8::1".to_owned(), None)]);
        assert_eq!(resolvers.skipped, ["dns.example"]);
        let json = serde_json::to_string(&resolvers).unwrap();
        assert!(json.contains(r#""fe80::1%eth0""#), "{json}");
        assert_eq!(serde_json::from_str::<Resolvers>(&json).unwrap(), resolvers);
    }

    #[test]
    fn addresses_as_glibc_reads_them() {
        for (text, server) in [
            ("10.1", "10.0.0.1"),
            ("010.0.0.1", "8.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("0X7F000001", "127.0.0.1"),
            ("10.1.256", "10.1.1.0"),
            ("4294967295", "255.255.255.255"),
            ("0", "0.0.0.0"),
            // A zone counts where the address is link-local, and if it names an interface.
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("fe80::1%2", "fe80::1"),
            ("fe80::1%", "fe80::1"),
            ("fe80::1%no/interface", "fe80::1"),
            ("fe80::1%eth+", "fe80::1"),
            ("2001:db8::1%eth0", "2001:db8::1"),
        ] {
            assert_eq!(text.parse::<NameServer>().map(|server| server.to_string()), Ok(server.to_owned()), "{text}");
        }
        for text in [
            "",
            ".",
            "10.",
            "1.2.3.4.5",
            "1.2.3.256",
            "256.1",
            "08.0.0.1",
            "0x",
            "+1",
            "4294967296",
            "1.2.65536",
            "%eth0",
            "10.0.0.1%eth0",
            "fe80::g",
        ] {
            assert!(text.parse::<NameServer>().is_err(), "{text}");
        }
    }
}
