//! The command `kumatp`: a drop-in for `kumactl install|uninstall transparent-proxy`, and tools
//! around the rules. Arguments in, text out; everything else is the library's.

// These end the program where a stream cannot be written: output and streams do not.
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "some is for what only Linux can do"))]

mod commands;
mod completion;
mod configuration;
#[cfg(target_os = "linux")]
mod demo;
mod files;
mod flags;
mod host;
mod input;
#[cfg(all(test, target_os = "linux"))]
mod manual;
mod mesh;
mod output;
mod packet;
mod pod;
mod source;
mod streams;

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};
use kumatp::Error;

/// The exit status for a wrong usage or configuration; nothing was tried.
const USAGE: u8 = 2;
/// The exit status for an operation that failed.
const FAILURE: u8 = 1;

/// Why the command ends with an error.
enum Failure {
    /// The arguments are wrong.
    Usage(String),
    /// The library says no.
    Library(Error),
    /// Something went wrong with a file or a stream.
    Other(String),
    /// The result could not be written, for this reason; none where there is nobody to tell it to.
    Untold(Option<String>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Library(error)
    }
}

fn main() -> ExitCode {
    streams::prepare();
    let done = match command(Command::defer).try_get_matches() {
        Ok(matches) => run(&matches),
        Err(error) => usage(error),
    };
    let status = done.unwrap_or_else(|failure| {
        let (message, status) = match failure {
            Failure::Usage(message) => (message, USAGE),
            Failure::Library(error @ (Error::Config(_) | Error::Facts { .. })) => (error.to_string(), USAGE),
            Failure::Library(error) => (output::told(&error), FAILURE),
            Failure::Other(message) => (message, FAILURE),
            Failure::Untold(message) => (message.unwrap_or_default(), FAILURE),
        };
        message.lines().for_each(|line| output::say(format_args!("error: {line}")));
        ExitCode::from(status)
    });
    output::release();
    status
}

/// Prints the help or the version that was asked for, or says what is wrong with the arguments.
fn usage(mut error: clap::Error) -> Result<ExitCode, Failure> {
    without_misleading(&mut error);
    let text = error.render().to_string();
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return output::print(&text).map(|()| ExitCode::SUCCESS);
    }
    output::say(text.trim_end());
    Ok(ExitCode::from(USAGE))
}

/// Removes the tips that mislead: how to pass a flag as a value, where no value begins with a hyphen, and a flag that
/// only sounds like the one that was given.
fn without_misleading(error: &mut clap::Error) {
    if error.kind() != ErrorKind::UnknownArgument {
        return;
    }
    error.remove(ContextKind::Suggested);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => {
            text.split(['=', ' ']).next().map(|name| name.trim_start_matches('-').to_owned())
        }
        _ => None,
    };
    let given = text(ContextKind::InvalidArg);
    if !given.zip(text(ContextKind::SuggestedArg)).is_some_and(|(given, proposed)| is_meant(&given, &proposed)) {
        error.remove(ContextKind::SuggestedArg);
    }
}

/// Whether a flag is a slip of another: one letter differs, or words were left out. Flags with `no-` are in no help.
fn is_meant(given: &str, proposed: &str) -> bool {
    let words = |text: &str| text.split('-').map(str::to_owned).collect::<Vec<_>>();
    let of_proposed = words(proposed);
    let parts = words(given).iter().all(|word| of_proposed.contains(word));
    let start = given.bytes().zip(proposed.bytes()).take_while(|(a, b)| a == b).count();
    let (given_rest, proposed_rest) = (&given.as_bytes()[start..], &proposed.as_bytes()[start..]);
    let end = given_rest.iter().rev().zip(proposed_rest.iter().rev()).take_while(|(a, b)| a == b).count();
    let slip = given_rest.len().max(proposed_rest.len()) - end <= 1;
    (parts || slip) && !proposed.starts_with("no-")
}

fn run(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let done = match matches.subcommand() {
        Some(("status", matches)) => return commands::status(matches),
        Some(("explain", matches)) => return commands::explain(matches),
        Some(("diff", matches)) => return commands::diff(matches),
        Some(("validate", matches)) => return commands::validate(matches),
        Some(("demo", matches)) => return commands::demo(matches),
        Some(("dataplane", matches)) => return commands::dataplane(matches),
        Some(("install", matches)) => commands::install(matches),
        Some(("uninstall", matches)) => commands::uninstall(matches),
        Some(("render", matches)) => commands::render(matches),
        Some(("translate", matches)) => commands::translate(matches),
        Some(("config", matches)) => commands::config(matches),
        Some(("reachable", matches)) => commands::reachable(matches),
        Some(("completion", matches)) => commands::completion(matches, command(now)),
        _ => Err(Failure::Usage("give a command; kumatp --help lists them".into())),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// How the arguments of a command are defined: now or, as [`Command::defer`] does, when the command is used.
type Define = fn(Command, fn(Command) -> Command) -> Command;

/// For a completion script, which has all of them.
fn now(command: Command, arguments: fn(Command) -> Command) -> Command {
    arguments(command)
}

fn command(how: Define) -> Command {
    Command::new("kumatp")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Installs and removes the rules that redirect a workload's traffic to its Kuma sidecar")
        .after_help(
            "Exit status: 0 success, 1 the operation failed or its result could not be written, 2 wrong\n\
             usage or configuration; of status also 3 drifted, 4 absent, 5 not compared or not known;\n\
             of diff 3 different; of explain 1 not as --expect says, 6 undecided; of validate --strict\n\
             1 for a warning.\n\
             \n\
             Environment: KUMA_TRANSPARENT_PROXY_* sets any configuration key, for example\n\
             KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT for redirect.outbound.port.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .subcommand(install(how))
        .subcommand(uninstall(how))
        .subcommand(status(how))
        .subcommand(explain(how))
        .subcommand(diff(how))
        .subcommand(render(how))
        .subcommand(
            Command::new("translate")
                .about("Translate iptables-restore text on standard input into another syntax")
                .long_about(
                    "Translate iptables-restore text, as `install --dry-run` prints it, from standard input into \
                     another syntax on standard output. Rules that are not kumatp's pass through; a rule that has no \
                     equivalent is named, and nothing is printed.",
                )
                .arg(
                    Arg::new("to")
                        .long("to")
                        .value_name("SYNTAX")
                        .required(true)
                        .value_parser(["firewalld", "nft", "json"])
                        .help("The syntax to write"),
                ),
        )
        .subcommand(
            Command::new("validate")
                .about("Check configuration files and report every problem in them")
                .long_about(
                    "Check configuration files and report every problem in them. A note names each setting that Kuma's own \
                     programs refuse, and with --for it is a problem. Exit status 0 valid, 2 not valid; with \
                     --strict also 1 for a warning.",
                )
                .arg(
                    Arg::new("file")
                        .value_name("FILE")
                        .required(true)
                        .num_args(1..)
                        .help("A file in YAML or JSON; - is standard input"),
                )
                .args(commands::switches())
                .arg(commands::for_kuma().help(
                    "Check also that Kuma's own programs read the files, and read the same in them: kuma-dp (run \
                     --transparent-proxy-config), kumactl, or kuma for both. `config print --for kuma` writes what they read",
                )),
        )
        .subcommand(mesh::config(how))
        .subcommand(mesh::dataplane(how))
        .subcommand(mesh::reachable(how))
        .subcommand(demo())
        .subcommand(
            Command::new("completion").about("Print a completion script for a shell").arg(
                Arg::new("shell")
                    .required(true)
                    .value_name("SHELL")
                    .value_parser(clap::builder::EnumValueParser::<clap_complete::Shell>::new())
                    .help("The shell"),
            ),
        )
}

fn demo() -> Command {
    Command::new("demo")
        .override_usage("kumatp demo")
        .about("Show real connections being redirected, in network namespaces of its own")
        .long_about(
            "Install rules in a network namespace made for this, make real connections from and to a workload there, and \
             say of each where it went and which configuration key decided: redirected, excluded, redirected while the rules \
             are replaced, and no longer redirected after the removal. It takes a second and needs neither root nor \
             another program. Nothing of this host is reached or changed. Exit status 0 all went as expected, 1 something \
             did not, or network namespaces cannot be made here.",
        )
        .arg(Arg::new("errand").num_args(0..).hide(true))
}

/// `transparent-proxy`, which may be left out, and whatever else stands without a flag: it is
/// refused, with a hint, by [`input::no_other_words`].
fn words() -> Arg {
    Arg::new("words").value_name("transparent-proxy").num_args(0..).hide(true)
}

fn install(how: Define) -> Command {
    how(Command::new("install").about("Install the rules, replacing an older installation"), |command| {
        pod::define(flags::define(
        command
            .override_usage("kumatp install [transparent-proxy] [OPTIONS]")
            .long_about(
                "Install the rules that redirect a workload's inbound and outbound TCP, and its DNS queries if asked \
                 to, to the sidecar. An older installation, kumactl's included, is replaced without a gap. \
                 --dry-run prints the rules and changes nothing. --pod installs the rules for a pod, as \
                 an init container or a CNI plugin does, and fails unless they are active afterwards. After \
                 `install transparent-proxy`, and where the command is called kumactl, the last line is that of kumactl.",
            )
            .arg(words())
            .arg(engine("netlink; for a dry run and with --store-firewalld, iptables"))
            .arg(netns())
            .arg(facts())
            .args(of_kumactl()),
    ))
    .after_help(
        "Example: print the rules for a workload whose SSH port is not redirected, with all DNS redirected:\n\
         \n  kumatp install transparent-proxy --dry-run --redirect-all-dns-traffic --exclude-inbound-ports 22\n\
         \n\
         Example: set up the network of a pod, from its node:\n\
         \n  kumatp install --pod pod.yaml --netns /var/run/netns/pod",
    )
    })
}

/// The flags that every command of kumactl takes, for the control plane that it talks to
/// (<https://github.com/kumahq/kuma>, app/kumactl/cmd/root.go). Scripts have them; installing rules has no use for them.
fn of_kumactl() -> Vec<Arg> {
    let flag = |name: &'static str| Arg::new(name).long(name).hide(true).action(ArgAction::Append);
    let mut flags: Vec<_> = ["log-level", "context", "api-timeout", "mesh"].into_iter().map(flag).collect();
    flags.push(flag("no-config").num_args(0..=1).require_equals(true).default_missing_value("true"));
    flags
}

fn uninstall(how: Define) -> Command {
    how(
        Command::new("uninstall").about("Remove the rules that kumatp or kumactl installed, and nothing else"),
        |command| {
            let switch = |name: &'static str, help: &'static str| {
                Arg::new(name)
                    .long(name)
                    .help(help)
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("true")
                    .value_parser(["true", "false"])
                    .action(ArgAction::Set)
                    .hide_possible_values(true)
                    .value_name("BOOL")
            };
            let command = command
        .override_usage("kumatp uninstall [transparent-proxy] [OPTIONS]")
        .long_about(
            "Remove the rules that kumatp or kumactl installed, for IPv4 and IPv6 and in every variant of iptables, kumatp's eBPF \
             programs, its entries in firewalld's direct.xml, and the address ::6 if kumatp added it to lo. A resolv.conf that an old \
             kumactl had saved is put back. Other rules are not changed. What cannot be removed is named, and the exit status is 1.",
        )
        .args_override_self(true)
        .arg(words())
        .arg(engine("").help(
            "Remove only what this engine installed: netlink (and what iptables-nft installed, which is in nf_tables, too), iptables \
             (iptables-nft and iptables-legacy) or ebpf [default: whatever is installed]",
        ))
        .arg(netns())
        .args(of_kumactl())
        .arg(switch("dry-run", "Print what would be removed and change nothing"))
        .arg(switch("verbose", "Print every step"));
            flags::define_places(command)
        },
    )
}

fn render(how: Define) -> Command {
    how(Command::new("render").about("Print the rules in one of several syntaxes"), |command| {
        pod::define(flags::define(
        command
            .override_usage("kumatp render [transparent-proxy] [OPTIONS]")
            .long_about("Print the rules that `install` with the same flags would install. Changes nothing and needs no privilege.")
            .arg(
                Arg::new("format")
                    .long("format")
                    .value_name("SYNTAX")
                    .default_value("iptables")
                    .value_parser(["iptables", "nft", "json", "firewalld", "mermaid", "dot", "ebpf"])
                    .help("The syntax to write; mermaid and dot are pictures, ebpf is the configuration of the eBPF programs"),
            )
            .arg(
                Arg::new("family")
                    .long("family")
                    .value_name("FAMILY")
                    .value_parser(["ipv4", "ipv6"])
                    .help("Print the rules for one address family, as iptables-restore or ip6tables-restore takes them; with the formats iptables, mermaid and dot"),
            )
            .arg(facts())
            .arg(netns())
            .arg(words()),
    ))
    .after_help(
        "Example: check that ip6tables-restore accepts the rules:\n\
         \n  kumatp render --family ipv6 | ip6tables-restore --noflush --test",
    )
    })
}

fn status(how: Define) -> Command {
    how(Command::new("status").about("Say what is installed, by which engine, and whether it has drifted"), |command| {
        pod::define(flags::define_for_question(
        command
            .override_usage("kumatp status [transparent-proxy] [OPTIONS]")
            .long_about(
                "Say what is installed, and by which engine; kumactl's rules are recognized. If a file, a pod, a flag or a variable \
                 configures something, the rules of every engine are compared with what `install` would install. Otherwise only \
                 the rules of netlink are compared, with what was installed. For eBPF programs, links and counters are shown. \
                 Exit status 0 current, 3 drifted, 4 absent, 5 not compared or not known.",
            )
            .arg(words())
            .arg(json())
            .arg(netns()),
        "Compare with eBPF programs; rules of another engine have drifted then",
    ))
    })
}

fn explain(how: Define) -> Command {
    how(Command::new("explain").about("Say whether a packet is redirected, and which rule decides"), |command| {
        let command = command
        .override_usage("kumatp explain [DIRECTION] PROTOCOL ADDRESS:PORT [OPTIONS]")
        .long_about(
            "Say what the rules do with a packet, which rule decides, which configuration key it comes from, and \
             whether the reply reaches the client. Nothing is sent and nothing is changed. The rules are those that \
             `install` with the same flags would install; with --live the rules currently installed, and with --rules those \
             of a file. If a rule that may decide uses a match that kumatp does not model, the verdict is undecided, and the \
             rule is named. Exit status 0 decided, 6 undecided, with --expect 1 for another verdict.",
        );
        pod::define(flags::define_for_question(packet::define(command), ASKED_OF_EBPF))
        .arg(json())
        .arg(
            Arg::new("trace")
                .long("trace")
                .action(ArgAction::SetTrue)
                .help("Show every rule that matches, for the request and its reply, not only the one that decides"),
        )
        .arg(
            Arg::new("expect")
                .long("expect")
                .value_name("VERDICT")
                .help("For tests: fail, and show every rule that matches, unless the packet is delivered, redirected:PORT, dropped or established"),
        )
        .arg(
            Arg::new("rules")
                .long("rules")
                .value_name("FILE")
                .action(ArgAction::Append)
                .conflicts_with_all(["live", "engine", "netns", "facts"])
                .help("Use the rules in this output of iptables-save or ip6tables-save, whoever made them; - is standard input. Repeatable"),
        )
        .arg(
            Arg::new("live")
                .long("live")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["engine", "facts"])
                .help("Use the rules currently installed, whoever installed them, in nf_tables and in iptables. Needs CAP_NET_ADMIN, and root where there are rules of iptables"),
        )
        .arg(engine_of_rules())
        .arg(netns())
        .arg(facts())
        .after_help(
            "Example: does the workload reach its database without the sidecar, and by which key?\n\
             \n  kumatp explain tcp 10.1.2.3:5432 --uid 1000 --config /etc/kumatp/config.yaml --expect delivered",
        )
    })
}

fn diff(how: Define) -> Command {
    how(
        Command::new("diff").about("Say which rules differ between two configurations, and whose traffic that changes"),
        |command| {
            let command = command
        .override_usage("kumatp diff A B [OPTIONS]")
        .long_about(
            "Say which rules are added and removed from A to B, and whose traffic changes: each class of packets with \
             another outcome, by an example. A and B are configurations, files in YAML or JSON; for one of them, the \
             word live stands for what is currently installed by kumatp or kumactl. Environment variables and flags \
             override both files; a file of --config is read below both. Exit status 0 no difference, 3 a difference.",
        )
        .arg(
            Arg::new("words")
                .value_names(["A", "B"])
                .num_args(0..)
                .help("A file with a configuration, or the word live; - is standard input, ./live a file of that name"),
        );
            pod::define(flags::define_for_question(command, ASKED_OF_EBPF))
                .arg(json())
                .arg(engine_of_rules())
                .arg(netns())
                .arg(facts())
                .after_help(
                    "Example: what an edit would change:\n\
         \n  kumatp diff /etc/kumatp/config.yaml edited.yaml\n\
         \n\
         Example: how the installed rules differ from a configuration:\n\
         \n  kumatp diff /etc/kumatp/config.yaml live",
                )
        },
    )
}

fn json() -> Arg {
    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print JSON")
}

/// What the switch of the eBPF mode does where none is run.
const ASKED_OF_EBPF: &str = "Ask about eBPF programs instead of rules; the same as --engine ebpf";

/// The engine whose rules are looked at, where none is run.
fn engine_of_rules() -> Arg {
    engine("netlink").help(
        "The engine whose rules are used: netlink or iptables, which differ for connections that were open before \
         the rules, and in the zone of forwarded DNS queries, or ebpf, which redirects sockets only [default: netlink; with live, the engine \
         that installed the rules]",
    )
}

fn engine(usual: &str) -> Arg {
    Arg::new("engine")
        .long("engine")
        .value_name("ENGINE")
        .help(format!(
            "The engine: netlink (nf_tables over netlink), iptables (iptables-restore) or ebpf (socket redirection by eBPF) \
             [default: {usual}]"
        ))
        .action(ArgAction::Set)
        .overrides_with("engine")
}

fn facts() -> Arg {
    Arg::new("facts")
        .long("facts")
        .value_name("FILE")
        .help("Read the facts about the host (the sidecar's uid, name servers, IPv6, kernel features) from this JSON file instead of probing; - is standard input")
}

fn netns() -> Arg {
    Arg::new("netns")
        .long("netns")
        .value_name("PATH")
        .help("Work in this network namespace, such as /var/run/netns/pod or /proc/PID/ns/net, instead of this one")
        .action(ArgAction::Set)
        .overrides_with("netns")
}
