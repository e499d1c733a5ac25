//! Commands on rules that have very many prefixes, beside `nft list table`, which reads the same.

use std::net::Ipv4Addr;
use std::process::Command;

use kumatp::config::Config;

use crate::KUMATP;
use crate::common::Bench;
use crate::common::host::{located, namespace, run, used};
use crate::common::timing::{Sample, time, turns};

const CONFIG: &str = "/run/sets.yaml";

pub(crate) fn sets(bench: &mut Bench) {
    let count = if bench.once() { 500 } else { 200_000 };
    bench.part("Excluded prefixes, 200,000: whole processes");
    let mut config = Config::default();
    // Every second /28, so that none can be merged.
    let prefix = |i: u32| format!("{}/28", Ipv4Addr::from((10 << 24) + (i << 5))).parse().expect("a prefix");
    config.redirect.outbound.exclude_ips = (0..count).map(prefix).collect();
    std::fs::write(CONFIG, config.to_yaml()).expect("a file");

    let kumatp = |words: &[&str]| {
        let mut command = Command::new(&*KUMATP);
        command.args(words).args(["--kuma-dp-user", "5678", "--config", CONFIG]);
        command
    };
    let nft = located("nft");
    let _place = namespace();
    run(&mut kumatp(&["install"]));
    let took = turns(
        bench.turns(3),
        [
            &mut || time(|| run(Command::new(&nft).args(["list", "table", "ip", "kuma-mesh"]))),
            &mut || time(|| run(&mut kumatp(&["status"]))),
            &mut || time(|| run(&mut kumatp(&["install"]))),
        ],
    );
    const LIST: &str = "`nft list table`";
    bench.ratio("status", "kumatp", LIST, took.ratio(1, 0));
    bench.ratio("install, unchanged", "kumatp", LIST, took.ratio(2, 0));

    let peak =
        |command: &mut Command| used(command.stdout(std::process::Stdio::null()).spawn().expect("it starts")).peak;
    let status = Sample::of((0..bench.turns(3)).map(|_| peak(&mut kumatp(&["status"]))));
    bench.bytes("status", "peak memory", Ok(status));
}
