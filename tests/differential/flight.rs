//! Sends packets, all at once, and looks where they end.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use kumatp::net::Port;
use kumatp::simulate::{Direction, Tracking};
use kumatp::{Config, Facts};
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo, linger};
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, connect,
    getsockopt, listen, recv, send, sendmsg, sendto, setsockopt, socket, sockopt,
};

use crate::ground::{Ground, hear, now};
use crate::netns::User;
use crate::ports::when_free;
use crate::shot::Shot;
use crate::tracking::Entry;
use crate::wire::{self, ACK, FIN, Flow, SYN, Seen};

/// How long something that is expected may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long is waited for what is not expected.
const GRACE: Duration = Duration::from_millis(2);

/// What a datagram begins with, before the number of its packet.
const QUERY: &[u8; 4] = b"ask:";
const ANSWER: &[u8; 4] = b"say:";

/// Where a packet was seen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sightings {
    /// Delivered on the host, to these addresses.
    pub(crate) arrived: BTreeSet<SocketAddr>,
    /// Gone by an interface, to these addresses.
    pub(crate) left: BTreeSet<(&'static str, SocketAddr)>,
    /// What a listener of the sidecar knows, for each connection and query.
    pub(crate) heard: Vec<Hearing>,
    /// What connection tracking knows.
    pub(crate) tracked: Option<Entry>,
    /// Whether an answer to a query came back: from where the query was sent to, or from elsewhere.
    pub(crate) answered: Option<bool>,
    /// Why it could not be sent.
    pub(crate) failed: Option<String>,
}

/// What a listener of the sidecar knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hearing {
    /// Its port.
    pub(crate) port: u16,
    /// Where the client wanted to go; nobody knows of a query.
    pub(crate) original: Option<SocketAddr>,
}

/// The sidecar, which listens where a configuration says.
struct Sidecar {
    tcp: Vec<(u16, TcpListener)>,
    dns: Vec<OwnedFd>,
    dns_port: u16,
    connections: Vec<TcpStream>,
}

/// Sends the packets, in the host's namespace, until all is as expected or too much time has passed. `is_expected` gets the
/// number of a packet and where it was seen.
pub(crate) fn fly(
    ground: &Ground,
    config: &Config,
    facts: &Facts,
    shots: &[Shot],
    is_expected: impl Fn(usize, &Sightings) -> bool,
) -> io::Result<Vec<Sightings>> {
    let mut flight = Flight {
        ground,
        shots,
        sidecar: Sidecar::new(config, facts)?,
        clients: HashMap::new(),
        by_source: shots
            .iter()
            .enumerate()
            .map(|(number, shot)| ((shot.flow.protocol, shot.flow.source), number))
            .collect(),
        seen: vec![Sightings::default(); shots.len()],
    };
    for (number, shot) in shots.iter().enumerate() {
        if let Err(error) = flight.send(number, shot) {
            flight.seen[number].failed = Some(error.to_string());
        }
        flight.look()?;
    }
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && !flight.seen.iter().enumerate().all(|(number, seen)| is_expected(number, seen)) {
        thread::sleep(Duration::from_micros(300));
        flight.look()?;
    }
    thread::sleep(GRACE);
    flight.look()?;
    flight.look()?;
    Ok(flight.finish())
}

struct Flight<'a> {
    ground: &'a Ground,
    shots: &'a [Shot],
    sidecar: Sidecar,
    clients: HashMap<usize, OwnedFd>,
    by_source: HashMap<(u8, SocketAddr), usize>,
    seen: Vec<Sightings>,
}

impl Flight<'_> {
    fn send(&mut self, number: usize, shot: &Shot) -> io::Result<()> {
        if let Some(interface) = &shot.interface {
            return self.ground.inject(interface, &bytes(number, shot));
        }
        let ordinary = matches!(shot.tracking, Tracking::New | Tracking::Reused);
        match shot.flow.protocol {
            wire::TCP if ordinary => {
                let client = client(shot, SockType::Stream)?;
                match connect(client.as_raw_fd(), &SockaddrStorage::from(shot.flow.destination)) {
                    Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED) => {}
                    Err(error) => return Err(error.into()),
                }
                self.clients.insert(number, client);
            }
            wire::UDP if ordinary => {
                let client = client(shot, SockType::Datagram)?;
                connect(client.as_raw_fd(), &SockaddrStorage::from(shot.flow.destination))?;
                send(client.as_raw_fd(), &payload(QUERY, number), MsgFlags::empty())?;
                self.clients.insert(number, client);
            }
            _ => {
                let raw = owned_by(shot.user, || {
                    Ok(socket(family(shot.flow), SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?)
                })?;
                let to = SockaddrStorage::from(SocketAddr::new(shot.flow.destination.ip(), 0));
                sendto(raw.as_raw_fd(), &bytes(number, shot), &to, MsgFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Notes all that was seen since the last time, and answers what wants an answer.
    fn look(&mut self) -> io::Result<()> {
        for seen in self.ground.delivered()? {
            if let Some(number) = self.number_of(&seen) {
                self.seen[number].arrived.insert(seen.flow.destination);
            }
        }
        for (interface, seen) in self.ground.left()? {
            self.look_at_leaving(interface, &seen)?;
        }
        for entry in self.ground.tracker.news()? {
            let key = (entry.original.protocol, entry.original.source);
            let Some(number) = self.by_source.get(&key).copied() else { continue };
            if self.shots[number].flow == entry.original {
                self.seen[number].tracked.get_or_insert(entry);
            }
        }
        self.look_at_connections()?;
        self.look_at_queries()?;
        for (number, client) in &self.clients {
            let mut buffer = [0; 64];
            if self.shots[*number].flow.protocol != wire::UDP {
                continue;
            }
            let received = now(recv(client.as_raw_fd(), &mut buffer, MsgFlags::empty()))?;
            if received.is_some_and(|length| buffer[..length] == payload(ANSWER, *number)) {
                self.seen[*number].answered = Some(true);
            }
        }
        Ok(())
    }

    /// Which packet of ours it is, if it is one.
    fn number_of(&self, seen: &Seen) -> Option<usize> {
        match seen.flow.protocol {
            wire::TCP => self.by_source.get(&(wire::TCP, seen.flow.source)).copied(),
            // An echo has the number as well, on its way back.
            _ => numbered(QUERY, &seen.payload).filter(|number| {
                self.shots.get(*number).is_some_and(|shot| shot.flow.source.ip() == seen.flow.source.ip())
            }),
        }
    }

    fn look_at_leaving(&mut self, interface: &'static str, seen: &Seen) -> io::Result<()> {
        if let Some(number) = self.number_of(seen) {
            self.seen[number].left.insert((interface, seen.flow.destination));
            if seen.flow.protocol == wire::UDP && self.shots[number].direction == Direction::Outbound {
                self.ground.inject(interface, &wire::udp(seen.flow.reversed(), &payload(ANSWER, number)))?;
            }
        }
        if let (wire::UDP, Some(number)) = (seen.flow.protocol, numbered(ANSWER, &seen.payload)) {
            if let Some(shot) = self.shots.get(number) {
                self.seen[number].answered = Some(seen.flow == shot.flow.reversed());
            }
        }
        let back = self.by_source.get(&(wire::TCP, seen.flow.destination)).map(|number| &self.shots[*number]);
        let is_answer = |shot: &&Shot| seen.flags == SYN | ACK && seen.flow == shot.flow.reversed();
        let answered = back.filter(|_| seen.flow.protocol == wire::TCP).filter(is_answer);
        if let Some((shot, interface)) = answered.and_then(|shot| Some((shot, shot.interface.as_ref()?))) {
            let ack = wire::tcp(shot.flow, ACK, 2, seen.sequence.wrapping_add(1));
            self.ground.inject(interface, &ack)?;
        }
        Ok(())
    }

    fn look_at_connections(&mut self) -> io::Result<()> {
        for (port, listener) in &self.sidecar.tcp {
            // An error is that there is none, or of one that is gone already.
            while let Ok((stream, peer)) = listener.accept() {
                if let Some(number) = self.by_source.get(&(wire::TCP, peer)) {
                    let original = original_destination(&stream);
                    self.seen[*number].heard.push(Hearing { port: *port, original });
                }
                self.sidecar.connections.push(stream);
            }
        }
        Ok(())
    }

    fn look_at_queries(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64];
        for listener in &self.sidecar.dns {
            while let Some(heard) = hear(listener, &mut buffer)? {
                let Some(number) = numbered(QUERY, &buffer[..heard.length]).filter(|number| *number < self.shots.len())
                else {
                    continue;
                };
                self.seen[number].heard.push(Hearing { port: self.sidecar.dns_port, original: None });
                if let Some(asked) = heard.asked {
                    // What cannot be answered stays without an answer.
                    let _ = answer(listener, asked, heard.peer, &payload(ANSWER, number));
                }
            }
        }
        Ok(())
    }

    /// Ends all connections without a farewell that would come into the next flight.
    fn finish(self) -> Vec<Sightings> {
        let at_once = linger { l_onoff: 1, l_linger: 0 };
        for socket in self.clients.values().map(AsFd::as_fd).chain(self.sidecar.connections.iter().map(AsFd::as_fd)) {
            let _ = setsockopt(&socket, sockopt::Linger, &at_once);
        }
        self.seen
    }
}

impl Sidecar {
    fn new(config: &Config, facts: &Facts) -> io::Result<Self> {
        let redirect = &config.redirect;
        let uid = facts.sidecar_uid.number();
        let user = User { uid, gid: uid };
        let ports: BTreeSet<u16> = [redirect.inbound.port, redirect.outbound.port].map(Port::number).into();
        let dns_port = redirect.dns.port.number();
        owned_by(user, || {
            let (mut tcp, mut dns) = (Vec::new(), Vec::new());
            for any in [IpAddr::from([0; 4]), IpAddr::from([0; 16])] {
                for port in &ports {
                    let listener = bound(SockType::Stream, SocketAddr::new(any, *port))?;
                    listen(&listener, Backlog::MAXCONN)?;
                    tcp.push((*port, TcpListener::from(listener)));
                }
                let listener = bound(SockType::Datagram, SocketAddr::new(any, dns_port))?;
                match any {
                    IpAddr::V4(_) => setsockopt(&listener, sockopt::Ipv4PacketInfo, &true)?,
                    IpAddr::V6(_) => setsockopt(&listener, sockopt::Ipv6RecvPacketInfo, &true)?,
                }
                dns.push(listener);
            }
            Ok(Self { tcp, dns, dns_port, connections: Vec::new() })
        })
    }
}

/// Runs `work` as a user, to whom the sockets that it makes belong.
fn owned_by<R>(user: User, work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    user.become_it();
    let result = work();
    User::ROOT.become_it();
    result
}

fn client(shot: &Shot, kind: SockType) -> io::Result<OwnedFd> {
    owned_by(shot.user, || bound(kind, shot.flow.source))
}

/// A socket that does not wait.
fn bound(kind: SockType, addr: SocketAddr) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    let free = || Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(addr))?);
    when_free(free).map_err(|error| io::Error::other(format!("{addr}: {error}")))?;
    Ok(socket)
}

fn family(flow: Flow) -> AddressFamily {
    if flow.source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The whole packet, for those that no ordinary socket makes.
fn bytes(number: usize, shot: &Shot) -> Vec<u8> {
    let flow = shot.flow;
    let payload = payload(QUERY, number);
    match (flow.protocol, shot.tracking) {
        (wire::TCP, Tracking::MidStream | Tracking::Lost) => wire::tcp(flow, ACK, 1, 1),
        (wire::TCP, Tracking::Invalid) => wire::tcp(flow, SYN | FIN, 1, 0),
        (wire::TCP, _) => wire::tcp(flow, SYN, 1, 0),
        (wire::UDP, _) => wire::udp(flow, &payload),
        (wire::ICMP | wire::ICMPV6, _) => wire::echo(flow, &payload),
        _ => wire::ip(flow, &payload),
    }
}

fn payload(kind: &[u8; 4], number: usize) -> Vec<u8> {
    [kind.as_slice(), &(number as u32).to_be_bytes()].concat()
}

fn numbered(kind: &[u8; 4], payload: &[u8]) -> Option<usize> {
    let number = payload.strip_prefix(kind)?;
    Some(u32::from_be_bytes(number.try_into().ok()?) as usize)
}

/// Answers from the address that was asked: from any other, the kernel would not know the answer for one to a translated query.
fn answer(socket: &OwnedFd, from: IpAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
    let (iov, to) = ([IoSlice::new(payload)], SockaddrStorage::from(to));
    match from {
        IpAddr::V4(from) => {
            let from = in_addr { s_addr: u32::from(from).to_be() };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: from };
            sendmsg(socket.as_raw_fd(), &iov, &[ControlMessage::Ipv4PacketInfo(&info)], MsgFlags::empty(), Some(&to))?;
        }
        IpAddr::V6(from) => {
            let info = in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: in6_addr { s6_addr: from.octets() } };
            sendmsg(socket.as_raw_fd(), &iov, &[ControlMessage::Ipv6PacketInfo(&info)], MsgFlags::empty(), Some(&to))?;
        }
    }
    Ok(())
}

/// Where a connection was going before it was translated, as a sidecar asks for it.
fn original_destination(stream: &TcpStream) -> Option<SocketAddr> {
    if stream.local_addr().ok()?.is_ipv4() {
        let addr = getsockopt(stream, sockopt::OriginalDst).ok()?;
        let ip = u32::from_be(addr.sin_addr.s_addr).to_be_bytes();
        return Some(SocketAddr::new(ip.into(), u16::from_be(addr.sin_port)));
    }
    let addr = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
    Some(SocketAddr::new(addr.sin6_addr.s6_addr.into(), u16::from_be(addr.sin6_port)))
}
