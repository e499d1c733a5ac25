//! Two network namespaces, a link between them, and who is where.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns, unshare};

use super::{Result, netlink};

const INSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const INSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const OUTSIDE: [Ipv4Addr; 3] = [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::new(192, 0, 2, 9), Ipv4Addr::new(192, 0, 2, 53)];
const OUTSIDE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The workload.
pub(crate) const APP: SocketAddr = v4(INSIDE, 8080);
pub(crate) const APP_SSH: SocketAddr = v4(INSIDE, 22);
pub(crate) const APP_V6: SocketAddr = v6(INSIDE_V6, 8080);

/// What it talks to.
pub(crate) const WEB: SocketAddr = v4(OUTSIDE[0], 80);
pub(crate) const WEB_V6: SocketAddr = v6(OUTSIDE_V6, 80);
pub(crate) const DATABASE: SocketAddr = v4(OUTSIDE[0], 5432);
pub(crate) const LEGACY: SocketAddr = v4(OUTSIDE[1], 80);
pub(crate) const DNS: SocketAddr = v4(OUTSIDE[2], 53);

/// The sidecar's listeners: Kuma's defaults.
pub(crate) const INBOUND_PORT: u16 = 15006;
pub(crate) const OUTBOUND_PORT: u16 = 15001;
pub(crate) const DNS_PORT: u16 = 15053;

const fn v4(address: Ipv4Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(address), port)
}

const fn v6(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V6(address), port)
}

/// Turns the network namespace of this process into the workload's, makes another for all that is
/// outside, and links the two. Returns the other.
pub(crate) fn build() -> io::Result<Namespace> {
    let outside = Namespace::new()?;
    netlink::add_link("eth0", &outside.0)?;
    configure(&[INSIDE], INSIDE_V6)?;
    outside.run(|| configure(&OUTSIDE, OUTSIDE_V6))?;

    // Broadcast needs no knowledge of the neighbour, which takes a second to get if a packet is lost.
    let broadcast = SocketAddr::from(([192, 0, 2, 255], 9));
    let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, broadcast.port()));
    let (here, there) = (bind()?, outside.run(bind)?);
    wait_for_passage(&here, &there, broadcast)?;
    wait_for_passage(&there, &here, broadcast)?;
    Ok(outside)
}

fn configure(addresses: &[Ipv4Addr], v6: Ipv6Addr) -> io::Result<()> {
    for interface in ["lo", "eth0"] {
        netlink::set_up(interface)?;
    }
    for address in addresses {
        netlink::add_address("eth0", (*address).into(), 24)?;
    }
    // A kernel may do without IPv6; what needs it is then skipped.
    if netlink::add_address("eth0", v6.into(), 64).is_ok() {
        let socket = UdpSocket::bind((v6, 0))?;
        wait_for_passage(&socket, &socket, socket.local_addr()?)?;
    }
    Ok(())
}

/// Waits until packets that one socket sends to an address reach another. The kernel switches links on
/// and makes the routes to new IPv6 addresses in the background.
fn wait_for_passage(from: &UdpSocket, to: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    from.set_broadcast(true)?;
    to.set_read_timeout(Some(Duration::from_millis(20)))?;
    match (0..100).any(|_| from.send_to(&[0], address).is_ok() && to.recv(&mut [0]).is_ok()) {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::TimedOut, format!("nothing sent to {address} arrives"))),
    }
}

/// The identity of the network namespace that this process is in.
pub(crate) fn namespace_id() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/net")?.to_string_lossy().into_owned())
}

/// A network namespace.
pub(crate) struct Namespace(File);

impl Namespace {
    /// Makes a new one.
    fn new() -> io::Result<Self> {
        // A thread can be in another one than the rest of its process.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        Ok(Self(made.join().unwrap_or_else(|_| Err(panicked()))?))
    }

    /// The one that a path leads to.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        Ok(Self(File::open(path)?))
    }

    /// A path by which other processes of this user can open it.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Moves the calling thread there.
    pub(crate) fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.0, CloneFlags::CLONE_NEWNET)?)
    }

    /// Does something there. Sockets that it opens stay there.
    pub(crate) fn run<T: Send>(&self, action: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                self.enter()?;
                action()
            });
            there.join().unwrap_or_else(|_| Err(panicked()))
        })
    }
}

fn panicked() -> io::Error {
    io::Error::other("the thread in the other namespace has panicked")
}

/// All that an installation can leave in a namespace.
#[derive(Debug, PartialEq)]
pub(crate) struct Remains {
    /// The tables of nf_tables.
    pub(crate) tables: Vec<String>,
    /// The addresses of the loopback interface.
    pub(crate) addresses: Vec<String>,
}

impl Remains {
    /// What there is now in the namespace of the calling thread.
    pub(crate) fn look() -> Result<Self> {
        let loopback = getifaddrs()?.filter(|interface| interface.interface_name == "lo");
        let mut addresses: Vec<_> = loopback
            .filter_map(|interface| {
                let address = interface.address?;
                let v4 = address.as_sockaddr_in().map(|v4| v4.ip().to_string());
                v4.or_else(|| Some(address.as_sockaddr_in6()?.ip().to_string()))
            })
            .collect();
        addresses.sort();
        Ok(Self { tables: netlink::tables()?, addresses })
    }
}
