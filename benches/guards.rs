//! What the closing chains of the netlink engine cost: the same rules with and without them, turn by turn in one run.
//!
//! `cargo bench --bench guards`, as root. Everything happens in network namespaces that are made for it.

mod common;

use std::cell::RefCell;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::Bench;
use common::host::{place, plan, skipped};
use common::timing::turns;
use kumatp::config::Config;
use kumatp::model::IpFamilyMode;
use kumatp::nftables::Native;
use kumatp::render;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};

const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);

fn main() {
    let mut bench = Bench::new("guards");
    if let Err(error) = place() {
        return skipped(&error);
    }
    let peer = RefCell::new(Peer::start());
    for port in [15001, 15006] {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port");
        std::thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(std::thread::spawn(|| echo(stream))))
        });
    }
    let (connections, bytes) = if bench.once() { (20, 1 << 20) } else { (200, 8 << 20) };
    let scripts = [script(false), script(true)];
    bench.part("The closing chains of the netlink engine");
    for (what, outbound, write) in [
        ("a new outbound connection", true, None),
        ("a new inbound connection", false, None),
        ("outbound, writes of 1 KiB", true, Some(1 << 10)),
        ("outbound, writes of 128 KiB", true, Some(128 << 10)),
        ("inbound, writes of 128 KiB", false, Some(128 << 10)),
    ] {
        let work = move || match (outbound, write) {
            (true, None) => connect(PEER, connections),
            (false, None) => connect(HERE, connections),
            (true, Some(size)) => push(PEER, size, bytes),
            (false, Some(size)) => push(HERE, size, bytes),
        };
        let [mut without, mut with] = scripts.each_ref().map(|script| {
            let peer = &peer;
            move || {
                load(script);
                if outbound { work() } else { peer.borrow_mut().run(work) }
            }
        });
        let took = turns(bench.turns(101), [&mut without, &mut with]);
        bench.ratio(what, "time with them", "without them", took.ratio(1, 0));
    }
    bench.finish("");
}

/// The rules of the default configuration as a script, with or without what closes behind them.
fn script(closed: bool) -> String {
    let mut config = Config::default();
    config.ip_family_mode = IpFamilyMode::Ipv4;
    let mut native = Native::of(&plan(&config));
    if !closed {
        let closes =
            |name: &str| name.starts_with("closing_") || name.ends_with("_CLOSING") || name == "raw_prerouting";
        native.v4.chains.retain(|chain| !closes(chain.name.as_str()));
    }
    render::nft::native(&native)
}

fn load(script: &str) {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("the program nft");
    child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("rules taken");
    assert!(child.wait().expect("its end").success());
    // Removing the rules before goes on in the background.
    std::thread::sleep(Duration::from_millis(20));
}

/// A thread in a network namespace of its own, at the other end of a cable.
struct Peer {
    work: mpsc::Sender<Box<dyn FnOnce() -> Duration + Send>>,
    took: mpsc::Receiver<Duration>,
}

impl Peer {
    fn start() -> Self {
        let (work, waiting) = mpsc::channel::<Box<dyn FnOnce() -> Duration + Send>>();
        let (done, took) = mpsc::channel();
        let (ready, made) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(format!("/proc/self/task/{}/ns/net", nix::unistd::gettid())).expect("somebody waits");
            for work in waiting {
                done.send(work()).expect("somebody waits");
            }
        });
        let namespace = made.recv().expect("the namespace").replace("self", &std::process::id().to_string());
        ip(&format!("link add workload type veth peer name outside netns {namespace}"));
        ip(&format!("address add {HERE}/24 dev workload"));
        ip("link set workload up");
        let peer = Self { work, took };
        peer.run(|| {
            ip("link set lo up");
            ip(&format!("address add {PEER}/24 dev outside"));
            ip("link set outside up");
            Duration::ZERO
        });
        peer
    }

    fn run(&self, work: impl FnOnce() -> Duration + Send + 'static) -> Duration {
        self.work.send(Box::new(work)).expect("the thread waits");
        self.took.recv().expect("the thread answers")
    }
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().expect("the program ip");
    assert!(status.success(), "ip {line}");
}

/// Tells how much came, once nothing more does.
fn echo(mut stream: TcpStream) {
    let mut buffer = vec![0; 1 << 18];
    let mut sum = 0_u64;
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        sum += length as u64;
    }
    let _ = stream.write_all(&sum.to_be_bytes());
}

fn open(to: Ipv4Addr) -> TcpStream {
    let server = SocketAddr::from((to, 9));
    TcpStream::connect_timeout(&server, Duration::from_secs(5)).expect("a redirected connection")
}

fn connect(to: Ipv4Addr, count: usize) -> Duration {
    let mut took: Vec<_> = (0..count)
        .map(|_| {
            let start = Instant::now();
            let stream = open(to);
            let took = start.elapsed();
            // No TIME_WAIT, so that ports do not run out.
            let _ = setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 });
            took
        })
        .collect();
    took.sort_unstable();
    took[count / 2]
}

fn push(to: Ipv4Addr, size: usize, bytes: usize) -> Duration {
    let mut stream = open(to);
    let piece = vec![0; size];
    let start = Instant::now();
    for _ in 0..bytes / size {
        stream.write_all(&piece).expect("bytes are taken");
    }
    stream.shutdown(std::net::Shutdown::Write).expect("the end is told");
    let mut sum = [0; 8];
    stream.read_exact(&mut sum).expect("the sum comes back");
    assert_eq!(u64::from_be_bytes(sum), (bytes / size * size) as u64);
    start.elapsed()
}
