//! A name of the mesh from question to connection: the C library's resolver asks, the rules carry its query to the sidecar's DNS
//! listener, and the address that it gets leads to the outbound listener. Any other name comes from the real server, which
//! the sidecar asks by itself.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kumatp::facts::Resolvers;
use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Facts, policy};

use crate::common::world::{
    APP, Backend, Client, Outcome, Place, Protocol, SIDECAR, Server, User, World, feed, possible,
};

/// A name of the mesh, with the addresses that the control plane gave it.
const MESH: (&str, Ipv4Addr, Ipv6Addr) =
    ("backend.mesh", Ipv4Addr::new(241, 0, 0, 7), Ipv6Addr::new(0xfd00, 0xfd00, 0, 0, 0, 0, 0, 7));

/// A name that only the real server knows.
const PUBLIC: (&str, Ipv4Addr, Ipv6Addr) =
    ("public.example", Ipv4Addr::new(203, 0, 113, 9), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9));

/// How many seconds an answer that should come may take.
const PATIENCE: u32 = 20;

pub(crate) fn run(backend: Backend) {
    if !possible() {
        return;
    }
    let world = World::without_servers().expect("the world can be made");
    let asked = Arc::new(AtomicUsize::new(0));
    let mut servers = Vec::new();
    for family in FamilyName::ALL {
        let resolver = Place::Resolver.socket(family, 53);
        let asked = asked.clone();
        let sidecar = move |query: &[u8], _, _| {
            asked.fetch_add(1, Ordering::Relaxed);
            answer(query, MESH).or_else(|| forward(query, resolver))
        };
        let real = |query: &[u8], _, _| answer(query, PUBLIC);
        servers
            .push(Server::datagrams(&world.workload, SIDECAR, family, 15053, sidecar).expect("the sidecar serves DNS"));
        servers.push(Server::datagrams(&world.outside, User::ROOT, family, 53, real).expect("the real server serves"));
        servers
            .push(Server::tcp(&world.workload, SIDECAR, Server::OUTBOUND, family, 15001).expect("the sidecar listens"));
    }
    // The addresses of names lead somewhere, or connecting to them would fail before any rule.
    let routes = format!(
        "route add {}/32 via {}\nroute add {}/128 via {}\n",
        MESH.1,
        Place::Outside.addr(FamilyName::V4),
        MESH.2,
        Place::Outside.addr(FamilyName::V6)
    );
    world.workload.enter(|| feed(Command::new("ip").args(["-batch", "-"]), &routes)).expect("the routes can be set");

    for capture_all in [true, false] {
        for family in FamilyName::ALL {
            let server = Place::Resolver.addr(family);
            let mut config = Config::default();
            config.redirect.dns.enabled = true;
            config.redirect.dns.capture_all = capture_all;
            let mut facts = Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid"));
            facts.resolvers = Some(Resolvers::new([server]));
            let plan = policy::plan(&config, &facts).expect("the configuration fits the facts");
            backend.install(&world, &plan).expect("the rules load");

            let resolve = |user: User, name: &str, patience| lookup(&world, server, user, name, patience);
            let both = |(_, four, six): (&str, Ipv4Addr, Ipv6Addr)| BTreeSet::from([IpAddr::from(four), six.into()]);
            assert_eq!(resolve(APP, MESH.0, PATIENCE), both(MESH), "{server}, captureAll: {capture_all}");
            assert_eq!(resolve(APP, PUBLIC.0, PATIENCE), both(PUBLIC), "{server}, captureAll: {capture_all}");
            let by_app = asked.swap(0, Ordering::Relaxed);
            assert!(by_app >= 4, "an address of each family of both names: {by_app}");
            // The sidecar's own queries are not for the sidecar.
            assert_eq!(resolve(SIDECAR, PUBLIC.0, PATIENCE), both(PUBLIC));
            // Nobody answers.
            assert!(resolve(SIDECAR, MESH.0, 1).is_empty());
            assert_eq!(asked.load(Ordering::Relaxed), 0);

            for addr in [IpAddr::from(MESH.1), MESH.2.into()] {
                let client = Client::new(Protocol::Tcp, SocketAddr::new(addr, 8080));
                let outcome = world.workload.enter_as(APP, || client.outcome());
                let Outcome::Reached(reached) = outcome else { panic!("{addr}: {outcome:?}") };
                assert_eq!(reached.answer.who, Server::OUTBOUND);
                assert_eq!(reached.answer.original, Some(SocketAddr::new(addr, 8080)));
            }
        }
    }
}

/// What the C library's resolver finds by a server, as a process of a user.
fn lookup(world: &World, server: IpAddr, user: User, name: &str, patience: u32) -> BTreeSet<IpAddr> {
    let script = format!(
        "mount -t tmpfs tmpfs /mnt && printf 'nameserver %s\\noptions timeout:{patience} attempts:1\\n' {server} > /mnt/resolv.conf \
         && mount --bind /mnt/resolv.conf /etc/resolv.conf \
         && exec setpriv --reuid {} --regid {} --clear-groups getent ahosts {name}",
        user.uid, user.gid
    );
    let output = world.workload.enter(|| Command::new("unshare").args(["--mount", "sh", "-c", &script]).output());
    let output = output.expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Asks another server, as the thread's user.
fn forward(query: &[u8], server: SocketAddr) -> Option<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().ok()?;
    let socket = UdpSocket::bind(any).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(PATIENCE.into()))).ok()?;
    socket.send_to(query, server).ok()?;
    let mut buffer = [0; 512];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(buffer[..length].to_vec())
}

/// The answer to a query (RFC 1035 section 4) for an address of a name, or that there is no such name; none if the query is for
/// a name that this server does not know and another may.
fn answer(query: &[u8], (name, four, six): (&str, Ipv4Addr, Ipv6Addr)) -> Option<Vec<u8>> {
    const A: u16 = 1;
    const AAAA: u16 = 28;
    let mut labels = Vec::new();
    let mut at = 12;
    while let Some(length) = query.get(at).copied().filter(|length| *length > 0) {
        let end = at + 1 + usize::from(length);
        labels.push(String::from_utf8(query.get(at + 1..end)?.to_vec()).ok()?);
        at = end;
    }
    let question = query.get(12..at + 5)?;
    let wanted = u16::from_be_bytes([query[at + 1], query[at + 2]]);
    let known = labels.join(".").eq_ignore_ascii_case(name);
    if !known && name.ends_with(".mesh") {
        return None;
    }
    let data = match wanted {
        A if known => Some(four.octets().to_vec()),
        AAAA if known => Some(six.octets().to_vec()),
        _ => None,
    };
    // A response; recursion was available; 3 says that there is no such name.
    let mut message =
        [&query[..2], &[0x81, if known { 0x80 } else { 0x83 }], &[0, 1, 0, u8::from(data.is_some()), 0, 0, 0, 0]]
            .concat();
    message.extend(question);
    if let Some(data) = data {
        message.extend([0xc0, 12]); // the name of the question
        message.extend(&question[question.len() - 4..]);
        message.extend([0, 0, 0, 60, 0, u8::try_from(data.len()).ok()?]);
        message.extend(data);
    }
    Some(message)
}
