//! What the plugin does on the host.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::libc::{EINVAL, ENOENT, ENOTDIR, ESRCH};
use nix::net::if_::InterfaceFlags;
use nix::sched::{CloneFlags, unshare};

use super::Failure;
use super::failure::Code;
use super::request::Attachment;
use crate::error::{Error, visible};
use crate::files;
use crate::netns::{Namespace, worker};

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// The longest file about a pod that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// Does something in the network namespace of a pod, which is entered once, on one thread of its own; `None` if it is gone.
///
/// # Errors
/// Those of the work, and if the namespace is the plugin's own or cannot be entered.
pub(super) fn in_namespace<T: Send>(
    attachment: &Attachment,
    work: impl FnOnce() -> Result<T, Failure> + Send,
) -> Result<Option<T>, Failure> {
    let Some(namespace) = namespace(attachment)? else { return Ok(None) };
    match namespace.run(work) {
        Ok(done) => done.map(Some),
        // What is left of a mount point once the namespace is unmounted.
        Err(error) if error.errno() == Some(EINVAL) => Ok(None),
        Err(error) => Err(Failure::about_the_pod(&error)),
    }
}

fn namespace(attachment: &Attachment) -> Result<Option<Namespace>, Failure> {
    let Some(path) = &attachment.netns else { return Ok(None) };
    let refused = |problem: String| {
        let details = format!("CNI_NETNS: '{}' {problem}", visible(&path.display().to_string()));
        Failure::new(Code::Environment, "invalid environment variable: CNI_NETNS", details)
    };
    let there = match std::fs::metadata(path) {
        Ok(there) => there,
        Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | ESRCH)) => return Ok(None),
        Err(error) => return Err(refused(format!("cannot be looked at: {error}"))),
    };
    let own =
        std::fs::metadata(OWN).map_err(|error| Failure::about_the_pod(&Error::io(format!("look at {OWN}"), &error)))?;
    if (own.dev(), own.ino()) == (there.dev(), there.ino()) && !attachment.netns_override {
        let problem = "is the network namespace of the plugin itself: expected that of a pod, or CNI_NETNS_OVERRIDE=1";
        return Err(refused(problem.into()));
    }
    if !there.is_file() {
        return Err(refused("is no network namespace".into()));
    }
    Namespace::open(path).map(Some).map_err(|error| Failure::about_the_pod(&error))
}

/// Whether there is an interface besides loopback in the network namespace of the calling thread.
pub(super) fn has_interface() -> Result<bool, Error> {
    getifaddrs()
        .map(|mut all| all.any(|one| !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)))
        .map_err(|errno| Error::io("list the network interfaces of the pod", &errno.into()))
}

/// A network namespace that is gone when it is dropped.
pub(super) fn fresh_namespace() -> Result<Namespace, Error> {
    let make = || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        std::fs::File::open(OWN)
    };
    match worker("make a network namespace", make)? {
        Ok(file) => Ok(Namespace::from_fd(file.into())),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Error::Permission { action: "make a network namespace".into(), needed: "CAP_SYS_ADMIN".into() })
        }
        Err(error) => Err(Error::io("make a network namespace", &error)),
    }
}

/// Reads a file about a pod, whose path is in `key` of the network configuration.
pub(super) fn read(key: &str, path: &Path) -> Result<String, Failure> {
    let refused = |code: Code, problem: String| {
        Failure::new(code, format!("cannot read the file of {key}"), format!("{key}: {}: {problem}", path.display()))
    };
    files::read_text(path, 0, LIMIT).map_err(|error| match error.kind() {
        ErrorKind::NotFound => refused(Code::TryAgain, "it is not there, or not yet".into()),
        _ => refused(Code::Pod, error.to_string()),
    })
}
