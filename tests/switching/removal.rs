//! Everything is removed, or what stays is named.

use std::path::Path;

use kumatp::Error;
use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Report, uninstall_all};
use kumatp::model::{IptablesMode, Options};

use super::netns::{isolated, run};
use super::outside::{network, program};
use super::{
    config, install, kumactl, loopback_address, netlink, other, ours_in_iptables, ours_in_nft, plan, warnings,
};

#[test]
fn everything_can_be_uninstalled_whatever_engine_made_it() {
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        for mode in IptablesMode::ALL {
            let plan = plan(&Iptables::default(), &other(mode));
            kumactl(&plan, mode, true);
        }
        let mut dry = Config::default();
        dry.dry_run = true;
        let before = run("nft", &["-a", "list", "ruleset"]);
        let reports = uninstall_all(&dry.options(), None).unwrap();
        let steps: Vec<_> = reports.iter().flat_map(|report| &report.steps).collect();
        // Our tables, three tables of two families and two modes, and the address; each once.
        assert_eq!(steps.len(), 1 + 3 * 2 * 2 + 1, "{steps:?}");
        assert!(reports.iter().all(|report| !report.changed));
        assert_eq!(run("nft", &["-a", "list", "ruleset"]), before);

        let reports = uninstall_all(&Options::default(), None).unwrap();
        assert!(reports.iter().all(|report| report.changed && warnings(report).is_empty()), "{reports:?}");
        assert!(!ours_in_nft() && !loopback_address());
        assert!(IptablesMode::ALL.into_iter().all(|mode| !ours_in_iptables(mode)));
        assert!(!Path::new("/run/kumatp").exists());
        let reports = uninstall_all(&Options::default(), None).unwrap();
        assert!(reports.iter().all(|report| !report.changed && report.steps.is_empty()), "{reports:?}");
    });
}

/// Otherwise every operation would tell of it until the machine starts again.
#[test]
fn a_record_that_cannot_be_read_goes_with_the_last_that_is_installed() {
    isolated(|| {
        network();
        let mut plain = config(IptablesMode::Nft);
        plain.comments.disabled = true;
        install(&Iptables::default(), &plain).unwrap();
        let record = std::fs::read_dir("/run/kumatp").unwrap().next().unwrap().unwrap().path();
        std::fs::write(&record, "garbage").unwrap();
        let told = |reports: &[Report]| reports.iter().flat_map(warnings).any(|text| text.contains("record"));

        // It may say something of what is there.
        assert!(told(&[netlink(&config(IptablesMode::Nft)).unwrap()]) && record.exists());
        let mut dry = Options::default();
        dry.dry_run = true;
        assert!(told(&uninstall_all(&dry, None).unwrap()) && record.exists());
        assert!(told(&uninstall_all(&Options::default(), None).unwrap()) && !Path::new("/run/kumatp").exists());
        assert!(!told(&uninstall_all(&Options::default(), None).unwrap()));
    });
}

/// What nothing can remove is no success, and keeps nothing else in place.
#[test]
fn rules_that_stay_are_a_failure_that_names_them() {
    isolated(|| {
        network();
        install(&Iptables::default(), &config(IptablesMode::Legacy)).unwrap();
        install(&Netlink::default().allow_legacy_leftovers(), &config(IptablesMode::Nft)).unwrap();
        let names: Vec<_> = ["iptables", "ip6tables"]
            .into_iter()
            .flat_map(|family| {
                IptablesMode::ALL.map(|mode| ["", "-save", "-restore"].map(|end| program(family, mode, end)))
            })
            .flatten()
            .map(|path| path.canonicalize().unwrap())
            .collect();
        // The programs are gone, in this mount namespace.
        for path in names.iter().collect::<std::collections::BTreeSet<_>>() {
            run("mount", &["--bind", "/dev/null", path.to_str().unwrap()]);
        }
        let error = uninstall_all(&Options::default(), None).unwrap_err();
        let Error::Several(parts) = &error else { panic!("{error}") };
        assert!(matches!(&parts[..], [Error::Conflict { .. }, Error::Unsupported { .. }]), "{error}");
        let first = error.to_string().lines().next().unwrap().to_owned();
        assert!(
            first.contains("IPv4 and IPv6 rules in tables of iptables-legacy, and they are still active"),
            "{first}"
        );
        // The rules that stay need the address.
        assert!(!ours_in_nft() && loopback_address());
        for path in names.iter().collect::<std::collections::BTreeSet<_>>() {
            run("umount", &[path.to_str().unwrap()]);
        }
        assert!(ours_in_iptables(IptablesMode::Legacy));
        uninstall_all(&Options::default(), None).unwrap();
        assert!(!ours_in_iptables(IptablesMode::Legacy) && !loopback_address());
    });
}
