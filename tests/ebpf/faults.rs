//! Installers that die, meet each other, or lack something: afterwards the programs are in force, or they are not.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kumatp::engine::{Engine as _, Status};
use kumatp::net::FamilyName;
use kumatp::{Config, Error};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::common::world::{APP, BPFFS, CGROUPS, Netns, OUTSIDE, Place, Server, WORKLOAD, cgroup};
use crate::ground::{Ground, INSTALLATION, Installer, engine, outcome, pins, plan};
use crate::intruder::Intruder;
use crate::netns::isolated;
use crate::objects::Objects;
use crate::sockets::{blocking, greeting};

/// Whether the programs are in force, for connections of both directions and families; anything between is a failure.
fn in_force(ground: &Ground, when: &str) -> bool {
    let mut seen = Vec::new();
    for family in FamilyName::ALL {
        let (own, there) = (Place::Own.socket(family, 8080), Place::Outside.socket(family, 9000));
        let ask = |to: SocketAddr| -> io::Result<_> {
            let answer = greeting(&blocking(to)?)?;
            Ok((answer.who, answer.original.is_some_and(|original| original == to)))
        };
        let inbound = ground.world.outside.enter(|| ask(own)).expect("an answer");
        let outbound = ground.workload().enter_as(APP, || ask(there)).expect("an answer");
        let is = |(who, right): (String, bool), on: &str, off: &str| match (who, right) {
            (who, true) if who == on => true,
            (who, _) if who == off => false,
            other => panic!("{when}: {other:?}"),
        };
        seen.push(is(inbound, Server::INBOUND, WORKLOAD));
        seen.push(is(outbound, Server::OUTBOUND, OUTSIDE));
    }
    assert!(seen.iter().all(|on| *on == seen[0]), "{when}: half in force: {seen:?}");
    seen[0]
}

/// Numbers that look random, and are the same each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// How often; `KUMATP_TEST_KILLS` for more.
fn kills() -> usize {
    std::env::var("KUMATP_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(25)
}

/// Runs an installer, and kills it after a random part of the time that it usually takes. Whether it was still there.
fn kill_one(ground: &Ground, what: &str, usual: Duration, state: &mut u64) -> bool {
    let mut child = Installer::new(what).start(ground.workload());
    let span = usual.as_micros() as u64;
    sleep(Duration::from_micros(random(state) % span));
    child.kill().expect("it may be killed");
    outcome(&child.wait_with_output().expect("its end")).is_err_and(|text| text.starts_with("killed"))
}

/// How long an installer takes at the least, after `before`.
fn usual(ground: &Ground, what: &str, before: impl Fn()) -> Duration {
    let times = (0..3).map(|_| {
        before();
        let start = Instant::now();
        Installer::new(what).run(ground.workload()).expect("it works if nobody kills it");
        start.elapsed()
    });
    times.min().expect("three times")
}

#[test]
fn killed_while_installing() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let install = usual(&ground, "install", || ground.uninstall());
        let uninstall = usual(&ground, "uninstall", || ground.install(|_| ()));
        let (mut state, mut killed, mut on) = (0x5eed, 0, 0);
        for round in 0..kills() {
            killed += usize::from(kill_one(&ground, "install", install, &mut state));
            on += usize::from(in_force(&ground, &format!("installation {round}")));
            // Whatever is left, the next installation is whole, and so is the next removal.
            if round % 2 == 0 {
                ground.install(|_| ());
                assert!(in_force(&ground, "repair"));
                assert_eq!(ground.status(&plan(|_| ())), Status::Current);
                assert_eq!(
                    Objects::count_until(INSTALLATION),
                    INSTALLATION,
                    "an installation, and nothing of the one that was killed"
                );
                killed += usize::from(kill_one(&ground, "uninstall", uninstall, &mut state));
                in_force(&ground, &format!("removal {round}"));
            }
            ground.uninstall();
            assert!(!in_force(&ground, "removal"));
            assert_eq!((Objects::count_until(Objects::NONE), pins()), (Objects::NONE, 0), "round {round}");
        }
        eprintln!("killed {killed} times; {on} of {} installations had come to their end", kills());
        assert!(killed > 0, "the installers were too quick to be killed");
        ground.end();
    });
}

#[test]
fn killed_while_replacing() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let usual = usual(&ground, "install:1", || ground.install(|_| ()));
        let (mut state, mut killed) = (0xfeed, 0);
        for round in 0..kills() {
            // Another one each time, so that there is something to replace.
            let what = format!("install:{}", 10 + round);
            killed += usize::from(kill_one(&ground, &what, usual, &mut state));
            assert!(in_force(&ground, &what), "{what}: the old or the new programs are in force");
            if round % 5 == 4 {
                ground.install(|_| ());
                assert_eq!(ground.status(&plan(|_| ())), Status::Current);
                assert_eq!(
                    Objects::count_until(INSTALLATION),
                    INSTALLATION,
                    "nothing is left of those that were killed"
                );
            }
        }
        eprintln!("killed {killed} of {}", kills());
        assert!(killed > 0, "the installers were too quick to be killed");
        ground.end();
    });
}

/// Installers and removers at the same time: one after the other has its turn.
#[test]
fn two_installers() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        for round in 0..5 {
            let started: Vec<_> =
                (0..4).map(|i| Installer::new(&format!("install:{}", 100 + i)).start(ground.workload())).collect();
            for child in started {
                outcome(&child.wait_with_output().expect("its end")).expect("an installation");
            }
            assert!(in_force(&ground, "installers"));
            let is_current = |i: u16| {
                let plan = plan(|config| {
                    config.redirect.outbound.exclude_ports = (100 + i).to_string().parse().expect("a port")
                });
                ground.status(&plan) == Status::Current
            };
            assert_eq!((0..4).filter(|i| is_current(*i)).count(), 1, "it is that of one of them");
            assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION, "round {round}");
            let started =
                ["uninstall", "install", "uninstall"].map(|what| Installer::new(what).start(ground.workload()));
            for child in started {
                outcome(&child.wait_with_output().expect("its end")).expect("one of them after the other");
            }
            in_force(&ground, "installer and removers");
        }
        ground.end();
    });
}

/// The cgroup is removed, with the programs: that is seen, and the next installation is for the next cgroup.
#[test]
fn a_cgroup_that_goes_away() {
    isolated(|| {
        let Some(mut ground) = Ground::new() else { return };
        // It is not in the cgroups that the programs are for.
        ground.world.stop_sidecar();
        let gone = format!("{CGROUPS}/kumatp-test-gone-{}", std::process::id());
        fs::create_dir(&gone).expect("a cgroup");
        let of_gone = || crate::ground::engine().cgroup(&gone);
        ground.workload().enter(|| of_gone().apply(&plan(|_| ()))).expect("an installation");
        fs::remove_dir(&gone).expect("nobody is in it");
        let error = ground.workload().enter(|| of_gone().apply(&plan(|_| ()))).expect_err("it is gone");
        assert!(error.to_string().contains(&gone), "{error}");
        // The kernel clears up in the background.
        let start = Instant::now();
        loop {
            let Status::Drifted { differences } = ground.status(&plan(|_| ())) else {
                panic!("it was attached elsewhere")
            };
            if differences.iter().any(|text| text.contains("cgroup/connect4: what it was attached to is gone")) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(120), "{differences:?}");
            sleep(Duration::from_millis(50));
        }
        let status = || ground.workload().enter(|| of_gone().status(&plan(|_| ()))).expect("a status");
        let Status::Drifted { differences } = status() else { panic!("it is gone") };
        assert!(differences[0].contains(&gone), "{differences:?}");
        // Made again, it is another one.
        fs::create_dir(&gone).expect("a cgroup");
        let status = status();
        assert!(matches!(status, Status::Drifted { .. }), "{status:?}");
        fs::remove_dir(&gone).expect("nobody is in it");
        ground.world.start_sidecar().expect("its ports are free");
        ground.install(|_| ());
        assert!(in_force(&ground, "another cgroup"));
        assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION);
        ground.end();
    });
}

/// The network namespace is gone without a removal: the next installer, in whatever namespace, clears up.
#[test]
fn a_namespace_that_goes_away() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        let dir = format!("{CGROUPS}/kumatp-test-gone-{}", std::process::id());
        fs::create_dir(&dir).expect("a cgroup");
        let Objects { programs, maps, links } = INSTALLATION;
        let two = Objects { programs: 2 * programs, maps: 2 * maps, links: 2 * links };
        let rounds: [&dyn Fn(); 2] = [&|| ground.install(|_| ()), &|| ground.uninstall()];
        for (left, next) in [INSTALLATION, Objects::NONE].into_iter().zip(rounds) {
            let gone = Netns::new().expect("a namespace");
            gone.enter(|| engine().cgroup(&dir).apply(&plan(|_| ()))).expect("an installation");
            assert_eq!(Objects::count_until(two), two);
            drop(gone);
            // The kernel clears up in the background, and the pins stay.
            let start = Instant::now();
            while Objects::count() != left {
                assert!(start.elapsed() < Duration::from_secs(120), "{:?} is left", Objects::count());
                next();
                sleep(Duration::from_millis(50));
            }
        }
        fs::remove_dir(&dir).expect("nobody is in it");
        ground.end();
    });
}

/// The same for another cgroup in the place of one that is still there.
#[test]
fn another_cgroup() {
    isolated(|| {
        let Some(mut ground) = Ground::installed(|_| ()) else { return };
        // It is not in that cgroup.
        ground.world.stop_sidecar();
        let other = format!("{CGROUPS}/kumatp-test-other-{}", std::process::id());
        fs::create_dir(&other).expect("a cgroup");
        ground.workload().enter(|| engine().cgroup(&other).apply(&plan(|_| ()))).expect("an installation");
        let there = Place::Outside.socket(FamilyName::V4, 9000);
        let who =
            |ground: &Ground| ground.workload().enter_as(APP, || greeting(&blocking(there)?)).expect("an answer").who;
        assert_eq!(who(&ground), OUTSIDE, "this process is not in that cgroup");
        ground.world.start_sidecar().expect("its ports are free");
        ground.install(|_| ());
        assert_eq!(who(&ground), Server::OUTBOUND);
        fs::remove_dir(&other).expect("nobody is in it");
        ground.end();
    });
}

/// A program that was attached so that it stays alone is named, and nothing is changed.
#[test]
fn an_exclusive_program_in_the_way() {
    isolated(|| {
        let Some(mut ground) = Ground::new() else { return };
        // It is not in the inner cgroup.
        ground.world.stop_sidecar();
        let child = format!("{}/child", cgroup());
        fs::create_dir(&child).expect("a cgroup");
        let intruder = Intruder::alone(&cgroup()).expect("nobody else is attached");
        for wanted in [cgroup(), child.clone()] {
            let error = ground.workload().enter(|| engine().cgroup(&wanted).apply(&plan(|_| ())));
            let error = error.expect_err("no other can be attached");
            assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
            let text = error.to_string();
            for word in ["'intruder'", "cgroup/connect4", &format!("the cgroup {} ", cgroup()), "bpftool"] {
                assert!(text.contains(word), "{text:?} does not say {word}");
            }
            assert_eq!((Objects::count_until(Objects::NONE), pins()), (Objects::NONE, 0));
        }
        drop(intruder);
        fs::remove_dir(&child).expect("nobody is in it");
        ground.world.start_sidecar().expect("its ports are free");
        ground.install(|_| ());
        // The other way round, it is the intruder that cannot come.
        assert!(Intruder::alone(&cgroup()).is_err());
        assert!(in_force(&ground, "the intruder's end"));
        ground.end();
    });
}

/// A program that lets others be beside it is named, since it may have a say about destinations.
#[test]
fn a_program_beside_ours() {
    isolated(|| {
        let Some(mut ground) = Ground::new() else { return };
        let child = format!("{}/child", cgroup());
        fs::create_dir(&child).expect("a cgroup");
        // It is not in the inner cgroup.
        ground.world.stop_sidecar();
        let notes = |ground: &Ground, cgroup: &str| {
            let report = ground.workload().enter(|| engine().cgroup(cgroup).apply(&plan(|_| ())));
            let notes = report.expect("an installation").notes.into_iter().map(|note| note.text);
            notes.filter(|text| text.contains("another program")).collect::<Vec<_>>()
        };
        assert_eq!(notes(&ground, &cgroup()), [""; 0], "ours are not others");
        let intruder = Intruder::beside(&cgroup()).expect("it is beside ours");
        for inside in [child.clone(), cgroup()] {
            let notes = notes(&ground, &inside);
            assert_eq!(notes.len(), 1, "{notes:?}");
            for words in ["'intruder'", "cgroup/connect4", &format!("the cgroup {}", cgroup())] {
                assert!(notes[0].contains(words), "{notes:?} does not say {words}");
            }
        }
        ground.world.start_sidecar().expect("its ports are free");
        assert!(in_force(&ground, "a program beside ours"));
        drop(intruder);
        assert_eq!(notes(&ground, &cgroup()), [""; 0], "it is gone");
        fs::remove_dir(&child).expect("nobody is in it");
        ground.end();
    });
}

/// What each capability that is missing is called, before anything is changed.
#[test]
fn missing_capabilities() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        // With these, nothing is missing: there is a bpffs.
        mount(Some("test"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0700")).expect("a bpffs");
        let run = |set: &str| {
            Installer::behind(&["setpriv", "--bounding-set", set, "--inh-caps", "-all"], "install")
                .run(ground.workload())
        };
        for (set, missing, there) in [
            ("-net_admin", "CAP_NET_ADMIN", ["CAP_BPF", "CAP_PERFMON"]),
            ("-sys_admin,-bpf", "CAP_BPF", ["CAP_NET_ADMIN", "CAP_PERFMON"]),
            ("-sys_admin,-bpf,-perfmon", "CAP_BPF, CAP_PERFMON", ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]),
        ] {
            let text = run(set).expect_err(missing);
            assert!(text.contains(missing), "without {set}: {text}");
            assert!(!there.iter().any(|name| text.contains(name)), "without {set}: {text}");
            assert!(!in_force(&ground, set));
            assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE, "without {set}");
        }
        // Not all kernels want this one for programs such as ours.
        match run("-sys_admin,-perfmon") {
            Ok(()) => ground.uninstall(),
            Err(text) => assert!(text.contains("CAP_PERFMON") && !text.contains("CAP_BPF"), "{text}"),
        }
        assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE);
        run("-sys_admin").expect("there are those that it takes");
        assert!(in_force(&ground, "no CAP_SYS_ADMIN"));
        ground.uninstall();
        umount2(BPFFS, MntFlags::empty()).expect("nothing is in it");
        let text = run("-sys_admin").expect_err("no bpffs can be mounted");
        assert!(text.contains("CAP_SYS_ADMIN") && text.contains(BPFFS), "{text}");
        // An ordinary user.
        let ordinary = ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--inh-caps", "-all"];
        let text = Installer::behind(&ordinary, "install").run(ground.workload()).expect_err("an ordinary user");
        assert!(text.contains("CAP_"), "{text}");
        ground.end();
    });
}

/// Places that are something else, or nothing.
#[test]
fn wrong_places() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let refused = |installer: Installer, words: &[&str]| {
            let text = installer.run(ground.workload()).expect_err("it is refused");
            for word in words {
                assert!(text.contains(word), "{text:?} does not say {word}");
            }
            assert_eq!((Objects::count_until(Objects::NONE), pins()), (Objects::NONE, 0), "{text}");
        };
        fs::create_dir("/run/full").expect("/run is our own");
        fs::write("/run/full/file", "").expect("/run is our own");
        let file = format!("{}/cgroup.procs", cgroup());
        for path in ["/run", "/run/full/file", "/run/nothing", "/run/full/file/nothing", &file] {
            refused(
                Installer::new("install").cgroup(path),
                &["ebpf.cgroupPath: ", path, "cgroup2", "--ebpf-cgroup-path"],
            );
        }
        for path in ["/run/full", "/run/full/file", "/run/nothing", "/run/full/file/nothing"] {
            refused(Installer::new("install").bpffs(path), &["ebpf.bpffsPath: ", path, "a bpffs", "--ebpf-bpffs-path"]);
        }
        let hide = "for at in $(findmnt -rn -t cgroup2 -o TARGET); do umount -l $at; done; exec \"$@\"";
        let without = ["unshare", "-m", "sh", "-c", hide, "sh"];
        refused(Installer::behind(&without, "install").cgroup(""), &["cgroup2", "--ebpf-cgroup-path", "netlink"]);
        ground.end();
    });
}

/// Exclusions by the ten thousand: the maps are as large as it takes.
#[test]
fn many_exclusions() {
    isolated(|| {
        const COUNT: u32 = 30_000;
        let Some(ground) = Ground::new() else { return };
        let network = |i: u32| format!("{}/28", std::net::Ipv4Addr::from((11 << 24) + (i << 5)));
        let many = |config: &mut Config| {
            let outbound = &mut config.redirect.outbound;
            outbound.exclude_ips = (0..COUNT).map(|i| network(i).parse().expect("a network")).collect();
            outbound.exclude_ips.push("10.77.0.3/32".parse().expect("a network"));
            outbound.exclude_ports =
                (1..4_000).map(|i| (2 * i + 1).to_string()).collect::<Vec<_>>().join(",").parse().expect("ports");
            outbound.exclude_ports_for_uids = (0..2_000)
                .map(|i| format!("tcp:{}:{}", 20_000 + i, 3_000 + 2 * i).parse().expect("an exclusion"))
                .collect();
        };
        let start = Instant::now();
        ground.install(many);
        eprintln!("{COUNT} networks and 2,000 users: {:.3?}", start.elapsed());
        assert!(in_force(&ground, "many exclusions"));
        let there = Place::OutsideSecond.socket(FamilyName::V4, 9000);
        let answer = ground.workload().enter_as(APP, || greeting(&blocking(there)?)).expect("an answer");
        assert_eq!(answer.who, OUTSIDE);
        assert_eq!(ground.status(&plan(many)), Status::Current);
        ground.install(|_| ());
        assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION);
        ground.end();
    });
}

/// The kernel has no room for the maps: nothing is changed, and the error says what there is no room for.
#[test]
fn no_room_for_the_maps() {
    isolated(|| {
        let Some(ground) = Ground::installed(|_| ()) else { return };
        // Pins are inodes of the bpffs, and there is no room for file descriptors either.
        let limit = ["prlimit", "--nofile=12:12"];
        let text = Installer::behind(&limit, "install:1").run(ground.workload()).expect_err("too few descriptors");
        assert!(text.contains("Too many open files"), "{text}");
        assert!(in_force(&ground, "too few descriptors"));
        assert_eq!(ground.status(&plan(|_| ())), Status::Current, "what was in force is so still");
        assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION);
        ground.uninstall();
        let text = Installer::behind(&limit, "install").run(ground.workload()).expect_err("too few descriptors");
        assert!(text.contains("Too many open files"), "{text}");
        assert_eq!((Objects::count_until(Objects::NONE), pins()), (Objects::NONE, 0));
        ground.end();
    });
}
