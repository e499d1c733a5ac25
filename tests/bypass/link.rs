//! The link to the workload's host, as its neighbours have it: anything can be sent, and all that leaves is seen.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket, sockopt,
};

use crate::lab::{Lab, Rules};
use crate::segment::{self, Seen};

/// What only the sidecar may hear of the workload.
pub(crate) const SECRET: &str = "SECRET";

/// The far end of the link to the workload's host.
pub(crate) struct Link {
    socket: OwnedFd,
    /// The hardware addresses of the host's end and of the far one.
    pub(crate) near: [u8; 6],
    pub(crate) far: [u8; 6],
}

impl Link {
    /// On an interface of the calling thread's namespace.
    pub(crate) fn new(interface: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        let (far, link) = hardware_of(interface)?;
        bind(socket.as_raw_fd(), &link)?;
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20))?;
        Ok(Self { socket, near: [0; 6], far })
    }

    /// Has a packet arrive at the host.
    pub(crate) fn send(&self, hardware: Option<[u8; 6]>, packet: &[u8]) -> io::Result<()> {
        let kind = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        let frame = [&hardware.unwrap_or(self.near), &self.far, kind.as_slice(), packet].concat();
        send(self.socket.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }

    /// What has left the host since the last time.
    pub(crate) fn left(&self) -> io::Result<Vec<Seen>> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 65536];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EAGAIN) => return Ok(all),
                Ok(length) if buffer[..length].get(6..12) == Some(&self.near) => {
                    all.extend(segment::read(&buffer[14..length]));
                }
                result => drop(result?),
            }
        }
    }
}

/// The hardware address of an interface of the calling thread's namespace.
pub(crate) fn hardware_of(interface: &str) -> io::Result<([u8; 6], LinkAddr)> {
    let mut links = getifaddrs()?.filter(|addr| addr.interface_name == interface);
    let link = links.find_map(|addr| addr.address?.as_link_addr().copied());
    let addr = |link: LinkAddr| Some((link.addr()?, link));
    link.and_then(addr).ok_or_else(|| io::Error::other(format!("no interface {interface}")))
}

/// Nothing has left the host that should not. With the rules of iptables, what leaves for a loopback address is no news.
pub(crate) fn check_link(lab: &Lab, rules: Rules) {
    let seen = seen_on_link(lab);
    let is_wrong = |seen: &String| rules.close() || seen.contains(SECRET);
    assert!(!seen.iter().any(is_wrong), "{rules:?}: {seen:?}");
}

/// What has left the host since the last time and should not: the workload's words, or anything for a loopback address.
pub(crate) fn seen_on_link(lab: &Lab) -> Vec<String> {
    let seen = lab.link.left().expect("the link can be read");
    let secret = |payload: &[u8]| payload.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    seen.iter()
        .filter(|seen| secret(&seen.payload) || seen.to.ip().is_loopback())
        .map(|seen| format!("{} to {}: {}", seen.from, seen.to, String::from_utf8_lossy(&seen.payload)))
        .collect()
}
