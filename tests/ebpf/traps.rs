//! What went wrong for those who tried this before, each as a test. Others are in `clients` (this host's own addresses, one
//! socket that asks two servers) and the script `compilers` (what compilers make of loads from the context).

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::{Engine as _, Status};
use kumatp::net::FamilyName;
use kumatp::netns::Namespace;
use nix::libc;

use crate::common::world::{APP, BPFFS, Netns, OUTSIDE, Place, SIDECAR, Server, cgroup};
use crate::ground::{Ground, Installer, engine, plan};
use crate::netns::{isolated, run};
use crate::place::tells_namespaces;
use crate::sockets::{Listening, PATIENCE, blocking, greet, greeting, listener, reset, serve, without_memory};

/// All connections of the workload end at one listener. There may be more of them than ephemeral ports all the same.
#[test]
fn more_connections_than_ports() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let range = "/proc/sys/net/ipv4/ip_local_port_range";
        ground.workload().enter(|| std::fs::write(range, "40000 40099")).expect("a parameter");
        let connect = |to: IpAddr| {
            ground.workload().enter_as(APP, || -> io::Result<TcpStream> {
                let to = SocketAddr::new(to, 9000);
                let stream = blocking(to)?;
                assert_eq!(greeting(&stream)?.original, Some(to));
                Ok(stream)
            })
        };
        let open: io::Result<Vec<_>> = (0..300_u32).map(|i| connect(Ipv4Addr::from(0xf000_0000 + i).into())).collect();
        open.expect("each has a port").into_iter().for_each(reset);
        // Documented: IPv6 has one loopback address, so there are as many as there are ports.
        let there = Place::Outside.addr(FamilyName::V6);
        let open: io::Result<Vec<_>> = (0..100).map(|_| connect(there)).collect();
        open.expect("each has a port").into_iter().for_each(reset);
        ground.end();
    });
}

/// The address that a host gets later is not known: `status` says so, and the next installation knows it.
#[test]
fn an_address_that_comes_later() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let plan = plan(|_| ());
        assert_eq!(ground.status(&plan), Status::Current);
        ip(ground.workload(), "addr add 10.77.0.99/24 dev eth0");
        ip(ground.workload(), "addr add fd77::99/64 dev eth0 nodad");
        let Status::Drifted { differences } = ground.status(&plan) else { panic!("the addresses are other ones") };
        assert!(differences.iter().any(|text| text.contains("addresses")), "{differences:?}");
        ground.install(|_| ());
        assert_eq!(ground.status(&plan), Status::Current);
        await_listed(ground.workload(), "-6 route show table local", "local fd77::99 ");
        for to in ["10.77.0.99:8080", "[fd77::99]:8080"] {
            let to = to.parse().expect("an address");
            let answer = ground.workload().enter_as(APP, || greeting(&blocking(to)?)).expect("an answer");
            assert_eq!(answer.who, "workload", "{to}");
            let answer = ground.workload().enter_as(SIDECAR, || greeting(&blocking(to)?)).expect("an answer");
            assert_eq!(answer.who, Server::INBOUND, "{to}");
        }
        ground.end();
    });
}

/// An address of IPv6 is there at once, but its local route comes in the background, and where the kernel asks whether another
/// host has it, only when none has. It is known before, and nothing drifts when its route has come.
#[test]
fn an_address_that_has_no_route_yet() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let ip = |args: &str| ip(ground.workload(), args);
        let from = |user, to| ground.workload().enter_as(user, || greeting(&blocking(to)?)).expect("an answer");
        let set = |interface: &str, parameter: &str| {
            let parameter = format!("/proc/sys/net/ipv6/conf/{interface}/{parameter}");
            ground.workload().enter(|| std::fs::write(parameter, "1")).expect("a parameter");
        };
        // Another host has this one, so it stays that host's.
        let there = Place::Outside.socket(FamilyName::V6, 9000);
        set("eth0", "accept_dad");
        ip(&format!("addr add {}/64 dev eth0", there.ip()));
        await_listed(ground.workload(), "-6 addr show dev eth0 dadfailed", &there.ip().to_string());
        // Nobody can be asked as long as the other end is down, as with an interface that was just given to a container.
        ip("link add late type veth peer name far");
        set("late", "accept_dad");
        // No address that the kernel makes up, which would be a new one.
        ["late", "far"].iter().for_each(|interface| set(interface, "addr_gen_mode"));
        ip("link set late up");
        ip("addr add fd88::1/64 dev late");
        // Nobody will be asked, for all that is known, as the interface itself is down: there is no route, now or later.
        ip("link add idle type bridge");
        set("idle", "accept_dad");
        ip("addr add fd99::1/64 dev idle");

        let plan = plan(|_| ());
        ground.install(|_| ());
        assert_eq!(ground.status(&plan), Status::Current);
        ip("link set far up");
        await_listed(ground.workload(), "-6 route show table local", "local fd88::1 ");
        ip("link delete idle");
        assert_eq!(ground.status(&plan), Status::Current);

        let own = "[fd88::1]:8080".parse().expect("an address");
        assert_eq!(from(APP, own).who, "workload");
        assert_eq!(from(SIDECAR, own).who, Server::INBOUND);
        let answer = from(APP, there);
        assert_eq!((answer.who.as_str(), answer.original), (Server::OUTBOUND, Some(there)));
        ground.end();
    });
}

fn ip(netns: &Netns, args: &str) -> String {
    netns.enter(|| run("ip", &args.split(' ').collect::<Vec<_>>()))
}

fn await_listed(netns: &Netns, args: &str, what: &str) {
    let until = Instant::now() + PATIENCE;
    while !ip(netns, args).contains(what) {
        assert!(Instant::now() < until, "ip {args} has no {what}: {}", ip(netns, args));
        sleep(Duration::from_millis(10));
    }
}

/// Answers that are longer than what programs see stay whole, and errors stay errors.
#[test]
fn other_socket_options_are_left_alone() {
    isolated(|| {
        const GROUPS: usize = 3_000;
        let Some(ground) = Ground::installed(|_| ()) else { return };
        for user in [APP, SIDECAR] {
            ground.workload().enter_as(user, || {
                let groups: Vec<libc::gid_t> = (10_000..).take(GROUPS).collect();
                // SAFETY: the kernel reads that many numbers, for this thread alone.
                let set = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
                assert_eq!(set, 0, "{}", io::Error::last_os_error());
                let (socket, _peer) = UnixStream::pair().expect("sockets");
                let mut answer = vec![0_u8; 4 * GROUPS];
                let length = option(&socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, &mut answer).expect("an answer");
                assert_eq!(length, 4 * GROUPS);
                let words = answer.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four")));
                assert!(words.eq(10_000..10_000 + GROUPS as u32));
                // A buffer that is too small is told so, as before.
                let short = option(&socket, libc::SOL_SOCKET, libc::SO_PEERGROUPS, &mut [0; 8]);
                assert_eq!(short.expect_err("too short").raw_os_error(), Some(libc::ERANGE));
                let nothing = option(&socket, libc::SOL_SOCKET, 9_999, &mut [0; 8]);
                assert_eq!(nothing.expect_err("no option").raw_os_error(), Some(libc::ENOPROTOOPT));
            });
        }
        // Who is not the sidecar has no original destination of what was not redirected.
        let stream = ground.workload().enter_as(APP, || blocking(Place::Own.socket(FamilyName::V4, 8080)));
        let stream = stream.expect("a connection");
        let asked = ground.workload().enter_as(APP, || option(&stream, libc::SOL_IP, 80, &mut [0; 16]));
        assert!(asked.is_err(), "{asked:?}");
        // The same number at another level is another option.
        let other = ground.workload().enter_as(SIDECAR, || option(&stream, libc::SOL_SOCKET, 80, &mut [0; 16]));
        assert!(other.is_err(), "{other:?}");
        ground.end();
    });
}

/// The sidecar may give the kernel less or more room than it takes.
#[test]
fn room_for_original_destinations() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        ground.install(|_| ());
        for (family, level, size) in [(FamilyName::V4, libc::SOL_IP, 16), (FamilyName::V6, libc::SOL_IPV6, 28)] {
            let listener = listener(ground.workload(), SIDECAR, family, 15001, Listening::default()).expect("the port");
            let there = Place::Outside.socket(family, 9000);
            let client = ground.workload().enter_as(APP, || blocking(there)).expect("a connection");
            let (stream, _) = listener.accept().expect("a connection");
            let ask = |room: usize| {
                let mut answer = vec![0_u8; room];
                let length = option(&stream, level, 80, &mut answer);
                length.map(|length| (length, u16::from_be_bytes([answer[2], answer[3]])))
            };
            ground.workload().enter_as(SIDECAR, || {
                for room in [size, size + 1, 128, 4_096] {
                    assert_eq!(ask(room).unwrap_or_else(|error| panic!("{room} bytes: {error}")), (size, 9000));
                }
                for room in [0, 4, size - 1] {
                    assert!(ask(room).is_err(), "{room} bytes are not enough");
                }
                // Asked for as if it was of the other family.
                let wrong = if level == libc::SOL_IP { libc::SOL_IPV6 } else { libc::SOL_IP };
                assert!(option(&stream, wrong, 80, &mut [0; 28]).is_err());
            });
            drop(client);
        }
        ground.end();
    });
}

/// getsockopt(2) with this much room; the length of the answer.
fn option(socket: &impl std::os::fd::AsFd, level: i32, name: i32, answer: &mut [u8]) -> io::Result<usize> {
    let mut length = answer.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most that many bytes.
    let result =
        unsafe { libc::getsockopt(socket.as_fd().as_raw_fd(), level, name, answer.as_mut_ptr().cast(), &mut length) };
    if result == 0 { Ok(length as usize) } else { Err(io::Error::last_os_error()) }
}

/// `ip netns exec` hides the cgroups and the bpffs of the machine: that is said, with the way out, and the way out works.
#[test]
fn in_ip_netns_exec() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        run("ip", &["netns", "add", "pod"]);
        // What there is on an ordinary machine, and nothing else.
        let hide =
            "umount -l /run/cgroup; for at in $(findmnt -rn -t cgroup2 -o TARGET); do umount -l $at; done; exec \"$@\"";
        let exec = ["unshare", "-m", "sh", "-c", hide, "sh", "ip", "netns", "exec", "pod"];
        let said = Installer::behind(&exec, "install").cgroup("").run(ground.workload()).expect_err("no cgroup2");
        assert!(said.contains("--netns") && said.contains("ip netns exec") && said.contains("cgroup2"), "{said}");
        let pod = || Namespace::open("/run/netns/pod").expect("it is there");
        let engine = || engine().in_namespace(pod());
        assert!(engine().apply(&plan(|_| ())).expect("an installation").changed);
        assert_eq!(engine().status(&plan(|_| ())).expect("a status"), Status::Current);
        // Not where the caller is.
        assert_eq!(ground.status(&plan(|_| ())), Status::Absent);
        engine().uninstall(&kumatp::model::Options::default()).expect("a removal");
        run("ip", &["netns", "del", "pod"]);
        ground.end();
    });
}

/// Entries for connections that nobody accepted are many, and then the sidecar is back: each connection is its own.
#[test]
fn many_connections_that_were_refused() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        ground.install(|_| ());
        let connect = |number: u32, port: u16| {
            let to = SocketAddr::new(Ipv4Addr::from(0xf000_0000 + number).into(), port);
            (to, blocking(to))
        };
        // More than there is room for.
        ground.workload().enter_as(APP, || {
            for number in 0..40_000 {
                let (to, stream) = connect(number, 80);
                let error = stream.map(drop).expect_err("nobody listens");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused, "{to}");
            }
        });
        let listener = listener(ground.workload(), SIDECAR, FamilyName::V4, 15001, Listening::default()).expect("it");
        let server = serve(listener, SIDECAR, |mut stream| drop(greet(&mut stream, Server::OUTBOUND))).expect("it");
        ground.workload().enter_as(APP, || {
            for number in 0..2_000 {
                let (to, stream) = connect(number, 443);
                let stream = stream.expect("a connection");
                assert_eq!(greeting(&stream).expect("an answer").original, Some(to));
                reset(stream);
            }
        });
        drop(server);
        ground.end();
    });
}

/// A socket that cannot be remembered must not get past the sidecar.
#[test]
fn no_memory_for_a_socket() {
    isolated(|| {
        let Some(ground) = Ground::installed(crate::ground::with_dns) else { return };
        let room = "/proc/sys/net/core/optmem_max";
        // It is one of network namespaces since Linux 6.8, and of the whole machine before.
        let before = ground.workload().enter(|| std::fs::read_to_string(room)).ok();
        let connect = if before.is_some() { blocking } else { without_memory };
        if before.is_some() {
            ground.workload().enter(|| std::fs::write(room, "1")).expect("a parameter");
        }
        for family in FamilyName::ALL {
            let to = Place::Outside.socket(family, 9000);
            let error = ground.workload().enter_as(APP, || connect(to)).expect_err("it cannot be remembered");
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}");
        }
        assert_eq!(ground.counted("outbound_refused"), 2);
        if let Some(before) = before {
            ground.workload().enter(|| std::fs::write(room, before.trim())).expect("a parameter");
        }
        let to = Place::Outside.socket(FamilyName::V4, 9000);
        let answer = ground.workload().enter_as(APP, || greeting(&blocking(to)?)).expect("an answer");
        assert_eq!(answer.who, Server::OUTBOUND);
        ground.end();
    });
}

/// Two workloads of one machine, each with its own installation in one bpffs: neither knows of the other.
#[test]
fn installations_beside_each_other() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let other = &ground.world.machine;
        let exclude = plan(|config| config.redirect.outbound.exclude_ports = "9000".parse().expect("a port"));
        let beside = other.enter(|| engine().apply(&exclude));
        if !tells_namespaces() {
            // The programs would take the sockets of one workload for the other's.
            let text = beside.expect_err("the first workload is in the cgroup").to_string();
            assert!(text.contains(&cgroup()) && text.contains("--ebpf-cgroup-path"), "{text}");
            let status = other.enter(|| {
                std::fs::write(cgroup() + "/cgroup.threads", "0").expect("a thread may come");
                ground.status(&plan(|_| ()))
            });
            let Status::Drifted { differences } = status else { panic!("a thread of another namespace has come") };
            assert!(differences[0].contains("cannot tell network namespaces"), "{differences:?}");
            return ground.end();
        }
        beside.expect("an installation beside the first");
        let ask = |netns: &Netns, port: u16| {
            let to = Place::Outside.socket(FamilyName::V4, port);
            netns.enter_as(APP, || greeting(&blocking(to)?)).map(|answer| answer.who).map_err(|error| error.kind())
        };
        assert_eq!(ask(ground.workload(), 9000).as_deref(), Ok(Server::OUTBOUND));
        assert_eq!(ask(other, 9000).as_deref(), Ok(OUTSIDE));
        assert_eq!(ask(other, 9001), Err(io::ErrorKind::ConnectionRefused), "there is no sidecar");
        let inbound = Place::Own.socket(FamilyName::V4, 8080);
        let answer = ground.world.outside.enter(|| greeting(&blocking(inbound)?)).expect("an answer");
        assert_eq!(answer.who, Server::INBOUND);
        other.enter(|| engine().uninstall(&kumatp::model::Options::default())).expect("a removal");
        assert_eq!(ask(ground.workload(), 9000).as_deref(), Ok(Server::OUTBOUND));
        assert_eq!(ask(other, 9001).as_deref(), Ok(OUTSIDE));
        assert_eq!(crate::objects::Objects::count_until(crate::ground::INSTALLATION), crate::ground::INSTALLATION);
        ground.end();
    });
}

/// An installation whose pins are elsewhere is not doubled.
#[test]
fn another_bpffs() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        std::fs::create_dir("/run/other").expect("/run is our own");
        let other = || Ebpf::default().bpffs("/run/other").cgroup(cgroup());
        let error = ground.workload().enter(|| other().apply(&plan(|_| ()))).expect_err("it would be two");
        let text = error.to_string();
        assert!(text.contains("--ebpf-bpffs-path"), "{text}");
        assert_eq!(std::fs::read_dir("/run/other").expect("it is there").count(), 0);
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!mounts.contains("/run/other") && mounts.contains(BPFFS), "{mounts}");
        ground.end();
        let text = std::fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        assert!(!text.contains(BPFFS), "the bpffs that was mounted for it stays mounted: {text}");
    });
}

/// One who was killed after it had mounted the bpffs, or before it could unmount it, leaves no more than that.
#[test]
fn a_bpffs_without_installations() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let mounted = || std::fs::read_to_string("/proc/self/mountinfo").expect("mounts").contains(BPFFS);
        // Somebody else's stays.
        run("mount", &["-t", "bpf", "none", BPFFS]);
        ground.uninstall();
        assert!(mounted());
        std::fs::create_dir(format!("{BPFFS}/kumatp-mounted")).expect("root can write there");
        ground.uninstall();
        assert!(!mounted(), "what was mounted for installations goes with the last one");
        ground.end();
    });
}
