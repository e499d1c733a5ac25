//! Connections that are open when the first rules come, and connection tracking with them. In network namespaces of their own;
//! an ordinary user will do.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/inside.rs"]
mod inside;
#[path = "common/isolated.rs"]
mod isolated;

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, Report};
use kumatp::model::{IpFamilyMode, Options, Severity};
use kumatp::net::Uid;
use kumatp::netns::Namespace;
use kumatp::{Facts, Plan, policy};

use self::inside::inside;
use self::isolated::{isolated, run, skipped};

const POD: &str = "/run/netns/pod";
const PEER: &str = "/run/netns/peer";

/// More than anything here takes, so that a packet that is lost is a failure and not a hang.
const PATIENCE: Duration = Duration::from_secs(20);

fn plan(config: &Config) -> Plan {
    policy::plan(config, &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

fn nft(command: &str) -> String {
    inside(POD, || run("nft", &[command], ""))
}

fn install(plan: &Plan) -> Report {
    Netlink::default().in_namespace(Namespace::open(POD).unwrap()).apply(plan).unwrap()
}

fn uninstall() {
    Netlink::default().in_namespace(Namespace::open(POD).unwrap()).uninstall(&Options::default()).unwrap();
}

/// What the report says of open connections.
fn said(report: &Report) -> Vec<String> {
    report.notes.iter().filter(|note| note.about == "open connections").map(ToString::to_string).collect()
}

/// A pod and a peer of it, with listeners.
struct Lab {
    /// In the pod: on all addresses of both families, on IPv4 alone, and the sidecar's.
    pod: Vec<TcpListener>,
    peer: Vec<TcpListener>,
}

impl Lab {
    fn new() -> Self {
        for line in [
            "netns add pod",
            "netns add peer",
            "-n pod link add eth0 type veth peer name eth0 netns peer",
            "-n pod addr add 10.77.0.2/24 dev eth0",
            "-n peer addr add 10.77.0.1/24 dev eth0",
            "-n pod addr add fd77::2/64 dev eth0 nodad",
            "-n peer addr add fd77::1/64 dev eth0 nodad",
            "-n pod link set eth0 up",
            "-n peer link set eth0 up",
            "-n pod link set lo up",
            "-n peer link set lo up",
        ] {
            run("ip", &line.split(' ').collect::<Vec<_>>(), "");
        }
        let listen = |list: &[&str]| list.iter().map(|addr| TcpListener::bind(addr).unwrap()).collect();
        Self {
            pod: inside(POD, || listen(&["[::]:8080", "0.0.0.0:8081", "[::]:15001", "[::]:15006"])),
            peer: inside(PEER, || listen(&["[::]:9000"])),
        }
    }

    /// Opens a connection from a namespace: the client's end and the server's, and the port of who accepted.
    fn open(&self, from: &str, to: &str) -> Pair {
        let to: SocketAddr = to.parse().unwrap();
        self.accepted(inside(from, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap())
    }

    fn accepted(&self, client: TcpStream) -> Pair {
        let own = client.local_addr().unwrap();
        let listeners: Vec<_> = self.pod.iter().chain(&self.peer).collect();
        loop {
            for listener in &listeners {
                listener.set_nonblocking(true).unwrap();
                match listener.accept() {
                    Ok((server, from)) => {
                        assert_eq!(from.port(), own.port());
                        let port = listener.local_addr().unwrap().port();
                        server.set_nonblocking(false).unwrap();
                        for end in [&client, &server] {
                            end.set_read_timeout(Some(PATIENCE)).unwrap();
                        }
                        return Pair { client, server, port };
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// One of every kind that is not redirected without rules.
    fn one_of_each(&self) -> Vec<Pair> {
        [
            (PEER, "10.77.0.2:8080"),
            (PEER, "10.77.0.2:8081"),
            (PEER, "[fd77::2]:8080"),
            (POD, "10.77.0.1:9000"),
            (POD, "[fd77::1]:9000"),
            (POD, "[::ffff:10.77.0.1]:9000"),
            (POD, "127.0.0.1:8081"),
            (POD, "[::1]:8080"),
            (POD, "10.77.0.2:8080"),
            (POD, "[fd77::2]:8080"),
        ]
        .map(|(from, to)| self.open(from, to))
        .into()
    }

    /// New connections go to the sidecar.
    fn assert_new_ones_are_redirected(&self) {
        for (from, to, who) in [
            (PEER, "10.77.0.2:8080", 15006),
            (PEER, "[fd77::2]:8080", 15006),
            (POD, "10.77.0.1:9000", 15001),
            (POD, "[fd77::1]:9000", 15001),
        ] {
            let mut new = self.open(from, to);
            assert_eq!(new.port, who, "{from} to {to}");
            new.assert_alive();
        }
    }
}

struct Pair {
    client: TcpStream,
    server: TcpStream,
    port: u16,
}

impl Pair {
    fn assert_alive(&mut self) {
        let name = format!("{:?}", self.client);
        say(&mut self.client, &mut self.server, &name);
        say(&mut self.server, &mut self.client, &name);
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream, name: &str) {
    from.write_all(b"hello").unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut heard = [0; 5];
    to.read_exact(&mut heard).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(&heard, b"hello", "{name}");
}

#[test]
fn they_go_on_in_both_directions_and_families() {
    isolated(|| {
        let lab = Lab::new();
        let mut open = lab.one_of_each();
        let report = install(&plan(&Config::default()));
        assert_eq!(said(&report), ["open connections: 10 that were opened before the rules go on as they were opened"]);
        lab.assert_new_ones_are_redirected();
        for pair in &mut open {
            pair.assert_alive();
        }
        // Nothing is begun, so there is nothing to do.
        let mut other = Config::default();
        other.redirect.outbound.exclude_ports = "22".parse().unwrap();
        assert!(said(&install(&plan(&other))).is_empty());
        for pair in &mut open {
            pair.assert_alive();
        }
    });
}

#[test]
fn half_closed_ones_go_on_the_other_way() {
    isolated(|| {
        let lab = Lab::new();
        let mut open = lab.one_of_each();
        let half = open.len() / 2;
        for (index, pair) in open.iter_mut().enumerate() {
            let (done, other) = match index < half {
                true => (&mut pair.client, &mut pair.server),
                false => (&mut pair.server, &mut pair.client),
            };
            done.shutdown(Shutdown::Write).unwrap();
            assert_eq!(other.read(&mut [0]).unwrap(), 0);
        }
        install(&plan(&Config::default()));
        for (index, pair) in open.iter_mut().enumerate() {
            let (done, other) = match index < half {
                true => (&mut pair.client, &mut pair.server),
                false => (&mut pair.server, &mut pair.client),
            };
            say(other, done, &format!("{index}"));
            other.shutdown(Shutdown::Write).unwrap();
            assert_eq!(done.read(&mut [0]).unwrap(), 0, "{index}");
        }
        lab.assert_new_ones_are_redirected();
    });
}

#[test]
fn thousands_at_once() {
    const EACH: usize = 500;
    isolated(|| {
        // Both ends are here.
        let wanted = u64::try_from(4 * 2 * EACH + 100).unwrap();
        if !raise_open_files(wanted) {
            return skipped(&format!("{wanted} files cannot be open here"));
        }
        let lab = Lab::new();
        let ends =
            [(PEER, "10.77.0.2:8080"), (PEER, "[fd77::2]:8080"), (POD, "10.77.0.1:9000"), (POD, "[fd77::1]:9000")];
        let mut open: Vec<_> = ends.iter().cycle().take(4 * EACH).map(|(from, to)| lab.open(from, to)).collect();
        let report = install(&plan(&Config::default()));
        let all = open.len();
        assert_eq!(
            said(&report),
            [format!("open connections: {all} that were opened before the rules go on as they were opened")]
        );
        for pair in &mut open {
            pair.assert_alive();
        }
        lab.assert_new_ones_are_redirected();
    });
}

/// Where connections are tracked already, there are entries, and nothing is to be made.
#[test]
fn those_that_are_tracked_are_left_alone() {
    isolated(|| {
        let lab = Lab::new();
        nft(
            "add table inet fw { chain i { type filter hook input priority 0; ct state invalid drop; }; chain o { type filter hook output priority 0; ct state invalid drop; }; }",
        );
        let mut open = lab.one_of_each();
        assert!(said(&install(&plan(&Config::default()))).is_empty());
        for pair in &mut open {
            pair.assert_alive();
        }
        lab.assert_new_ones_are_redirected();
    });
}

/// Of a family without rules, nothing is tracked.
#[test]
fn only_families_with_rules_are_looked_at() {
    isolated(|| {
        let lab = Lab::new();
        let mut open = lab.one_of_each();
        let mut config = Config::default();
        config.ip_family_mode = IpFamilyMode::Ipv4;
        let report = install(&plan(&config));
        assert_eq!(said(&report), ["open connections: 6 that were opened before the rules go on as they were opened"]);
        for pair in &mut open {
            pair.assert_alive();
        }
        // Tracking of IPv6 begins now.
        let report = install(&plan(&Config::default()));
        assert_eq!(said(&report), ["open connections: 4 that were opened before the rules go on as they were opened"]);
        for pair in &mut open {
            pair.assert_alive();
        }
        lab.assert_new_ones_are_redirected();
    });
}

/// What ended while nobody tracked it keeps nobody from its ports at the next installation.
#[test]
fn entries_of_what_has_ended_are_removed() {
    isolated(|| {
        let lab = Lab::new();
        let Pair { client, server, .. } = lab.open(PEER, "10.77.0.2:8080");
        let mut other = lab.open(PEER, "10.77.0.2:8080");
        let ports = client.local_addr().unwrap();
        assert_eq!(said(&install(&plan(&Config::default()))).len(), 1);
        uninstall();
        // At once, without a state in which the ports are kept.
        let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&client, nix::sys::socket::sockopt::Linger, &at_once).unwrap();
        drop((client, server));
        // The other one's entry is there still.
        assert!(said(&install(&plan(&Config::default()))).is_empty());
        other.assert_alive();
        let client = inside(PEER, || connect_from(ports, "10.77.0.2:8080".parse().unwrap()));
        let mut again = lab.accepted(client);
        assert_eq!(again.port, 15006);
        again.assert_alive();
    });
}

/// A redirected connection whose entry was lost gets none that would let it leave in clear.
#[test]
fn what_is_redirected_is_not_taken_for_older_than_the_rules() {
    isolated(|| {
        if Command::new("conntrack").arg("--version").output().is_err() {
            return skipped("conntrack is not there");
        }
        let lab = Lab::new();
        install(&plan(&Config::default()));
        let mut redirected = ["10.77.0.1:9000", "[fd77::1]:9000"].map(|to| lab.open(POD, to));
        inside(POD, || Command::new("conntrack").arg("-F").output().unwrap());
        let mut other = Config::default();
        other.redirect.outbound.exclude_ports = "22".parse().unwrap();
        assert!(said(&install(&plan(&other))).is_empty());
        for pair in &mut redirected {
            assert_eq!(pair.port, 15001);
            // The client speaks first, and is redirected again.
            pair.assert_alive();
        }
    });
}

/// Nor when the rules were gone too, as after a firewall was loaded again: the sidecar has the other end of it, or has accepted it
/// where it listens.
#[test]
fn what_was_redirected_by_rules_that_are_gone_is_not_either() {
    isolated(|| {
        if Command::new("conntrack").arg("--version").output().is_err() {
            return skipped("conntrack is not there");
        }
        let lab = Lab::new();
        let plan = plan(&Config::default());
        install(&plan);
        let mut redirected = Vec::from(["10.77.0.1:9000", "[fd77::1]:9000"].map(|to| (lab.open(POD, to), 15001)));
        redirected.extend(["10.77.0.2:8080", "[fd77::2]:8080"].map(|to| (lab.open(PEER, to), 15006)));
        uninstall();
        inside(POD, || Command::new("conntrack").arg("-F").output().unwrap());
        let mut open = lab.one_of_each();
        let report = install(&plan);
        assert_eq!(said(&report), ["open connections: 10 that were opened before the rules go on as they were opened"]);
        for (pair, port) in &mut redirected {
            assert_eq!(pair.port, *port);
            pair.assert_alive();
        }
        for pair in &mut open {
            pair.assert_alive();
        }
    });
}

/// The engine iptables does the same where its rules close what it opens: with `harden`.
#[test]
fn they_go_on_under_hardened_rules_of_iptables() {
    isolated(|| {
        if !std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295") {
            return skipped("rules that name the sidecar's uid cannot be made where that does not exist");
        }
        let here = |mode: &str| {
            ["iptables", "ip6tables"].iter().all(|name| {
                Command::new(format!("{name}-{mode}-save")).output().is_ok_and(|output| output.status.success())
            })
        };
        if !here("nft") {
            return skipped("iptables-nft is not there");
        }
        let mut config = Config::default();
        config.harden = true;
        let lab = Lab::new();
        let mut open = lab.one_of_each();
        let plan = plan(&config);
        let install = || Iptables::default().in_namespace(Namespace::open(POD).unwrap()).apply(&plan).unwrap();
        let report = install();
        assert_eq!(said(&report), ["open connections: 10 that were opened before the rules go on as they were opened"]);
        for pair in &mut open {
            pair.assert_alive();
        }
        lab.assert_new_ones_are_redirected();
        open.push(lab.open(PEER, "10.77.0.2:8080"));
        assert!(said(&install()).is_empty());
        for pair in &mut open {
            pair.assert_alive();
        }
    });
}

/// A system that does not let sockets be listed.
#[test]
fn a_refusal_is_named_and_the_rules_are_made() {
    isolated(|| {
        let lab = Lab::new();
        let open = lab.open(PEER, "10.77.0.2:8080");
        let report = thread::scope(|scope| {
            let refused = scope.spawn(|| {
                refuse_sock_diag();
                install(&plan(&Config::default()))
            });
            refused.join().unwrap()
        });
        let said = said(&report);
        assert!(
            said.len() == 1 && said[0].contains("may be reset") && said[0].contains("sock_diag is refused"),
            "{said:?}"
        );
        assert!(report.notes.iter().any(|note| note.severity == Severity::Warning && said[0] == note.to_string()));
        drop(open);
        lab.assert_new_ones_are_redirected();
    });
}

fn connect_from(own: SocketAddr, to: SocketAddr) -> TcpStream {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
    };
    use std::os::fd::AsRawFd as _;

    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, sockopt::ReuseAddr, &true).unwrap();
    setsockopt(&fd, sockopt::SendTimeout, &nix::sys::time::TimeValLike::seconds(20)).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(own)).unwrap();
    connect(fd.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
    fd.into()
}

#[expect(unsafe_code, reason = "nix knows limits only with another of its features")]
fn raise_open_files(wanted: u64) -> bool {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is that of `limit`, which outlives the calls.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 || limit.rlim_max < wanted {
            return false;
        }
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) == 0
    }
}

/// Has the system refuse this thread, and those that it starts, `socket(AF_NETLINK, …, NETLINK_SOCK_DIAG)`.
#[expect(unsafe_code, reason = "nix does not know seccomp")]
fn refuse_sock_diag() {
    let statement = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code.try_into().unwrap(), jt, jf, k };
    let load = |at: u32| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, at);
    // Skips so many statements where it is not that number.
    let equal =
        |number: i64, or: u8| statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, or, number.try_into().unwrap());
    let answer = |answer: u32| statement(libc::BPF_RET | libc::BPF_K, 0, 0, answer);
    // struct seccomp_data: the number, the architecture, the instruction, and six arguments of 64 bits.
    let low = |argument: u32| 16 + 8 * argument + if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut filter = [
        load(0),
        equal(libc::SYS_socket, 5),
        load(low(0)),
        equal(libc::AF_NETLINK.into(), 3),
        load(low(2)),
        equal(libc::NETLINK_SOCK_DIAG.into(), 1),
        answer(libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr() };
    // SAFETY: the program and its statements outlive the calls.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program), 0);
    }
}
