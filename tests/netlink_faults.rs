//! The engine on nf_tables when things go wrong: installers side by side, kills, others who change or
//! own rules, lost answers, missing privileges, batches that are too long. Against the kernel, in
//! network namespaces of their own.

#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;
#[path = "common/plans.rs"]
mod plans;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kumatp::Error;
use kumatp::config::Config;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Status};
use kumatp::model::{Options, Plan};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, sendto, socket};

use self::isolated::{isolated, run};
use self::plans::{plan, plans};

fn nft(command: &str) -> String {
    run("nft", &[command], "")
}

/// The one of two configurations without any option.
fn plain() -> Plan {
    plan(&Config::default(), &[], false)
}

/// The other one: several times as many rules, with sets.
fn everything() -> Plan {
    plans().into_iter().find(|(name, _)| *name == "everything").unwrap().1
}

/// Whether each of the two is what is installed; neither, if something else is.
fn which() -> [bool; 2] {
    let engine = Netlink::default();
    [plain(), everything()].map(|plan| engine.status(&plan).unwrap() == Status::Current)
}

/// Everything that an operation could have changed: the rules, the loopback interface's addresses, and
/// how many records there are.
fn everything_there_is() -> (String, String, usize) {
    let records = std::fs::read_dir("/run/kumatp").map_or(0, Iterator::count);
    (run("nft", &["-a", "list", "ruleset"], ""), run("ip", &["addr", "show", "dev", "lo"], ""), records)
}

/// Removal still finds everything.
fn nothing_is_left_after_removal() {
    Netlink::default().uninstall(&Options::default()).unwrap();
    let (rules, addresses, records) = everything_there_is();
    assert!(rules.is_empty() && !addresses.contains("::6/128") && records == 0, "{rules}{addresses}{records}");
}

/// Others may win many times over. That is said, and nothing else may go wrong.
fn installed_or_conflict(outcome: Result<kumatp::engine::Report, Error>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
            assert!(error.to_string().contains("other programs keep changing"), "{error}");
            false
        }
    }
}

// ---- connections while the rules are replaced ----

/// A network namespace besides that of the test.
struct Outside(File);

impl Outside {
    /// One that is connected with this one: `out0` here leads to it, and on to everywhere.
    fn new() -> Self {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        });
        let outside = Self(made.join().unwrap());
        let path = format!("/proc/{}/fd/{}", std::process::id(), outside.0.as_raw_fd());
        // Numbers of their own, since the kernel takes its time to see that a link is up whose ends have
        // the same.
        let here = format!(
            "link add out0 index 10 type veth peer name in0 index 20 netns {path}
             addr add 10.77.0.1/24 dev out0
             addr add fd77::1/64 dev out0 nodad
             link set out0 up
             route add default via 10.77.0.2
             route add default via fd77::2
            "
        );
        let there = "addr add 10.77.0.2/24 dev in0
             addr add fd77::2/64 dev in0 nodad
             link set in0 up
            ";
        run("ip", &["-batch", "-"], &here);
        outside.enter(|| run("ip", &["-batch", "-"], there));
        outside
    }

    fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let inside = || {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(inside).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// Says `name` to everybody who connects, by both families.
fn server(port: u16, name: u8) {
    let listener = TcpListener::bind(("::", port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that has gone is the client's affair.
            let _ = stream.and_then(|mut stream| stream.write_all(&[name]));
        }
    });
}

/// Who answers at an address.
fn ask(to: &str) -> Result<u8, String> {
    let to: SocketAddr = to.parse().unwrap();
    let asked = TcpStream::connect_timeout(&to, Duration::from_secs(3)).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut name = [0];
        stream.read_exact(&mut name).map(|()| name[0])
    });
    asked.map_err(|error| error.to_string())
}

/// Asks over and over, and counts: every answer has to be `name`.
fn ask_until(over: &AtomicBool, count: &AtomicU64, to: &str, name: u8) -> Result<(), String> {
    while !over.load(Ordering::Relaxed) {
        match ask(to) {
            Ok(answer) if answer == name => drop(count.fetch_add(1, Ordering::Relaxed)),
            other => return Err(format!("{to}, after {count:?} connections: {:?}", other.map(char::from))),
        }
        // Without a pause, the listener's queue runs over now and then, whatever the rules are.
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// How many packets left for the places that only redirected connections are made to.
fn left_unredirected() -> u64 {
    let text = nft("list counter inet watch out");
    text.split("packets ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn no_connection_slips_through_200_replacements() {
    isolated(|| {
        const OUTBOUND: [&str; 2] = ["10.88.0.1:8080", "[fd88::1]:8080"];
        const INBOUND: [&str; 2] = ["10.77.0.1:8080", "[fd77::1]:8080"];

        let outside = Outside::new();
        nft("add table inet watch { counter out { }; chain post { type filter hook postrouting priority 300; \
             ip daddr 10.88.0.1 counter name out; ip6 daddr fd88::1 counter name out; }; }");
        server(8080, b'w');
        server(15001, b'o');
        server(15006, b'i');
        for to in INBOUND {
            assert_eq!(outside.enter(|| ask(to)), Ok(b'w'), "without rules");
        }
        // The rules that matter here stand at the other end of their chains, behind exclusions.
        let mut config = Config::default();
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.redirect.outbound.insert = true;
        config.redirect.inbound.insert = true;
        config.redirect.outbound.exclude_ports = "1-79,9000".parse().unwrap();
        config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
        config.redirect.inbound.exclude_ports = "22,443".parse().unwrap();
        config.drop_invalid_packets = true;
        let plans = [plain(), plan(&config, &[], false)];
        let engine = Netlink::default();
        engine.apply(&plans[0]).unwrap();
        let over = AtomicBool::new(false);
        let counts: [AtomicU64; 4] = Default::default();
        let asked = thread::scope(|scope| {
            let (over, outside) = (&over, &outside);
            let [first, second, third, fourth] = &counts;
            let clients = [(OUTBOUND[0], first), (OUTBOUND[1], second)]
                .map(|(to, count)| scope.spawn(move || ask_until(over, count, to, b'o')));
            let others = [(INBOUND[0], third), (INBOUND[1], fourth)]
                .map(|(to, count)| scope.spawn(move || outside.enter(|| ask_until(over, count, to, b'i'))));
            let all: Vec<_> = clients.into_iter().chain(others).collect();
            // Until all have asked often enough, however busy the machine is, unless one has given up.
            let enough = |round| round >= 200 && counts.iter().all(|count| count.load(Ordering::Relaxed) > 100);
            let rounds = (0..20_000).take_while(|round| !enough(*round) && !all.iter().any(|one| one.is_finished()));
            let installed: Result<Vec<_>, _> = rounds.map(|round| engine.apply(&plans[(round + 1) % 2])).collect();
            over.store(true, Ordering::Relaxed);
            assert!(installed.unwrap().iter().all(|report| report.changed));
            all.into_iter().try_for_each(|client| client.join().unwrap())
        });
        assert!(
            asked.is_ok() && counts.iter().all(|count| count.load(Ordering::Relaxed) > 100),
            "{asked:?}, {counts:?}"
        );
        assert_eq!(left_unredirected(), 0);
        // Without rules they do leave, so the counter counts.
        engine.uninstall(&Options::default()).unwrap();
        for (index, to) in OUTBOUND.into_iter().enumerate() {
            let _ = TcpStream::connect_timeout(&to.parse().unwrap(), Duration::from_millis(100));
            assert!(left_unredirected() > index as u64);
        }
    });
}

// ---- installers side by side, and kills ----

/// How often [`installs_in_turn`] installs both configurations.
const ROUNDS: &str = "KUMATP_TEST_ROUNDS";

/// Installs both configurations in turn; run by the tests below.
#[test]
#[ignore = "a part of other tests"]
fn installs_in_turn() {
    let Some(rounds) = std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()) else { return };
    let (engine, plans) = (Netlink::default(), [everything(), plain()]);
    let mut made = 0;
    for _ in 0..rounds {
        for plan in &plans {
            if installed_or_conflict(engine.apply(plan)) {
                made += 1;
                // Whoever listens may be gone.
                let _ = std::io::stdout().write_all(b"installed\n");
            }
        }
    }
    assert!(made > 0, "none of {rounds} rounds came through");
}

fn installer(rounds: usize, told: Stdio) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["installs_in_turn", "--exact", "--ignored", "--nocapture"])
        .env(ROUNDS, rounds.to_string())
        .stdout(told)
        .spawn()
        .unwrap()
}

#[test]
fn of_four_installers_one_is_the_last() {
    isolated(|| {
        let installers: Vec<_> = (0..4).map(|_| installer(25, Stdio::null())).collect();
        for mut installer in installers {
            assert!(installer.wait().unwrap().success());
        }
        assert!(matches!(which(), [true, false] | [false, true]), "{}", nft("list ruleset"));
        nothing_is_left_after_removal();
    });
}

#[test]
fn killed_at_any_moment_leaves_one_or_the_other() {
    isolated(|| {
        Netlink::default().apply(&plain()).unwrap();
        let mut seen = [0, 0];
        // Until both were seen, which takes more rounds where other programs are busy.
        for round in 0..1_000_u64 {
            if round >= 50 && seen.iter().all(|seen| *seen > 0) {
                break;
            }
            let mut child = installer(1_000_000, Stdio::piped());
            let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
            // Killed at its start, or some moment after one of its first installations.
            if round % 4 > 0 {
                assert!(told.by_ref().filter(|line| line == "installed").nth(round as usize % 4 - 1).is_some());
            }
            thread::sleep(Duration::from_micros(round * 1009 % 17_000));
            child.kill().unwrap();
            child.wait().unwrap();
            match which() {
                [true, false] => seen[0] += 1,
                [false, true] => seen[1] += 1,
                _ => panic!("round {round}: {}", nft("list ruleset")),
            }
        }
        assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        Netlink::default().apply(&everything()).unwrap();
        assert_eq!(which(), [false, true]);
        nothing_is_left_after_removal();
    });
}

// ---- others who change the rules ----

#[test]
fn a_flush_of_all_rules_is_never_lied_about() {
    isolated(|| {
        let (engine, plan) = (Netlink::default(), plain());
        let over = AtomicBool::new(false);
        // Odd while a flush is under way.
        let flushes = AtomicU64::new(0);
        let mut undisturbed = 0;
        thread::scope(|scope| {
            let (over, flushes) = (&over, &flushes);
            nft("flush ruleset");
            flushes.fetch_add(2, Ordering::SeqCst);
            scope.spawn(move || {
                for round in 0..400 {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    thread::sleep(Duration::from_micros(round * 1009 % 23_000));
                    flushes.fetch_add(1, Ordering::SeqCst);
                    nft("flush ruleset");
                    flushes.fetch_add(1, Ordering::SeqCst);
                }
            });
            for round in 0..150 {
                let before = flushes.load(Ordering::SeqCst);
                let installed = installed_or_conflict(engine.apply(&plan));
                // A flush leaves nothing, so there is nothing between all and nothing.
                let status = engine.status(&plan);
                let quiet = before % 2 == 0 && flushes.load(Ordering::SeqCst) == before;
                match status {
                    Ok(Status::Absent) => assert!(!quiet || !installed, "round {round}: it was not installed"),
                    Ok(Status::Current) => {}
                    other => panic!("round {round}: {other:?}"),
                }
                undisturbed += usize::from(quiet);
                if round % 3 == 0 && installed_or_conflict(engine.uninstall(&plan.options)) {
                    assert_eq!(engine.status(&plan).unwrap(), Status::Absent);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        let flushes = flushes.into_inner() / 2;
        // How many were undisturbed, the machine decides; that there was something to disturb them, we do.
        assert!(flushes > 0, "{undisturbed} of 150 undisturbed by {flushes} flushes");
        engine.apply(&plan).unwrap();
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);
        nothing_is_left_after_removal();
    });
}

/// Something else that changes rules of its own as fast as it can: every 100 µs or so.
struct Restless {
    nft: Child,
    feeder: thread::JoinHandle<usize>,
}

impl Restless {
    fn start() -> Self {
        let mut nft = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut input = nft.stdin.take().unwrap();
        let lines = "add table ip other\ndelete table ip other\n".repeat(50);
        let feeder =
            thread::spawn(move || (0..20_000).take_while(|_| input.write_all(lines.as_bytes()).is_ok()).count());
        while run("nft", &["list", "tables"], "").is_empty() {
            thread::sleep(Duration::from_millis(1));
        }
        Self { nft, feeder }
    }

    /// How often it changed something, at least.
    fn stop(mut self) -> usize {
        self.nft.kill().unwrap();
        self.nft.wait().unwrap();
        nft("add table ip other; delete table ip other");
        // A pipe takes 64 KiB, which is less than 20 pieces.
        self.feeder.join().unwrap().saturating_sub(20) * 100
    }
}

#[test]
fn a_stale_generation_is_no_failure() {
    isolated(|| {
        let engine = Netlink::default();
        let other = Restless::start();
        let install = |plan| {
            let report = engine.apply(plan)?;
            assert!(report.steps.iter().any(|step| step.starts_with("installed the tables")), "{report:?}");
            Ok::<_, Error>(())
        };
        let (plain, everything) = (plain(), everything());
        let outcome = (0..30).try_for_each(|_| {
            // Most of these find that the rules have changed between looking and sending.
            install(&plain)?;
            // There may be no moment in which everything can be read.
            match engine.status(&plain) {
                Ok(status) => assert_eq!(status, Status::Current),
                Err(error) => assert!(error.to_string().contains("other programs keep changing"), "{error}"),
            }
            assert!(engine.uninstall(&plain.options)?.changed);
            install(&everything)?;
            assert!(engine.uninstall(&plain.options)?.changed);
            Ok::<_, Error>(())
        });
        let last = outcome.and_then(|()| install(&everything));
        let changes = other.stop();
        last.unwrap();
        assert!(changes > 0, "there were no changes to be disturbed by");
        assert_eq!(engine.status(&everything).unwrap(), Status::Current);
        nothing_is_left_after_removal();
    });
}

/// A table that belongs to a process, as long as that lives.
fn owner_of_our_table() -> Child {
    let mut nft = Command::new("nft").arg("-i").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let table = b"add table ip kuma-mesh { flags owner; chain kuma_mesh_marker { }; }\n";
    nft.stdin.as_mut().unwrap().write_all(table).unwrap();
    let end = Instant::now() + Duration::from_secs(300);
    while !nft_lists("ip kuma-mesh") && Instant::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    nft
}

fn nft_lists(table: &str) -> bool {
    nft("list tables").contains(table)
}

/// The kernel says of every message that it fails. That is more than the queue for its answers takes:
/// most are lost, and the reason has to be told all the same.
#[test]
fn more_refusals_than_can_be_received_are_one_reason() {
    isolated(|| {
        let mut config = Config::default();
        config.redirect.outbound.exclude_ports_for_uids =
            (0..2_000).map(|n| format!("tcp:{}:{}", n + 1, 10 * n).parse().unwrap()).collect();
        let many = plan(&config, &[], false);
        let mut owner = owner_of_our_table();
        let before = everything_there_is();
        for plan in [&plain(), &many] {
            let error = Netlink::default().apply(plan).unwrap_err();
            assert!(matches!(&error, Error::Conflict { .. }), "{error}");
            assert!(error.to_string().contains("the table ip kuma-mesh is owned by another process"), "{error}");
            assert_eq!(everything_there_is(), before);
        }
        let error = Netlink::default().uninstall(&config.options()).unwrap_err();
        assert!(error.to_string().contains("the table ip kuma-mesh is owned by another process"), "{error}");
        assert_eq!(everything_there_is(), before);
        owner.kill().unwrap();
        owner.wait().unwrap();
        Netlink::default().apply(&many).unwrap();
        assert_eq!(Netlink::default().status(&many).unwrap(), Status::Current);
    });
}

/// One part that cannot be removed keeps no other in force, and all that stays is named.
#[test]
fn uninstalling_goes_on_past_what_it_cannot_remove() {
    isolated(|| {
        let mut owner = owner_of_our_table();
        nft("add table ip6 kuma-mesh { chain kuma_mesh_marker { }; }");
        // As iptables-nft has it; the second is led to by somebody else's rule.
        nft("add table ip nat { chain KUMA_MESH_OUTBOUND { }; }");
        assert!(kumatp::engine::loopback::add().unwrap());
        let error = Netlink::default().uninstall(&Options::default()).unwrap_err();
        let lines = error.to_string();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains("the table ip kuma-mesh is owned by another process"), "{lines}");
        assert!(nft_lists("ip kuma-mesh") && !nft_lists("ip6 kuma-mesh"), "{}", nft("list ruleset"));
        assert!(!nft("list ruleset").contains("KUMA_MESH_OUTBOUND"));
        assert!(!run("ip", &["addr", "show", "dev", "lo"], "").contains("::6/128"));

        // Two parts, two causes.
        nft("add table ip6 nat { chain KUMA_MESH_OUTBOUND { }; chain MINE { jump KUMA_MESH_OUTBOUND; }; }");
        let error = Netlink::default().uninstall(&Options::default()).unwrap_err();
        let Error::Several(parts) = &error else { panic!("{error}") };
        assert!(matches!(&parts[..], [Error::Conflict { .. }, Error::Conflict { .. }]), "{error}");
        assert!(error.to_string().contains("\nconflict: other rules still jump to"), "{error}");
        owner.kill().unwrap();
        owner.wait().unwrap();
    });
}

/// Fills the queues in which the sockets of this process receive answers, now and then, until told to
/// stop. Whoever may change the rules may send to such sockets.
fn flood(over: &AtomicBool, filled: &AtomicU64) {
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::empty(), SockProtocol::NetlinkNetFilter);
    let socket = socket.unwrap();
    // The process's own number is for the engine's socket.
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0x7000_0001, 0)).unwrap();
    let engine = NetlinkAddr::new(std::process::id(), 0);
    let send = |length: usize| sendto(socket.as_raw_fd(), &vec![0; length], &engine, MsgFlags::MSG_DONTWAIT);
    while !over.load(Ordering::Relaxed) {
        // Long ones first, then short ones, so that there is no room for the shortest answer.
        match [30_000, 1].map(|length| (0..2_000).find_map(|_| send(length).err())) {
            [_, Some(Errno::EAGAIN)] => drop(filled.fetch_add(1, Ordering::Relaxed)),
            // There is no socket, or it is read as fast as it is filled.
            [_, None | Some(Errno::ECONNREFUSED)] => {}
            other => panic!("{other:?}"),
        }
        thread::sleep(Duration::from_micros(filled.load(Ordering::Relaxed) * 331 % 2_500));
    }
}

#[test]
fn lost_answers_are_looked_up() {
    isolated(|| {
        let engine = Netlink::default();
        let (over, filled) = (AtomicBool::new(false), AtomicU64::new(0));
        let outcome = thread::scope(|scope| {
            let flooding = scope.spawn(|| flood(&over, &filled));
            // Until the queue was full often enough, however busy the machine is.
            let enough = |round| round >= 60 && filled.load(Ordering::Relaxed) > 60;
            let plans = [plain(), everything()];
            let plans = plans.iter().cycle().enumerate().take(5_000).take_while(|(round, _)| !enough(*round));
            let outcome = plans.map(|(_, plan)| plan).try_for_each(|plan| {
                assert!(engine.apply(plan)?.changed);
                assert_eq!(engine.status(plan)?, Status::Current);
                assert!(!engine.apply(plan)?.changed);
                Ok::<_, Error>(())
            });
            over.store(true, Ordering::Relaxed);
            flooding.join().unwrap();
            outcome
        });
        outcome.unwrap();
        let filled = filled.into_inner();
        assert!(filled > 60, "the queue was only filled {filled} times");
        assert!(matches!(which(), [true, false] | [false, true]));
        nothing_is_left_after_removal();
    });
}

// ---- privileges ----

/// Set in the process that a test starts with other privileges.
const STAGE: &str = "KUMATP_TEST_STAGE";

/// Runs the test of this name anew, by a program that changes the privileges.
fn again(name: &str, stage: &str, program: &str, args: &[&str]) {
    let status = Command::new(program)
        .args(args)
        .arg(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(STAGE, stage)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed {stage}");
}

fn stage() -> String {
    std::env::var(STAGE).unwrap_or_default()
}

#[test]
fn without_the_capability_nothing_is_done_and_it_is_named() {
    isolated(|| {
        if stage() == "without the capability" {
            let engine = Netlink::default();
            let mut four = Config::default();
            four.ip_family_mode = kumatp::model::IpFamilyMode::Ipv4;
            let plans = [plain(), everything(), plan(&four, &[], false)];
            let errors = plans.iter().flat_map(|plan| [engine.apply(plan).err(), engine.status(plan).err()]);
            for error in errors.chain([engine.uninstall(&four.options()).err(), engine.marker().err()]) {
                let error = error.expect("no operation is possible");
                let named = matches!(&error, Error::Permission { needed, .. } if needed.contains("CAP_NET_ADMIN"));
                assert!(named, "{error}");
            }
            return;
        }
        for installed in [None, Some(plain()), Some(everything())] {
            if let Some(plan) = &installed {
                Netlink::default().apply(plan).unwrap();
            }
            let before = everything_there_is();
            let drop = ["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"];
            again("without_the_capability_nothing_is_done_and_it_is_named", "without the capability", "setpriv", &drop);
            assert_eq!(everything_there_is(), before);
        }
        nothing_is_left_after_removal();
    });
}

/// A plan whose batch is longer than what a socket may send without a privilege.
fn too_long() -> Plan {
    let limit: usize = std::fs::read_to_string("/proc/sys/net/core/wmem_max").unwrap().trim().parse().unwrap();
    // The kernel doubles it (man 7 socket). An IPv6 prefix takes 64 bytes.
    let count = u32::try_from(2 * limit / 64 + 1_000).unwrap();
    let mut config = Config::default();
    config.redirect.outbound.exclude_ips =
        (0..count).map(|n| format!("fd00:{:x}:{:x}::/48", n >> 14, (n << 2) & 0xffff).parse().unwrap()).collect();
    plan(&config, &[], false)
}

#[test]
fn in_a_user_namespace_all_is_possible_but_a_long_batch() {
    isolated(|| {
        if stage().is_empty() {
            let name = "in_a_user_namespace_all_is_possible_but_a_long_batch";
            return again(name, "in a user namespace", "unshare", &["--map-root-user", "--net"]);
        }
        run("ip", &["link", "set", "lo", "up"], "");
        let engine = Netlink::default();
        let too_long = too_long();
        for installed in [None, Some(plain()), Some(everything())] {
            if let Some(plan) = &installed {
                assert!(engine.apply(plan).unwrap().changed);
                assert_eq!(engine.status(plan).unwrap(), Status::Current);
            }
            let before = everything_there_is();
            let error = engine.apply(&too_long).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{error}");
            for words in ["bytes", "raise net.core.wmem_max to ", "CAP_NET_ADMIN outside of user namespaces", "fewer"] {
                assert!(error.to_string().contains(words), "{words}: {error}");
            }
            assert_eq!(everything_there_is(), before);
        }
        nothing_is_left_after_removal();
    });
}

#[test]
fn with_the_capability_outside_of_user_namespaces_a_long_batch_is_taken() {
    let identity = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    if !identity.split_whitespace().eq(["0", "0", "4294967295"]) || !nix::unistd::geteuid().is_root() {
        return isolated::skipped("root outside of user namespaces is needed");
    }
    isolated(|| {
        let (engine, plan) = (Netlink::default(), too_long());
        assert!(engine.apply(&plan).unwrap().changed);
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);
        engine.apply(&plain()).unwrap();
        assert_eq!(which(), [true, false]);
        nothing_is_left_after_removal();
    });
}
