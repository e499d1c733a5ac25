//! The kernel against the simulator: for random configurations, packets from the edges of their constants are really sent, through
//! the rules of every engine, and end where the simulator says: redirected to a listener that knows where they were going, delivered
//! or sent on as they are, or nowhere; tracked in the zone that it says; answered or not.
//!
//! The host is a network namespace. All around it is played by this program, which sees whatever leaves and sends whatever
//! arrives, so any address can be elsewhere; on the host are real sockets of real users.
//!
//! `KUMATP_DIFFERENTIAL` is how many configurations are tried, `KUMATP_DIFFERENTIAL_SEED` the number that all of them follow
//! from, which is printed; with `KUMATP_DIFFERENTIAL_RULES`, rules and facts are printed with a disagreement. It takes root.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "../common/world/backend.rs"]
mod backend;
mod cases;
mod compare;
mod configurations;
#[expect(dead_code, reason = "all packets at once is for other tests")]
#[path = "../common/edges.rs"]
mod edges;
mod flight;
mod foreign;
#[path = "../common/generate.rs"]
mod generate;
mod ground;
#[expect(dead_code, reason = "working as another user is for other tests")]
#[path = "../common/world/netns.rs"]
mod netns;
#[path = "../common/world/ports.rs"]
mod ports;
mod sequences;
mod shot;
#[path = "../common/skip.rs"]
mod skip;
mod tracking;
mod trial;
mod wire;

use std::io::Write as _;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arbitrary::Unstructured;
use backend::Backend;
use trial::{Bench, Tally, Trial};

const BACKENDS: [Backend; 4] = [Backend::Netlink, Backend::NftScript, Backend::IptablesNft, Backend::IptablesLegacy];

/// Without being told otherwise.
const CONFIGURATIONS: u64 = 300;

/// Of how many configurations one is tried with sequences of packets, and another beside rules of others.
const EACH: u64 = 15;

/// Packets for each.
const PACKETS: usize = 40;

#[test]
fn fixed_cases() {
    if possible() {
        on_every_backend(|bench, report| {
            for case in cases::all() {
                let trial = case.trial();
                bench.run(&trial, report);
                for (shot, expected) in trial.shots.iter().zip(&case.packets) {
                    let verdict = trial.simulate(bench.backend, shot).request.verdict;
                    let wanted = if bench.backend.is_native() { expected.natively } else { expected.with_iptables };
                    assert_eq!(verdict.to_string(), wanted, "{}: {}", case.name, shot.packet);
                }
            }
        });
    }
}

/// What the comparison is worth: where the simulator is told of other rules than those in force, it is found out.
#[test]
fn wrong_predictions_are_noticed() {
    if !possible() {
        return;
    }
    let printed = Mutex::new(0);
    for backend in [Backend::Netlink, Backend::IptablesNft] {
        trial::on_new_ground(backend, &printed, |bench, _| {
            for (name, installed, believed) in cases::mistakes() {
                let (installed, believed) =
                    (Trial::without_packets(name, installed), Trial::without_packets(name, believed));
                let mut noticed = 0;
                for seed in 0..20 {
                    let installed = installed.with_packets(seed, 150);
                    let mut tally = Tally::default();
                    let seen = bench.run(&installed, &mut tally);
                    assert_eq!(tally.disagreements, 0, "{name}, {backend:?}");
                    noticed = (installed.shots.iter().zip(&seen))
                        .filter(|(shot, seen)| {
                            !compare::complaints(shot, &believed.simulate(backend, shot), seen).is_empty()
                        })
                        .count();
                    if noticed > 0 {
                        break;
                    }
                }
                assert!(noticed > 0, "{name}, {backend:?}: nothing was noticed");
            }
        });
    }
}

#[test]
fn random_configurations() {
    if !possible() {
        return;
    }
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| u64::from(time.subsec_nanos()));
    let configurations = number("KUMATP_DIFFERENTIAL").unwrap_or(CONFIGURATIONS);
    let seed = number("KUMATP_DIFFERENTIAL_SEED").unwrap_or_else(now);
    say(&format!("KUMATP_DIFFERENTIAL={configurations} KUMATP_DIFFERENTIAL_SEED={seed}"));
    on_every_backend(|bench, report| {
        for number in 0..configurations {
            let trial = Trial::random(seed, number, PACKETS, &mut report.skipped);
            bench.run(&trial, report);
            match number % EACH {
                3 => bench.run_sequences(&trial.with_packets(seed ^ number, PACKETS), report),
                7 => {
                    let bytes = trial::random_bytes(seed.wrapping_add(number));
                    let trial = trial.with_packets(seed ^ number, PACKETS);
                    bench.run_beside_others(&trial, &mut Unstructured::new(&bytes), report);
                }
                _ => {}
            }
            if number % 25 == 24 {
                bench.uninstall(report);
            }
        }
    });
}

/// Works on all backends side by side, each in a world of its own, says the counts, and fails if there was a disagreement.
fn on_every_backend(work: impl Fn(&mut Bench<'_>, &mut Tally) + Sync) {
    let start = Instant::now();
    let said = Mutex::new(0);
    let tallies: Vec<(Backend, Tally)> = thread::scope(|scope| {
        let threads: Vec<_> = BACKENDS
            .into_iter()
            .map(|backend| {
                let (work, said) = (&work, &said);
                scope.spawn(move || {
                    let tally = trial::on_new_ground(backend, said, work);
                    (backend, tally)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a world can be made, and rules load")).collect()
    });
    for (backend, tally) in &tallies {
        say(&format!("{backend:?}: {tally}"));
    }
    for (backend, Tally { beside_others, undecided, .. }) in &tallies {
        assert!(undecided * 4 <= *beside_others, "{backend:?}: too many are undecided beside rules of others");
    }
    let disagreements: usize = tallies.iter().map(|(_, tally)| tally.disagreements).sum();
    say(&format!("{disagreements} disagreements, in {:.1} s", start.elapsed().as_secs_f32()));
    assert_eq!(disagreements, 0, "they are printed above");
}

/// Prints past the test runner, which would keep it to itself.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether this can run here; says why not, and fails if `KUMATP_REQUIRE_ALL=1`.
fn possible() -> bool {
    const PROGRAMS: [&str; 5] =
        ["ip", "nft", "iptables-nft-restore", "iptables-legacy-restore", "ip6tables-nft-restore"];
    let missing = PROGRAMS.iter().find(|program| Command::new(program).arg("-V").output().is_err());
    let why = match (nix::unistd::geteuid().is_root(), missing) {
        (false, _) => "packets of several users need root".to_owned(),
        (true, Some(program)) => format!("{program} is not there"),
        (true, None) => return true,
    };
    skip::skipped(&why);
    false
}
