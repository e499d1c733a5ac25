use super::*;
use crate::config::Config;
use crate::model::{IpFamilyMode, Options};
use crate::policy;

fn plan(fake: &Fake, change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    policy::plan(&config, &fake.facts(Uid::SIDECAR)).unwrap()
}

fn error(problem: &str) -> Error {
    Error::Conflict { problem: problem.into(), remedy: "wait".into() }
}

#[test]
fn failures_come_once_each_to_the_engine_they_are_for() {
    let netlink = Fake::new(EngineName::Netlink);
    let iptables = netlink.beside(EngineName::Iptables);
    let (plan, options) = (plan(&netlink, |_| {}), Options::default());
    for fake in [&netlink, &iptables] {
        fake.fail_next(Operation::Apply, error("first"));
        fake.fail_next(Operation::Uninstall, error("other"));
        fake.fail_next(Operation::Apply, error("second"));
        fake.fail_next(Operation::Abilities, error("blind"));
        fake.fail_next(Operation::Status, error("blind"));
    }
    for fake in [&netlink, &iptables] {
        assert_eq!(fake.abilities(&options), Err(error("blind")));
        assert_eq!(fake.apply(&plan), Err(error("first")));
        assert_eq!(fake.apply(&plan), Err(error("second")));
        assert!(fake.installed().is_none() && !fake.has_loopback_address() && fake.rules().is_empty());
        assert!(fake.apply(&plan).unwrap().changed);
        assert_eq!(fake.uninstall(&options), Err(error("other")));
        assert_eq!(fake.status(&plan), Err(error("blind")));
        assert_eq!(fake.status(&plan), Ok(Status::Current));
        assert!(fake.uninstall(&options).unwrap().changed);
        let operations: Vec<_> = fake.calls().iter().map(Call::operation).collect();
        use Operation as O;
        let all = [O::Abilities, O::Apply, O::Apply, O::Apply, O::Uninstall, O::Status, O::Status, O::Uninstall];
        assert_eq!(operations, all);
    }
}

#[test]
fn threads_share_a_host() {
    let fake: Box<dyn Engine + Send + Sync> = Box::new(Fake::new(EngineName::Netlink));
    let other = Fake::new(EngineName::Netlink);
    let plan = plan(&other, |_| {});
    let changed = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| other.clone().apply(&plan).unwrap().changed)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|changed| *changed).count()
    });
    assert_eq!((changed, other.calls().len()), (1, 4));
    // Another host.
    assert!(!fake.uninstall(&plan.options).unwrap().changed);
    assert_eq!(other.installed(), Some(plan));
}

#[test]
fn the_rules_are_those_of_the_engine() {
    let netlink = Fake::new(EngineName::Netlink);
    let iptables = netlink.beside(EngineName::Iptables);
    let plan = plan(&netlink, |config| config.redirect.inbound.exclude_ports = "22".parse().unwrap());
    netlink.apply(&plan).unwrap();
    let text = netlink.rules();
    assert!(text.starts_with("table ip kuma-mesh {\n") && text.contains("\n}\n\ntable ip6 kuma-mesh {\n"), "{text}");
    assert_eq!(iptables.rules(), "");
    iptables.apply(&plan).unwrap();
    assert_eq!(netlink.rules(), "");
    let text = iptables.rules();
    assert_eq!(text, crate::render::iptables::plan(&plan));
    iptables.remove_family(FamilyName::V4);
    assert!(iptables.rules().starts_with("### IPv6 ###\n"));
    assert_eq!(iptables.installed(), Some(plan));
}

#[test]
fn chains_that_are_not_there_are_named_with_those_that_are() {
    for name in [EngineName::Netlink, EngineName::Iptables] {
        let fake = Fake::new(name);
        let refused = fake.flush_chain(FamilyName::V4, "KUMA_MESH_OUTBOUND").unwrap_err();
        assert!(refused.to_string().contains("there is none"), "{refused}");
        let plan = plan(&fake, |config| config.ip_family_mode = IpFamilyMode::Ipv4);
        fake.apply(&plan).unwrap();
        let refused = fake.flush_chain(FamilyName::V4, "OUTBOUND").unwrap_err().to_string();
        assert!(refused.contains("'OUTBOUND'") && refused.contains("KUMA_MESH_OUTBOUND"), "{refused}");
        assert!(fake.flush_chain(FamilyName::V6, "KUMA_MESH_OUTBOUND").is_err());
        assert_eq!(fake.status(&plan), Ok(Status::Current));
        fake.flush_chain(FamilyName::V4, "KUMA_MESH_OUTBOUND").unwrap();
        assert!(matches!(fake.status(&plan), Ok(Status::Drifted { .. })));
        // Others can lead to chains of iptables only.
        let jump = fake.add_others_jump(FamilyName::V4, "KUMA_MESH_OUTBOUND");
        assert_eq!(jump.is_ok(), name == EngineName::Iptables);
    }
}

#[test]
fn abilities_are_those_that_were_set() {
    let fake = Fake::new(EngineName::Netlink);
    let mut abilities = HostAbilities::default();
    abilities.v4.conntrack_zones = false;
    fake.set_abilities(abilities.clone());
    assert_eq!(fake.abilities(&Options::default()), Ok(abilities));
    assert!(!fake.facts(Uid::SIDECAR).v4.conntrack_zones);

    let dual = plan(&fake, |_| {});
    fake.refuse_ipv6("no ip6 nat", "load it");
    for name in [EngineName::Netlink, EngineName::Iptables] {
        let refused = fake.beside(name).apply(&dual).unwrap_err();
        assert!(matches!(&refused, Error::Unsupported { what, .. } if what.contains("no ip6 nat")), "{refused}");
    }
    let error = policy::plan(&Config::default(), &fake.facts(Uid::SIDECAR)).unwrap_err();
    assert!(matches!(error, Error::Facts { .. }), "{error}");
    fake.set_abilities(HostAbilities::default());
    assert!(fake.apply(&dual).unwrap().changed);
}

#[test]
fn without_the_privilege_nothing_changes() {
    for name in [EngineName::Netlink, EngineName::Iptables] {
        let fake = Fake::new(name);
        let plan = plan(&fake, |_| {});
        fake.apply(&plan).unwrap();
        fake.set_privileged(false);
        assert!(matches!(fake.uninstall(&plan.options), Err(Error::Permission { .. })));
        assert!(matches!(fake.apply(&plan), Err(Error::Permission { .. })));
        fake.set_privileged(true);
        assert_eq!(fake.status(&plan), Ok(Status::Current));
    }
}

#[test]
fn a_removal_that_fails_leaves_the_new_rules_and_the_older_ones() {
    let fake = Fake::new(EngineName::Iptables);
    let dual = plan(&fake, |_| {});
    let v4 = plan(&fake, |config| config.ip_family_mode = IpFamilyMode::Ipv4);
    fake.apply(&dual).unwrap();
    fake.add_others_jump(FamilyName::V6, "KUMA_MESH_OUTBOUND").unwrap();
    let error = fake.apply(&v4).unwrap_err();
    assert!(error.to_string().contains("the new rules are active, but"), "{error}");
    assert!(matches!(fake.status(&v4), Ok(Status::Drifted { .. })));
    fake.remove_others_jumps();
    fake.apply(&v4).unwrap();
    assert_eq!(fake.status(&v4), Ok(Status::Current));
}

#[test]
fn legacy_rules_are_in_the_way_of_programs_too() {
    let ebpf = Fake::new(EngineName::Ebpf);
    let plan = plan(&ebpf, |_| {});
    ebpf.leave_behind(Tables::IptablesLegacy, &plan);
    assert!(matches!(ebpf.apply(&plan), Err(Error::Conflict { .. })));
    assert!(ebpf.installed().is_none());
    let report = ebpf.clone().allow_legacy_leftovers().apply(&plan).unwrap();
    assert!(report.notes.iter().any(|note| note.text.contains("only the iptables programs can remove")), "{report:?}");
    assert!(ebpf.installed().is_some() && ebpf.installed_in(Tables::IptablesLegacy).is_some());
}
