//! A real sidecar behind the rules: Envoy in a workload's network namespace, HTTP through it and past it.
//!
//! Envoy's log tells where each connection wanted to go; the servers tell who asked them. It takes root, since Envoy and
//! the workload have users of their own, and an Envoy: see `Sidecar::program`.
#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "threads become other users, each by itself")]

#[cfg(feature = "ebpf")]
mod cgroup;
mod http;
mod sidecar;
#[path = "../common/skip.rs"]
mod skip;
mod world;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report};
use kumatp::model::{FamilyExecutables, IptablesMode};
use kumatp::net::FamilyName;
use kumatp::{Error, facts, policy};

use sidecar::{Entry, Listener, Sidecar};
use world::{APP, PORT, PORT_EXCLUDED_INBOUND, PORT_EXCLUDED_OUTBOUND, SIDECAR, Server, World};

#[test]
fn iptables_nft() {
    run(Rules::Iptables(IptablesMode::Nft));
}

#[test]
fn iptables_legacy() {
    run(Rules::Iptables(IptablesMode::Legacy));
}

#[test]
fn netlink() {
    run(Rules::Netlink);
}

#[cfg(feature = "ebpf")]
#[test]
fn ebpf() {
    cgroup::in_a_cgroup("ebpf", || run(Rules::Ebpf));
}

/// What makes the rules, or does what they do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Iptables(IptablesMode),
    Netlink,
    #[cfg(feature = "ebpf")]
    Ebpf,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    App,
    Outside,
    Sidecar,
}

/// How a request gets to its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Direct,
    Through(Listener),
}

const INBOUND: Way = Way::Through(Listener::Inbound);
const OUTBOUND: Way = Way::Through(Listener::Outbound);

/// What Kuma documents, for both address families.
const CASES: [(Client, Server, u16, Way); 13] = [
    (Client::Outside, Server::Workload, PORT, INBOUND),
    (Client::Outside, Server::Workload, PORT_EXCLUDED_INBOUND, Way::Direct),
    (Client::Outside, Server::Workload, PORT_EXCLUDED_OUTBOUND, INBOUND),
    (Client::App, Server::Outside, PORT, OUTBOUND),
    (Client::App, Server::Outside, PORT_EXCLUDED_INBOUND, OUTBOUND),
    (Client::App, Server::Outside, PORT_EXCLUDED_OUTBOUND, Way::Direct),
    (Client::App, Server::OutsideExcluded, PORT, Way::Direct),
    (Client::App, Server::OutsideExcluded, PORT_EXCLUDED_INBOUND, Way::Direct),
    (Client::App, Server::Workload, PORT, Way::Direct),
    (Client::App, Server::Loopback, PORT, Way::Direct),
    (Client::Sidecar, Server::Outside, PORT, Way::Direct),
    // What the sidecar sends to its own workload takes the way that others take, unless it comes from 127.0.0.6 or ::6.
    (Client::Sidecar, Server::Workload, PORT, INBOUND),
    (Client::Sidecar, Server::Loopback, PORT, Way::Direct),
];

fn run(rules: Rules) {
    let (program, config, world) = match possible(rules) {
        Ok(found) => found,
        Err(why) => {
            return skip::skipped(&why.to_string());
        }
    };
    let sidecar = Sidecar::start(&program, &world.workload).unwrap();

    ask(&world, "/before", |_| Way::Direct);
    let report = world.workload.enter(|| rules.install(&config)).unwrap();
    assert!(report.changed, "{report:?}");
    let mut expected = ask(&world, "/installed", |way| way);
    let report = world.workload.enter(|| rules.engine().uninstall(&config.options())).unwrap();
    assert!(report.changed, "{report:?}");
    ask(&world, "/after", |_| Way::Direct);

    expected.sort();
    assert_eq!(sidecar.stop(expected.len()), expected);
}

/// Asks in all cases, checks who the servers saw, and returns what has to be in the access log.
fn ask(world: &World, path: &str, way: impl Fn(Way) -> Way) -> Vec<Entry> {
    let mut through = Vec::new();
    for family in FamilyName::ALL {
        for (client, server, port, usual) in CASES {
            let way = way(usual);
            let destination = SocketAddr::new(server.ip(family), port);
            let what = format!("{path} of {destination} by {client:?}, {way:?}");
            let (place, user) = match client {
                Client::App => (&world.workload, APP),
                Client::Outside => (&world.outside, APP),
                Client::Sidecar => (&world.workload, SIDECAR),
            };
            let answer = place.get(user, destination, path).unwrap_or_else(|error| panic!("{what}: {error}"));
            let Way::Through(listener) = way else {
                assert_eq!(answer.seen, answer.client, "{what}: the server sees the client itself");
                continue;
            };
            let from: IpAddr = match listener {
                Listener::Inbound => sidecar::passthrough(family),
                Listener::Outbound => Server::Workload.ip(family),
            };
            assert_ne!(answer.seen, answer.client, "{what}: the server sees another connection");
            assert_eq!(answer.seen.ip(), from, "{what}: the server sees the sidecar");
            through.push(Entry {
                client: answer.client,
                listener,
                destination,
                upstream: destination,
                flags: "-".into(),
            });
        }
    }
    through
}

impl Rules {
    fn engine(self) -> Box<dyn Engine> {
        match self {
            Self::Iptables(_) => Box::new(Iptables::default()),
            Self::Netlink => Box::new(Netlink::default()),
            #[cfg(feature = "ebpf")]
            Self::Ebpf => {
                std::fs::create_dir_all(cgroup::BPFFS).expect("/run is the workload's own");
                Box::new(kumatp::engine::ebpf::Ebpf::default().bpffs(cgroup::BPFFS).cgroup(cgroup::current()))
            }
        }
    }

    /// Makes the rules in the network namespace of the calling thread.
    fn install(self, config: &Config) -> Result<Report, Error> {
        let engine = self.engine();
        let facts = facts::probe(&policy::facts_needed(config), engine.abilities(&config.options())?)?;
        engine.apply(&policy::plan(config, &facts)?)
    }

    /// The error names a program that is missing.
    fn config(self) -> Result<Config, String> {
        let mut config = Config::default();
        config.kuma_dp_user = Some(SIDECAR.to_string());
        config.redirect.inbound.exclude_ports = PORT_EXCLUDED_INBOUND.to_string().parse().expect("a port");
        config.redirect.outbound.exclude_ports = PORT_EXCLUDED_OUTBOUND.to_string().parse().expect("a port");
        config.redirect.outbound.exclude_ips =
            FamilyName::ALL.map(|f| Server::OutsideExcluded.ip(f).to_string().parse().expect("an address")).to_vec();
        match self {
            Self::Iptables(mode) => {
                config.iptables_executables.v4 = programs("iptables", mode)?;
                config.iptables_executables.v6 = programs("ip6tables", mode)?;
            }
            Self::Netlink => {}
            #[cfg(feature = "ebpf")]
            Self::Ebpf => {}
        }
        Ok(config)
    }
}

fn programs(name: &str, mode: IptablesMode) -> Result<FamilyExecutables, String> {
    let find = |suffix: &str| {
        let name = format!("{name}-{mode}{suffix}");
        let found = ["/usr/sbin", "/sbin"].map(|dir| PathBuf::from(dir).join(&name)).into_iter().find(|p| p.exists());
        found.map(Some).ok_or(format!("no {name}"))
    };
    let mut programs = FamilyExecutables::default();
    programs.tables = find("")?;
    programs.save = find("-save")?;
    programs.restore = find("-restore")?;
    Ok(programs)
}

/// All that it takes, where it can be tried here. The error says why it cannot.
fn possible(rules: Rules) -> Result<(PathBuf, Config, World), String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("programs of several users need root".into());
    }
    let (program, config) = (Sidecar::program()?, rules.config()?);
    match World::new() {
        Ok(world) => Ok((program, config, world)),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(format!("namespaces are not allowed: {error}"))
        }
        Err(error) => panic!("{error}"),
    }
}
