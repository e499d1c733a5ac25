//! The keys of a configuration: what each does, and what its value may be.

use std::fmt::Write as _;

use kumatp::Config;
use kumatp::config::Key;

use super::page::{Block, Item, Page, Section, items};

/// The form of a value.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Form {
    Addresses,
    Duration,
    /// No value at all.
    Empty,
    Groups,
    Level,
    Mode,
    Networks,
    Number,
    Path,
    Port,
    Ports,
    Switch,
    /// For Kuma 2.9; not needed here.
    Unneeded,
    User,
    Users,
}

use Form::*;

/// The keys that documents can hold, in the order of the library's table.
const KEYS: &[(&str, Form, &str)] = &[
    (
        "kumaDPUser",
        User,
        "The user that the sidecar runs as, by name or uid. Its traffic is not redirected. If not set: uid 5678, or the user kuma-dp.",
    ),
    (
        "ipFamilyMode",
        Mode,
        "`dualstack`: IPv4, and IPv6 where the kernel has it; the iptables engine also needs an IPv6 address besides loopback. `ipv4`: IPv4 only; IPv6 is not redirected. `required`: both, and an error without a usable IPv6 address.",
    ),
    ("redirect.inbound.enabled", Switch, "Redirect inbound connections. `false` for a gateway."),
    ("redirect.inbound.port", Port, "The sidecar's inbound listener."),
    (
        "redirect.inbound.includePorts",
        Ports,
        "If not empty, redirect connections to these ports of the workload only; excludePorts then has no effect.",
    ),
    ("redirect.inbound.excludePorts", Ports, "Ports of the workload that clients reach without the sidecar."),
    ("redirect.inbound.excludePortsForIPs", Addresses, "Clients that reach the workload without the sidecar."),
    (
        "redirect.inbound.excludePortsForUIDs",
        Empty,
        "Must be empty: the user who sends an inbound packet is not known.",
    ),
    (
        "redirect.inbound.insertRedirectInsteadOfAppend",
        Switch,
        "Insert the jump at the top of nat PREROUTING instead of appending it.",
    ),
    ("redirect.outbound.enabled", Switch, "Redirect outbound connections."),
    ("redirect.outbound.port", Port, "The sidecar's outbound listener."),
    (
        "redirect.outbound.includePorts",
        Ports,
        "If not empty, redirect connections to these ports only; excludePorts then has no effect.",
    ),
    (
        "redirect.outbound.includeIPs",
        Addresses,
        "If not empty, redirect connections to these destinations only. kumactl has no such key.",
    ),
    ("redirect.outbound.excludePorts", Ports, "Ports that the workload reaches without the sidecar."),
    (
        "redirect.outbound.excludePortsForIPs",
        Addresses,
        "Destinations that the workload reaches without the sidecar, DNS servers included.",
    ),
    ("redirect.outbound.excludePortsForUIDs", Users, "Users who reach some ports without the sidecar."),
    (
        "redirect.outbound.excludePortsForGIDs",
        Groups,
        "Groups that reach some ports without the sidecar. kumactl has no such key.",
    ),
    (
        "redirect.outbound.insertRedirectInsteadOfAppend",
        Switch,
        "Insert the jump at the top of nat OUTPUT instead of appending it.",
    ),
    ("redirect.dns.enabled", Switch, "Redirect DNS queries to the name servers of resolvConfigPath."),
    ("redirect.dns.captureAll", Switch, "Redirect queries to any server; needs redirect.dns.enabled."),
    ("redirect.dns.port", Port, "The sidecar's DNS listener."),
    (
        "redirect.dns.skipConntrackZoneSplit",
        Switch,
        "Do not track the queries of sidecar and workload in separate conntrack zones.",
    ),
    ("redirect.dns.resolvConfigPath", Path, "The file that lists the name servers."),
    (
        "redirect.vnet.networks",
        Networks,
        "Networks of virtual machines or containers whose traffic is treated as outbound.",
    ),
    ("dropInvalidPackets", Switch, "Drop packets that connection tracking finds invalid."),
    (
        "harden",
        Switch,
        "Add iptables rules that drop connections which were not redirected, as far as iptables can; the netlink engine always has them. kumactl has no such key.",
    ),
    ("storeFirewalld", Switch, "Also write the rules to firewalld's direct.xml."),
    ("verbose", Switch, "Long option names and headings in rules, and more notes."),
    ("dryRun", Switch, "Print the rules and change nothing."),
    ("cniMode", Switch, "For a CNI plugin: do not look up the sidecar's user on the host."),
    ("log.enabled", Switch, "Log every packet that reaches the rules, in the kernel log."),
    ("log.level", Level, "The level of these messages."),
    ("wait", Number, "Seconds to wait for the xtables lock."),
    ("waitInterval", Number, "Microseconds between attempts to take the lock; 0 leaves it to iptables."),
    ("retry.maxRetries", Number, "Retries after a transient failure of an iptables program."),
    ("retry.sleepBetweenRetries", Duration, "Pause before a retry."),
    ("comments.disabled", Switch, "Leave comments out of the rules."),
    ("iptablesExecutables.iptables", Path, "The program to use for IPv4; all three of a family are needed."),
    ("iptablesExecutables.iptables-save", Path, "The program that prints the rules for IPv4."),
    ("iptablesExecutables.iptables-restore", Path, "The program that loads rules for IPv4."),
    ("iptablesExecutables.ip6tables", Path, "The program to use for IPv6; all three of a family are needed."),
    ("iptablesExecutables.ip6tables-save", Path, "The program that prints the rules for IPv6."),
    ("iptablesExecutables.ip6tables-restore", Path, "The program that loads rules for IPv6."),
    ("ebpf.enabled", Switch, "Redirect sockets by eBPF programs instead of rules."),
    ("ebpf.bpffsPath", Path, "The bpffs to pin the programs in; /sys/fs/bpf if not set. It is mounted if missing."),
    (
        "ebpf.cgroupPath",
        Path,
        "Redirect only processes in this cgroup v2 and its descendants; the root of the hierarchy if not set.",
    ),
    ("ebpf.instanceIP", Unneeded, "Of Kuma 2.9. Not needed: inbound connections are found as sockets."),
    ("ebpf.instanceIPEnvVarName", Unneeded, "Of Kuma 2.9. Not needed: inbound connections are found as sockets."),
    ("ebpf.programsSourcePath", Unneeded, "Of Kuma 2.9. Not needed: the programs are part of kumatp."),
    ("ebpf.tcAttachIface", Unneeded, "Of Kuma 2.9. Not needed: inbound connections are found as sockets."),
];

/// Each key of documents with its form and what it does.
pub(super) fn all() -> impl Iterator<Item = (Key, Form, &'static str)> {
    Key::all().filter(|key| key.in_documents()).map(|key| {
        let row = KEYS.iter().find(|(path, ..)| *path == key.path());
        let (_, form, text) = row.unwrap_or_else(|| panic!("manual/keys.rs has no row for {}", key.path()));
        (key, *form, *text)
    })
}

pub(super) fn is_unneeded(path: &str) -> bool {
    KEYS.iter().any(|(key, form, _)| *key == path && *form == Unneeded)
}

#[test]
fn the_rows_are_those_of_the_library() {
    let keys: Vec<_> = Key::all().filter(|key| key.in_documents()).map(Key::path).collect();
    let rows: Vec<_> = KEYS.iter().map(|(path, ..)| *path).collect();
    let sorted = |mut paths: Vec<&'static str>| {
        paths.sort_unstable();
        paths
    };
    assert_eq!(sorted(keys), sorted(rows));
}

impl Form {
    pub(super) const ALL: &'static [Self] =
        &[Addresses, Duration, Empty, Groups, Level, Mode, Networks, Number, Path, Port, Ports, Switch, User, Users];

    /// The name that the page has for it.
    fn name(self) -> &'static str {
        match self {
            Addresses => "addresses",
            Duration => "duration",
            Empty => "empty list",
            Groups => "group exclusions",
            Level => "level",
            Mode => "mode",
            Networks => "networks",
            Number => "number",
            Path => "path",
            Port => "port",
            Ports => "ports",
            Switch => "switch",
            Unneeded => "not needed",
            User => "user",
            Users => "user exclusions",
        }
    }

    /// How it is written.
    fn written(self) -> &'static str {
        match self {
            Addresses => "A list of IP addresses and CIDRs of either family, or one text with commas.",
            Duration => "`2s`, `500ms`, `1m30s`, or a number of nanoseconds.",
            Empty => "`[]`.",
            Groups => "As user exclusions, with gids.",
            Level => "A number from 0 (emergency) to 7 (debug).",
            Mode => "`dualstack`, `ipv4` or `required`.",
            Networks => {
                "A list of `INTERFACE:CIDR`. An interface that ends in `+` stands for all that begin with its name."
            }
            Number => "A whole number from 0 to 4294967295.",
            Path => "A path.",
            Port => "A number from 1 to 65535; 0 where nothing is redirected to the listener.",
            Ports => "A list of ports and ranges such as `3000-5000`, or one text with commas.",
            Switch => "`true` or `false`.",
            Unneeded => "Anything.",
            User => "A name or a uid.",
            Users => {
                "A list of `[PROTOCOLS:][PORTS:]UIDS`, such as `tcp:22,8000-8100:1000-1999`. Protocols are `tcp`, `udp` or both with a comma. Without protocols or ports, or with `*`, all are meant. The uids are one uid or a range."
            }
        }
    }
}

/// Where the table of [`table`] begins in the page on configuration.
pub(super) const BEGIN: &str = "| key | value | what it does |\n|---|---|---|\n";

/// The rows of what each key does.
pub(super) fn table() -> String {
    let needed = all().filter(|(_, form, _)| *form != Unneeded);
    needed.map(|(key, form, text)| format!("| `{}` | {} | {text} |\n", key.path(), form.name())).collect()
}

/// The default value of a key, if there is one that says something.
fn default_of(config: &serde_json::Value, path: &str) -> Option<String> {
    match config.pointer(&format!("/{}", path.replace('.', "/")))? {
        serde_json::Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        value => Some(value.to_string()),
    }
}

/// The page kumatp.yaml(5).
pub(super) fn page() -> Page {
    let mut config = Config::default();
    // Written only if one of them is changed.
    config.log.enabled = true;
    let mut defaults: serde_json::Value = serde_json::from_str(&config.to_json()).unwrap();
    defaults["log"]["enabled"] = false.into();
    let item = |(key, form, text): (Key, Form, &str)| {
        let mut text = text.to_owned();
        if let Some(default) = default_of(&defaults, key.path()) {
            let _ = write!(text, " Default: `{default}`.");
        }
        let flag = key.flag().filter(|_| form != Unneeded).map(|flag| format!("flag `{flag}`"));
        let variable = key.environment().map(|name| format!("variable `{name}`"));
        let set: Vec<String> = flag.into_iter().chain(variable).collect();
        if !set.is_empty() {
            let _ = write!(text, " Also: {}.", set.join(", "));
        }
        Item { term: key.path().into(), value: format!(" ({})", form.name()), text }
    };
    let forms: Vec<(&str, &str)> = Form::ALL.iter().map(|form| (form.name(), form.written())).collect();
    Page {
        name: "kumatp.yaml".into(),
        title: "kumatp.yaml".into(),
        section: 5,
        about: "configuration of the transparent proxy".into(),
        sections: vec![
            Section::new(
                "DESCRIPTION",
                vec![
                    Block::Text(
                        "A configuration is a document in YAML or JSON. `kumatp install --config FILE` reads it, and so do the other commands \
                         that work on rules; no file is read unless it is named. kumactl and kuma-dp read the same keys."
                            .into(),
                    ),
                    Block::Text(
                        "Every key may be left out. Several files may be given: maps merge, lists replace. Environment variables override \
                         files, and flags override both. `kumatp validate` reports every problem of a file at once; `kumatp config print` \
                         shows the configuration that files, variables and flags make."
                            .into(),
                    ),
                    Block::Text("A dot separates the levels of a key.".into()),
                ],
            ),
            Section::new("KEYS", vec![Block::Items(all().map(item).collect())]),
            Section::new("VALUES", vec![items(&forms)]),
            Section::new(
                "EXAMPLES",
                vec![
                    Block::Text("SSH and metrics are not redirected, DNS is, and the database is reached directly:".into()),
                    Block::Code(EXAMPLE.into()),
                ],
            ),
            Section::text("SEE ALSO", "`kumatp`(1), `kumatp-install`(1), `kumatp-validate`(1)"),
        ],
    }
}

const EXAMPLE: &str = "kumaDPUser: kuma-dp\nredirect:\n  inbound:\n    excludePorts: [22, 9100-9110]\n  outbound:\n    \
                       excludePortsForIPs: [10.1.2.3]\n  dns:\n    enabled: true";

#[test]
fn the_example_is_a_configuration() {
    let config = Config::parse(EXAMPLE, kumatp::config::Format::Yaml).unwrap();
    assert!(config.redirect.dns.enabled && config.redirect.outbound.exclude_ips.len() == 1);
}
