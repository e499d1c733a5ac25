//! The sidecar's own IPv6 address, `::6`, on the loopback interface.
//!
//! 127.0.0.6 is there on every host, as all of 127.0.0.0/8 is; for IPv6 only `::1` is.

use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::passthrough::{Added, Presence};
use super::report::Report;
use crate::error::Error;
use crate::facts;
use crate::model::{IpFamilyMode, Note};
use crate::net::{Family, V6};
use crate::netlink::{Kernel, Trouble, is_absence};

/// Whether an address that was found was added by us; none was found if that is not known.
fn presence(ours: Option<bool>) -> Presence {
    match ours {
        None => Presence::Absent,
        Some(false) => Presence::Unmarked,
        Some(true) => Presence::Ours,
    }
}

/// Looks whether `::6` is on the loopback interface of the network namespace of the calling thread.
///
/// # Errors
/// [`Error::Os`] if that cannot be found out.
pub(super) fn look(kernel: &mut Kernel) -> Result<Presence, Error> {
    let (name, index) = facts::loopback_by(kernel)?;
    let cannot = |errno: Errno| Error::io(format!("look for {} on {name}", V6::passthrough()), &errno.into());
    match &kernel.interfaces().map_err(cannot)?.addresses {
        Ok(all) => {
            let six = all.iter().find(|one| (one.index, one.addr) == (index, V6::passthrough().addr()));
            Ok(presence(six.map(|six| six.ours)))
        }
        Err(errno) if is_absence(*errno) => Ok(Presence::Absent),
        Err(errno) => Err(cannot(*errno)),
    }
}

/// Adds `::6/128` to the loopback interface of the network namespace of the calling thread, and waits
/// until packets reach it. False if it was there.
///
/// # Errors
/// [`Error::Os`] if the kernel refuses.
pub fn add() -> Result<bool, Error> {
    let kernel = &mut Kernel::default();
    let added = add_by(kernel)?;
    settle(kernel);
    Ok(added.new)
}

/// The same without waiting: see [`settle`].
fn add_by(kernel: &mut Kernel) -> Result<Added, Error> {
    let (name, index) = facts::loopback_by(kernel)?;
    let addr = V6::passthrough().addr();
    let before = look(kernel)?;
    let refused = |errno: Errno| Error::Os {
        action: format!("add {} to {name}", V6::passthrough()),
        message: match errno {
            Errno::EACCES => format!("IPv6 is off there, by net.ipv6.conf.{name}.disable_ipv6"),
            Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP => "the kernel has no IPv6".to_owned(),
            errno => errno.desc().to_owned(),
        },
        errno: Some(errno as i32),
    };
    let added = kernel.route().and_then(|route| route.add(index, addr)).map_err(refused)?;
    kernel.interfaces_changed();
    let presence = match added.there {
        Some(there) => presence(there.map(|address| address.ours)),
        None => look(kernel)?,
    };
    let new = match added.done {
        Ok(()) => true,
        Err(Trouble::Refused(Errno::EEXIST)) => false,
        Err(Trouble::Refused(errno)) => return Err(refused(errno)),
        Err(Trouble::Lost) => done_unheard(before, presence, false).ok_or_else(|| refused(Errno::ENOBUFS))?,
    };
    kernel.unsettled |= new && !added.reached;
    Ok(Added { new, presence })
}

/// Adds the address, unless the host cannot have it: then the rules are needed all the same, so that is a warning. With
/// `required` it is an error. Rules that send connections there have to wait for it: see [`settle`].
pub(super) fn add_where_possible(kernel: &mut Kernel, mode: IpFamilyMode, report: &mut Report) -> Result<Added, Error> {
    let impossible = |errno| {
        matches!(Errno::from_raw(errno), Errno::EACCES | Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP)
            && mode != IpFamilyMode::Required
    };
    match add_by(kernel) {
        Err(error) if error.errno().is_some_and(impossible) => {
            let text =
                format!("{error}; connections by IPv6 that the sidecar hands on to the workload fail without it");
            report.notes.push(Note::warning("ipv6", text));
            Ok(Added { new: false, presence: Presence::Absent })
        }
        done => done,
    }
}

/// Removes `::6/128` from the loopback interface of the network namespace of the calling thread.
/// False if it was not there.
///
/// # Errors
/// [`Error::Os`] if the kernel refuses.
pub fn remove() -> Result<bool, Error> {
    remove_by(&mut Kernel::default())
}

pub(super) fn remove_by(kernel: &mut Kernel) -> Result<bool, Error> {
    let (name, index) = facts::loopback_by(kernel)?;
    let before = look(kernel)?;
    let cannot = |errno: Errno| Error::io(format!("remove {} from {name}", V6::passthrough()), &errno.into());
    let removed = kernel.route().map_err(cannot)?.remove(index, V6::passthrough().addr());
    kernel.interfaces_changed();
    match removed {
        Ok(()) => Ok(true),
        Err(Trouble::Refused(errno)) if is_absence(errno) => Ok(false),
        Err(Trouble::Refused(errno)) => Err(cannot(errno)),
        Err(Trouble::Lost) => done_unheard(before, look(kernel)?, true).ok_or_else(|| cannot(Errno::ENOBUFS)),
    }
}

/// Whether a request whose answer was lost has changed anything, by what was there before and after it;
/// none if it was not carried out. `removal` says which of the two requests it was.
fn done_unheard(before: Presence, after: Presence, removal: bool) -> Option<bool> {
    ((after == Presence::Absent) == removal).then_some(before != after)
}

/// Waits until the kernel has the local route to an address that was added, a second at most. It makes that route in
/// the background (`addrconf_dad_work` of net/ipv6/addrconf.c); until then the route of the prefix
/// discards what is sent there, and a connection from there is a second late.
pub(super) fn settle(kernel: &mut Kernel) {
    if !std::mem::take(&mut kernel.unsettled) {
        return;
    }
    for _ in 0..1000 {
        match kernel.route().map(|route| route.reaches(V6::passthrough().addr())) {
            Ok(false) => sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_answer_is_made_up_for_by_looking() {
        use Presence::{Absent, Ours, Unmarked};
        // An addition.
        assert_eq!(done_unheard(Absent, Ours, false), Some(true));
        assert_eq!(done_unheard(Unmarked, Unmarked, false), Some(false));
        assert_eq!(done_unheard(Absent, Absent, false), None);
        // A removal.
        assert_eq!(done_unheard(Ours, Absent, true), Some(true));
        assert_eq!(done_unheard(Absent, Absent, true), Some(false));
        assert_eq!(done_unheard(Ours, Ours, true), None);
    }
}
