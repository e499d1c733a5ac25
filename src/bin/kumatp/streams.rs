//! The output streams of the programs, neither of which decides about rules.
//!
//! What is written to standard error is best effort. What is written to standard output is a result, and a result
//! that nobody got is an error.

use std::io::{self, Write as _};

/// Whether this process was started without a standard output, where the standard library has put `/dev/null` since.
#[cfg(target_os = "linux")]
mod closed {
    use std::sync::atomic::{AtomicBool, Ordering};

    static CLOSED: AtomicBool = AtomicBool::new(false);

    #[expect(unsafe_code, reason = "the standard library opens what was closed before main begins")]
    // SAFETY: the section holds pointers to functions without arguments that return nothing; this one is always there, needs
    // nothing that the program sets up before main, and does not unwind.
    #[unsafe(link_section = ".init_array")]
    #[used]
    static LOOK: extern "C" fn() = look;

    #[expect(unsafe_code, reason = "the number may be that of no open file, which no safe function takes")]
    extern "C" fn look() {
        // SAFETY: F_GETFD takes any number and changes nothing.
        let flags = unsafe { nix::libc::fcntl(nix::libc::STDOUT_FILENO, nix::libc::F_GETFD) };
        CLOSED.store(flags < 0, Ordering::Relaxed);
    }

    pub(super) fn was_closed() -> bool {
        CLOSED.load(Ordering::Relaxed)
    }
}

/// Lets a write to a file that may not grow (`ulimit -f`) fail, where it would end the program in the middle of its work.
/// A closed pipe does not end it either, since the standard library ignores `SIGPIPE`.
pub(crate) fn prepare() {
    #[cfg(target_os = "linux")]
    {
        use nix::sys::signal::{SigSet, Signal};
        // It cannot fail with a signal that may be blocked.
        let _ = SigSet::from(Signal::SIGXFSZ).thread_block();
    }
}

/// Writes a result, all of it.
///
/// # Errors
/// If any of it cannot be written. Unlike the standard library's `Stdout`, also if the stream is closed or only to be read.
pub(crate) fn result(text: &str) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        if closed::was_closed() {
            return Err(io::Error::from_raw_os_error(nix::libc::EBADF));
        }
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match nix::unistd::write(io::stdout(), rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => rest = &rest[written..],
                Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush())
    }
}

/// Writes a remark, if anybody listens.
pub(crate) fn remark(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
