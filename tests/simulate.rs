//! The simulator against the lowering, for any configuration; and what its packets notice of changed rules.

#[path = "common/generate.rs"]
mod generate;

use std::collections::BTreeSet;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;

use arbitrary::Unstructured;
use arbtest::arbtest;
use kumatp::config::Config;
use kumatp::facts::{Facts, Resolvers};
use kumatp::model::{EngineName, Plan, Rule, Ruleset, Target};
use kumatp::net::{Family, Uid, V4, V6};
use kumatp::nftables::Native;
use kumatp::simulate::{Arrival, Explanation, Outcome, Simulator, Verdict};
use kumatp::{iptables_save, policy, render};

/// What has to be the same of two outcomes.
fn fate(outcome: &Outcome<'_>) -> (Verdict, u16, Vec<String>) {
    let log = outcome.log.iter().map(|line| format!("{} {}", line.prefix, line.level.number())).collect();
    (outcome.verdict.clone(), outcome.zone, log)
}

/// Tries the property as often as this, on inputs of these sizes: a number, and no time, so that it does not depend on the machine.
fn often(times: u32, sizes: Range<u32>, mut property: impl FnMut(&mut Unstructured<'_>) -> arbitrary::Result<()>) {
    for number in 0..times {
        let size = sizes.start + (sizes.end - sizes.start) / times * number;
        let random = RandomState::new().hash_one(number) << u32::BITS;
        arbtest(&mut property).seed(random | u64::from(size)).run();
    }
}

/// Folding into sets, splitting into base chains, owners without `!=`: none of it changes a decision.
#[test]
fn the_native_form_does_what_the_plan_says() {
    let (mut plans, mut packets) = (0, 0);
    often(24, 2_000..20_000, |u| {
        let (config, facts) = (generate::config(u)?, generate::facts(u)?);
        let Ok(plan) = policy::plan(&config, &facts) else { return Ok(()) };
        let native = Native::of(&plan);
        let (by_plan, by_native) = (Simulator::of(&plan, EngineName::Netlink), Simulator::of_native(&native));
        let by_native =
            by_native.with_loopback(facts.loopback.as_str().parse().unwrap_or_else(|_| "lo".parse().unwrap()));
        for packet in by_plan.edges().into_iter().chain(by_native.edges()) {
            let (expected, got) = (by_plan.run(&packet), by_native.run(&packet));
            assert_eq!(fate(&expected), fate(&got), "{packet}\nplan:   {expected}\nnative: {got}\n{config:?}");
            packets += 1;
        }
        plans += 1;
        Ok(())
    });
    assert!(plans > 20 && packets > 1000, "{plans} plans, {packets} packets");
}

/// What is written for iptables-restore, and read again, does the same.
#[test]
fn saved_text_does_what_the_plan_says() {
    let mut packets = 0;
    often(24, 2_000..20_000, |u| {
        let (config, facts) = (generate::config(u)?, generate::facts(u)?);
        let Ok(plan) = policy::plan(&config, &facts) else { return Ok(()) };
        let texts = iptables_save::families(&render::iptables::plan(&plan));
        let v4 = texts.v4.as_deref().map(|text| iptables_save::parse::<V4>(text).unwrap());
        let v6 = texts.v6.as_deref().map(|text| iptables_save::parse::<V6>(text).unwrap());
        let by_plan = Simulator::of(&plan, EngineName::Iptables);
        let by_text = Simulator::of_saved(v4.as_ref(), v6.as_ref()).unwrap();
        let by_text = by_text.with_loopback(facts.loopback.as_str().parse().unwrap_or_else(|_| "lo".parse().unwrap()));
        for packet in by_plan.edges() {
            let (expected, got) = (by_plan.run(&packet), by_text.run(&packet));
            // Both do not know another program's chain, but not in the same words.
            let ends = |outcome: &Outcome<'_>| match fate(outcome) {
                (Verdict::Undecided { .. }, zone, log) => (None, zone, log),
                (verdict, zone, log) => (Some(verdict), zone, log),
            };
            assert_eq!(ends(&expected), ends(&got), "{packet}\nplan: {expected}\ntext: {got}\n{config:?}");
            packets += 1;
        }
        Ok(())
    });
    assert!(packets > 1000, "{packets} packets");
}

/// Any text that can be read gives an answer to any packet: total, and in bounded time.
#[test]
fn any_rules_and_any_packet_give_an_answer() {
    const WORDS: [&str; 44] = [
        "-j",
        "-j",
        "-g",
        "-p",
        "-m",
        "!",
        "-s",
        "-d",
        "-i",
        "-o",
        "A",
        "B",
        "C",
        "OUTPUT",
        "tcp",
        "udp",
        "icmp",
        "10.0.0.0/8",
        "0.0.0.0/0",
        "127.0.0.1",
        "lo",
        "eth+",
        "--dport",
        "--sport",
        "53",
        "1:65535",
        "multiport",
        "--dports",
        "1,2,3",
        "owner",
        "--uid-owner",
        "1-5",
        "--gid-owner",
        "conntrack",
        "--ctstate",
        "NEW,INVALID",
        "SNAT",
        "RETURN",
        "DROP",
        "ACCEPT",
        "REDIRECT",
        "--to-ports",
        "CT",
        "--zone",
    ];
    let (mut read, mut answered) = (0, 0);
    often(200, 300..3_000, |u| {
        let mut text = "*nat\n:OUTPUT DROP [0:0]\n:PREROUTING ACCEPT [0:0]\n:A -\n:B -\n:C -\n".to_owned();
        for _ in 0..u.int_in_range(0..=12)? {
            let chain = u.choose(&["OUTPUT", "PREROUTING", "A", "B", "C"])?;
            let words = (0..u.int_in_range(0..=6)?).map(|_| u.choose(&WORDS).copied());
            let words = words.collect::<Result<Vec<_>, _>>()?.join(" ");
            let target =
                u.choose(&["A", "B", "C", "RETURN", "DROP", "MARK --set-mark 1", "REDIRECT --to-ports 15001", "LOG"])?;
            text += &format!("-A {chain} {words} -j {target}\n");
        }
        text += "COMMIT\n";
        let Ok(saved) = iptables_save::parse::<V4>(&text) else { return Ok(()) };
        let Ok(simulator) = Simulator::of_saved(Some(&saved), None) else { return Ok(()) };
        read += 1;
        for packet in simulator.edges().iter().take(60) {
            let explanation = simulator.explain(packet);
            let outcome = &explanation.request;
            assert!(outcome.decided_by.is_none_or(|at| at < outcome.trace.len()), "{text}\n{outcome}");
            assert_eq!(outcome, &simulator.run(packet), "{text}");
            assert!(!explanation.to_string().is_empty() && serde_json::to_string(&explanation).is_ok());
            answered += 1;
        }
        Ok(())
    });
    assert!(read > 50 && answered > 1_000, "{read} texts, {answered} answers");
}

/// A plan with one rule changed.
struct Mutant {
    plan: Plan,
    chain: String,
    change: String,
}

/// Each rule of the plan dropped, swapped with the next one, and widened by each of its conditions.
fn mutants(plan: &Plan) -> Vec<Mutant> {
    let mut all = Vec::new();
    of_family(plan, |plan| &mut plan.v4, &mut all);
    of_family(plan, |plan| plan.v6.as_mut().expect("the plan has IPv6 rules"), &mut all);
    all
}

fn of_family<F: Family>(plan: &Plan, rules: impl Fn(&mut Plan) -> &mut Ruleset<F>, all: &mut Vec<Mutant>) {
    let original = rules(&mut plan.clone()).clone();
    for (t, table) in original.tables.iter().enumerate() {
        for (c, chain) in table.chains.iter().enumerate() {
            for (r, rule) in chain.rules.iter().enumerate() {
                let mut add = |what: &str, change: &dyn Fn(&mut Vec<Rule<F>>)| {
                    let mut plan = plan.clone();
                    change(&mut rules(&mut plan).tables[t].chains[c].rules);
                    let change = format!("{what}: {}", text(rule));
                    all.push(Mutant { plan, chain: format!("{} {}", table.name, chain.name), change });
                };
                add("dropped", &|rules| drop(rules.remove(r)));
                if r + 1 < chain.rules.len() {
                    add("swapped", &|rules| {
                        let placement = rules[r].placement;
                        rules[r].placement = rules[r + 1].placement;
                        rules[r + 1].placement = placement;
                        rules.swap(r, r + 1);
                    });
                }
                for (m, condition) in rule.matches.iter().enumerate() {
                    let one = text(&Rule::new(Target::Return).with(condition.clone()));
                    let one = one.trim_end_matches(" -j RETURN");
                    add(&format!("without {one}"), &|rules| drop(rules[r].matches.remove(m)));
                }
            }
        }
    }
}

/// The rule without its comment, as iptables writes it.
fn text<F: Family>(rule: &Rule<F>) -> String {
    let mut rule = rule.clone();
    rule.comment = None;
    kumatp::render::iptables::rule(&rule, kumatp::render::iptables::Style::Short)
}

/// Changes that no packet can notice: the chain, what the change's text begins with, what else it has, and why. What is
/// written is for IPv4; IPv6 has the same.
const EQUIVALENT: [(&str, &str, &str, &str); 15] = [
    ("nat PREROUTING", "without -p tcp", "-j KUMA_MESH_INBOUND", "the chain that is called is for TCP, rule by rule"),
    ("nat OUTPUT", "without -p tcp", "-j KUMA_MESH_OUTBOUND", "the chains that are called redirect TCP only"),
    ("nat KUMA_MESH_INBOUND", "without -p tcp", "-j KUMA_MESH_INBOUND_REDIRECT", "only TCP comes to this chain"),
    ("nat KUMA_MESH_OUTBOUND", "without -p tcp", "", "only TCP comes to this chain"),
    ("nat KUMA_MESH_INBOUND_REDIRECT", "without -p tcp", "", "only TCP comes to this chain"),
    ("nat KUMA_MESH_OUTBOUND_REDIRECT", "without -p tcp", "", "only TCP comes to this chain"),
    (
        "nat KUMA_MESH_OUTBOUND",
        "swapped",
        "--uid-owner 5678 -j KUMA_MESH_INBOUND_REDIRECT",
        "this rule is for the sidecar, the next one for all others",
    ),
    ("nat KUMA_MESH_OUTBOUND", "swapped", "-o lo -m owner ! --uid-owner 5678 -j RETURN", "the next rule does the same"),
    ("nat KUMA_MESH_OUTBOUND", "swapped", "-m owner --uid-owner 5678 -j RETURN", "the next rule does the same"),
    (
        "nat KUMA_MESH_OUTBOUND",
        "without -m owner ! --uid-owner 5678",
        "-o lo",
        "what the sidecar sends to this host was redirected by the rule before, or returns by the next one",
    ),
    (
        "nat KUMA_MESH_OUTBOUND",
        "",
        "LOCALHOST -j RETURN",
        "what is sent to the loopback address goes out by lo, and has returned before",
    ),
    ("raw PREROUTING", "swapped", "--zone 1", "the next rule does the same"),
    ("raw OUTPUT", "swapped", "--zone 2", "the next rule does the same, or is for other destinations"),
    ("nat OUTPUT", "swapped", "-p tcp --dport 53", "this rule is for TCP, the next one for UDP"),
    ("nat OUTPUT", "swapped", "-j REDIRECT --to-ports 15053", "the next rule does the same for another server"),
];

/// All that changes a decision is noticed by the packets that the rules themselves suggest.
#[test]
fn every_change_of_a_rule_is_noticed() {
    let mut config = Config::default();
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    let servers = ["10.0.0.53", "127.0.0.11", "fd00::53"].map(|server| server.parse().unwrap());
    facts.resolvers = Some(Resolvers::new(servers));
    let default = policy::plan(&config, &facts).unwrap();
    config.redirect.dns.enabled = true;
    let with_dns = policy::plan(&config, &facts).unwrap();
    let mut used = BTreeSet::new();
    for (name, plan) in [("the default plan", default), ("the plan with DNS", with_dns)] {
        for engine in [EngineName::Netlink, EngineName::Iptables] {
            let simulator = Simulator::of(&plan, engine);
            let packets = simulator.edges();
            let before: Vec<_> = packets.iter().map(|packet| fate(&simulator.run(packet))).collect();
            let notices = |mutant: &Plan| {
                let changed = Simulator::of(mutant, engine);
                packets.iter().zip(&before).any(|(packet, before)| fate(&changed.run(packet)) != *before)
            };
            let (mut all, mut unnoticed) = (0, 0);
            for mutant in mutants(&plan) {
                all += 1;
                if notices(&mutant.plan) {
                    continue;
                }
                unnoticed += 1;
                let change = mutant.change.replace("-d 127.0.0.1/32", "LOCALHOST").replace("-d ::1/128", "LOCALHOST");
                let reason = EQUIVALENT.iter().position(|(chain, begin, part, _)| {
                    mutant.chain == *chain && change.starts_with(begin) && change.contains(part)
                });
                let reason = reason.unwrap_or_else(|| panic!("{engine}: nothing notices {} {change}", mutant.chain));
                used.insert(reason);
            }
            println!(
                "{name}, {engine}: {} packets notice {} of {all} changes; {unnoticed} change nothing",
                packets.len(),
                all - unnoticed
            );
        }
    }
    let unused: Vec<_> = (0..EQUIVALENT.len()).filter(|at| !used.contains(at)).map(|at| EQUIVALENT[at]).collect();
    assert!(unused.is_empty(), "noticed after all: {unused:?}");
}

/// What becomes of the first packet and of its answer, in few words.
fn in_words(explanation: &Explanation<'_>) -> String {
    let verdict = match &explanation.request.verdict {
        Verdict::Delivered => "as sent".to_owned(),
        Verdict::Established => "as its connection".to_owned(),
        Verdict::Undecided { .. } => "undecided".to_owned(),
        verdict => verdict.to_string(),
    };
    let arrival = explanation.reply.as_ref().map(|reply| match &reply.arrival {
        Arrival::AsSent => ", as it is",
        Arrival::TranslatedBack => ", translated back",
        Arrival::Lost { .. } => ", lost",
        Arrival::Undecided { .. } => ", undecided",
        other => panic!("{other:?}"),
    });
    verdict + arrival.unwrap_or_default()
}

/// Rules of anybody behind those that translate, and tables that stand in a text twice. Lines `# > PACKET: END, ANSWER` of each text say
/// what the kernel does, or that it cannot be told.
#[test]
fn texts_of_others() {
    let mut packets = 0;
    for directory in ["behind-nat", "twice"] {
        let directory = format!("{}/tests/fixtures/{directory}", env!("CARGO_MANIFEST_DIR"));
        for file in std::fs::read_dir(directory).unwrap() {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let saved = iptables_save::SavedFamilies::parse(&text).unwrap();
            let simulator = Simulator::of_saved(saved.v4.as_ref(), saved.v6.as_ref()).unwrap();
            for line in text.lines().filter_map(|line| line.strip_prefix("# > ")) {
                let (packet, expected) = line.rsplit_once(": ").unwrap();
                let explanation = simulator.explain(&packet.parse().unwrap());
                assert_eq!(
                    in_words(&explanation),
                    expected,
                    "{}: {packet}\n{explanation}\n{}",
                    path.display(),
                    explanation.request
                );
                packets += 1;
            }
        }
    }
    assert!(packets > 30, "{packets}");
}
