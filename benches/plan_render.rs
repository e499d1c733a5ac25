//! From a configuration to text: the default, and growing exclusion lists.
//!
//! `cargo bench --bench plan_render`. Growth must be linear: compare the time an exclusion of the three sizes.

mod common;

use std::hint::black_box;

use common::Bench;
use common::timing::{repeated, turns};
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

fn main() {
    let mut bench = Bench::new("plan_render");
    let facts = Facts::capable_host(Uid::SIDECAR);
    let work = |exclusions: usize| {
        let config = if exclusions == 0 { Config::default() } else { with_exclusions(exclusions) };
        let facts = &facts;
        repeated(move || iptables::plan(&plan(black_box(&config), black_box(facts)).expect("a plan")))
    };
    let sizes = [0, 100, 1_000, 10_000];
    let [mut a, mut b, mut c, mut d] = sizes.map(work);
    let took = turns(bench.turns(51), [&mut a, &mut b, &mut c, &mut d]);
    bench.part("From a configuration to the text of both families");
    bench.seconds("the default configuration", "time", took.seconds(0));
    bench.ratio("100 exclusions", "time", "the default configuration", took.ratio(1, 0));
    bench.ratio("1,000 exclusions", "time", "a tenth of them", took.ratio(2, 1));
    bench.ratio("10,000 exclusions", "time", "a tenth of them", took.ratio(3, 2));
    bench.finish("");
}
