use std::fmt;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use kumatp::net::FamilyName;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, Shutdown, SockaddrStorage, getsockopt, recvmsg, sendmsg, setsockopt,
    shutdown, sockopt,
};

use super::{Netns, User, when_free};

/// How long a server waits for a client that says nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a server saw of a client, and who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The server.
    pub(crate) who: String,
    /// Where the client wanted to go before the kernel translated it, if it knows.
    pub(crate) original: Option<SocketAddr>,
    /// The client.
    pub(crate) peer: SocketAddr,
    /// The server's own address on this connection.
    pub(crate) local: SocketAddr,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let original = self.original.map_or_else(|| "-".to_owned(), |addr| addr.to_string());
        write!(f, "{} {original} {} {}", self.who, self.peer, self.local)
    }
}

impl FromStr for Answer {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let [who, original, peer, local] = text.split_whitespace().collect::<Vec<_>>()[..] else { return Err(()) };
        Ok(Self {
            who: who.to_owned(),
            original: if original == "-" { None } else { Some(original.parse().map_err(drop)?) },
            peer: peer.parse().map_err(drop)?,
            local: local.parse().map_err(drop)?,
        })
    }
}

/// A server on every address of one family. It stops when this is dropped.
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
    listener: Option<Arc<TcpListener>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// The name of the sidecar's inbound listener.
    pub(crate) const INBOUND: &str = "inbound";

    /// The name of its outbound listener.
    pub(crate) const OUTBOUND: &str = "outbound";

    /// The name of its DNS listener.
    pub(crate) const DNS: &str = "dns";

    /// Answers each connection with one line, an [`Answer`], and then says back whatever it hears.
    pub(crate) fn tcp(netns: &Netns, user: User, who: &'static str, family: FamilyName, port: u16) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        netns.enter_as(user, || {
            let listener = Arc::new(when_free(|| TcpListener::bind((any(family), port)))?);
            let (serving, stopped) = (listener.clone(), stop.clone());
            // Threads take over the namespace and the user of the thread that starts them.
            let thread = thread::spawn(move || {
                for stream in serving.incoming() {
                    match stream {
                        Ok(stream) => drop(thread::spawn(move || greet_and_echo(stream, who, family))),
                        Err(_) if stopped.load(Ordering::Relaxed) => return,
                        Err(_) => {}
                    }
                }
            });
            Ok(Self { stop, listener: Some(listener), thread: Some(thread) })
        })
    }

    /// Answers each datagram with an [`Answer`].
    pub(crate) fn udp(netns: &Netns, user: User, who: &'static str, family: FamilyName, port: u16) -> io::Result<Self> {
        Self::datagrams(netns, user, family, port, move |_, peer, asked| {
            let local = SocketAddr::new(asked, port);
            let answer = Answer { who: who.to_owned(), original: None, peer, local };
            Some(answer.to_string().into_bytes())
        })
    }

    /// Answers each datagram with what `answer` makes of it, of who sent it and of the address that it was sent to. The answer is
    /// from that address: from any other, the kernel would not know it for one to a translated query.
    pub(crate) fn datagrams(
        netns: &Netns,
        user: User,
        family: FamilyName,
        port: u16,
        answer: impl Fn(&[u8], SocketAddr, IpAddr) -> Option<Vec<u8>> + Send + 'static,
    ) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        netns.enter_as(user, || {
            let socket = when_free(|| UdpSocket::bind((any(family), port)))?;
            socket.set_read_timeout(Some(Duration::from_millis(250)))?;
            match family {
                FamilyName::V4 => setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
                FamilyName::V6 => setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
            }
            let stopped = stop.clone();
            let thread = thread::spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    // A read that timed out, or a complaint about a client that is gone.
                    let _ = answer_datagram(&socket, &answer);
                }
            });
            Ok(Self { stop, listener: None, thread: Some(thread) })
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(listener) = &self.listener {
            // Wakes the thread that accepts.
            let _ = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        if let (Some(thread), Some(_)) = (self.thread.take(), &self.listener) {
            let _ = thread.join();
        }
    }
}

fn any(family: FamilyName) -> IpAddr {
    match family {
        FamilyName::V4 => Ipv4Addr::UNSPECIFIED.into(),
        FamilyName::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

fn greet_and_echo(mut stream: TcpStream, who: &str, family: FamilyName) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let answer = Answer {
        who: who.to_owned(),
        original: original_destination(&stream, family),
        peer: stream.peer_addr().ok()?,
        local: stream.local_addr().ok()?,
    };
    stream.write_all(format!("{answer}\n").as_bytes()).ok()?;
    let mut buffer = [0; 256];
    loop {
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => stream.write_all(&buffer[..length]).ok()?,
            _ => return None,
        }
    }
}

/// Where the connection was going before it was translated: what a sidecar asks for to know its route. None if the
/// kernel does not track the connection.
fn original_destination(stream: &TcpStream, family: FamilyName) -> Option<SocketAddr> {
    match family {
        FamilyName::V4 => {
            let addr = getsockopt(stream, sockopt::OriginalDst).ok()?;
            let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(addr.sin_port)))
        }
        FamilyName::V6 => {
            let addr = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
            Some(SocketAddr::new(Ipv6Addr::from(addr.sin6_addr.s6_addr).into(), u16::from_be(addr.sin6_port)))
        }
    }
}

fn answer_datagram(
    socket: &UdpSocket,
    answer: impl Fn(&[u8], SocketAddr, IpAddr) -> Option<Vec<u8>>,
) -> io::Result<()> {
    let mut buffer = [0; 512];
    let mut iov = [IoSliceMut::new(&mut buffer)];
    let mut control = nix::cmsg_space!(in6_pktinfo);
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::empty())?;
    let peer = message.address.expect("datagrams have a sender");
    let mut asked = None;
    for item in message.cmsgs()? {
        match item {
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                asked = Some(IpAddr::from(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr))));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => asked = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into()),
            _ => {}
        }
    }
    let asked = asked.ok_or_else(|| io::Error::other("no packet information"))?;
    let from = socket_addr(&peer).expect("an internet address");
    let length = message.bytes;
    let Some(answer) = answer(&buffer[..length], from, asked) else { return Ok(()) };
    let iov = [IoSlice::new(&answer)];
    match asked {
        IpAddr::V4(ip) => {
            let from = in_addr { s_addr: u32::from(ip).to_be() };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: from, ipi_addr: from };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(socket.as_raw_fd(), &iov, &control, MsgFlags::empty(), Some(&peer))?;
        }
        IpAddr::V6(ip) => {
            let info = in6_pktinfo { ipi6_ifindex: 0, ipi6_addr: in6_addr { s6_addr: ip.octets() } };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(socket.as_raw_fd(), &iov, &control, MsgFlags::empty(), Some(&peer))?;
        }
    }
    Ok(())
}

fn socket_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(four) = addr.as_sockaddr_in() {
        return Some(SocketAddr::new(four.ip().into(), four.port()));
    }
    addr.as_sockaddr_in6().map(|six| SocketAddr::new(six.ip().into(), six.port()))
}
