//! The sidecar's own IPv6 address, `::6`, on the loopback interface.
//!
//! 127.0.0.6 is there on every host, as all of 127.0.0.0/8 is; for IPv6 only `::1` is.

use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use super::Report;
use crate::config::IpFamilyMode;
use crate::error::Error;
use crate::facts;
use crate::model::Note;
use crate::net::{Family, V6};

/// The routes of the network namespace of the calling thread.
const ROUTES: &str = "/proc/thread-self/net/ipv6_route";

/// Adds `::6/128` to the loopback interface of the network namespace of the calling thread, and waits
/// until packets reach it. False if it was there.
///
/// # Errors
/// [`Error::Os`] if the kernel refuses.
pub fn add() -> Result<bool, Error> {
    let (name, index) = facts::loopback()?;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    match request(libc::RTM_NEWADDR, flags, index) {
        Ok(()) => {
            wait_for_route();
            Ok(true)
        }
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(Error::Os {
            action: format!("add {} to {name}", V6::passthrough()),
            message: match errno {
                Errno::EACCES => format!("IPv6 is off there, by net.ipv6.conf.{name}.disable_ipv6"),
                Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => "the kernel has no IPv6".to_owned(),
                errno => errno.desc().to_owned(),
            },
            errno: Some(errno as i32),
        }),
    }
}

/// Adds the address, unless the host cannot have it: then the rules are needed all the same, so that is a warning. With
/// `required` it is an error.
pub(super) fn add_where_possible(mode: IpFamilyMode, report: &mut Report) -> Result<bool, Error> {
    let impossible = |errno| {
        matches!(Errno::from_raw(errno), Errno::EACCES | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
            && mode != IpFamilyMode::Required
    };
    match add() {
        Err(error) if error.errno().is_some_and(impossible) => {
            let text =
                format!("{error}; until then, connections by IPv6 that pass through the sidecar to the workload fail");
            report.notes.push(Note::warning("ipv6", text));
            Ok(false)
        }
        done => done,
    }
}

/// Removes `::6/128` from the loopback interface of the network namespace of the calling thread.
/// False if it was not there.
///
/// # Errors
/// [`Error::Os`] if the kernel refuses.
pub fn remove() -> Result<bool, Error> {
    let (name, index) = facts::loopback()?;
    match request(libc::RTM_DELADDR, libc::NLM_F_REQUEST | libc::NLM_F_ACK, index) {
        Ok(()) => Ok(true),
        Err(Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP) => Ok(false),
        Err(errno) => Err(Error::io(format!("remove {} from {name}", V6::passthrough()), &errno.into())),
    }
}

/// Waits until the kernel has the local route to the address, a second at most. It makes that route in
/// the background (`addrconf_dad_work` of net/ipv6/addrconf.c); until then the route of the prefix
/// discards what is sent there, and a connection from there is a second late.
fn wait_for_route() {
    for _ in 0..1000 {
        match std::fs::read_to_string(ROUTES) {
            Ok(routes) if !has_local_route(&routes, V6::passthrough().addr()) => sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
}

/// Whether a list of routes, as the kernel writes it, has the local one to an address.
fn has_local_route(routes: &str, addr: Ipv6Addr) -> bool {
    const LOCAL: u32 = 0x8000_0000; // RTF_LOCAL of linux/ipv6_route.h
    let destination = format!("{:032x} 80 ", addr.to_bits());
    routes.lines().filter(|line| line.starts_with(&destination)).any(|line| {
        let flags = line.split_ascii_whitespace().nth(8).and_then(|flags| u32::from_str_radix(flags, 16).ok());
        flags.is_some_and(|flags| flags & LOCAL != 0)
    })
}

/// Sends one rtnetlink request about the address and waits for its answer.
fn request(kind: u16, flags: i32, index: u32) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    // The kernel answers such a request before sendto returns.
    sendto(
        socket.as_raw_fd(),
        &message(kind, flags, index, V6::passthrough().addr()),
        &NetlinkAddr::new(0, 0),
        MsgFlags::empty(),
    )?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT)?;
    match error_number(&answer[..length.min(answer.len())]) {
        Some(0) => Ok(()),
        Some(number) => Err(Errno::from_raw(number)),
        None => Err(Errno::EPROTO),
    }
}

/// `struct nlmsghdr`, `struct ifaddrmsg`, and the attributes `IFA_LOCAL` and `IFA_ADDRESS`
/// (linux/netlink.h, linux/if_addr.h), in the byte order of the host.
fn message(kind: u16, flags: i32, index: u32, addr: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![libc::AF_INET6 as u8, V6::BITS, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_HOST];
    body.extend(index.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(addr.octets());
    }
    let length = u32::try_from(16 + body.len()).unwrap_or_default();
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    // The flags are 16 bits wide on the wire.
    message.extend((flags as u16).to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// The number of an `NLMSG_ERROR` answer, 0 for success.
fn error_number(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(number.checked_neg()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let message = message(libc::RTM_NEWADDR, libc::NLM_F_REQUEST, 1, V6::passthrough().addr());
        assert_eq!(message.len(), 64);
        assert_eq!(message[..4], 64_u32.to_ne_bytes());
        assert_eq!(message[16..20], [10, 128, 2, 254]);
        assert_eq!(message[63], 6);
    }

    #[test]
    fn the_route_of_the_prefix_is_not_the_local_one() {
        let none = "00000000000000000000000000000000";
        let route = |to: &str, flags: &str| format!("{to} 80 {none} 00 {none} 00000100 00000001 00000000 {flags} lo\n");
        let six = "00000000000000000000000000000006";
        let prefix = route(six, "00200001");
        assert!(!has_local_route("", V6::passthrough().addr()));
        assert!(!has_local_route(&prefix, V6::passthrough().addr()));
        assert!(!has_local_route(&route(none, "80200001"), V6::passthrough().addr()));
        assert!(has_local_route(&(prefix + &route(six, "80200001")), V6::passthrough().addr()));
    }

    #[test]
    fn answers() {
        let mut answer = [0; 36];
        answer[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(error_number(&answer), Some(0));
        answer[16..20].copy_from_slice(&(-17_i32).to_ne_bytes());
        assert_eq!(error_number(&answer), Some(17));
        assert_eq!(error_number(&answer[..10]), None);
        answer[4] = 3;
        assert_eq!(error_number(&answer), None);
    }
}
