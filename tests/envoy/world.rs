//! A workload's network namespace and one outside of it, joined by a cable, with HTTP servers in both.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kumatp::net::FamilyName;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

use crate::http::{self, Answer};

/// The user of the workload's programs.
pub(crate) const APP: u32 = 1000;

/// The user of the sidecar.
pub(crate) const SIDECAR: u32 = 5678;

/// The ports that both sides serve.
pub(crate) const PORT: u16 = 8080;
pub(crate) const PORT_EXCLUDED_INBOUND: u16 = 9001;
pub(crate) const PORT_EXCLUDED_OUTBOUND: u16 = 9002;

/// A server's address, as seen from the workload or from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    Loopback,
    Outside,
    /// Another address outside, which the configuration excludes.
    OutsideExcluded,
    Workload,
}

impl Server {
    pub(crate) fn ip(self, family: FamilyName) -> IpAddr {
        let last = match self {
            Self::Loopback => {
                return match family {
                    FamilyName::V4 => Ipv4Addr::LOCALHOST.into(),
                    FamilyName::V6 => Ipv6Addr::LOCALHOST.into(),
                };
            }
            Self::Workload => 1,
            Self::Outside => 2,
            Self::OutsideExcluded => 3,
        };
        match family {
            FamilyName::V4 => Ipv4Addr::new(10, 77, 0, last).into(),
            FamilyName::V6 => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()).into(),
        }
    }
}

/// The two places. They go with the last process or thread in them.
pub(crate) struct World {
    pub(crate) workload: Place,
    pub(crate) outside: Place,
}

impl World {
    pub(crate) fn new() -> io::Result<Self> {
        let (workload, outside) = (Place::new()?, Place::new()?);
        let addresses = |servers: &[Server]| {
            let mut text = String::new();
            for server in servers {
                text += &format!("addr add {}/24 dev eth0\n", server.ip(FamilyName::V4));
                text += &format!("addr add {}/64 dev eth0 nodad\n", server.ip(FamilyName::V6));
            }
            text + "link set lo up\nlink set eth0 up\n"
        };
        // Numbers that differ: where both ends have the same, the kernel may take a second to see that the link is up
        // (linux net/core/link_watch.c).
        let cable = format!("link add eth0 index 10 type veth peer name eth0 index 20 netns {}\n", outside.path());
        workload.enter(|| ip(&(cable + &addresses(&[Server::Workload]))))?;
        outside.enter(|| ip(&addresses(&[Server::Outside, Server::OutsideExcluded])))?;
        for place in [&workload, &outside] {
            for port in [PORT, PORT_EXCLUDED_INBOUND, PORT_EXCLUDED_OUTBOUND] {
                place.enter_as(APP, || http::serve(port))?;
            }
        }
        let world = Self { workload, outside };
        for family in FamilyName::ALL {
            within(Duration::from_secs(60), || {
                world.outside.get(APP, SocketAddr::new(Server::Workload.ip(family), PORT), "/")
            })?;
        }
        Ok(world)
    }
}

/// A network namespace, with an empty `/run` of its own: the iptables programs have their lock there, and we our records.
pub(crate) struct Place {
    network: File,
    mounts: File,
}

impl Place {
    fn new() -> io::Result<Self> {
        // Namespaces belong to threads, so the caller's stay as they are.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
            run(Command::new("mount").args(["--make-rprivate", "/"]), "")?;
            run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]), "")?;
            let open = |name: &str| File::open(format!("/proc/thread-self/ns/{name}"));
            Ok(Self { network: open("net")?, mounts: open("mnt")? })
        });
        made.join().expect("the thread does not panic")
    }

    /// A path by which other processes find the network namespace.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.network.as_raw_fd())
    }

    /// Runs `work` here, on a thread of its own. What it starts is here too.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                // Threads share their root and working directory, which belong to a mount namespace.
                unshare(CloneFlags::CLONE_FS).expect("a thread may have a directory of its own");
                for namespace in [&self.mounts, &self.network] {
                    setns(namespace, CloneFlags::empty()).expect("root may enter its own namespaces");
                }
                work()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs `work` here with sockets of this user. The owner of a socket is the file-system user of who made it (linux
    /// net/netfilter/xt_owner.c, nft_meta.c), and eBPF programs see the real user; both are a thread's own.
    pub(crate) fn enter_as<R: Send>(&self, user: u32, work: impl FnOnce() -> R + Send) -> R {
        self.enter(|| {
            become_really(user);
            setfsgid(Gid::from_raw(user));
            setfsuid(Uid::from_raw(user));
            // Never fails, and answers with what was before.
            assert_eq!(setfsuid(Uid::from_raw(user)).as_raw(), user, "root may become any user");
            work()
        })
    }

    /// An HTTP request of this user from here.
    pub(crate) fn get(&self, user: u32, server: SocketAddr, path: &str) -> io::Result<Answer> {
        self.enter_as(user, || http::get(server, path))
    }
}

/// Makes the calling thread belong to this user. It keeps what it may do, since its effective user stays root.
fn become_really(user: u32) {
    const SAME: u32 = u32::MAX;
    for call in [nix::libc::SYS_setresgid, nix::libc::SYS_setresuid] {
        // SAFETY: numbers only. The C library's function would change all threads of the process.
        let result = unsafe { nix::libc::syscall(call, user, SAME, SAME) };
        assert_eq!(result, 0, "root may become any user");
    }
}

/// Tries again until it works or the time is over.
pub(crate) fn within<R>(limit: Duration, mut work: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    let begun = Instant::now();
    loop {
        match work() {
            Err(_) if begun.elapsed() < limit => thread::sleep(Duration::from_millis(20)),
            result => return result,
        }
    }
}

fn ip(batch: &str) -> io::Result<()> {
    run(Command::new("ip").args(["-batch", "-"]), batch)
}

/// Runs a program with `input`; the error has what it said.
fn run(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}
