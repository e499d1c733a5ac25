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
use crate::net::{Family, InterfacePattern, V6};

/// The routes of the network namespace of the calling thread.
const ROUTES: &str = "/proc/thread-self/net/ipv6_route";

/// `IFA_PROTO` of linux/if_addr.h, which says who added an address. Linux keeps it since 5.18.
const IFA_PROTO: u16 = 11;

/// What `IFA_PROTO` is of the addresses that we add. Numbers from 4 on are free for programs.
const OURS: u8 = b'k';

/// How many times an answer is asked for again because it was lost.
const ATTEMPTS: usize = 64;

/// Whether `::6` is on the loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Absent,
    /// The kernel does not say who added it: somebody else or, before Linux 5.18, perhaps we.
    Unmarked,
    /// The kernel says that we added it.
    Ours,
}

/// Looks whether `::6` is on the loopback interface of the network namespace of the calling thread.
///
/// # Errors
/// [`Error::Os`] if that cannot be found out.
pub(crate) fn look() -> Result<Presence, Error> {
    let (name, index) = facts::loopback()?;
    look_at(&name, index)
}

fn look_at(name: &InterfacePattern, index: u32) -> Result<Presence, Error> {
    let cannot = |errno: Errno| Error::io(format!("look for {} on {name}", V6::passthrough()), &errno.into());
    for _ in 0..ATTEMPTS {
        match request(libc::RTM_GETADDR, libc::NLM_F_REQUEST, index) {
            Ok(answer) => return Ok(presence(&answer)),
            Err(Trouble::Refused(errno)) if is_absence(errno) => return Ok(Presence::Absent),
            Err(Trouble::Refused(errno)) => return Err(cannot(errno)),
            Err(Trouble::Lost) => {}
        }
    }
    Err(cannot(Errno::ENOBUFS))
}

/// What the kernel answers where the address, the interface or IPv6 as a whole is not there.
fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
}

/// Adds `::6/128` to the loopback interface of the network namespace of the calling thread, and waits
/// until packets reach it. False if it was there.
///
/// # Errors
/// [`Error::Os`] if the kernel refuses.
pub fn add() -> Result<bool, Error> {
    let (name, index) = facts::loopback()?;
    let before = look_at(&name, index)?;
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    let refused = |errno: Errno| Error::Os {
        action: format!("add {} to {name}", V6::passthrough()),
        message: match errno {
            Errno::EACCES => format!("IPv6 is off there, by net.ipv6.conf.{name}.disable_ipv6"),
            Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => "the kernel has no IPv6".to_owned(),
            errno => errno.desc().to_owned(),
        },
        errno: Some(errno as i32),
    };
    let added = match request(libc::RTM_NEWADDR, flags, index) {
        Ok(_) => true,
        Err(Trouble::Refused(Errno::EEXIST)) => false,
        Err(Trouble::Refused(errno)) => return Err(refused(errno)),
        Err(Trouble::Lost) => {
            done_unheard(before, look_at(&name, index)?, false).ok_or_else(|| refused(Errno::ENOBUFS))?
        }
    };
    if added {
        wait_for_route();
    }
    Ok(added)
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
                format!("{error}; connections by IPv6 that the sidecar hands on to the workload fail without it");
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
    let before = look_at(&name, index)?;
    let cannot = |errno: Errno| Error::io(format!("remove {} from {name}", V6::passthrough()), &errno.into());
    match request(libc::RTM_DELADDR, libc::NLM_F_REQUEST | libc::NLM_F_ACK, index) {
        Ok(_) => Ok(true),
        Err(Trouble::Refused(errno)) if is_absence(errno) => Ok(false),
        Err(Trouble::Refused(errno)) => Err(cannot(errno)),
        Err(Trouble::Lost) => done_unheard(before, look_at(&name, index)?, true).ok_or_else(|| cannot(Errno::ENOBUFS)),
    }
}

/// Whether a request whose answer was lost has changed anything, by what was there before and after it;
/// none if it was not carried out. `removal` says which of the two requests it was.
fn done_unheard(before: Presence, after: Presence, removal: bool) -> Option<bool> {
    ((after == Presence::Absent) == removal).then_some(before != after)
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

/// Why a request was not answered as it should be.
#[derive(Debug)]
enum Trouble {
    /// It was not carried out.
    Refused(Errno),
    /// The answer was lost: it may have been carried out.
    Lost,
}

/// Sends one rtnetlink request about the address and returns its answer.
fn request(kind: u16, flags: i32, index: u32) -> Result<Vec<u8>, Trouble> {
    let family = AddressFamily::Netlink;
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute);
    let socket = socket.map_err(Trouble::Refused)?;
    let message = message(kind, flags, index, V6::passthrough().addr());
    // The kernel answers such a request before sendto returns.
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map_err(Trouble::Refused)?;
    let mut answer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).map_err(|_| Trouble::Lost)?;
    let answer = &answer[..length.min(answer.len())];
    match kind_of(answer) {
        Some(libc::RTM_NEWADDR) => Ok(answer.to_vec()),
        _ => match error_number(answer) {
            Some(0) => Ok(answer.to_vec()),
            Some(number) => Err(Trouble::Refused(Errno::from_raw(number))),
            None => Err(Trouble::Lost),
        },
    }
}

/// `struct nlmsghdr`, `struct ifaddrmsg`, and the attributes `IFA_LOCAL`, `IFA_ADDRESS` and, where the
/// address is added, `IFA_PROTO` (linux/netlink.h, linux/if_addr.h), in the byte order of the host.
fn message(kind: u16, flags: i32, index: u32, addr: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![libc::AF_INET6 as u8, V6::BITS, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_HOST];
    body.extend(index.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        body.extend(20_u16.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(addr.octets());
    }
    if kind == libc::RTM_NEWADDR {
        body.extend(5_u16.to_ne_bytes());
        body.extend(IFA_PROTO.to_ne_bytes());
        body.extend([OURS, 0, 0, 0]);
    }
    // At most 72.
    let length = 16 + body.len() as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    // The flags are 16 bits wide on the wire.
    message.extend((flags as u16).to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    message
}

/// What an answer is.
fn kind_of(answer: &[u8]) -> Option<u16> {
    Some(u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?))
}

/// What an `RTM_NEWADDR` says of who added the address.
fn presence(answer: &[u8]) -> Presence {
    // Behind both headers.
    let mut rest = answer.get(24..).unwrap_or_default();
    while let [a, b, c, d, value @ ..] = rest {
        let length = usize::from(u16::from_ne_bytes([*a, *b]));
        if u16::from_ne_bytes([*c, *d]) == IFA_PROTO && value.first() == Some(&OURS) {
            return Presence::Ours;
        }
        rest = rest.get(length.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    Presence::Unmarked
}

/// The number of an `NLMSG_ERROR` answer, 0 for success.
fn error_number(answer: &[u8]) -> Option<i32> {
    let kind = kind_of(answer)?;
    let number = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (i32::from(kind) == libc::NLMSG_ERROR).then_some(number.checked_neg()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let message = message(libc::RTM_NEWADDR, libc::NLM_F_REQUEST, 1, V6::passthrough().addr());
        assert_eq!(message.len(), 72);
        assert_eq!(message[..4], 72_u32.to_ne_bytes());
        assert_eq!(message[16..20], [10, 128, 2, 254]);
        assert_eq!(message[63], 6);
        // The kernel gives an address back as it was told of it.
        assert_eq!(presence(&message), Presence::Ours);
        let request = super::message(libc::RTM_GETADDR, libc::NLM_F_REQUEST, 1, V6::passthrough().addr());
        assert_eq!((request.len(), presence(&request)), (64, Presence::Unmarked));
    }

    #[test]
    fn a_lost_answer_is_made_up_for_by_looking() {
        use Presence::{Absent, Ours, Unmarked};
        // An addition.
        assert_eq!(done_unheard(Absent, Ours, false), Some(true));
        assert_eq!(done_unheard(Unmarked, Unmarked, false), Some(false));
        assert_eq!(done_unheard(Absent, Absent, false), None);
        // A removal.
        assert_eq!(done_unheard(Ours, Absent, true), Some(true));
        assert_eq!(done_unheard(Absent, Absent, true), Some(false));
        assert_eq!(done_unheard(Ours, Ours, true), None);
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
