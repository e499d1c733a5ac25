//! A cgroup with this process in it, and a directory for a bpffs.

use std::fs;
use std::net::UdpSocket;
use std::os::fd::AsRawFd as _;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};

use crate::common::skip::skipped;
use crate::common::world::{BPFFS, CGROUPS, of_process, of_workload};

/// The process is in the cgroup while this lives, and no other test that counts what is in the kernel is at work.
pub(crate) struct Place {
    _alone: Flock<fs::File>,
}

impl Place {
    /// None, having said so, where the kernel has no cgroup2.
    pub(crate) fn new() -> Option<Self> {
        fs::create_dir_all(CGROUPS).expect("/run is our own");
        fs::create_dir_all(BPFFS).expect("/run is our own");
        if let Err(errno) = mount(Some("none"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>) {
            skipped(&format!("cgroup2 cannot be mounted: {errno}"));
            return None;
        }
        let lock = fs::File::create(std::env::temp_dir().join("kumatp-test-ebpf.lock")).expect("root can write there");
        let alone = Flock::lock(lock, FlockArg::LockExclusive).expect("nobody holds it for ever");
        let own = of_process();
        fs::create_dir(&own).expect("root makes cgroups");
        fs::write(format!("{own}/cgroup.procs"), "0").expect("a process can be moved into an empty cgroup");
        if !tells_namespaces() {
            let of_workload = format!("{own}/workload");
            fs::create_dir(&of_workload).expect("root makes cgroups");
            fs::write(format!("{of_workload}/cgroup.type"), "threaded").expect("it has no controllers");
        }
        Some(Self { _alone: alone })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::write(format!("{CGROUPS}/cgroup.procs"), "0");
        // A process that has just ended, a child's, may be in it for a moment more.
        for dir in of_workload().into_iter().chain([of_process()]) {
            for _ in 0..100 {
                match fs::remove_dir(&dir) {
                    Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => sleep(Duration::from_millis(10)),
                    _ => break,
                }
            }
        }
    }
}

/// Whether this kernel's programs can tell network namespaces, as they can where sockets have the cookies of theirs.
pub(crate) fn tells_namespaces() -> bool {
    /// asm-generic/socket.h
    const SO_NETNS_COOKIE: i32 = 71;
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a socket");
    let (mut cookie, mut size) = (0_u64, 8);
    // SAFETY: the kernel writes at most these 8 bytes.
    let result = unsafe {
        let cookie = std::ptr::from_mut(&mut cookie).cast();
        nix::libc::getsockopt(socket.as_raw_fd(), nix::libc::SOL_SOCKET, SO_NETNS_COOKIE, cookie, &mut size)
    };
    result == 0
}
