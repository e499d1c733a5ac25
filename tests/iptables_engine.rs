//! The iptables engine on a real kernel: in network namespaces of their own, with both modes.

#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

#[path = "common/netns.rs"]
mod netns;
#[path = "common/outside.rs"]
mod outside;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use kumatp::config::{Config, IpFamilyMode};
use kumatp::engine::iptables::{Iptables, Mode};
use kumatp::engine::{Engine as _, Report};
use kumatp::error::Error;
use kumatp::{facts, policy};
use netns::{isolated, run};
use outside::{
    TABLES, client, foreign_rules, left_unredirected, listener, native_rules, network, program, programs, watch,
};

/// A configuration for programs of this mode.
fn config(mode: Mode) -> Config {
    let mut config = Config::default();
    config.kuma_dp_user = Some("5678".into());
    config.iptables_executables.v4 = programs("iptables", mode);
    config.iptables_executables.v6 = programs("ip6tables", mode);
    config.retry.sleep = Duration::from_millis(50);
    config
}

/// Other options, with rules in every table that we use, at both ends of the chains.
fn other_options(mode: Mode) -> Config {
    let mut config = config(mode);
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.outbound.insert = true;
    config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
    config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22,80-90:106-108".parse().unwrap()];
    config.redirect.vnet = vec![
        "docker0:172.17.0.0/16".parse().unwrap(),
        "docker0:172.18.0.0/16".parse().unwrap(),
        "br+:fd00::/64".parse().unwrap(),
    ];
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config
}

fn install(config: &Config) -> Result<Report, Error> {
    let engine = Iptables::default();
    let facts = facts::probe(&policy::facts_needed(config), engine.abilities(config)?)?;
    engine.apply(&policy::plan(config, &facts)?)
}

fn uninstall() -> Report {
    Iptables::default().uninstall(&Config::default()).unwrap()
}

/// The rules of a family and mode with the counters of rules, without those of chains, and without
/// empty tables; sorted by table.
fn saved(family: &str, mode: Mode) -> Vec<String> {
    // Looking with legacy programs makes tables.
    let text = run(program(family, mode, "-save").to_str().unwrap(), &["-c"]);
    let mut tables = Vec::new();
    for table in text.split("COMMIT\n") {
        let lines: Vec<_> = table.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).collect();
        if lines.iter().any(|line| line.starts_with('[') || line.contains(" - [")) {
            let lines = lines.iter().map(|line| match line.strip_prefix(':') {
                Some(chain) => chain.split(" [").next().unwrap().to_owned(),
                None => (*line).to_owned(),
            });
            tables.push(lines.collect::<Vec<_>>().join("\n"));
        }
    }
    tables.sort();
    tables
}

fn everything() -> Vec<Vec<String>> {
    ["iptables", "ip6tables"].into_iter().flat_map(|family| Mode::ALL.map(|mode| saved(family, mode))).collect()
}

fn ours_is_there(family: &str, mode: Mode) -> bool {
    saved(family, mode).iter().any(|table| table.contains("\nKUMA_MESH_") || table.contains("--comment \"kuma/mesh/"))
}

fn loopback_address() -> bool {
    run("ip", &["-6", "addr", "show", "dev", "lo"]).contains("inet6 ::6/128")
}

fn comes_and_goes(mode: Mode) {
    network();
    foreign_rules(mode);
    if mode == Mode::Nft {
        native_rules();
    }
    let native = || run("nft", &["list", "ruleset"]);
    let (before, native_before) = (everything(), native());
    assert!(before.iter().flatten().any(|table| table.contains("[3:")), "{before:?}");

    assert!(install(&config(mode)).unwrap().changed);
    let first = everything();
    assert_ne!(first, before);
    assert!(loopback_address());
    assert!(install(&config(mode)).unwrap().changed);
    assert_eq!(everything(), first);

    let report = install(&other_options(mode)).unwrap();
    assert!(report.steps.iter().any(|step| step.contains("replaced the IPv6 rules")), "{report:?}");
    let second = everything();
    install(&other_options(mode)).unwrap();
    assert_eq!(everything(), second);
    // The same as on a host that never had other options.
    install(&config(mode)).unwrap();
    assert_eq!(everything(), first);
    install(&other_options(mode)).unwrap();
    assert_eq!(everything(), second);

    let report = uninstall();
    assert!(report.changed && report.notes.is_empty(), "{report:?}");
    assert_eq!(everything(), before);
    assert_eq!(native(), native_before);
    assert!(!loopback_address());
    assert!(!Path::new("/run/kumatp").exists());
    let report = uninstall();
    assert!(!report.changed, "{report:?}");
}

#[test]
fn nft_comes_and_goes() {
    isolated(|| comes_and_goes(Mode::Nft));
}

#[test]
fn legacy_comes_and_goes() {
    isolated(|| comes_and_goes(Mode::Legacy));
}

fn never_goes_out_unredirected(mode: Mode) {
    network();
    watch();
    let accepted = [listener("127.0.0.1:15001"), listener("[::1]:15001")];
    install(&config(mode)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [client("10.88.0.1:80", stop.clone()), client("[fd88::1]:80", stop.clone())];
    for round in 0..20 {
        let config = if round % 2 == 0 { other_options(mode) } else { config(mode) };
        install(&config).unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    assert_eq!(left_unredirected(), 0);
    for client in clients {
        let (made, failed) = client.join().unwrap();
        assert!(made > 20 && failed == 0, "{made} made, {failed} failed");
    }
    assert!(accepted.iter().all(|count| count.load(Ordering::Relaxed) > 20));
    assert_eq!(left_unredirected(), 0);
    // The sidecar's own connections do leave, so the counter counts.
    let connect = [
        "--reuid",
        "5678",
        "--regid",
        "5678",
        "--clear-groups",
        "timeout",
        "0.3",
        "bash",
        "-c",
        "exec 3<>/dev/tcp/10.88.0.1/80",
    ];
    let _ = Command::new("setpriv").args(connect).stderr(Stdio::null()).status().unwrap();
    assert!(left_unredirected() > 0);
}

#[test]
fn nft_never_lets_a_connection_out_during_installations() {
    isolated(|| never_goes_out_unredirected(Mode::Nft));
}

#[test]
fn legacy_never_lets_a_connection_out_during_installations() {
    isolated(|| never_goes_out_unredirected(Mode::Legacy));
}

const KILLED_MODE: &str = "KUMATP_TEST_KILLED_MODE";

/// Installs in turn with two sets of options until killed; run by the test below.
#[test]
#[ignore = "a part of another test"]
fn installs_until_killed() {
    let mode = match std::env::var(KILLED_MODE).as_deref() {
        Ok("nft") => Mode::Nft,
        Ok("legacy") => Mode::Legacy,
        _ => return,
    };
    for _ in 0..1_000_000 {
        install(&other_options(mode)).unwrap();
        // Whoever listens may be gone.
        let _ = std::io::stdout().write_all(b"installed\n");
        install(&config(mode)).unwrap();
    }
}

fn killed_at_any_moment(mode: Mode) {
    network();
    let families = ["iptables", "ip6tables"];
    let state = || families.map(|family| saved(family, mode));
    let rules = |state: &[Vec<String>; 2], family: usize, table: &str| {
        let found = state[family].iter().find(|t| t.starts_with(&format!("*{table}\n")));
        // Counters begin anew with each rule.
        found.map(|t| t.lines().map(|l| l.split_once("] ").map_or(l, |(_, rule)| rule).to_owned()).collect::<Vec<_>>())
    };
    install(&other_options(mode)).unwrap();
    let other = state();
    install(&config(mode)).unwrap();
    let plain = state();
    let mut seen = [0, 0];
    // Until both were seen, which takes more rounds where other programs are busy.
    for round in 0..1_000_u64 {
        if round >= 30 && seen.iter().all(|seen| *seen > 0) {
            break;
        }
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["installs_until_killed", "--exact", "--ignored", "--nocapture"])
            .env(KILLED_MODE, mode.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        if round % 3 > 0 {
            assert!(told.by_ref().any(|line| line == "installed"));
        }
        // Spread over the length of some installations.
        thread::sleep(Duration::from_millis(20 + round * 37 % 211));
        child.kill().unwrap();
        child.wait().unwrap();
        // A program that was loading rules goes on for a moment.
        thread::sleep(Duration::from_millis(150));
        let now = state();
        for (family, name) in families.iter().enumerate() {
            for table in TABLES {
                let found = rules(&now, family, table);
                let which = [&plain, &other].map(|state| rules(state, family, table) == found);
                assert!(which[0] || which[1], "round {round}, {name} {table}: {found:?}");
                if which[0] != which[1] {
                    seen[usize::from(which[1])] += 1;
                }
            }
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
    install(&config(mode)).unwrap();
    assert_eq!(families.map(|family| saved(family, mode)), plain);
    assert!(uninstall().notes.is_empty());
    assert!(!families.iter().any(|family| ours_is_there(family, mode)));
    assert!(!loopback_address());
}

#[test]
fn nft_killed_at_any_moment_leaves_old_or_new_rules() {
    isolated(|| killed_at_any_moment(Mode::Nft));
}

#[test]
fn legacy_killed_at_any_moment_leaves_old_or_new_rules() {
    isolated(|| killed_at_any_moment(Mode::Legacy));
}

/// A program that takes rules for a test and refuses to apply them.
fn refusing_restore(mode: Mode) -> PathBuf {
    let path = PathBuf::from("/run/refusing-restore");
    let real = program("ip6tables", mode, "-restore");
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--test*) exec {} \"$@\";; esac\necho 'this kernel has no such thing' >&2\nexit 1\n",
        real.display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn ipv4_is_put_back_if_ipv6_fails() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            foreign_rules(mode);
            let mut failing = other_options(mode);
            failing.iptables_executables.v6.restore = Some(refusing_restore(mode));
            let check = |before: Vec<Vec<String>>, address: bool| {
                let error = install(&failing).unwrap_err().to_string();
                assert!(error.contains("refusing-restore") && error.contains("no such thing"), "{error}");
                let counters = |state: Vec<Vec<String>>| {
                    // The rules that were put back count anew.
                    state.iter().flatten().map(|t| t.replace("[0:0] ", "")).collect::<Vec<_>>()
                };
                assert_eq!(counters(everything()), counters(before));
                assert_eq!(loopback_address(), address);
            };
            check(everything(), false);
            install(&config(mode)).unwrap();
            check(everything(), true);
            uninstall();
            check(everything(), false);
        }
    });
}

/// A program that loads rules until the file `/run/trip` is there; then it runs a script instead, once.
fn tripping_restore(family: &str, mode: Mode, script: &str) -> PathBuf {
    let path = PathBuf::from("/run/tripping-restore");
    let real = program(family, mode, "-restore");
    let real = real.display();
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *--test*) exec {real} \"$@\";; esac\n[ -e /run/trip ] || exec {real} \"$@\"\nrm /run/trip\n{script}\n"
    );
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    File::create("/run/trip").unwrap();
    path
}

#[test]
fn what_another_program_wrote_meanwhile_is_not_undone() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            install(&config(mode)).unwrap();
            let tables = program("iptables", mode, "");
            let theirs =
                format!("{} -t nat -A KUMA_MESH_OUTBOUND -p udp -j ACCEPT; echo no >&2; exit 1", tables.display());
            let mut failing = other_options(mode);
            failing.iptables_executables.v6.restore = Some(tripping_restore("ip6tables", mode, &theirs));
            let error = install(&failing).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
            assert!(error.to_string().contains("another program changed the IPv4 rules"), "{error}");
            let now = saved("iptables", mode).join("\n");
            assert!(now.contains("-A KUMA_MESH_OUTBOUND -p udp -j ACCEPT"), "{now}");
            // What nobody else changed is as it was.
            assert!(!now.contains("ctstate INVALID"), "{now}");
            uninstall();
            assert!(!ours_is_there("iptables", mode) && !ours_is_there("ip6tables", mode));
        }
    });
}

#[test]
fn a_line_that_failed_is_a_reason_to_look_again() {
    isolated(|| {
        network();
        let mode = Mode::Legacy;
        install(&config(mode)).unwrap();
        // What legacy programs say if somebody changed the rules after we looked.
        let mut changed = other_options(mode);
        let said = "echo 'iptables-restore: line 3 failed' >&2; exit 1";
        changed.iptables_executables.v4.restore = Some(tripping_restore("iptables", mode, said));
        install(&changed).unwrap();
        let first = everything();
        install(&other_options(mode)).unwrap();
        assert_eq!(everything(), first);
    });
}

#[test]
fn installations_at_once_leave_one_whole_configuration() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            let numbered = |number: u16| {
                let mut config = other_options(mode);
                config.redirect.inbound.exclude_ports = (1000 + number).to_string().parse().unwrap();
                config
            };
            // Counters and the order of chains say nothing here.
            let plain = || {
                let strip = |table: &String| {
                    table.lines().map(|l| l.split_once("] ").map_or(l, |(_, r)| r).to_owned()).collect::<Vec<_>>()
                };
                ["iptables", "ip6tables"].map(|family| saved(family, mode).iter().map(strip).collect::<Vec<_>>())
            };
            let alone: Vec<_> = (0..4)
                .map(|number| {
                    install(&numbered(number)).unwrap();
                    plain()
                })
                .collect();
            for _ in 0..3 {
                thread::scope(|scope| {
                    let all: Vec<_> = (0..4).map(|number| scope.spawn(move || install(&numbered(number)))).collect();
                    all.into_iter().for_each(|one| assert!(one.join().unwrap().unwrap().notes.is_empty()));
                });
                assert!(alone.contains(&plain()), "{mode}");
            }
            uninstall();
        }
    });
}

#[test]
fn whoever_may_not_change_rules_cannot_stop_an_installation() {
    isolated(|| {
        network();
        // The name of the lock, bound by an ordinary user, who is somebody else for the kernel.
        let (bound, is_bound) = std::sync::mpsc::channel();
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let stranger = thread::spawn(move || {
            // SAFETY: a system call on numbers, for this thread only.
            let result = unsafe { libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000) };
            let address = SocketAddr::from_abstract_name("kumatp/rules");
            let name = UnixListener::bind_addr(&address.unwrap()).unwrap();
            bound.send(result).unwrap();
            let _ = is_done.recv();
            drop(name);
        });
        assert_eq!(is_bound.recv().unwrap(), 0);
        let report = install(&config(Mode::Nft)).unwrap();
        assert!(report.notes.iter().any(|note| note.text.contains("of the user 1000")), "{report:?}");
        assert!(ours_is_there("iptables", Mode::Nft));
        drop(done);
        stranger.join().unwrap();
        assert!(install(&config(Mode::Nft)).unwrap().notes.is_empty());
    });
}

#[test]
fn an_equal_rule_of_an_administrator_stays_in_its_place_with_its_counters() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            let tables = program("iptables", mode, "");
            let tables = tables.to_str().unwrap();
            let equal = ["-t", "mangle", "-A", "PREROUTING", "-m", "conntrack", "--ctstate", "INVALID", "-j", "DROP"];
            run(tables, &[&equal[..], &["-c", "7", "700"]].concat());
            run(tables, &["-t", "mangle", "-A", "PREROUTING", "-i", "eth9", "-j", "ACCEPT"]);
            let before = everything();
            let mut config = config(mode);
            config.comments.disabled = true;
            config.drop_invalid_packets = true;
            let mine = |state: &[Vec<String>]| state.concat().join("\n").matches("--ctstate INVALID -j DROP").count();
            for _ in 0..3 {
                install(&config).unwrap();
                let now = everything();
                // One for IPv6.
                assert_eq!(mine(&now), 3);
                assert!(now.concat().join("\n").contains("[7:700] -A PREROUTING -m conntrack"), "{now:?}");
            }
            // One that comes later is not ours either.
            run(tables, &[&equal[..], &["-c", "8", "800"]].concat());
            install(&config).unwrap();
            uninstall();
            let now = everything().concat().join("\n");
            assert_eq!(mine(&everything()), 2);
            assert!(now.contains("[7:700]") && now.contains("[8:800]"), "{now}");
            run(tables, &["-t", "mangle", "-D", "PREROUTING", "3"]);
            assert_eq!(everything(), before);
            run(tables, &["-t", "mangle", "-F", "PREROUTING"]);
        }
    });
}

/// A program that notes each call of it.
fn counted(path: &str, script: &str) -> PathBuf {
    let path = PathBuf::from(path);
    let _ = std::fs::remove_file(path.with_extension("calls"));
    let calls = path.with_extension("calls");
    std::fs::write(&path, format!("#!/bin/sh\necho >>{}\n{script}\n", calls.display())).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// How often it was called.
fn calls(program: &Path) -> usize {
    std::fs::read_to_string(program.with_extension("calls")).unwrap_or_default().lines().count()
}

#[test]
fn rules_that_are_refused_change_nothing_and_are_not_tried_again() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            install(&config(mode)).unwrap();
            let before = everything();
            let mut config = other_options(mode);
            let failing = counted("/run/failing-restore", "exit 1");
            config.iptables_executables.v6.restore = Some(failing.clone());
            assert!(matches!(install(&config), Err(Error::Program { .. })));
            assert_eq!(calls(&failing), 1);
            assert_eq!(everything(), before);
            uninstall();
        }
    });
}

#[test]
fn rules_without_comments_are_known_from_the_record() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            foreign_rules(mode);
            let foreign = everything();
            let mut plain = config(mode);
            plain.comments.disabled = true;
            let mut other = other_options(mode);
            other.comments.disabled = true;
            other.retry.sleep = Duration::from_millis(10);
            install(&other).unwrap();
            let first = everything();
            let record = std::fs::read_dir("/run/kumatp").unwrap().next().unwrap().unwrap();
            assert_eq!(record.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            install(&other).unwrap();
            assert_eq!(everything(), first);
            install(&plain).unwrap();
            install(&other).unwrap();
            assert_eq!(everything(), first);
            // With comments over those without.
            install(&other_options(mode)).unwrap();
            install(&other).unwrap();
            assert_eq!(everything(), first);
            let report = uninstall();
            assert!(report.notes.is_empty(), "{report:?}");
            assert_eq!(everything(), foreign);
            assert!(!Path::new("/run/kumatp").exists());

            // Without the record, what has no mark is named, and stays.
            install(&other).unwrap();
            std::fs::remove_dir_all("/run/kumatp").unwrap();
            let report = uninstall();
            let notes: Vec<_> = report.notes.iter().map(|note| note.text.as_str()).collect();
            assert!(notes.iter().any(|note| note.contains("-d 10.99.0.0/16 -j RETURN")), "{notes:?}");
            assert!(!notes.iter().any(|note| note.contains("SOMEBODY")), "{notes:?}");
            assert!(!ours_is_there("iptables", mode) && saved("iptables", mode).join("").contains("10.99.0.0/16"));
            for family in ["iptables", "ip6tables"] {
                for table in TABLES {
                    run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-F"]);
                    run(program(family, mode, "").to_str().unwrap(), &["-t", table, "-X"]);
                }
            }
            // Before Linux 5.18, nothing tells whose the address is without the record.
            let _ = std::process::Command::new("ip").args(["addr", "del", "::6/128", "dev", "lo"]).output();
        }
    });
}

#[test]
fn an_installation_of_the_other_mode_or_family_is_removed() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            install(&other_options(mode)).unwrap();
            let report = install(&config(mode.other())).unwrap();
            assert!(report.steps.iter().any(|step| step.contains(&format!("(IPv6, {mode})"))), "{report:?}");
            for family in ["iptables", "ip6tables"] {
                assert!(!ours_is_there(family, mode) && ours_is_there(family, mode.other()));
            }
            let mut four = config(mode.other());
            four.ip_family_mode = IpFamilyMode::Ipv4;
            install(&four).unwrap();
            assert!(ours_is_there("iptables", mode.other()) && !ours_is_there("ip6tables", mode.other()));
            assert!(!loopback_address());
            uninstall();
            assert!(!ours_is_there("iptables", mode.other()));
        }
    });
}

#[test]
fn an_address_that_was_there_stays() {
    isolated(|| {
        network();
        run("ip", &["addr", "add", "::6/128", "dev", "lo"]);
        install(&config(Mode::Nft)).unwrap();
        uninstall();
        assert!(loopback_address());
    });
}

#[test]
fn rules_of_others_that_lead_to_our_chains_are_a_conflict() {
    isolated(|| {
        network();
        for mode in Mode::ALL {
            let tables = program("iptables", mode, "");
            let tables = tables.to_str().unwrap();
            install(&config(mode)).unwrap();
            run(tables, &["-t", "nat", "-N", "SOMEBODY"]);
            run(tables, &["-t", "nat", "-A", "SOMEBODY", "-p", "tcp", "-j", "KUMA_MESH_OUTBOUND"]);
            let before = everything();
            let error = Iptables::default().uninstall(&Config::default()).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }));
            assert!(error.to_string().contains("-A SOMEBODY -p tcp -j KUMA_MESH_OUTBOUND"), "{error}");
            assert_eq!(everything(), before);
            // Chains that stay are not in the way.
            install(&config(mode)).unwrap();
            assert_eq!(everything(), before);
            run(tables, &["-t", "nat", "-F", "SOMEBODY"]);
            uninstall();
        }
    });
}

/// Holds the lock of the legacy programs, wherever they keep it.
fn lock() -> nix::fcntl::Flock<OwnedFd> {
    let path = std::env::var("XTABLES_LOCKFILE").unwrap_or("/run/xtables.lock".into());
    let file = File::create(path).unwrap();
    nix::fcntl::Flock::lock(OwnedFd::from(file), nix::fcntl::FlockArg::LockExclusive).unwrap()
}

#[test]
fn a_held_lock_is_waited_for_within_bounds() {
    isolated(|| {
        network();
        let mut config = config(Mode::Legacy);
        let real = program("iptables", Mode::Legacy, "-restore");
        let waiting = || counted("/run/waiting-restore", &format!("exec {} \"$@\"", real.display()));
        config.wait.seconds = 1;
        let held = lock();
        let mut tries = Vec::new();
        for max_retries in [0, 2] {
            config.retry.max_retries = max_retries;
            let restore = waiting();
            config.iptables_executables.v4.restore = Some(restore.clone());
            let error = install(&config).unwrap_err().to_string();
            assert!(error.contains("xtables lock"), "{error}");
            assert!(!ours_is_there("iptables", Mode::Legacy));
            tries.push(calls(&restore));
        }
        assert_eq!(tries[1], tries[0] + 2, "{tries:?}");
        config.wait.seconds = 200;
        let restore = waiting();
        let free = thread::spawn(move || {
            while calls(&restore) == 0 {
                thread::sleep(Duration::from_millis(5));
            }
            drop(held);
        });
        install(&config).unwrap();
        free.join().unwrap();
        assert!(ours_is_there("iptables", Mode::Legacy));
    });
}

#[test]
fn the_mode_is_the_one_that_has_rules() {
    isolated(|| {
        network();
        let mut config = config(Mode::Nft);
        config.iptables_executables = kumatp::config::Executables::default();
        let engine = Iptables::default();
        assert!(engine.abilities(&config).unwrap().remarks.is_empty());
        install(&config).unwrap();
        uninstall();
        // Looking has not made legacy tables.
        assert_eq!(std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default(), "");

        let (nft, legacy) = (program("iptables", Mode::Nft, ""), program("iptables", Mode::Legacy, ""));
        run(legacy.to_str().unwrap(), &["-t", "raw", "-N", "OLD"]);
        install(&config).unwrap();
        assert!(ours_is_there("iptables", Mode::Legacy) && ours_is_there("ip6tables", Mode::Legacy));
        uninstall();
        run(nft.to_str().unwrap(), &["-t", "mangle", "-N", "NEW"]);
        let abilities = engine.abilities(&config).unwrap();
        assert!(abilities.remarks.iter().any(|remark| remark.warning), "{abilities:?}");
        install(&config).unwrap();
        assert!(ours_is_there("iptables", Mode::Nft) && !ours_is_there("iptables", Mode::Legacy));
        uninstall();
        run(legacy.to_str().unwrap(), &["-t", "nat", "-N", "DOCKER_OUTPUT"]);
        let abilities = engine.abilities(&config).unwrap();
        assert!(abilities.v4.docker_output && abilities.remarks.is_empty(), "{abilities:?}");
        install(&config).unwrap();
        assert!(ours_is_there("iptables", Mode::Legacy) && !ours_is_there("iptables", Mode::Nft));
    });
}

#[test]
fn a_host_without_programs_is_named_except_by_a_dry_run() {
    isolated(|| {
        let engine = Iptables::in_path("/nonexistent:relative");
        let mut config = Config::default();
        let error = engine.abilities(&config).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        for name in ["iptables-nft", "iptables-legacy", "/nonexistent"] {
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(engine.uninstall(&config).is_err());
        config.dry_run = true;
        let assumed = engine.abilities(&config).unwrap();
        assert_eq!((assumed.v4, assumed.v6_refused, assumed.remarks.len()), (Default::default(), None, 1));
    });
}

/// Installs and uninstalls where the kernel does not show which legacy tables are in use; run by the test below.
#[test]
#[ignore = "a part of another test"]
fn comes_and_goes_in_a_user_namespace() {
    let mode = match std::env::var(KILLED_MODE).as_deref() {
        Ok("nft") => Mode::Nft,
        Ok("legacy") => Mode::Legacy,
        _ => return,
    };
    let names = "/proc/thread-self/net/ip_tables_names";
    if std::fs::read(names).is_ok() || !Path::new(names).exists() {
        return netns::skipped("this kernel hides no tables");
    }
    let mut config = config(mode);
    // The only user that has a number here.
    config.kuma_dp_user = Some("0".into());
    config.ip_family_mode = IpFamilyMode::Ipv4;
    let save = |mode: Mode| run(program("iptables", mode, "-save").to_str().unwrap(), &["-t", "nat"]);
    let report = install(&config).unwrap();
    assert!(save(mode).contains("-j KUMA_MESH_OUTBOUND"));
    let hidden = report.notes.iter().any(|note| note.text.contains("tables of iptables-legacy are in use"));
    // Tables that the installation does not use are not made by looking, so nobody knows.
    assert!(hidden, "{report:?}");
    config.kuma_dp_user = Some("5678".into());
    let before = save(mode);
    let error = install(&config).unwrap_err().to_string();
    assert!(error.contains("netlink engine"), "{error}");
    assert_eq!(rules_only(&save(mode)), rules_only(&before));
    assert!(uninstall().changed);
    assert!(!save(mode).contains("KUMA_MESH_"));
}

fn rules_only(saved: &str) -> Vec<&str> {
    saved.lines().filter(|line| line.starts_with('-')).collect()
}

#[test]
fn tables_that_are_hidden_in_a_user_namespace_are_no_older_installation() {
    isolated(|| {
        // A copy that every user may run.
        let exe = "/run/test";
        std::fs::copy(std::env::current_exe().unwrap(), exe).unwrap();
        std::fs::set_permissions(exe, std::fs::Permissions::from_mode(0o755)).unwrap();
        for mode in Mode::ALL {
            // The module is loaded by root.
            run(program("iptables", Mode::Legacy, "").to_str().unwrap(), &["-t", "nat", "-L"]);
            let mut child = Command::new("setpriv");
            child.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
            child.args(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]);
            child.arg("ip link set lo up && exec \"$@\"");
            child.args(["sh", exe, "comes_and_goes_in_a_user_namespace", "--exact", "--ignored", "--nocapture"]);
            child.env(KILLED_MODE, mode.to_string()).env("XTABLES_LOCKFILE", "/run/kumatp-test-xtables.lock");
            assert!(child.status().unwrap().success(), "{mode}");
        }
    });
}

#[test]
fn a_lock_file_that_cannot_be_made_is_named_with_a_remedy() {
    isolated(|| {
        network();
        // Programs read the variable when they are started.
        let path = "/run/restore";
        let real = program("iptables", Mode::Legacy, "-restore");
        let text = format!("#!/bin/sh\nXTABLES_LOCKFILE=/proc/no/lock exec {} \"$@\"\n", real.display());
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = config(Mode::Legacy);
        config.iptables_executables.v4.restore = Some(path.into());
        let error = install(&config).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("XTABLES_LOCKFILE") && error.contains("netlink"), "{error}");
        assert!(!ours_is_there("iptables", Mode::Legacy) && !ours_is_there("ip6tables", Mode::Legacy));
    });
}

#[test]
fn an_ordinary_user_can_make_a_plan_and_nothing_else() {
    isolated(|| {
        // Threads have users of their own, as far as the kernel is concerned.
        let denied = |config: &Config| {
            let config = config.clone();
            thread::spawn(move || {
                // SAFETY: a system call on numbers, for this thread only.
                let result = unsafe { libc::syscall(libc::SYS_setresuid, 1000, 1000, 1000) };
                assert_eq!(result, 0);
                (Iptables::default().abilities(&config), Iptables::default().uninstall(&config))
            })
            .join()
            .unwrap()
        };
        let mut config = Config::default();
        let (abilities, uninstalled) = denied(&config);
        assert!(matches!(abilities, Err(Error::Permission { .. })), "{abilities:?}");
        assert!(matches!(uninstalled, Err(Error::Permission { .. })), "{uninstalled:?}");
        config.dry_run = true;
        assert_eq!(denied(&config).0.unwrap().v4, Default::default());
    });
}
