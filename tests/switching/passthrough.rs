//! `::6` on the loopback interface, where several engines have something installed.

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Status, uninstall_all};
use kumatp::model::{IptablesMode, Options};

use super::netns::{isolated, run};
use super::outside::network;
use super::{config, install, loopback_address, netlink, now, ours_in_iptables, ours_in_nft, warnings};

/// An engine that removes what it has installed leaves `::6` to what others have in force.
#[test]
fn the_address_stays_where_rules_of_another_engine_need_it() {
    #[cfg(feature = "ebpf")]
    let programs = || -> Option<Box<dyn Engine>> { Some(Box::new(kumatp::engine::ebpf::Ebpf::default())) };
    #[cfg(not(feature = "ebpf"))]
    let programs = || -> Option<Box<dyn Engine>> { None };
    let stays = |engine: &dyn Engine, holder: &str| {
        let mut dry = Config::default();
        dry.dry_run = true;
        for config in [dry, Config::default()] {
            let report = engine.uninstall(&config.options()).unwrap();
            assert_eq!((report.steps.as_slice(), report.changed), (&[][..], false), "{holder}");
            let said =
                format!("::6/128 stays on the loopback interface: what the engine {holder} has installed needs it");
            assert!(report.notes.iter().any(|note| note.text == said), "{report:?}");
            assert!(loopback_address());
        }
    };
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        stays(&Iptables::default(), "netlink");
        programs().iter().for_each(|engine| stays(&**engine, "netlink"));
        assert_eq!(now().status, Status::Current);
        uninstall_all(&Options::default(), None).unwrap();
        assert!(!loopback_address());

        for mode in IptablesMode::ALL {
            install(&Iptables::default(), &config(mode)).unwrap();
            programs().iter().for_each(|engine| stays(&**engine, "iptables"));
            if mode == IptablesMode::Legacy {
                stays(&Netlink::default(), "iptables");
            }
            assert!(ours_in_iptables(mode));
            uninstall_all(&Options::default(), None).unwrap();
            assert!(!ours_in_iptables(mode) && !loopback_address());
        }

        // Rules for IPv4 do not need it.
        netlink(&config(IptablesMode::Nft)).unwrap();
        run("nft", &["delete", "table", "ip6", "kuma-mesh"]);
        let report = Iptables::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed ::6/128 from the loopback interface"]);
        assert!(ours_in_nft() && !loopback_address());
    });
}

/// What cannot be looked into may need the address.
#[test]
fn the_address_stays_where_nobody_can_tell_whether_rules_need_it() {
    isolated(|| {
        network();
        netlink(&config(IptablesMode::Nft)).unwrap();
        let lists = std::fs::canonicalize("/proc/thread-self/net").unwrap();
        run("mount", &["-t", "tmpfs", "none", lists.to_str().unwrap()]);
        let report = Netlink::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed the tables ip kuma-mesh and ip6 kuma-mesh"]);
        let said = "::6/128 stays on the loopback interface, as what may be installed besides may need it: cannot look into the \
                    IPv6 tables of iptables-legacy: ";
        assert!(warnings(&report).iter().any(|text| text.starts_with(said)), "{report:?}");
        assert!(!ours_in_nft() && loopback_address());

        run("umount", &[lists.to_str().unwrap()]);
        let report = Netlink::default().uninstall(&Options::default()).unwrap();
        assert_eq!(report.steps, ["removed ::6/128 from the loopback interface"]);
    });
}
