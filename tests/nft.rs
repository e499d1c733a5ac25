//! `nft` and the kernel take the scripts that we render, in network namespaces of their own.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kumatp::config::Config;
use kumatp::facts::{Facts, Resolvers};
use kumatp::model::Plan;
use kumatp::net::{Family, Uid, V4, V6};
use kumatp::render::nft;

/// Runs shell commands in a new network namespace, with `$1` the path of a file that holds `script`.
/// `None`, with a word about it, if the machine does not allow it.
fn in_namespace(commands: &str, script: &str) -> Option<String> {
    let user = if nix::unistd::geteuid().is_root() { "" } else { "--map-root-user" };
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(["--net", user].iter().filter(|arg| !arg.is_empty()));
        command
    };
    let possible = unshare().args(["nft", "--version"]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        assert!(std::env::var("KUMATP_REQUIRE_ALL").is_err(), "cannot run nft in a network namespace: {possible:?}");
        println!("skipped: cannot run nft in a network namespace");
        return None;
    }
    let mut child = unshare()
        .args(["sh", "-euc", &format!("f=$(mktemp); trap 'rm $f' EXIT; cat > $f\n{commands}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{commands}\n{error}\n{script}");
    Some(String::from_utf8(output.stdout).unwrap())
}

fn plan(config: &Config, servers: &[&str], docker: bool) -> Plan {
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(servers.iter().map(|server| server.parse().unwrap())));
    facts.v4.docker_output = docker;
    kumatp::policy::plan(config, &facts).unwrap()
}

/// A spread over all that changes the shape of the rules. Without privileges, nft can send no more than
/// the default of a socket's buffer, which bounds the number of rules here.
fn plans() -> Vec<(&'static str, Plan)> {
    let list = |n: usize, item: &dyn Fn(usize) -> String| (0..n).map(item).collect::<Vec<_>>();
    let config = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        change(&mut config);
        config
    };
    let dns = |all: bool| {
        config(&|c| {
            c.redirect.dns.enabled = true;
            c.redirect.dns.capture_all = all;
        })
    };
    let everything = config(&|c| {
        c.redirect.dns.enabled = true;
        c.drop_invalid_packets = true;
        c.log.enabled = true;
        let outbound = &mut c.redirect.outbound;
        outbound.exclude_ports = list(250, &|i| format!("{}", 2 * i + 1)).join(",").parse().unwrap();
        outbound.exclude_ips = list(200, &|i| format!("10.{}.{}.0/25", i / 200, i % 200))
            .into_iter()
            .chain(list(200, &|i| format!("fd00:{i:x}::/33")))
            .chain(["0.0.0.0/1", "255.255.255.255", "ffff::/16", "::/127"].map(str::to_owned))
            .map(|net| net.parse().unwrap())
            .collect();
        outbound.exclude_ports_for_uids = list(60, &|i| format!("tcp:{}-{}:{}", 10 * i + 1, 10 * i + 5, 3 * i))
            .into_iter()
            .chain(list(100, &|i| format!("udp:53:{}-{}", 1_000_000 + 10 * i, 1_000_005 + 10 * i)))
            .chain(["tcp:1-3,7,9-65535:4294967294".to_owned(), "0".to_owned()])
            .map(|text| text.parse().unwrap())
            .collect();
        outbound.exclude_ports_for_gids =
            list(100, &|i| format!("tcp:443:{}", 2 * i)).iter().map(|t| t.parse().unwrap()).collect();
        c.redirect.inbound.exclude_ports = "1,3,5-9,65535".parse().unwrap();
        c.redirect.inbound.exclude_ips = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|net| net.parse().unwrap()).to_vec();
        c.redirect.vnet = [
            "br+:172.18.0.0/16",
            "br+:172.20.0.0/16",
            "docker0:172.17.0.0/16",
            "+:10.9.0.0/16",
            "br+:fd00:9::/64",
            "abcdefghijklmno:fd00:8::/64",
        ]
        .map(|net| net.parse().unwrap())
        .to_vec();
    });
    let mut plans = vec![
        ("default", plan(&config(&|_| ()), &[], false)),
        ("all DNS", plan(&dns(true), &[], false)),
        ("all DNS, Docker", plan(&dns(true), &[], true)),
        ("DNS of servers", plan(&dns(false), &["1.1.1.1", "8.8.8.8", "fd00::53", "fd00::54"], false)),
        ("DNS of a loopback server", plan(&dns(false), &["127.0.0.11", "::1"], true)),
        (
            "nothing redirected",
            plan(
                &config(&|c| {
                    c.redirect.inbound.enabled = false;
                    c.redirect.outbound.enabled = false;
                }),
                &[],
                false,
            ),
        ),
        (
            "included",
            plan(
                &config(&|c| {
                    c.redirect.inbound.include_ports = "80,443,3000-4000".parse().unwrap();
                    c.redirect.outbound.include_ports = "80,443".parse().unwrap();
                    c.redirect.outbound.include_ips =
                        ["10.0.0.0/8", "192.168.1.1", "fd00::/8"].map(|net| net.parse().unwrap()).to_vec();
                }),
                &[],
                false,
            ),
        ),
        (
            "no comments",
            plan(
                &config(&|c| {
                    c.comments.disabled = true;
                    c.redirect.dns.enabled = true;
                }),
                &["1.1.1.1"],
                false,
            ),
        ),
        ("IPv4 only", plan(&config(&|c| c.ip_family_mode = kumatp::config::IpFamilyMode::Ipv4), &[], false)),
    ];
    let servers = ["127.0.0.11", "1.1.1.1", "10.0.0.3", "fd00::53"];
    for level in [0, 3, 4, 7] {
        let mut inserting = everything.clone();
        inserting.redirect.inbound.insert = level % 2 == 0;
        inserting.redirect.outbound.insert = level < 4;
        inserting.log.level = kumatp::model::LogLevel::new(level).unwrap();
        plans.push(("everything", plan(&inserting, &servers, false)));
    }
    plans
}

#[test]
fn scripts_are_checked_loaded_loaded_again_and_reloaded() {
    for (name, plan) in plans() {
        let script = nft::plan(&plan);
        let commands = "nft -c -f $f; test -z \"$(nft list tables)\"
            nft -f $f; nft list ruleset > $f.1; nft -f $f; nft list ruleset > $f.2; cmp $f.1 $f.2
            nft list table ip kuma-mesh > $f.3; nft delete table ip kuma-mesh; nft -f $f.3
            nft list table ip kuma-mesh | cmp $f.3 -; cat $f.1; rm $f.?";
        let Some(list) = in_namespace(commands, &script) else { return };
        // Every rule is there as it was written, up to the forms that nft prefers.
        let count = |text: &str, word: &str| text.lines().filter(|line| line.contains(word)).count();
        for word in
            ["kuma/mesh/transparent/proxy/", "redirect to :", "jump ", "ct zone set", "return", "accept", "chain "]
        {
            assert_eq!(count(&list, word), count(&script, word), "{name}: {word}\n{script}\n{list}");
        }
        assert_eq!(list.matches("table ip6").count(), usize::from(plan.v6.is_some()), "{name}");
    }
}

#[test]
fn a_plan_without_ipv6_takes_the_older_ipv6_table_away() {
    let plans = plans();
    let of = |wanted| plans.iter().find(|(name, _)| *name == wanted).map(|(_, plan)| nft::plan(plan)).unwrap();
    let script = format!("{}{}", of("everything"), of("IPv4 only"));
    let Some(tables) = in_namespace("nft -f $f; nft list tables", &script) else { return };
    assert_eq!(tables, "table ip kuma-mesh\n");
}

#[test]
fn removal_leaves_others_alone_and_may_find_nothing() {
    let commands = "nft add table ip other; nft -f $f; nft -f $f; nft list tables";
    let Some(tables) = in_namespace(commands, &nft::removal()) else { return };
    assert_eq!(tables, "table ip other\n");
}

#[test]
fn rules_from_elsewhere_can_be_translated() {
    fn translated<F: Family>(text: &str) -> String {
        nft::ruleset(&kumatp::save::parse::<F>(text).unwrap().ruleset().unwrap())
    }
    let saved = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/save");
    for file in std::fs::read_dir(saved).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let script = match path.file_name().unwrap().to_string_lossy().contains("-v4-") {
            true => translated::<V4>(&text),
            false => translated::<V6>(&text),
        };
        assert_eq!(script.matches("redirect to :").count(), text.matches("-j REDIRECT").count(), "{script}");
        if in_namespace("nft -f $f", &script).is_none() {
            return;
        }
    }
    // Names that nft would take for its own words, every table and hook, and what our policy never says.
    let text = "*filter\n:INPUT DROP [0:0]\n:accept - [0:0]\n:cali:x - [0:0]\n-A INPUT ! -i lo -p tcp -m multiport ! --dports 1,2,9:12 -j accept
-A INPUT -m owner ! --uid-owner 5-9 -j DROP\n-A INPUT -j ACCEPT\n-A accept ! -s 10.0.0.0/8 -g cali:x\n-A cali:x -m conntrack ! --ctstate INVALID -j RETURN\nCOMMIT
*nat\n:POSTROUTING ACCEPT [0:0]\n:accept - [0:0]\n-A POSTROUTING ! -o a+ -p udp ! --sport 7 -j accept\n-A accept -m owner ! --gid-owner 7 -j RETURN
-A accept -p udp -j LOG --log-prefix x --log-level 4\n-A accept -j RETURN\nCOMMIT\n";
    let text = text.replace("-g cali:x", "-j cali:x");
    in_namespace("nft -f $f; nft list ruleset | nft -f -", &translated::<V4>(&text));
}
