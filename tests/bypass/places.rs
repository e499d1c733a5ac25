//! Ways that lead elsewhere: sockets that are bound to an interface, link-local addresses, an interface without an address, and
//! connections that a helper of connection tracking expects.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV6, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::Command;
use std::time::Duration;

use kumatp::Config;
use kumatp::net::FamilyName;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike as _, setsockopt, sockopt};

use crate::common::world::{
    APP, Answer, Netns, OUTSIDE, Place, SIDECAR, Server, User, WORKLOAD, feed, sysctl, when_free,
};
use crate::lab::{APP_PORT, Lab, OUTSIDE_PORT, Rules};
use crate::link::seen_on_link;
use crate::pair::{Call, Kind};

/// What a query says.
const QUERY: &[u8] = b"SECRET";

/// What a socket that is bound to an interface sends, or one that speaks to a link-local address, reaches the sidecar and does not leave.
/// With the rules of iptables it leaves for a loopback address, as with kumactl's.
pub(crate) fn interfaces(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    let _dns = dns_servers(&lab);
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    lab.install(rules, &config);
    let far = lab.world.outside.enter(|| link_local("eth0"));
    let near = lab.world.workload.enter(|| link_local("eth0"));
    let index = lab.world.workload.enter(|| nix::net::if_::if_nametoindex("eth0")).expect("the interface is there");
    let there = |port| SocketAddr::from(SocketAddrV6::new(far, port, 0, index));
    let _ = lab.link.left();

    let outside = |port| FamilyName::ALL.map(|family| Place::Outside.socket(family, port));
    let destinations = |port| outside(port).into_iter().chain([there(port)]);
    for (port, to) in (20000..).zip(destinations(OUTSIDE_PORT)) {
        let call = Call::of(Kind::Outbound, FamilyName::V4, port).to(to).by("eth0");
        let call = if rules.serve_all() { call } else { call.hopeless() };
        let (accepted, connected) = call.place(&lab);
        let who = accepted.map(|accepted| accepted.who);
        let expected = rules.serve_all().then_some(Server::OUTBOUND);
        assert_eq!(who, expected, "{rules:?}, bound to eth0, to {to}: {connected:?}");
    }
    for to in destinations(53) {
        let who = lab.world.workload.enter_as(APP, || ask(to, Some("eth0"), rules.serve_all()));
        let expected = rules.serve_all().then(|| Server::DNS.to_owned());
        assert_eq!(who, expected, "{rules:?}, a query to {to} of a socket that is bound to eth0");
    }
    let leaks = seen_on_link(&lab);
    assert_eq!(leaks.is_empty(), rules.close(), "{rules:?}: {leaks:?}");

    // Link-local addresses, of a socket that is not bound to anything before; and from outside.
    let (accepted, connected) = match rules.serve_all() {
        true => Call::of(Kind::Outbound, FamilyName::V6, 20010).to(there(OUTSIDE_PORT)),
        false => Call::of(Kind::Outbound, FamilyName::V6, 20010).to(there(OUTSIDE_PORT)).hopeless(),
    }
    .place(&lab);
    let who = accepted.map(|accepted| accepted.who);
    assert_eq!(who, rules.serve_all().then_some(Server::OUTBOUND), "to {far}: {connected:?}");
    let index = lab.world.outside.enter(|| nix::net::if_::if_nametoindex("eth0")).expect("the interface is there");
    let here = SocketAddr::from(SocketAddrV6::new(near, APP_PORT, 0, index));
    let (accepted, connected) = Call::of(Kind::Inbound, FamilyName::V6, 20011).to(here).place(&lab);
    assert_eq!(accepted.map(|accepted| accepted.who), Some(Server::INBOUND), "to {near}: {connected:?}");
    // The sidecar's own are its own.
    let (accepted, connected) = Call::of(Kind::Sidecar, FamilyName::V6, 20012).to(there(OUTSIDE_PORT)).place(&lab);
    assert_eq!(accepted.map(|accepted| accepted.who), Some(OUTSIDE), "to {far}: {connected:?}");
    assert_eq!(lab.world.workload.enter_as(SIDECAR, || ask(there(53), None, true)), Some(OUTSIDE.to_owned()));
}

/// What arrives by an interface without an IPv4 address, for one of this host's. A redirection finds no address to lead to there, as
/// with iptables; then nobody hears it.
pub(crate) fn no_address(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    let here: IpAddr = "192.0.2.9".parse().expect("a literal address");
    let batch = |netns: &Netns, lines: &str| netns.enter(|| feed(Command::new("ip").args(["-batch", "-"]), lines));
    lab.world.workload.enter(|| sysctl("net/ipv4/conf/all/rp_filter", "0")).expect("the host can be told to");
    let near = "addr flush dev br0 scope global\naddr add 192.0.2.9/32 dev lo\nroute add 172.20.0.0/16 dev br0 src 192.0.2.9\n";
    batch(&lab.world.workload, near).expect("addresses can move");
    batch(&lab.world.machine, "route add 192.0.2.9/32 dev eth0\n").expect("routes can be set");
    let machine = |port, hopeful| {
        let call = Call::of(Kind::Inbound, FamilyName::V4, port).to(SocketAddr::new(here, APP_PORT));
        let call = if hopeful { call } else { call.hopeless() };
        call.place_in(&lab, &lab.world.machine).0.map(|accepted| accepted.who)
    };
    assert_eq!(machine(20000, true), Some(WORKLOAD), "without rules");
    lab.install(rules, &Config::default());
    let expected = rules.serve_all().then_some(Server::INBOUND);
    assert_eq!(machine(20001, rules.serve_all()), expected, "{rules:?}");
}

/// Somebody assigned the helper of FTP to its port, and a server answers that data is to be fetched from the application's port: the
/// helper then expects that connection, and expected ones are translated as their master is.
pub(crate) fn expected_by_a_helper(rules: Rules) {
    const FTP: u16 = 21;
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    lab.install(rules, &Config::default());
    let chain = |hook: &str| {
        format!("chain {hook} {{ type filter hook {hook} priority -150; tcp dport {FTP} ct helper set \"ftp\"; }};")
    };
    let helper = format!(
        "table ip helper {{ ct helper ftp {{ type \"ftp\" protocol tcp; }}; {} {} }}",
        chain("prerouting"),
        chain("output")
    );
    let load = || feed(Command::new("nft").args(["-f", "-"]), &helper);
    if let Err(error) = lab.world.workload.enter(load) {
        return crate::common::skip::skipped(&format!("this kernel has no helper of FTP: {error}"));
    }
    let (accepted, client) =
        Call::of(Kind::Inbound, FamilyName::V4, 20000).to(Place::Own.socket(FamilyName::V4, FTP)).place(&lab);
    let server = accepted.expect("the sidecar accepts it");
    assert_eq!(server.who, Server::INBOUND);
    let client = client.expect("it is accepted");
    let mut heard = BufReader::new(&client);
    // The greeting has no end of line.
    (&server.stream).write_all(b"\r\n").expect("the client is there");
    heard.read_line(&mut String::new()).expect("the greeting comes");
    let [a, b] = APP_PORT.to_be_bytes();
    (&server.stream)
        .write_all(format!("227 Entering Passive Mode (10,77,0,1,{a},{b})\r\n").as_bytes())
        .expect("the client is there");
    heard.read_line(&mut String::new()).expect("the answer comes");
    let expected = lab.world.workload.enter(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack_expect"));
    if let Ok(expected) = expected {
        assert!(expected.contains(&format!("dport={APP_PORT}")), "the helper expects nothing: {expected}");
    }
    let call = Call::of(Kind::Inbound, FamilyName::V4, 20001).hopeless();
    let who = call.place(&lab).0.map(|accepted| accepted.who);
    assert_ne!(who, rules.close().then_some(WORKLOAD), "an expected connection");
    drop(client);
}

pub(crate) fn dns_servers(lab: &Lab) -> Vec<Server> {
    let (workload, outside) = (&lab.world.workload, &lab.world.outside);
    FamilyName::ALL
        .into_iter()
        .flat_map(|family| {
            [
                Server::udp(workload, SIDECAR, Server::DNS, family, 15053).expect("the sidecar serves DNS"),
                Server::udp(outside, User::ROOT, OUTSIDE, family, 53).expect("the real server serves"),
            ]
        })
        .collect()
}

fn ask(to: SocketAddr, interface: Option<&str>, hopeful: bool) -> Option<String> {
    ask_by(0, to, interface, hopeful)
}

/// Who answers a query from a port.
pub(crate) fn ask_by(port: u16, to: SocketAddr, interface: Option<&str>, hopeful: bool) -> Option<String> {
    let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
    let socket = when_free(|| UdpSocket::bind((any, port))).expect("the port is free");
    if let Some(interface) = interface {
        setsockopt(&socket.as_fd(), sockopt::BindToDevice, &interface.into()).expect("a socket can be bound to it");
    }
    let patience = Duration::from_millis(if hopeful { 10_000 } else { 150 });
    socket.set_read_timeout(Some(patience)).expect("a time");
    socket.send_to(QUERY, to).ok()?;
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).ok()?;
    let answer: Answer = String::from_utf8_lossy(&buffer[..length]).parse().ok()?;
    Some(answer.who)
}

/// The link-local address of an interface of the calling thread's namespace.
fn link_local(interface: &str) -> std::net::Ipv6Addr {
    let addrs = getifaddrs().expect("the host knows its addresses");
    addrs
        .filter(|addr| addr.interface_name == interface)
        .filter_map(|addr| addr.address)
        .filter(|addr| addr.family() == Some(nix::sys::socket::AddressFamily::Inet6))
        .filter_map(|addr| addr.as_sockaddr_in6().map(|addr| addr.ip()))
        .find(|addr| addr.is_unicast_link_local())
        .unwrap_or_else(|| panic!("{interface} has no link-local address"))
}
