//! Entries of connection tracking: made, looked for and removed (linux/netfilter/nfnetlink_conntrack.h).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, socket,
};

use crate::segment::TCP;

const NEW: u16 = 0x100;
const GET: u16 = 0x101;
const DELETE: u16 = 0x102;

const NESTED: u16 = 0x8000;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOCOL_INFO: u16 = 4;
const TIMEOUT: u16 = 7;
const ZONE: u16 = 18;

/// Seen in both directions, not to be dropped early, and in force.
const SEEN_AND_ASSURED: u32 = 2 | 4 | 8;
const ESTABLISHED: u8 = 3;

/// A connection: its protocol, who opened it, and to where.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
}

/// The tracking of a network namespace.
pub(crate) struct Conntrack(OwnedFd);

impl Conntrack {
    /// Of the calling thread's.
    pub(crate) fn new() -> io::Result<Self> {
        let kind = SockType::Raw;
        let fd = socket(AddressFamily::Netlink, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(Self(fd))
    }

    /// Forgets all.
    pub(crate) fn flush(&self) -> io::Result<()> {
        self.ask(DELETE, 0, &[])
    }

    /// Forgets a connection of the default zone.
    pub(crate) fn forget(&self, flow: Flow) -> io::Result<()> {
        self.ask(DELETE, family(flow), &tuple(ORIGINAL, flow.protocol, flow.from, flow.to))
    }

    /// Whether a connection of the default zone is known.
    pub(crate) fn knows(&self, flow: Flow) -> io::Result<bool> {
        match self.ask(GET, family(flow), &tuple(ORIGINAL, flow.protocol, flow.from, flow.to)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Makes an entry as of a connection that goes on, and is not translated.
    pub(crate) fn insert(&self, flow: Flow, zone: u16) -> io::Result<()> {
        let mut attributes = tuple(ORIGINAL, flow.protocol, flow.from, flow.to);
        attributes.extend(tuple(REPLY, flow.protocol, flow.to, flow.from));
        attributes.extend(attribute(STATUS, &SEEN_AND_ASSURED.to_be_bytes()));
        attributes.extend(attribute(TIMEOUT, &600_u32.to_be_bytes()));
        if zone != 0 {
            attributes.extend(attribute(ZONE, &zone.to_be_bytes()));
        }
        if flow.protocol == TCP {
            let state = attribute(1 | NESTED, &attribute(1, &[ESTABLISHED]));
            attributes.extend(attribute(PROTOCOL_INFO | NESTED, &state));
        }
        self.ask(NEW, family(flow), &attributes)
    }

    /// An answer with an entry is as good as an acknowledgement.
    fn ask(&self, what: u16, family: u8, attributes: &[u8]) -> io::Result<()> {
        const REQUEST: u16 = 1;
        const ACKNOWLEDGE: u16 = 4;
        const CREATE: u16 = 0x400;
        const ERROR: u16 = 2;
        let flags = match what {
            GET => REQUEST,
            NEW => REQUEST | ACKNOWLEDGE | CREATE,
            _ => REQUEST | ACKNOWLEDGE,
        };
        let mut message = (20 + attributes.len() as u32).to_ne_bytes().to_vec();
        message.extend(what.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend([0; 8]); // sequence, port
        message.extend([family, 0, 0, 0]);
        message.extend(attributes);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answer = [0; 8192];
        let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        let code = answer[..length].get(16..20).and_then(|code| code.try_into().ok()).map(i32::from_ne_bytes);
        match (u16::from_ne_bytes([answer[4], answer[5]]), code) {
            (ERROR, Some(0)) | (NEW, _) => Ok(()),
            (ERROR, Some(code)) => Err(io::Error::from_raw_os_error(-code)),
            _ => Err(io::Error::other("an answer that makes no sense")),
        }
    }
}

fn family(flow: Flow) -> u8 {
    (if flow.from.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 }) as u8
}

fn tuple(kind: u16, protocol: u8, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let addr = |four, six, addr| match addr {
        IpAddr::V4(addr) => attribute(four, &addr.octets()),
        IpAddr::V6(addr) => attribute(six, &addr.octets()),
    };
    let ip = [addr(1, 3, from.ip()), addr(2, 4, to.ip())].concat();
    let transport =
        [attribute(1, &[protocol]), attribute(2, &from.port().to_be_bytes()), attribute(3, &to.port().to_be_bytes())];
    attribute(kind | NESTED, &[attribute(1 | NESTED, &ip), attribute(2 | NESTED, &transport.concat())].concat())
}

fn attribute(kind: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = (4 + content.len() as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
