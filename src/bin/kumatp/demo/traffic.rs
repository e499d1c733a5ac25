//! Servers that say who reached them, clients that ask, and what follows from the answer.
//!
//! An answer is a few lines. The server writes `seen 192.0.2.1:40000`, the address that the
//! connection came from. A sidecar that the connection passed through puts a line before it:
//! `relayed 15001 192.0.2.2:80`, its own port and the destination that it read from the kernel.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

/// How long anything on a socket may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// The protocol of a connection.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// What happened to a connection.
#[derive(Debug, PartialEq)]
pub(crate) enum ConnectionResult {
    /// It reached the server that it was meant for, as it was sent.
    Direct,
    /// The sidecar got it, on this port, and relayed it.
    Relayed(u16),
    /// Neither.
    Other(String),
    /// It was not made, for this reason.
    Skipped(&'static str),
}

impl fmt::Display for ConnectionResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Relayed(port) => write!(f, "through the sidecar's port {port}"),
            Self::Other(problem) => f.write_str(problem),
            Self::Skipped(reason) => write!(f, "skipped: {reason}"),
        }
    }
}

/// Serves TCP connections for ever.
pub(crate) fn serve_tcp(address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let _ = answer(&mut stream, peer);
        }
    });
    Ok(())
}

fn answer(stream: &mut TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = String::new();
    stream.read_to_string(&mut request)?;
    write!(stream, "seen {peer}\n{request}")
}

/// Serves UDP queries for ever.
pub(crate) fn serve_udp(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut query) {
            let answer = [format!("seen {peer}\n").as_bytes(), &query[..length]].concat();
            let _ = socket.send_to(&answer, peer);
        }
    });
    Ok(())
}

/// Makes a connection from here, and finds out what happened to it.
pub(crate) fn visit(target: SocketAddr, protocol: Protocol) -> ConnectionResult {
    let visited = match protocol {
        Protocol::Tcp => visit_tcp(target),
        Protocol::Udp => visit_udp(target),
    };
    visited.unwrap_or_else(|error| ConnectionResult::Other(format!("failed: {error}")))
}

fn visit_tcp(target: SocketAddr) -> io::Result<ConnectionResult> {
    let mut stream = TcpStream::connect_timeout(&target, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(GREETING.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(interpret(&answer, stream.local_addr()?, target))
}

fn visit_udp(target: SocketAddr) -> io::Result<ConnectionResult> {
    let socket = connect_udp(target)?;
    socket.send(GREETING.as_bytes())?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    Ok(interpret(&String::from_utf8_lossy(&answer[..length]), socket.local_addr()?, target))
}

/// A UDP socket that talks to one address.
pub(crate) fn connect_udp(target: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(target)?;
    Ok(socket)
}

const GREETING: &str = "hello";

/// Reads an answer to a connection from `local` to `target`.
fn interpret(answer: &str, local: SocketAddr, target: SocketAddr) -> ConnectionResult {
    let lines: Vec<Vec<&str>> = answer.lines().map(|line| line.split(' ').collect()).collect();
    let lines: Vec<&[&str]> = lines.iter().map(Vec::as_slice).collect();
    let senseless =
        || ConnectionResult::Other(format!("got {:?} for an answer", answer.lines().last().unwrap_or_default()));
    match lines[..] {
        [["seen", peer], [GREETING]] if *peer == local.to_string() => ConnectionResult::Direct,
        [["relayed", _, destination], ..] if *destination != target.to_string() && *destination != UNKNOWN => {
            ConnectionResult::Other(format!("the sidecar took {destination} for its destination"))
        }
        [["relayed", port, _], ["seen", peer], [GREETING]] if *peer != local.to_string() => {
            port.parse().map_or_else(|_| senseless(), ConnectionResult::Relayed)
        }
        [["relayed", ..], ["relayed", ..], ..] => ConnectionResult::Other("the sidecar called itself".into()),
        _ => senseless(),
    }
}

/// A destination that the sidecar does not know: the kernel tells it for TCP only.
pub(crate) const UNKNOWN: &str = "-";
