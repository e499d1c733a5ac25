//! The world, with listeners of this program and an end of the link by which the workload's host is reached: what a neighbour can
//! send is sent here, and all that leaves the host is seen here.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Facts, policy};
use nix::sys::socket::{getsockopt, sockopt};

use crate::common::world::{
    APP, Backend, Netns, Place, SIDECAR, Server, User, WORKLOAD, World, feed, sysctl, when_free,
};
use crate::link::{Link, hardware_of};

/// A neighbour that is no host: nobody answers what it did not ask for.
pub(crate) const PEER: [&str; 2] = ["10.77.0.66", "fd77::66"];

/// The port of the application, another of its, and one that is excluded.
pub(crate) const APP_PORT: u16 = 8080;
pub(crate) const OTHER_APP_PORT: u16 = 2222;
pub(crate) const EXCLUDED_APP_PORT: u16 = 2200;

/// A port outside, and one that is excluded.
pub(crate) const OUTSIDE_PORT: u16 = 9000;
pub(crate) const EXCLUDED_OUTSIDE_PORT: u16 = 3300;

pub(crate) const SIDECAR_INBOUND: u16 = 15006;
const SIDECAR_OUTBOUND: u16 = 15001;

/// The host's address.
pub(crate) fn own(family: FamilyName) -> IpAddr {
    Place::Own.addr(family)
}

pub(crate) struct Lab {
    pub(crate) listeners: Vec<Listener>,
    pub(crate) link: Link,
    pub(crate) world: World,
}

/// Whose rules are in force.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) backend: Backend,
    /// Whether iptables' rules say what they can of native ones.
    pub(crate) hardened: bool,
}

impl Rules {
    pub(crate) fn of(backend: Backend) -> Self {
        Self { backend, hardened: false }
    }

    pub(crate) fn hardened(backend: Backend) -> Self {
        Self { backend, hardened: true }
    }

    /// Whether what should be redirected and was not goes nowhere. With kumactl's rules it passes.
    pub(crate) fn close(self) -> bool {
        self.hardened || self.backend.is_native()
    }

    /// Whether connections are served that kumactl's rules lose.
    pub(crate) fn serve_all(self) -> bool {
        self.backend.is_native()
    }
}

/// A connection as its listener knows it.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) who: &'static str,
    pub(crate) peer: SocketAddr,
    /// Where it was going before it was translated, if it was.
    pub(crate) original: Option<SocketAddr>,
    pub(crate) stream: TcpStream,
}

pub(crate) struct Listener {
    who: &'static str,
    socket: TcpListener,
}

impl Lab {
    pub(crate) fn new() -> io::Result<Self> {
        let world = World::without_servers()?;
        let mut link = world.outside.enter(|| Link::new("eth0"))?;
        let hardware = link.far.map(|byte| format!("{byte:02x}")).join(":");
        link.near = world.workload.enter(|| {
            // Data may come with what opens a connection, without a cookie, to every listener.
            sysctl("net/ipv4/tcp_fastopen", &0x603.to_string())?;
            let mut lines = String::new();
            for neighbour in PEER.iter().chain(&["fe80::1234"]) {
                lines.push_str(&format!("neighbour add {neighbour} lladdr {hardware} dev eth0\n"));
            }
            lines.push_str(&PEER.map(|peer| format!("route add default via {peer}\n")).concat());
            feed(Command::new("ip").args(["-batch", "-"]), &lines)?;
            hardware_of("eth0").map(|link| link.0)
        })?;
        let mut listeners = Vec::new();
        for family in FamilyName::ALL {
            let (workload, outside) = (&world.workload, &world.outside);
            for (netns, user, who, ports) in [
                (workload, APP, WORKLOAD, [APP_PORT, OTHER_APP_PORT, EXCLUDED_APP_PORT].as_slice()),
                (workload, SIDECAR, Server::INBOUND, &[SIDECAR_INBOUND]),
                (workload, SIDECAR, Server::OUTBOUND, &[SIDECAR_OUTBOUND]),
                (outside, User::ROOT, crate::common::world::OUTSIDE, &[OUTSIDE_PORT, EXCLUDED_OUTSIDE_PORT]),
            ] {
                for port in ports {
                    listeners.push(netns.enter_as(user, || Listener::new(who, family, *port))?);
                }
            }
        }
        Ok(Self { listeners, link, world })
    }

    /// Puts the rules of a configuration into force.
    pub(crate) fn install(&self, rules: Rules, config: &Config) {
        let mut config = config.clone();
        config.harden = rules.hardened;
        let facts = Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid"));
        let plan = policy::plan(&config, &facts).expect("the configuration fits the facts");
        rules.backend.install(&self.world, &plan).expect("the rules load");
    }

    /// Loads somebody else's rules, or removes them.
    pub(crate) fn foreign(&self, rules: &str) {
        let loaded = self.world.workload.enter(|| feed(Command::new("nft").args(["-f", "-"]), rules));
        loaded.expect("the rules of others load");
    }

    /// The connections since the last time. Whoever makes one is greeted by the listener's name.
    pub(crate) fn accepted(&self) -> Vec<Accepted> {
        let mut all = Vec::new();
        for listener in &self.listeners {
            // An error is that there is none, or of one that is gone already.
            while let Ok((stream, peer)) = listener.socket.accept() {
                let _ = (&stream).write_all(listener.who.as_bytes());
                let original = original_destination(&stream);
                all.push(Accepted { who: listener.who, peer, original, stream });
            }
        }
        all
    }
}

impl AsRef<Netns> for Lab {
    fn as_ref(&self) -> &Netns {
        &self.world.workload
    }
}

impl Listener {
    fn new(who: &'static str, family: FamilyName, port: u16) -> io::Result<Self> {
        let any = match family {
            FamilyName::V4 => IpAddr::from([0; 4]),
            FamilyName::V6 => IpAddr::from([0; 16]),
        };
        let socket = when_free(|| TcpListener::bind((any, port)))?;
        socket.set_nonblocking(true)?;
        Ok(Self { who, socket })
    }
}

/// What a socket that does not wait has to say, if anything.
pub(crate) fn heard(mut stream: &TcpStream) -> Vec<u8> {
    let mut buffer = [0; 256];
    let _ = stream.set_nonblocking(true);
    let length = stream.read(&mut buffer).unwrap_or(0);
    buffer[..length].to_vec()
}

/// Where a connection was going before it was translated, as a sidecar asks for it.
fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    let local = stream.local_addr().ok()?;
    let original = if local.is_ipv4() {
        let addr = getsockopt(stream, sockopt::OriginalDst).ok()?;
        let ip = u32::from_be(addr.sin_addr.s_addr).to_be_bytes();
        SocketAddr::new(ip.into(), u16::from_be(addr.sin_port))
    } else {
        let addr = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
        SocketAddr::new(addr.sin6_addr.s6_addr.into(), u16::from_be(addr.sin6_port))
    };
    (original != local).then_some(original)
}
