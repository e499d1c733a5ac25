//! Laws that hold for every input, tried with random ones.

#[path = "common/generate.rs"]
mod generate;

use std::fmt::{Debug, Display};
use std::str::FromStr;

use arbitrary::Unstructured;
use arbtest::arbtest;
use kumatp::config::{Config, GidExclusion, UidExclusion, VirtualNetwork};
use kumatp::facts::Facts;
use kumatp::iptables_save;
use kumatp::model::{
    BuiltinChain, Chain, ChainName, Comment, LogLevel, LogPrefix, Placement, Plan, Rule, Ruleset, Table, TableName,
    Target,
};
use kumatp::net::{
    AnyCidr, Cidr, Family, GidRange, InterfacePattern, Port, PortRange, PortSet, Protocol, Uid, UidRange, V4, V6,
};
use kumatp::policy::plan;
use kumatp::render::iptables::{self, Style};

/// How long each law is tried.
const BUDGET_MS: u64 = 400;

/// Printing and parsing again gives an equal value, and the same print.
fn prints_what_it_parses<T: FromStr<Err: Debug> + Display + PartialEq + Debug>(
    text: impl Fn(&mut Unstructured<'_>) -> arbitrary::Result<String>,
) {
    arbtest(|u| {
        let text = text(u)?;
        let value: T = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error:?}"));
        let printed = value.to_string();
        let again: T = printed.parse().unwrap_or_else(|error| panic!("{printed:?}: {error:?}"));
        assert_eq!(again, value);
        assert_eq!(again.to_string(), printed);
        Ok(())
    })
    .budget_ms(BUDGET_MS / 4);
}

#[test]
fn values_are_printed_as_they_are_parsed() {
    prints_what_it_parses::<Port>(generate::port);
    prints_what_it_parses::<PortRange>(generate::port_range);
    prints_what_it_parses::<PortSet>(|u| generate::ports(u, 0));
    prints_what_it_parses::<UidRange>(generate::ids);
    prints_what_it_parses::<GidRange>(generate::ids);
    prints_what_it_parses::<AnyCidr>(generate::cidr);
    prints_what_it_parses::<InterfacePattern>(generate::interface);
    prints_what_it_parses::<ChainName>(|u| generate::word(u, ChainName::MAX));
    prints_what_it_parses::<LogPrefix>(|u| generate::word(u, 29));
    prints_what_it_parses::<Comment>(|u| Ok(Comment::lossy(u.arbitrary()?).to_string()));
    prints_what_it_parses::<UidExclusion>(generate::owner_exclusion);
    prints_what_it_parses::<GidExclusion>(generate::owner_exclusion);
    prints_what_it_parses::<VirtualNetwork>(generate::virtual_network);
}

#[test]
fn prefixes_of_one_family_are_those_of_any() {
    arbtest(|u| {
        let text = generate::cidr(u)?;
        match text.parse::<AnyCidr>().unwrap() {
            AnyCidr::V4(cidr) => {
                assert_eq!(text.parse::<Cidr<V4>>().unwrap(), cidr);
                assert!(text.parse::<Cidr<V6>>().is_err());
                assert!(cidr.contains(cidr.first()) && cidr.contains(cidr.last()));
            }
            AnyCidr::V6(cidr) => {
                assert_eq!(text.parse::<Cidr<V6>>().unwrap(), cidr);
                assert!(text.parse::<Cidr<V4>>().is_err());
                assert!(cidr.contains(cidr.first()) && cidr.contains(cidr.last()));
            }
        }
        Ok(())
    })
    .budget_ms(BUDGET_MS / 4);
}

#[test]
fn merged_and_split_port_sets_hold_the_same_ports() {
    arbtest(|u| {
        let set: PortSet = generate::ports(u, 0)?.parse().unwrap();
        let merged = set.merged();
        let parts: Vec<PortSet> = set.split(15).collect();
        for _ in 0..50 {
            let port = Port::new(u.int_in_range(1..=u16::MAX)?).unwrap();
            assert_eq!(set.contains(port), merged.contains(port));
            assert_eq!(set.contains(port), parts.iter().any(|part| part.contains(port)));
        }
        assert!(parts.iter().all(|part| part.slots() <= 15));
        assert!(merged.ranges().windows(2).all(|w| w[0].last().number() + 1 < w[1].first().number()));
        Ok(())
    })
    .budget_ms(BUDGET_MS / 4);
}

fn any_plan(u: &mut Unstructured<'_>) -> arbitrary::Result<(Config, Facts, Plan)> {
    let (config, facts) = (generate::config(u)?, generate::facts(u)?);
    let plan = plan(&config, &facts).unwrap();
    Ok((config, facts, plan))
}

fn read_back<F: Family>(ruleset: &Ruleset<F>) {
    let canonical = ruleset.canonical();
    for style in [Style::Short, Style::Long] {
        let text = iptables::ruleset(ruleset, style);
        let saved = iptables_save::parse::<F>(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let read = saved.ruleset().unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read.canonical(), canonical, "{text}");
        comments_are_kept(ruleset, &saved);
    }
    for written in [iptables_save::write(ruleset), iptables_save::write(&canonical)] {
        let read = iptables_save::parse::<F>(&written).unwrap().ruleset().unwrap();
        assert_eq!(read.canonical(), canonical, "{written}");
        assert!(read.rules().all(|(_, _, rule)| rule.placement == Placement::Append));
    }
}

/// Comments do not count when rules are compared, so they are looked at here.
fn comments_are_kept<F: Family>(ruleset: &Ruleset<F>, saved: &iptables_save::Saved<F>) {
    let expected = ruleset.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| {
        chain.rules.iter().cloned().flat_map(Rule::split_multiport).map(|rule| rule.comment.map(|c| c.to_string()))
    });
    let found = saved.tables.iter().flat_map(|table| &table.rules).map(|rule| rule.comment());
    assert!(expected.eq(found));
}

#[test]
fn what_is_rendered_is_read_back() {
    arbtest(|u| {
        let (_, _, plan) = any_plan(u)?;
        read_back(&plan.v4);
        if let Some(v6) = &plan.v6 {
            read_back(v6);
        }
        let texts = iptables_save::families(&iptables::plan(&plan));
        let v4 = iptables_save::parse::<V4>(&texts.v4.unwrap()).unwrap().ruleset().unwrap();
        assert_eq!(v4.canonical(), plan.v4.canonical());
        let v6 = texts.v6.map(|text| iptables_save::parse::<V6>(&text).unwrap().ruleset().unwrap().canonical());
        assert_eq!(v6, plan.v6.as_ref().map(Ruleset::canonical));
        Ok(())
    })
    .budget_ms(4 * BUDGET_MS);
}

#[test]
fn same_inputs_same_bytes() {
    arbtest(|u| {
        let (config, facts, first) = any_plan(u)?;
        let second = plan(&config.clone(), &facts.clone()).unwrap();
        assert_eq!(first, second);
        assert_eq!(iptables::plan(&first), iptables::plan(&second));
        assert_eq!(serde_json::to_string(&first).unwrap(), serde_json::to_string(&second).unwrap());
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}

#[test]
fn no_rule_names_more_ports_than_multiport_takes() {
    arbtest(|u| {
        let (_, _, plan) = any_plan(u)?;
        for line in iptables::plan(&plan).lines().filter(|line| line.contains(" multiport ")) {
            let words = words(line);
            let option = words.iter().position(|w| ["--dport", "--destination-port"].contains(&w.as_str())).unwrap();
            let slots: usize = words[option + 1].split(',').map(|item| item.split(':').count()).sum();
            assert!((1..=15).contains(&slots), "{line}");
        }
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}

/// The words of a line; a quoted text is one. Ours never have a quote within quotes.
fn words(line: &str) -> Vec<String> {
    let parts = line.split('"').enumerate();
    parts
        .flat_map(|(index, part)| match index % 2 {
            0 => part.split_ascii_whitespace().map(str::to_owned).collect(),
            _ => vec![part.to_owned()],
        })
        .collect()
}

/// Texts that would add a line, a word, an option or a comment if they got into a rule.
const HOSTILE: &[&str] = &[
    "\n",
    "\r",
    "\r\n",
    "\0",
    "\t",
    "\u{b}",
    "\u{c}",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{2029}",
    "\u{feff}",
    "\u{202e}",
    "\u{1b}[2J",
    " ",
    "\"",
    "\\",
    "\\\"",
    "'",
    "`",
    "$",
    "$(reboot)",
    "#",
    "!",
    "-",
    "--",
    "-j ACCEPT",
    " -j ACCEPT",
    "\" -j ACCEPT \"",
    "\n-A OUTPUT -j ACCEPT",
    "\nCOMMIT\n*filter\n",
    "COMMIT",
    "*nat",
    ":OUTPUT",
    "--dport 1",
    ",",
    ",,",
    ":",
    "/",
    "0",
    "é",
    "🦀",
    "１",
    "%s",
    "%n",
    "../",
    ";",
    "{",
    "}",
    "&",
    "|",
    "<",
    ">",
    "]]>",
    "+",
    "@",
];

/// A text that is right, with hostile ones put into it; or a hostile one alone.
fn hostile(u: &mut Unstructured<'_>, right: &str) -> arbitrary::Result<String> {
    let mut text = if u.ratio(1, 8)? { String::new() } else { right.to_owned() };
    for _ in 0..u.int_in_range(1..=2)? {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
        text.insert_str(*u.choose(&places)?, u.choose(HOSTILE)?);
    }
    Ok(text)
}

/// What a rendered text looks like: how many words each line has.
fn shape(text: &str) -> Vec<usize> {
    text.split('\n').map(|line| words(line).len()).collect()
}

/// Whether the configuration's text has the shape of that with harmless values, and reads back as
/// the same rules.
fn assert_harmless(text: &str, config: &Config, facts: &Facts, expected: &[usize]) {
    let plan = plan(config, facts).unwrap();
    let rendered = iptables::plan(&plan);
    assert_eq!(shape(&rendered), expected, "{text:?} in\n{rendered}");
    assert!(rendered.chars().all(|c| c == '\n' || !c.is_control()), "{text:?} in\n{rendered}");
    read_back(&plan.v4);
    if let Some(v6) = &plan.v6 {
        read_back(v6);
    }
}

/// Tries hostile texts in one place of a configuration. Those that are refused are right so; any
/// other must give the same lines as `right`.
fn try_hostile<T: FromStr + Clone>(right: &str, set: impl Fn(&mut Config, &mut Facts, T))
where
    T::Err: Debug,
{
    let base = || {
        let mut config = Config::default();
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        (config, Facts::capable_host(Uid::SIDECAR))
    };
    let (mut config, mut facts) = base();
    set(&mut config, &mut facts, right.parse().unwrap());
    let expected = shape(&iptables::plan(&plan(&config, &facts).unwrap()));
    let attempt = |text: &str| {
        if let Ok(value) = text.parse::<T>() {
            let (mut config, mut facts) = base();
            set(&mut config, &mut facts, value);
            assert_harmless(text, &config, &facts, &expected);
        }
    };
    for text in HOSTILE {
        attempt(text);
        attempt(&format!("{right}{text}"));
        attempt(&format!("{text}{right}"));
    }
    arbtest(|u| {
        attempt(&hostile(u, right)?);
        Ok(())
    })
    .budget_ms(BUDGET_MS / 4);
}

#[test]
fn hostile_text_cannot_add_to_rules() {
    try_hostile::<Port>("15001", |config, _, port| config.redirect.outbound.port = port);
    try_hostile::<PortRange>("80", |config, _, range| config.redirect.inbound.exclude_ports = range.into());
    try_hostile::<InterfacePattern>("eth0", |_, facts, interface| facts.loopback = interface);
    try_hostile::<ChainName>("KUMA_MESH_X", |config, _, name| {
        // A chain that is built in, or ours, has rules of its own.
        if name.as_str().starts_with("KUMA_MESH_X") || name.builtin().is_none() {
            config.redirect.inbound.chains.decide = name;
        }
    });
    try_hostile::<Protocol>("tcp", |config, _, protocol: Protocol| {
        config.redirect.outbound.exclude_ports_for_uids = vec![format!("{protocol}:1:1").parse().unwrap()];
    });
    try_hostile::<LogLevel>("7", |config, _, level| {
        config.log.enabled = true;
        config.log.level = level;
    });
    try_hostile::<Uid>("5678", |_, facts, uid| facts.sidecar_uid = uid);
}

#[test]
fn hostile_text_cannot_add_to_lists() {
    // A list may get longer, but each item stays one word; so the lines that it makes are those of
    // as many harmless items.
    try_hostile::<UidExclusion>("tcp:80:1000", |config, _, exclusion: UidExclusion| {
        let protocols = exclusion.protocols.len();
        config.redirect.outbound.exclude_ports_for_uids = vec![exclusion];
        if protocols == 1 {
            config.redirect.outbound.exclude_ports_for_uids.push("udp:1:1".parse().unwrap());
        }
    });
    try_hostile::<GidExclusion>("tcp:80:1000", |config, _, exclusion: GidExclusion| {
        let protocols = exclusion.protocols.len();
        config.redirect.outbound.exclude_ports_for_gids = vec![exclusion];
        if protocols == 1 {
            config.redirect.outbound.exclude_ports_for_gids.push("udp:1:1".parse().unwrap());
        }
    });
    try_hostile::<PortSet>("80", |config, _, ports: PortSet| {
        let first = ports.ranges().first().copied().unwrap_or(PortRange::ALL);
        config.redirect.inbound.exclude_ports = first.into();
    });
    for right in ["10.0.0.0/8", "fd00::/8"] {
        let v4 = right.parse::<Cidr<V4>>().is_ok();
        try_hostile::<AnyCidr>(right, move |config, _, cidr: AnyCidr| {
            // An item that turned to the other family makes its line there.
            let same = matches!(cidr, AnyCidr::V4(_)) == v4;
            let harmless = right.parse().unwrap();
            config.redirect.outbound.exclude_ips = vec![if same { cidr } else { harmless }];
        });
    }
    try_hostile::<VirtualNetwork>("docker0:172.17.0.0/16", |config, _, network: VirtualNetwork| {
        let same = matches!(network.network, AnyCidr::V4(_));
        let harmless = "docker0:172.17.0.0/16".parse().unwrap();
        config.redirect.vnet = vec![if same { network } else { harmless }];
    });
}

#[test]
fn hostile_comments_and_log_prefixes_stay_one_word() {
    let rule = |comment: Comment, prefix: LogPrefix| {
        let mut rule = Rule::<V4>::new(Target::Log { prefix, level: LogLevel::DEBUG });
        rule.comment = Some(comment);
        rule
    };
    let ruleset = |rule: Rule<V4>| {
        let mut chain = Chain::builtin(BuiltinChain::Output);
        chain.push(rule);
        Ruleset::new([Table::new(TableName::Nat, [chain])])
    };
    let check = |text: &str| {
        let harmless: LogPrefix = "OUTPUT:".parse().unwrap();
        let prefix = text.parse().unwrap_or(harmless);
        for comment in [Some(Comment::lossy(text)), Some(Comment::ours(text)), text.parse().ok()].into_iter().flatten()
        {
            let ruleset = ruleset(rule(comment.clone(), prefix.clone()));
            for style in [Style::Short, Style::Long] {
                let line = iptables::ruleset(&ruleset, style);
                let line = line.split('\n').find(|line| line.contains("LOG")).unwrap().to_owned();
                assert_eq!(words(&line).len(), 12, "{line:?}");
            }
            read_back(&ruleset);
        }
    };
    for text in HOSTILE {
        check(text);
    }
    arbtest(|u| {
        check(&hostile(u, "a comment")?);
        check(u.arbitrary::<&str>()?);
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}

#[test]
fn no_text_makes_the_parsers_panic() {
    arbtest(|u| {
        let mut text = String::new();
        for _ in 0..u.int_in_range(0..=30)? {
            let piece: &str = u.choose(&[
                "*nat\n",
                "COMMIT\n",
                ":X - [0:0]\n",
                "-A X ",
                "-I X 2 ",
                "-N ",
                "[1:2] ",
                "-p tcp ",
                "-m multiport ",
                "--dport ",
                "80 ",
                "! ",
                "\"",
                "\\",
                "\n",
                "-j ",
                "X ",
                "--comment ",
                "-m comment ",
                "### IPv6 ###\n",
                "é",
            ])?;
            text.push_str(piece);
        }
        if u.ratio(1, 4)? {
            text.push_str(u.arbitrary()?);
        }
        if let Ok(saved) = iptables_save::parse::<V4>(&text) {
            let _ = saved.ruleset();
            for rule in saved.tables.iter().flat_map(|table| &table.rules) {
                let _ = (rule.comment(), rule.target().map(str::to_owned));
            }
        }
        let _ = iptables_save::to_json(&text);
        Ok(())
    })
    .budget_ms(BUDGET_MS);
}
