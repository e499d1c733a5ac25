//! Installing, replacing, failing and removing.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Status, state};
use kumatp::facts::Facts;
use kumatp::model::Plan;
use kumatp::net::{FamilyName, Uid};
use kumatp::{Config, Error, policy};

use crate::common::world::{
    APP, BPFFS, Client, Outcome, Place as Where, Protocol, SIDECAR, Server, Session, User, World, cgroup,
};
use crate::netns::isolated;
use crate::objects::Objects;
use crate::place::Place;

const V4: FamilyName = FamilyName::V4;

fn ebpf() -> Ebpf {
    Ebpf::default().bpffs(BPFFS).cgroup(cgroup())
}

fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    policy::plan(&config, &Facts::capable_host(Uid::new(SIDECAR.uid).unwrap())).unwrap()
}

/// In the world's namespace of the workload.
fn here<R: Send>(world: &World, work: impl FnOnce() -> R + Send) -> R {
    world.workload.enter(work)
}

fn ask(world: &World, user: User, to: SocketAddr) -> Outcome {
    world.workload.enter_as(user, || Client::new(Protocol::Tcp, to).outcome())
}

fn who(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Reached(reached) => reached.answer.who.clone(),
        other => other.to_string(),
    }
}

fn pinned() -> Vec<PathBuf> {
    let mut dirs = vec![PathBuf::from(BPFFS)];
    let mut all = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            all.push(entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                dirs.push(entry.path());
            }
        }
    }
    all.retain(|path| !["maps.debug", "progs.debug"].iter().any(|known| path.ends_with(known)));
    all
}

fn is_mounted() -> bool {
    fs::read_to_string("/proc/self/mounts").unwrap().contains(BPFFS)
}

#[test]
fn everything_comes_and_goes() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let before = Objects::count();
        let plan = plan(|_| {});
        here(&world, || {
            assert_eq!(ebpf().status(&plan).unwrap(), Status::Absent);
            ebpf().check(&plan).unwrap();
            assert_eq!(Objects::count(), before, "a check leaves nothing");
            let report = ebpf().apply(&plan).unwrap();
            assert!(report.changed, "{report:?}");
            assert_eq!(ebpf().status(&plan).unwrap(), Status::Current);
            assert!(!ebpf().apply(&plan).unwrap().changed);
            let programs = ebpf().programs().unwrap().unwrap();
            assert_eq!((programs.attached.len(), programs.generation), (11, 1));
            let there = Objects::count();
            let added = (there.programs - before.programs, there.links - before.links, there.maps - before.maps);
            assert_eq!(added, (11, 11, 9));
        });
        let own = ask(&world, APP, Where::Outside.socket(V4, 9000));
        assert_eq!(who(&own), Server::OUTBOUND);
        here(&world, || {
            let counted = ebpf().programs().unwrap().unwrap().counters;
            assert!(counted.contains(&("outbound_redirected".to_owned(), 1)), "{counted:?}");
            let mut config = Config::default();
            config.dry_run = true;
            assert_eq!(ebpf().uninstall(&config).unwrap().steps[0], "would remove the eBPF programs");
            assert_eq!(ebpf().status(&plan).unwrap(), Status::Current);
            let report = ebpf().uninstall(&Config::default()).unwrap();
            assert!(report.changed, "{report:?}");
            assert!(!ebpf().uninstall(&Config::default()).unwrap().changed);
            assert_eq!(ebpf().status(&plan).unwrap(), Status::Absent);
        });
        assert_eq!(who(&ask(&world, APP, Where::Outside.socket(V4, 9000))), "outside");
        assert_eq!(Objects::count(), before);
        assert!(pinned().is_empty() && !is_mounted(), "{:?}", pinned());
    });
}

#[test]
fn sockets_of_ipv6_reach_ipv4_and_the_workload_sees_whom_it_called() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let plan = plan(|config| {
            config.redirect.dns.enabled = true;
            config.redirect.dns.capture_all = true;
        });
        here(&world, || {
            // From now on IPv6 sockets are of both families, as they usually are.
            fs::write("/proc/sys/net/ipv6/bindv6only", "0").unwrap();
            ebpf().apply(&plan).unwrap();
        });
        let four: std::net::Ipv4Addr = "10.77.0.2".parse().unwrap();
        let mapped = SocketAddr::new(four.to_ipv6_mapped().into(), 9000);
        let outcome = ask(&world, APP, mapped);
        let Outcome::Reached(reached) = &outcome else { panic!("{outcome}") };
        assert_eq!(reached.answer.who, Server::OUTBOUND);
        assert_eq!(reached.answer.original, Some("10.77.0.2:9000".parse().unwrap()));
        for to in [mapped, Where::Outside.socket(V4, 9000), Where::Outside.socket(FamilyName::V6, 9000)] {
            let peer = world.workload.enter_as(APP, || Client::new(Protocol::Tcp, to).connect()?.peer_addr());
            assert_eq!(peer.unwrap(), to);
        }
        // A query of a socket that is not connected.
        world.workload.enter_as(APP, || {
            for (bound, to) in
                [("0.0.0.0:0", Where::Resolver.socket(V4, 53)), ("[::]:0", Where::Resolver.socket(FamilyName::V6, 53))]
            {
                let socket = UdpSocket::bind(bound).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
                socket.send_to(b"?", to).unwrap();
                let mut buffer = [0; 256];
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                assert!(String::from_utf8_lossy(&buffer[..length]).starts_with(Server::DNS));
                assert_eq!(from, to, "the answer is from the server that was asked");
            }
        });
        let addr = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 8080);
        assert_eq!(who(&ask(&world, APP, addr)), "workload");
        here(&world, || ebpf().uninstall(&Config::default()).unwrap());
    });
}

#[test]
fn without_a_sidecar_connections_are_refused_and_with_one_again_they_are_not() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::without_servers().unwrap();
        here(&world, || ebpf().apply(&plan(|_| {})).unwrap());
        let outside = Where::Outside.socket(V4, 9000);
        let _peer = Server::tcp(&world.outside, User::ROOT, "outside", V4, 9000).unwrap();
        let _workload = Server::tcp(&world.workload, APP, "workload", V4, 8080).unwrap();
        let own = Where::Own.socket(V4, 8080);
        let inbound = || world.outside.enter(|| Client::new(Protocol::Tcp, own).outcome());
        for round in 0..3 {
            let tries = Instant::now();
            loop {
                // The first packets wait until the interfaces are up.
                match (ask(&world, APP, outside), inbound()) {
                    (Outcome::Refused, Outcome::Refused) => break,
                    (_, Outcome::Silence | Outcome::Failed(_)) if tries.elapsed() < Duration::from_secs(5) => {}
                    other => panic!("round {round}: {other:?}"),
                }
            }
            let _out = Server::tcp(&world.workload, SIDECAR, Server::OUTBOUND, V4, 15001).unwrap();
            let _in = Server::tcp(&world.workload, SIDECAR, Server::INBOUND, V4, 15006).unwrap();
            assert_eq!(who(&ask(&world, APP, outside)), Server::OUTBOUND);
            assert_eq!(who(&inbound()), Server::INBOUND);
        }
        here(&world, || ebpf().uninstall(&Config::default()).unwrap());
    });
}

#[test]
fn a_replacement_lets_no_connection_escape() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let plans = [plan(|_| {}), plan(|config| config.redirect.outbound.exclude_ports = "22".parse().unwrap())];
        here(&world, || ebpf().apply(&plans[0]).unwrap());
        let to = Where::Outside.socket(V4, 9000);
        let mut session = world.workload.enter_as(APP, || Session::open(Client::new(Protocol::Tcp, to))).unwrap();
        let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let outcome = ask(&world, APP, to);
                        let Outcome::Reached(reached) = &outcome else { panic!("{outcome}") };
                        assert_eq!(reached.answer.who, Server::OUTBOUND);
                        assert_eq!(reached.answer.original, Some(to));
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for round in 1..=40 {
                    here(&world, || assert!(ebpf().apply(&plans[round % 2]).unwrap().changed));
                }
            }));
            stop.store(true, Ordering::Relaxed);
            result.unwrap();
        });
        assert!(made.load(Ordering::Relaxed) > 40);
        session.check().unwrap();
        here(&world, || {
            assert_eq!(ebpf().programs().unwrap().unwrap().generation, 41);
            ebpf().uninstall(&Config::default()).unwrap();
        });
        session.check().expect("connections survive the removal");
    });
}

#[test]
fn an_installation_over_rules_takes_their_place_and_the_other_way_round() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let plan = plan(|_| {});
        // Other engines look for programs in the usual place.
        let usual = || Ebpf::default().cgroup(cgroup());
        here(&world, || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
            let none = None::<&str>;
            nix::mount::mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), nix::mount::MsFlags::empty(), none).unwrap();
            assert!(Netlink::default().apply(&plan).unwrap().changed);
            let report = usual().apply(&plan).unwrap();
            assert!(report.steps.iter().any(|step| step.contains("removed the tables ip kuma-mesh")), "{report:?}");
            assert!(!usual().apply(&plan).unwrap().changed);
            let found = state(Some(&plan), None).unwrap();
            assert_eq!(found.installations.len(), 1, "{found:?}");
            assert_eq!(found.installations[0].families, FamilyName::ALL);
            // The cgroup that all processes are in is another one, which is a difference.
            assert!(matches!(found.status, Status::Drifted { .. }), "{found:?}");
            assert_eq!(state(None, None).unwrap().status, Status::Current);
        });
        assert_eq!(who(&ask(&world, APP, Where::Outside.socket(V4, 9000))), Server::OUTBOUND);
        here(&world, || {
            let report = Netlink::default().apply(&plan).unwrap();
            assert!(report.steps.contains(&"removed the eBPF programs".to_owned()), "{report:?}");
            assert_eq!(usual().status(&plan).unwrap(), Status::Absent);
        });
        assert_eq!(who(&ask(&world, APP, Where::Outside.socket(V4, 9000))), Server::OUTBOUND);
        assert_eq!(Objects::count(), Objects::NONE);
    });
}

/// Set in a process that installs until it is killed.
const INSTALLER: &str = "KUMATP_TEST_INSTALLER";

#[test]
fn an_installer_that_is_killed_leaves_it_on_or_off() {
    isolated(|| {
        if std::env::var_os(INSTALLER).is_some() {
            let _ = ebpf_of(&std::env::var("KUMATP_TEST_CGROUP").unwrap()).apply(&plan(|_| {}));
            return;
        }
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let before = Objects::count();
        let to = Where::Outside.socket(V4, 9000);
        let exe = std::env::current_exe().unwrap();
        // A bpffs that is there, as the process that would mount it may be killed.
        let none = None::<&str>;
        nix::mount::mount(Some("bpf"), BPFFS, Some("bpf"), nix::mount::MsFlags::empty(), none).unwrap();
        let (mut on, mut off) = (0, 0);
        for round in 0..60_u64 {
            let mut command = Command::new(&exe);
            command.args(["life::an_installer_that_is_killed_leaves_it_on_or_off", "--exact"]);
            command.env(INSTALLER, "1").env("KUMATP_TEST_CGROUP", cgroup());
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
            let mut child = here(&world, || command.spawn()).unwrap();
            thread::sleep(Duration::from_micros(1500 + round * 400));
            child.kill().unwrap();
            child.wait().unwrap();
            match who(&ask(&world, APP, to)).as_str() {
                "outside" => off += 1,
                Server::OUTBOUND => on += 1,
                other => panic!("round {round}: {other}"),
            }
            if round % 2 == 0 {
                here(&world, || ebpf().uninstall(&Config::default())).unwrap();
                assert_eq!(who(&ask(&world, APP, to)), "outside");
                assert!(pinned().is_empty(), "{:?}", pinned());
            }
        }
        println!("{on} times on, {off} times off");
        here(&world, || {
            ebpf().apply(&plan(|_| {})).unwrap();
            assert_eq!(ebpf().status(&plan(|_| {})).unwrap(), Status::Current);
            ebpf().uninstall(&Config::default()).unwrap();
        });
        assert_eq!(Objects::count(), before);
    });
}

fn ebpf_of(cgroup: &str) -> Ebpf {
    Ebpf::default().bpffs(BPFFS).cgroup(cgroup)
}

#[test]
fn several_installers_take_turns() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::new().unwrap();
        let plans = [plan(|_| {}), plan(|config| config.redirect.outbound.exclude_ports = "22".parse().unwrap())];
        thread::scope(|scope| {
            for one in 0..4 {
                let (world, plans) = (&world, &plans);
                scope.spawn(move || {
                    for round in 0..5 {
                        here(world, || match (one + round) % 3 {
                            0 => ebpf().uninstall(&Config::default()).map(drop),
                            which => ebpf().apply(&plans[which - 1]).map(drop),
                        })
                        .unwrap();
                    }
                });
            }
        });
        here(&world, || {
            ebpf().apply(&plans[0]).unwrap();
            assert_eq!(ebpf().status(&plans[0]).unwrap(), Status::Current);
            ebpf().uninstall(&Config::default()).unwrap();
        });
        assert_eq!(Objects::count(), Objects::NONE);
        assert!(pinned().is_empty());
    });
}

#[test]
fn what_is_wrong_is_named() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::without_servers().unwrap();
        let said = |engine: Ebpf| here(&world, || engine.apply(&plan(|_| {})).unwrap_err());
        let error = said(ebpf().cgroup("/proc"));
        assert!(matches!(&error, Error::Unsupported { what, .. } if what.contains("/proc")), "{error}");
        let error = said(ebpf().bpffs("/proc"));
        assert!(error.to_string().contains("/proc is no bpffs"), "{error}");
        let error = said(ebpf().bpffs("/nowhere"));
        assert_eq!(error.errno(), Some(nix::libc::ENOENT), "{error}");
        // Without capabilities.
        let error = here(&world, || {
            nix::unistd::seteuid(nix::unistd::Uid::from_raw(1000)).unwrap();
            let error = ebpf().check(&plan(|_| {})).unwrap_err();
            nix::unistd::seteuid(nix::unistd::Uid::from_raw(0)).unwrap();
            error
        });
        assert!(matches!(&error, Error::Permission { needed, .. } if needed.contains("CAP_BPF")), "{error}");
        // A bpffs elsewhere has an installation in this namespace.
        here(&world, || ebpf().apply(&plan(|_| {})).unwrap());
        fs::create_dir("/run/other").unwrap();
        let error = said(ebpf().bpffs("/run/other"));
        assert!(matches!(&error, Error::Conflict { .. }), "{error}");
        here(&world, || ebpf().uninstall(&Config::default()).unwrap());
        assert_eq!(Objects::count(), Objects::NONE);
    });
}

#[test]
fn a_cgroup_that_goes_away_is_a_difference() {
    isolated(|| {
        let Some(_place) = Place::new() else { return };
        let world = World::without_servers().unwrap();
        let gone = format!("{}-gone", cgroup());
        fs::create_dir(&gone).unwrap();
        here(&world, || {
            let plan = plan(|_| {});
            let engine = || Ebpf::default().bpffs(BPFFS).cgroup(&gone);
            engine().apply(&plan).unwrap();
            fs::remove_dir(&gone).unwrap();
            let started = Instant::now();
            // The kernel detaches them in the background.
            while ebpf().programs().unwrap().unwrap().attached[0].target != 0 {
                assert!(started.elapsed() < Duration::from_secs(5));
                thread::sleep(Duration::from_millis(20));
            }
            assert!(matches!(ebpf().status(&plan).unwrap(), Status::Drifted { .. }));
            assert!(ebpf().apply(&plan).unwrap().changed);
            assert_eq!(ebpf().status(&plan).unwrap(), Status::Current);
            ebpf().uninstall(&Config::default()).unwrap();
        });
    });
}
