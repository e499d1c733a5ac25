//! The addresses of this host, in the network namespace of the calling thread: its local routes, and the addresses of IPv6
//! that are about to have one.

use std::net::{Ipv4Addr, Ipv6Addr};

use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::net::if_::InterfaceFlags;

use crate::error::Error;
use crate::net::{AnyCidr, Cidr};

/// Where the kernel lists them. `/proc/net` would show those of the process's first thread.
const V4: &str = "/proc/thread-self/net/fib_trie";
const V6_ROUTES: &str = "/proc/thread-self/net/ipv6_route";
const V6_ADDRESSES: &str = "/proc/thread-self/net/if_inet6";

/// The local networks of both families, loopback included.
pub(super) fn addresses() -> Result<Vec<AnyCidr>, Error> {
    let read = |path: &str| std::fs::read_to_string(path).map_err(|error| failed(&format!(" from {path}"), &error));
    let mut list = of_v4(&read(V4)?);
    // A kernel without IPv6 has no such files.
    if std::path::Path::new(V6_ROUTES).exists() {
        let interfaces = getifaddrs().map_err(|errno| failed("", &errno.into()))?;
        let down = interfaces.filter(|interface| !interface.flags.contains(InterfaceFlags::IFF_UP));
        let down: Vec<_> = down.map(|interface| interface.interface_name).collect();
        list.extend(expected_of_v6(&read(V6_ADDRESSES)?, &down));
        list.extend(of_v6(&read(V6_ROUTES)?));
    }
    crate::sorted::by(&mut list, Ord::cmp);
    list.dedup();
    Ok(list)
}

fn failed(from: &str, error: &std::io::Error) -> Error {
    Error::io(format!("list this host's addresses{from}"), error)
}

/// Leaves of the trie, each followed by what is known of its prefixes: `|-- 127.0.0.0`, `/8 host LOCAL`.
fn of_v4(text: &str) -> Vec<AnyCidr> {
    let mut list = Vec::new();
    let mut leaf: Option<Ipv4Addr> = None;
    for line in text.lines().map(str::trim) {
        if let Some(addr) = line.strip_prefix("|-- ") {
            leaf = addr.parse().ok();
        } else if let (Some(prefix), Some(addr), true) = (line.strip_prefix('/'), leaf, line.ends_with(" LOCAL")) {
            let prefix = prefix.split(' ').next().and_then(|prefix| prefix.parse().ok());
            list.extend(prefix.and_then(|prefix| Cidr::new(addr, prefix).ok()).map(AnyCidr::V4));
        }
    }
    list
}

/// One route a line: destination, its prefix length, …, flags, interface.
fn of_v6(text: &str) -> Vec<AnyCidr> {
    const LOCAL: u32 = 0x8000_0000; // RTF_LOCAL of linux/ipv6_route.h
    let route = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [addr, prefix, .., flags, _] = fields[..] else { return None };
        let hex = |text: &str| u32::from_str_radix(text, 16).ok();
        let addr = Ipv6Addr::from(u128::from_str_radix(addr, 16).ok()?);
        let prefix = u8::try_from(hex(prefix)?).ok()?;
        (hex(flags)? & LOCAL != 0).then(|| Cidr::new(addr, prefix).ok()).flatten()
    };
    text.lines().filter_map(route).map(AnyCidr::V6).collect()
}

/// One address a line: the address, the interface's index, the length of the prefix, scope, flags, interface. The kernel makes the
/// local route of each in the background (`addrconf_dad_work` of net/ipv6/addrconf.c). Where it first asks whether another host
/// has the address, that takes a second or two, and there will be none if one has. Of an interface that is down, only routes
/// that are there count: what has none would be sent elsewhere, past the sidecar.
fn expected_of_v6(text: &str, down: &[String]) -> Vec<AnyCidr> {
    let expected = |line: &str| {
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let [addr, _, _, _, flags, interface] = fields[..] else { return None };
        let addr = Ipv6Addr::from(u128::from_str_radix(addr, 16).ok()?);
        let flags = u32::from_str_radix(flags, 16).ok()?;
        let never = flags & libc::IFA_F_DADFAILED != 0 || down.iter().any(|name| name == interface);
        (!never).then(|| Cidr::host(addr))
    };
    text.lines().filter_map(expected).map(AnyCidr::V6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_the_kernel() {
        let trie = "Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
Local:
  +-- 0.0.0.0/0 2 0 2
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.0
           /8 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     |-- 10.77.0.1
        /24 link UNICAST
        /32 host LOCAL
";
        let text: Vec<_> = of_v4(trie).iter().map(ToString::to_string).collect();
        assert_eq!(text, ["127.0.0.0/8", "10.77.0.1/32"]);
        let zero = "0".repeat(32);
        let routes = format!(
            "fd770000000000000000000000000001 80 {zero} 00 {zero} 00000000 00000002 00000000 80200001 out0\n\
             fd770000000000000000000000000000 40 {zero} 00 {zero} 00000100 00000001 00000000 00000001 out0\ngarbage\n"
        );
        assert_eq!(of_v6(&routes), ["fd77::1/128".parse().unwrap()]);
        let addresses = "fd770000000000000000000000000001 02 40 00 c0    eth0\n\
                         fd770000000000000000000000000002 02 40 00 c8    eth0\n\
                         fd770000000000000000000000000003 03 40 00 c0    idle\n\
                         garbage\n";
        assert_eq!(expected_of_v6(addresses, &["idle".into()]), ["fd77::1/128".parse().unwrap()]);
    }

    #[test]
    fn this_host_has_the_loopback_network() {
        assert!(addresses().unwrap().contains(&"127.0.0.0/8".parse().unwrap()));
    }
}
