//! As much of HTTP/1.1 as it takes: a server that says who asked, and a client that knows who it was.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// Longer than any answer takes in a world that works.
const PATIENCE: Duration = Duration::from_secs(60);

/// What follows in each answer, so that it takes many segments.
static FILLING: [u8; 100_000] = [b'.'; 100_000];

/// What a client knows after its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The client's own address.
    pub(crate) client: SocketAddr,
    /// The client's address as the server saw it.
    pub(crate) seen: SocketAddr,
}

/// Answers requests by both address families, for as long as the process lives.
pub(crate) fn serve(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("::", port))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(&stream));
        }
    });
    Ok(())
}

fn answer(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|header| !header.is_empty()) {}
    let body = format!("{request}\n{}\n", canonical(stream.peer_addr()?));
    let length = body.len() + FILLING.len();
    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")?;
    stream.write_all(&FILLING)
}

/// Asks for `path` and checks that the whole answer is to this request.
pub(crate) fn get(server: SocketAddr, path: &str) -> io::Result<Answer> {
    let text = exchange(server, path)?;
    let wrong = |part: &str| io::Error::other(format!("an answer with the wrong {part} to {path}"));
    let (head, body) = text.1.split_once("\r\n\r\n").ok_or_else(|| wrong("shape"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(wrong("status"));
    }
    let mut parts = body.splitn(3, '\n');
    if parts.next() != Some(&request(path)) {
        return Err(wrong("request line"));
    }
    let seen = parts.next().and_then(|seen| seen.parse().ok()).ok_or_else(|| wrong("address"))?;
    if parts.next().map(str::as_bytes) != Some(&FILLING) {
        return Err(wrong("filling"));
    }
    Ok(Answer { client: text.0, seen })
}

/// The text of an answer, and the client's address.
pub(crate) fn exchange(server: SocketAddr, path: &str) -> io::Result<(SocketAddr, String)> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let client = stream.local_addr()?;
    write!(stream, "{}\r\nHost: {server}\r\nConnection: close\r\n\r\n", request(path))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok((client, text))
}

fn request(path: &str) -> String {
    format!("GET {path} HTTP/1.1")
}

/// An IPv4 client of an IPv6 socket as what it is.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
