//! Rules for IPv6 wherever the kernel has it, whatever addresses there are, in network namespaces of their own. An ordinary user
//! will do.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;

use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report, Status};
use kumatp::facts::Ipv6;
use kumatp::model::{IpFamilyMode, Note};
use kumatp::{Error, Facts, Plan, facts, policy};

use self::isolated::{isolated, run};

fn config(mode: IpFamilyMode) -> Config {
    let mut config = Config::default();
    // A number, so that nobody is looked up.
    config.kuma_dp_user = Some("0".into());
    config.ip_family_mode = mode;
    config
}

fn look(config: &Config, engine: &dyn Engine) -> Facts {
    facts::probe(&policy::facts_needed(config), engine.abilities(&config.options()).unwrap()).unwrap()
}

fn plan_by_netlink(mode: IpFamilyMode) -> Result<Plan, Error> {
    let config = config(mode);
    policy::plan(&config, &look(&config, &Netlink::default()))
}

/// A dry run, which needs no program: what kumactl would do.
fn plan_by_iptables(mode: IpFamilyMode) -> Result<Plan, Error> {
    let mut config = config(mode);
    config.dry_run = true;
    policy::plan(&config, &look(&config, &Iptables::in_path("/nonexistent")))
}

fn warnings(plan: &Plan) -> String {
    plan.warnings().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What a report says of IPv6. An ordinary user may not look at all tables of others, which it says as well.
fn said(report: &Report) -> Vec<String> {
    let about = |note: &&Note| note.about == "ipv6" || note.about == "ipFamilyMode";
    report.notes.iter().filter(about).map(ToString::to_string).collect()
}

fn ip(line: &str) -> String {
    run("ip", &line.split(' ').collect::<Vec<_>>(), "")
}

fn set(interface: &str, off: bool) {
    let path = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
    std::fs::write(path, if off { "1" } else { "0" }).unwrap();
}

/// Interfaces with link-local addresses. Those that the kernel makes up come in the background, when it sees that a link is up.
fn a_link_with_its_addresses() {
    ip("link add one0 type veth peer name two0");
    for (interface, address) in [("one0", "fe80::1"), ("two0", "fe80::2")] {
        ip(&format!("link set {interface} addrgenmode none up"));
        ip(&format!("addr add {address}/64 dev {interface} nodad"));
    }
}

fn six_is_there() -> bool {
    ip("-6 addr show dev lo").contains("inet6 ::6/128")
}

/// No address, then one of the link, then one that hosts beyond it reach: the rules are the same all the time.
#[test]
fn rules_do_not_wait_for_addresses() {
    isolated(|| {
        for interface in ["all", "default", "lo"] {
            set(interface, false);
        }
        let engine = Netlink::default();
        let state = |engine: &dyn Engine| look(&config(IpFamilyMode::DualStack), engine).ipv6;
        assert_eq!(state(&engine), Ipv6::Unaddressed);
        let plan = plan_by_netlink(IpFamilyMode::DualStack).unwrap();
        assert!(plan.v6.is_some() && warnings(&plan).is_empty(), "{:?}", plan.notes);
        assert!(plan.notes.iter().any(|note| note.about == "ipv6" && note.text.contains("but loopback")));
        assert!(plan_by_netlink(IpFamilyMode::Required).unwrap().v6.is_some());
        // kumactl makes none there.
        let by_iptables = plan_by_iptables(IpFamilyMode::DualStack).unwrap();
        assert!(by_iptables.v6.is_none() && warnings(&by_iptables).contains("IPv6 left out"), "{by_iptables:?}");
        assert!(said(&engine.apply(&plan).unwrap()).is_empty());
        assert!(six_is_there());
        // Our own address is nobody's way in.
        assert_eq!(state(&engine), Ipv6::Unaddressed);

        a_link_with_its_addresses();
        assert_eq!(state(&engine), Ipv6::LinkLocal);
        let later = plan_by_netlink(IpFamilyMode::DualStack).unwrap();
        assert!(warnings(&later).is_empty(), "{:?}", later.notes);
        assert_eq!(engine.status(&later).unwrap(), Status::Current);
        assert!(plan_by_netlink(IpFamilyMode::Required).unwrap().v6.is_some());
        assert!(plan_by_iptables(IpFamilyMode::DualStack).unwrap().v6.is_some(), "as kumactl does");

        ip("addr add fd77::1/64 dev one0 nodad");
        assert_eq!(state(&engine), Ipv6::Usable);
        let last = plan_by_netlink(IpFamilyMode::DualStack).unwrap();
        assert!(last.notes.iter().all(|note| note.about != "ipv6"), "{:?}", last.notes);
        assert_eq!(engine.status(&last).unwrap(), Status::Current);
        assert!(!engine.apply(&last).unwrap().changed);
    });
}

#[test]
fn ipv4_alone_says_what_it_leaves_open() {
    isolated(|| {
        let engine = Netlink::default();
        let plan = plan_by_netlink(IpFamilyMode::Ipv4).unwrap();
        assert!(plan.v6.is_none() && warnings(&plan).is_empty());
        let said = || said(&engine.apply(&plan).unwrap()).join("\n");
        assert_eq!(said(), "");
        a_link_with_its_addresses();
        let neighbours = said();
        assert!(neighbours.contains("link-local") && neighbours.contains("past the sidecar"), "{neighbours}");
        ip("addr add fd77::1/64 dev one0 nodad");
        let everybody = said();
        assert!(everybody.contains("connections by them") && everybody.contains("disable_ipv6"), "{everybody}");
        // What is switched off is open to nobody.
        for interface in ["one0", "two0"] {
            set(interface, true);
        }
        assert_eq!(said(), "");
    });
}

/// Where IPv6 is off on every interface, rules are there for the day that it is not; `::6` cannot be.
#[test]
fn an_address_that_cannot_be_added_does_not_keep_rules_away() {
    isolated(|| {
        for interface in ["all", "default", "lo"] {
            set(interface, true);
        }
        let engine = Netlink::default();
        let required = plan_by_netlink(IpFamilyMode::Required).unwrap();
        let error = engine.apply(&required).unwrap_err().to_string();
        assert!(error.contains("::6") && error.contains("net.ipv6.conf.lo.disable_ipv6"), "{error}");
        assert_eq!(engine.status(&required).unwrap(), Status::Absent);

        let plan = plan_by_netlink(IpFamilyMode::DualStack).unwrap();
        let report = engine.apply(&plan).unwrap();
        let said = said(&report);
        assert!(said.len() == 1 && said[0].contains("net.ipv6.conf.lo.disable_ipv6"), "{said:?}");
        assert_eq!(report.steps, ["installed the tables ip kuma-mesh and ip6 kuma-mesh"]);
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);

        // Once it can be added, the next installation does.
        set("lo", false);
        assert_eq!(engine.apply(&plan).unwrap().steps, ["added ::6/128 to the loopback interface"]);
        assert!(six_is_there());
        engine.uninstall(&plan.options).unwrap();
        assert!(!six_is_there());
    });
}
