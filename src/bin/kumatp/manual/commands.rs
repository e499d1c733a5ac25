//! The pages of the commands, from the parser.

use clap::{Arg, Command};

use super::page::{Block, Item, Page, Section, items};

/// What an exit status says of every command, and what it says of some.
pub(super) struct Exit {
    pub(super) status: &'static str,
    always: &'static str,
    /// The command, with a flag if only then, and what it says there.
    only: &'static [(&'static str, &'static str)],
}

const fn exit(status: &'static str, always: &'static str, only: &'static [(&'static str, &'static str)]) -> Exit {
    Exit { status, always, only }
}

pub(super) const EXIT: &[Exit] = &[
    exit("0", "success", &[("status", ": current")]),
    exit(
        "1",
        "the operation failed, or its result could not be written",
        &[("validate --strict", " also a warning"), ("explain --expect", " another verdict")],
    ),
    exit("2", "wrong usage or configuration; nothing was changed", &[]),
    exit("3", "", &[("status", ": drifted"), ("diff", ": different")]),
    exit("4", "", &[("status", ": absent")]),
    exit("5", "", &[("status", ": not compared, or not known")]),
    exit("6", "", &[("explain", ": undecided")]),
];

impl Exit {
    /// What it says of the commands whose names are wanted.
    fn of(&self, wanted: impl Fn(&str) -> bool) -> String {
        let only = self.only.iter().filter(|(command, _)| wanted(command.split(' ').next().unwrap_or_default()));
        let only = only.map(|(command, meaning)| format!("of `{command}`{meaning}"));
        let always = Some(self.always.to_owned()).filter(|text| !text.is_empty());
        always.into_iter().chain(only).collect::<Vec<_>>().join("; ")
    }

    /// What it says of all commands.
    pub(super) fn meaning(&self) -> String {
        self.of(|_| true)
    }
}

/// The exit statuses that a command may have, by its own name.
fn exits(wanted: impl Fn(&str) -> bool) -> Block {
    let item = |exit: &Exit| Item { term: exit.status.into(), value: String::new(), text: exit.of(&wanted) };
    Block::Items(EXIT.iter().map(item).filter(|item| !item.text.is_empty()).collect())
}

/// What the commands need that not every user has.
const PRIVILEGES: &[(&str, &str)] = &[
    (
        "install",
        "Run it as root. Unless older rules of iptables have to be replaced, CAP_NET_ADMIN is enough for the netlink engine, and CAP_BPF, \
         CAP_NET_ADMIN and CAP_PERFMON for the ebpf engine. --dry-run needs no privilege.",
    ),
    ("uninstall", "Run it as root. What may not be looked at or removed is named, and is a failure."),
    ("status", "CAP_NET_ADMIN, and root where there are rules of iptables. What may not be looked at is named."),
    ("explain", "None; with --live CAP_NET_ADMIN, and root where there are rules of iptables."),
    ("diff", "None; with the word live CAP_NET_ADMIN, and root where there are rules of iptables."),
    ("demo", "None, where the kernel lets users make user namespaces."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/resolv.conf", "The name servers to which queries are redirected, unless all are."),
    ("/run/kumatp", "Records of installations whose traces the kernel does not keep."),
    ("/sys/fs/bpf/kumatp", "The programs of the ebpf engine."),
    ("/etc/firewalld/direct.xml", "Where --store-firewalld writes the rules."),
];

/// The page of the program, and one for each command.
pub(super) fn pages(mut root: Command) -> Vec<Page> {
    root.build();
    let mut pages = Vec::new();
    collect(&root, "kumatp", &mut pages);
    pages[0].sections = program(&root);
    let names: Vec<String> = pages.iter().map(|page| page.name.clone()).collect();
    for page in &mut pages {
        let others = names.iter().filter(|name| **name != page.name).map(|name| format!("`{name}`(1)"));
        let others: Vec<String> = others.collect();
        page.sections
            .push(Section::text("SEE ALSO", format!("{}, `kumatp.yaml`(5), `kumatp-cni`(8)", others.join(", "))));
    }
    pages
}

fn collect(command: &Command, title: &str, pages: &mut Vec<Page>) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let name = title.replace(' ', "-");
    pages.push(Page { name, title: title.into(), section: 1, about, sections: sections(command, title) });
    command.get_subcommands().for_each(|one| collect(one, &format!("{title} {}", one.get_name()), pages));
}

/// What the commands below one do.
fn subcommands(command: &Command) -> Block {
    let item = |one: &Command| Item {
        term: one.get_name().into(),
        value: String::new(),
        text: one.get_about().map(ToString::to_string).unwrap_or_default(),
    };
    Block::Items(command.get_subcommands().map(item).collect())
}

/// The page kumatp(1).
fn program(root: &Command) -> Vec<Section> {
    vec![
        Section::new("SYNOPSIS", vec![Block::Code("kumatp COMMAND [OPTIONS]\nkumatp --help | --version".into())]),
        Section::new(
            "DESCRIPTION",
            vec![
                Block::Text(
                    "Installs, removes, explains and compares the rules that redirect a workload's TCP and DNS to its Kuma sidecar. The \
                     command replaces `kumactl install transparent-proxy` and `kumactl uninstall transparent-proxy`, and takes their flags, \
                     files and environment variables."
                        .into(),
                ),
                Block::Text(
                    "Files override defaults, environment variables override files, and flags override both. A file or standard input is \
                     read up to 64 MiB."
                        .into(),
                ),
                Block::Text(
                    "The result goes to standard output. Warnings and errors go to standard error; a clean run writes nothing there. What \
                     cannot be read is reported as not known, never as absent."
                        .into(),
                ),
            ],
        ),
        Section::new("COMMANDS", vec![subcommands(root)]),
        Section::new("EXIT STATUS", vec![exits(|_| true)]),
        Section::new(
            "ENVIRONMENT",
            vec![items(&[
                (
                    "KUMA_TRANSPARENT_PROXY_*",
                    "Sets any configuration key: `KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT` is `redirect.outbound.port`.",
                ),
                (
                    "PATH",
                    "Where the iptables programs are looked for, before /usr/sbin, /sbin, /usr/bin and /bin. Directories that are not absolute are left out.",
                ),
                ("XTABLES_LOCKFILE", "The lock file of iptables-legacy, if it is not /run/xtables.lock."),
                (
                    "XTABLES_LIBDIR, IPTABLES_LIB_DIR, IP6TABLES_LIB_DIR",
                    "Where the iptables programs find their extensions. The programs get these, PATH, XTABLES_LOCKFILE and LC_ALL=C, and no other variable.",
                ),
            ])],
        ),
        Section::new("FILES", vec![items(FILES)]),
    ]
}

fn sections(command: &Command, title: &str) -> Vec<Section> {
    let mut sections = vec![Section::new("SYNOPSIS", vec![Block::Code(usage(command, title))])];
    if let Some(long) = command.get_long_about() {
        sections.push(Section::text("DESCRIPTION", long.to_string()));
    }
    sections.extend(arguments(command));
    sections.extend(options(command));
    if command.has_subcommands() {
        sections.push(Section::new("COMMANDS", vec![subcommands(command)]));
    }
    if let Some((_, text)) = PRIVILEGES.iter().find(|(name, _)| title == format!("kumatp {name}")) {
        sections.push(Section::text("PRIVILEGES", *text));
    }
    sections.push(Section::new("EXIT STATUS", vec![exits(|name| name == command.get_name())]));
    if let Some(examples) = command.get_after_help().map(ToString::to_string) {
        sections.push(Section::new("EXAMPLES", example(&examples)));
    }
    sections
}

/// How the command is called; a part of the tree may know its own name only.
fn usage(command: &Command, title: &str) -> String {
    let usage = command.clone().render_usage().to_string();
    let (_, rest) = usage.split_once(command.get_name()).expect("usage names the command");
    format!("{title}{}", rest.trim_end())
}

fn arguments(command: &Command) -> Option<Section> {
    let shown = command.get_positionals().filter(|arg| !arg.is_hide_set());
    let item = |arg: &Arg| Item { term: values(arg).join(" "), value: String::new(), text: help(arg) };
    let items: Vec<Item> = shown.map(item).collect();
    (!items.is_empty()).then(|| Section::new("ARGUMENTS", vec![Block::Items(items)]))
}

/// The flags, by the headings that help has, in its order.
fn options(command: &Command) -> Option<Section> {
    let shown: Vec<&Arg> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && arg.get_long().is_some_and(|name| name != "help"))
        .collect();
    let mut headings: Vec<Option<&str>> = Vec::new();
    for arg in &shown {
        let heading = arg.get_help_heading();
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    headings.sort_by_key(Option::is_some);
    let mut blocks = Vec::new();
    for heading in headings {
        blocks.extend(heading.map(|heading| Block::Heading(heading.into())));
        let these = shown.iter().filter(|arg| arg.get_help_heading() == heading);
        blocks.push(Block::Items(these.map(|arg| option(arg)).collect()));
    }
    (!blocks.is_empty()).then(|| Section::new("OPTIONS", blocks))
}

fn option(arg: &Arg) -> Item {
    let long = arg.get_long().unwrap_or_default();
    let term = match arg.get_short() {
        Some(short) => format!("-{short}, --{long}"),
        None => format!("--{long}"),
    };
    let value = match (arg.get_action().takes_values(), arg.is_require_equals_set()) {
        (false, _) => String::new(),
        (true, true) => format!("[={}]", values(arg).join(" ")),
        (true, false) => format!(" {}", values(arg).join(" ")),
    };
    Item { term, value, text: help(arg) }
}

fn values(arg: &Arg) -> Vec<String> {
    match arg.get_value_names() {
        Some(names) => names.iter().map(ToString::to_string).collect(),
        None => vec![arg.get_id().to_string().to_uppercase()],
    }
}

fn help(arg: &Arg) -> String {
    let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
    let possible: Vec<String> = match arg.is_hide_possible_values_set() {
        true => Vec::new(),
        false => arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect(),
    };
    if arg.get_action().takes_values() && !possible.is_empty() {
        help.push_str(&format!(" [possible values: {}]", possible.join(", ")));
    }
    // That a switch is off is nothing to say.
    if let Some(default) = arg.get_default_values().first().filter(|_| arg.get_action().takes_values()) {
        help.push_str(&format!(" [default: {}]", default.to_string_lossy()));
    }
    help
}

/// The text behind the flags: commands are indented.
fn example(text: &str) -> Vec<Block> {
    let paragraphs = text.split("\n\n").filter(|part| !part.trim().is_empty());
    paragraphs
        .map(|part| match part.trim_matches('\n') {
            code if code.starts_with("  ") => {
                Block::Code(code.lines().map(str::trim_start).collect::<Vec<_>>().join("\n"))
            }
            text => Block::Text(text.replace('\n', " ").trim_start_matches("Example: ").to_owned()),
        })
        .collect()
}
