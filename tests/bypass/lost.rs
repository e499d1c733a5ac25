//! Connections whose entry in connection tracking is lost, while either end goes on.

use std::thread::sleep;
use std::time::{Duration, Instant};

use kumatp::Config;
use kumatp::net::FamilyName;

use crate::common::world::sysctl;
use crate::conntrack::Conntrack;
use crate::lab::{Lab, Rules};
use crate::link::{SECRET, check_link, seen_on_link};
use crate::pair::{Kind, Pair};

/// How an entry is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// All are (`conntrack -F`).
    Flushed,
    /// It alone is (`conntrack -D`).
    Deleted,
    /// The connection was idle for too long.
    Expired,
}

/// Who goes on goes on by the sidecar, or not at all; what was never redirected goes on.
pub(crate) fn entries(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = lab(rules);
    let mut port = 40000;
    for loss in [Loss::Flushed, Loss::Deleted, Loss::Expired] {
        for client_first in [true, false] {
            let pairs = pairs(&lab, &mut port, loss);
            for pair in &pairs {
                let kind = pair.kind;
                // Of who was redirected, the far end cannot go on first: what it says is an answer to nothing then. What the
                // workload says first by an excluded port is redirected, as it could be anybody's.
                let answers = kind.is_redirected() || kind == Kind::InboundExcluded;
                let lives = client_first || (rules.serve_all() && !answers);
                let is_known = client_first || !kind.is_redirected();
                for is_client in [client_first, !client_first] {
                    let said = pair.says(is_client, words(kind), lives);
                    let what = || format!("{loss:?}, client first: {client_first}, {pair:?}: {said:?}");
                    assert!(!is_known || said.is_ok() == lives, "{}", what());
                }
            }
            check_link(&lab, rules);
        }
    }
}

/// The same where connection tracking takes no packet from the middle of a connection for one (`nf_conntrack_tcp_loose=0`). What
/// was redirected is over then. With the rules of iptables, as with kumactl's, the workload's words leave.
pub(crate) fn entries_that_do_not_come_back(rules: Rules) {
    if !crate::common::world::possible() {
        return;
    }
    let lab = lab(rules);
    lab.world.workload.enter(|| sysctl("net/netfilter/nf_conntrack_tcp_loose", "0")).expect("the host can be told to");
    let mut port = 40000;
    for client_first in [true, false] {
        let pairs = pairs(&lab, &mut port, Loss::Flushed);
        for pair in &pairs {
            let lives = !pair.kind.is_redirected();
            let went_on = pair.says(client_first, words(pair.kind), lives);
            assert_eq!(went_on.is_ok(), lives, "client first: {client_first}, {pair:?}: {went_on:?}");
            let _ = pair.says(!client_first, words(pair.kind), false);
        }
        match rules.close() {
            true => check_link(&lab, rules),
            false => {
                let leaks = seen_on_link(&lab);
                let leaked = leaks.iter().any(|leak| leak.contains(SECRET));
                assert!(leaked || !client_first, "{rules:?}: {leaks:?}");
            }
        }
    }
}

fn lab(rules: Rules) -> Lab {
    let lab = Lab::new().expect("the world can be made");
    lab.install(rules, &config());
    lab
}

pub(crate) fn config() -> Config {
    let mut config = Config::default();
    config.redirect.inbound.exclude_ports = crate::lab::EXCLUDED_APP_PORT.to_string().parse().expect("ports");
    config.redirect.outbound.exclude_ports = crate::lab::EXCLUDED_OUTSIDE_PORT.to_string().parse().expect("ports");
    config
}

/// What both ends of such a connection say.
fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::Outbound => SECRET,
        _ => "nothing that matters",
    }
}

/// Opens a connection of each kind and family, and has their entries lost.
fn pairs(lab: &Lab, port: &mut u16, loss: Loss) -> Vec<Pair> {
    const IDLE: &str = "net/netfilter/nf_conntrack_tcp_timeout_established";
    let workload = &lab.world.workload;
    let tracking = workload.enter(Conntrack::new).expect("connection tracking answers");
    let idle = if loss == Loss::Expired { "1" } else { "432000" };
    workload.enter(|| sysctl(IDLE, idle)).expect("the host can be told to");
    let mut pairs = Vec::new();
    for family in FamilyName::ALL {
        for kind in Kind::ALL {
            *port += 1;
            pairs.push(Pair::open(lab, kind, family, *port));
        }
    }
    drop(lab.link.left().expect("the link can be read"));
    match loss {
        Loss::Flushed => tracking.flush().expect("entries can be removed"),
        Loss::Deleted => pairs.iter().for_each(|pair| tracking.forget(pair.flow).expect("the entry can be removed")),
        Loss::Expired => {
            let end = Instant::now() + Duration::from_secs(30);
            let known = |pair: &Pair| tracking.knows(pair.flow).expect("connection tracking answers");
            while pairs.iter().any(known) {
                assert!(Instant::now() < end, "entries do not expire");
                sleep(Duration::from_millis(20));
            }
            workload.enter(|| sysctl(IDLE, "432000")).expect("the host can be told to");
        }
    }
    for pair in &pairs {
        assert!(!tracking.knows(pair.flow).expect("connection tracking answers"), "{pair:?} is still known");
    }
    pairs
}
