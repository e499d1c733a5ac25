//! How many objects of ours are in the kernel, on the whole machine.

use std::collections::BTreeSet;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::libc;

/// Numbers of programs, maps and links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Objects {
    pub(crate) programs: usize,
    pub(crate) maps: usize,
    pub(crate) links: usize,
}

/// Commands of bpf(2): the next number, the object of a number; and where the name is in what is known of it.
const PROGRAMS: (i32, i32, usize) = (11, 13, 64);
const MAPS: (i32, i32, usize) = (12, 14, 24);
const LINKS: (i32, i32, usize) = (31, 30, 0);
const INFO: i32 = 15;

impl Objects {
    pub(crate) const NONE: Self = Self { programs: 0, maps: 0, links: 0 };

    /// Those that there are. The kernel frees them a moment after they are let go.
    pub(crate) fn count() -> Self {
        let mut last = Self::now();
        for _ in 0..40 {
            sleep(Duration::from_millis(25));
            let now = Self::now();
            if now == last && now == Self::NONE {
                return now;
            }
            last = now;
        }
        last
    }

    /// Those that there are once there are as many as this, or after a time in which they should have been. Others on the
    /// machine may have installations for a moment, too.
    pub(crate) fn count_until(expected: Self) -> Self {
        let start = Instant::now();
        loop {
            let now = Self::now();
            if now == expected || start.elapsed() > Duration::from_secs(120) {
                return now;
            }
            sleep(Duration::from_millis(10));
        }
    }

    fn now() -> Self {
        let programs: BTreeSet<u32> =
            of(PROGRAMS).into_iter().filter_map(|(id, info)| ours(PROGRAMS, &info).then_some(id)).collect();
        let maps = of(MAPS).iter().filter(|(_, info)| ours(MAPS, info)).count();
        let program = |info: &[u8]| u32::from_ne_bytes(info[8..12].try_into().expect("four bytes"));
        let links = of(LINKS).iter().filter(|(_, info)| programs.contains(&program(info))).count();
        Self { programs: programs.len(), maps, links }
    }
}

fn ours(kind: (i32, i32, usize), info: &[u8]) -> bool {
    info[kind.2..].starts_with(b"kuma_")
}

/// All objects of a kind, and the beginning of what is known of each.
fn of((next, get, _): (i32, i32, usize)) -> Vec<(u32, [u8; 128])> {
    let mut list = Vec::new();
    let mut id = 0;
    loop {
        let mut attributes = [id, 0, 0, 0];
        if bpf(next, &mut attributes) != 0 {
            return list;
        }
        id = attributes[1];
        let number = bpf(get, &mut [id, 0, 0, 0]);
        if number < 0 {
            continue;
        }
        // SAFETY: the kernel has just opened it for us.
        let object = unsafe { OwnedFd::from_raw_fd(number) };
        let mut info = [0_u8; 128];
        let address = std::ptr::from_mut(&mut info) as u64;
        let fd = u32::try_from(object.as_raw_fd()).expect("it is open");
        let mut attributes = [fd, 128, address as u32, (address >> 32) as u32];
        if bpf(INFO, &mut attributes) == 0 {
            list.push((id, info));
        }
    }
}

fn bpf(command: i32, attributes: &mut [u32; 4]) -> i32 {
    // SAFETY: the attributes are as long as we say, and what they point to is of the length in them.
    unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_mut_ptr(), size_of::<[u32; 4]>()) as i32 }
}
