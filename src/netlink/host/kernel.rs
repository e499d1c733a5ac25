//! What one operation knows of the network namespace that it works in.

use std::collections::BTreeMap;
#[cfg(feature = "ebpf")]
use std::fs::File;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::dump::Expected;
use super::route::{Interfaces, Route};
use super::{Around, Leftovers, LegacyView, Socket, Stop};
use crate::error::Error;
use crate::netlink::Dump;
use crate::netns::Here;

/// The room for what sock_diag says at once. The kernel cuts lists to what is read of them.
const SOCKETS: usize = 2 * 8 * 1024;

/// The ways to the kernel of one operation, in the network namespace of the calling thread. Each is opened when it is first
/// needed, and what an operation does not change itself is read once.
///
/// It is made where an operation begins, in its turn, and handed down: what was true for the last operation is not for the next.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    netfilter: Option<Socket>,
    sock_diag: Option<Socket>,
    route: Option<Route>,
    interfaces: Option<Interfaces>,
    here: Option<Here>,
    #[cfg(feature = "ebpf")]
    namespace: Option<File>,
    /// Whether it was seen that no installation has noted anything down on this host.
    pub(crate) no_records: bool,
    /// Whether the kernel may not have the route yet to an address that this operation has added.
    pub(crate) unsettled: bool,
    /// What there is of iptables-legacy.
    pub(crate) legacy: LegacyView,
    /// What there is of ours in nf_tables.
    overview: Option<(Dump, Leftovers)>,
    /// Everything that there is in nf_tables.
    around: Option<Around>,
}

impl Kernel {
    /// The socket to nf_tables and to connection tracking.
    pub(crate) fn netfilter(&mut self) -> Result<&mut Socket, Stop> {
        opened(&mut self.netfilter, Socket::open)
    }

    /// Our tables, and what installations by iptables-nft have in nf_tables, as they were when this operation first asked: for one
    /// that changes nothing. What is expected matters to the first question only.
    pub(crate) fn overview(&mut self, expected: &Expected<'_>) -> Result<&(Dump, Leftovers), Stop> {
        let seen = match self.overview.take() {
            Some(seen) => seen,
            None => {
                let (dump, leftovers, _) = self.netfilter()?.look(expected)?;
                (dump, leftovers)
            }
        };
        Ok(self.overview.insert(seen))
    }

    /// The same, if it was asked for.
    pub(crate) fn take_overview(&mut self) -> Option<(Dump, Leftovers)> {
        self.overview.take()
    }

    /// All tables of nf_tables, as they were when this operation first asked. The network interfaces are those by whose numbers rules
    /// name some; none if they cannot be listed.
    pub(crate) fn around(
        &mut self,
        interfaces: impl FnOnce() -> Option<BTreeMap<u32, String>>,
    ) -> Result<&Around, Stop> {
        let seen = match self.around.take() {
            Some(seen) => seen,
            None => self.netfilter()?.look_around(interfaces().as_ref())?,
        };
        Ok(self.around.insert(seen))
    }

    /// The socket to what lists sockets.
    pub(crate) fn sock_diag(&mut self) -> Result<&mut Socket, Stop> {
        opened(&mut self.sock_diag, || Socket::open_for(SockProtocol::NetlinkSockDiag, SOCKETS))
    }

    /// The socket for interfaces and addresses.
    pub(crate) fn route(&mut self) -> Result<&mut Route, Errno> {
        opened(&mut self.route, Route::open)
    }

    /// The loopback interface and the IPv6 addresses, as they were when this operation first asked.
    pub(crate) fn interfaces(&mut self) -> Result<&Interfaces, Errno> {
        if self.interfaces.is_none() {
            self.interfaces = Some(self.route()?.interfaces()?);
        }
        self.interfaces.as_ref().ok_or(Errno::ENODEV)
    }

    /// Has the interfaces looked at again when they are next asked for: this operation has changed their addresses.
    pub(crate) fn interfaces_changed(&mut self) {
        self.interfaces = None;
    }

    /// The namespace itself, where it does not matter which one it is.
    #[cfg(feature = "ebpf")]
    pub(crate) fn namespace(&mut self) -> std::io::Result<&File> {
        match &self.here {
            Some(here) => Ok(&here.file),
            None => opened(&mut self.namespace, Here::file).map(|file| &*file),
        }
    }

    /// The namespace, and which one it is.
    pub(crate) fn here(&mut self) -> Result<&Here, Error> {
        opened(&mut self.here, || Here::find_by(self.netfilter.as_ref().map(AsFd::as_fd))).map(|here| &*here)
    }
}

/// What is there, or is made now.
fn opened<T, E>(place: &mut Option<T>, open: impl FnOnce() -> Result<T, E>) -> Result<&mut T, E> {
    Ok(match place {
        Some(there) => there,
        None => place.insert(open()?),
    })
}
