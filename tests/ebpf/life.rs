//! Installing, and removing, and what it says of itself; and in the place of rules for packets.

use kumatp::Config;
use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, Status, state};
use kumatp::model::Options;
use kumatp::net::FamilyName;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::common::world::{APP, BPFFS, OUTSIDE, Place, Server, cgroup};
use crate::ground::{Ground, INSTALLATION, engine, pins, plan};
use crate::netns::isolated;
use crate::objects::Objects;
use crate::sockets::{blocking, greeting};

/// Who answers the workload when it connects to the outside.
fn answer(ground: &Ground) -> String {
    let to = Place::Outside.socket(FamilyName::V4, 9000);
    ground.workload().enter_as(APP, || greeting(&blocking(to)?)).expect("an answer").who
}

#[test]
fn everything_comes_and_goes() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let plan = plan(|_| ());
        ground.workload().enter(|| {
            assert_eq!(engine().status(&plan).unwrap(), Status::Absent);
            engine().check(&plan).unwrap();
            assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE, "a check leaves nothing");
            let report = engine().apply(&plan).unwrap();
            assert!(report.changed, "{report:?}");
            assert_eq!(engine().status(&plan).unwrap(), Status::Current);
            assert!(!engine().apply(&plan).unwrap().changed);
            let programs = engine().programs().unwrap().unwrap();
            assert_eq!((programs.attached.len(), programs.generation), (INSTALLATION.programs, 1));
            assert_eq!(Objects::count_until(INSTALLATION), INSTALLATION);
        });
        assert_eq!(answer(&ground), Server::OUTBOUND);
        assert_eq!(ground.counted("outbound_redirected"), 1);
        ground.workload().enter(|| {
            let mut config = Config::default();
            config.dry_run = true;
            assert_eq!(engine().uninstall(&config.options()).unwrap().steps[0], "would remove the eBPF programs");
            assert_eq!(engine().status(&plan).unwrap(), Status::Current);
            let report = engine().uninstall(&Options::default()).unwrap();
            assert!(report.changed, "{report:?}");
            assert!(!engine().uninstall(&Options::default()).unwrap().changed);
            assert_eq!(engine().status(&plan).unwrap(), Status::Absent);
        });
        assert_eq!(answer(&ground), OUTSIDE);
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(pins() == 0 && !mounts.contains(BPFFS), "{mounts}");
        ground.end();
    });
}

#[test]
fn an_installation_over_rules_takes_their_place_and_the_other_way_round() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let plan = plan(|_| ());
        // Other engines look for programs in the usual place.
        let usual = || Ebpf::default().cgroup(cgroup());
        ground.workload().enter(|| {
            unshare(CloneFlags::CLONE_FS).unwrap();
            mount(Some("bpf"), "/sys/fs/bpf", Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
            assert!(Netlink::default().apply(&plan).unwrap().changed);
            let report = usual().apply(&plan).unwrap();
            assert!(report.steps.iter().any(|step| step.contains("removed the tables ip kuma-mesh")), "{report:?}");
            assert!(!usual().apply(&plan).unwrap().changed);
            let found = state(Some(&plan), None).unwrap();
            assert_eq!(found.installations.len(), 1, "{found:?}");
            assert_eq!(found.installations[0].families, FamilyName::ALL);
            // The cgroup that all processes are in is another one, which is a difference.
            assert!(matches!(found.status, Status::Drifted { .. }), "{found:?}");
            assert_eq!(state(None, None).unwrap().status, Status::Current);
        });
        assert_eq!(answer(&ground), Server::OUTBOUND);
        ground.workload().enter(|| {
            let report = Netlink::default().apply(&plan).unwrap();
            assert!(report.steps.contains(&"removed the eBPF programs".to_owned()), "{report:?}");
            assert_eq!(usual().status(&plan).unwrap(), Status::Absent);
        });
        assert_eq!(answer(&ground), Server::OUTBOUND);
        assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE);
    });
}
