//! What Kuma's own programs, kuma-dp and kumactl, make of documents that are valid here: every key in every form that its value
//! can have. The expectations were seen with the libraries that they read YAML and JSON with.
#![cfg(feature = "yaml")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use arbtest::arbtest;
use kumatp::config::{Config, Format, Key, KumaDifference, KumaProgram, UidExclusion};
use kumatp::model::IpFamilyMode;

#[path = "common/generate.rs"]
#[expect(dead_code, reason = "facts are not needed here")]
mod generate;

/// What the programs that read a key make of a value.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Expected {
    /// The same as kumatp.
    Same,
    /// They refuse the document.
    Refused,
    /// They read something else, or nothing.
    Otherwise,
}
use Expected::{Otherwise, Refused, Same};

/// The keys that kuma-dp reads. kumactl reads all.
const OF_KUMA_DP: [&str; 8] = [
    "ipFamilyMode",
    "redirect.inbound.enabled",
    "redirect.inbound.port",
    "redirect.outbound.enabled",
    "redirect.outbound.port",
    "redirect.dns.enabled",
    "redirect.dns.port",
    "redirect.vnet.networks",
];

const SWITCH: &[(&str, Expected)] = &[
    ("true", Same),
    ("False", Same),
    ("", Same),
    ("~", Same),
    ("yes", Same),
    ("Off", Same),
    ("y", Same),
    ("'yes'", Refused),
    ("\"off\"", Refused),
    ("'true'", Refused),
    ("\"false\"", Refused),
    ("yEs", Refused),
    ("tRUE", Refused),
];

const PORT: &[(&str, Expected)] = &[
    ("15001", Same),
    ("0x3a99", Same),
    ("+15001", Same),
    ("0159", Same),
    ("'15001'", Refused),
    ("\" 15001 \"", Refused),
    ("|-\n  15001", Refused),
    ("", Refused),
    ("null", Refused),
    ("015001", Otherwise),
    ("'015001'", Refused),
];

const PORTS: &[(&str, Expected)] = &[
    ("[]", Same),
    ("80", Same),
    ("'80'", Same),
    ("80, 443", Same),
    ("' 80 ,,443'", Same),
    ("[80, '443', ' 8080 ']", Same),
    ("['022']", Same),
    ("''", Same),
    ("[022]", Otherwise),
    ("022", Otherwise),
    ("", Refused),
    ("3000-5000", Refused),
    ("[3000-5000]", Refused),
    ("[80, '3000:5000']", Refused),
    ("'80,90-91'", Refused),
    ("['22-22']", Refused),
];

const NUMBER: &[(&str, Expected)] =
    &[("5", Same), ("", Same), ("05", Same), ("0x5", Same), ("'5'", Refused), ("\"05\"", Refused)];

const DURATION: &[(&str, Expected)] = &[
    ("2s", Same),
    ("'2s'", Same),
    ("+1m30s", Same),
    ("2000000000", Same),
    ("0", Same),
    ("'0'", Same),
    ("02", Same),
    ("010", Otherwise),
    ("", Refused),
    ("'2000000000'", Refused),
    ("' 2s'", Refused),
    ("'\"2s\"'", Refused),
];

const TEXT: &[(&str, Expected)] = &[
    ("abc", Same),
    ("", Same),
    ("''", Same),
    ("5678", Same),
    ("'5678'", Same),
    ("'05678'", Same),
    ("05678", Otherwise),
    ("yes", Otherwise),
    ("'yes'", Same),
    ("1_000", Otherwise),
];

const UIDS: &[(&str, Expected)] = &[
    ("[]", Same),
    ("", Same),
    ("[1000]", Same),
    ("['tcp:80:1000', '1000-2000', '*:*:5', ':53:6', 'udp::7']", Same),
    ("['TCP, udp:80:5']", Same),
    ("['1,2,3,4,5,6,7,8,9,10,11,12,13,14,15:5']", Same),
    ("['1-65535:5']", Same),
    ("''", Refused),
    ("1000", Refused),
    ("'tcp:80:1000'", Refused),
    ("[65536]", Refused),
    ("['tcp:80:60000-70000']", Refused),
    ("['tcp: 80:1']", Refused),
    ("['80 :1']", Refused),
    ("[' 5']", Refused),
    ("['1-2,3,4,5,6,7,8,9,10,11,12,13,14,15,16:5']", Refused),
    ("[0100]", Otherwise),
];

const ADDRESSES: &[(&str, Expected)] = &[
    ("[]", Same),
    ("~", Same),
    ("[10.0.0.1, 'fd00::/8', '10.0.0.0/8,10.1.0.1']", Same),
    ("10.0.0.1", Refused),
    ("''", Refused),
    ("['::ffff:10.0.0.1']", Refused),
    ("['fd00::1, ::ffff:10.0.0.1']", Refused),
];

const NETWORKS: &[(&str, Expected)] = &[
    ("[]", Same),
    ("~", Same),
    ("['docker0:172.17.0.0/16', 'docker0:fd00::/64', 'br+:10.0.0.0/8']", Same),
    ("'docker0:172.17.0.0/16'", Refused),
    ("''", Refused),
    ("['docker0:172.17.0.0/16', 'docker0:172.18.0.0/16']", Otherwise),
];

/// Keys that Kuma 3 does not have.
const OWN_SWITCH: &[(&str, Expected)] =
    &[("true", Otherwise), ("yes", Otherwise), ("false", Same), ("'no'", Same), ("", Same)];
const OWN_LIST: &[(&str, Expected)] = &[("['10']", Same), ("[]", Same), ("", Same)];
/// What says where eBPF programs are, which means nothing as long as they are not asked for.
const NO_MATTER: &[(&str, Expected)] = &[("/a", Same), ("'5'", Same), ("", Same)];

/// The forms of the values of a key.
fn forms(path: &str) -> Vec<(&'static str, Expected)> {
    let forms = match path {
        "kumaDPUser" => TEXT,
        "ipFamilyMode" => &[
            ("dualstack", Same),
            ("DualStack", Same),
            ("'ipv4'", Same),
            ("", Same),
            ("''", Same),
            ("IPv4", Otherwise),
            ("required", Refused),
            ("Required", Refused),
            ("' ipv4'", Refused),
        ],
        "log.level" | "wait" | "waitInterval" | "retry.maxRetries" => NUMBER,
        "retry.sleepBetweenRetries" => DURATION,
        "redirect.dns.resolvConfigPath" => TEXT,
        "redirect.vnet.networks" => NETWORKS,
        "redirect.inbound.excludePortsForUIDs" => &[("[]", Same), ("", Same), ("''", Refused)],
        "redirect.outbound.excludePortsForUIDs" => UIDS,
        "redirect.outbound.includeIPs" => return own(&[("[10.0.0.1]", Otherwise)]),
        "redirect.outbound.excludePortsForGIDs" => return own(&[("[5]", Otherwise), ("'5'", Otherwise)]),
        "harden" | "ebpf.enabled" => OWN_SWITCH,
        path if path.ends_with("PortsForIPs") => ADDRESSES,
        path if path.ends_with("Ports") => PORTS,
        path if path.ends_with(".port") => PORT,
        path if path.starts_with("iptablesExecutables.") => TEXT,
        path if path.starts_with("ebpf.") => NO_MATTER,
        _ => SWITCH,
    };
    forms.to_vec()
}

fn own(forms: &[(&'static str, Expected)]) -> Vec<(&'static str, Expected)> {
    let empty = OWN_LIST.iter().filter(|(value, _)| !value.contains('1'));
    empty.chain(forms).copied().collect()
}

/// A document with one key.
fn document(path: &str, value: &str) -> String {
    let mut text = String::new();
    for (depth, name) in path.split('.').enumerate() {
        let _ = write!(text, "{}{}{name}:", if depth > 0 { "\n" } else { "" }, "  ".repeat(depth));
    }
    // Block scalars stand deeper than their key.
    format!("{text} {}\n", value.replace('\n', &format!("\n{}", "  ".repeat(path.split('.').count()))))
}

fn outcome(differences: &[KumaDifference]) -> Expected {
    match differences {
        [] => Same,
        several if several.iter().any(|one| one.refused) => Refused,
        _ => Otherwise,
    }
}

#[test]
fn every_form_of_every_key() {
    let mut seen = BTreeSet::new();
    for key in Key::all().filter(|key| key.in_documents()) {
        let forms = forms(key.path());
        assert!(forms.len() >= 3, "{}", key.path());
        for (value, expected) in forms {
            let text = document(key.path(), value);
            let differences =
                KumaDifference::find(&text, Format::Yaml).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(outcome(&differences), expected, "{text}{differences:?}");
            for difference in differences {
                assert!(difference.path.starts_with(key.path()), "{text}{difference}");
                assert!(!difference.reason.is_empty() && difference.to_string().contains(&difference.reason));
                let by_kuma_dp = difference.concerns(KumaProgram::KumaDp);
                // What stands in a list of networks, kuma-dp does not look at.
                let item = difference.path.contains('[');
                assert_eq!(by_kuma_dp, OF_KUMA_DP.contains(&key.path()) && !item, "{text}{difference}");
                assert!(difference.concerns(KumaProgram::Kumactl), "{text}{difference}");
                assert_eq!(difference.to_problem().path, difference.path);
            }
            seen.insert(format!("{expected:?}"));
        }
    }
    assert_eq!(seen.len(), 3);
}

#[test]
fn json_has_its_own_traps() {
    for (text, expected) in [
        (r#"{"redirect": {"inbound": {"port": 15006}}}"#, Same),
        (r#"{"redirect": {"inbound": {"port": "15006"}}}"#, Refused),
        (r#"{"redirect": {"inbound": {"enabled": "yes"}}}"#, Refused),
        ("{redirect: {inbound: {enabled: yes}}}", Same),
        ("{redirect: {inbound: {enabled: yes}, outbound: {enabled: 'yes'}}}", Refused),
        (r#"{"kumaDPUser": "05678"}"#, Same),
        (r#"{"redirect": {"dns": {"resolvConfigPath": "\/etc\/resolv.conf"}}}"#, Refused),
        (r#"{"redirect": {"dns": {"resolvConfigPath": "\\/etc"}}}"#, Same),
        (r#"{"kumaDPUser": "\ud83d\ude00"}"#, Refused),
        (r#"{"kumaDPUser": "\u00e9"}"#, Same),
        ("%YAML 1.2\n---\nwait: 1\n", Refused),
        ("%YAML 1.1\n---\nwait: 1\n", Same),
        ("# %YAML 1.2\nwait: 1\n", Same),
    ] {
        let found = KumaDifference::find(text, Format::Yaml).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(outcome(&found), expected, "{text} {found:?}");
    }
    // Keys in whatever case, and groups without a value, are the same to all.
    assert_eq!(KumaDifference::find("REDIRECT:\nWait: 1\n", Format::Yaml), Ok(Vec::new()));
    let found = KumaDifference::find("Redirect: {INBOUND: {Port: '1'}}", Format::Yaml).unwrap();
    assert_eq!(found[0].path, "redirect.inbound.port");
    // Unknown here is unknown there.
    assert_eq!(KumaDifference::find("a: {b: '1'}", Format::Yaml), Ok(Vec::new()));
    assert!(KumaDifference::find("wait: x", Format::Yaml).is_err());
    assert!(KumaDifference::find("[", Format::Yaml).is_err());
}

#[test]
fn long_lists_are_told_in_short() {
    let ranges = "'1-2',".repeat(5_000);
    let found =
        KumaDifference::find(&format!("redirect: {{inbound: {{excludePorts: [{ranges}]}}}}"), Format::Yaml).unwrap();
    assert_eq!(found.len(), 100);
    assert!(found[99].reason.contains("4900 more items"), "{}", found[99]);
    // The text is read once, however many words there are to look for in it.
    let words = "0100,".repeat(100_000);
    let uids = format!("redirect: {{outbound: {{excludePortsForUIDs: [{words}]}}}}");
    assert_eq!(KumaDifference::find(&uids, Format::Yaml).unwrap().len(), 100);
}

#[test]
fn what_is_written_for_kuma_is_what_it_reads() {
    arbtest(|u| {
        let mut config = generate::config(u)?;
        config.harden = u.arbitrary()?;
        config.ebpf.enabled = u.ratio(1, 8)?;
        let words = ["5678", "05678", "yes", "n", "kuma-dp", "1_000", "~", "", "null", "0x10", "1e3", "true", "é"];
        config.kuma_dp_user = Some((*u.choose(&words)?).to_owned()).filter(|user| !user.is_empty());
        let (for_kuma, notes) = config.for_kuma();
        for (text, format) in
            [(for_kuma.to_yaml(), Format::Yaml), (for_kuma.to_json(), Format::Yaml), (for_kuma.to_json(), Format::Json)]
        {
            assert_eq!(KumaDifference::find(&text, format), Ok(Vec::new()), "{text}");
            let mut again = Config::parse(&text, format).unwrap();
            // No document has names of chains.
            again.redirect.inbound.chains = for_kuma.redirect.inbound.chains.clone();
            again.redirect.outbound.chains = for_kuma.redirect.outbound.chains.clone();
            assert_eq!(again, for_kuma, "{text}");
        }
        // What is lost is told, and nothing else is lost.
        if notes.is_empty() {
            let (mut before, mut after) = (config, for_kuma);
            for config in [&mut before, &mut after] {
                let redirect = &mut config.redirect;
                for ports in [
                    &mut redirect.inbound.include_ports,
                    &mut redirect.inbound.exclude_ports,
                    &mut redirect.outbound.include_ports,
                    &mut redirect.outbound.exclude_ports,
                ] {
                    *ports = ports.merged();
                }
                let exclusions = std::mem::take(&mut redirect.outbound.exclude_ports_for_uids);
                redirect.outbound.exclude_ports_for_uids = together(exclusions);
                config.ebpf = Default::default();
            }
            assert_eq!(before, after);
        }
        Ok(())
    })
    .budget_ms(3_000);
}

/// Exclusions that differ in ports only become one.
fn together(exclusions: Vec<UidExclusion>) -> Vec<UidExclusion> {
    let mut together: Vec<UidExclusion> = Vec::new();
    for exclusion in exclusions {
        match together.last_mut().filter(|last| last.uids == exclusion.uids && last.protocols == exclusion.protocols) {
            Some(last) => {
                last.ports = last.ports.ranges().iter().chain(exclusion.ports.ranges()).copied().collect();
            }
            None => together.push(exclusion),
        }
    }
    together
}

#[test]
fn every_loss_has_its_warning() {
    let text = "{ipFamilyMode: required, harden: true, ebpf: {enabled: true}, redirect: {outbound: {includeIPs: [10.0.0.1, 10.0.0.2],
        excludePortsForGIDs: [5], excludePortsForUIDs: [70000, 7]}, vnet: {networks: ['a:10.0.0.0/8', 'a:11.0.0.0/8', 'b:10.0.0.0/8']}}}";
    let (config, notes) = Config::parse(text, Format::Yaml).unwrap().for_kuma();
    let about: Vec<_> = notes.iter().map(|note| note.about.as_str()).collect();
    let outbound = |key: &str| format!("redirect.outbound.{key}");
    assert_eq!(
        about,
        [
            "ipFamilyMode",
            &outbound("includeIPs"),
            &outbound("includeIPs"),
            &outbound("excludePortsForGIDs"),
            &outbound("excludePortsForUIDs"),
            "harden",
            "ebpf.enabled",
            "redirect.vnet.networks"
        ]
    );
    assert!(notes[4].text.contains("70000") && notes[7].text.contains("a:10.0.0.0/8"), "{notes:?}");
    assert_eq!(config.ip_family_mode, IpFamilyMode::DualStack);
    assert_eq!(config.redirect.outbound.exclude_ports_for_uids.len(), 1);
    let networks: Vec<_> = config.redirect.vnet.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["a:11.0.0.0/8", "b:10.0.0.0/8"]);
}
