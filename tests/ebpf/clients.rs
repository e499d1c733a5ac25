//! Clients of all kinds: how a program connects or asks does not matter.

use std::io;
use std::net::{SocketAddr, TcpStream};

use kumatp::net::FamilyName;
use nix::sys::socket::AddressFamily;

use crate::common::world::{APP, Backend, OUTSIDE, Place, SIDECAR, Server, WORKLOAD, World};
use crate::ground::{Ground, with_dns};
use crate::netns::isolated;
use crate::sockets::{
    Listening, ask, ask_by_message, blocking, by_interface, fast_open, fast_open_connect, from, greet, greeting, hear,
    listener, mapped, multipath, non_blocking, serve, udp_socket, unmapped,
};

type Connect = fn(SocketAddr) -> io::Result<TcpStream>;

/// Connects as the workload, and checks that the sidecar is told where to, and the workload nothing else.
fn is_redirected(world: &World, how: &str, connect: Connect, to: SocketAddr) {
    world.workload.enter_as(APP, || {
        let stream = connect(to).unwrap_or_else(|error| panic!("{how} to {to}: {error}"));
        let answer = greeting(&stream).unwrap_or_else(|error| panic!("{how} to {to}: {error}"));
        assert_eq!(answer.who, Server::OUTBOUND, "{how} to {to}");
        assert_eq!(answer.original, Some(unmapped(to)), "{how} to {to}: what the sidecar is told");
        assert_eq!(stream.peer_addr().expect("a peer"), to, "{how} to {to}: what the workload is told");
    });
}

#[test]
fn connections_of_all_kinds() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let (four, six) = (Place::Outside.socket(FamilyName::V4, 9000), Place::Outside.socket(FamilyName::V6, 9000));
        for (how, connect) in
            [("blocking", blocking as Connect), ("non-blocking", non_blocking), ("fast open", fast_open)]
        {
            for to in [four, six, mapped(four)] {
                is_redirected(&ground.world, how, connect, to);
            }
        }
        // From an address and a port of its own.
        let own = SocketAddr::new(Place::Own.addr(FamilyName::V4), 23456);
        let answer = ground.workload().enter_as(APP, || greeting(&from(own, four)?)).expect("an answer");
        assert_eq!((answer.who.as_str(), answer.original, answer.peer), (Server::OUTBOUND, Some(four), own));
        ground.end();
    });
}

/// Multipath TCP begins as a connection like any other. Documented: its socket is another one than that of the connection, so it
/// sees the listener as its peer.
#[test]
fn multipath_connections() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let (four, six) = (Place::Outside.socket(FamilyName::V4, 9000), Place::Outside.socket(FamilyName::V6, 9000));
        for to in [four, six, mapped(four)] {
            ground.workload().enter_as(APP, || {
                // As 5.10 of Debian, which is built without.
                let Some(stream) = multipath(to) else { return println!("this kernel has no multipath TCP") };
                let stream = stream.expect("a connection");
                let answer = greeting(&stream).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, Some(unmapped(to))));
                assert_eq!(stream.peer_addr().expect("a peer").port(), 15001);
            });
        }
        ground.end();
    });
}

/// The sidecar is not behind an interface of the outside, so a socket that is bound to one gets nowhere by programs. Native rules
/// redirect to the address that it sends from, which can be reached so.
#[test]
fn sockets_of_an_interface() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        for backend in [Backend::Ebpf, Backend::Netlink] {
            let connect = |family| {
                let to = Place::Outside.socket(family, 9000);
                ground.workload().enter_as(APP, || greeting(&by_interface("eth0", to)?)).map(|answer| answer.who)
            };
            for family in FamilyName::ALL {
                assert_eq!(connect(family).expect("an answer"), OUTSIDE);
            }
            backend.install(&ground.world, &crate::ground::plan(|_| ())).expect("an installation");
            for family in FamilyName::ALL {
                match (connect(family), backend) {
                    (Ok(who), Backend::Netlink) => assert_eq!(who, Server::OUTBOUND),
                    // What would be sent to the loopback address has no way there.
                    (Err(_), Backend::Ebpf) => {}
                    (other, _) => panic!("{backend:?}, {family}: {other:?}"),
                }
            }
            backend.remove(&ground.world).expect("a removal");
        }
        ground.end();
    });
}

/// Where there is no route, translated packets would not even be made.
#[test]
fn destinations_without_a_route() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        for to in ["240.0.0.1:80", "192.0.2.1:443", "[2001:db8::1]:80", "[::ffff:240.0.0.1]:80"] {
            is_redirected(&ground.world, "without a route", blocking, to.parse().expect("an address"));
        }
        ground.end();
    });
}

/// The first packet has data, which the sidecar gets before the connection is established.
#[test]
fn data_in_the_first_packet() {
    isolated(|| {
        let Some(ground) = Ground::installed(|config| config.redirect.outbound.port = "15011".parse().expect("a port"))
        else {
            return;
        };
        // No cookies, and every listener takes such connections (linux Documentation/networking/ip-sysctl.rst).
        ground.workload().enter(|| std::fs::write("/proc/sys/net/ipv4/tcp_fastopen", "0x607")).expect("a parameter");
        let servers = FamilyName::ALL.map(|family| {
            let listener = listener(ground.workload(), SIDECAR, family, 15011, Listening::default()).expect("the port");
            serve(listener, SIDECAR, |mut stream| {
                // The first read is of what came with the first packet.
                let mut words = [0; 5];
                if io::Read::read_exact(&mut stream, &mut words).is_ok() && words == *b"hello" {
                    let _ = greet(&mut stream, Server::OUTBOUND);
                }
            })
            .expect("a server")
        });
        for family in FamilyName::ALL {
            let to = Place::Outside.socket(family, 9000);
            is_redirected(&ground.world, "data first", fast_open, to);
            is_redirected(&ground.world, "data first by connect", fast_open_connect, to);
        }
        is_redirected(&ground.world, "data first", fast_open, "240.0.0.1:80".parse().expect("an address"));
        assert_eq!(fast_opened(&ground), 5, "the listener took data with the first packet each time");
        drop(servers);
        ground.end();
    });
}

/// How many connections listeners in the workload have got with data in the first packet.
fn fast_opened(ground: &Ground) -> u64 {
    let text = ground.workload().enter(|| std::fs::read_to_string("/proc/thread-self/net/netstat")).expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:")).map(str::split_whitespace);
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let found = names.zip(values).find(|(name, _)| *name == "TCPFastOpenPassive").expect("the counter");
    found.1.parse().expect("a number")
}

/// A socket is not marked for ever by the first connection that it tried.
#[test]
fn a_socket_that_connects_again() {
    isolated(|| {
        let Some(ground) = Ground::installed(|config| {
            config.redirect.outbound.exclude_ports = "9002".parse().expect("a port");
        }) else {
            return;
        };
        use nix::sys::socket::{SockFlag, SockaddrStorage, connect};
        use std::os::fd::AsRawFd as _;
        for family in FamilyName::ALL {
            let (redirected, direct) = (Place::Outside.socket(family, 9000), Place::Outside.socket(family, 9002));
            ground.workload().enter_as(APP, || {
                let socket = crate::sockets::tcp_socket(redirected, SockFlag::empty()).expect("a socket");
                connect(socket.as_raw_fd(), &SockaddrStorage::from(redirected)).expect("a connection");
                disconnect(&socket);
                connect(socket.as_raw_fd(), &SockaddrStorage::from(direct)).expect("another");
                let stream = TcpStream::from(socket);
                assert_eq!(greeting(&stream).expect("an answer").who, OUTSIDE, "{family}");
                assert_eq!(stream.peer_addr().expect("a peer"), direct);
            });
        }
        ground.end();
    });
}

/// connect(2) with AF_UNSPEC.
fn disconnect(socket: &std::os::fd::OwnedFd) {
    use std::os::fd::AsRawFd as _;
    let nobody = nix::libc::sockaddr { sa_family: nix::libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    let length = size_of::<nix::libc::sockaddr>() as nix::libc::socklen_t;
    // SAFETY: the kernel reads an address of that length.
    let result = unsafe { nix::libc::connect(socket.as_raw_fd(), &nobody, length) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

/// The host talking to itself, by whichever of its addresses.
#[test]
fn this_host_is_not_outside() {
    isolated(|| {
        let Some(ground) = Ground::installed(with_dns) else { return };
        for to in [
            "127.0.0.1:8080",
            "127.8.9.10:8080",
            "0.0.0.0:8080",
            "10.77.0.1:8080",
            "172.21.0.1:8080",
            "[::1]:8080",
            "[::]:8080",
            "[::6]:8080",
            "[fd77::11]:8080",
            "[::ffff:127.0.0.1]:8080",
            "[::ffff:10.77.0.11]:8080",
        ] {
            let answer = ground.workload().enter_as(APP, || greeting(&blocking(to.parse().expect("an address"))?));
            assert_eq!(answer.unwrap_or_else(|error| panic!("{to}: {error}")).who, WORKLOAD, "{to}");
        }
        // Who connects to the sidecar's own listener wants nothing else. The sidecar must not be told that, or it would call itself.
        for family in FamilyName::ALL {
            let to = Place::Localhost.socket(family, 15001);
            let answer = ground.workload().enter_as(APP, || greeting(&blocking(to)?)).expect("an answer");
            assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, None), "{to}");
        }
        // From one of them to another, which no loopback address gives away.
        for family in FamilyName::ALL {
            let (own, other) = (Place::OwnSecond.socket(family, 0), Place::Own.socket(family, 8080));
            let answer = ground.workload().enter_as(APP, || greeting(&from(own, other)?)).expect("an answer");
            assert_eq!((answer.who.as_str(), answer.original), (WORKLOAD, None), "{other} from {own}");
        }
        ground.end();
    });
}

/// An IPv4 destination is one whichever socket it is reached by.
#[test]
fn mapped_addresses_have_the_rules_of_ipv4() {
    isolated(|| {
        let Some(ground) = Ground::installed(|config| {
            config.redirect.outbound.exclude_ips = vec!["10.77.0.3/32".parse().expect("a network")];
            config.redirect.outbound.exclude_ports = "9002".parse().expect("a port");
            config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:9003:2000".parse().expect("an exclusion")];
        }) else {
            return;
        };
        let ask = |user, to: &str| {
            let to = mapped(to.parse().expect("an address"));
            ground.workload().enter_as(user, || greeting(&blocking(to)?)).expect("an answer").who
        };
        let other = crate::common::world::User { uid: 2000, gid: 2000 };
        assert_eq!(ask(APP, "10.77.0.2:9000"), Server::OUTBOUND);
        assert_eq!(ask(APP, "10.77.0.3:9000"), OUTSIDE);
        assert_eq!(ask(APP, "10.77.0.2:9002"), OUTSIDE);
        assert_eq!(ask(APP, "10.77.0.2:9003"), Server::OUTBOUND);
        assert_eq!(ask(other, "10.77.0.2:9003"), OUTSIDE);
        assert_eq!(ask(SIDECAR, "10.77.0.2:9000"), OUTSIDE);
        assert_eq!(ask(SIDECAR, "10.77.0.1:8080"), Server::INBOUND);
        // IPv6 as if nothing was installed; IPv4 is not IPv6 because of its socket.
        ground.install(|config| config.ip_family_mode = kumatp::model::IpFamilyMode::Ipv4);
        assert_eq!(ask(APP, "10.77.0.2:9000"), Server::OUTBOUND);
        assert_eq!(ask(APP, "[fd77::2]:9000"), OUTSIDE);
        ground.end();
    });
}

/// Queries by sockets that are not connected: the answer comes from the server that was asked.
#[test]
fn queries_of_all_kinds() {
    isolated(|| {
        let Some(ground) = Ground::installed(with_dns) else { return };
        let server = |family| Place::Resolver.socket(family, 53);
        let (four, six) = (server(FamilyName::V4), server(FamilyName::V6));
        for (family, to) in
            [(AddressFamily::Inet, four), (AddressFamily::Inet6, six), (AddressFamily::Inet6, mapped(four))]
        {
            for (user, who) in [(APP, Server::DNS), (SIDECAR, OUTSIDE)] {
                ground.workload().enter_as(user, || {
                    let socket = udp_socket(family).expect("a socket");
                    for attempt in ["first", "second"] {
                        let (answer, from) = ask(&socket, to).unwrap_or_else(|error| panic!("{to}: {error}"));
                        assert_eq!((answer.who.as_str(), from), (who, to), "{attempt} query of {to} by {user:?}");
                    }
                    let (answer, from) = ask_by_message(&socket, to).unwrap_or_else(|error| panic!("{to}: {error}"));
                    assert_eq!((answer.who.as_str(), from), (who, to), "a message to {to} by {user:?}");
                    // Connected, and then by the same calls as before.
                    let socket = udp_socket(family).expect("a socket");
                    socket.connect(to).expect("a server");
                    assert_eq!(socket.peer_addr().expect("a peer"), to);
                    socket.send(b"who are you?").expect("a query");
                    let (answer, from) = hear(&socket).unwrap_or_else(|error| panic!("{to}: {error}"));
                    assert_eq!((answer.who.as_str(), from), (who, to), "connected to {to} by {user:?}");
                });
            }
        }
        // A server without a route is as good as any.
        let to = "240.0.0.53:53".parse().expect("an address");
        let (answer, from) =
            ground.workload().enter_as(APP, || ask(&udp_socket(AddressFamily::Inet)?, to)).expect("an answer");
        assert_eq!((answer.who.as_str(), from), (Server::DNS, to));
        assert!(ground.counted("dns_redirected") >= 10);
        ground.end();
    });
}

/// Documented: a socket remembers one server, so all answers seem to come from the last one that it asked. And what it asks
/// past the sidecar in between is not mistaken for an answer of it.
#[test]
fn a_socket_that_asks_two_servers() {
    isolated(|| {
        let Some(ground) = Ground::installed(with_dns) else { return };
        for family in FamilyName::ALL {
            let (one, two) = (Place::Resolver.socket(family, 53), Place::OtherResolver.socket(family, 53));
            let direct = Place::Outside.socket(family, 9000);
            let of = if family == FamilyName::V4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
            ground.workload().enter_as(APP, || {
                let socket = udp_socket(of).expect("a socket");
                // Not read yet when the second is asked.
                socket.send_to(b"who are you?", one).expect("a query");
                std::thread::sleep(std::time::Duration::from_millis(200));
                let (answer, from) = ask(&socket, two).expect("an answer");
                assert_eq!((answer.who.as_str(), from), (Server::DNS, two), "the answer to the first query");
                let (answer, from) = hear(&socket).expect("an answer");
                assert_eq!((answer.who.as_str(), from), (Server::DNS, two), "the answer to the second");
                // One after the other, each is right.
                assert_eq!(ask(&socket, one).expect("an answer").1, one);
                let (answer, from) = ask(&socket, direct).expect("an answer");
                assert_eq!((answer.who.as_str(), from), (OUTSIDE, direct));
                assert_eq!(ask(&socket, two).expect("an answer").1, two);
            });
        }
        ground.end();
    });
}
