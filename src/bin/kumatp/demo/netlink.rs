//! The few netlink requests that building and inspecting the stage takes: links, addresses, and
//! which tables nf_tables has.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const CHANGE: i32 = libc::NLM_F_REQUEST | libc::NLM_F_ACK;

/// Makes a pair of connected interfaces of one name: one here, the other in that namespace.
pub(crate) fn add_link(name: &str, other_end: &File) -> io::Result<()> {
    /// `VETH_INFO_PEER` (linux/veth.h).
    const PEER: u16 = 1;
    let name = attribute(libc::IFLA_IFNAME, &[name.as_bytes(), &[0]].concat());
    let namespace = attribute(libc::IFLA_NET_NS_FD, &other_end.as_raw_fd().to_ne_bytes());
    let peer = attribute(PEER, &[interface(0, 0), name.clone(), namespace].concat());
    let kind = [attribute(libc::IFLA_INFO_KIND, b"veth"), attribute(libc::IFLA_INFO_DATA, &peer)].concat();
    let body = [interface(0, 0), name, attribute(libc::IFLA_LINKINFO, &kind)].concat();
    request(SockProtocol::NetlinkRoute, libc::RTM_NEWLINK, CHANGE | libc::NLM_F_CREATE | libc::NLM_F_EXCL, &body)?;
    Ok(())
}

/// Switches an interface on.
pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let body = interface(if_nametoindex(name)?, libc::IFF_UP);
    request(SockProtocol::NetlinkRoute, libc::RTM_NEWLINK, CHANGE, &body)?;
    Ok(())
}

/// Gives an interface an address, without asking the neighbours whether it is free.
pub(crate) fn add_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let (family, octets) = match address {
        IpAddr::V4(v4) => (libc::AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (libc::AF_INET6, v6.octets().to_vec()),
    };
    // struct ifaddrmsg (linux/if_addr.h)
    let mut body = vec![family as u8, prefix, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_UNIVERSE];
    body.extend(if_nametoindex(name)?.to_ne_bytes());
    body.extend(attribute(libc::IFA_LOCAL, &octets));
    body.extend(attribute(libc::IFA_ADDRESS, &octets));
    request(SockProtocol::NetlinkRoute, libc::RTM_NEWADDR, CHANGE | libc::NLM_F_CREATE, &body)?;
    Ok(())
}

/// The names of all tables that nf_tables has in this namespace, those of iptables included.
pub(crate) fn tables() -> io::Result<Vec<String>> {
    /// `NFTA_TABLE_NAME` (linux/netfilter/nf_tables.h).
    const NAME: u16 = 1;
    let kind = (libc::NFNL_SUBSYS_NFTABLES << 8 | libc::NFT_MSG_GETTABLE) as u16;
    // struct nfgenmsg (linux/netfilter/nfnetlink.h)
    let any_family = [libc::AF_UNSPEC as u8, 0, 0, 0];
    let answers = request(SockProtocol::NetlinkNetFilter, kind, libc::NLM_F_REQUEST | libc::NLM_F_DUMP, &any_family)?;
    let names = answers.iter().filter_map(|answer| {
        let name = find_attribute(answer.get(4..)?, NAME)?;
        Some(String::from_utf8_lossy(name.strip_suffix(&[0])?).into_owned())
    });
    Ok(names.collect())
}

/// `struct ifinfomsg` (linux/rtnetlink.h): an interface by its index, and flags to set.
fn interface(index: u32, flags: i32) -> Vec<u8> {
    let mut body = vec![libc::AF_UNSPEC as u8, 0, 0, 0];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(flags.to_ne_bytes()); // which of the flags to change
    body
}

/// One attribute: its length, its kind, its value, and what pads it to 4 bytes.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = 4 + value.len();
    let mut bytes = (length as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(length.next_multiple_of(4), 0);
    bytes
}

fn find_attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(length), Some(kind)) = (number(attributes, 0), number(attributes, 2)) {
        if kind == wanted {
            return attributes.get(4..length.into());
        }
        attributes = attributes.get(usize::from(length.max(4)).next_multiple_of(4)..)?;
    }
    None
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Sends a request to the kernel, and returns the bodies of the messages that it answers with.
fn request(protocol: SockProtocol, kind: u16, flags: i32, body: &[u8]) -> io::Result<Vec<Vec<u8>>> {
    const HEADER: usize = 16; // struct nlmsghdr (linux/netlink.h)
    let mut message = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(body);

    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(1, 0))?;
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut bodies = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let received = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        let mut rest = &buffer[..received];
        while let Some((length, kind, body)) = split_message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(bodies),
                libc::NLMSG_ERROR => {
                    let errno = body.get(..4).and_then(|bytes| bytes.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    return if errno == 0 { Ok(bodies) } else { Err(io::Error::from_raw_os_error(-errno)) };
                }
                _ => bodies.push(body.to_vec()),
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// The first message: its length, kind and body.
fn split_message(bytes: &[u8]) -> Option<(usize, u16, &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    Some((length, number(bytes, 4)?, bytes.get(16..length)?))
}
