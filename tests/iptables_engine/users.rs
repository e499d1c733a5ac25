//! Users who may not do everything, and hosts without programs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::thread;

use kumatp::config::Config;
use kumatp::engine::Engine as _;
use kumatp::engine::iptables::Iptables;
use kumatp::error::Error;
use kumatp::model::{IpFamilyMode, IptablesMode};

use crate::netns::{self, isolated, run};
use crate::outside::program;
use crate::{MODE, config, install, uninstall};

#[test]
fn a_host_without_programs_is_named_except_by_a_dry_run() {
    isolated(|| {
        let engine = Iptables::in_path("/nonexistent:relative");
        let mut config = Config::default();
        let error = engine.abilities(&config.options()).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }));
        for name in ["iptables-nft", "iptables-legacy", "/nonexistent"] {
            assert!(error.to_string().contains(name), "{error}");
        }
        assert!(engine.uninstall(&config.options()).is_err());
        config.dry_run = true;
        let assumed = engine.abilities(&config.options()).unwrap();
        assert_eq!((assumed.v4, assumed.v6_refused, assumed.remarks.len()), (Default::default(), None, 1));
    });
}

/// Installs and uninstalls where the kernel does not show which legacy tables are in use; run by the test below.
#[test]
#[ignore = "a part of another test"]
fn comes_and_goes_in_a_user_namespace() {
    let mode = match std::env::var(MODE).as_deref() {
        Ok("nft") => IptablesMode::Nft,
        Ok("legacy") => IptablesMode::Legacy,
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
    let save = |mode: IptablesMode| run(program("iptables", mode, "-save").to_str().unwrap(), &["-t", "nat"]);
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
        for mode in IptablesMode::ALL {
            // The module is loaded by root.
            run(program("iptables", IptablesMode::Legacy, "").to_str().unwrap(), &["-t", "nat", "-L"]);
            let mut child = Command::new("setpriv");
            child.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
            child.args(["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c"]);
            child.arg("ip link set lo up && exec \"$@\"");
            child.args(["sh", exe, "users::comes_and_goes_in_a_user_namespace", "--exact", "--ignored", "--nocapture"]);
            child.env(MODE, mode.to_string()).env("XTABLES_LOCKFILE", "/run/kumatp-test-xtables.lock");
            assert!(child.status().unwrap().success(), "{mode}");
        }
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
                (Iptables::default().abilities(&config.options()), Iptables::default().uninstall(&config.options()))
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
