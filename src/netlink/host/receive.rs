//! Reading several datagrams by one system call.

use std::io::IoSliceMut;
use std::ops::Range;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, NetlinkAddr, recvmmsg};

/// Reads as many datagrams as there are, up to `count`, into as many parts of a buffer, and says where each one is. Waits for the
/// first one, unless the flags say otherwise.
///
/// # Errors
/// Those of recvmmsg(2), and `EMSGSIZE` if a datagram is longer than its part.
pub(super) fn receive(
    fd: BorrowedFd<'_>,
    buffer: &mut [u8],
    count: usize,
    flags: MsgFlags,
) -> Result<Vec<Range<usize>>, Errno> {
    let room = buffer.len() / count;
    let flags = flags | MsgFlags::MSG_TRUNC | MsgFlags::MSG_WAITFORONE;
    loop {
        let mut parts: Vec<_> = buffer.chunks_exact_mut(room).map(|part| [IoSliceMut::new(part)]).collect();
        let mut headers = MultiHeaders::<NetlinkAddr>::preallocate(count, None);
        let received = match recvmmsg(fd.as_raw_fd(), &mut headers, parts.iter_mut(), flags, None) {
            Err(Errno::EINTR) => continue,
            received => received?,
        };
        let places = received.enumerate().map(|(at, one)| match one.bytes <= room {
            true => Ok(at * room..at * room + one.bytes),
            false => Err(Errno::EMSGSIZE),
        });
        return places.collect();
    }
}
