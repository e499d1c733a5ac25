//! What installing costs in the process, and what a connection costs afterwards, side by side in one run. What whole processes
//! take is measured in `processes`.
//!
//! `cargo bench --bench engines`, as root. Everything happens in a network namespace that is made for it.

mod common;

use std::cell::Cell;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::host::{bare, batches, place, plan, program, skipped, two_configs};
use common::timing::{Sample, settle, time, turns};
use common::{Bench, grouped};
use kumatp::config::Config;
use kumatp::engine::Engine as _;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::model::{IpFamilyMode, Options};
use kumatp::net::V4;
use kumatp::render::iptables::Style;
use kumatp::{Plan, render};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, listen, setsockopt, socket, sockopt,
};

fn main() {
    let mut bench = Bench::new("engines");
    if let Err(error) = place() {
        return skipped(&error);
    }
    prepare();
    in_process(&mut bench);
    many_intervals(&mut bench);
    connections(&mut bench);
    bench.finish("");
}

/// An interface whose addresses are not this host's, so that connections to them are outbound.
fn prepare() {
    for line in [
        "link add workload type veth peer name outside",
        "link set outside up",
        "address add 10.9.0.1/16 dev workload",
        "-6 address add fd09::1/64 dev workload nodad",
        "link set workload up",
    ] {
        program("ip", &line.split(' ').collect::<Vec<_>>());
    }
}

fn install(plan: &Plan) {
    assert!(Netlink::default().apply(plan).expect("an installation").changed);
}

fn uninstall() {
    Netlink::default().uninstall(&Options::default()).expect("a removal");
}

fn in_process(bench: &mut Bench) {
    bench.part("In the process, both families, by netlink");
    let plans = two_configs().map(|config| plan(&config));
    let (replacing, fresh) = (batches(&plans, true), batches(&plans, false));
    const BARE: &str = "a bare `sendmsg` of the same bytes";

    // Each contender finds the other configuration's rules.
    let there = Cell::new(0);
    let other = || there.replace(1 - there.get());
    install(&plans[1]);
    let took = turns(
        bench.turns(101),
        [
            &mut || {
                let other = other();
                settle();
                time(|| install(&plans[other]))
            },
            &mut || {
                let other = other();
                settle();
                time(|| bare(&replacing[other]))
            },
        ],
    );
    bench.ratio("install over another", "kumatp", BARE, took.ratio(0, 1));

    uninstall();
    install(&plans[0]);
    let unchanged = |plan: &Plan| assert!(!Netlink::default().apply(plan).expect("the same").changed);
    let took = turns(
        bench.turns(101),
        [
            &mut || {
                settle();
                time(|| unchanged(&plans[0]))
            },
            &mut || {
                settle();
                time(|| bare(&replacing[0]))
            },
        ],
    );
    bench.ratio("unchanged", "kumatp", BARE, took.ratio(0, 1));

    let empty = || {
        uninstall();
        settle();
    };
    let took = turns(
        bench.turns(101),
        [
            &mut || {
                empty();
                time(|| install(&plans[0]))
            },
            &mut || {
                empty();
                time(|| bare(&fresh[0]))
            },
        ],
    );
    bench.ratio("install, after a removal", "kumatp", BARE, took.ratio(0, 1));
    uninstall();
}

/// What a prefix costs must not depend on how many there are.
fn many_intervals(bench: &mut Bench) {
    bench.part("Installing excluded prefixes, a prefix, in the process");
    let sizes = if bench.once() { [50, 100, 200] } else { [1_250, 5_000, 20_000] };
    let plans = sizes.map(|n| {
        let mut config = Config::default();
        // Every second /28, so that none can be merged.
        let prefix = |i: u32| format!("{}/28", Ipv4Addr::from((10 << 24) + (i << 5))).parse().expect("a prefix");
        config.redirect.outbound.exclude_ips = (0..n).map(prefix).collect();
        plan(&config)
    });
    let [mut a, mut b, mut c] = plans.each_ref().map(|plan| {
        move || {
            uninstall();
            settle();
            time(|| install(plan))
        }
    });
    let took = turns(bench.turns(21), [&mut a, &mut b, &mut c]);
    let least = (0, f64::from(sizes[0]));
    for at in [1, 2] {
        let ratio = took.ratio_each((at, f64::from(sizes[at])), least);
        let name = |at: usize| format!("of {}", grouped(sizes[at] as usize));
        bench.ratio(&name(at), "time", &name(0), ratio);
    }
    uninstall();
}

/// Something that activates rules and removes them again.
struct Contender {
    name: &'static str,
    install: Box<dyn Fn(&Plan)>,
    remove: Box<dyn Fn()>,
}

impl Contender {
    /// What `connect()` takes while rules are installed: the median of so many.
    fn connect(&self, plan: &Plan, count: usize) -> Duration {
        (self.install)(plan);
        let took = (0..count).map(|_| time(connect_once).as_secs_f64());
        let median = Sample::of(took).median;
        (self.remove)();
        Duration::from_secs_f64(median)
    }
}

fn connections(bench: &mut Bench) {
    bench.part("A new connection that is redirected: what connect() takes");
    let listener = listener(15001);
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let iptables = |name, mode| Contender {
        name,
        install: restore(mode),
        remove: Box::new(|| drop(Iptables::default().uninstall(&Options::default()).expect("a removal"))),
    };
    let engines = [
        Contender { name: "netlink", install: Box::new(install), remove: Box::new(uninstall) },
        iptables("iptables-nft", "nft"),
        iptables("iptables-legacy", "legacy"),
    ];
    let (sizes, each): (&[u32], _) = if bench.once() { (&[0, 100], 50) } else { (&[0, 100, 1_000, 10_000], 2_000) };
    for kind in ["ports", "prefixes"] {
        for &n in sizes.iter().filter(|&&n| n > 0 || kind == "ports") {
            let plan = &excluding(kind, n);
            let [mut a, mut b, mut c] = engines.each_ref().map(|engine| move || engine.connect(plan, each));
            let took = turns(bench.turns(9), [&mut a, &mut b, &mut c]);
            let name =
                if n == 0 { "nothing excluded".into() } else { format!("{} excluded {kind}", grouped(n as usize)) };
            for at in [1, 2] {
                bench.ratio(&name, engines[at].name, engines[0].name, took.ratio(at, 0));
            }
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
