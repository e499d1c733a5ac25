//! A small world for real traffic: a workload with its sidecar, hosts outside, and a virtual machine
//! behind a bridge of the workload's host. Each is a network namespace of its own, so nothing of it can be seen or
//! reached from anywhere else.
//!
//! ```text
//!  outside ── eth0 ── eth0 ── workload, sidecar ── br0 ── eth0 ── machine
//!  10.77.0.2          10.77.0.1          172.20.0.1       172.20.0.2
//! ```

mod backend;
mod client;
mod netns;
mod place;
mod ports;
mod server;
mod session;

use std::io;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kumatp::net::FamilyName;

pub(crate) use netns::{feed, sysctl};

pub(crate) use backend::Backend;
#[cfg(feature = "ebpf")]
#[allow(unused_imports, clippy::allow_attributes, reason = "not every test is about that engine")]
pub(crate) use backend::{BPFFS, CGROUPS, cgroup, of_process, of_workload};
pub(crate) use client::{Client, Outcome, Protocol};
pub(crate) use netns::{Netns, User};
pub(crate) use place::Place;
#[allow(unused_imports, clippy::allow_attributes, reason = "not every test binds sockets of its own")]
pub(crate) use ports::when_free;
pub(crate) use server::{Answer, Server};
#[allow(unused_imports, clippy::allow_attributes, reason = "not every test lets connections live on")]
pub(crate) use session::Session;

/// The user of the workload's own servers and clients.
pub(crate) const APP: User = User { uid: 1000, gid: 1000 };

/// The user of the sidecar.
pub(crate) const SIDECAR: User = User { uid: 5678, gid: 5678 };

/// The name that the workload's own servers answer with.
pub(crate) const WORKLOAD: &str = "workload";

/// The name that servers outside answer with.
pub(crate) const OUTSIDE: &str = "outside";

/// TCP ports that the workload and the hosts outside serve.
const TCP_PORTS: [u16; 9] = [22, 53, 8080, 8081, 8082, 9000, 9001, 9002, 9003];

/// UDP ports that they serve; 45353 stands for the port of Docker's embedded DNS server.
const UDP_PORTS: [u16; 3] = [53, 9000, 45353];

/// The namespaces and the servers in them. All of it goes when this is dropped.
pub(crate) struct World {
    // Before the namespaces, so that they are stopped first.
    servers: Vec<Server>,
    sidecar: Vec<Server>,
    /// Where the workload and the sidecar are, and the rules.
    pub(crate) workload: Netns,
    /// Hosts in other places, all in one namespace.
    pub(crate) outside: Netns,
    /// A virtual machine behind the bridge `br0` of the workload's namespace.
    pub(crate) machine: Netns,
}

impl World {
    /// Makes the namespaces, connects them, and starts the servers.
    pub(crate) fn new() -> io::Result<Self> {
        let mut world = Self::without_servers()?;
        world.serve()?;
        world.await_reachable();
        Ok(world)
    }

    /// Makes the namespaces and connects them.
    pub(crate) fn without_servers() -> io::Result<Self> {
        let (workload, outside, machine) = (Netns::new()?, Netns::new()?, Netns::new()?);
        #[cfg(feature = "ebpf")]
        let workload = match backend::of_workload() {
            Some(cgroup) => workload.in_cgroup(cgroup.into()),
            None => workload,
        };
        for (netns, router) in [(&workload, true), (&outside, false), (&machine, false)] {
            netns.enter(|| {
                sysctl("net/ipv6/conf/all/disable_ipv6", "0")?;
                // No waiting until an address is known to be free.
                sysctl("net/ipv6/conf/default/accept_dad", "0")?;
                // So that an IPv4 and an IPv6 socket can have the same port.
                sysctl("net/ipv6/bindv6only", "1")?;
                if router {
                    sysctl("net/ipv4/ip_forward", "1")?;
                    sysctl("net/ipv6/conf/all/forwarding", "1")?;
                }
                Ok::<_, io::Error>(())
            })?;
        }
        // Numbers of their own, since the kernel takes up to a second to see that a link is up whose ends have the same
        // number (linux net/core/link_watch.c).
        workload.enter(|| {
            feed(
                Command::new("ip").args(["-batch", "-"]),
                &format!(
                    "link set lo up
                     addr add ::6/128 dev lo
                     link add eth0 index 10 type veth peer name eth0 index 20 netns {outside}
                     addr add 10.77.0.1/24 dev eth0
                     addr add 10.77.0.11/24 dev eth0
                     addr add fd77::1/64 dev eth0 nodad
                     addr add fd77::11/64 dev eth0 nodad
                     link set eth0 up
                     route add 10.78.0.0/16 via 10.77.0.2
                     route add fd78::/32 via fd77::2
                     link add br0 type bridge
                     link add port0 type veth peer name eth0 netns {machine}
                     link set port0 master br0
                     link set port0 up
                     addr add 172.20.0.1/16 dev br0
                     addr add 172.21.0.1/16 dev br0
                     addr add fd20::1/64 dev br0 nodad
                     addr add fd21::1/64 dev br0 nodad
                     link set br0 up
                    ",
                    outside = outside.path(),
                    machine = machine.path()
                ),
            )
        })?;
        outside.enter(|| {
            feed(
                Command::new("ip").args(["-batch", "-"]),
                "link set lo up
                 addr add 10.77.0.2/24 dev eth0
                 addr add 10.77.0.3/24 dev eth0
                 addr add 10.77.0.53/24 dev eth0
                 addr add 10.77.0.54/24 dev eth0
                 addr add 10.78.127.255/32 dev lo
                 addr add 10.78.128.0/32 dev lo
                 addr add fd77::2/64 dev eth0 nodad
                 addr add fd77::3/64 dev eth0 nodad
                 addr add fd77::53/64 dev eth0 nodad
                 addr add fd77::54/64 dev eth0 nodad
                 addr add fd78:0:0:7fff:ffff:ffff:ffff:ffff/128 dev lo
                 addr add fd78:0:0:8000::/128 dev lo
                 link set eth0 up
                 route add 172.20.0.0/16 via 10.77.0.1
                 route add fd20::/64 via fd77::1
                ",
            )
        })?;
        machine.enter(|| {
            feed(
                Command::new("ip").args(["-batch", "-"]),
                "link set lo up
                 addr add 172.20.0.2/16 dev eth0
                 addr add 172.21.0.2/16 dev eth0
                 addr add fd20::2/64 dev eth0 nodad
                 addr add fd21::2/64 dev eth0 nodad
                 link set eth0 up
                 route add default via 172.20.0.1 src 172.20.0.2
                 route add default via fd20::1 src fd20::2
                ",
            )
        })?;
        // The kernel makes these up as soon as it sees that a link is up, which is in the background.
        for interface in ["eth0", "port0", "br0"] {
            workload.enter(|| await_link_local(interface))?;
        }
        outside.enter(|| await_link_local("eth0"))?;
        Ok(Self { servers: Vec::new(), sidecar: Vec::new(), workload, outside, machine })
    }

    fn serve(&mut self) -> io::Result<()> {
        let Self { servers, workload, outside, .. } = self;
        for family in FamilyName::ALL {
            for (netns, user, name) in [(&*workload, APP, WORKLOAD), (&*outside, User::ROOT, OUTSIDE)] {
                for port in TCP_PORTS {
                    servers.push(Server::tcp(netns, user, name, family, port)?);
                }
                for port in UDP_PORTS {
                    servers.push(Server::udp(netns, user, name, family, port)?);
                }
            }
        }
        self.start_sidecar()
    }

    /// Starts the sidecar's servers, in the cgroup that this thread is in.
    pub(crate) fn start_sidecar(&mut self) -> io::Result<()> {
        let Self { sidecar, workload, .. } = self;
        for family in FamilyName::ALL {
            sidecar.push(Server::tcp(workload, SIDECAR, Server::INBOUND, family, 15006)?);
            sidecar.push(Server::tcp(workload, SIDECAR, Server::OUTBOUND, family, 15001)?);
            sidecar.push(Server::udp(workload, SIDECAR, Server::DNS, family, 15053)?);
        }
        Ok(())
    }

    /// Stops them.
    #[allow(dead_code, clippy::allow_attributes, reason = "few tests are without a sidecar")]
    pub(crate) fn stop_sidecar(&mut self) {
        self.sidecar.clear();
    }

    /// Waits, with a bound, until each end answers the other by both families. There are no rules yet.
    fn await_reachable(&self) {
        for family in FamilyName::ALL {
            for (netns, place) in [(&self.workload, Place::Outside), (&self.machine, Place::Outside)] {
                let client = Client::new(Protocol::Tcp, place.socket(family, 9000));
                let mut tries = 0;
                while !matches!(netns.enter(|| client.outcome()), Outcome::Reached(_)) {
                    tries += 1;
                    assert!(tries < 100, "{place:?} is not reachable by {family} in a world without rules");
                    sleep(Duration::from_millis(100));
                }
            }
        }
    }

    /// The rules that are in force in the workload's namespace, for people.
    pub(crate) fn rules(&self) -> String {
        let run = |program: &str, args: &[&str]| {
            let output = self.workload.enter(|| Command::new(program).args(args).output());
            output.map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        ["iptables-legacy-save", "ip6tables-legacy-save"].map(|program| run(program, &["-c"])).concat()
            + &run("nft", &["list", "ruleset"])
    }

    /// Whether there is a chain or a table of ours in the workload's namespace.
    pub(crate) fn has_ours(&self) -> bool {
        self.rules().to_lowercase().contains("kuma")
    }
}

impl AsRef<Netns> for World {
    /// Where the rules are.
    fn as_ref(&self) -> &Netns {
        &self.workload
    }
}

/// Waits until an interface of the network namespace of the calling thread has its link-local address.
fn await_link_local(interface: &str) -> io::Result<()> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let list = std::fs::read_to_string("/proc/thread-self/net/if_inet6")?;
        if list.lines().any(|line| line.starts_with("fe80") && line.ends_with(&format!(" {interface}"))) {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(io::Error::other(format!("{interface} does not come up")));
        }
        sleep(Duration::from_millis(1));
    }
}

/// Whether the world can be made; says why not, and fails if `KUMATP_REQUIRE_ALL=1`.
pub(crate) fn possible() -> bool {
    const PROGRAMS: [&str; 5] =
        ["ip", "nft", "iptables-nft-restore", "iptables-legacy-restore", "ip6tables-nft-restore"];
    let missing = PROGRAMS.iter().find(|program| Command::new(program).arg("-V").output().is_err());
    let why = match (nix::unistd::geteuid().is_root(), missing) {
        (false, _) => "servers and clients of several users need root".to_owned(),
        (true, Some(program)) => format!("{program} is not there"),
        (true, None) => return true,
    };
    super::skip::skipped(&why);
    false
}
