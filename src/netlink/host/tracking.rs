//! The TCP connections that are open here, and what connection tracking knows of them: to and from the kernel.

use std::collections::HashSet;

use nix::errno::Errno;
#[cfg(feature = "ebpf")]
use nix::sys::socket::SockProtocol;

use super::conntrack::{self, Connection, Tuple};
#[cfg(feature = "ebpf")]
use super::sock_diag::Listener;
use super::sock_diag::{self, Sockets};
use super::{Socket, Stop};
use crate::net::FamilyName;
use crate::netlink::constants::NLMSG_ERROR;
use crate::netlink::wire::{Messages, Writer, array};

/// How many requests are sent at once. All of their answers fit the socket's buffer.
const AT_ONCE: usize = 128;

/// How many times a list is asked for again because it changed meanwhile, or was lost. Sockets come and go all the time: what
/// was seen in the end was there.
const ATTEMPTS: usize = 8;

/// What became of requests to make entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Made {
    pub(crate) entries: usize,
    /// How many could not be made, though there is none.
    pub(crate) failed: usize,
    /// Why, for the first one.
    pub(crate) errno: Option<Errno>,
}

/// The TCP sockets in the network namespace of the calling thread. Needs no privilege.
pub(crate) fn sockets(socket: &mut Socket) -> Result<Sockets, Stop> {
    let mut sockets = Sockets::default();
    list(socket, sock_diag::request, |datagram| sockets.read(datagram))?;
    Ok(sockets)
}

/// Those of them that listen.
#[cfg(feature = "ebpf")]
pub(crate) fn listeners() -> Result<Vec<Listener>, Stop> {
    let mut socket = Socket::open_for(SockProtocol::NetlinkSockDiag, 64 * 1024)?;
    let mut sockets = Sockets::default();
    for family in FamilyName::ALL {
        let request = |sequence| sock_diag::request_listeners(family, sequence);
        list(&mut socket, request, |datagram| sockets.read(datagram))?;
    }
    Ok(sockets.listeners)
}

/// What connection tracking knows of what is `open`, in both directions of each entry. Entries made by us whose connections are no longer in
/// `open` are removed: they are of a time in which nobody saw the connections end.
pub(crate) fn known(
    socket: &mut Socket,
    families: &[FamilyName],
    open: &HashSet<Tuple>,
) -> Result<HashSet<Tuple>, Stop> {
    let (mut known, mut dead) = (HashSet::new(), Vec::new());
    // For a list, the kernel goes through the table of the whole machine, which takes it some milliseconds.
    if entries(socket) == Some(0) {
        return Ok(known);
    }
    let asked: Vec<_> = match families {
        // All at once.
        [_, _, ..] => vec![None],
        families => families.iter().copied().map(Some).collect(),
    };
    for family in asked {
        list(
            socket,
            |sequence| conntrack::list(family, sequence),
            |datagram| {
                for entry in conntrack::entries(datagram) {
                    if entry.made_by_hand && !open.contains(&entry.original) {
                        dead.push(entry);
                    } else {
                        // A router has millions of other entries.
                        known.extend([entry.original, entry.reply].into_iter().filter(|tuple| open.contains(tuple)));
                    }
                }
            },
        )?;
    }
    // One that cannot be removed, or was listed twice, is gone or goes by itself.
    change(socket, &dead, conntrack::delete, |_| ())?;
    Ok(known)
}

/// How many entries there are in this network namespace; none if the kernel does not say.
fn entries(socket: &mut Socket) -> Option<u32> {
    let (sequence, mut found) = (socket.next_sequence(), None);
    let asked = socket.exchange(&conntrack::how_many(sequence), sequence, false, |datagram| {
        found = conntrack::number_of_entries(datagram);
    });
    asked.ok().and(found)
}

/// Makes entries for connections, where there are none.
pub(crate) fn create(socket: &mut Socket, connections: &[Connection]) -> Result<Made, Stop> {
    let mut made = Made::default();
    change(socket, connections, conntrack::create, |answer| match answer {
        None => made.entries += 1,
        Some(Errno::EEXIST) => {}
        Some(errno) => {
            made.failed += 1;
            made.errno.get_or_insert(errno);
        }
    })?;
    Ok(made)
}

fn list(socket: &mut Socket, request: impl Fn(u32) -> Vec<u8>, mut each: impl FnMut(&[u8])) -> Result<(), Stop> {
    for attempt in 1..=ATTEMPTS {
        let sequence = socket.next_sequence();
        match socket.exchange(&request(sequence), sequence, true, &mut each) {
            Ok(false) => return Ok(()),
            Ok(true) if attempt == ATTEMPTS => return Ok(()),
            Ok(true) => {}
            Err(Stop::Unknown | Stop::System(_, Errno::ENOBUFS)) if attempt < ATTEMPTS => {
                _ = socket.read_all(|_| ())?
            }
            Err(stop) => return Err(stop),
        }
    }
    Err(Stop::Unknown)
}

/// Sends a request for each item, and hands over what each was answered: an error or none.
fn change<T>(
    socket: &mut Socket,
    items: &[T],
    write: impl Fn(&T, u32, &mut Writer),
    mut answered: impl FnMut(Option<Errno>),
) -> Result<(), Stop> {
    for some in items.chunks(AT_ONCE) {
        let mut writer = Writer::default();
        let mut open = HashSet::new();
        for item in some {
            let sequence = socket.next_sequence();
            open.insert(sequence);
            write(item, sequence, &mut writer);
        }
        // The kernel has answered everything when sending returns.
        socket.send_bytes(&writer.finish())?;
        let lost = socket.read_all(|datagram| {
            for message in Messages(datagram).filter(|message| message.kind == NLMSG_ERROR) {
                let Some(code) = array(message.body, 0).map(i32::from_ne_bytes) else { continue };
                if open.remove(&message.sequence) {
                    answered((code != 0).then(|| Errno::from_raw(code.saturating_neg())));
                }
            }
        })?;
        if lost || !open.is_empty() {
            return Err(Stop::Unknown);
        }
    }
    Ok(())
}
