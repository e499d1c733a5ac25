//! Sockets of the kinds that programs make, below what the standard library offers.

use std::io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::thread;
use std::time::Duration;

use kumatp::net::FamilyName;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, bind, connect, getsockopt, listen, recvmsg,
    sendmsg, setsockopt, socket, sockopt,
};

use crate::common::world::{Answer, Netns, User, when_free};

/// How long to wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The address as an IPv6 socket names it.
pub(crate) fn mapped(addr: SocketAddr) -> SocketAddr {
    match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    }
}

/// The address as an IPv4 socket names it, if one can reach it.
pub(crate) fn unmapped(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// A TCP socket for a destination, with a bound on the time that anything takes.
pub(crate) fn tcp_socket(to: SocketAddr, flags: SockFlag) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, flags | SockFlag::SOCK_CLOEXEC, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    let time = libc::timeval { tv_sec: 3, tv_usec: 0 };
    setsockopt(&socket, sockopt::SendTimeout, &time.into())?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &time.into())?;
    Ok(socket)
}

/// Connects as most programs do.
pub(crate) fn blocking(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(to, SockFlag::empty())?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// Connects by a socket of multipath TCP; none where the kernel has no such sockets.
pub(crate) fn multipath(to: SocketAddr) -> Option<io::Result<TcpStream>> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: numbers only.
    let number = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
    match Errno::result(number) {
        Err(Errno::EPROTONOSUPPORT) => return None,
        other => other.expect("a socket, where the kernel has such"),
    };
    // SAFETY: the kernel has just opened it for us.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let connect = || -> io::Result<TcpStream> {
        if family == libc::AF_INET6 {
            setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
        }
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
        Ok(socket.try_clone()?.into())
    };
    Some(connect())
}

/// Connects by a socket that sends and receives by one interface only.
pub(crate) fn by_interface(name: &str, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(to, SockFlag::empty())?;
    setsockopt(&socket, sockopt::BindToDevice, &name.into())?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// Connects as event loops do.
pub(crate) fn non_blocking(to: SocketAddr) -> io::Result<TcpStream> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let socket = tcp_socket(to, SockFlag::SOCK_NONBLOCK)?;
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(to)) {
        Ok(()) => {}
        Err(Errno::EINPROGRESS) => {
            let time = PollTimeout::try_from(PATIENCE).expect("it is short");
            assert_eq!(poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)], time)?, 1, "no end of connecting");
            match getsockopt(&socket, sockopt::SocketError)? {
                0 => {}
                error => return Err(io::Error::from_raw_os_error(error)),
            }
        }
        Err(errno) => return Err(errno.into()),
    }
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// Connects by the first bytes that are sent (TCP fast open).
pub(crate) fn fast_open(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(to, SockFlag::empty())?;
    let sent = nix::sys::socket::sendto(
        socket.as_raw_fd(),
        b"hello",
        &SockaddrStorage::from(to),
        MsgFlags::from_bits_retain(libc::MSG_FASTOPEN),
    )?;
    assert_eq!(sent, 5);
    Ok(socket.into())
}

/// Connects by the first bytes that are sent, which a program that knows nothing of it may do.
pub(crate) fn fast_open_connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(to, SockFlag::empty())?;
    set(&socket, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(socket);
    stream.write_all(b"hello")?;
    Ok(stream)
}

/// Connects, not only as [`blocking`], from an address and a port that others may have, too.
pub(crate) fn from(source: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tcp_socket(to, SockFlag::empty())?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    when_free(|| Ok(bind(socket.as_raw_fd(), &SockaddrStorage::from(source))?))?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

/// Connects by a socket for which the kernel has no memory but what it has already: a filter takes up nearly all that a
/// socket may have (`net.core.optmem_max`). Fails if a filter cannot take that much.
pub(crate) fn without_memory(to: SocketAddr) -> io::Result<TcpStream> {
    const LENGTHS: u16 = 4096;
    // Nothing but returning all that comes; the kernel's form of an instruction has 8 bytes, as this one has.
    let all = libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX };
    let mut code = vec![all; LENGTHS.into()];
    let socket = tcp_socket(to, SockFlag::empty())?;
    let mut attach = |length: u16| {
        let program = libc::sock_fprog { len: length, filter: code.as_mut_ptr() };
        let size = size_of_val(&program) as libc::socklen_t;
        // SAFETY: the kernel reads the program, and as many instructions as it says that there are.
        Errno::result(unsafe {
            let program = std::ptr::from_ref(&program).cast();
            libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, program, size)
        })
    };
    assert_eq!(attach(LENGTHS), Err(Errno::ENOMEM), "there is more memory than a filter takes");
    let (mut fits, mut too_long) = (0, LENGTHS);
    while too_long - fits > 1 {
        let length = fits.midpoint(too_long);
        match attach(length) {
            // Its memory is to be had for the next one.
            Ok(_) => fits = set(&socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, 0).map(|()| length)?,
            Err(_) => too_long = length,
        }
    }
    attach(fits)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(socket.into())
}

fn set(socket: &OwnedFd, level: i32, option: i32, value: i32) -> io::Result<()> {
    // SAFETY: the kernel reads a number of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<i32>() as libc::socklen_t,
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// What the server of a connection says.
pub(crate) fn greeting(stream: &TcpStream) -> io::Result<Answer> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.parse().map_err(|()| io::Error::other(format!("an answer that makes no sense: {line:?}")))
}

/// Sends a datagram by a socket that is not connected, and returns the answer and who it comes from.
pub(crate) fn ask(socket: &UdpSocket, to: SocketAddr) -> io::Result<(Answer, SocketAddr)> {
    socket.send_to(b"who are you?", to)?;
    hear(socket)
}

/// Asks by sendmsg(2), and reads the answer by recvmsg(2).
pub(crate) fn ask_by_message(socket: &UdpSocket, to: SocketAddr) -> io::Result<(Answer, SocketAddr)> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let query = [IoSlice::new(b"who are "), IoSlice::new(b"you?")];
    sendmsg(socket.as_raw_fd(), &query, &[], MsgFlags::empty(), Some(&SockaddrStorage::from(to)))?;
    let mut buffer = [0; 256];
    let (length, from) = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty())?;
        (message.bytes, message.address.ok_or(io::ErrorKind::InvalidData)?)
    };
    let four = || Some(SocketAddr::V4((*from.as_sockaddr_in()?).into()));
    let six = || Some(SocketAddr::V6((*from.as_sockaddr_in6()?).into()));
    Ok((answer_in(&buffer[..length])?, four().or_else(six).ok_or(io::ErrorKind::InvalidData)?))
}

pub(crate) fn hear(socket: &UdpSocket) -> io::Result<(Answer, SocketAddr)> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 256];
    let (length, from) = socket.recv_from(&mut buffer)?;
    Ok((answer_in(&buffer[..length])?, from))
}

fn answer_in(bytes: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(bytes);
    text.parse().map_err(|()| io::Error::other(format!("an answer that makes no sense: {text:?}")))
}

/// A UDP socket that reaches both families, if it is one of IPv6.
pub(crate) fn udp_socket(family: AddressFamily) -> io::Result<UdpSocket> {
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    if family == AddressFamily::Inet6 {
        setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    Ok(socket.into())
}

/// How to listen.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Listening {
    /// Beside other sockets on the same port.
    pub(crate) shared: bool,
    /// For both families by one socket.
    pub(crate) dual: bool,
}

/// A listener on every address, of a user.
pub(crate) fn listener(
    netns: &Netns,
    user: User,
    family: FamilyName,
    port: u16,
    how: Listening,
) -> io::Result<TcpListener> {
    netns.enter_as(user, || {
        let of = if family == FamilyName::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(of, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        setsockopt(&socket, sockopt::ReusePort, &how.shared)?;
        let any = match family {
            FamilyName::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            FamilyName::V6 => {
                setsockopt(&socket, sockopt::Ipv6V6Only, &!how.dual)?;
                Ipv6Addr::UNSPECIFIED.into()
            }
        };
        let any = SockaddrStorage::from(SocketAddr::new(any, port));
        when_free(|| Ok(bind(socket.as_raw_fd(), &any)?))?;
        listen(&socket, Backlog::new(4_096).expect("a length"))?;
        Ok(socket.into())
    })
}

/// Serves a listener, on a thread that ends when the listener is shut down.
pub(crate) fn serve(
    listener: TcpListener,
    user: User,
    work: impl Fn(TcpStream) + Send + 'static,
) -> io::Result<Serving> {
    let handle = listener.try_clone()?;
    let thread = thread::spawn(move || {
        user.become_it();
        while let Ok((stream, _)) = listener.accept() {
            work(stream);
        }
    });
    Ok(Serving { handle, thread: Some(thread) })
}

/// A listener that is served until this is dropped.
pub(crate) struct Serving {
    handle: TcpListener,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = nix::sys::socket::shutdown(self.handle.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

/// Where a connection of either family wanted to go, as a sidecar asks for it.
pub(crate) fn original(stream: &TcpStream) -> Option<SocketAddr> {
    let local = unmapped(stream.local_addr().ok()?);
    match local.is_ipv4() {
        true => {
            let addr = getsockopt(stream, sockopt::OriginalDst).ok()?;
            let ip = Ipv4Addr::from(u32::from_be(addr.sin_addr.s_addr));
            Some(SocketAddr::new(ip.into(), u16::from_be(addr.sin_port)))
        }
        false => {
            let addr = getsockopt(stream, sockopt::Ip6tOriginalDst).ok()?;
            Some(SocketAddr::new(Ipv6Addr::from(addr.sin6_addr.s6_addr).into(), u16::from_be(addr.sin6_port)))
        }
    }
}

/// Says who it is and what it knows of the connection, in one line.
pub(crate) fn greet(stream: &mut TcpStream, who: &str) -> io::Result<()> {
    let answer = Answer {
        who: who.to_owned(),
        original: original(stream),
        peer: unmapped(stream.peer_addr()?),
        local: unmapped(stream.local_addr()?),
    };
    stream.write_all(format!("{answer}\n").as_bytes())
}

/// Closes without waiting, so that the port can be used again.
pub(crate) fn reset(stream: TcpStream) {
    let _ = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
