//! Network namespaces: the one that a thread is in, and work in another.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::Error;
use crate::room::on_thread;
use crate::{files, socket_options};

/// That of the calling thread.
const PATH: &str = "/proc/thread-self/ns/net";

/// The network namespace of the calling thread, while this lives.
#[derive(Debug)]
pub(crate) struct Here {
    #[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "held, and used by the engine ebpf"))]
    pub(crate) file: File,
    /// Its number, which the kernel gives to another one once it is gone.
    pub(crate) inode: u64,
    /// Its cookie, which no other one gets until the machine is started anew; none before Linux 5.14.
    pub(crate) cookie: Option<u64>,
}

impl Here {
    #[cfg(feature = "ebpf")]
    pub(crate) fn find() -> Result<Self, Error> {
        Self::find_by(None)
    }

    /// The same with a socket that was opened there, if there is one.
    pub(crate) fn find_by(opened: Option<BorrowedFd<'_>>) -> Result<Self, Error> {
        match opened {
            Some(socket) => Self::of(socket),
            None => {
                let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None);
                Self::of(socket.map_err(|errno| Error::io("open a socket", &errno.into()))?.as_fd())
            }
        }
    }

    /// What stands for it, opened without asking what it is.
    pub(crate) fn file() -> std::io::Result<File> {
        File::open(PATH)
    }

    fn of(socket: BorrowedFd<'_>) -> Result<Self, Error> {
        let cannot = |error: std::io::Error| Error::io(format!("open {PATH}"), &error);
        let file = match Self::file() {
            // Without /proc. This needs a privilege.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                socket_options::namespace_of(socket).map(File::from).map_err(|_| cannot(error))?
            }
            other => other.map_err(cannot)?,
        };
        let inode = file.metadata().map_err(cannot)?.ino();
        /// asm-generic/socket.h
        const SO_NETNS_COOKIE: i32 = 71;
        let mut cookie = [0; 8];
        let cookie = match socket_options::get(socket, libc::SOL_SOCKET, SO_NETNS_COOKIE, &mut cookie) {
            Ok(_) => Some(u64::from_ne_bytes(cookie)),
            Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => None,
            Err(error) => return Err(Error::io("ask for the cookie of the network namespace", &error)),
        };
        Ok(Self { file, inode, cookie })
    }
}

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
    /// [`Error::Os`] if it cannot be opened, or is surely no namespace: a folder, a pipe, a device.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let name = path.as_ref().display().to_string();
        let file = files::open(path.as_ref(), 0).map_err(|error| match error.raw_os_error() {
            None => not_a_namespace(&name),
            Some(_) => Error::io(format!("open {name}"), &error),
        })?;
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
        worker("start a thread for the network namespace", || {
            setns(self.fd.as_fd(), CloneFlags::CLONE_NEWNET).map_err(|errno| self.refused(errno))?;
            Ok(work())
        })?
    }

    fn refused(&self, errno: Errno) -> Error {
        let action = format!("enter the network namespace {}", self.name);
        match errno {
            Errno::EPERM => Error::Permission {
                action,
                needed: "CAP_SYS_ADMIN, here and in the user namespace that owns it,".to_owned(),
            },
            Errno::EINVAL => not_a_namespace(&self.name),
            _ => Error::io(action, &errno.into()),
        }
    }
}

/// Does something in a network namespace, on a thread of its own; without one where the caller is.
///
/// # Errors
/// Those of the work, and [`Error::Permission`] or [`Error::Os`] if the namespace cannot be entered.
pub(crate) fn run<T: Send>(
    namespace: Option<&Namespace>,
    work: impl FnOnce() -> Result<T, Error> + Send,
) -> Result<T, Error> {
    match namespace {
        None => work(),
        Some(namespace) => namespace.run(work)?,
    }
}

fn not_a_namespace(name: &str) -> Error {
    let action = format!("enter the network namespace {name}");
    Error::Os { action, message: "it is no network namespace".to_owned(), errno: Some(Errno::EINVAL as i32) }
}

/// The stack of a thread of ours. It is not what the embedder or `RUST_MIN_STACK` has for other threads, which may be little.
const STACK: usize = 2 << 20;

/// Does something on a thread of its own, and waits for it. A panic there goes on here.
pub(crate) fn worker<T: Send>(action: &str, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
    on_thread(STACK, work).map_err(|error| Error::io(action, &error))
}
