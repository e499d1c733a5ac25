//! From a configuration to text: the default, and growing exclusion lists.
//!
//! `cargo bench --bench plan_render`. Growth must be linear: compare the time an element of the three sizes.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kumatp::config::Config;
use kumatp::facts::Facts;
use kumatp::net::Uid;
use kumatp::policy::plan;
use kumatp::render::iptables;

/// As many exclusions of each kind, a quarter of `n`.
fn with_exclusions(n: usize) -> Config {
    let mut config = Config::default();
    let quarter = n / 4;
    let ports = (0..quarter).map(|i| (1 + 2 * i % 65_534).to_string()).collect::<Vec<_>>().join(",");
    config.redirect.inbound.exclude_ports = ports.parse().expect("ports");
    config.redirect.outbound.exclude_ports = ports.parse().expect("ports");
    let outbound = &mut config.redirect.outbound;
    outbound.exclude_ips = (0..quarter)
        .map(|i| match i % 2 {
            0 => format!("10.{}.{}.0/24", i / 256, i % 256).parse().expect("v4"),
            _ => format!("fd00:{i:x}::/32").parse().expect("v6"),
        })
        .collect();
    outbound.exclude_ports_for_uids =
        (0..quarter).map(|i| format!("tcp:80,443,8000-9000:{}", 10_000 + i).parse().expect("uids")).collect();
    config
}

fn bench(criterion: &mut Criterion) {
    let facts = Facts::capable_host(Uid::SIDECAR);
    let default = Config::default();
    criterion.bench_function("plan and render/default, both families", |b| {
        b.iter(|| iptables::plan(&plan(black_box(&default), black_box(&facts)).expect("a plan")));
    });
    let mut group = criterion.benchmark_group("plan and render/exclusions");
    for n in [100, 1_000, 10_000] {
        let config = with_exclusions(n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_with_input(BenchmarkId::from_parameter(n), &config, |b, config| {
            b.iter(|| iptables::plan(&plan(black_box(config), black_box(&facts)).expect("a plan")));
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
