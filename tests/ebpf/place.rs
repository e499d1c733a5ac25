//! A cgroup with this process in it, and a directory for a bpffs.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount};

use crate::common::skip::skipped;
use crate::common::world::{BPFFS, CGROUPS, cgroup};

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
        fs::create_dir(cgroup()).expect("root makes cgroups");
        fs::write(format!("{}/cgroup.procs", cgroup()), "0").expect("a process can be moved into an empty cgroup");
        Some(Self { _alone: alone })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::write(format!("{CGROUPS}/cgroup.procs"), "0");
        // A process that has just ended, a child's, may be in it for a moment more.
        for _ in 0..100 {
            match fs::remove_dir(cgroup()) {
                Err(error) if error.raw_os_error() == Some(nix::libc::EBUSY) => sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
    }
}
