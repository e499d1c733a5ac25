//! Very many connections, each to a place of its own, and new programs under load.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use kumatp::engine::Status;
use kumatp::net::FamilyName;

use crate::common::world::{APP, Place, SIDECAR};
use crate::ground::{Ground, INSTALLATION, plan};
use crate::netns::isolated;
use crate::objects::Objects;
use crate::sockets::{Listening, Serving, blocking, listener, original, reset, serve, unmapped};

fn number(name: &str, usual: u32) -> u32 {
    std::env::var(name)
        .ok()
        .map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Answers with where the connection wanted to go, in 18 bytes: the address as one of IPv6, the port.
fn answer(stream: &mut TcpStream) -> io::Result<()> {
    let bytes = original(stream).map_or([0; 18], bytes);
    stream.write_all(&bytes)?;
    // The client ends, so that the ports are not kept for a minute.
    stream.read(&mut [0]).map(drop)
}

fn bytes(addr: SocketAddr) -> [u8; 18] {
    let ip = match addr.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    bytes
}

/// The sidecar, with some workers for each listener.
fn sidecar(ground: &Ground, workers: usize) -> Vec<Serving> {
    let shared = Listening { shared: true, dual: false };
    let ports = [15001, 15006].into_iter().flat_map(|port| FamilyName::ALL.map(|family| (port, family)));
    let all = ports.flat_map(|at| std::iter::repeat_n(at, workers));
    all.map(|(port, family)| {
        let listener = listener(ground.workload(), SIDECAR, family, port, shared).expect("the port");
        serve(listener, SIDECAR, |mut stream| drop(answer(&mut stream))).expect("a server")
    })
    .collect()
}

/// Whether a connection is the sidecar's and it knows where to, and the client sees nothing of it.
fn is_right(to: SocketAddr) -> Result<(), String> {
    let run = || -> io::Result<([u8; 18], SocketAddr)> {
        let mut stream = blocking(to)?;
        let mut heard = [0; 18];
        stream.read_exact(&mut heard)?;
        let peer = stream.peer_addr()?;
        reset(stream);
        Ok((heard, peer))
    };
    match run() {
        Ok((heard, peer)) if heard == bytes(unmapped(to)) && peer == to => Ok(()),
        Ok((heard, peer)) => Err(format!("{to}: the sidecar was told {heard:?}, the workload {peer}")),
        Err(error) => Err(format!("{to}: {error}")),
    }
}

/// `KUMATP_TEST_CONNECTIONS` says how many.
#[test]
fn distinct_destinations() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        ground.install(|_| ());
        let servers = sidecar(&ground, 2);
        let all = number("KUMATP_TEST_CONNECTIONS", 100_000);
        let (next, start) = (AtomicU32::new(0), Instant::now());
        // Three of four by IPv4, of which a third by IPv6 sockets; no two have the same address.
        let destination = |i: u32| -> SocketAddr {
            let four = Ipv4Addr::from(0xf000_0000 + i);
            let port = 1 + (i % 65_535) as u16;
            let ip = match i % 4 {
                0 => Ipv6Addr::from((0x2001_0db8_u128 << 96) + u128::from(i)).into(),
                1 => IpAddr::from(four.to_ipv6_mapped()),
                _ => four.into(),
            };
            // DNS over TCP is no exception here, but port 53 would be one with DNS.
            SocketAddr::new(ip, port)
        };
        let wrong: Vec<String> = thread::scope(|scope| {
            let clients: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        ground.workload().enter_as(APP, || {
                            let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
                            let wrong = numbers.take_while(|i| *i < all).filter_map(|i| is_right(destination(i)).err());
                            wrong.take(10).collect::<Vec<_>>()
                        })
                    })
                })
                .collect();
            clients.into_iter().flat_map(|client| client.join().expect("the client does not panic")).collect()
        });
        let took = start.elapsed();
        eprintln!("{all} connections in {took:.1?}, {:.0} a second", f64::from(all) / took.as_secs_f64());
        assert_eq!(wrong, [""; 0], "of {all} connections");
        assert_eq!(ground.counted("outbound_redirected"), u64::from(all));
        drop(servers);
        ground.end();
    });
}

/// Replacements while connections are made in both directions: none gets past the sidecar, none loses its destination.
/// `KUMATP_TEST_UPGRADES` says how many.
#[test]
fn replacements_under_load() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let upgrades = number("KUMATP_TEST_UPGRADES", 200);
        let servers = sidecar(&ground, 2);
        // Who gets past the sidecar is heard, and not refused.
        let past: Vec<_> = FamilyName::ALL
            .into_iter()
            .flat_map(|family| {
                [(ground.workload(), 8080), (&ground.world.outside, 9000)].map(|(netns, port)| {
                    let listener: TcpListener =
                        listener(netns, APP, family, port, Listening::default()).expect("the port is free");
                    serve(listener, APP, |mut stream| drop(stream.write_all(&[0xff; 18]))).expect("a server")
                })
            })
            .collect();
        let plans = ["1", "2"]
            .map(|port| plan(|config| config.redirect.outbound.exclude_ports = port.parse().expect("a port")));
        ground.try_install(&plans[0]).expect("an installation");
        let over = AtomicBool::new(false);
        let started = Instant::now();
        let (counts, wrong) = thread::scope(|scope| {
            let clients: Vec<_> = FamilyName::ALL
                .into_iter()
                .flat_map(|family| [(family, true), (family, false)])
                .map(|(family, out)| {
                    let (ground, over) = (&ground, &over);
                    scope.spawn(move || {
                        let (netns, to) = match out {
                            true => (ground.workload(), Place::Outside.socket(family, 9000)),
                            false => (&ground.world.outside, Place::Own.socket(family, 8080)),
                        };
                        netns.enter_as(APP, || {
                            let (mut count, mut wrong) = (0_u32, Vec::new());
                            while !over.load(Ordering::Relaxed) && wrong.len() < 10 {
                                count += 1;
                                wrong.extend(is_right(to).err());
                            }
                            (count, wrong)
                        })
                    })
                })
                .collect();
            let mut failed = None;
            for round in 0..upgrades {
                let at = (round as usize + 1) % 2;
                if let Err(error) = ground.try_install(&plans[at]) {
                    failed = Some(error);
                    break;
                }
            }
            over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
            let ends: Vec<_> =
                clients.into_iter().map(|client| client.join().expect("the client does not panic")).collect();
            let (counts, wrong): (Vec<u32>, Vec<Vec<String>>) = ends.into_iter().unzip();
            (counts, wrong.concat())
        });
        eprintln!("{upgrades} replacements in {:.1?}, connections meanwhile: {counts:?}", started.elapsed());
        assert_eq!(wrong, [""; 0], "of {counts:?} connections");
        assert!(counts.iter().all(|count| *count > 0), "{counts:?} connections in {upgrades} replacements");
        assert_eq!(ground.status(&plans[upgrades as usize % 2]), Status::Current);
        assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION, "only the last one is left");
        drop((servers, past));
        ground.end();
    });
}
