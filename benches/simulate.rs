//! Packets through rules: the default plan, long lists of exclusions, and the same decision found by trying rule after rule.
//!
//! `cargo bench --bench simulate`.

mod common;

use std::hint::black_box;

use common::timing::{repeated, turns};
use common::{Bench, grouped};
use kumatp::config::Config;
use kumatp::facts::Facts;
use kumatp::model::{EngineName, Match, Plan, Target, Transport};
use kumatp::net::{Family as _, Port, Uid, V4};
use kumatp::nftables::Native;
use kumatp::policy;
use kumatp::simulate::{AnyPacket, Packet, Simulator, Verdict};

fn main() {
    let mut bench = Bench::new("simulate");
    packets(&mut bench);
    exclusions(&mut bench);
    preparation(&mut bench);
    bench.finish("");
}

fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap()
}

/// Prefixes that no two of touch, so that none can be merged with another.
fn excluding_prefixes(count: u32) -> Plan {
    plan(|config| {
        let prefix =
            |n: u32| format!("10.{}.{}.{}/32", n * 2 / 65_536, n * 2 / 256 % 256, n * 2 % 256).parse().unwrap();
        config.redirect.outbound.exclude_ips = (0..count).map(prefix).collect();
    })
}

fn packet(text: &str) -> Packet<V4> {
    match text.parse().unwrap() {
        AnyPacket::V4(packet) => packet,
        AnyPacket::V6(_) => panic!("an IPv4 packet"),
    }
}

/// One that no exclusion is about.
fn redirected() -> Packet<V4> {
    packet("tcp 192.0.2.9:443 uid 1000")
}

fn packets(bench: &mut Bench) {
    bench.part("A packet through the default rules");
    let (plan, packet) = (plan(|_| {}), redirected());
    let native = Native::of(&plan);
    let (netlink, iptables) = (Simulator::of(&plan, EngineName::Netlink), Simulator::of(&plan, EngineName::Iptables));
    let native = Simulator::of_native(&native);
    let send = |simulator: &Simulator<'_>| drop(simulator.send(black_box(&packet)));
    let took = turns(
        bench.turns(51),
        [&mut repeated(|| send(&netlink)), &mut repeated(|| send(&iptables)), &mut repeated(|| send(&native))],
    );
    for (at, of) in ["netlink", "iptables", "native form"].into_iter().enumerate() {
        bench.seconds("a connection that is redirected", of, took.seconds(at));
    }
}

fn exclusions(bench: &mut Bench) {
    bench.part("A packet past excluded prefixes");
    let (default, packet) = (plan(|_| {}), redirected());
    let default = Simulator::of(&default, EngineName::Iptables);
    for count in [100, 1_000, 10_000] {
        let plan = excluding_prefixes(count);
        let simulator = Simulator::of(&plan, EngineName::Iptables);
        let last = Packet::<V4>::outbound(
            kumatp::net::Protocol::Tcp,
            V4::from_bits((10 << 24) + u128::from(count - 1) * 2),
            Port::DNS,
        );
        assert_eq!(simulator.send(&last).verdict, Verdict::Delivered);
        let took = turns(
            bench.turns(51),
            [
                &mut repeated(|| default.send(black_box(&packet))),
                &mut repeated(|| simulator.send(black_box(&packet))),
                &mut repeated(|| simulator.send(black_box(&last))),
                &mut repeated(|| by_trying(&plan, black_box(&packet))),
            ],
        );
        let name = format!("{} prefixes", grouped(count as usize));
        bench.ratio(&name, "past them", "nothing excluded", took.ratio(1, 0));
        bench.ratio(&name, "to the last of them", "nothing excluded", took.ratio(2, 0));
        bench.ratio(&name, "by trying rule after rule", "past them", took.ratio(3, 1));
    }
}

/// What a search through the model without any preparation costs: the rules of OUTPUT, one by one. Only as much of netfilter as
/// these rules need.
fn by_trying(plan: &Plan, packet: &Packet<V4>) -> usize {
    let output = kumatp::model::BuiltinChain::Output.into();
    let table = plan.v4.table(kumatp::model::TableName::Nat).unwrap();
    let holds = |condition: &Match<V4>| match condition {
        Match::Destination { net, negated } => net.contains(packet.destination) != *negated,
        Match::Transport(Transport { protocol, .. }) => packet.protocol.is(*protocol),
        _ => false,
    };
    let matches = |rule: &&kumatp::model::Rule<V4>| rule.matches.iter().all(holds);
    let rules = table.chain(&output).unwrap().in_effect();
    rules.filter(matches).take_while(|rule| rule.target != Target::Return).count()
}

fn preparation(bench: &mut Bench) {
    bench.part("Preparing a simulator, once");
    let plans = [0, 10_000].map(excluding_prefixes);
    let [mut none, mut many] =
        plans.each_ref().map(|plan| repeated(move || Simulator::of(black_box(plan), EngineName::Netlink)));
    let took = turns(bench.turns(51), [&mut none, &mut many]);
    bench.seconds("nothing excluded", "time", took.seconds(0));
    bench.seconds("10,000 prefixes", "time", took.seconds(1));
}
