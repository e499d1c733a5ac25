//! What connection tracking knows, from the kernel itself (linux/netfilter/nfnetlink_conntrack.h).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::wire::Flow;

const NEW_ENTRY: u16 = 0x100;
const DELETE: u16 = 0x102;
const ERROR: u16 = 2;

/// The group of new entries (`NFNLGRP_CONNTRACK_NEW`), as a bit.
const GROUP: u32 = 1;

/// A new entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The packet as it was sent.
    pub(crate) original: Flow,
    /// The answer that is expected: from where the packet really goes.
    pub(crate) reply: Flow,
    /// The zone.
    pub(crate) zone: u16,
}

/// Hears of every new entry of a network namespace, and can remove them all.
pub(crate) struct Tracker {
    events: OwnedFd,
    commands: OwnedFd,
}

impl Tracker {
    /// For the calling thread's namespace.
    pub(crate) fn new() -> io::Result<Self> {
        let netlink = |flags, groups| {
            let flags = flags | SockFlag::SOCK_CLOEXEC;
            let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
            bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
            Ok::<_, io::Error>(fd)
        };
        Ok(Self { events: netlink(SockFlag::SOCK_NONBLOCK, GROUP)?, commands: netlink(SockFlag::empty(), 0)? })
    }

    /// Removes every entry of both families and all zones.
    pub(crate) fn flush(&self) -> io::Result<()> {
        const REQUEST_AND_ACK: u16 = 1 | 4;
        let mut message = 20u32.to_ne_bytes().to_vec();
        message.extend(DELETE.to_ne_bytes());
        message.extend(REQUEST_AND_ACK.to_ne_bytes());
        message.extend([0; 12]); // sequence, port; family, version and resource
        send(self.commands.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 256];
        let length = recv(self.commands.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let code = answer[..length].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        match (u16::from_ne_bytes([answer[4], answer[5]]), code) {
            (ERROR, Some(0)) => Ok(()),
            (ERROR, Some(code)) => Err(io::Error::from_raw_os_error(-code)),
            _ => Err(io::Error::other("an answer that makes no sense")),
        }
    }

    /// The entries since the last time.
    pub(crate) fn news(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            let length = match recv(self.events.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => return Ok(entries),
                result => result?,
            };
            let mut rest = &buffer[..length];
            while let Some(header) = rest.get(..16) {
                let size = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
                let kind = u16::from_ne_bytes([header[4], header[5]]);
                let Some(body) = rest.get(20..size) else { break };
                if kind == NEW_ENTRY {
                    entries.extend(entry(body));
                }
                rest = rest.get(size.next_multiple_of(4)..).unwrap_or(&[]);
            }
        }
    }
}

fn entry(body: &[u8]) -> Option<Entry> {
    const ORIGINAL: u16 = 1;
    const REPLY: u16 = 2;
    const ZONE: u16 = 18;
    let zone = attribute(body, ZONE).and_then(|zone| Some(u16::from_be_bytes(zone.try_into().ok()?)));
    Some(Entry {
        original: flow(attribute(body, ORIGINAL)?)?,
        reply: flow(attribute(body, REPLY)?)?,
        zone: zone.unwrap_or(0),
    })
}

fn flow(tuple: &[u8]) -> Option<Flow> {
    let (ip, transport) = (attribute(tuple, 1)?, attribute(tuple, 2)?);
    let addr = |four, six| match (attribute(ip, four), attribute(ip, six)) {
        (Some(addr), _) => Some(IpAddr::from(<[u8; 4]>::try_from(addr).ok()?)),
        (_, addr) => Some(IpAddr::from(<[u8; 16]>::try_from(addr?).ok()?)),
    };
    // Protocols without ports have none of these.
    let port =
        |kind| attribute(transport, kind).map_or(Some(0), |port| Some(u16::from_be_bytes(port.try_into().ok()?)));
    Some(Flow {
        protocol: *attribute(transport, 1)?.first()?,
        source: SocketAddr::new(addr(1, 3)?, port(2)?),
        destination: SocketAddr::new(addr(2, 4)?, port(3)?),
    })
}

/// The content of the first attribute of a kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    const NESTED: u16 = 0x8000;
    while let Some(header) = attributes.get(..4) {
        let size = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !NESTED;
        let content = attributes.get(4..size)?;
        if kind == wanted {
            return Some(content);
        }
        attributes = attributes.get(size.next_multiple_of(4)..)?;
    }
    None
}
