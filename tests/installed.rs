//! What is installed is read back as data, with what others have put beside and into it.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;
#[path = "common/plans.rs"]
mod plans;

use std::path::Path;

use kumatp::config::Config;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, installed};
use kumatp::in_force::Installed;
use kumatp::iptables_save::{PartialMatch, PartialTarget};
use kumatp::model::{BuiltinChain, Comment, End, EngineName, IptablesMode, Match, Plan};
use kumatp::net::FamilyName;
use kumatp::netns::Namespace;
use kumatp::nftables::{Action, ChainType, Condition, LiveTable, Marker, Native, OtherHook, Rule, Table};
use kumatp::render::iptables::{self, Style};
use kumatp::simulate::{Simulator, Verdict};

use self::isolated::{isolated, run, skipped};
use self::plans::{plan, plans};

fn of(wanted: &str) -> Plan {
    plans().into_iter().find(|(name, _)| *name == wanted).unwrap().1
}

fn now() -> Installed {
    let mut read = installed(None).unwrap();
    if !all_users_are_mapped() {
        // The kernel may keep legacy tables back, of which there are none.
        read.iptables.retain(|listing| listing.mode == IptablesMode::Nft);
        read.notes.retain(|note| {
            // Nor does it tell of eBPF programs.
            let hidden = ["the tables (IPv4, legacy)", "the tables (IPv6, legacy)", "no eBPF programs are pinned here"];
            !hidden.iter().any(|beginning| note.text.starts_with(beginning))
        });
    }
    read
}

/// The rules of a table by chain, with where the chain is called.
fn described(table: &Table) -> Vec<String> {
    let chains = table.chains.iter().filter(|chain| chain.name.as_str() != Marker::CHAIN);
    let mut list: Vec<_> =
        chains.map(|chain| format!("{} {:?} {:?}", chain.name, chain.base, bare(&chain.rules))).collect();
    list.sort();
    list
}

fn found(table: &LiveTable) -> Vec<String> {
    let describe = |chain: &kumatp::nftables::LiveChain| {
        let base = chain.base.clone().map(|base| base.unwrap());
        let rules: Vec<_> = chain.rules.iter().map(|rule| rule.clone().unwrap()).collect();
        assert!(!chain.drops);
        format!("{} {base:?} {:?}", chain.name, bare(&rules))
    };
    let mut list: Vec<_> = table.chains.iter().map(describe).collect();
    list.sort();
    list
}

/// What the kernel keeps of the rules.
fn bare(rules: &[Rule]) -> Vec<(&[Condition], &Action, Option<&Comment>)> {
    rules.iter().map(|rule| (&rule.conditions[..], &rule.action, rule.comment.as_ref())).collect()
}

#[test]
fn nothing_is_installed_in_a_new_namespace() {
    isolated(|| {
        let found = now();
        assert!(found.native.is_empty() && found.iptables.is_empty() && found.others.is_empty(), "{found:?}");
        // Nothing was made by looking.
        assert_eq!(run("nft", &["list", "tables"], ""), "");
    });
}

#[test]
fn rules_by_netlink_are_read_back() {
    isolated(|| {
        for (name, plan) in plans() {
            Netlink::default().apply(&plan).unwrap();
            let read = now();
            let native = Native::of(&plan);
            let tables: Vec<_> = native.tables().collect();
            assert_eq!(read.native.len(), tables.len(), "{name}");
            for (live, table) in read.native.iter().zip(tables) {
                assert_eq!(live.family, table.family);
                assert_eq!(found(live), described(table), "{name}");
                assert!(!live.dormant && live.marker.is_some(), "{name}");
            }
            assert!(read.notes.is_empty(), "{:?}", read.notes);
        }
    });
}

/// What is read back does to packets what the plan does.
fn agrees(name: &str, plan: &Plan, engine: EngineName, read: &Installed) {
    let by_plan = Simulator::of(plan, engine);
    let by_installed = Simulator::of_installed(read).unwrap();
    let mut compared = 0;
    for packet in by_plan.edges() {
        let (expected, got) = (by_plan.run(&packet), by_installed.run(&packet));
        if matches!(expected.verdict, Verdict::Undecided { .. }) {
            // Another program's chain, which is there.
            continue;
        }
        assert_eq!((&expected.verdict, expected.zone), (&got.verdict, got.zone), "{name}: {packet}: {expected}\n{got}");
        compared += 1;
    }
    assert!(compared > 20, "{name}: {compared}");
}

#[test]
fn the_simulator_answers_for_what_is_installed() {
    isolated(|| {
        for (name, plan) in plans() {
            Netlink::default().apply(&plan).unwrap();
            let read = now();
            agrees(name, &plan, EngineName::Netlink, &read);
            let native = Native::of(&plan);
            let diff = Simulator::of_native(&native).diff(&Simulator::of_installed_ours(&read).unwrap());
            assert!(diff.is_empty(), "{name}: {diff}");
        }
        Netlink::default().apply(&of("default")).unwrap();
        let change = |command: &str| drop(run("nft", &[command], ""));
        change("insert rule ip kuma-mesh nat_output_last ip daddr 10.1.2.3 tcp dport 4711 ct mark 5 counter drop");
        change("insert rule ip kuma-mesh nat_output_last tcp dport 4712 accept");
        let read = now();
        let rules = Simulator::of_installed(&read).unwrap();
        rules.expect("tcp 10.1.2.4:4711").redirected_to(15001);
        // What is let pass by nat is dropped behind it.
        rules.expect("tcp 10.1.2.3:4712").dropped();
        let outcome = rules.run(&"tcp 10.1.2.3:4711".parse().unwrap());
        assert!(matches!(outcome.verdict, Verdict::Undecided { .. }), "{outcome}");
        let step = outcome.deciding().unwrap();
        assert_eq!((step.chain(), step.number()), ("nat_output_last", Some(2)));
        assert_eq!(step.rule().unwrap(), "ip daddr 10.1.2.3 tcp dport 4711 ct cmp counter drop");
    });
}

#[test]
fn what_is_not_ours_is_found_in_its_place() {
    isolated(|| {
        let plan = of("all DNS");
        Netlink::default().apply(&plan).unwrap();
        let change = |command: &str| drop(run("nft", &[command], ""));
        let chain = || now().native[0].chain("nat_output_last").unwrap().clone();
        let before = chain();

        // One that ours could be as well.
        change("insert rule ip kuma-mesh nat_output_last tcp dport 4711 accept");
        let after = chain();
        assert_eq!(after.rules[0].as_ref().unwrap().action, Action::Accept);
        assert_eq!(after.rules[1..], before.rules);

        change(
            "insert rule ip kuma-mesh nat_output_last ip daddr 10.1.2.3 tcp dport 4711 ct mark 5 counter drop comment \"mine\"",
        );
        let foreign = chain().rules[0].clone().unwrap_err();
        assert_eq!(foreign.text, "ct cmp counter drop comment \"mine\"");
        assert_eq!(foreign.conditions.len(), 3, "{foreign:?}");
        assert_eq!(chain().rules[1..], after.rules);

        // Not what the same condition would be in a rule of ours: it holds for no packet without an owner.
        change("insert rule ip kuma-mesh nat_output_last meta skuid != 0 accept");
        assert_eq!(chain().rules[0].clone().unwrap_err().text, "meta cmp accept");
        // Of any protocol.
        change("insert rule ip kuma-mesh nat_output_last th dport 53 accept");
        assert_eq!(chain().rules[0].clone().unwrap_err().conditions, []);
        change("insert rule ip kuma-mesh nat_output_last ip daddr { 10.0.0.1, 10.0.0.2 } accept");
        assert!(
            chain().rules[0].clone().unwrap_err().text.starts_with("payload lookup @__set"),
            "{:?}",
            chain().rules[0]
        );

        change("add chain ip kuma-mesh odd { type filter hook output priority 3; policy drop; }");
        change("add chain ip kuma-mesh odder { type route hook output priority 3; }");
        change("add chain ip kuma-mesh log_");
        let read = now();
        let odd = read.native[0].chain("odd").unwrap();
        assert!(odd.drops && odd.rules.is_empty());
        assert_eq!(odd.base.clone().unwrap().unwrap().hook, BuiltinChain::Output);
        let odder = read.native[0].chain("odder").unwrap();
        assert_eq!(odder.base.clone().unwrap().unwrap_err().text, "type route hook 3 priority 3");
        assert_eq!(read.native[0].chain("log_").unwrap().base, None);

        change("add table ip kuma-mesh { flags dormant; }");
        let read = now();
        assert!(read.native[0].dormant && !read.native[1].dormant);
        // The other table is as it was.
        assert_eq!(found(&read.native[1]), described(Native::of(&plan).v6.as_ref().unwrap()));
    });
}

#[test]
fn tables_of_others_are_read() {
    isolated(|| {
        for table in ["inet firewalld", "ip docker", "bridge b", "netdev n", "ip nat", "ip kuma-mesh"] {
            run("nft", &[&format!("add table {table}")], "");
        }
        run("nft", &["add table bridge c { chain f { type filter hook forward priority 0; drop; }; }"], "");
        let rules = "add chain ip docker o { type nat hook output priority -150; policy drop; }; add rule ip docker o ip daddr \
                     10.0.0.0/8 tcp dport { 80, 443-444 } counter redirect to :9999 comment \"theirs\"; add rule ip docker o meta \
                     mark 7 ct state new dnat to 10.0.0.1";
        run("nft", &[rules], "");
        let read = now();
        let mut titles: Vec<_> = read.foreign.iter().map(|table| table.title.as_str()).collect();
        titles.sort();
        assert_eq!(titles, ["inet firewalld", "ip docker", "ip kuma-mesh", "netdev n"]);
        assert_eq!((&read.others[..], read.unknown().len()), (&["bridge c".to_owned()][..], 1));
        assert!(read.native.is_empty());
        let docker = read.foreign.iter().find(|table| table.name == "docker").unwrap();
        let chain = &docker.chains[0];
        let base = chain.base.as_ref().unwrap();
        assert_eq!((base.kind, base.hook), (ChainType::Nat, OtherHook::Builtin(BuiltinChain::Output)));
        assert_eq!((base.priority, base.drops, docker.has_a_say()), (-150, true, true));
        let [first, second] = &chain.rules[..] else { panic!("{chain:?}") };
        assert_eq!(first.text, "ip daddr 10.0.0.0/8 tcp dport @__set0 counter redirect to :9999");
        assert_eq!(first.comment.as_deref(), Some("theirs"));
        let mark = if cfg!(target_endian = "little") { "0x07000000" } else { "0x00000007" };
        assert_eq!(second.text, format!("meta mark == {mark} ct state new dnat to 10.0.0.1"));
    });
}

/// In a user namespace, rules cannot name the users of our plans.
fn all_users_are_mapped() -> bool {
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| map.contains("4294967295"))
}

fn program(family: FamilyName, mode: IptablesMode, suffix: &str) -> String {
    let prefix = if family == FamilyName::V4 { "iptables" } else { "ip6tables" };
    format!("/usr/sbin/{prefix}-{mode}{suffix}")
}

#[test]
fn rules_by_iptables_are_read_back_with_those_of_others() {
    isolated(|| {
        if !all_users_are_mapped() || !Path::new("/usr/sbin/iptables-legacy").exists() {
            return skipped("all users have to be there, and the programs of both modes");
        }
        let plan = plan(&Config::default(), &[], false);
        let v6 = plan.v6.as_ref().unwrap();
        for mode in IptablesMode::ALL {
            let restore = |family, text: &str| drop(run(&program(family, mode, "-restore"), &["--noflush"], text));
            restore(FamilyName::V4, &iptables::ruleset(&plan.v4, Style::Short));
            restore(FamilyName::V6, &iptables::ruleset(v6, Style::Short));
            // The address that belongs to them is no rule.
            assert!(now().missing[0].contains("::6"));
            run("ip", &["addr", "add", "::6/128", "dev", "lo"], "");
            let read = now();
            run("ip", &["addr", "del", "::6/128", "dev", "lo"], "");
            let listing = read.iptables.iter().find(|listing| listing.mode == mode).unwrap();
            assert_eq!(listing.v4.ruleset().unwrap().canonical(), plan.v4.canonical());
            assert_eq!(listing.v6.ruleset().unwrap().canonical(), v6.canonical());
            assert!(listing.unread.is_empty() && read.notes.is_empty(), "{read:?}");
            assert_eq!(read.engine(), Some(EngineName::Iptables));
            if mode == IptablesMode::ALL[0] {
                agrees("default", &plan, EngineName::Iptables, &read);
                let diff =
                    Simulator::of(&plan, EngineName::Iptables).diff(&Simulator::of_installed_ours(&read).unwrap());
                assert!(diff.is_empty(), "{diff}");
            }

            restore(
                FamilyName::V4,
                "*nat\n\
                 -I OUTPUT 1 -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:41000\n\
                 -A PREROUTING -m addrtype --dst-type LOCAL -j RETURN\n\
                 COMMIT\n\
                 *filter\n\
                 :FORWARD DROP\n\
                 :FORWARD_2 -\n\
                 -A FORWARD -p icmp -m conntrack --ctstate RELATED,ESTABLISHED -g FORWARD_2\n\
                 COMMIT\n",
            );
            // The address that belongs to them is no rule.
            assert!(now().missing[0].contains("::6"));
            run("ip", &["addr", "add", "::6/128", "dev", "lo"], "");
            let read = now();
            run("ip", &["addr", "del", "::6/128", "dev", "lo"], "");
            let listing = read.iptables.iter().find(|listing| listing.mode == mode).unwrap();
            let nat = listing.v4.table("nat").unwrap().in_effect().unwrap();
            let docker = nat["OUTPUT"][0].parts();
            assert!(docker.matches.iter().all(|part| matches!(part, PartialMatch::Known(_))), "{docker:?}");
            assert!(matches!(&docker.target, PartialTarget::Unknown { name, .. } if name == "DNAT"));
            let local = nat["PREROUTING"].last().unwrap().parts();
            assert_eq!(local.matches, [PartialMatch::Known(Match::Local { end: End::Destination })]);
            let filter = listing.v4.table("filter").unwrap();
            let forward = filter.in_effect().unwrap()["FORWARD"][0].parts();
            assert_eq!(forward.target, PartialTarget::Goto { chain: "FORWARD_2".into() });
            assert_eq!(forward.matches[0], PartialMatch::Protocol { number: 1, negated: false });
            assert!(matches!(forward.matches[1], PartialMatch::CtState { negated: false, .. }));
            let policy = &filter.chains.iter().find(|chain| chain.name == "FORWARD").unwrap().policy;
            assert_eq!(policy.as_deref(), Some("DROP"));
        }
        assert_eq!(now().iptables.iter().map(|listing| listing.mode).collect::<Vec<_>>(), IptablesMode::ALL);
    });
}

#[test]
fn what_no_program_can_read_is_said() {
    isolated(|| {
        let script = |script: &str| drop(run("nft", &["-f", "-"], script));
        let output = "type nat hook output priority -100;";
        for (table, nft) in [
            // In the words of iptables, these would be rules for other packets, or for all.
            ("nat", format!("table ip nat {{ chain OUTPUT {{ {output} tcp dport {{ 1, 2 }} accept; }}; }}")),
            ("nat", format!("table ip nat {{ chain OUTPUT {{ {output} ct state new counter accept; }}; }}")),
            ("nat", "table ip nat { chain odd { type nat hook output priority 7; }; }".to_owned()),
            ("", format!("table ip nat {{ chain OUTPUT {{ {output} meta skuid 7 accept; }}; }}")),
        ] {
            script(&nft);
            let read = now();
            let [listing] = &read.iptables[..] else { panic!("{read:?}") };
            assert_eq!(listing.mode, IptablesMode::Nft);
            let unread: Vec<_> =
                listing.unread.iter().map(|u| (u.family, u.table.as_deref().unwrap_or_default())).collect();
            assert_eq!(unread, [(FamilyName::V4, table)], "{nft}");
            assert_eq!(read.notes.len(), 1, "{nft}");
            script("delete table ip nat");
        }
        script("table ip nat { set s { type ipv4_addr; }; }");
        assert_eq!(
            now().notes[0].text,
            "the table nat (IPv4, nft) could not be read: it has sets, which the iptables programs do not show"
        );
        script("add table ip6 filter");

        // Without the programs.
        for directory in ["/usr/sbin", "/sbin"] {
            if !Path::new(directory).is_symlink() {
                run("mount", &["-t", "tmpfs", "tmpfs", directory], "");
            }
        }
        let read = now();
        let unread: Vec<_> =
            read.iptables[0].unread.iter().map(|unread| (unread.family, unread.table.clone())).collect();
        assert_eq!(unread, [(FamilyName::V4, None), (FamilyName::V6, None)]);
        assert!(read.notes[0].text.contains("no program iptables-nft"), "{:?}", read.notes);
    });
}

#[test]
fn another_namespace_is_read_from_outside() {
    isolated(|| {
        run("ip", &["netns", "add", "pod"], "");
        let path = "/run/netns/pod";
        run("ip", &["netns", "exec", "pod", "nft", "add table inet there"], "");
        run("ip", &["-n", "pod", "link", "set", "lo", "name", "loop"], "");
        let plan = plan(&Config::default(), &[], false);
        Netlink::default().in_namespace(Namespace::open(path).unwrap()).apply(&plan).unwrap();
        let read = installed(Some(&Namespace::open(path).unwrap())).unwrap();
        assert_eq!(read.native.len(), 2);
        let titles: Vec<_> = read.foreign.iter().map(|table| table.title.as_str()).collect();
        assert_eq!((titles, read.others.len()), (vec!["inet there"], 0));
        let unknown = read.unknown();
        assert_eq!(unknown, read.notes);
        assert_eq!((read.engine(), read.loopback.as_str()), (Some(EngineName::Netlink), "loop"));
        let here = now();
        assert_eq!((here.engine(), here.loopback.as_str()), (None, "lo"));
        assert_eq!(here.unknown(), here.notes);
    });
}
