//! Connections with both ends in this program.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kumatp::net::FamilyName;
use nix::errno::Errno;
use nix::libc::linger;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::common::world::{APP, Netns, OUTSIDE, Place, SIDECAR, Server, User, WORKLOAD, when_free};
use crate::conntrack::Flow;
use crate::lab::{APP_PORT, Accepted, EXCLUDED_APP_PORT, EXCLUDED_OUTSIDE_PORT, Lab, OUTSIDE_PORT, own};
use crate::segment::TCP;

/// How long something that is expected may take.
const PATIENCE: i64 = 10_000;

/// How long is waited for a connection that nobody should accept. It decides nothing: that is what listeners and the link say.
const IMPATIENCE: i64 = 150;

/// A connection that may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// To the application, by the sidecar.
    Inbound,
    /// To an excluded port of the application.
    InboundExcluded,
    /// Of the workload, by the sidecar.
    Outbound,
    /// Of the workload, to an excluded port.
    OutboundExcluded,
    /// Of the sidecar itself.
    Sidecar,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] =
        [Self::Inbound, Self::InboundExcluded, Self::Outbound, Self::OutboundExcluded, Self::Sidecar];

    /// Whether it comes to the workload's host.
    pub(crate) fn is_inbound(self) -> bool {
        matches!(self, Self::Inbound | Self::InboundExcluded)
    }

    /// Who accepts it.
    pub(crate) fn server(self) -> &'static str {
        match self {
            Self::Inbound => Server::INBOUND,
            Self::InboundExcluded => WORKLOAD,
            Self::Outbound => Server::OUTBOUND,
            Self::OutboundExcluded | Self::Sidecar => OUTSIDE,
        }
    }

    /// Whether it goes by the sidecar.
    pub(crate) fn is_redirected(self) -> bool {
        matches!(self, Self::Inbound | Self::Outbound)
    }

    fn user(self) -> User {
        match self {
            Self::Sidecar => SIDECAR,
            _ if self.is_inbound() => User::ROOT,
            _ => APP,
        }
    }

    pub(crate) fn from(self, family: FamilyName, port: u16) -> SocketAddr {
        let addr = if self.is_inbound() { Place::Outside.addr(family) } else { own(family) };
        SocketAddr::new(addr, port)
    }

    pub(crate) fn to(self, family: FamilyName) -> SocketAddr {
        match self {
            Self::Inbound => SocketAddr::new(own(family), APP_PORT),
            Self::InboundExcluded => SocketAddr::new(own(family), EXCLUDED_APP_PORT),
            Self::Outbound | Self::Sidecar => Place::Outside.socket(family, OUTSIDE_PORT),
            Self::OutboundExcluded => Place::Outside.socket(family, EXCLUDED_OUTSIDE_PORT),
        }
    }
}

/// Both ends of a connection.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) kind: Kind,
    pub(crate) client: TcpStream,
    pub(crate) server: Accepted,
    pub(crate) flow: Flow,
}

impl Pair {
    /// Opens one from a port, which the right server has to accept.
    pub(crate) fn open(lab: &Lab, kind: Kind, family: FamilyName, port: u16) -> Self {
        let (accepted, client) = Call::of(kind, family, port).place(lab);
        let client = client.unwrap_or_else(|error| panic!("{kind:?}, {family}: {error}"));
        let server = accepted.unwrap_or_else(|| panic!("{kind:?}, {family}: nobody accepts it"));
        assert_eq!(server.who, kind.server(), "{kind:?}, {family}");
        let mut greeting = vec![0; server.who.len()];
        (&client).read_exact(&mut greeting).expect("who accepts greets");
        let flow = Flow { protocol: TCP, from: kind.from(family, port), to: kind.to(family) };
        Self { kind, client, server, flow }
    }

    /// Whether an end hears from the other what that says now. Nobody waits long for what is not hoped for.
    pub(crate) fn says(&self, is_client: bool, words: &str, hopeful: bool) -> io::Result<()> {
        let (mut from, mut to) = (&self.client, &self.server.stream);
        if !is_client {
            (from, to) = (to, from);
        }
        from.write_all(words.as_bytes())?;
        to.set_read_timeout(Some(Duration::from_millis(if hopeful { PATIENCE } else { IMPATIENCE } as u64)))?;
        let mut heard = vec![0; words.len()];
        to.read_exact(&mut heard)?;
        match heard == words.as_bytes() {
            true => Ok(()),
            false => Err(io::Error::other("other words came")),
        }
    }

    /// Ends it by a reset, from one of its ends.
    pub(crate) fn reset(self, by_client: bool) {
        match by_client {
            true => end_by_reset(self.client, self.server.stream),
            false => end_by_reset(self.server.stream, self.client),
        }
    }

    /// Ends it in order, the server first.
    pub(crate) fn close(self) {
        drop(self.server.stream);
        let _ = self.client.set_read_timeout(Some(Duration::from_millis(PATIENCE as u64)));
        let end = (&self.client).read(&mut [0; 64]);
        assert!(matches!(end, Ok(0)), "the server says that it is over: {end:?}");
    }
}

/// Has one end of a connection reset it, and waits until the other knows.
pub(crate) fn end_by_reset(by: TcpStream, other: TcpStream) {
    let _ = setsockopt(&by.as_fd(), sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 });
    drop(by);
    let _ = other.set_read_timeout(Some(Duration::from_millis(PATIENCE as u64)));
    // A greeting may come first.
    while matches!((&other).read(&mut [0; 64]), Ok(length) if length > 0) {}
}

/// What a client does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    user: User,
    is_inbound: bool,
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    /// The interface that its socket is bound to.
    pub(crate) interface: Option<&'a str>,
    /// Whether somebody should accept it.
    pub(crate) hopeful: bool,
}

impl<'a> Call<'a> {
    pub(crate) fn of(kind: Kind, family: FamilyName, port: u16) -> Self {
        let (from, to) = (kind.from(family, port), kind.to(family));
        Self { user: kind.user(), is_inbound: kind.is_inbound(), from, to, interface: None, hopeful: true }
    }

    pub(crate) fn by(mut self, interface: &'a str) -> Self {
        self.interface = Some(interface);
        self
    }

    /// From any address, to this one.
    pub(crate) fn to(mut self, to: SocketAddr) -> Self {
        self.from.set_ip(if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) });
        self.to = to;
        self
    }

    pub(crate) fn hopeless(mut self) -> Self {
        self.hopeful = false;
        self
    }

    /// Connects, and tells who accepted it, if anybody did.
    pub(crate) fn place(self, lab: &Lab) -> (Option<Accepted>, io::Result<TcpStream>) {
        let netns = if self.is_inbound { &lab.world.outside } else { &lab.world.workload };
        self.place_in(lab, netns)
    }

    pub(crate) fn place_in(self, lab: &Lab, netns: &Netns) -> (Option<Accepted>, io::Result<TcpStream>) {
        let connected = netns.enter_as(self.user, || self.connect());
        let end = Instant::now() + Duration::from_millis(PATIENCE as u64);
        loop {
            let accepted = lab.accepted().into_iter().find(|accepted| accepted.peer.port() == self.from.port());
            // A connection that is made is accepted as soon as the listener knows.
            if accepted.is_some() || connected.is_err() || Instant::now() > end {
                return (accepted, connected);
            }
            sleep(Duration::from_millis(1));
        }
    }

    fn connect(self) -> io::Result<TcpStream> {
        let family = if self.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        let patience = if self.hopeful { PATIENCE } else { IMPATIENCE };
        // The time to send also bounds the time to connect (man 7 socket).
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(patience))?;
        if let Some(interface) = self.interface {
            setsockopt(&socket, sockopt::BindToDevice, &interface.into())?;
        }
        when_free(|| Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(self.from))?))?;
        let to = SockaddrStorage::from(self.to);
        let began = Instant::now();
        let connected = loop {
            match connect(socket.as_raw_fd(), &to) {
                // The socket that had these ports before may not be gone yet.
                Err(Errno::EADDRNOTAVAIL) if began.elapsed() < Duration::from_millis(PATIENCE as u64) => {
                    sleep(Duration::from_millis(1));
                }
                result => break result,
            }
        };
        match connected {
            Err(Errno::EINPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
            result => Ok(result.map(|()| TcpStream::from(socket))?),
        }
    }
}
