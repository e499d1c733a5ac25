//! Options of sockets that nix has no safe form of.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd};

/// Sets an option of a socket to a number.
pub(crate) fn set(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    #[expect(unsafe_code, reason = "nix does not know the options of netlink sockets")]
    // SAFETY: the pointer and the length are those of `value`, which the kernel only reads.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option of a socket into `value`, which the kernel reads as well, and says how many bytes
/// it wrote.
pub(crate) fn get(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "nix does not know the options of iptables")]
    // SAFETY: the pointer and the length are those of `value`, which is initialised; the kernel
    // writes no more than `length` bytes, of which any value is a valid `u8`.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length) };
    if result >= 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

/// The network namespace of a socket.
pub(crate) fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    /// linux/sockios.h
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    #[expect(unsafe_code, reason = "nix does not know this request")]
    // SAFETY: the request has no argument.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS as _) };
    match result {
        ..0 => Err(io::Error::last_os_error()),
        #[expect(unsafe_code, reason = "a number becomes an owned file descriptor")]
        // SAFETY: the kernel has just opened it, and nobody else knows of it.
        number => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
    }
}
