//! Whether programs of ours are in force, as far as the caller can see. Where programs are pinned, only those can look who
//! installed them; which are attached to the network namespace, the kernel tells who has `CAP_NET_ADMIN` in the first user
//! namespace; their names, it tells root only.

use nix::errno::Errno;

use super::hooks::HOOKS;
use super::pin_directory::PinDirectory;
use super::{Paths, Unpinned, is_bare, unpinned};
use crate::error::Error;
use crate::netlink::Kernel;

/// What can be seen of an installation in a network namespace.
#[derive(Debug)]
pub(crate) enum Sight {
    /// There is none.
    Absent,
    /// One is pinned where it was looked for.
    Pinned,
    /// One is in force that is pinned elsewhere, or where the caller may not look.
    OutOfReach(Error),
    /// A program is attached, and the caller may not see whose it is.
    Suspected(Error),
    /// Nothing is pinned where it was looked for, and the caller may not ask the kernel.
    Unasked(Error),
    /// The caller may neither look nor ask.
    Unknown(Error),
}

/// Looks for an installation in the network namespace of the calling thread.
pub(crate) fn sight(kernel: &mut Kernel, paths: &Paths) -> Result<Sight, Error> {
    // Where nothing is pinned for any namespace, and no program is attached to this one, it does not matter which one it is.
    if !PinDirectory::has_any(&paths.bpffs) && kernel.namespace().is_ok_and(|netns| is_bare(netns) == Ok(true)) {
        return Ok(Sight::Absent);
    }
    let netns = kernel.here()?;
    let place = PinDirectory::new(&paths.bpffs, netns);
    let hidden = match place.is_there() {
        Ok(true) => return Ok(Sight::Pinned),
        Ok(false) => None,
        Err(error @ Error::Permission { .. }) => Some(error),
        Err(error) => return Err(error),
    };
    Ok(match (unpinned(&place, netns), hidden) {
        (Ok(Unpinned::None), _) => Sight::Absent,
        (Ok(Unpinned::Ours(id)), hidden) => Sight::OutOfReach(hidden.unwrap_or_else(|| place.elsewhere(id))),
        (Ok(Unpinned::Nameless(id)), _) => {
            let title = HOOKS.iter().find(|hook| hook.is_of_netns()).map_or("", |hook| hook.title);
            let action = format!("see whose eBPF program {id} at {title} of this network namespace is");
            Sight::Suspected(Error::Permission { action, needed: "CAP_SYS_ADMIN".into() })
        }
        // The kernel has no such programs.
        (Err(Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP), _) => Sight::Absent,
        (Err(_), Some(hidden)) => Sight::Unknown(hidden),
        (Err(Errno::EPERM | Errno::EACCES), None) => {
            let action = "ask the kernel for eBPF programs in this network namespace".into();
            Sight::Unasked(Error::Permission { action, needed: "CAP_NET_ADMIN in the first user namespace".into() })
        }
        (Err(errno), None) => return Err(Error::io("ask the kernel for eBPF programs", &errno.into())),
    })
}
