//! The flags that set a configuration key, in one table.

use clap::{Arg, ArgAction, ArgMatches, Command};
use kumatp::config::{Key, Layers};

use crate::input;

/// How a flag takes its value.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// `--flag` is true; `--flag=false` is false.
    Bool,
    /// One value; of several, the last counts.
    One,
    /// Values that add up.
    Many,
}

struct Flag {
    name: &'static str,
    kind: Kind,
    value: &'static str,
    heading: &'static str,
    help: &'static str,
}

const INBOUND: &str = "Inbound connections";
const OUTBOUND: &str = "Outbound connections";
const DNS: &str = "DNS";
const HOST: &str = "Host and sidecar";
const RULES: &str = "Rules";
const PROGRAMS: &str = "iptables programs";
const EBPF: &str = "eBPF";

const fn row(heading: &'static str, kind: Kind, name: &'static str, value: &'static str, help: &'static str) -> Flag {
    Flag { name, kind, value, heading, help }
}

use Kind::{Bool, Many, One};

const FLAGS: &[Flag] = &[
    row(
        HOST,
        One,
        "kuma-dp-user",
        "USER",
        "User that the sidecar runs as, by name or uid; its own traffic is never redirected [default: uid 5678, or the user kuma-dp]",
    ),
    row(
        HOST,
        One,
        "ip-family-mode",
        "MODE",
        "dualstack: IPv4, and IPv6 where it can be used; ipv4: IPv4 only, IPv6 is not redirected; required: both, fail without a usable IPv6 address [default: dualstack]",
    ),
    row(
        HOST,
        Many,
        "vnet",
        "INTERFACE:CIDR",
        "Treat traffic from this virtual network as outbound: DNS, and TCP that leaves the network. An interface ending in '+' matches all interfaces with that prefix. Repeatable; overrides the list from configuration files",
    ),
    row(
        INBOUND,
        Bool,
        "redirect-inbound",
        "BOOL",
        "Redirect inbound connections; switch off for a gateway with --redirect-inbound=false [default: true]",
    ),
    row(INBOUND, One, "redirect-inbound-port", "PORT", "The sidecar's inbound listener [default: 15006]"),
    row(
        INBOUND,
        One,
        "exclude-inbound-ports",
        "PORTS",
        "Ports that clients reach without the sidecar: 22,8000-8100. A later list replaces an earlier one",
    ),
    row(
        INBOUND,
        Many,
        "exclude-inbound-ips",
        "CIDRS",
        "Clients that reach the workload without the sidecar, comma-separated. Repeatable; overrides the list from configuration files",
    ),
    row(
        INBOUND,
        Bool,
        "redirect-inbound-insert-instead-of-append",
        "BOOL",
        "Insert the jump at the top of nat PREROUTING instead of appending it",
    ),
    row(OUTBOUND, One, "redirect-outbound-port", "PORT", "The sidecar's outbound listener [default: 15001]"),
    row(
        OUTBOUND,
        One,
        "exclude-outbound-ports",
        "PORTS",
        "Ports that the workload reaches without the sidecar: 3306,8000-8100. A later list replaces an earlier one",
    ),
    row(
        OUTBOUND,
        Many,
        "exclude-outbound-ips",
        "CIDRS",
        "Destinations that the workload reaches without the sidecar, DNS servers included. Repeatable; overrides the list from configuration files",
    ),
    row(
        OUTBOUND,
        Many,
        "include-outbound-ips",
        "CIDRS",
        "Redirect connections to these destinations only. Repeatable; overrides the list from configuration files",
    ),
    row(
        OUTBOUND,
        Many,
        "exclude-outbound-ports-for-uids",
        "[PROTO:][PORTS:]UIDS",
        "Users who reach some ports without the sidecar: tcp:22,8000-8100:1000-1999. Repeatable; overrides the list from configuration files",
    ),
    row(OUTBOUND, Many, "exclude-outbound-ports-for-gids", "[PROTO:][PORTS:]GIDS", "The same for groups"),
    row(
        OUTBOUND,
        Bool,
        "redirect-outbound-insert-instead-of-append",
        "BOOL",
        "Insert the jump at the top of nat OUTPUT instead of appending it",
    ),
    row(DNS, Bool, "redirect-dns", "BOOL", "Redirect queries to the name servers of resolv.conf"),
    row(
        DNS,
        Bool,
        "redirect-all-dns-traffic",
        "BOOL",
        "Redirect queries to any server; not together with --redirect-dns",
    ),
    row(DNS, One, "redirect-dns-port", "PORT", "The sidecar's DNS listener [default: 15053]"),
    row(
        DNS,
        Bool,
        "skip-dns-conntrack-zone-split",
        "BOOL",
        "Do not track the queries of sidecar and workload in separate conntrack zones",
    ),
    row(RULES, Bool, "drop-invalid-packets", "BOOL", "Drop packets that connection tracking finds invalid"),
    row(
        RULES,
        Bool,
        "harden",
        "BOOL",
        "Add iptables rules that drop connections which were not redirected, as far as iptables can; the netlink engine always has them",
    ),
    row(RULES, Bool, "iptables-logs", "BOOL", "Log every packet that reaches the rules, in the kernel log"),
    row(RULES, Bool, "disable-comments", "BOOL", "Leave comments out of the rules"),
    row(
        RULES,
        Bool,
        "store-firewalld",
        "BOOL",
        "Also write the rules to firewalld's direct.xml, so that they survive a restart of firewalld",
    ),
    row(PROGRAMS, One, "wait", "SECONDS", "How long to wait for the xtables lock [default: 5]"),
    row(
        PROGRAMS,
        One,
        "wait-interval",
        "MICROSECONDS",
        "Interval between attempts to take the lock [default: 0, left to iptables]",
    ),
    row(PROGRAMS, One, "max-retries", "NUMBER", "Number of retries after a transient failure [default: 4]"),
    row(
        PROGRAMS,
        One,
        "sleep-between-retries",
        "DURATION",
        "Pause before a retry: 2s, 500ms, or a number of nanoseconds [default: 2s]",
    ),
    row(
        PROGRAMS,
        One,
        "iptables-executables",
        "NAME:PATH,…",
        "Programs to use instead of those found; all three of a family: iptables, iptables-save, iptables-restore, and the same with ip6tables",
    ),
    row(
        EBPF,
        Bool,
        EBPF_ENABLED,
        "BOOL",
        "Redirect sockets by eBPF programs instead of rules; the same as --engine ebpf",
    ),
    row(
        EBPF,
        One,
        "ebpf-bpffs-path",
        "PATH",
        "The bpffs to pin the programs in; mounted if missing [default: /sys/fs/bpf]",
    ),
    row(
        EBPF,
        One,
        "ebpf-cgroup-path",
        "PATH",
        "Redirect only processes in this cgroup v2 and its descendants [default: the root of the hierarchy]",
    ),
    row(HOST, Bool, "verbose", "BOOL", "Long option names and headings in rules, and more notes"),
    row(HOST, Bool, "dry-run", "BOOL", "Print the rules and change nothing; needs no privilege"),
];

/// The old name of `--kuma-dp-user`, in kumactl 2.9.
const OLD_USER: &str = "kuma-dp-uid";

/// Flags of the eBPF mode of kumactl 2.9 that this one does not need.
const UNNEEDED: &[&str] = &["ebpf-programs-source-path", "ebpf-instance-ip", "ebpf-tc-attach-iface"];

/// Flags that say how rules are put in force.
const OF_CHANGES: &[&str] =
    &["wait", "wait-interval", "max-retries", "sleep-between-retries", "store-firewalld", "dry-run"];

const EBPF_ENABLED: &str = "ebpf-enabled";
/// Where the programs are, which removing them needs to know as well.
const EBPF_PLACES: &[&str] = &["ebpf-bpffs-path", "ebpf-cgroup-path"];

/// The switch of an engine that has long been the only one.
const EXPERIMENTAL: &str = "experimental-transparent-proxy-engine";

fn arg(flag: &Flag) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help).help_heading(flag.heading).value_name(flag.value);
    match flag.kind {
        Bool => bool_value(arg),
        One => arg.allow_hyphen_values(true).action(ArgAction::Append),
        Many => arg.allow_hyphen_values(true).action(ArgAction::Append),
    }
}

/// A boolean as kumactl takes it: alone, or with `=`.
fn bool_value(arg: Arg) -> Arg {
    arg.num_args(0..=1).require_equals(true).default_missing_value("true").action(ArgAction::Append)
}

/// Adds all flags that make a configuration.
pub(crate) fn define(command: Command) -> Command {
    command
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .help("Read this configuration, in YAML or JSON; - is standard input. Repeatable: later files override earlier ones. Environment variables override files, and flags override both")
                .help_heading(HOST)
                .action(ArgAction::Append),
        )
        .arg(Arg::new("config-file").long("config-file").hide(true).action(ArgAction::Append))
        .arg(bool_value(Arg::new(EXPERIMENTAL).long(EXPERIMENTAL).hide(true)))
        .args(FLAGS.iter().map(arg))
        .arg(Arg::new(OLD_USER).long(OLD_USER).value_name("UID").hide(true).action(ArgAction::Append))
        .args(UNNEEDED.iter().map(|name| {
            Arg::new(*name).long(*name).hide(true).allow_hyphen_values(true).action(ArgAction::Append)
        }))
}

/// The same for a command that changes nothing: flags about changes are taken, and not shown. `ebpf` is what the switch of the eBPF
/// mode does there.
pub(crate) fn define_for_question(command: Command, ebpf: &'static str) -> Command {
    let hidden = |command: Command, name: &&'static str| command.mut_arg(*name, |arg| arg.hide(true));
    let command = OF_CHANGES.iter().fold(define(command), hidden);
    command.mut_arg(EBPF_ENABLED, |arg| arg.help(ebpf)).mut_arg("verbose", |arg| arg.help("Print more notes"))
}

/// Adds the flags that say where the programs of the engine ebpf are, in the words of their removal.
pub(crate) fn define_places(command: Command) -> Command {
    let rows = FLAGS.iter().filter(|flag| flag.name == EBPF_ENABLED || EBPF_PLACES.contains(&flag.name));
    command
        .args(rows.map(arg))
        .mut_arg(EBPF_ENABLED, |arg| arg.help("Remove the eBPF programs only; the same as --engine ebpf"))
        .mut_arg("ebpf-bpffs-path", |arg| {
            arg.help("The bpffs that the programs are pinned in [default: that of the installation]")
        })
        .mut_arg("ebpf-cgroup-path", |arg| arg.hide(true))
}

/// Carries the flags of [`define_places`] over to the layers.
///
/// # Errors
/// If they contradict each other.
pub(crate) fn apply_places(matches: &ArgMatches, layers: &mut Layers) -> Result<(), String> {
    for name in EBPF_PLACES {
        for value in values(matches, name) {
            layers.flag(&format!("--{name}"), value);
        }
    }
    apply_engine(matches, layers)
}

/// The engine that is asked for by name decides on the switch of the eBPF mode, whatever files say; two flags have to agree.
fn apply_engine(matches: &ArgMatches, layers: &mut Layers) -> Result<(), String> {
    let asked = values(matches, EBPF_ENABLED).last();
    if let Some(engine) = values(matches, "engine").last() {
        let by_name = engine == "ebpf";
        match asked.map(truthy) {
            Some(asked) if asked != by_name => {
                return Err(format!(
                    "--engine {engine} and --{EBPF_ENABLED}={asked} contradict each other: give the one that is meant"
                ));
            }
            Some(_) => {}
            None => layers.flag(&format!("--{EBPF_ENABLED}"), if by_name { "true" } else { "false" }),
        }
    }
    for value in values(matches, EBPF_ENABLED) {
        layers.flag(&format!("--{EBPF_ENABLED}"), value);
    }
    Ok(())
}

/// What to say about flags that were given where the engine ebpf is not the one, or is and does not need them.
pub(crate) fn remarks(matches: &ArgMatches, ebpf: bool) -> Vec<String> {
    let given = |name: &&&str| values(matches, name).next().is_some();
    if ebpf {
        let switch = Some(&EXPERIMENTAL).filter(given).filter(|name| values(matches, name).last().is_some_and(truthy));
        return switch
            .map(|name| format!("--{name}: not needed, since it chose between two implementations of kumactl"))
            .into_iter()
            .collect();
    }
    // Who switched it off has said so.
    if values(matches, EBPF_ENABLED).next().is_some() {
        return Vec::new();
    }
    // Where older programs are pinned, any engine wants to know.
    let without_effect = ["ebpf-cgroup-path"].iter().chain(UNNEEDED).filter(given);
    without_effect.map(|name| format!("--{name}: has no effect without --{EBPF_ENABLED}")).collect()
}

/// The files of `--config`, in their order.
pub(crate) fn config_files(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    ["config-file", "config"].into_iter().flat_map(|name| values(matches, name))
}

/// Carries the flags that were given over to the layers.
///
/// # Errors
/// If two flags contradict each other, or one asks for what this version does not have.
pub(crate) fn apply(matches: &ArgMatches, layers: &mut Layers) -> Result<(), String> {
    let on = |name| values(matches, name).last().is_some_and(truthy);
    if on("redirect-dns") && on("redirect-all-dns-traffic") {
        return Err(
            "--redirect-dns and --redirect-all-dns-traffic exclude each other: give the one that is meant".into()
        );
    }
    for value in values(matches, OLD_USER) {
        layers.flag("--kuma-dp-user", value);
    }
    let names = FLAGS.iter().map(|flag| flag.name).chain(UNNEEDED.iter().copied());
    for name in names.filter(|name| *name != EBPF_ENABLED) {
        for value in values(matches, name) {
            layers.flag(&format!("--{name}"), value);
        }
    }
    apply_engine(matches, layers)
}

/// The first flag that was given and makes a configuration.
pub(crate) fn given(matches: &ArgMatches) -> Option<&'static str> {
    let names = ["config", "config-file", "pod", OLD_USER].into_iter().chain(FLAGS.iter().map(|flag| flag.name));
    names.chain(UNNEEDED.iter().copied()).find(|name| values(matches, name).next().is_some())
}

/// Keys that say how the command works, and not which rules there should be.
const HOW: &[&str] = &[
    "verbose",
    "dryRun",
    "cniMode",
    "wait",
    "waitInterval",
    "retry.maxRetries",
    "retry.sleepBetweenRetries",
    "iptablesExecutables",
    "ebpf.bpffsPath",
];

/// Whether a file, a pod, a flag or a variable says which rules there should be. An empty variable says nothing.
pub(crate) fn configure(matches: &ArgMatches) -> bool {
    let is_given = |name: &str| values(matches, name).next().is_some();
    let by_flag = |key: &Key| key.flag().is_some_and(|flag| is_given(flag.trim_start_matches('-')));
    let variables: Vec<String> =
        input::environment().filter(|(_, value)| !value.is_empty()).map(|(name, _)| name).collect();
    let by_variable = |key: &Key| key.environment().is_some_and(|name| variables.contains(&name));
    ["config", "config-file", "pod", OLD_USER].into_iter().any(is_given)
        || Key::all().filter(|key| !HOW.contains(&key.path())).any(|key| by_flag(&key) || by_variable(&key))
}

/// Whether a switch is on, in any of the words that the configuration takes for that. Other words
/// are refused when the layers are read.
fn truthy(value: &str) -> bool {
    ["true", "t", "1", "yes", "on"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn values<'a>(matches: &'a ArgMatches, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    // Not every command takes a pod.
    matches.try_get_many::<String>(name).ok().flatten().into_iter().flatten().map(String::as_str)
}
