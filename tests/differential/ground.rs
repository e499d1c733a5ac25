//! The host under test, in a network namespace of its own, and everything around it, which is played by this program: whatever
//! leaves by an interface is read here, and whatever arrives was written here. So every address can be elsewhere.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::libc::in6_pktinfo;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, recv,
    recvmsg, send, setsockopt, socket, sockopt,
};

use crate::edges::INTERFACES;
use crate::netns::{Netns, feed, sysctl};
use crate::tracking::Tracker;
use crate::wire::{self, Flow, Seen};

/// The hardware addresses of the host's interfaces, and of whatever is behind each.
const HARDWARE: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];

/// The host and its surroundings.
pub(crate) struct Ground {
    /// Where the host is.
    pub(crate) host: Netns,
    pub(crate) tracker: Tracker,
    wires: Vec<Wire>,
    ears: Vec<Ear>,
    _around: Netns,
}

/// The far end of an interface.
struct Wire {
    interface: &'static str,
    end: OwnedFd,
}

/// Hears every packet of a protocol that is delivered on the host, after any translation.
struct Ear {
    protocol: u8,
    is_v6: bool,
    socket: OwnedFd,
}

impl Ground {
    /// Makes the host.
    pub(crate) fn new() -> io::Result<Self> {
        let (host, around) = (Netns::new()?, Netns::new()?);
        host.enter(|| {
            for (name, value) in [
                ("net/ipv6/conf/all/disable_ipv6", "0"),
                ("net/ipv6/conf/default/accept_dad", "0"),
                ("net/ipv6/bindv6only", "1"),
                ("net/ipv4/ip_forward", "1"),
                ("net/ipv6/conf/all/forwarding", "1"),
                // Packets come in by any interface from any address.
                ("net/ipv4/conf/all/rp_filter", "0"),
                ("net/ipv4/conf/default/rp_filter", "0"),
                ("net/ipv4/conf/all/send_redirects", "0"),
                ("net/ipv4/conf/default/send_redirects", "0"),
            ] {
                sysctl(name, value)?;
            }
            feed(Command::new("ip").args(["-batch", "-"]), &setup(&around.path()))
        })?;
        let wires = around.enter(|| {
            let names: String = INTERFACES[1..].iter().map(|i| format!("link set {} up\n", i.name)).collect();
            feed(Command::new("ip").args(["-batch", "-"]), &names)?;
            INTERFACES[1..].iter().map(|interface| Wire::new(interface.name)).collect::<io::Result<Vec<_>>>()
        })?;
        let (ears, tracker) = host.enter(|| {
            let ears = [
                (wire::TCP, SockProtocol::Tcp, [false, true].as_slice()),
                (wire::UDP, SockProtocol::Udp, &[false, true]),
                (wire::ICMP, SockProtocol::Icmp, &[false]),
                (wire::ICMPV6, SockProtocol::IcmpV6, &[true]),
            ];
            let ears = ears
                .into_iter()
                .flat_map(|(number, protocol, families)| families.iter().map(move |is_v6| (number, protocol, *is_v6)))
                .map(|(number, protocol, is_v6)| Ear::new(number, protocol, is_v6))
                .collect::<io::Result<Vec<_>>>()?;
            Ok::<_, io::Error>((ears, Tracker::new()?))
        })?;
        let ground = Self { host, tracker, wires, ears, _around: around };
        ground.await_reachable()?;
        Ok(ground)
    }

    /// Has a packet arrive by an interface.
    pub(crate) fn inject(&self, interface: &str, packet: &[u8]) -> io::Result<()> {
        let wire = self.wires.iter().find(|wire| wire.interface == interface).expect("the interface has a far end");
        let kind = if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] };
        let frame = [&HARDWARE[0], &HARDWARE[1], kind.as_slice(), packet].concat();
        send(wire.end.as_raw_fd(), &frame, MsgFlags::empty())?;
        Ok(())
    }

    /// What has left by an interface since the last time.
    pub(crate) fn left(&self) -> io::Result<Vec<(&'static str, Seen)>> {
        let mut all = Vec::new();
        let mut buffer = [0; 2048];
        for wire in &self.wires {
            while let Some(length) = now(recv(wire.end.as_raw_fd(), &mut buffer, MsgFlags::empty()))? {
                all.extend(buffer[..length].get(14..).and_then(wire::read_ip).map(|seen| (wire.interface, seen)));
            }
        }
        Ok(all)
    }

    /// What was delivered on the host since the last time.
    pub(crate) fn delivered(&self) -> io::Result<Vec<Seen>> {
        let mut all = Vec::new();
        let mut buffer = [0; 2048];
        for ear in &self.ears {
            while let Some(heard) = hear(&ear.socket, &mut buffer)? {
                let bytes = &buffer[..heard.length];
                all.extend(match (ear.is_v6, heard.asked) {
                    (true, Some(asked)) => wire::read_content(heard.peer.ip(), asked, ear.protocol, bytes),
                    _ => wire::read_ip(bytes),
                });
            }
        }
        Ok(all)
    }

    /// Waits, with a bound, until packets come in by every interface, which takes the kernel a moment after it is made.
    fn await_reachable(&self) -> io::Result<()> {
        for interface in &INTERFACES[1..] {
            for (source, protocol) in [("203.0.113.1", wire::ICMP), ("2001:db8::1", wire::ICMPV6)] {
                let source: IpAddr = source.parse().expect("a literal address is valid");
                let mut own = interface.addrs.iter().map(|addr| addr.parse().expect("a literal address is valid"));
                let destination: IpAddr =
                    own.find(|own: &IpAddr| own.is_ipv4() == source.is_ipv4()).expect("one of each");
                let flow =
                    Flow { protocol, source: SocketAddr::new(source, 0), destination: SocketAddr::new(destination, 0) };
                let mut tries = 0;
                while !self.left()?.iter().any(|(_, seen)| seen.flow == flow.reversed()) {
                    tries += 1;
                    assert!(tries < 20_000, "{} does not answer {source}", interface.name);
                    self.inject(interface.name, &wire::echo(flow, b"there?"))?;
                    thread::sleep(Duration::from_millis(5));
                }
            }
        }
        thread::sleep(Duration::from_millis(20));
        self.forget()
    }

    /// Hears what is left to be heard, and removes every entry of connection tracking.
    pub(crate) fn forget(&self) -> io::Result<()> {
        self.tracker.flush()?;
        drop((self.left()?, self.delivered()?, self.tracker.news()?));
        Ok(())
    }
}

impl AsRef<Netns> for Ground {
    fn as_ref(&self) -> &Netns {
        &self.host
    }
}

fn setup(around: &str) -> String {
    let mut lines = vec!["link set lo up\naddr add ::6/128 dev lo".to_owned()];
    let [near, far] = HARDWARE.map(|bytes| bytes.map(|byte| format!("{byte:02x}")).join(":"));
    for (number, interface) in (1..).zip(&INTERFACES[1..]) {
        let name = interface.name;
        // Numbers of their own, since the kernel takes up to a second to see that a link is up whose ends have the same
        // number (linux net/core/link_watch.c).
        let (index, other) = (10 + number, 30 + number);
        lines.push(format!(
            "link add {name} index {index} address {near} type veth peer name {name} index {other} address {far} netns {around}"
        ));
        // Whatever leaves is on its way at once: nobody has to be asked for a hardware address.
        lines.push(format!("link set {name} arp off"));
        lines.push(format!("link set {name} addrgenmode none"));
        lines.push(format!("link set {name} up"));
        for addr in interface.addrs {
            let (bits, option) = if addr.contains(':') { (128, " nodad") } else { (32, "") };
            lines.push(format!("addr add {addr}/{bits} dev {name}{option}"));
        }
    }
    for interface in &INTERFACES[1..] {
        lines.extend(interface.networks.iter().map(|network| format!("route add {network} dev {}", interface.name)));
    }
    lines.join("\n") + "\n"
}

impl Wire {
    fn new(interface: &'static str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let end = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
        let mut links = getifaddrs()?.filter(|addr| addr.interface_name == interface);
        let link = links.find_map(|addr| addr.address?.as_link_addr().copied());
        bind(end.as_raw_fd(), &link.ok_or_else(|| io::Error::other(format!("no interface {interface}")))?)?;
        Ok(Self { interface, end })
    }
}

impl Ear {
    fn new(number: u8, protocol: SockProtocol, is_v6: bool) -> io::Result<Self> {
        let family = if is_v6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(family, SockType::Raw, flags, protocol)?;
        if is_v6 {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        }
        Ok(Self { protocol: number, is_v6, socket })
    }
}

/// What a socket has heard.
pub(crate) struct Heard {
    pub(crate) length: usize,
    pub(crate) peer: SocketAddr,
    /// The address that it was sent to, if the socket was told to say.
    pub(crate) asked: Option<IpAddr>,
}

/// What a socket that does not wait has heard, if anything.
pub(crate) fn hear(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<Heard>> {
    let mut iov = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let received = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::empty());
    let Some(message) = now(received)? else { return Ok(None) };
    let peer = message.address.as_ref().and_then(socket_addr).ok_or_else(|| io::Error::other("no sender"))?;
    let asked = message.cmsgs()?.find_map(|item| match item {
        ControlMessageOwned::Ipv4PacketInfo(info) => Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into()),
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
        _ => None,
    });
    Ok(Some(Heard { length: message.bytes, peer, asked }))
}

/// `None` if there is nothing now. That nobody listens at the other end was said by the kernel, and is no failure.
pub(crate) fn now<T>(result: nix::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(Errno::EAGAIN | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ECONNRESET | Errno::ENOPROTOOPT) => {
            Ok(None)
        }
        result => Ok(Some(result?)),
    }
}

pub(crate) fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = addr.as_sockaddr_in() {
        return Some(SocketAddr::new(four.ip().into(), four.port()));
    }
    addr.as_sockaddr_in6().map(|six| SocketAddr::new(six.ip().into(), six.port()))
}
