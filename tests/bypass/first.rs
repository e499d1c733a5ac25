//! What a peer begins with, in many forms: whatever would reach the application without rules reaches the sidecar with them, or
//! nobody.

use std::collections::BTreeMap;

use kumatp::Config;

use crate::cases::{self, Case, Kind};
use crate::common::world::{Backend, Server, WORKLOAD, sysctl};
use crate::lab::{Lab, Rules};
use crate::range::{Verdict, shoot};

/// How many cases of a kind have to reach the application where there are no rules: fewer, and they would prove little. It is less
/// than was seen, since kernels differ.
const REACHING: [(Kind, usize); 8] = [
    (Kind::First, 30),
    (Kind::Before, 150),
    (Kind::Options, 4),
    (Kind::Fragments4, 6),
    (Kind::Headers, 10),
    (Kind::Fragments6, 10),
    (Kind::Destination, 4),
    (Kind::Source, 1),
];

/// Loopback destinations that rules of iptables redirect before routing can drop them, as kumactl's do.
const OPEN_WITH_IPTABLES: [&str; 3] = ["to 127.0.0.1, IPv4", "to 0.0.0.0, IPv4", "to ::, IPv6"];

/// All cases; the ports of a later time are others, since the host knows the earlier ones.
pub(crate) fn packets(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    check_control(&cases::all(20000), &shoot(&lab, &cases::all(20000), 21000).expect("packets can be sent"));
    // Connection tracking alone loses some fragments, whatever the rules.
    lab.foreign(
        "table inet tracking { chain input { type filter hook input priority 0; ct state established accept; }; }",
    );
    let tracked = shoot(&lab, &cases::all(25000), 26000).expect("packets can be sent");
    lab.foreign("delete table inet tracking");
    lab.install(rules, &Config::default());
    let cases = cases::all(30000);
    assert!(cases.len() >= 375, "only {} cases", cases.len());
    check(rules, &cases, &tracked, &shoot(&lab, &cases, 31000).expect("packets can be sent"));
    // Programs see neither packets that are for no connection nor interfaces: who has a host take packets for loopback gets them.
    if !rules.backend.is_programs() {
        with_other_settings(&lab, rules);
    }
}

fn with_other_settings(lab: &Lab, rules: Rules) {
    let mut config = Config::default();
    config.redirect.inbound.insert = true;
    config.drop_invalid_packets = true;
    lab.install(rules, &config);
    let cases = cases::all(50000);
    let verdicts = shoot(lab, &cases, 51000).expect("packets can be sent");
    // What is invalid is dropped now, so what is open need not reach anybody.
    check(rules, &cases, &vec![Verdict::default(); cases.len()], &verdicts);

    // Where the host takes more addresses than it should.
    lab.world
        .workload
        .enter(|| {
            for interface in ["all", "eth0"] {
                for (name, value) in [("route_localnet", "1"), ("accept_local", "1"), ("rp_filter", "0")] {
                    sysctl(&format!("net/ipv4/conf/{interface}/{name}"), value)?;
                }
            }
            std::io::Result::Ok(())
        })
        .expect("the host can be told to");
    let cases = cases::addresses(40000);
    let verdicts = shoot(lab, &cases, 41000).expect("packets can be sent");
    check(rules, &cases, &vec![Verdict::default(); cases.len()], &verdicts);
}

/// What the check is worth: with the rule that once let what opens no connection pass, and without what closes, the application is
/// reached by those who begin with something else.
pub(crate) fn the_hole_is_found() {
    if !crate::common::world::possible() {
        return;
    }
    let lab = Lab::new().expect("the world can be made");
    lab.install(Rules::of(Backend::Netlink), &Config::default());
    for family in ["ip", "ip6"] {
        lab.foreign(&format!(
            "flush chain {family} kuma-mesh closing_prerouting
             insert rule {family} kuma-mesh nat_prerouting_last tcp flags & (fin|syn|rst|ack) != syn accept"
        ));
    }
    let cases: Vec<_> = cases::all(20000).into_iter().filter(|case| case.kind == Kind::Before).collect();
    let verdicts = shoot(&lab, &cases, 21000).expect("packets can be sent");
    let past =
        |case: &Case, verdict: &Verdict| verdict.reached(WORKLOAD) && case.name.starts_with("ACK with MD5, then SYN");
    let past = cases.iter().zip(&verdicts).filter(|(case, verdict)| past(case, verdict)).count();
    assert_eq!(past, 4, "SYN, and SYN with URG, by both families");
}

/// The packets are real: without rules, many of each kind reach the application.
fn check_control(cases: &[Case], bare: &[Verdict]) {
    let mut reached = BTreeMap::new();
    for (case, verdict) in cases.iter().zip(bare) {
        *reached.entry(case.kind).or_insert(0) += usize::from(verdict.reached(WORKLOAD));
    }
    println!("reach the application without rules: {reached:?}");
    for (kind, least) in REACHING {
        assert!(reached[&kind] >= least, "{kind:?}: {reached:?}");
    }
}

fn check(rules: Rules, cases: &[Case], tracked: &[Verdict], verdicts: &[Verdict]) {
    let mut wrong = Vec::new();
    for ((case, tracked), verdict) in cases.iter().zip(tracked).zip(verdicts) {
        let mut is_right = !verdict.reached(WORKLOAD);
        if case.kind == Kind::Loopback {
            let is_open =
                !rules.close() && !rules.backend.is_programs() && OPEN_WITH_IPTABLES.contains(&case.name.as_str());
            if rules.close() || is_open {
                is_right &= verdict.reached(Server::INBOUND) == is_open;
            }
        } else if tracked.reached(WORKLOAD) {
            is_right &= verdict.reached(Server::INBOUND);
        }
        if !is_right {
            wrong.push(format!("{}: {verdict:?}, without rules {:?}", case.name, tracked.heard));
        }
    }
    assert!(wrong.is_empty(), "{rules:?}: {} of {} are wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}
