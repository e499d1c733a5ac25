//! `kumatp explain` and `kumatp diff` as a user meets them.
#![cfg(feature = "cli")]

#[path = "common/command.rs"]
mod command;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::command::{in_a_namespace, kumatp, refused, text, with_variables};

/// Facts of which nothing depends on this machine.
const FACTS: &str = r#"{"sidecarUid": "5678", "resolvers": {"servers": ["192.0.2.53", "2001:db8::53"]}}"#;

/// A directory for this test, with these files.
fn files(test: &str, files: &[(&str, &str)]) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-explain-{test}"));
    std::fs::create_dir_all(&directory).unwrap();
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
    directory
}

/// What a clean run prints, by its exit status.
fn asked(status: i32, args: &[&str], stdin: &str) -> String {
    let output = kumatp(args, stdin);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(status), String::new()), "{args:?}");
    text(&output.stdout)
}

/// What `explain` says of a packet by the default configuration and these flags.
fn explained(args: &[&str]) -> String {
    let mut all = vec!["explain", "--facts=-"];
    all.extend(args);
    asked(0, &all, FACTS)
}

fn saved(name: &str) -> String {
    format!("{}/tests/fixtures/save/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn a_paragraph_and_the_rule_that_decides() {
    let said = explained(&["outbound", "tcp", "10.1.2.3:443", "--uid", "1000"]);
    let (paragraph, rule) = said.split_once("\n\n").unwrap();
    for words in [
        "uid 1000",
        "is redirected to port 15001",
        "(redirect.outbound.enabled)",
        "Replies are translated back: the client sees 10.1.2.3:443 as their source.",
    ] {
        assert!(paragraph.contains(words), "{said}");
    }
    assert_eq!(rule, "> nat KUMA_MESH_OUTBOUND 6: -j KUMA_MESH_OUTBOUND_REDIRECT\n");
    assert_eq!(explained(&["udp", "10.1.2.3:443"]).lines().count(), 1, "no rule concerns it");
}

#[test]
fn flags_say_what_words_say() {
    let by_words = [
        "tcp 10.1.2.3:443 from 10.0.0.9 uid 7 gid 8 out eth1 midstream",
        "tcp 10.1.2.3:443 no-socket",
        "inbound tcp [fd00::5]:80 from [fd00::6]:99 in eth2",
        "forwarded udp 10.1.2.3:53 in br0 out eth1",
        "tcp 10.1.2.3:443 new",
    ];
    let by_flags = [
        "tcp 10.1.2.3:443 --from 10.0.0.9 --uid 7 --gid=8 --out-interface eth1 --tracking midstream",
        "--no-socket outbound tcp 10.1.2.3:443",
        "inbound --in-interface eth2 tcp [fd00::5]:80 --from [fd00::6]:99",
        "forwarded udp 10.1.2.3:53 --in-interface br0 --out-interface=eth1",
        "transparent-proxy tcp 10.1.2.3:443",
    ];
    for (words, flags) in by_words.into_iter().zip(by_flags) {
        let args: Vec<&str> = flags.split(' ').chain(["--trace"]).collect();
        assert_eq!(explained(&args), explained(&[words, "--trace"]), "{flags}");
    }
}

#[test]
fn the_configuration_is_the_one_that_install_takes() {
    let excluded = ["inbound", "tcp", "10.0.0.5:22", "--expect", "delivered"];
    assert!(
        explained(&[&excluded[..], &["--exclude-inbound-ports=22"]].concat())
            .contains("redirect.inbound.excludePorts[0]")
    );
    let args = [&["explain", "--config=-", "--kuma-dp-user=0", "--ip-family-mode=ipv4"], &excluded[..]].concat();
    assert!(asked(0, &args, "redirect: {inbound: {excludePorts: [21-22]}}").contains("--dport 21:22"));
    let variable = ("KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORTS", "22");
    let output = with_variables(&[&["explain", "--facts=-"], &excluded[..]].concat(), FACTS, &[variable]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_engines_differ_where_they_should() {
    let packet = "tcp 10.1.2.3:443 reused";
    explained(&[packet, "--expect=dropped"]);
    let said = explained(&[packet, "--engine=netlink", "--expect=dropped"]);
    assert!(said.contains("drop what should have been redirected and was not"), "{said}");
    explained(&[packet, "--engine=iptables", "--expect=delivered"]);
    for (state, end) in
        [("lost", "redirected:15001"), ("lostanswer", "redirected:15001"), ("midstream", "redirected:15001")]
    {
        explained(&["tcp 10.1.2.3:443", "--tracking", state, "--expect", end]);
    }
}

#[test]
fn the_trace_is_of_request_and_answer() {
    let trace = explained(&["udp 192.0.2.53:53", "--redirect-dns", "--trace"]);
    for line in [
        "request: outbound udp 192.0.2.53:53 ",
        "redirected to port 15053, tracked in zone 2",
        "> nat OUTPUT 2: ",
        "answer: outbound udp 192.0.2.1:49152 from 127.0.0.1:15053 uid 5678 ",
        "  raw OUTPUT 2: ",
    ] {
        assert!(trace.lines().any(|other| other.starts_with(line)), "{line}: {trace}");
    }
}

#[test]
fn json() {
    let answer = explained(&["udp [2001:db8::53]:53", "--redirect-dns", "--json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer.pointer("/request/verdict").unwrap().to_string(), r#"{"end":"redirected","port":15053}"#);
    assert_eq!(answer.pointer("/reply/arrival"), Some(&"translatedBack".into()));
    assert_eq!(answer.pointer("/packet/uid"), Some(&1000.into()));
}

#[test]
fn expectations_fail_with_the_trace() {
    for (verdict, found) in [("dropped", false), ("redirected:15006", false), ("redirected:15001", true)] {
        let output = kumatp(&["explain", "--facts=-", "tcp 10.1.2.3:443", "--expect", verdict], FACTS);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(if found { 0 } else { 1 }), "{out}{err}");
        assert_eq!(out.contains("  nat OUTPUT 1: "), !found, "{out}");
        assert_eq!(err.contains("error: --expect: the packet is redirected to port 15001, and not"), !found, "{err}");
    }
    explained(&["inbound tcp 10.0.0.5:80 invalid", "--drop-invalid-packets", "--expect=dropped"]);
    explained(&["tcp 10.0.0.5:80 established", "--expect=established"]);
    for wrong in ["redirected", "redirected:0", "accepted", ""] {
        let args = ["explain", "tcp 10.1.2.3:443", "--expect", wrong];
        refused(2, &args, "", &["--expect", &format!("'{wrong}'"), "delivered", "redirected:15001", "dropped"]);
    }
}

#[test]
fn packets_that_are_none() {
    let packet = |args: &[&str], words: &[&str]| refused(2, &[&["explain"], args].concat(), "", words);
    packet(&[], &["tcp 10.1.2.3:443"]);
    packet(&["transparent-proxy"], &["tcp 10.1.2.3:443"]);
    packet(&["tcp"], &["'tcp'", "10.1.2.3:443"]);
    packet(&["tcp", "10.1.2.3"], &["packet", "'10.1.2.3'", "with a port"]);
    packet(&["tpc", "10.1.2.3:443"], &["packet", "'tpc'", "tcp, udp, icmp"]);
    packet(&["tcp", "10.1.2.3:443", "user", "7"], &["'user'", "uid"]);
    packet(&["tcp", "10.1.2.3:443", "uid"], &["'uid'", "a value"]);
    packet(&["forwarded", "tcp", "10.1.2.3:443"], &["'forwarded'", "in docker0"]);
    packet(&["tcp", "10.1.2.3:443", "--uid", "joe"], &["--uid: 'joe'", "from 0 to 4294967294"]);
    packet(&["tcp", "10.1.2.3:443", "--gid=-1"], &["--gid: '-1'", "from 0 to 4294967294"]);
    packet(&["tcp", "10.1.2.3:443", "--uid=7 gid 8"], &["--uid: '7 gid 8'", "one word"]);
    packet(&["tcp", "10.1.2.3:443", "--from="], &["--from: ''", "one word"]);
    packet(&["tcp", "10.1.2.3:443", "--from", "10.0.0"], &["--from: '10.0.0'", "an address"]);
    packet(&["tcp", "10.1.2.3:443", "--from", "10.0.0.1:0"], &["--from: '0'", "from 1 to 65535"]);
    packet(&["tcp", "10.1.2.3:443", "--from", "fd00::1"], &["--from: 'fd00::1'", "IPv4"]);
    packet(&["tcp", "10.1.2.3:443", "--in-interface", "eth1"], &["--in-interface: 'eth1'", "made on this host"]);
    packet(&["inbound", "tcp", "10.1.2.3:443", "--out-interface", "eth1"], &["--out-interface: 'eth1'"]);
    packet(&["inbound", "tcp", "10.1.2.3:443", "--uid", "7"], &["--uid: '7'", "no socket"]);
    packet(&["tcp", "10.1.2.3:443", "--uid", "7", "--no-socket"], &["--uid: '7'", "without a socket"]);
    packet(&["udp", "10.1.2.3:443", "--tracking", "midstream"], &["--tracking: 'midstream'", "tcp"]);
    packet(&["udp", "10.1.2.3:443", "--tracking", "old"], &["--tracking", "'old'", "midstream"]);
}

#[test]
fn what_is_said_twice_is_refused_by_both_names() {
    let packet = |args: &str, words: [&str; 2]| {
        refused(2, &["explain"].into_iter().chain(args.split(' ')).collect::<Vec<_>>(), "", &words);
    };
    packet("tcp 10.1.2.3:443 uid 7 --uid 8", ["--uid 8", "'uid 7'"]);
    packet("tcp 10.1.2.3:443 gid 7 --gid 7", ["--gid 7", "'gid 7'"]);
    packet("tcp 10.1.2.3:443 from 10.0.0.1 --from 10.0.0.2", ["--from 10.0.0.2", "'from 10.0.0.1'"]);
    packet("inbound tcp 10.1.2.3:443 in a --in-interface b", ["--in-interface b", "'in a'"]);
    packet("tcp 10.1.2.3:443 out a --out-interface b", ["--out-interface b", "'out a'"]);
    packet("tcp 10.1.2.3:443 no-socket --no-socket", ["--no-socket and", "'no-socket'"]);
    packet("tcp 10.1.2.3:443 invalid --tracking new", ["--tracking new", "'invalid'"]);
    // What looks like a word may be a value.
    explained(&["inbound", "tcp", "10.1.2.3:443", "in", "from", "--from", "10.0.0.1"]);
}

#[test]
fn rules_of_a_text() {
    let kumactl = saved("kumactl-v4-legacy.txt");
    let said = asked(0, &["explain", "--rules", &kumactl, "tcp 10.9.2.3:443", "--expect=redirected:15001"], "");
    assert!(said.contains("Rule 9 of KUMA_MESH_OUTBOUND in nat decides: -j KUMA_MESH_OUTBOUND_REDIRECT."), "{said}");

    // Each text's family is told by its first line, wherever it comes from.
    let (four, six) = (saved("ours-v4-nft.txt"), saved("ours-v6-legacy.txt"));
    for (packet, verdict) in
        [("inbound tcp 10.0.0.5:80", "delivered"), ("inbound tcp [fd00::5]:80", "redirected:15006")]
    {
        asked(0, &["explain", "--rules", &four, "--rules", &six, packet, "--expect", verdict], "");
    }
    let six = std::fs::read_to_string(six).unwrap();
    asked(0, &["explain", "--rules=-", "inbound tcp [fd00::5]:80", "--expect=redirected:15006"], &six);
    refused(2, &["explain", "--rules=-", "tcp 10.1.2.3:443"], &six, &["--rules", "IPv4", "iptables-save"]);
    refused(2, &["explain", "--rules", &four, "tcp [fd00::1]:443"], "", &["--rules", "IPv6", "ip6tables-save"]);
}

/// The answer of a redirected query is the sidecar's, and the rules say who that is.
#[test]
fn the_sidecar_of_a_text() {
    let render = ["render", "--facts=-", "--redirect-all-dns-traffic", "--ip-family-mode=ipv4"];
    let rules = asked(0, &render, r#"{"sidecarUid": "4242"}"#);
    let said = asked(0, &["explain", "--rules=-", "--json", "udp 10.1.2.3:53"], &rules);
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said.pointer("/reply/packet/uid"), Some(&4242.into()));
    assert_eq!(said.pointer("/reply/arrival"), Some(&"translatedBack".into()));
}

#[test]
fn what_is_not_known_is_undecided_and_named() {
    let text = "*nat\n-A OUTPUT -p tcp -m set --match-set allow dst -j RETURN\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n";
    for more in [&[][..], &["--expect=redirected:1"]] {
        let args = [&["explain", "--rules=-", "tcp 10.1.2.3:443"], more].concat();
        let said = asked(6, &args, text);
        assert!(said.contains("is undecided") && said.contains("Rule 1 of OUTPUT in nat"), "{said}");
        assert!(said.contains("--match-set allow dst"), "{said}");
    }
    asked(0, &["explain", "--rules=-", "udp 10.1.2.3:443", "--expect=delivered"], text);
    // Of the answer, too.
    let text = "*nat\n-A OUTPUT -p tcp -j REDIRECT --to-ports 1\nCOMMIT\n*mangle\n-A OUTPUT -o lo -m set --match-set x src -j DROP\nCOMMIT\n";
    let said = asked(6, &["explain", "--rules=-", "tcp 10.1.2.3:443"], text);
    assert!(said.contains("redirected to port 1.") && said.contains("Whether replies arrive is not known"), "{said}");
}

#[test]
fn texts_that_are_none() {
    let rules = |text: &str, words: &[&str]| {
        refused(2, &["explain", "--rules=-", "tcp 10.1.2.3:443"], text, words);
    };
    rules("", &["--rules", "no rules for IPv4"]);
    rules("hello\n", &["--rules -: line 1", "hello"]);
    rules("*nat\n-A OUTPUT -j DROP\n", &["--rules -", "COMMIT"]);
    rules("*odd\nCOMMIT\n", &["'odd'", "nat"]);
    let other = |args: &[&str], words: &[&str]| {
        refused(2, &[&["explain", "tcp 10.1.2.3:443"], args].concat(), "*nat\nCOMMIT\n", words);
    };
    other(&["--rules=/nowhere"], &["/nowhere"]);
    other(&["--rules=-", "--rules=-"], &["'-'", "once"]);
    other(&["--rules=-", "--config=x.yaml"], &["--config", "--rules"]);
    other(&["--rules=-", "--redirect-dns"], &["--redirect-dns", "--rules"]);
    other(&["--live", "--exclude-inbound-ports=22"], &["--exclude-inbound-ports", "--live"]);
    for flag in ["--engine=netlink", "--netns=/x", "--facts=-", "--live"] {
        other(&["--rules=-", flag], &["--rules", flag.split('=').next().unwrap()]);
    }
    other(&["--live", "--facts=-"], &["--live", "--facts"]);
}

#[test]
fn differences_between_two_files() {
    let directory = files(
        "diff",
        &[
            ("a.yaml", "redirect: {outbound: {excludePorts: [9000]}}"),
            ("b.json", r#"{"redirect": {"outbound": {"excludePorts": "9000,9001"}}}"#),
            ("wrong.yaml", "redirect: {outbound: {excludePorts: [x]}}"),
            ("unknown.yaml", "redirect: {outbound: {excludePort: [9000]}}"),
        ],
    );
    let path = |name: &str| directory.join(name).display().to_string();
    let (a, b) = (path("a.yaml"), path("b.json"));
    let diff = |status, args: &[&str]| asked(status, &[&["diff", "--facts=-"], args].concat(), FACTS);

    let changed = diff(3, &[&a, &b]);
    assert!(changed.starts_with("+ IPv4 nat KUMA_MESH_OUTBOUND: -p tcp --dport 9001 -j RETURN"), "{changed}");
    assert!(changed.contains("+ IPv6 ") && changed.contains("Whose traffic changes"), "{changed}");
    assert!(diff(3, &[&b, &a]).starts_with("- IPv4 "));
    assert_eq!(diff(0, &[&a, &a]), "no difference\n");
    // Flags are over both, files of --config below both.
    assert_eq!(diff(0, &["transparent-proxy", &a, &b, "--exclude-outbound-ports=1"]), "no difference\n");
    assert_eq!(diff(3, &[&a, &b, "--config", &path("unknown.yaml").replace("unknown", "a")]), changed);
    let json: Value = serde_json::from_str(&diff(3, &[&a, &b, "--json"])).unwrap();
    assert_eq!(json.pointer("/added/0/key"), Some(&"redirect.outbound.excludePorts[1]".into()));
    assert_eq!(json.pointer("/traffic/0/after/verdict/end"), Some(&"delivered".into()));

    // Without facts, they are looked for.
    let args = ["diff", &a, "-", "--kuma-dp-user=0", "--ip-family-mode=ipv4", "--engine=iptables"];
    assert!(asked(3, &args, "redirect: {outbound: {excludePorts: [9002]}}").contains("--dport 9002"));

    let wrong = path("wrong.yaml");
    refused(2, &["diff", &a, &wrong], "", &[&format!("{wrong}: redirect.outbound.excludePorts[0]"), "'x'"]);
    refused(2, &["diff", &a, "/nowhere"], "", &["/nowhere"]);
    refused(2, &["diff", "-", "-"], "", &["'-'", "once"]);
    refused(2, &["diff", "-", &a, "--facts=-"], "", &["'-'", "once"]);
    refused(2, &["diff", &a], "", &["two", "live", "1 given"]);
    refused(2, &["diff", &a, &b, &a], "", &["two", "3 given"]);
    refused(2, &["diff", "live", "live"], "", &["live", "./live"]);
    let output = kumatp(&["diff", "--facts=-", &path("unknown.yaml"), &a, "--redirect-all-dns-traffic"], FACTS);
    assert!(text(&output.stderr).contains("unknown.yaml: unknown key"), "{}", text(&output.stderr));
}

#[test]
fn the_user_in_given_facts_is_said_to_hide_another() {
    let directory = files("user", &[("a.yaml", "kumaDPUser: '1'"), ("b.yaml", "kumaDPUser: '2'")]);
    let path = |name: &str| directory.join(name).display().to_string();
    let output = kumatp(&["diff", "--facts=-", &path("a.yaml"), &path("b.yaml")], FACTS);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "no difference\n".into()));
    assert!(text(&output.stderr).contains("kumaDPUser"), "{}", text(&output.stderr));
}

#[test]
fn a_warning_about_both_is_said_once() {
    let directory = files("warning", &[("a.yaml", ""), ("b.yaml", "wait: 1")]);
    let path = |name: &str| directory.join(name).display().to_string();
    let args = ["diff", &path("a.yaml"), &path("b.yaml"), "--facts=-"];
    let output = with_variables(&args, FACTS, &[("KUMA_TRANSPARENT_PROXY_NONSENSE", "1")]);
    assert_eq!(text(&output.stderr).lines().count(), 1, "{}", text(&output.stderr));
}

/// What is installed, by either engine, with rules of others in between.
#[test]
fn what_is_installed() {
    let script = r#"
        rules="--kuma-dp-user=0 --ip-family-mode=ipv4"
        code $KUMATP explain --live tcp 10.1.2.3:443 --expect=delivered
        code $KUMATP diff /dev/null live $rules
        $KUMATP install $rules >/dev/null
        code $KUMATP explain --live tcp 10.1.2.3:443 --expect=redirected:15001
        code $KUMATP explain --live tcp 10.1.2.3:443 --uid 0 --expect=delivered
        code $KUMATP diff /dev/null live $rules
        code $KUMATP diff live /dev/null $rules
        code $KUMATP diff live /dev/null $rules --exclude-inbound-ports=22
        unshare -n $KUMATP diff live /dev/null $rules >/dev/null 2>&1 || echo "elsewhere $?"
        $KUMATP diff live /dev/null $rules --exclude-inbound-ports=22 || true
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..8], ["0", "3", "0", "0", "0", "0", "3", "elsewhere 3"], "{stdout}");
    assert!(lines[8].starts_with("+ IPv4 ip kuma-mesh KUMA_MESH_INBOUND: tcp dport 22 "), "{stdout}");
}

#[test]
fn what_is_installed_by_iptables_and_added_by_others() {
    let script = r#"
        command -v iptables-nft >/dev/null || { echo "skipped: no iptables-nft"; exit 0; }
        rules="--kuma-dp-user=0 --ip-family-mode=ipv4"
        $KUMATP install --engine=iptables $rules >/dev/null
        iptables-nft -t nat -I OUTPUT -p tcp --dport 99 -m statistic --mode random --probability 0.5 -j RETURN
        code $KUMATP explain --live tcp 10.1.2.3:443 --expect=redirected:15001
        code $KUMATP explain --live tcp 10.1.2.3:99
        code $KUMATP diff /dev/null live $rules
        code $KUMATP diff /dev/null live $rules --engine=netlink
        $KUMATP explain --live tcp 10.1.2.3:99 || true
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    assert!(stdout.starts_with("0\n6\n0\n3\n"), "{stdout}");
    assert!(stdout.contains("Rule 1 of OUTPUT in nat") && stdout.contains("-m statistic"), "{stdout}");
}
