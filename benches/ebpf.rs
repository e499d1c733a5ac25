//! What redirecting costs by programs and by rules, beside no redirecting at all, in one run.
//!
//! `cargo bench --features ebpf --bench ebpf`, as root. Everything happens in network namespaces, a cgroup and a bpffs that are
//! made for it.
#![expect(unsafe_code, reason = "a thread becomes another user by itself")]

mod common;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::Bench;
use common::host::skipped;
use common::timing::{Sample, settle, time, turns};
use kumatp::engine::Engine;
use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::netlink::Netlink;
use kumatp::model::Options;
use kumatp::net::{Port, Uid};
use kumatp::{Config, Facts, Plan, policy};
use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::sys::socket::{Backlog, getsockopt, listen, setsockopt, sockopt};
use nix::unistd::Pid;

const CGROUPS: &str = "/run/cgroup";
const BPFFS: &str = "/run/bpf";
const OWN: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const OUTBOUND: u16 = 15001;
const INBOUND: u16 = 15006;

fn main() {
    let mut bench = Bench::new("ebpf");
    let place = match Place::new() {
        Ok(place) => place,
        Err(error) => return skipped(&error),
    };
    for port in [OUTBOUND, INBOUND] {
        serve(port);
    }
    traffic(&mut bench, &place);
    installing(&mut bench);
    bystanders(&mut bench);
    bench.finish("ebpf");
}

/// A place for it all. What is not gone with the process goes when this is dropped.
struct Place {
    outside: File,
    cgroup: String,
}

impl Place {
    fn new() -> io::Result<Self> {
        common::host::place()?;
        fs::create_dir(CGROUPS)?;
        fs::create_dir(BPFFS)?;
        mount(Some("none"), CGROUPS, Some("cgroup2"), MsFlags::empty(), None::<&str>)?;
        let outside = thread::spawn(|| -> io::Result<File> {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let outside = outside.join().expect("the thread does not panic")?;
        let peer = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
        ip(&format!("link add eth0 index 10 type veth peer name eth0 index 20 netns {peer}"));
        ip(&format!("address add {OWN}/24 dev eth0"));
        ip("link set eth0 up");
        let place = Self { outside, cgroup: cgroup() };
        place.outside(|| {
            ip(&format!("address add {OUTSIDE}/24 dev eth0"));
            ip("link set eth0 up");
        });
        fs::create_dir(&place.cgroup)?;
        fs::write(format!("{}/cgroup.procs", place.cgroup), "0")?;
        Ok(place)
    }

    /// On a thread outside.
    fn outside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&self.outside, CloneFlags::CLONE_NEWNET).expect("it is our own");
                work()
            });
            thread.join().expect("the thread does not panic")
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::write(format!("{CGROUPS}/cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn cgroup() -> String {
    format!("{CGROUPS}/kumatp-bench-{}", std::process::id())
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status().expect("the program ip");
    assert!(status.success(), "ip {line}");
}

/// The processors that the calling thread may use: one, so that client and server take turns, or all.
fn processors(one: bool) {
    let mut set = CpuSet::new();
    let count = thread::available_parallelism().map_or(1, usize::from);
    for processor in 0..if one { 1 } else { CpuSet::count().min(count.max(2)) } {
        let _ = set.set(processor);
    }
    let _ = sched_setaffinity(Pid::from_raw(0), &set);
}

/// What a client wants of the server; its first byte.
const GREETING: u8 = b'g';
const ECHO: u8 = b'e';
const SINK: u8 = b's';

/// A listener of the sidecar. It serves one connection after the other, and asks for the original destination of each, as a
/// sidecar does.
fn serve(port: u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
    listen(&listener, Backlog::new(4_096).expect("a length")).expect("a longer queue");
    thread::spawn(move || {
        // SAFETY: numbers only; this thread alone is another user then, as programs see it.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, 5678, u32::MAX, u32::MAX) };
        assert_eq!(result, 0, "root may become any user");
        for stream in listener.incoming().flatten() {
            let _ = getsockopt(&stream, sockopt::OriginalDst);
            let _ = answer(stream);
        }
    });
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 256 << 10];
    stream.read_exact(&mut buffer[..1])?;
    let wanted = buffer[0];
    processors(wanted != SINK);
    match wanted {
        GREETING => stream.write_all(&[GREETING])?,
        ECHO => {
            while stream.read(&mut buffer[..1])? == 1 {
                stream.write_all(&buffer[..1])?;
            }
        }
        _ => {
            while stream.read(&mut buffer)? > 0 {}
            stream.write_all(&[SINK])?;
        }
    }
    Ok(())
}

fn connect(to: SocketAddr, want: u8) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(2)).expect("a connection");
    stream.set_nodelay(true).expect("an option");
    stream.write_all(&[want]).expect("sent");
    stream
}

/// A second's work of one kind: connections, round trips of a byte, or bits of writes of a size.
#[derive(Debug, Clone, Copy)]
enum Work {
    Connections,
    RoundTrips,
    Writes(usize),
}

impl Work {
    const ALL: [Self; 4] = [Self::Connections, Self::RoundTrips, Self::Writes(1 << 10), Self::Writes(128 << 10)];

    /// How much of it is done in a second.
    fn rate(self, to: SocketAddr, once: bool) -> f64 {
        processors(!matches!(self, Self::Writes(_)));
        let (amount, took) = match self {
            Self::Connections => {
                let count = if once { 20 } else { 4_000 };
                let start = Instant::now();
                for _ in 0..count {
                    let mut stream = connect(to, GREETING);
                    stream.read_exact(&mut [0]).expect("a greeting");
                    // No TIME_WAIT, so that ports do not run out.
                    let _ = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
                }
                (count, start.elapsed())
            }
            Self::RoundTrips => {
                let count = if once { 50 } else { 20_000 };
                let mut stream = connect(to, ECHO);
                let start = Instant::now();
                for _ in 0..count {
                    stream.write_all(b"x").expect("sent");
                    stream.read_exact(&mut [0]).expect("an echo");
                }
                (count, start.elapsed())
            }
            Self::Writes(size) => {
                let total = if once { 1 << 20 } else { 128 << 20_usize };
                let buffer = vec![0; size];
                let mut stream = connect(to, SINK);
                let start = Instant::now();
                for _ in 0..total / size {
                    stream.write_all(&buffer).expect("sent");
                }
                stream.shutdown(Shutdown::Write).expect("an end");
                stream.read_exact(&mut [0]).expect("all has arrived");
                (8 * total, start.elapsed())
            }
        };
        amount as f64 / took.as_secs_f64()
    }

    fn title(self) -> String {
        match self {
            Self::Connections => "connections".to_owned(),
            Self::RoundTrips => "round trips of a byte".to_owned(),
            Self::Writes(size) => format!("throughput, writes of {} KiB", size >> 10),
        }
    }
}

fn ebpf() -> Ebpf {
    Ebpf::default().bpffs(BPFFS).cgroup(cgroup())
}

/// Nothing, rules, programs.
const CONTENDERS: [&str; 3] = ["nothing", "netlink", "ebpf"];

fn engine(contender: usize) -> Option<Box<dyn Engine>> {
    match contender {
        0 => None,
        1 => Some(Box::new(Netlink::default())),
        _ => Some(Box::new(ebpf())),
    }
}

fn plan(outbound_excluded: u16) -> Plan {
    let mut config = Config::default();
    config.redirect.outbound.exclude_ports =
        Port::new(outbound_excluded).expect("a port").to_string().parse().expect("it");
    policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).expect("a plan")
}

fn traffic(bench: &mut Bench, place: &Place) {
    // Without interception, clients go straight to the sidecar's listener.
    bench.part("Traffic by IPv4: how many times as much is done in a second");
    let (plan, once) = (plan(1), bench.once());
    for (way, straight, wanted) in
        [("outbound", (Ipv4Addr::LOCALHOST, OUTBOUND), (OUTSIDE, 80)), ("inbound", (OWN, INBOUND), (OWN, 80))]
    {
        for work in Work::ALL {
            let contender = |contender: usize| {
                let plan = &plan;
                move || {
                    let engine = engine(contender);
                    if let Some(engine) = &engine {
                        engine.apply(plan).expect("an installation");
                    }
                    let to = SocketAddr::from(if engine.is_some() { wanted } else { straight });
                    let rate = match way {
                        "outbound" => thread::scope(|scope| {
                            scope.spawn(|| work.rate(to, once)).join().expect("the client does not panic")
                        }),
                        _ => place.outside(|| work.rate(to, once)),
                    };
                    if let Some(engine) = &engine {
                        engine.uninstall(&Options::default()).expect("a removal");
                    }
                    // What a million of it takes: a bit takes less than a nanosecond.
                    Duration::from_secs_f64(1e6 / rate)
                }
            };
            let [mut a, mut b, mut c] = [0, 1, 2].map(contender);
            let took = turns(bench.turns(9), [&mut a, &mut b, &mut c]);
            let name = format!("{way}, {}", work.title());
            for (this, other) in [(1, 0), (2, 0), (2, 1)] {
                // Who takes half as long does twice as much.
                bench.ratio(&name, CONTENDERS[this], CONTENDERS[other], took.ratio(other, this));
            }
        }
    }
}

fn installing(bench: &mut Bench) {
    bench.part("Installing, in the process, both families");
    let plans = [plan(1), plan(2)];
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..bench.turns(41) {
        for (at, times) in times.iter_mut().enumerate() {
            let engine = engine(at + 1).expect("it is one");
            let fresh = time(|| drop(engine.apply(&plans[0]).expect("an installation")));
            let replaced = time(|| drop(engine.apply(&plans[1]).expect("another")));
            let unchanged = time(|| assert!(!engine.apply(&plans[1]).expect("the same").changed));
            let removed = time(|| drop(engine.uninstall(&Options::default()).expect("a removal")));
            times.push([fresh, replaced, unchanged, removed]);
            settle();
        }
    }
    let [netlink, ebpf] = &times;
    for (at, what) in ["install, after a removal", "over another", "unchanged", "removal"].into_iter().enumerate() {
        let ratios = netlink.iter().zip(ebpf).map(|(netlink, ebpf): (&[Duration; 4], &[Duration; 4])| {
            ebpf[at].as_secs_f64() / netlink[at].as_secs_f64()
        });
        bench.ratio(what, "ebpf", "netlink", Sample::of(ratios));
    }
}

/// What those in the cgroup pay that are not redirected.
fn bystanders(bench: &mut Bench) {
    bench.part("What is not redirected, in the same cgroup");
    processors(true);
    let each = if bench.once() { 1_000 } else { 200_000 };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let to = listener.local_addr().expect("an address");
    thread::spawn(move || listener.incoming().for_each(drop));
    let socket = TcpStream::connect(to).expect("a connection");
    let plan = plan(1);
    type Step<'a> = (&'a str, u32, &'a dyn Fn());
    let steps: [Step<'_>; 2] = [
        ("getsockopt", each, &|| assert!(getsockopt(&socket, sockopt::RcvBuf).is_ok())),
        ("a connection to this host, accepted and closed", each / 50, &|| {
            let mut stream = TcpStream::connect(to).expect("a connection");
            // Who is accepted and let go leaves room in the queue for the next one.
            assert_eq!(stream.read(&mut [0]).expect("an end"), 0);
            let _ = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
        }),
    ];
    for (what, count, step) in steps {
        let run = || time(|| (0..count).for_each(|_| step()));
        let mut with = || {
            ebpf().apply(&plan).expect("an installation");
            let took = run();
            ebpf().uninstall(&Options::default()).expect("a removal");
            took
        };
        let took = turns(bench.turns(15), [&mut { run }, &mut with]);
        bench.ratio(what, "ebpf", "nothing", took.ratio(1, 0));
        bench.seconds(what, "more by ebpf", took.difference(1, 0, count));
    }
}
