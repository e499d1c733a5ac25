use arbtest::arbtest;

use super::*;
use crate::config::Config;
use crate::facts::{Facts, Resolvers};
use crate::iptables_save::{parse, write};
use crate::model::{CtState, Owner, Ruleset, Transport};
use crate::net::{Port, Uid, V4, V6};

fn parts(spec: &str) -> Parts<V4> {
    Parts::read(spec)
}

/// The parts in short: known ones in brackets.
fn short(spec: &str) -> String {
    let parts = parts(spec);
    let mut words: Vec<_> = parts
        .matches
        .iter()
        .map(|part| match part {
            PartialMatch::Known(condition) => {
                format!("[{}]", serde_json::to_value(condition).unwrap()["match"].as_str().unwrap())
            }
            PartialMatch::Protocol { number, negated } => {
                format!("[{}protocol {number}]", if *negated { "not " } else { "" })
            }
            PartialMatch::CtState { states, negated } => {
                let names: Vec<_> = states.iter_names().map(|(name, _)| name).collect();
                format!("[{}{}]", if *negated { "not " } else { "" }, names.join("|"))
            }
            PartialMatch::Unknown { text } => format!("<{text}>"),
        })
        .collect();
    words.push(match parts.target {
        PartialTarget::Known(target) => {
            format!("-> {}", serde_json::to_value(target).unwrap()["target"].as_str().unwrap())
        }
        PartialTarget::Jump { chain } => format!("-> jump {chain}"),
        PartialTarget::Goto { chain } => format!("-> goto {chain}"),
        PartialTarget::Unknown { name, text } => format!("-> <{name}|{text}>"),
        PartialTarget::None => "-> none".to_owned(),
    });
    words.join(" ")
}

#[test]
fn rules_of_others() {
    for (spec, expected) in [
        // Docker.
        ("-m addrtype --dst-type LOCAL -j DOCKER", "[local] -> jump"),
        ("! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER", "[destination] [local] -> jump"),
        ("-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", "[source] [outInterface] -> <MASQUERADE|>"),
        (
            "! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80",
            "[inInterface] [transport] -> <DNAT|--to-destination 172.17.0.2:80>",
        ),
        (
            "-d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:41000",
            "[destination] [transport] -> <DNAT|--to-destination 127.0.0.11:41000>",
        ),
        (
            "-s 127.0.0.11/32 -p udp -m udp --sport 41000 -j SNAT --to-source :53",
            "[source] [transport] -> <SNAT|--to-source :53>",
        ),
        (
            "-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "[outInterface] [ESTABLISHED|RELATED] -> accept",
        ),
        // kube-proxy.
        ("-m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES", "-> jump"),
        ("-j MARK --set-xmark 0x4000/0x4000", "-> <MARK|--set-xmark 0x4000/0x4000>"),
        ("-m mark ! --mark 0x4000/0x4000 -j RETURN", "<-m mark ! --mark 0x4000/0x4000> -> return"),
        (
            "-m comment --comment \"default/web -> 10.0.0.1:80\" -m statistic --mode random --probability 0.50000000000 -j KUBE-SEP-ABCDEFGHIJKLMNOP",
            "<-m statistic --mode random --probability 0.50000000000> -> jump",
        ),
        (
            "-p tcp -m comment --comment \"default/web\" -m tcp -j DNAT --to-destination 10.0.0.1:80",
            "[transport] -> <DNAT|--to-destination 10.0.0.1:80>",
        ),
        (
            "-d 10.96.0.1/32 -p tcp -m comment --comment \"default/kubernetes:https cluster IP\" -m tcp --dport 443 -j KUBE-SVC-NPX46M4PTMTKRN6Y",
            "[destination] [transport] -> jump",
        ),
        ("-m comment --comment \"x\" -j MASQUERADE --random-fully", "-> <MASQUERADE|--random-fully>"),
        (
            "-m conntrack --ctstate INVALID -m nfacct --nfacct-name ct_state_invalid_dropped_pkts -j DROP",
            "[ctState] <-m nfacct --nfacct-name ct_state_invalid_dropped_pkts> -> drop",
        ),
        // firewalld.
        ("-m conntrack --ctstate RELATED,ESTABLISHED,DNAT -j ACCEPT", "[ESTABLISHED|RELATED|DNAT] -> accept"),
        ("-i eth0 -g IN_public", "[inInterface] -> goto IN_public"),
        ("-p icmp -j ACCEPT", "[protocol 1] -> accept"),
        (
            "-p udp -m udp --dport 5353 -m conntrack --ctstate NEW,UNTRACKED -j ACCEPT",
            "[NEW|UNTRACKED] [transport] -> accept",
        ),
        ("-j REJECT --reject-with icmp-host-prohibited", "-> <REJECT|--reject-with icmp-host-prohibited>"),
        // Calico.
        ("-m comment --comment \"cali:6gwbT8clXdHdC1b1\" -j cali-PREROUTING", "-> jump"),
        (
            "-m comment --comment \"cali:x\" -m set --match-set cali40masq-ipam-pools src -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE",
            "<-m set --match-set cali40masq-ipam-pools src> <-m set ! --match-set cali40all-ipam-pools dst> -> <MASQUERADE|>",
        ),
        ("-i cali+ -m comment --comment \"cali:x\" -g cali-wl-to-host", "[inInterface] -> goto cali-wl-to-host"),
        (
            "-p 4 -m comment --comment \"cali:x\" -m addrtype --dst-type LOCAL -j ACCEPT",
            "[protocol 4] [local] -> accept",
        ),
        (
            "-m comment --comment \"cali:x\" -m conntrack --ctstate ESTABLISHED,RELATED -j MARK --set-xmark 0x0/0xe0000",
            "[ESTABLISHED|RELATED] -> <MARK|--set-xmark 0x0/0xe0000>",
        ),
        // Others.
        (
            "-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
            "<--tcp-flags SYN,RST SYN> [transport] -> <TCPMSS|--clamp-mss-to-pmtu>",
        ),
        ("-p tcp --syn -s 10.0.0.0/8 --dport 80 -j DROP", "[source] <--syn> [transport] -> drop"),
        (
            "-m state --state NEW -m recent --name SSH --rsource --set",
            "[NEW] <-m recent --name SSH --rsource --set> -> none",
        ),
        ("-m state --state INVALID -j DROP", "[ctState] -> drop"),
        ("-m conntrack ! --ctstate NEW --ctdir ORIGINAL -j DROP", "[not NEW] <-m conntrack --ctdir ORIGINAL> -> drop"),
        ("! -p tcp -j DROP", "[not protocol 6] -> drop"),
        ("-p all -j DROP", "-> drop"),
        ("-j CT --notrack", "-> <CT|--notrack>"),
        ("-j weird$chain", "-> jump weird$chain"),
    ] {
        let (a, b) = (sorted(&short(spec)), sorted(expected));
        assert_eq!(a, b, "{spec}");
    }
}

fn sorted(text: &str) -> (Vec<String>, String) {
    let (matches, target) = text.split_once("-> ").unwrap();
    let mut matches: Vec<_> = matches.trim().split_inclusive(['>', ']']).map(|part| part.trim().to_owned()).collect();
    matches.sort();
    (matches, target.to_owned())
}

#[test]
fn what_belongs_together_stays_together() {
    for (spec, expected) in [
        // It makes the group match others too.
        ("-m owner --gid-owner 5 --suppl-groups -j DROP", "<-m owner --gid-owner 5 --suppl-groups> -> drop"),
        ("-m owner --socket-exists -j DROP", "<-m owner --socket-exists> -> drop"),
        (
            "-m owner --gid-owner 5 -m comment --comment x --suppl-groups -j DROP",
            "<-m owner --gid-owner 5> <-m comment --comment x --suppl-groups> -> drop",
        ),
        ("-p tcp -m multiport --ports 80,443 -j DROP", "[transport] <-m multiport --ports 80,443> -> drop"),
        ("-p sctp -m multiport --dports 80,443 -j DROP", "[protocol 132] <-m multiport --dports 80,443> -> drop"),
        ("-p sctp -m sctp --dport 80 -j DROP", "[protocol 132] <-m sctp> <--dport 80> -> drop"),
        ("-p icmp -m icmp --icmp-type 8 -j DROP", "[protocol 1] <-m icmp --icmp-type 8> -> drop"),
        // It may be the value of what stands before it.
        ("-m foo --flag -d 10.0.0.1 -j DROP", "<-m foo --flag -d 10.0.0.1> -> drop"),
        ("-m foo --pair a -d 10.0.0.1 -j DROP", "<-m foo --pair a> [destination] -> drop"),
        ("-m policy --dir in --pol ipsec --proto esp -j DROP", "<-m policy --dir in --pol ipsec --proto esp> -> drop"),
        ("-m string --algo bm --string -j -j DROP", "<-m string --algo bm --string -j> -> drop"),
        ("-p tcp -j DNAT --dport 80 --to-destination 10.0.0.1", "[transport] <--to-destination 10.0.0.1> -> <DNAT|>"),
        ("-p tcp --dport 80 --sport 0 -j DROP", "[transport] <--sport 0> -> drop"),
        ("-f -j DROP", "<-f> -> drop"),
        ("! -f -d 10.0.0.1 -j DROP", "<! -f> [destination] -> drop"),
        ("-ptcp -jDROP", "<-ptcp -jDROP> -> none"),
        ("-s 10.0.0.1,10.0.0.2 -d 10.0.0.3 -j DROP", "<-s 10.0.0.1,10.0.0.2> [destination] -> drop"),
        // Not to be told apart.
        (
            "-s 10.0.0.1 -s 10.0.0.2 -j DROP",
            "<-s 10.0.0.1 -s 10.0.0.2 -j DROP> -> <DROP|-s 10.0.0.1 -s 10.0.0.2 -j DROP>",
        ),
        ("-j DROP -j ACCEPT", "<-j DROP -j ACCEPT> -> <DROP|-j DROP -j ACCEPT>"),
        ("what -j DROP", "<what -j DROP> -> <DROP|what -j DROP>"),
        ("-m comment --comment \"open", "<-m comment --comment \"open> -> <|-m comment --comment \"open>"),
        ("", "-> none"),
    ] {
        assert_eq!(sorted(&short(spec)), sorted(expected), "{spec}");
    }
}

#[test]
fn ports_stay_with_their_protocol() {
    let port = |number| Port::new(number).unwrap();
    let known = |transport: Transport| PartialMatch::<V4>::Known(transport.into());
    assert_eq!(
        parts("-p tcp -m tcp --sport 1 --dport 2 --syn -m multiport --dports 2,3 -j DROP").matches,
        [
            known(Transport::tcp().from_port(port(1)).to_port(port(2))),
            PartialMatch::Unknown { text: "--syn".into() },
            known(Transport::tcp().to_ports("2,3".parse().unwrap())),
        ]
    );
    let owner = Match::<V4>::not_by(Owner::Uid(Uid::SIDECAR.into()));
    assert_eq!(
        parts("-m owner ! --uid-owner 5678 -m conntrack ! --ctstate INVALID -m mark --mark 1 -j DROP").matches[..2],
        [PartialMatch::Known(owner), PartialMatch::Known(Match::CtState { state: CtState::Invalid, negated: true })]
    );
}

#[test]
fn targets_that_go_on() {
    for (spec, goes_on) in [
        ("-j MARK --set-mark 1", true),
        ("-j LOG", true),
        ("-m mark --mark 1", true),
        ("-j CT --notrack", false),
        ("-j DNAT --to 10.0.0.1", false),
        ("-g X", false),
        ("-j X", false),
    ] {
        assert_eq!(parts(spec).target.goes_on(), goes_on, "{spec}");
    }
}

/// Rules that the model can say are the same in parts as they are whole, read in either way.
fn as_whole<F: Family>(ruleset: &Ruleset<F>) {
    for saved in parse::<F>(&write(ruleset)).unwrap().tables.iter().flat_map(|table| &table.rules) {
        let rule = saved.rule.clone().unwrap();
        let mut whole: Vec<_> = rule.clone().matches.into_iter().map(PartialMatch::Known).collect();
        assert_eq!(saved.parts(), Parts { matches: whole.clone(), target: PartialTarget::Known(rule.target.clone()) });
        let mut read = Parts::<F>::read(&saved.spec);
        let place = |part: &PartialMatch<F>| format!("{part:?}");
        whole.sort_by_key(place);
        read.matches.sort_by_key(place);
        assert_eq!(read, Parts { matches: whole, target: PartialTarget::Known(rule.target) }, "{}", saved.spec);
    }
}

#[test]
fn known_rules_are_the_same_in_parts() {
    let list = |items: &[&str]| items.iter().map(|item| item.parse().unwrap()).collect();
    let mut config = Config::default();
    config.drop_invalid_packets = true;
    config.log.enabled = true;
    config.redirect.dns.enabled = true;
    config.redirect.outbound.exclude_ports_for_uids =
        vec!["tcp:1,2,3-9:7".parse().unwrap(), "udp:53,3000-4000:1000-2000".parse().unwrap()];
    config.redirect.outbound.exclude_ips = list(&["10.1.2.3/8", "fd00:0::1"]);
    config.redirect.inbound.exclude_ports = "22,3000-4000".parse().unwrap();
    config.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap(), "br+:fd00::/64".parse().unwrap()];
    let mut facts = Facts::capable_host(Uid::SIDECAR);
    facts.resolvers = Some(Resolvers::new(["127.0.0.11".parse().unwrap(), "fd00::53".parse().unwrap()]));
    let plan = crate::policy::plan(&config, &facts).unwrap();
    as_whole(&plan.v4);
    as_whole(plan.v6.as_ref().unwrap());
    for text in [
        include_str!("../../../tests/fixtures/save/kumactl-v4-legacy.txt"),
        include_str!("../../../tests/fixtures/save/ours-v4-nft.txt"),
    ] {
        as_whole(&parse::<V4>(text).unwrap().ruleset().unwrap());
    }
    as_whole(&parse::<V6>(include_str!("../../../tests/fixtures/save/kumactl-v6-nft.txt")).unwrap().ruleset().unwrap());
}

/// What rules are made of, whole and in pieces.
const WORDS: &str = "-p tcp|-p udp|-p tcp|-p udp|-s 10.0.0.1|-d 10.0.0.0/8|! -d 10.0.0.2|-i lo|! -o eth+|-m tcp|-m udp|--dport 80|--sport 1:2|\
    ! --dport 80|-m multiport|-m multiport --dports 80,443|--dports 1|-m multiport ! --sports 5|-m owner --uid-owner 5|\
    -m owner|--gid-owner 5|-m conntrack --ctstate INVALID|-m conntrack ! --ctstate INVALID|-m conntrack|--ctstate NEW|\
    -m comment --comment x|-m comment --comment \"a b\"|-m comment --comment -j|-m comment|--comment --dport|-j ACCEPT|\
    -j RETURN|-j REDIRECT --to-ports 5|-j LOG --log-prefix -s|-j X|-j DNAT --to-destination 10.0.0.1|-g X|-m mark --mark 1|\
    -m set --match-set -d src|--syn|--tcp-flags SYN SYN|--suppl-groups|-p icmp|! -p tcp|-p all|!|80|-s|-j|-m|--to-ports";

#[test]
fn random_words_are_no_problem() {
    arbtest(|u| {
        let all: Vec<_> = WORDS.split('|').collect();
        let count = u.int_in_range(0..=6)?;
        let mut words: Vec<_> = (0..count).map(|_| u.choose(&all).copied()).collect::<Result<_, _>>()?;
        words.extend(u.arbitrary::<bool>()?.then_some("-j ACCEPT"));
        let spec = words.join(" ");
        let read = Parts::<V4>::read(&spec);
        let text = format!("*nat\n-A X {spec}\nCOMMIT\n");
        let saved = parse::<V4>(&text).unwrap();
        let Ok(rule) = &saved.tables[0].rules[0].rule else { return Ok(()) };
        // What is known of a rule is what the rule says, also where parts of it are read by themselves.
        assert_eq!(read.target, PartialTarget::Known(rule.target.clone()), "{spec}");
        let unknown = read.matches.iter().any(|part| matches!(part, PartialMatch::Unknown { .. }));
        let known: Vec<_> = read
            .matches
            .iter()
            .filter_map(|part| match part {
                PartialMatch::Known(condition) => Some(condition),
                _ => None,
            })
            .collect();
        if !unknown {
            assert_eq!(known.len(), rule.matches.len(), "{spec}");
        }
        for condition in known {
            assert!(rule.matches.iter().any(|whole| covers(whole, condition)), "{spec}: {condition:?}");
        }
        Ok(())
    })
    .budget_ms(1000);
}

/// Whether `whole` holds for no packet that `part` does not hold for.
fn covers(whole: &Match<V4>, part: &Match<V4>) -> bool {
    match (whole, part) {
        (Match::Transport(whole), Match::Transport(part)) => {
            whole.protocol == part.protocol
                && (part.source.is_none() || part.source == whole.source)
                && (part.destination.is_none() || part.destination == whole.destination)
        }
        _ => whole == part,
    }
}

#[test]
fn random_text_is_no_problem() {
    arbtest(|u| {
        let text: String = u.arbitrary()?;
        Parts::<V4>::read(&text);
        Parts::<V6>::read(&format!("-m {text} -j {text}"));
        Ok(())
    })
    .budget_ms(500);
}
