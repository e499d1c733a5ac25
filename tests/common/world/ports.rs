//! Ports that an earlier socket of these tests had.

use std::io;
use std::thread::sleep;
use std::time::Duration;

/// Tries until an address is free. The socket that had it may be closed, but a process that was being started meanwhile by another
/// thread holds a copy until it runs its program.
pub(crate) fn when_free<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    for _ in 0..1000 {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => sleep(Duration::from_millis(10)),
            result => return result,
        }
    }
    bind()
}
