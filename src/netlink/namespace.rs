//! Work in another network namespace.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use crate::error::Error;

/// A network namespace that is not the caller's.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
    name: String,
}

impl Namespace {
    /// The namespace behind a path: `/var/run/netns/pod`, `/proc/123/ns/net`.
    ///
    /// # Errors
    /// [`Error::Os`] if it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let name = path.as_ref().display().to_string();
        let file = std::fs::File::open(path).map_err(|error| Error::io(format!("open {name}"), &error))?;
        Ok(Self { fd: file.into(), name })
    }

    /// The namespace behind a file descriptor.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, name: "the given file descriptor".to_owned() }
    }

    /// The same namespace once more.
    ///
    /// # Errors
    /// [`Error::Os`] if no more files can be open.
    pub fn try_clone(&self) -> Result<Self, Error> {
        let fd = self.fd.try_clone().map_err(|error| Error::io(format!("open {} again", self.name), &error))?;
        Ok(Self { fd, name: self.name.clone() })
    }

    /// Does something in the namespace, on a thread of its own: the caller's thread stays where it is.
    ///
    /// # Errors
    /// [`Error::Permission`] if the caller may not enter, [`Error::Os`] if it is no network namespace
    /// or no thread can be made.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        std::thread::scope(|scope| {
            let inside = || {
                setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| self.refused(errno))?;
                Ok(work())
            };
            let thread = std::thread::Builder::new()
                .spawn_scoped(scope, inside)
                .map_err(|error| Error::io("start a thread for the network namespace", &error))?;
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    fn refused(&self, errno: Errno) -> Error {
        let action = format!("enter the network namespace {}", self.name);
        match errno {
            Errno::EPERM => Error::Permission {
                action,
                needed: "CAP_SYS_ADMIN, here and in the user namespace that owns it,".to_owned(),
            },
            Errno::EINVAL => {
                Error::Os { action, message: "it is no network namespace".to_owned(), errno: Some(errno as i32) }
            }
            _ => Error::io(action, &errno.into()),
        }
    }
}
