//! The role `sidecar`: a transparent relay that stands for the proxy of the mesh.
//!
//! As the proxy does, it learns from the kernel where a redirected connection was going, and makes
//! one of its own to there. It tells the client so by a line before what the server says.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::thread;

use kumatp::net::{Family as _, Uid, V4, V6};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, bind, connect, getsockopt, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use nix::unistd::setuid;

use super::Result;
use super::role::{say, told};
use super::traffic::{PATIENCE, Protocol, UNKNOWN, connect_udp, visit};
use super::world::{APP, APP_V6, DNS, DNS_PORT, INBOUND_PORT, Namespace, OUTBOUND_PORT, namespace_id};

/// Runs until its input ends. What it is told are addresses: it connects to each, and says what
/// happened.
///
/// Rules know the sidecar by its uid. Where there is only one, it cannot be told from the workload,
/// so then it is given another namespace to connect to the outside from.
///
/// `host` is the identity of the network namespace that the demonstration was started in. Here, no port is ever opened there.
pub(crate) fn run(host: &str, elsewhere: Option<&str>) -> Result<()> {
    if host == namespace_id()? {
        return Err("the sidecar of the demonstration runs in namespaces of its own only".into());
    }
    let elsewhere: Option<&'static Namespace> = match elsewhere {
        Some(path) => Some(Box::leak(Box::new(Namespace::open(path)?))),
        None => {
            setuid(Uid::SIDECAR.number().into())?;
            None
        }
    };
    listen(Ipv4Addr::UNSPECIFIED.into(), INBOUND_PORT, |destination| {
        dial_from(V4::passthrough().addr().into(), destination)
    })?;
    listen(Ipv4Addr::UNSPECIFIED.into(), OUTBOUND_PORT, move |destination| dial(elsewhere, destination))?;
    // Without IPv6 in the kernel, nobody will call.
    let _ = listen(APP_V6.ip(), INBOUND_PORT, |destination| dial_from(V6::passthrough().addr().into(), destination));
    let _ = listen(APP_V6.ip(), OUTBOUND_PORT, move |destination| dial(elsewhere, destination));
    relay_dns(elsewhere)?;

    say("ready")?;
    for target in told() {
        say(visit(target.parse()?, Protocol::Tcp))?;
    }
    Ok(())
}

/// A new connection to an outbound destination.
fn dial(elsewhere: Option<&Namespace>, destination: SocketAddr) -> io::Result<TcpStream> {
    let dial = || TcpStream::connect_timeout(&destination, PATIENCE);
    elsewhere.map_or_else(dial, |namespace| namespace.run(dial))
}

/// A new connection to the workload, from the address by which the rules know that the sidecar only
/// hands something over.
fn dial_from(source: IpAddr, destination: SocketAddr) -> io::Result<TcpStream> {
    let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::new(1, 0))?; // of connect, too
    bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(source, 0)))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(destination))?;
    Ok(socket.into())
}

/// Relays connections that come to a port of this address, for ever.
fn listen(
    address: IpAddr,
    port: u16,
    dial: impl Fn(SocketAddr) -> io::Result<TcpStream> + Copy + Send + 'static,
) -> io::Result<()> {
    let listener = TcpListener::bind((address, port))?;
    // If the rules sent its own connections back to it, it would go on calling itself for ever.
    const MOST_AT_ONCE: usize = 50;
    let running = Arc::new(());
    thread::spawn(move || {
        while let Ok((mut client, _)) = listener.accept() {
            if Arc::strong_count(&running) > MOST_AT_ONCE {
                continue;
            }
            let running = Arc::clone(&running);
            thread::spawn(move || {
                let _running = running;
                if let Err(error) = relay(&mut client, port, dial) {
                    let _ = writeln!(client, "the sidecar failed: {error}");
                }
            });
        }
    });
    Ok(())
}

fn relay(client: &mut TcpStream, port: u16, dial: impl Fn(SocketAddr) -> io::Result<TcpStream>) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    let destination = original_destination(client)?;
    let mut server = dial(destination)?;
    server.set_read_timeout(Some(PATIENCE))?;
    io::copy(client, &mut server)?;
    server.shutdown(Shutdown::Write)?;
    writeln!(client, "relayed {port} {destination}")?;
    io::copy(&mut server, client)?;
    Ok(())
}

/// Where a connection was going before it was redirected here.
fn original_destination(client: &TcpStream) -> io::Result<SocketAddr> {
    Ok(match client.local_addr()? {
        SocketAddr::V4(_) => SocketAddrV4::from(SockaddrIn::from(getsockopt(client, sockopt::OriginalDst)?)).into(),
        SocketAddr::V6(_) => {
            SocketAddrV6::from(SockaddrIn6::from(getsockopt(client, sockopt::Ip6tOriginalDst)?)).into()
        }
    })
}

/// Relays DNS queries to the name server, for ever.
fn relay_dns(elsewhere: Option<&'static Namespace>) -> io::Result<()> {
    // Bound to the very address that queries are redirected to, so that answers come from it: the one that they are from.
    let socket = UdpSocket::bind((APP.ip(), DNS_PORT))?;
    let ask = move |query: &[u8]| -> io::Result<Vec<u8>> {
        let connect = || connect_udp(DNS);
        let upstream = elsewhere.map_or_else(connect, |namespace| namespace.run(connect))?;
        upstream.send(query)?;
        let mut answer = vec![0; 512];
        let length = upstream.recv(&mut answer)?;
        answer.truncate(length);
        Ok(answer)
    };
    thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query) {
            let answer = match ask(&query[..length]) {
                Ok(answer) => [format!("relayed {DNS_PORT} {UNKNOWN}\n").as_bytes(), &answer].concat(),
                Err(error) => format!("the sidecar failed: {error}\n").into_bytes(),
            };
            let _ = socket.send_to(&answer, client);
        }
    });
    Ok(())
}
