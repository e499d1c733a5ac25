//! What iptables can say of the closing rules (`harden`), with real packets in network namespaces of their own.

#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

#[path = "common/netns.rs"]
mod netns;
#[path = "common/outside.rs"]
mod outside;

use std::ffi::OsString;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Status, state};
use kumatp::model::{IptablesMode, Options, Plan};
use kumatp::{facts, policy};
use netns::{isolated, run};
use nix::sys::socket::sockopt::{BindToDevice, ReuseAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket};
use outside::{client, foreign_rules, left_unredirected, listener, native_rules, network, program, programs, watch};

fn config(mode: IptablesMode, harden: bool) -> Config {
    let mut config = Config::default();
    config.kuma_dp_user = Some("5678".into());
    config.iptables_executables.v4 = programs("iptables", mode);
    config.iptables_executables.v6 = programs("ip6tables", mode);
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.inbound.exclude_ports = "22".parse().unwrap();
    config.harden = harden;
    config
}

fn plan(engine: &dyn Engine, config: &Config) -> Plan {
    let facts = facts::probe(&policy::facts_needed(config), engine.abilities(&config.options()).unwrap()).unwrap();
    policy::plan(config, &facts).unwrap()
}

fn install(config: &Config) -> Plan {
    let engine = Iptables::default();
    let plan = plan(&engine, config);
    engine.apply(&plan).unwrap();
    plan
}

/// Everybody's rules and chains, without counters.
fn rules(mode: IptablesMode) -> Vec<String> {
    let text = |family| run(program(family, mode, "-save").to_str().unwrap(), &[]);
    let text = ["iptables", "ip6tables"].map(text).concat();
    let chain = |line: &str| line.starts_with("-A") || line.contains(" - [");
    text.lines().filter(|line| chain(line)).map(|line| line.split(" [").next().unwrap().to_owned()).collect()
}

#[test]
fn hardened_rules_come_and_go() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            foreign_rules(mode);
            let before = rules(mode);
            for comments in [true, false] {
                let mut hardened = config(mode, true);
                hardened.comments.disabled = !comments;
                let plan = install(&hardened);
                let now = rules(mode);
                assert!(now.iter().any(|rule| rule.contains("-j KUMA_MESH_CLOSING_OUTBOUND")), "{now:?}");
                assert_eq!(state(Some(&plan), None).unwrap().status, Status::Current, "{mode}");
                install(&hardened);
                assert_eq!(rules(mode), now);
                // Without hardening, what was added for it goes.
                let usual = install(&config(mode, false));
                assert!(!rules(mode).iter().any(|rule| rule.contains("CLOSING")));
                assert!(matches!(state(Some(&plan), None).unwrap().status, Status::Drifted { .. }));
                assert_eq!(state(Some(&usual), None).unwrap().status, Status::Current);
                install(&hardened);
                let report = Iptables::default().uninstall(&Options::default()).unwrap();
                assert!(report.notes.is_empty(), "{report:?}");
                assert_eq!(rules(mode), before, "{mode}, comments: {comments}");
            }
        }
    });
}

#[test]
fn netlink_takes_the_place_of_hardened_rules() {
    isolated(|| {
        network();
        foreign_rules(IptablesMode::Nft);
        native_rules();
        let before = rules(IptablesMode::Nft);
        install(&config(IptablesMode::Nft, true));
        let engine = Netlink::default();
        let plan = plan(&engine, &config(IptablesMode::Nft, true));
        engine.apply(&plan).unwrap();
        assert_eq!(rules(IptablesMode::Nft), before);
        assert_eq!(state(Some(&plan), None).unwrap().status, Status::Current);
    });
}

/// Connects from a port, by an interface if one is named, and does not wait for the answer.
fn connect_from(port: u16, to: &str, device: Option<&str>) {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
    setsockopt(&socket, ReuseAddr, &true).unwrap();
    if let Some(device) = device {
        setsockopt(&socket, BindToDevice, &OsString::from(device)).unwrap();
    }
    let address = |text: &str| SockaddrStorage::from(text.parse::<std::net::SocketAddr>().unwrap());
    bind(socket.as_raw_fd(), &address(&format!("0.0.0.0:{port}"))).unwrap();
    // It is under way, or was refused at once.
    let _ = connect(socket.as_raw_fd(), &address(to));
}

#[test]
fn a_socket_that_is_bound_to_loopback_reserves_no_way_out() {
    isolated(|| {
        network();
        watch();
        for mode in IptablesMode::ALL {
            let mut port = 45001;
            let mut leave = |harden: bool| {
                install(&config(mode, harden));
                port += 1;
                let before = left_unredirected();
                connect_from(port, "10.88.0.1:80", Some("lo"));
                connect_from(port, "10.88.0.1:80", None);
                left_unredirected() - before
            };
            assert!(leave(false) > 0, "{mode}: without hardening nothing is left open here");
            assert_eq!(leave(true), 0, "{mode}");
            Iptables::default().uninstall(&Options::default()).unwrap();
        }
    });
}

#[test]
fn connections_are_redirected_as_without_hardening() {
    isolated(|| {
        network();
        watch();
        let accepted = [listener("127.0.0.1:15001"), listener("[::1]:15001")];
        for mode in IptablesMode::ALL {
            install(&config(mode, true));
            let stop = Arc::new(AtomicBool::new(false));
            let clients = [client("10.88.0.1:80", stop.clone()), client("[fd88::1]:80", stop.clone())];
            for round in 0..6 {
                install(&config(mode, round % 2 == 0));
            }
            stop.store(true, Ordering::Relaxed);
            for client in clients {
                let (made, failed) = client.join().unwrap();
                assert!(made > 0 && failed == 0, "{mode}: {made} made, {failed} failed");
            }
            Iptables::default().uninstall(&Options::default()).unwrap();
        }
        assert!(accepted.iter().all(|count| count.load(Ordering::Relaxed) > 0));
        assert_eq!(left_unredirected(), 0);
    });
}
