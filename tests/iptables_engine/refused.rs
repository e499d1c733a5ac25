//! Programs that refuse, fail or have to wait.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use kumatp::error::Error;
use kumatp::model::IptablesMode;

use crate::netns::isolated;
use crate::outside::{foreign_rules, network, program};
use crate::{config, everything, install, loopback_address, other_options, ours_is_there, saved, uninstall};

/// A program that takes rules for a test and refuses to apply them.
fn refusing_restore(mode: IptablesMode) -> PathBuf {
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
        for mode in IptablesMode::ALL {
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
fn tripping_restore(family: &str, mode: IptablesMode, script: &str) -> PathBuf {
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
fn a_table_that_is_refused_leaves_those_before_it_as_they_were() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
            foreign_rules(mode);
            for family in ["iptables", "ip6tables"] {
                // In the last of three tables.
                let [real, save] = ["-restore", "-save"].map(|end| program(family, mode, end).display().to_string());
                let last = "$s/COMMIT/-A OUTPUT -m no_such_match -j ACCEPT\\nCOMMIT/";
                let refused = format!("sed '{last}' | {real} \"$@\"; status=$?; {save} >/run/between; exit $status");
                let mut failing = other_options(mode);
                let own = match family {
                    "iptables" => &mut failing.iptables_executables.v4,
                    _ => &mut failing.iptables_executables.v6,
                };
                own.restore = Some(tripping_restore(family, mode, &refused));
                let check = |before: Vec<Vec<String>>| {
                    File::create("/run/trip").unwrap();
                    let error = install(&failing).unwrap_err();
                    assert!(matches!(error, Error::Program { .. }), "{error}");
                    assert!(error.to_string().contains("no_such_match"), "{error}");
                    // Some of it was in force.
                    assert!(std::fs::read_to_string("/run/between").unwrap().contains("--zone"));
                    let counters = |state: Vec<Vec<String>>| state.concat().join("\n").replace("[0:0] ", "");
                    assert_eq!(counters(everything()), counters(before));
                };
                check(everything());
                install(&config(mode)).unwrap();
                check(everything());
                uninstall();
            }
        }
    });
}

#[test]
fn what_another_program_wrote_meanwhile_is_not_undone() {
    isolated(|| {
        network();
        for mode in IptablesMode::ALL {
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
        let mode = IptablesMode::Legacy;
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
        for mode in IptablesMode::ALL {
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
        let mut config = config(IptablesMode::Legacy);
        let real = program("iptables", IptablesMode::Legacy, "-restore");
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
            assert!(!ours_is_there("iptables", IptablesMode::Legacy));
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
        assert!(ours_is_there("iptables", IptablesMode::Legacy));
    });
}

#[test]
fn a_lock_file_that_cannot_be_made_is_named_with_a_remedy() {
    isolated(|| {
        network();
        // Programs read the variable when they are started.
        let path = "/run/restore";
        let real = program("iptables", IptablesMode::Legacy, "-restore");
        let text = format!("#!/bin/sh\nXTABLES_LOCKFILE=/proc/no/lock exec {} \"$@\"\n", real.display());
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = config(IptablesMode::Legacy);
        config.iptables_executables.v4.restore = Some(path.into());
        let error = install(&config).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("XTABLES_LOCKFILE") && error.contains("netlink"), "{error}");
        assert!(!ours_is_there("iptables", IptablesMode::Legacy) && !ours_is_there("ip6tables", IptablesMode::Legacy));
    });
}
