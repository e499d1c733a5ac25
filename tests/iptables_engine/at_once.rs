//! Several installations at once: one at a time is at work, whichever engines they are by.

use std::io::{BufRead as _, BufReader};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, Status, replace_all, replace_all_by, state, uninstall_all};
use kumatp::model::{EngineName, IptablesMode, Plan};
use kumatp::net::Uid;
use kumatp::{Error, Facts, policy};

use crate::netns::{isolated, run, skipped};
use crate::outside::network;
use crate::{config, install, other_options, ours_is_there, saved, uninstall};

#[test]
fn installations_at_once_leave_one_whole_configuration() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
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
        let report = install(&config(IptablesMode::Nft)).unwrap();
        assert!(report.notes.iter().any(|note| note.text.contains("of the user 1000")), "{report:?}");
        assert!(ours_is_there("iptables", IptablesMode::Nft));
        drop(done);
        stranger.join().unwrap();
        assert!(install(&config(IptablesMode::Nft)).unwrap().notes.is_empty());
    });
}

/// As root in an ordinary container.
#[test]
fn root_without_the_capability_cannot_stop_an_installation() {
    isolated(|| {
        network();
        let bind = "import socket, sys\nname = socket.socket(socket.AF_UNIX)\nname.bind('\\0kumatp/rules')\nname.listen(8)\n\
                    print('bound', flush=True)\nsys.stdin.read()";
        let without = ["--bounding-set=-net_admin", "--inh-caps=-net_admin", "--ambient-caps=-net_admin"];
        let holder = Command::new("setpriv")
            .args(without)
            .args(["python3", "-c", bind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut holder) = holder else { return skipped("setpriv is not there") };
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        if said.is_empty() {
            return skipped("python3 is not there");
        }
        let report = install(&config(IptablesMode::Nft)).unwrap();
        assert!(report.notes.iter().any(|note| note.text.contains("may not change rules")), "{report:?}");
        assert!(ours_is_there("iptables", IptablesMode::Nft));
        drop(holder.stdin.take());
        holder.wait().unwrap();
        assert!(install(&config(IptablesMode::Nft)).unwrap().notes.is_empty());
    });
}

fn plan(mode: IptablesMode) -> Plan {
    policy::plan(&config(mode), &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

/// The name of the lock, as an operation under way has it.
fn under_way() -> UnixListener {
    let name = UnixListener::bind_addr(&SocketAddr::from_abstract_name("kumatp/rules").unwrap()).unwrap();
    name.set_nonblocking(true).unwrap();
    name
}

#[test]
fn every_operation_waits_for_the_one_that_is_under_way() {
    isolated(|| {
        network();
        let plan = plan(IptablesMode::Nft);
        let operations: [&(dyn Fn() -> Result<(), Error> + Sync); 7] = [
            &|| Netlink::default().apply(&plan).map(drop),
            &|| Netlink::default().uninstall(&plan.options).map(drop),
            &|| replace_all(&plan, None).map(drop),
            &|| uninstall_all(&plan.options, None).map(drop),
            &|| Iptables::default().apply(&plan).map(drop),
            &|| Iptables::default().remove_leftovers(&plan.options).map(drop),
            &|| Iptables::default().uninstall(&plan.options).map(drop),
        ];
        for (number, operation) in operations.iter().enumerate() {
            let other = under_way();
            let before = run("nft", &["list", "ruleset"]);
            thread::scope(|scope| {
                let waiting = scope.spawn(operation);
                // Whoever waits is in the queue.
                while other.accept().is_err() {
                    assert!(!waiting.is_finished(), "operation {number} does not wait");
                    thread::sleep(Duration::from_millis(1));
                }
                assert_eq!(run("nft", &["list", "ruleset"]), before);
                drop(other);
                waiting.join().unwrap().unwrap();
            });
        }
        // Who only asks what would be done waits for nobody.
        let _other = under_way();
        let mut dry = plan.options.clone();
        dry.dry_run = true;
        Netlink::default().uninstall(&dry).unwrap();
        uninstall_all(&dry, None).unwrap();
    });
}

#[test]
fn engines_at_once_leave_one_installation() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            let plan = &plan(mode);
            for _ in 0..5 {
                thread::scope(|scope| {
                    let engines = [EngineName::Netlink, EngineName::Iptables, EngineName::Netlink];
                    let all = engines.map(|engine| scope.spawn(move || replace_all_by(engine, plan, None)));
                    all.into_iter().for_each(|one| drop(one.join().unwrap().unwrap()));
                });
                let found = state(Some(plan), None).unwrap();
                assert!(found.status == Status::Current && found.installations.len() == 1, "{mode}: {found:?}");
            }
            uninstall_all(&plan.options, None).unwrap();
            assert_eq!(state(None, None).unwrap().status, Status::Absent);
        }
    });
}
