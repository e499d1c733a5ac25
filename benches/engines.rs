//! What installing costs, and what a connection costs afterwards, side by side in one run.
//!
//! `cargo bench --features cli --bench engines`, as root. Everything happens in a network namespace that
//! is made for it. Figures are medians; what counts are the ratios, since a shared machine is never twice
//! the same. `-- --test` runs each part once, to see that it works.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kumatp::config::{Config, IpFamilyMode};
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, uninstall_all};
use kumatp::net::{Uid, V4};
use kumatp::netlink::{Batch, Content};
use kumatp::nftables::Native;
use kumatp::render::iptables::Style;
use kumatp::{Facts, Plan, policy, render};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, SockaddrIn, bind, connect, listen,
    recv, send, setsockopt, socket, sockopt,
};

fn main() {
    let once = std::env::args().any(|arg| arg == "--test");
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: a network namespace is needed, which takes root: {error}");
        assert!(std::env::var_os("KUMATP_REQUIRE_ALL").is_none());
        return;
    }
    prepare();
    let rounds = |n| if once { 1 } else { n };
    in_process(rounds(60));
    whole_process(rounds(25));
    many_intervals(rounds(11), once);
    connections(rounds(5), if once { 50 } else { 4_000 });
}

/// An interface whose addresses are not this host's, so that connections to them are outbound.
fn prepare() {
    for line in [
        "link set lo up",
        "link add workload type veth peer name outside",
        "link set outside up",
        "address add 10.9.0.1/16 dev workload",
        "-6 address add fd09::1/64 dev workload nodad",
        "link set workload up",
    ] {
        let status = Command::new("ip").args(line.split(' ')).status().expect("the program ip");
        assert!(status.success(), "ip {line}");
    }
}

fn plan(config: &Config) -> Plan {
    policy::plan(config, &Facts::capable_host(Uid::SIDECAR)).expect("a plan")
}

/// Two configurations of one size, so that each installation over the other really replaces it.
fn two_plans() -> [Plan; 2] {
    [15001_u16, 15002].map(|port| {
        let mut config = Config::default();
        config.redirect.outbound.port = kumatp::net::Port::new(port).expect("a port");
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.redirect.inbound.exclude_ports = "22,9000-9100".parse().expect("ports");
        plan(&config)
    })
}

fn in_process(rounds: usize) {
    println!("\nin the process, both families: our engine against one bare sendmsg of the same bytes");
    let plans = two_plans();
    let engine = Netlink::default();
    let bytes = |replace: bool| {
        plans.each_ref().map(|plan| {
            let mut batch = Batch::new(None);
            for table in Native::of(plan).tables() {
                if replace {
                    batch.remove(table.family);
                }
                batch.add(table.family, &Content::of(table));
            }
            batch.commit().bytes().to_vec()
        })
    };
    let (replacing, fresh) = (bytes(true), bytes(false));
    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    let _ = engine.uninstall(&Config::default());
    for round in 0..rounds * 2 {
        settle();
        floor.push(time(|| bare(&replacing[round % 2])));
        settle();
        // The other one is there now.
        ours.push(time(|| {
            assert!(engine.apply(&plans[(round + 1) % 2]).expect("an installation").changed);
        }));
    }
    compare("replace", "bare sendmsg", &mut floor, &[("our engine", &mut ours)]);
    let mut unchanged: Vec<_> = (0..rounds * 2)
        .map(|_| time(|| assert!(!engine.apply(&plans[(rounds * 2) % 2]).expect("an installation").changed)))
        .collect();
    compare("nothing to change", "bare sendmsg", &mut floor, &[("our engine", &mut unchanged)]);

    let (mut ours, mut floor) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        engine.uninstall(&Config::default()).expect("a removal");
        settle();
        floor.push(time(|| bare(&fresh[round % 2])));
        engine.uninstall(&Config::default()).expect("a removal");
        settle();
        ours.push(time(|| drop(engine.apply(&plans[round % 2]).expect("an installation"))));
    }
    compare("fresh", "bare sendmsg", &mut floor, &[("our engine", &mut ours)]);
    engine.uninstall(&Config::default()).expect("a removal");
}

/// Lets the kernel free what was removed before: whoever closes the next socket would wait for it.
fn settle() {
    std::thread::sleep(Duration::from_millis(25));
}

/// Sends a batch and waits for its acknowledgement, with nothing around it.
fn bare(bytes: &[u8]) {
    let fd =
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, Some(SockProtocol::NetlinkNetFilter))
            .expect("a socket");
    let raw = fd.as_raw_fd();
    connect(raw, &NetlinkAddr::new(0, 0)).expect("the kernel");
    setsockopt(&fd, sockopt::SndBuf, &(8 << 20)).expect("a buffer");
    assert_eq!(send(raw, bytes, MsgFlags::empty()).expect("sent"), bytes.len());
    let mut answer = [0; 8192];
    let length = recv(raw, &mut answer, MsgFlags::empty()).expect("an answer");
    // struct nlmsghdr, then the error number, which is 0 in an acknowledgement.
    assert!(length >= 20 && answer[16..20] == [0; 4], "the kernel refused: {:?}", &answer[..length.min(40)]);
}

fn whole_process(rounds: usize) {
    println!("\nwhole processes, both families, over an installation of the other configuration");
    let Some(kumatp) = option_env!("CARGO_BIN_EXE_kumatp") else {
        println!("skipped: the command is not built; add --features cli");
        return;
    };
    let files = two_plans().map(|plan| Files::of(&plan));
    let run = |command: &mut Command| {
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    };
    let input = |path: &Path| Stdio::from(File::open(path).expect("a file"));
    type Install<'a> = &'a dyn Fn(&Files);
    let contenders: [(&str, Install<'_>); 4] = [
        ("kumatp install", &|files| {
            run(Command::new(kumatp).args(["install", "--kuma-dp-user", "5678", "--config"]).arg(&files.yaml));
        }),
        ("nft -f", &|files| run(Command::new("nft").arg("-f").arg(&files.nft))),
        ("both iptables-nft-restore", &|files| {
            run(Command::new("iptables-nft-restore").arg("--noflush").stdin(input(&files.v4)));
            run(Command::new("ip6tables-nft-restore").arg("--noflush").stdin(input(&files.v6)));
        }),
        ("both iptables-legacy-restore", &|files| {
            run(Command::new("iptables-legacy-restore").arg("--noflush").stdin(input(&files.v4)));
            run(Command::new("ip6tables-legacy-restore").arg("--noflush").stdin(input(&files.v6)));
        }),
    ];
    let mut times = contenders.map(|_| Vec::new());
    for _ in 0..rounds {
        for ((_, install), times) in contenders.iter().zip(&mut times) {
            install(&files[0]);
            times.push(time(|| install(&files[1])));
            // What one has installed must not be in the way of the next.
            uninstall_all(&Config::default(), None).expect("a removal");
        }
    }
    let [ours, nft, nft_restore, legacy_restore] = &mut times;
    let others = [(contenders[1].0, nft), (contenders[2].0, nft_restore), (contenders[3].0, legacy_restore)];
    compare("replace", contenders[0].0, ours, &others);
}

/// The rules of a plan as each contender wants them.
struct Files {
    yaml: PathBuf,
    nft: PathBuf,
    v4: PathBuf,
    v6: PathBuf,
}

impl Files {
    fn of(plan: &Plan) -> Self {
        let name = format!("kumatp-bench-{}-{}", std::process::id(), plan.config.redirect.outbound.port);
        let file = |suffix: &str, text: String| {
            let path = std::env::temp_dir().join(format!("{name}.{suffix}"));
            std::fs::write(&path, text).expect("a file");
            path
        };
        Self {
            yaml: file("yaml", plan.config.to_yaml()),
            nft: file("nft", render::nft::plan(plan)),
            v4: file("v4", flushed(&render::iptables::ruleset(&plan.v4, Style::Short))),
            v6: file("v6", flushed(&render::iptables::ruleset(plan.v6.as_ref().expect("IPv6"), Style::Short))),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in [&self.yaml, &self.nft, &self.v4, &self.v6] {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// The text for a host that has the same rules: built-in chains and ours are emptied first.
fn flushed(text: &str) -> String {
    let mut flushed = String::new();
    for line in text.lines() {
        match line.strip_prefix("-N ") {
            Some(chain) => flushed.push_str(&format!(":{chain} - [0:0]\n")),
            None => flushed.push_str(&format!("{line}\n")),
        }
        if line.starts_with("* ") {
            flushed.push_str("-F PREROUTING\n-F OUTPUT\n");
        }
    }
    flushed
}

fn many_intervals(rounds: usize, once: bool) {
    println!("\ninstalling excluded prefixes, in the process");
    let engine = Netlink::default();
    let mut least = None;
    for n in if once { vec![100] } else { vec![1_250, 5_000, 20_000] } {
        let mut config = Config::default();
        // Every second /28, so that none can be merged.
        let prefix = |i: u32| format!("{}/28", Ipv4Addr::from((10 << 24) + (i << 5))).parse().expect("a prefix");
        config.redirect.outbound.exclude_ips = (0..n).map(prefix).collect();
        let plan = plan(&config);
        let mut times: Vec<_> = (0..rounds)
            .map(|_| {
                engine.uninstall(&Config::default()).expect("a removal");
                time(|| drop(engine.apply(&plan).expect("an installation")))
            })
            .collect();
        let each = median(&mut times) / n;
        let least = *least.get_or_insert(each);
        println!(
            "  {n:>6} prefixes: {:>9.3?}; a prefix {:.2} times as long as with the fewest",
            median(&mut times),
            ratio(each, least)
        );
    }
    engine.uninstall(&Config::default()).expect("a removal");
}

/// Something that puts rules in force and takes them away again.
struct Contender {
    name: &'static str,
    install: Box<dyn Fn(&Plan)>,
    remove: Box<dyn Fn()>,
}

fn connections(rounds: usize, each: usize) {
    println!("\na new connection that is redirected: the time connect() takes");
    let listener = listener(15001);
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let iptables = |name, mode| Contender {
        name,
        install: restore(mode),
        remove: Box::new(|| drop(Iptables::default().uninstall(&Config::default()).expect("a removal"))),
    };
    let engines = [
        Contender {
            name: "netlink",
            install: Box::new(|plan| drop(Netlink::default().apply(plan).expect("an installation"))),
            remove: Box::new(|| drop(Netlink::default().uninstall(&Config::default()).expect("a removal"))),
        },
        iptables("iptables-nft", "nft"),
        iptables("iptables-legacy", "legacy"),
    ];
    let sizes: &[u32] = if each < 100 { &[0, 100] } else { &[0, 100, 1_000, 10_000] };
    for kind in ["ports", "prefixes"] {
        for &n in sizes {
            let plan = &excluding(kind, n);
            let mut times = engines.each_ref().map(|_| Vec::new());
            for _ in 0..rounds {
                for (engine, times) in engines.iter().zip(&mut times) {
                    (engine.install)(plan);
                    let mut took: Vec<_> = (0..each).map(|_| time(connect_once)).collect();
                    times.push(median(&mut took));
                    (engine.remove)();
                }
            }
            let [netlink, nft, legacy] = &mut times;
            compare(
                &format!("{n} excluded {kind}"),
                engines[0].name,
                netlink,
                &[(engines[1].name, nft), (engines[2].name, legacy)],
            );
        }
    }
}

/// A listener that holds as many connections as are made, so that none waits for another.
fn listener(port: u16) -> TcpListener {
    let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    bind(fd.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port)).expect("the port");
    listen(&fd, Backlog::new(4_096).expect("a length")).expect("a listener");
    fd.into()
}

fn connect_once() {
    let server = SocketAddr::from((Ipv4Addr::new(10, 9, 1, 1), 9));
    let stream = TcpStream::connect_timeout(&server, Duration::from_secs(1)).expect("a redirected connection");
    // No TIME_WAIT, so that ports do not run out.
    let _ = setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 });
}

fn excluding(kind: &str, n: u32) -> Plan {
    let mut config = Config::default();
    config.ip_family_mode = IpFamilyMode::Ipv4;
    let outbound = &mut config.redirect.outbound;
    match kind {
        "ports" => {
            let ports: Vec<_> = (0..n).map(|i| (20_000 + 2 * i).to_string()).collect();
            outbound.exclude_ports = ports.join(",").parse().expect("ports");
        }
        _ => {
            let prefix = |i: u32| format!("{}/28", Ipv4Addr::from((11 << 24) + (i << 5))).parse().expect("a prefix");
            outbound.exclude_ips = (0..n).map(prefix).collect();
        }
    }
    plan(&config)
}

/// Loads the text with the programs of a mode, as the iptables engine would.
fn restore(mode: &'static str) -> Box<dyn Fn(&Plan)> {
    Box::new(move |plan| {
        let text = render::iptables::ruleset::<V4>(&plan.v4, Style::Short);
        let mut child = Command::new(format!("iptables-{mode}-restore"))
            .arg("--noflush")
            .stdin(Stdio::piped())
            .spawn()
            .expect("the restore program");
        child.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("rules taken");
        assert!(child.wait().expect("its end").success());
    })
}

fn time(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

fn compare(what: &str, base: &str, base_times: &mut [Duration], others: &[(&str, &mut Vec<Duration>)]) {
    let base_time = median(base_times);
    println!("  {what}: {base} {base_time:.3?}");
    for (name, times) in others {
        let other = median(&mut times.to_vec());
        println!("    {name}: {:.2} times as long ({other:.3?})", ratio(other, base_time));
    }
}
