//! `nft` and the kernel take the scripts that we render, in network namespaces of their own.

#[path = "common/plans.rs"]
mod plans;
#[path = "common/skip.rs"]
mod skip;

use std::io::Write as _;
use std::process::{Command, Stdio};

use kumatp::net::{Family, V4, V6};
use kumatp::render::nft;

use self::plans::plans;

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
        skip::skipped(&format!("cannot run nft in a network namespace: {possible:?}"));
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
    // An ordinary user's nft gets no larger buffer from the kernel than everybody's (net.core.wmem_max).
    if !nix::unistd::geteuid().is_root() && error.contains("Message too long") {
        skip::skipped("nft cannot send so long a script from a user namespace");
        return None;
    }
    assert!(output.status.success(), "{commands}\n{error}\n{script}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn scripts_are_checked_loaded_loaded_again_and_reloaded() {
    for (name, plan) in plans() {
        let script = nft::plan(&plan);
        let commands = "nft -c -f $f; test -z \"$(nft list tables)\"
            nft -f $f; nft list ruleset > $f.1; nft -f $f; nft list ruleset > $f.2; cmp $f.1 $f.2
            nft list table ip kuma-mesh > $f.3; nft delete table ip kuma-mesh; nft -f $f.3
            nft list table ip kuma-mesh | cmp $f.3 -; cat $f.1; rm $f.?";
        let Some(list) = in_namespace(commands, &script) else { continue };
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
        nft::ruleset(&kumatp::iptables_save::parse::<F>(text).unwrap().ruleset().unwrap())
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
    let text = "*filter\n:INPUT ACCEPT [0:0]\n:accept - [0:0]\n:cali:x - [0:0]\n-A INPUT ! -i lo -p tcp -m multiport ! --dports 1,2,9:12 -j accept
-A INPUT -m owner ! --uid-owner 5-9 -j DROP\n-A INPUT -j ACCEPT\n-A accept ! -s 10.0.0.0/8 -g cali:x\n-A cali:x -m conntrack ! --ctstate INVALID -j RETURN\nCOMMIT
*nat\n:POSTROUTING ACCEPT [0:0]\n:accept - [0:0]\n-A POSTROUTING ! -o a+ -p udp ! --sport 7 -j accept\n-A accept -m owner ! --gid-owner 7 -j RETURN
-A accept -p udp -j LOG --log-prefix x --log-level 4\n-A accept -j RETURN\nCOMMIT\n";
    let text = text.replace("-g cali:x", "-j cali:x");
    in_namespace("nft -f $f; nft list ruleset | nft -f -", &translated::<V4>(&text));
}
