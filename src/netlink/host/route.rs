//! The loopback interface, its addresses and its routes: rtnetlink, over one socket.
//!
//! Requests are sent together as far as none needs the answer of another. The numbers are those of linux/rtnetlink.h,
//! linux/if_link.h and linux/if_addr.h; numbers in attributes are in the byte order of the host.

use std::net::Ipv6Addr;
use std::os::fd::{AsFd as _, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, socket};

use super::receive::receive;
use crate::net::InterfacePattern;
use crate::netlink::constants::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
};
use crate::netlink::wire::{Attributes, Message, Messages, Writer, array, text};

/// How many times something is asked again because an answer was lost, or it changed meanwhile.
const ATTEMPTS: usize = 64;

/// How many datagrams are read at once, each into its part of the buffer. The kernel cuts lists to what is read of them.
const AT_ONCE: usize = 3;

/// The index of the loopback interface, which is the first one of each network namespace
/// (`LOOPBACK_IFINDEX` of include/net/flow.h).
const FIRST: u32 = 1;

/// Who added an address. Linux keeps it since 5.18. Numbers from 4 on are free for programs.
const IFA_PROTO: u16 = 11;

/// That it was us.
const OURS: u8 = b'k';

/// A socket to the kernel's rtnetlink, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Route {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) name: InterfacePattern,
    pub(crate) index: u32,
}

/// An IPv6 address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) addr: Ipv6Addr,
    /// Whether the kernel says that we added it.
    pub(crate) ours: bool,
}

/// What the kernel says of loopback and IPv6.
#[derive(Debug)]
pub(crate) struct Interfaces {
    /// The first interface that is flagged as loopback; none if there is none.
    pub(crate) loopback: Option<Link>,
    /// The IPv6 addresses of all interfaces; none if they could not be listed.
    pub(crate) addresses: Result<Vec<Address>, Errno>,
    /// Whether the loopback interface has a part for IPv6, which it has not where the kernel has none.
    pub(crate) has_ipv6: bool,
}

/// Why a request was not answered as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It was not carried out.
    Refused(Errno),
    /// The answer was lost: it may have been carried out.
    Lost,
}

/// The messages that answer a request, by kind.
type Answer = Result<Vec<(u16, Vec<u8>)>, Trouble>;

/// A request: its kind, flags, and what follows the header.
struct Request(u16, u16, Vec<u8>);

impl Route {
    pub(crate) fn open() -> Result<Self, Errno> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; AT_ONCE * 8 * 1024] })
    }

    /// The loopback interface and the IPv6 addresses.
    pub(crate) fn interfaces(&mut self) -> Result<Interfaces, Errno> {
        let refusal = |trouble| match trouble {
            Trouble::Refused(errno) => errno,
            Trouble::Lost => Errno::ENOBUFS,
        };
        for _ in 0..ATTEMPTS {
            let mut answers = self.ask(&[
                Request(libc::RTM_GETLINK, 0, link(FIRST)),
                Request(libc::RTM_GETADDR, NLM_F_DUMP, vec![libc::AF_INET6 as u8, 0, 0, 0, 0, 0, 0, 0]),
            ])?;
            let addresses = answers.pop().unwrap_or(Err(Trouble::Lost));
            let first = answers.pop().unwrap_or(Err(Trouble::Lost));
            if [&first, &addresses].into_iter().any(|answer| *answer == Err(Trouble::Lost)) {
                continue;
            }
            let found = match first {
                Err(Trouble::Refused(Errno::ENODEV)) => None,
                other => other.map_err(refusal)?.iter().find_map(|(kind, body)| loopback(*kind, body)),
            };
            let found = match found {
                Some(found) => Some(found),
                None => self.first_loopback().map_err(refusal)?,
            };
            let (loopback, has_ipv6) = found.map_or((None, false), |(link, has_ipv6)| (Some(link), has_ipv6));
            let addresses = addresses.map_err(refusal);
            let addresses = addresses.map(|list| list.iter().filter_map(|(kind, body)| address(*kind, body)).collect());
            return Ok(Interfaces { loopback, addresses, has_ipv6 });
        }
        Err(Errno::ENOBUFS)
    }

    /// Looks through all interfaces, where the first one is another.
    fn first_loopback(&mut self) -> Result<Option<(Link, bool)>, Trouble> {
        for _ in 0..ATTEMPTS {
            let answer = self.one(Request(libc::RTM_GETLINK, NLM_F_DUMP, link(0)));
            match answer {
                Err(Trouble::Lost) => {}
                other => {
                    let all = other?;
                    let found = all.iter().filter_map(|(kind, body)| loopback(*kind, body));
                    return Ok(found.min_by_key(|(link, _)| link.index));
                }
            }
        }
        Err(Trouble::Lost)
    }

    /// Adds an address to an interface and says that it was us. Also what is there then, and whether packets reach it.
    pub(crate) fn add(&mut self, index: u32, addr: Ipv6Addr) -> Result<Added, Errno> {
        let mut body = of_address(index, addr);
        let mut writer = Writer::default();
        writer.bytes(IFA_PROTO, &[OURS]);
        body.extend(writer.finish());
        let mut answers = self.ask(&[
            Request(libc::RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, body),
            Request(libc::RTM_GETADDR, 0, of_address(index, addr)),
            Request(libc::RTM_GETROUTE, 0, to(addr)),
        ])?;
        let (route, there, added) = (answers.pop(), answers.pop(), answers.pop());
        Ok(Added {
            done: added.unwrap_or(Err(Trouble::Lost)).map(drop),
            there: there.filter(|there| !matches!(there, Err(Trouble::Lost))).map(found).transpose()?,
            reached: route.is_some_and(|answer| is_local(&answer)),
        })
    }

    /// Removes an address from an interface.
    pub(crate) fn remove(&mut self, index: u32, addr: Ipv6Addr) -> Result<(), Trouble> {
        self.one(Request(libc::RTM_DELADDR, NLM_F_ACK, of_address(index, addr))).map(drop)
    }

    /// Whether packets to an address stay here; false if that cannot be told.
    pub(crate) fn reaches(&mut self, addr: Ipv6Addr) -> bool {
        is_local(&self.one(Request(libc::RTM_GETROUTE, 0, to(addr))))
    }

    fn one(&mut self, request: Request) -> Answer {
        let answers = self.ask(&[request]).map_err(Trouble::Refused)?;
        answers.into_iter().next().unwrap_or(Err(Trouble::Lost))
    }

    /// Sends requests in one piece and reads the answer to each. At most the last one may be for a dump.
    fn ask(&mut self, requests: &[Request]) -> Result<Vec<Answer>, Errno> {
        let mut writer = Writer::default();
        let first = self.sequence.wrapping_add(1);
        for Request(kind, flags, body) in requests {
            self.sequence = self.sequence.wrapping_add(1);
            writer.headed(*kind, NLM_F_REQUEST | flags, self.sequence, |w| w.raw(body));
        }
        sendto(self.fd.as_raw_fd(), &writer.finish(), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut pending: Vec<_> = requests.iter().map(|_| Pending::default()).collect();
        while pending.iter().any(|one| one.end.is_none()) {
            // The kernel answers such requests before sendto returns, and goes on with a dump when it is read.
            let Ok(datagrams) = receive(self.fd.as_fd(), &mut self.buffer, AT_ONCE, MsgFlags::MSG_DONTWAIT) else {
                break;
            };
            for message in datagrams.into_iter().flat_map(|place| Messages(&self.buffer[place])) {
                // What answers no request of these is left over from one that was given up.
                let at = message.sequence.wrapping_sub(first) as usize;
                if let (Some(one), Some(Request(_, flags, _))) = (pending.get_mut(at), requests.get(at)) {
                    one.read(&message, *flags & NLM_F_DUMP == NLM_F_DUMP);
                }
            }
        }
        Ok(pending.into_iter().map(|one| one.end.unwrap_or(Err(Trouble::Lost)).map(|()| one.messages)).collect())
    }
}

/// What has been read of an answer.
#[derive(Debug, Default)]
struct Pending {
    messages: Vec<(u16, Vec<u8>)>,
    end: Option<Result<(), Trouble>>,
    interrupted: bool,
}

impl Pending {
    fn read(&mut self, message: &Message<'_>, dump: bool) {
        self.interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
        // Both begin with a number: an error, or how the dump went.
        let code = array(message.body, 0).map_or(0, i32::from_ne_bytes);
        let end = match message.kind {
            NLMSG_ERROR | NLMSG_DONE if code < 0 => Err(Trouble::Refused(Errno::from_raw(code.saturating_neg()))),
            NLMSG_ERROR | NLMSG_DONE => Ok(()),
            kind => {
                self.messages.push((kind, message.body.to_vec()));
                if dump {
                    return;
                }
                Ok(())
            }
        };
        self.end = Some(if self.interrupted { Err(Trouble::Lost) } else { end });
    }
}

/// What became of an addition.
#[derive(Debug)]
pub(crate) struct Added {
    pub(crate) done: Result<(), Trouble>,
    /// What is there now; none if that is not known.
    pub(crate) there: Option<Option<Address>>,
    /// Whether packets to the address stay here already.
    pub(crate) reached: bool,
}

/// What the kernel answers where the address, the interface or IPv6 as a whole is not there.
pub(crate) fn is_absence(errno: Errno) -> bool {
    matches!(errno, Errno::EADDRNOTAVAIL | Errno::ENODEV | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
}

fn found(answer: Answer) -> Result<Option<Address>, Errno> {
    match answer {
        Ok(messages) => Ok(messages.iter().find_map(|(kind, body)| address(*kind, body))),
        Err(Trouble::Refused(errno)) if is_absence(errno) => Ok(None),
        Err(Trouble::Refused(errno)) => Err(errno),
        Err(Trouble::Lost) => Err(Errno::ENOBUFS),
    }
}

/// `struct ifinfomsg` of the interface with this index.
fn link(index: u32) -> Vec<u8> {
    let mut body = vec![0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body
}

/// `struct ifaddrmsg` and the attributes of an address that is an interface's own.
fn of_address(index: u32, addr: Ipv6Addr) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(&[libc::AF_INET6 as u8, 128, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_HOST]);
    writer.raw(&index.to_ne_bytes());
    writer.bytes(libc::IFA_LOCAL, &addr.octets());
    writer.bytes(libc::IFA_ADDRESS, &addr.octets());
    writer.finish()
}

/// `struct rtmsg` and the destination of the route that packets to an address take.
fn to(addr: Ipv6Addr) -> Vec<u8> {
    let mut writer = Writer::default();
    writer.raw(&[libc::AF_INET6 as u8, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    writer.bytes(libc::RTA_DST, &addr.octets());
    writer.finish()
}

/// Whether a route is one to this host itself. The one of the prefix, which is there before it, discards.
fn is_local(answer: &Answer) -> bool {
    let is_local = |(kind, body): &(u16, Vec<u8>)| {
        let scope = array::<8>(body, 0).map(|head| head[7]);
        *kind == libc::RTM_NEWROUTE && scope == Some(libc::RTN_LOCAL)
    };
    answer.as_ref().is_ok_and(|messages| messages.iter().any(is_local))
}

/// The interface that an `RTM_NEWLINK` tells of, if it is loopback, and whether it has a part for IPv6.
fn loopback(kind: u16, body: &[u8]) -> Option<(Link, bool)> {
    let [index, flags] = [4, 8].map(|at| array(body, at).map(u32::from_ne_bytes));
    let attributes = Attributes::of(body.get(16..)?);
    if kind != libc::RTM_NEWLINK || flags? & libc::IFF_LOOPBACK as u32 == 0 {
        return None;
    }
    let name = text(attributes.get(libc::IFLA_IFNAME)?)?.parse().ok()?;
    let has_ipv6 = attributes.nest(libc::IFLA_AF_SPEC).is_some_and(|parts| parts.get(libc::AF_INET6 as u16).is_some());
    Some((Link { name, index: index? }, has_ipv6))
}

/// The address that an `RTM_NEWADDR` tells of.
fn address(kind: u16, body: &[u8]) -> Option<Address> {
    let attributes = Attributes::of(body.get(8..)?);
    // Of an address with a peer, the other one is the peer's.
    let octets = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS))?;
    let addr = Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?);
    let ours = attributes.get(IFA_PROTO) == Some(&[OURS]);
    let is_of_ipv6 = kind == libc::RTM_NEWADDR && body.first() == Some(&(libc::AF_INET6 as u8));
    is_of_ipv6.then_some(Address { index: array(body, 4).map(u32::from_ne_bytes)?, addr, ours })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Family as _, V6};

    #[test]
    fn messages_are_laid_out_as_the_kernel_has_them() {
        let six = V6::passthrough().addr();
        let body = of_address(7, six);
        assert_eq!((body.len(), &body[..8]), (48, &[10, 128, 2, 254, 7, 0, 0, 0][..]));
        // The kernel gives an address back as it was told of it.
        assert_eq!(address(libc::RTM_NEWADDR, &body), Some(Address { index: 7, addr: six, ours: false }));
        let marked = [&body[..], &[5, 0, 11, 0, b'k', 0, 0, 0]].concat();
        assert_eq!(address(libc::RTM_NEWADDR, &marked).map(|address| address.ours), Some(true));
        assert_eq!(address(libc::RTM_NEWROUTE, &marked), None);
        assert_eq!((link(1).len(), to(six).len()), (16, 32));
    }

    #[test]
    fn only_the_local_route_reaches_an_address() {
        let route = |kind: u8| Ok(vec![(libc::RTM_NEWROUTE, vec![10, 128, 0, 0, 254, 2, 0, kind, 0, 0, 0, 0])]);
        assert!(is_local(&route(libc::RTN_LOCAL)) && !is_local(&route(libc::RTN_UNICAST)));
        assert!(!is_local(&Ok(Vec::new())) && !is_local(&Err(Trouble::Refused(Errno::ENETUNREACH))));
    }

    #[test]
    fn loopback_is_told_by_its_flag() {
        let mut writer = Writer::default();
        writer.raw(&link(3));
        writer.text(libc::IFLA_IFNAME, "lo1");
        let mut body = writer.finish();
        assert_eq!(loopback(libc::RTM_NEWLINK, &body), None);
        body[8] = libc::IFF_LOOPBACK as u8;
        let (link, has_ipv6) = loopback(libc::RTM_NEWLINK, &body).unwrap();
        assert_eq!((link.name.as_str(), link.index, has_ipv6), ("lo1", 3, false));
    }

    #[test]
    fn an_answer_ends_as_it_should() {
        let message = |kind, flags, body: &'static [u8]| Message { kind, flags, sequence: 1, body };
        let mut single = Pending::default();
        single.read(&message(libc::RTM_NEWLINK, 0, b"x"), false);
        assert_eq!((single.end, single.messages.len()), (Some(Ok(())), 1));
        let mut refused = Pending::default();
        refused.read(&message(NLMSG_ERROR, 0, &[156, 255, 255, 255]), false);
        assert!(matches!(refused.end, Some(Err(Trouble::Refused(_)))));
        let mut dump = Pending::default();
        dump.read(&message(libc::RTM_NEWADDR, NLM_F_DUMP_INTR, b"x"), true);
        assert_eq!(dump.end, None);
        dump.read(&message(NLMSG_DONE, 0, &[0; 4]), true);
        assert_eq!(dump.end, Some(Err(Trouble::Lost)));
    }
}
