//! A program of somebody else's that was attached in the way of before links.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use nix::libc;
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};

/// `BPF_PROG_TYPE_CGROUP_SOCK_ADDR` and `BPF_CGROUP_INET4_CONNECT` of linux/bpf.h.
const KIND: u32 = 18;
const CONNECT4: u32 = 10;

const LOAD: i32 = 5;
const ATTACH: i32 = 8;
const DETACH: i32 = 9;

/// It is attached while this lives.
pub(crate) struct Intruder {
    cgroup: File,
    program: OwnedFd,
}

impl Intruder {
    /// With no flags, so that it stays the only one.
    pub(crate) fn alone(cgroup: &str) -> io::Result<Self> {
        Self::attach(cgroup, 0)
    }

    /// So that others can be there, too.
    pub(crate) fn beside(cgroup: &str) -> io::Result<Self> {
        const ALLOW_MULTI: u32 = 2;
        Self::attach(cgroup, ALLOW_MULTI)
    }

    fn attach(cgroup: &str, flags: u32) -> io::Result<Self> {
        // Before Linux 5.11, programs are locked memory. Not every root may have more of it.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        // r0 = 1; exit
        let instructions: [u64; 2] = [0x0000_0001_0000_00b7, 0x95];
        let license = c"GPL";
        let mut attributes = [0_u32; 18];
        attributes[0] = KIND;
        attributes[1] = 2;
        put(&mut attributes, 2, std::ptr::from_ref(&instructions) as u64);
        put(&mut attributes, 4, license.as_ptr() as u64);
        // After the log and the version of the kernel: flags, the name, an interface, the attach type.
        for (at, bytes) in b"intruder".chunks_exact(4).enumerate() {
            attributes[12 + at] = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
        }
        attributes[17] = CONNECT4;
        let number = bpf(LOAD, &mut attributes)?;
        // SAFETY: the kernel has just opened it for us.
        let program = unsafe { OwnedFd::from_raw_fd(number) };
        let intruder = Self { cgroup: File::open(cgroup)?, program };
        intruder.call(ATTACH, flags)?;
        Ok(intruder)
    }

    fn call(&self, command: i32, flags: u32) -> io::Result<()> {
        let [cgroup, program] =
            [self.cgroup.as_raw_fd(), self.program.as_raw_fd()].map(|fd| u32::try_from(fd).expect("it is open"));
        bpf(command, &mut [cgroup, program, CONNECT4, flags]).map(drop)
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        let _ = self.call(DETACH, 0);
    }
}

fn put(attributes: &mut [u32], at: usize, value: u64) {
    attributes[at] = value as u32;
    attributes[at + 1] = (value >> 32) as u32;
}

fn bpf(command: i32, attributes: &mut [u32]) -> io::Result<i32> {
    // SAFETY: the attributes are as long as we say, and what they point to lives as long as the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of_val(attributes)) };
    nix::errno::Errno::result(result).map(|number| number as i32).map_err(io::Error::from)
}
