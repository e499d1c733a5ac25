use std::fmt;
use std::io::{self, BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::{Answer, when_free};

/// How long a client waits for an answer that should come: longer than it takes on the busiest machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it waits where none should come.
const IMPATIENCE: Duration = Duration::from_millis(1000);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// A client that asks one server who it is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    protocol: Protocol,
    to: SocketAddr,
    from: Option<IpAddr>,
    port: u16,
    patience: Duration,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A server answered.
    Reached(Reached),
    /// A host said that nobody serves there.
    Refused,
    /// Nobody said anything.
    Silence,
    /// Something that no check expects.
    Failed(String),
}

/// What a server answered, and what the client saw itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reached {
    /// What the server saw.
    pub(crate) answer: Answer,
    /// The client's own address.
    pub(crate) local: SocketAddr,
}

impl Client {
    /// A client of a server.
    pub(crate) fn new(protocol: Protocol, to: SocketAddr) -> Self {
        Self { protocol, to, from: None, port: 0, patience: PATIENCE }
    }

    /// From this address instead of the one that the kernel would choose.
    pub(crate) fn from(mut self, addr: IpAddr) -> Self {
        self.from = Some(addr);
        self
    }

    /// From this port.
    pub(crate) fn by_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Of which no answer is expected.
    pub(crate) fn hopeless(mut self) -> Self {
        self.patience = IMPATIENCE;
        self
    }

    /// Asks, with a bound on the time, as the user and in the namespace of the calling thread.
    pub(crate) fn outcome(self) -> Outcome {
        let asked = match self.protocol {
            Protocol::Tcp => self.ask_by_tcp(),
            Protocol::Udp => self.ask_by_udp(),
        };
        match asked {
            Ok(reached) => Outcome::Reached(reached),
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Outcome::Refused,
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Outcome::Silence,
                _ => Outcome::Failed(error.to_string()),
            },
        }
    }

    /// Connects by TCP.
    pub(crate) fn connect(self) -> io::Result<TcpStream> {
        let family = match self.to {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let socket: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        // The time to send also bounds the time to connect (man 7 socket).
        setsockopt(&socket, sockopt::SendTimeout, &TimeVal::milliseconds(self.patience.as_millis() as i64))?;
        if self.from.is_some() || self.port != 0 {
            when_free(|| Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(self.source()))?))?;
        }
        match connect(socket.as_raw_fd(), &SockaddrStorage::from(self.to)) {
            Err(Errno::EINPROGRESS) => return Err(io::ErrorKind::TimedOut.into()),
            result => result?,
        }
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(self.patience))?;
        Ok(stream)
    }

    fn ask_by_tcp(self) -> io::Result<Reached> {
        let stream = self.connect()?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        reached(&line, stream.local_addr()?)
    }

    /// The socket is connected, so an answer from another address than the one asked is not heard.
    fn ask_by_udp(self) -> io::Result<Reached> {
        let socket = when_free(|| UdpSocket::bind(self.source()))?;
        socket.set_read_timeout(Some(self.patience))?;
        socket.connect(self.to)?;
        socket.send(b"who are you?")?;
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer)?;
        reached(&String::from_utf8_lossy(&buffer[..length]), socket.local_addr()?)
    }

    fn source(self) -> SocketAddr {
        let any = match self.to {
            SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        SocketAddr::new(self.from.unwrap_or(any), self.port)
    }
}

fn reached(line: &str, local: SocketAddr) -> io::Result<Reached> {
    let answer = line.parse().map_err(|()| io::Error::other(format!("an answer that makes no sense: {line:?}")))?;
    Ok(Reached { answer, local })
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reached(Reached { answer, local }) => {
                write!(f, "{} at {} answered", answer.who, answer.local)?;
                match answer.original {
                    Some(original) => write!(f, ", asked for {original}")?,
                    None => f.write_str(", knowing of no original destination")?,
                }
                write!(f, ", by {} (the client is {local})", answer.peer)
            }
            Self::Refused => f.write_str("refused"),
            Self::Silence => f.write_str("silence"),
            Self::Failed(why) => f.write_str(why),
        }
    }
}
