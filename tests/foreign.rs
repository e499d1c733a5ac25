//! What other programs have in nf_tables beside our rules: what is said of a connection there is what the kernel does with it, or that
//! it is not known.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/inside.rs"]
mod inside;
#[path = "common/isolated.rs"]
mod isolated;
#[path = "common/plans.rs"]
mod plans;

use std::fs::File;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kumatp::Plan;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{EarlierChain, Engine as _, Status, installed, state};
use kumatp::simulate::{AnyPacket, Explanation, Simulator, Verdict};
use nix::sched::{CloneFlags, setns};

use self::inside::inside;
use self::isolated::{isolated, run, skipped};
use self::plans::plans;

/// So long nothing takes that works. It is no proof of anything: whoever waits so long fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Ports on which this host answers, and the other one.
const HERE: [u16; 6] = [15001, 15006, 8080, 9998, 9999, 81];
const THERE: [u16; 4] = [80, 81, 8080, 9999];

/// This namespace has a cable to another one, which has the addresses of the rest of the world.
fn ground() {
    for line in [
        "netns add peer",
        "link add eth0 type veth peer name eth0 netns peer",
        "addr add 10.77.0.2/24 dev eth0",
        "addr add fd77::2/64 dev eth0 nodad",
        "-n peer addr add 10.77.0.1/24 dev eth0",
        "-n peer addr add fd77::1/64 dev eth0 nodad",
        "link set eth0 up",
        "-n peer link set eth0 up",
        "-n peer link set lo up",
        "route add default via 10.77.0.1",
        "-6 route add default via fd77::1",
        "-n peer route add local 10.1.0.0/16 dev lo",
        "-n peer -6 route add local fd78::/16 dev lo",
    ] {
        run("ip", &line.split(' ').collect::<Vec<_>>(), "");
    }
    serve("here", &HERE);
    in_peer(|| serve("peer", &THERE));
}

/// Does something in the other namespace.
fn in_peer<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    inside("/run/netns/peer", work)
}

/// Answers every connection with the name of the host and the port.
fn serve(name: &'static str, ports: &[u16]) {
    for port in ports {
        let (listener, port) = (TcpListener::bind(("::", *port)).unwrap(), *port);
        thread::spawn(move || {
            for connection in listener.incoming() {
                // Who has gone needs no answer.
                let _ = connection.unwrap().write_all(format!("{name} {port}").as_bytes());
            }
        });
    }
}

/// Who answers a connection; "refused" if it is, or why nobody does.
fn ask(to: SocketAddr) -> String {
    let mut connection = match TcpStream::connect_timeout(&to, PATIENCE) {
        Ok(connection) => connection,
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => return "refused".to_owned(),
        Err(error) => return error.to_string(),
    };
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = String::new();
    match connection.read_to_string(&mut answer) {
        Ok(_) => answer,
        Err(error) => error.to_string(),
    }
}

/// Opens a connection, here or in the other namespace, and waits until a rule has counted so many packets of it. Says what became
/// of the connection if it has ended by then.
fn ask_and_count(to: SocketAddr, from_peer: bool, packets: u64) -> String {
    let asking = thread::spawn(move || {
        if from_peer {
            setns(File::open("/run/netns/peer").unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        }
        TcpStream::connect_timeout(&to, PATIENCE).map(drop)
    });
    while counted() < packets {
        if asking.is_finished() {
            return format!("{:?}", asking.join().unwrap());
        }
        thread::yield_now();
    }
    "dropped".to_owned()
}

/// How many packets the counters of all rules have seen.
fn counted() -> u64 {
    let list = run("nft", &["list", "ruleset"], "");
    let counters = list.split("counter packets ").skip(1);
    counters.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap()).sum()
}

/// Rules of others, a connection, who gets it from the kernel, and what is said about it.
struct Case {
    rules: &'static str,
    packet: &'static str,
    by_kernel: &'static str,
    said: &'static str,
}

const UNDECIDED: &str = "undecided";
/// Dropped by a rule that does not count.
const SILENCE: &str = "silence";
const OUT: &str = "tcp 10.1.1.1:80 from 10.77.0.2 uid 0 gid 0";
const OUT_V6: &str = "tcp [fd78::1]:80 from fd77::2 uid 0 gid 0";
const IN: &str = "inbound tcp 10.77.0.2:8080 from 10.77.0.1 in eth0";

fn case(rules: &'static str, packet: &'static str, by_kernel: &'static str, said: &'static str) -> Case {
    Case { rules, packet, by_kernel, said }
}

/// Something that is as if the rules were not there.
fn nothing(rules: &'static str) -> Case {
    case(rules, OUT, "here 15001", "redirected to port 15001")
}

/// A rule that comes before ours.
fn stolen(rules: &'static str) -> Case {
    case(rules, OUT, "here 9999", "redirected to port 9999")
}

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    vec![
        nothing(""),
        case("", OUT_V6, "here 15001", "redirected to port 15001"),
        case("", IN, "here 15006", "redirected to port 15006"),

        // What is not called.
        nothing("table inet other { set s { type ipv4_addr; }; chain unused { drop; }; }"),
        nothing("table ip off { flags dormant; chain o { type filter hook output priority 0; policy drop; }; }"),
        nothing("table ip6 other { chain o { type filter hook output priority 0; policy drop; }; }"),
        nothing("table ip kuma-mesh2 { chain kuma_mesh_marker { drop; }; }"),

        // nat, before ours and behind.
        case("table ip a { chain o { type nat hook output priority -150; tcp dport 80 dnat to 10.77.0.1:9999; }; }",
            OUT, "peer 9999", UNDECIDED),
        nothing("table ip a { chain o { type nat hook output priority -150; tcp dport 81 dnat to 10.77.0.1:9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -90; tcp dport 80 dnat to 10.77.0.1:9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; tcp dport 80 accept; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; tcp dport 80 redirect to :9999; }; }"),
        stolen("table inet a { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :9999; }; }"),
        nothing("table inet a { chain o { type nat hook output priority -150; meta nfproto ipv6 meta l4proto tcp redirect to :9999; }; }"),
        case("table inet a { chain o { type nat hook output priority -150; meta nfproto ipv6 meta l4proto tcp redirect to :9999; }; }",
            OUT_V6, "here 9999", "redirected to port 9999"),
        case("table ip6 a { chain o { type nat hook output priority -150; ip6 daddr fd78::/16 tcp dport 80 redirect to :9999; }; }",
            OUT_V6, "here 9999", "redirected to port 9999"),
        case("table ip a { chain p { type nat hook prerouting priority -150; iifname \"e*\" tcp dport 8080 redirect to :9999; }; }",
            IN, "here 9999", "redirected to port 9999"),
        case("table ip a { chain p { type nat hook prerouting priority -150; iif lo tcp dport 8080 redirect to :9999; }; }",
            IN, "here 15006", "redirected to port 15006"),

        // Conditions.
        stolen("table ip a { chain o { type nat hook output priority -150; ip saddr 10.77.0.2 ip daddr 10.1.1.1 tcp sport 1-65535 tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; ip daddr 10.0.0.0/12 tcp dport 79-80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; ip daddr != 10.0.0.0/12 tcp dport 80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; tcp dport != 80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; tcp dport > 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; tcp dport >= 80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; tcp dport != 1-80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; meta skuid 0 tcp dport 80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; meta skuid != 0 tcp dport 80 redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; meta skuid 1-10 tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; meta skuid < 10 meta skgid 0-3 tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; oifname \"eth0\" ip protocol tcp tcp flags syn redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; oif lo meta l4proto tcp redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; fib daddr type local tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; fib daddr type != local tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; ct state new th dport 80 meta l4proto tcp redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; meta l4proto udp th dport 80 redirect to :9999; }; }"),
        case("table ip a { chain o { type nat hook output priority -150; meta mark 0 tcp dport 80 redirect to :9999; }; }",
            OUT, "here 9999", UNDECIDED),
        nothing("table ip a { chain o { type nat hook output priority -150; meta mark 0 tcp dport 80 accept; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; meta mark 7 jump x; }; chain x { counter return; }; }"),

        // Sets and maps.
        stolen("table ip a { set s { type ipv4_addr; elements = { 10.1.1.0, 10.1.1.1, 10.1.1.2 }; }; chain o { type nat hook output priority -150; ip daddr @s tcp dport { 80, 443 } redirect to :9999; }; }"),
        nothing("table ip a { set s { type ipv4_addr; elements = { 10.1.1.0, 10.1.1.2 }; }; chain o { type nat hook output priority -150; ip daddr @s meta l4proto tcp redirect to :9999; }; }"),
        stolen("table ip a { set s { type ipv4_addr; elements = { 10.1.1.0, 10.1.1.2 }; }; chain o { type nat hook output priority -150; ip daddr != @s meta l4proto tcp redirect to :9999; }; }"),
        nothing("table ip a { set s { type ipv4_addr; flags interval; elements = { 9.0.0.0/8, 10.1.0.0/16, 192.0.2.0-255.255.255.255 }; }; chain o { type nat hook output priority -150; ip daddr != @s meta l4proto tcp redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; ip daddr { 0.0.0.0/8, 10.1.0.0/16 } tcp dport { 1-79, 80-90 } redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; ip daddr { 10.2.0.0/16 } tcp dport 80 redirect to :9999; }; }"),
        stolen("table ip a { set s { type ipv4_addr . inet_service; elements = { 10.1.1.1 . 80, 10.1.1.2 . 81 }; }; chain o { type nat hook output priority -150; ip daddr . tcp dport @s redirect to :9999; }; }"),
        nothing("table ip a { set s { type ipv4_addr . inet_service; elements = { 10.1.1.1 . 81, 10.1.1.2 . 80 }; }; chain o { type nat hook output priority -150; ip daddr . tcp dport @s redirect to :9999; }; }"),
        stolen("table ip a { set s { type ipv4_addr . inet_service; flags interval; elements = { 10.1.0.0/16 . 1-80 }; }; chain o { type nat hook output priority -150; ip daddr . tcp dport @s redirect to :9999; }; }"),
        nothing("table ip a { set s { type ipv4_addr . inet_service; flags interval; elements = { 10.1.0.0/16 . 1-79 }; }; chain o { type nat hook output priority -150; ip daddr . tcp dport @s redirect to :9999; }; }"),
        nothing("table ip a { set s { type ipv4_addr; }; chain o { type nat hook output priority -150; ip daddr @s meta l4proto tcp redirect to :9999; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; meta l4proto { tcp, sctp } oifname { \"lo\", \"eth0\" } redirect to :9999; }; }"),
        nothing("table ip a { chain o { type nat hook output priority -150; meta l4proto != { tcp, sctp } counter goto x; }; chain x { meta l4proto tcp redirect to :9999; }; }"),
        stolen("table ip a { map m { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.1.1.1 . tcp . 80 : goto x, 10.1.1.2 . tcp . 80 : drop }; }; chain x { meta l4proto tcp redirect to :9999; }; chain o { type nat hook output priority -150; ip daddr . meta l4proto . th dport vmap @m; }; }"),
        nothing("table ip a { map m { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.1.1.1 . udp . 80 : goto x, 10.1.1.1 . tcp . 81 : drop }; }; chain x { meta l4proto tcp redirect to :9999; }; chain o { type nat hook output priority -150; ip daddr . meta l4proto . th dport vmap @m; }; }"),
        stolen("table ip a { chain x { meta l4proto tcp redirect to :9999; }; chain o { type nat hook output priority -150; tcp dport vmap { 1-79 : accept, 80-90 : jump x }; }; }"),
        case("table ip a { chain x { meta l4proto tcp redirect to :9999; }; chain o { type nat hook output priority -150; numgen inc mod 2 vmap { 0 : jump x, 1 : goto x }; }; }",
            OUT, "here 9999", UNDECIDED),
        case("table ip a { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :tcp dport map { 80 : 9999 }; }; }",
            OUT, "here 9999", UNDECIDED),
        nothing("table ip a { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :tcp dport map { 82 : 9999 }; }; }"),
        case("table ip a { set s { type ipv4_addr; flags dynamic; timeout 1h; }; chain o { type nat hook output priority -150; update @s { ip daddr } ip daddr @s tcp dport 80 redirect to :9999; }; }",
            OUT, "here 9999", UNDECIDED),

        // Calls.
        case("table ip a { chain o { type filter hook output priority 0; jump b; counter drop; }; chain b { tcp dport 15001 goto c; drop; }; chain c { return; }; }",
            OUT, "dropped", "dropped"),
        nothing("table ip a { chain o { type filter hook output priority 0; goto b; }; chain b { tcp dport 15001 return; tcp sport 15001 return; drop; }; }"),
        case("table ip a { chain o { type filter hook output priority 0; policy drop; goto b; }; chain b { tcp dport 15001 counter return; }; }",
            OUT, "dropped", "dropped"),

        // Filters, before connections are translated and behind.
        case("table ip a { chain o { type filter hook output priority -200; tcp dport 80 counter drop; }; }", OUT, "dropped", "dropped"),
        nothing("table ip a { chain o { type filter hook output priority -200; tcp dport 15001 counter drop; }; }"),
        nothing("table ip a { chain o { type filter hook output priority 0; tcp dport 80 counter drop; }; }"),
        case("table ip a { chain o { type filter hook output priority 0; tcp dport 15001 counter drop; }; }", OUT, "dropped", "dropped"),
        case("table inet a { chain i { type filter hook input priority 0; policy drop; ct state established,related accept; ct state new counter; }; }", OUT, "dropped", "dropped"),
        nothing("table inet a { chain i { type filter hook input priority 0; policy drop; ct state vmap { established : accept, related : accept, invalid : drop }; iif lo accept; }; }"),
        nothing("table inet a { chain i { type filter hook input priority 0; policy drop; iifname lo accept; }; chain f { type filter hook forward priority 0; policy drop; }; }"),
        case("table inet a { chain i { type filter hook input priority 0; policy drop; iifname lo accept; counter; }; }", IN, "dropped", "dropped"),
        case("table inet a { chain i { type filter hook input priority 0; policy drop; ct state established accept; tcp dport 15006 accept; }; }",
            IN, "here 15006", "redirected to port 15006"),
        case("table inet a { chain i { type filter hook input priority 0; ct status dnat tcp flags & (fin | syn | rst | ack) == syn counter drop; }; }", IN, "dropped", "dropped"),
        case("table ip a { chain o { type filter hook output priority 0; tcp dport 15001 reject with tcp reset; }; }", OUT, "refused", "dropped"),
        nothing("table ip a { chain o { type filter hook output priority 0; log prefix \"seen \" counter meta mark set 7 limit rate 1/day accept; }; }"),
        case("table ip a { chain o { type filter hook output priority 0; meta mark 7 drop; }; }", OUT, "here 15001", UNDECIDED),
        nothing("table ip a { chain o { type filter hook output priority 0; meta mark 7 tcp dport 80 drop; }; }"),
        nothing("table ip a { chain p { type nat hook postrouting priority 100; meta mark & 0x4000 == 0 return; oifname eth0 masquerade; }; }"),
        // At the very place where connections are translated.
        case("table ip a { chain o { type filter hook output priority -100; tcp dport 15001 drop; }; }", OUT, "here 15001", UNDECIDED),

        // Without connection tracking nothing is translated, and our closing rules drop it.
        case("table ip a { chain o { type filter hook output priority -300; tcp dport 80 counter notrack; }; }", OUT, SILENCE, "dropped"),
        nothing("table ip a { chain o { type filter hook output priority -300; tcp dport 81 notrack; }; }"),
        nothing("table ip a { chain o { type filter hook output priority -150; tcp dport 80 notrack; }; }"),
        case("table ip a { chain p { type filter hook prerouting priority -300; tcp dport 8080 counter notrack; }; }", IN, SILENCE, "dropped"),

        // Devices.
        nothing("table netdev a { chain i { type filter hook ingress device eth0 priority 0; policy drop; }; }"),
        case("table netdev a { chain i { type filter hook ingress device eth0 priority 0; tcp dport 8080 counter drop; }; }", IN, "dropped", "dropped"),
        nothing("table netdev a { chain e { type filter hook egress device eth0 priority 0; policy drop; }; }"),

        // One behind the other, and at the same priority.
        stolen("table ip a { chain o { type nat hook output priority -151; meta l4proto tcp redirect to :9999; }; chain o2 { type nat hook output priority -150; meta l4proto tcp redirect to :9998; }; }"),
        stolen("table ip a { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :9998; }; chain o2 { type nat hook output priority -150; meta l4proto tcp redirect to :9999; }; }"),
        case("table ip b { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :9998; }; }; table ip a { chain o2 { type nat hook output priority -150; meta l4proto tcp redirect to :9999; }; }",
            OUT, "here 9999", UNDECIDED),
        stolen("table ip b { chain o { type nat hook output priority -150; meta l4proto tcp redirect to :9999; }; }; table ip a { chain o2 { type nat hook output priority -150; meta l4proto tcp redirect to :9999; }; }"),
    ]
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Undecided { .. } => UNDECIDED.to_owned(),
        other => other.to_string(),
    }
}

/// Adds rules, if this kernel and this nft can.
fn add(rules: &str) -> bool {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(rules.replace("; table", "\ntable").as_bytes()).unwrap();
    let output = nft.wait_with_output().unwrap();
    let done = output.status.success();
    if !done {
        eprintln!("left out, as nft refuses it: {rules}: {}", String::from_utf8_lossy(&output.stderr));
    }
    done
}

fn others() -> Vec<String> {
    let tables = run("nft", &["list", "tables"], "");
    let foreign = tables.lines().filter(|line| !line.ends_with(" kuma-mesh"));
    foreign.map(|line| line.trim_start_matches("table ").to_owned()).collect()
}

#[test]
fn what_is_said_is_what_the_kernel_does() {
    isolated(|| {
        ground();
        Netlink::default().apply(&plans().remove(0).1).unwrap();
        let mut wrong = Vec::new();
        let mut tried = 0;
        for Case { rules, packet, by_kernel, said } in cases() {
            if !add(rules) {
                continue;
            }
            tried += 1;
            let read = installed(None).unwrap();
            let simulator = Simulator::of_installed(&read).unwrap();
            let any: AnyPacket = packet.parse().unwrap();
            let explanation: Explanation<'_> = simulator.explain(&any);
            let found = verdict(&explanation.request.verdict);
            let (to, inbound) = (destination(packet), packet.starts_with("inbound"));
            let kernel = match (by_kernel, inbound) {
                ("dropped", from_peer) => ask_and_count(to, from_peer, 1),
                // Who hears nothing asks again.
                (SILENCE, from_peer) => ask_and_count(to, from_peer, 2),
                (_, false) => ask(to),
                (_, true) => in_peer(move || ask(to)),
            };
            let by_kernel = if by_kernel == SILENCE { "dropped" } else { by_kernel };
            if (kernel.as_str(), found.as_str()) != (by_kernel, said) {
                wrong.push(format!("{rules}\n  {packet}: kernel: {kernel}, said: {found}: {explanation}"));
            }
            if found == UNDECIDED {
                let json = serde_json::to_value(&explanation).unwrap();
                assert_eq!(json["request"]["verdict"]["end"], "undecided", "{rules}");
                let step = explanation.request.deciding();
                assert!(step.is_none() || !step.unwrap().table().ends_with("kuma-mesh"), "{rules}: {explanation}");
            }
            for table in others() {
                let words: Vec<_> = ["delete", "table"].into_iter().chain(table.split(' ')).collect();
                run("nft", &words, "");
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        if tried < cases().len() {
            skipped("this kernel or this nft does not know all that other programs may use");
        }
    });
}

fn destination(packet: &str) -> SocketAddr {
    let word = packet.split(' ').find(|word| word.contains(':')).unwrap();
    word.parse().unwrap()
}

#[test]
fn chains_before_ours_are_named() {
    isolated(|| {
        let plan = plans().remove(0).1;
        let engine = Netlink::default();
        let names = |found: &[EarlierChain]| found.iter().map(ToString::to_string).collect::<Vec<_>>();
        let both = |plan: Option<&Plan>| {
            let state = state(plan, None).unwrap();
            let read = installed(None).unwrap();
            assert_eq!(names(&state.earlier), names(&read.earlier()));
            let json = serde_json::to_value(&state).unwrap();
            assert_eq!(json.get("earlier").map_or(0, |list| list.as_array().unwrap().len()), state.earlier.len());
            let noted = state.notes.iter().any(|note| note.about == "nat");
            assert_eq!((noted, read.earlier_note().is_some()), (!state.earlier.is_empty(), !state.earlier.is_empty()));
            (state.status, names(&state.earlier))
        };
        add("table ip a { chain o { type nat hook output priority -150; tcp dport 80 redirect to :9999; }; }");
        let (status, earlier) = both(None);
        // In a user namespace, nobody knows what there is besides.
        assert!(matches!(status, Status::Absent | Status::Uncompared { .. }), "{status:?}");
        assert!(earlier.is_empty(), "there is nothing that it could come before: {earlier:?}");
        engine.apply(&plan).unwrap();
        let before = "ip a o (OUTPUT, priority -150)".to_owned();
        for plan in [None, Some(&plan)] {
            assert_eq!(both(plan), (Status::Current, vec![before.clone()]));
        }
        // Without rules, behind ours, in another hook, switched off, or of another type.
        add(
            "table ip b { chain o { type nat hook output priority -150; }; chain o2 { type nat hook output priority -90; accept; }; \
             chain p { type nat hook postrouting priority -150; accept; }; chain f { type filter hook output priority -150; accept; }; }",
        );
        add("table ip c { flags dormant; chain o { type nat hook output priority -150; accept; }; }");
        assert_eq!(both(None).1, std::slice::from_ref(&before));
        // At the priority of ours, and for both families.
        add("table inet d { chain p { type nat hook prerouting priority -99; accept; }; }");
        let same = "inet d p (PREROUTING, priority -99)".to_owned();
        assert_eq!(both(None).1, [before.clone(), same.clone(), same]);
        let json = serde_json::to_value(state(None, None).unwrap()).unwrap();
        assert_eq!(
            json["earlier"][0],
            serde_json::json!({
                "family": "ipv4", "table": "ip a", "chain": "o", "hook": "OUTPUT", "priority": -150, "certain": true
            })
        );
        assert_eq!((&json["earlier"][1]["certain"], &json["earlier"][2]["family"]), (&false.into(), &"ipv6".into()));
        let text = json["notes"].to_string();
        assert!(text.contains("come before ours and may decide first: ip a o (OUTPUT, priority -150);"), "{text}");
        assert_eq!(text.matches("inet d p").count(), 1, "{text}");
        // The command says the same; it is not built for every test.
        if let Some(kumatp) = option_env!("CARGO_BIN_EXE_kumatp") {
            std::fs::write("/run/config.yaml", "verbose: false\n").unwrap();
            let said = |args: &[&str]| Command::new(kumatp).args(args).output().unwrap();
            for args in [&["diff", "live", "/run/config.yaml", "--json"][..], &["status", "--json"]] {
                let output = said(args);
                let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                assert_eq!(document["earlier"], json["earlier"], "{args:?}: {output:?}");
            }
            for args in [&["diff", "live", "/run/config.yaml"][..], &["status"]] {
                let output = said(args);
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(told.contains("may decide first: ip a o (OUTPUT, priority -150)"), "{args:?}: {output:?}");
            }
        }
    });
}

#[test]
fn chains_of_iptables_before_ours_are_named() {
    isolated(|| {
        if !all_users_are_mapped() || !std::path::Path::new("/usr/sbin/iptables-legacy").exists() {
            return skipped("the iptables programs of both modes are needed, and root for them");
        }
        let plan = plans().remove(0).1;
        Netlink::default().apply(&plan).unwrap();
        let tables = || {
            let state = state(Some(&plan), None).unwrap();
            assert_eq!(state.status, Status::Current);
            let found = state.earlier;
            assert_eq!(found, installed(None).unwrap().earlier());
            found.into_iter().map(|chain| (chain.table, chain.chain)).collect::<Vec<_>>()
        };
        let iptables = |mode: &str, line: &str| {
            run(&format!("/usr/sbin/iptables-{mode}"), &line.split(' ').collect::<Vec<_>>(), "");
        };
        for mode in ["nft", "legacy"] {
            iptables(mode, "-t nat -L");
        }
        assert_eq!(tables(), []);
        let named = |table: &str, chain: &str| (table.to_owned(), chain.to_owned());
        iptables("nft", "-t nat -A OUTPUT -p tcp -j ACCEPT");
        assert_eq!(tables(), [named("ip nat", "OUTPUT")]);
        iptables("nft", "-t nat -F");
        iptables("legacy", "-t nat -A PREROUTING -p tcp -j ACCEPT");
        assert_eq!(tables(), [named("nat (iptables-legacy)", "PREROUTING")]);
        iptables("legacy", "-t nat -F");
        assert_eq!(tables(), []);
    });
}

/// In a user namespace of an ordinary user, rules of iptables cannot name users, and the kernel keeps legacy tables back.
fn all_users_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}
