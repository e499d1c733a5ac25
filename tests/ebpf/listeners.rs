//! The sidecar's listeners: none, one for both families, many workers, old ones and new ones.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kumatp::net::FamilyName;

use crate::common::world::{APP, Answer, Netns, OUTSIDE, Place, SIDECAR, Server, User, WORKLOAD};
use crate::ground::{Ground, plan, with_dns};
use crate::netns::{isolated, run};
use crate::sockets::{
    Listening, PATIENCE, Serving, blocking, from, greet, greeting, listener, mapped, original, reset, serve,
};

const PORTS: [(u16, &str); 2] = [(15006, Server::INBOUND), (15001, Server::OUTBOUND)];

fn outbound(ground: &Ground, to: SocketAddr) -> io::Result<Answer> {
    ground.workload().enter_as(APP, || greeting(&blocking(to)?))
}

fn inbound(ground: &Ground, to: SocketAddr) -> io::Result<Answer> {
    ground.world.outside.enter(|| greeting(&blocking(to)?))
}

fn sidecar(netns: &Netns, family: FamilyName, port: u16, who: &'static str, how: Listening) -> Serving {
    let listener = listener(netns, SIDECAR, family, port, how).expect("the port is free");
    serve(listener, SIDECAR, move |mut stream| drop(greet(&mut stream, who))).expect("a server")
}

fn both(netns: &Netns) -> Vec<Serving> {
    let all = FamilyName::ALL.into_iter().flat_map(|family| PORTS.map(|(port, who)| (family, port, who)));
    all.map(|(family, port, who)| sidecar(netns, family, port, who, Listening::default())).collect()
}

/// While there is no sidecar, what it should get is refused; when it is back, it works at once.
#[test]
fn nothing_gets_past_a_sidecar_that_is_not_there() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let netns = &ground.world;
        let mut servers = Vec::new();
        for family in FamilyName::ALL {
            servers.push(Server::tcp(&netns.workload, APP, WORKLOAD, family, 8080).expect("a server"));
            servers.push(Server::tcp(&netns.outside, User::ROOT, OUTSIDE, family, 9000).expect("a server"));
            servers.push(Server::udp(&netns.outside, User::ROOT, OUTSIDE, family, 53).expect("a server"));
        }
        let before = both(&netns.workload);
        ground.install(with_dns);
        let works = || {
            for family in FamilyName::ALL {
                let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
                let answer = inbound(&ground, own).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::INBOUND, Some(own)));
                let answer = outbound(&ground, there).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, Some(there)));
            }
        };
        let refused = || {
            for family in FamilyName::ALL {
                let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
                for (way, answer) in [("in", inbound(&ground, own)), ("out", outbound(&ground, there))] {
                    let error = answer.expect_err(way);
                    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{way} by {family}");
                }
                let error = ground.workload().enter_as(APP, || query(Place::Resolver.socket(family, 53)));
                assert_eq!(error.expect_err("no DNS listener").kind(), ErrorKind::ConnectionRefused, "DNS by {family}");
            }
            let four = mapped(Place::Outside.socket(FamilyName::V4, 9000));
            assert_eq!(outbound(&ground, four).expect_err("mapped").kind(), ErrorKind::ConnectionRefused);
        };
        works();
        drop(before);
        refused();
        for _ in 0..3 {
            let again = both(&netns.workload);
            works();
            drop(again);
            refused();
        }
        assert_eq!(ground.counted("inbound_refused"), 8);
        ground.uninstall();
        let answer = outbound(&ground, Place::Outside.socket(FamilyName::V4, 9000)).expect("an answer");
        assert_eq!(answer.who, OUTSIDE);
        drop(servers);
        ground.end();
    });
}

fn query(server: SocketAddr) -> io::Result<()> {
    let any: std::net::IpAddr = match server {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(b"who are you?")?;
    socket.recv(&mut [0; 64]).map(drop)
}

/// One socket for both families, as some sidecars have it.
#[test]
fn listeners_for_both_families() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let dual = Listening { dual: true, shared: false };
        let start = || PORTS.map(|(port, who)| sidecar(ground.workload(), FamilyName::V6, port, who, dual));
        let mut servers = start();
        // Those that were there before, then those that come later.
        ground.install(|_| ());
        for round in ["before", "later"] {
            for family in FamilyName::ALL {
                let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
                let answer = inbound(&ground, own).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::INBOUND, Some(own)), "{round}");
                let answer = outbound(&ground, there).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, Some(there)), "{round}");
            }
            drop(servers);
            servers = start();
        }
        drop(servers);
        ground.end();
    });
}

/// Each worker of the sidecar has a socket of its own, and each gets connections.
#[test]
fn all_workers_get_connections() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        const WORKERS: usize = 4;
        let shared = Listening { dual: false, shared: true };
        let counts = Arc::new(Mutex::new(BTreeMap::<(u16, FamilyName, usize), usize>::new()));
        let start = || -> Vec<Serving> {
            let mut all = Vec::new();
            for (port, _) in PORTS {
                for family in FamilyName::ALL {
                    for worker in 0..WORKERS {
                        let listener = listener(ground.workload(), SIDECAR, family, port, shared).expect("the port");
                        let counts = counts.clone();
                        all.push(serve(listener, SIDECAR, move |mut stream| {
                            *counts.lock().expect("nobody panics").entry((port, family, worker)).or_default() += 1;
                            let _ = greet(&mut stream, "worker");
                        }));
                    }
                }
            }
            all.into_iter().collect::<io::Result<_>>().expect("servers")
        };
        let mut servers = start();
        ground.install(|_| ());
        for round in ["before the programs", "after them"] {
            counts.lock().expect("nobody panics").clear();
            for family in FamilyName::ALL {
                let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
                for _ in 0..100 {
                    assert_eq!(inbound(&ground, own).expect("an answer").original, Some(own));
                    assert_eq!(outbound(&ground, there).expect("an answer").original, Some(there));
                }
            }
            let seen = counts.lock().expect("nobody panics").clone();
            assert_eq!(seen.len(), 4 * WORKERS, "workers that listened {round}: {seen:?}");
            assert!(seen.values().all(|count| *count >= 3), "workers that listened {round}: {seen:?}");
            drop(servers);
            servers = start();
        }
        drop(servers);
        ground.end();
    });
}

/// Workers end one after the other: as long as one is left, it gets the connections.
#[test]
fn the_last_worker_gets_connections() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        ground.install(|_| ());
        let shared = Listening { dual: false, shared: true };
        for round in 0..4 {
            let start = || sidecar(ground.workload(), FamilyName::V4, 15006, Server::INBOUND, shared);
            let own = Place::Own.socket(FamilyName::V4, 8080);
            // The newer ones end first, then the older ones.
            let old = start();
            let newer: Vec<_> = (0..9).map(|_| start()).collect();
            drop(newer);
            assert_eq!(inbound(&ground, own).map(|a| a.who).ok().as_deref(), Some(Server::INBOUND), "round {round}");
            let newer = start();
            drop(old);
            assert_eq!(inbound(&ground, own).map(|a| a.who).ok().as_deref(), Some(Server::INBOUND), "round {round}");
            drop(newer);
        }
        ground.end();
    });
}

/// Connections that differ in nothing but the port that was asked for.
#[test]
fn one_source_port_to_two_ports() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        for family in FamilyName::ALL {
            let source = Place::Outside.socket(family, 34567);
            let pair = [8080, 8081].map(|port| Place::Own.socket(family, port));
            let streams = pair.map(|to| ground.world.outside.enter(|| from(source, to)).expect("a connection"));
            for (to, stream) in pair.into_iter().zip(&streams) {
                let answer = greeting(stream).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::INBOUND, Some(to)));
                assert_eq!((answer.peer, answer.local), (source, to));
            }
            // Both are alive.
            for mut stream in &streams {
                stream.write_all(b"ping").expect("sent");
                let mut heard = [0; 4];
                stream.read_exact(&mut heard).expect("said back");
                assert_eq!(&heard, b"ping");
            }
            streams.into_iter().for_each(reset);
        }
        // Outbound too: those of IPv4 go to addresses that differ. IPv6 has one loopback address, so there a second
        // connection from a port that the workload has chosen itself is refused.
        let source = Place::Own.socket(FamilyName::V4, 34567);
        let pair = [9000, 9001].map(|port| Place::Outside.socket(FamilyName::V4, port));
        let streams = pair.map(|to| ground.workload().enter_as(APP, || from(source, to)).expect("a connection"));
        for (to, stream) in pair.into_iter().zip(&streams) {
            assert_eq!(greeting(stream).expect("an answer").original, Some(to));
        }
        streams.into_iter().for_each(reset);
        let source = Place::Own.socket(FamilyName::V6, 34567);
        let pair = [9000, 9001].map(|port| Place::Outside.socket(FamilyName::V6, port));
        let [first, second] = pair.map(|to| ground.workload().enter_as(APP, || from(source, to)));
        assert_eq!(greeting(&first.expect("a connection")).expect("an answer").original, Some(pair[0]));
        assert_eq!(second.expect_err("the same two ends").kind(), ErrorKind::AddrNotAvailable);
        ground.end();
    });
}

/// What the client says after the server has said its last word arrives.
#[test]
fn data_after_the_servers_end() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let (send, heard) = channel();
        let servers: Vec<_> = PORTS
            .into_iter()
            .flat_map(|(port, _)| FamilyName::ALL.map(|family| (port, family)))
            .map(|(port, family)| {
                let listener =
                    listener(ground.workload(), SIDECAR, family, port, Listening::default()).expect("the port is free");
                let send = send.clone();
                serve(listener, SIDECAR, move |mut stream| {
                    stream.write_all(b"bye").expect("sent");
                    stream.shutdown(Shutdown::Write).expect("an end");
                    let mut text = String::new();
                    let read = stream.read_to_string(&mut text).map_err(|error| error.kind());
                    let _ = send.send(read.map(|_| text));
                })
                .expect("a server")
            })
            .collect();
        ground.install(|_| ());
        let talk = |mut stream: TcpStream| -> io::Result<()> {
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            assert_eq!(text, "bye");
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"late ")?;
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(b"data")
        };
        for family in FamilyName::ALL {
            let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
            ground.world.outside.enter(|| talk(blocking(own)?)).expect("inbound");
            assert_eq!(heard.recv_timeout(PATIENCE).expect("an end"), Ok("late data".to_owned()));
            ground.workload().enter_as(APP, || talk(blocking(there)?)).expect("outbound");
            assert_eq!(heard.recv_timeout(PATIENCE).expect("an end"), Ok("late data".to_owned()));
        }
        drop(servers);
        ground.end();
    });
}

/// Connection tracking has answers of its own, which are the same ones.
#[test]
fn beside_connection_tracking() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let hook = |name| format!("chain {name} {{ type filter hook {name} priority 0; ct state new counter\n}}\n");
        let rules = format!("table inet other {{ {}{} }}", hook("input"), hook("output"));
        ground.workload().enter(|| run("nft", &[&rules]));
        for family in FamilyName::ALL {
            let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
            for _ in 0..10 {
                let answer = inbound(&ground, own).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::INBOUND, Some(own)));
                let answer = outbound(&ground, there).expect("an answer");
                assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, Some(there)));
            }
        }
        let tracked = ground.workload().enter(|| run("nft", &["list", "ruleset"]));
        assert!(!tracked.contains("packets 0 "), "{tracked}");
        ground.end();
    });
}

/// The programs are attached to the cgroup, and yet to one network namespace: another one of the same cgroup is as if nothing
/// was installed, its listeners on the sidecar's ports included.
#[test]
fn another_namespace_of_the_same_cgroup() {
    isolated(|| {
        let Some(ground) = Ground::installed(with_dns) else { return };
        let other = &ground.world.machine;
        for family in FamilyName::ALL {
            let there = Place::Outside.socket(family, 9000);
            let answer = other.enter_as(APP, || greeting(&blocking(there)?)).expect("an answer");
            assert_eq!((answer.who.as_str(), answer.local), (OUTSIDE, there));
            let strange = sidecar(other, family, 15006, "other sidecar", Listening::default());
            let served = Server::tcp(other, APP, "machine", family, 8080).expect("a server");
            let machine = Place::Machine.socket(family, 8080);
            let answer = ground.workload().enter_as(SIDECAR, || greeting(&blocking(machine)?)).expect("an answer");
            assert_eq!(answer.who, "machine");
            // Nor has it taken the place of the listener that is meant.
            let own = Place::Own.socket(family, 8080);
            assert_eq!(inbound(&ground, own).expect("an answer").who, Server::INBOUND);
            drop((strange, served));
        }
        ground.end();
    });
}

/// Connections go on when the programs are removed, and when others take their place.
#[test]
fn connections_survive_a_removal() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let mut open = Vec::new();
        for family in FamilyName::ALL {
            let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
            open.push((ground.world.outside.enter(|| blocking(own)).expect("a connection"), Server::INBOUND));
            open.push((ground.workload().enter_as(APP, || blocking(there)).expect("a connection"), Server::OUTBOUND));
        }
        for (stream, who) in &open {
            assert_eq!(greeting(stream).expect("an answer").who, *who);
        }
        let mut alive = |when: &str| {
            for (stream, who) in &mut open {
                let mut heard = [0; 4];
                let said_back = stream.write_all(b"ping").and_then(|()| stream.read_exact(&mut heard));
                said_back.unwrap_or_else(|error| panic!("{who} after {when}: {error}"));
                assert_eq!(&heard, b"ping");
            }
        };
        alive("nothing");
        ground.install(|config| config.redirect.outbound.exclude_ports = "9000".parse().expect("a port"));
        alive("a replacement that would not redirect them");
        ground.uninstall();
        alive("the removal");
        ground.install(|_| ());
        alive("another installation");
        ground.end();
    });
}

/// Where a connection wanted to go is asked for after the programs that knew it were replaced.
#[test]
fn original_destinations_outlive_a_replacement() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let listeners =
            FamilyName::ALL.map(|f| listener(ground.workload(), SIDECAR, f, 15001, Listening::default()).expect("it"));
        ground.install(|_| ());
        for (family, listener) in FamilyName::ALL.into_iter().zip(&listeners) {
            let there = Place::Outside.socket(family, 9000);
            let client = ground.workload().enter_as(APP, || blocking(there)).expect("a connection");
            // Not accepted yet.
            ground.install(|config| config.redirect.outbound.exclude_ports = "1".parse().expect("a port"));
            let (stream, _) = listener.accept().expect("a connection");
            ground.install(|_| ());
            assert_eq!(original(&stream), Some(there));
            assert_eq!(client.peer_addr().expect("a peer"), there);
        }
        assert_eq!(ground.status(&plan(|_| ())), kumatp::engine::Status::Current);
        drop(listeners);
        ground.end();
    });
}
