use crate::config::Config;
use crate::facts::Facts;
use crate::iptables_save;
use crate::model::{BuiltinChain, EngineName, Match, Plan, TableName, Target};
use crate::net::{Family, Uid, V4, V6};
use crate::policy::plan;
use crate::render::iptables;
use crate::simulate::{Simulator, Verdict};

fn of(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config { harden: true, ..Config::default() };
    change(&mut config);
    plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

fn everything(config: &mut Config) {
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.inbound.exclude_ports = "22,8000-8010".parse().unwrap();
    config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
    config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22,80-90:106-108".parse().unwrap()];
    config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap(), "br+:fd00::/64".parse().unwrap()];
    config.drop_invalid_packets = true;
    config.log.enabled = true;
}

/// The names of the chains of mangle.
fn mangle(plan: &Plan) -> Vec<String> {
    plan.iptables_v4().table(TableName::Mangle).unwrap().user_defined().map(|chain| chain.name.to_string()).collect()
}

#[test]
fn only_if_it_is_asked_for() {
    let usual = plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR)).unwrap();
    let hardened = of(|_| {});
    assert_eq!((usual.iptables_v4(), usual.iptables_v6()), (&usual.v4, usual.v6.as_ref()));
    assert_eq!((&hardened.v4, &hardened.v6), (&usual.v4, &usual.v6));
    assert_ne!(hardened.iptables_v4(), &usual.v4);
    assert_ne!(hardened.iptables_v6(), usual.v6.as_ref());
    assert!(of(|config| config.comments.disabled = true).iptables_v4().rules().all(|(_, _, r)| r.comment.is_none()));
}

#[test]
fn what_nat_redirects_the_copy_drops_and_nothing_else() {
    let plan = of(everything);
    let rules = |table: TableName| {
        let rules = plan.iptables_v4().rules().filter(move |(name, _, _)| *name == table);
        rules.map(|(_, chain, rule)| (chain.to_string(), rule)).collect::<Vec<_>>()
    };
    let (nat, mangle) = (rules(TableName::Nat), rules(TableName::Mangle));
    let tcp = |rule: &crate::model::Rule<V4>| {
        rule.matches.iter().all(|m| !matches!(m, Match::Transport(t) if t.protocol != crate::net::Protocol::Tcp))
    };
    let redirected = |r: &&(String, &crate::model::Rule<V4>)| matches!(r.1.target, Target::Redirect { .. }) && tcp(r.1);
    let mut found = 0;
    for (chain, rule) in nat.iter().filter(redirected) {
        let copy = match chain.as_str() {
            "PREROUTING" => "KUMA_MESH_CLOSING_INBOUND",
            "OUTPUT" => "KUMA_MESH_CLOSING_OUTBOUND",
            other => other,
        };
        let same = |r: &&(String, &crate::model::Rule<V4>)| {
            r.0 == copy && r.1.target == Target::Drop && r.1.matches == rule.matches
        };
        assert_eq!(mangle.iter().filter(same).count(), 1, "{chain} {rule:?}");
        found += 1;
    }
    let dropped = mangle.iter().filter(|r| r.0.starts_with("KUMA_MESH_") && r.1.target == Target::Drop).count();
    assert!(found == 3 && dropped == found, "{found} {dropped}");
}

#[test]
fn nothing_is_closed_where_nothing_is_redirected() {
    let plan = of(|config| config.redirect.inbound.enabled = false);
    assert!(!mangle(&plan).contains(&"KUMA_MESH_CLOSING_INBOUND".to_owned()));
    assert!(mangle(&plan).contains(&"KUMA_MESH_CLOSING_OUTBOUND".to_owned()));
    let plan = of(|config| config.redirect.outbound.enabled = false);
    assert!(!mangle(&plan).contains(&"KUMA_MESH_CLOSING_OUTBOUND".to_owned()));
}

#[test]
fn queries_that_are_excluded_are_tracked_where_their_answers_are() {
    let plan = of(everything);
    let raw = plan.iptables_v4().table(TableName::Raw).unwrap();
    let first = raw.chain(&BuiltinChain::Output.into()).unwrap().in_effect().next().unwrap();
    assert_eq!(first.target, Target::Zone { zone: 1 });
    assert!(first.matches.contains(&Match::to("10.99.0.0/16".parse().unwrap())), "{first:?}");
}

/// What iptables would list is the same rules again.
fn round<F: Family>(rules: &crate::model::Ruleset<F>) {
    let text = iptables::ruleset(rules, iptables::Style::Short);
    let text = text.replace("* ", "*").replace("\n-N ", "\n:");
    let declared = text.lines().map(|line| match line.strip_prefix(':') {
        Some(chain) => format!(":{chain} - [0:0]\n"),
        None => format!("{line}\n"),
    });
    let saved = iptables_save::parse::<F>(&declared.collect::<String>()).unwrap();
    assert_eq!(saved.ruleset().unwrap().canonical(), rules.canonical());
    let written = iptables_save::parse::<F>(&iptables_save::write(rules)).unwrap();
    assert_eq!(written.ruleset().unwrap().canonical(), rules.canonical());
}

#[test]
fn text_and_rules_are_the_same() {
    for plan in [of(|_| {}), of(everything)] {
        round::<V4>(plan.iptables_v4());
        round::<V6>(plan.iptables_v6().unwrap());
    }
}

#[test]
fn the_simulator_knows_them() {
    let plan = of(everything);
    let simulator = Simulator::of(&plan, EngineName::Iptables);
    let verdict = |packet: &str| simulator.explain(&packet.parse().unwrap()).request.verdict.clone();
    assert!(matches!(verdict("inbound tcp 127.0.0.1:9901 from 10.1.2.3 in eth0"), Verdict::Dropped));
    assert!(matches!(verdict("inbound tcp 10.0.0.1:9901 from 10.1.2.3 in eth0"), Verdict::Redirected { .. }));
    for packet in Simulator::of(&plan, EngineName::Netlink).edges() {
        let usual = Simulator::of_ruleset(&plan.v4, EngineName::Iptables).explain(&packet).request.verdict.clone();
        if matches!(usual, Verdict::Redirected { .. }) {
            let hardened = Simulator::of_ruleset(plan.iptables_v4(), EngineName::Iptables)
                .explain(&packet)
                .request
                .verdict
                .clone();
            assert!(hardened == usual || matches!(hardened, Verdict::Dropped), "{packet}: {hardened:?}");
        }
    }
}
