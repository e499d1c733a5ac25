//! Packets through rules: the default plan, long lists of exclusions, and the same decision found by trying rule after rule.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use kumatp::config::Config;
use kumatp::engine::EngineName;
use kumatp::facts::Facts;
use kumatp::model::{Match, Plan, Target, Transport};
use kumatp::net::{Family as _, Port, Uid, V4};
use kumatp::nftables::Native;
use kumatp::policy;
use kumatp::simulate::{AnyPacket, Packet, Simulator, Verdict};

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

fn packets(c: &mut Criterion) {
    let mut group = c.benchmark_group("packet");
    let redirected = packet("tcp 192.0.2.9:443 uid 1000");
    let plan = plan(|_| {});
    let native = Native::of(&plan);
    for engine in [EngineName::Netlink, EngineName::Iptables] {
        let simulator = Simulator::of(&plan, engine);
        group.bench_function(BenchmarkId::new("default plan", engine), |b| {
            b.iter(|| simulator.send(black_box(&redirected)))
        });
    }
    let simulator = Simulator::of_native(&native);
    group.bench_function("default plan/native form", |b| b.iter(|| simulator.send(black_box(&redirected))));
    for count in [100, 1_000, 10_000] {
        let plan = excluding_prefixes(count);
        let simulator = Simulator::of(&plan, EngineName::Iptables);
        let last = Packet::<V4>::outbound(
            kumatp::net::Protocol::Tcp,
            V4::from_bits((10 << 24) + u128::from(count - 1) * 2),
            Port::DNS,
        );
        assert_eq!(simulator.send(&last).verdict, Verdict::Delivered);
        group.bench_function(BenchmarkId::new("past exclusions", count), |b| {
            b.iter(|| simulator.send(black_box(&redirected)));
        });
        group.bench_function(BenchmarkId::new("to the last exclusion", count), |b| {
            b.iter(|| simulator.send(black_box(&last)));
        });
        group.bench_function(BenchmarkId::new("past exclusions, rule after rule", count), |b| {
            b.iter(|| by_trying(&plan, black_box(&redirected)));
        });
    }
    group.finish();
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

fn preparation(c: &mut Criterion) {
    let mut group = c.benchmark_group("prepare");
    group.sample_size(20);
    for count in [0, 10_000] {
        let plan = excluding_prefixes(count);
        group.bench_function(BenchmarkId::new("exclusions", count), |b| {
            b.iter(|| Simulator::of(black_box(&plan), EngineName::Netlink));
        });
    }
    group.finish();
}

criterion_group!(benches, packets, preparation);
criterion_main!(benches);
