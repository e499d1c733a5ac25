//! Text for `iptables-restore --noflush` and `ip6tables-restore --noflush`, as kumactl prints it.

use std::fmt::Write as _;

use crate::model::{Chain, End, Match, Owner, Placement, Plan, PortMatch, Rule, Ruleset, Table, Target, Transport};
use crate::net::{Family, FamilyName, PortRange};

/// How long the text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(clippy::exhaustive_enums, reason = "options have a short and a long name")]
pub enum Style {
    /// Short option names, one rule a line.
    #[default]
    Short,
    /// Long option names, headings and blank lines.
    Long,
}

/// The rules of a plan, under the headings `### IPv4 ###` and `### IPv6 ###`. Long if the plan's
/// configuration says `verbose`.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let text = kumatp::render::iptables::plan(&plan);
/// assert!(text.starts_with("### IPv4 ###\n\n* nat\n-N KUMA_MESH_INBOUND\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    let mut text = String::new();
    for name in FamilyName::ALL {
        if let Some(rules) = family(plan, name) {
            let separator = if text.is_empty() { "" } else { "\n" };
            let _ = write!(text, "{separator}### {name} ###\n\n{rules}");
        }
    }
    text
}

/// The rules of a plan for one family, which `iptables-restore` or `ip6tables-restore` takes as they are; none if the plan has
/// none for it.
pub fn family(plan: &Plan, family: FamilyName) -> Option<String> {
    let style = if plan.options.verbose { Style::Long } else { Style::Short };
    match family {
        FamilyName::V4 => Some(ruleset(plan.iptables_v4(), style)),
        FamilyName::V6 => plan.iptables_v6().map(|v6| ruleset(v6, style)),
    }
}

/// The rules of one family, without a heading.
pub fn ruleset<F: Family>(ruleset: &Ruleset<F>, style: Style) -> String {
    let mut text = String::new();
    write_ruleset(&mut text, ruleset, style);
    text
}

/// The lines that add a table's rules, in short form; neither the table nor its chains are declared.
#[cfg(all(feature = "host", target_os = "linux"))]
pub(crate) fn rules<F: Family>(table: &Table<F>) -> String {
    let mut text = String::new();
    for chain in &table.chains {
        write_chain(&mut text, chain, Style::Short);
    }
    text
}

/// The conditions and the target of a rule, as they stand after `-A CHAIN`; the rule must have been
/// [split](Rule::split_multiport) if it names many ports.
pub fn rule<F: Family>(rule: &Rule<F>, style: Style) -> String {
    let mut text = String::new();
    write_rule(&mut text, rule, style);
    text
}

fn write_ruleset<F: Family>(text: &mut String, ruleset: &Ruleset<F>, style: Style) {
    for (index, table) in ruleset.tables.iter().enumerate() {
        if index > 0 && style == Style::Long {
            text.push('\n');
        }
        write_table(text, table, style);
    }
}

fn write_table<F: Family>(text: &mut String, table: &Table<F>, style: Style) {
    let section = |text: &mut String, heading: &str| {
        if style == Style::Long {
            let _ = write!(text, "\n{heading}");
        }
    };
    let _ = writeln!(text, "* {}", table.name);
    if table.user_defined().next().is_some() {
        section(text, "# Custom Chains:\n");
    }
    for chain in table.user_defined() {
        let _ = writeln!(text, "{} {}", style.pick("-N", "--new-chain"), chain.name);
    }
    if table.chains.iter().any(|chain| !chain.rules.is_empty()) {
        section(text, "# Rules:\n");
    }
    for chain in &table.chains {
        write_chain(text, chain, style);
    }
    section(text, "");
    text.push_str("COMMIT\n");
}

fn write_chain<F: Family>(text: &mut String, chain: &Chain<F>, style: Style) {
    let mut position = 0;
    for rule in chain.rules.iter().cloned().flat_map(Rule::split_multiport) {
        match rule.placement {
            Placement::Append => {
                let _ = write!(text, "{} {} ", style.pick("-A", "--append"), chain.name);
            }
            Placement::Insert => {
                position += 1;
                let _ = write!(text, "{} {} {position} ", style.pick("-I", "--insert"), chain.name);
            }
        }
        write_rule(text, &rule, style);
        text.push('\n');
    }
}

fn write_rule<F: Family>(text: &mut String, rule: &Rule<F>, style: Style) {
    if let Some(comment) = &rule.comment {
        let _ = write!(text, "{} comment --comment \"{comment}\" ", style.pick("-m", "--match"));
    }
    for condition in &rule.matches {
        write_match(text, condition, style);
        text.push(' ');
    }
    let jump = style.pick("-j", "--jump");
    let _ = match &rule.target {
        Target::Accept => write!(text, "{jump} ACCEPT"),
        Target::Drop => write!(text, "{jump} DROP"),
        Target::Return => write!(text, "{jump} RETURN"),
        Target::Jump { chain } => write!(text, "{jump} {chain}"),
        Target::Redirect { port } => write!(text, "{jump} REDIRECT --to-ports {port}"),
        Target::Log { prefix, level } => write!(text, "{jump} LOG --log-prefix {prefix} --log-level {level}"),
        Target::Zone { zone } => write!(text, "{jump} CT --zone {zone}"),
    };
}

fn write_match<F: Family>(text: &mut String, condition: &Match<F>, style: Style) {
    let _ = match condition {
        Match::Source { net, negated } => write!(text, "{}{} {net}", not(*negated), style.pick("-s", "--source")),
        Match::Destination { net, negated } => {
            write!(text, "{}{} {net}", not(*negated), style.pick("-d", "--destination"))
        }
        Match::InInterface { interface, negated } => {
            write!(text, "{}{} {interface}", not(*negated), style.pick("-i", "--in-interface"))
        }
        Match::OutInterface { interface, negated } => {
            write!(text, "{}{} {interface}", not(*negated), style.pick("-o", "--out-interface"))
        }
        Match::Transport(transport) => {
            write_transport(text, transport, style);
            Ok(())
        }
        Match::Owner { owner, negated } => {
            let (option, first, last) = match owner {
                Owner::Uid(range) => ("--uid-owner", range.first().number(), range.last().number()),
                Owner::Gid(range) => ("--gid-owner", range.first().number(), range.last().number()),
            };
            let (module, not) = (style.pick("-m", "--match"), not(*negated));
            match first == last {
                true => write!(text, "{module} owner {not}{option} {first}"),
                false => write!(text, "{module} owner {not}{option} {first}:{last}"),
            }
        }
        Match::Local { end } => {
            let option = match end {
                End::Source => "--src-type",
                End::Destination => "--dst-type",
            };
            write!(text, "{} addrtype {option} LOCAL", style.pick("-m", "--match"))
        }
        Match::Translated => write!(text, "{} conntrack --ctstate DNAT", style.pick("-m", "--match")),
        Match::CtState { state, negated } => {
            let state = match state {
                crate::model::CtState::Invalid => "INVALID",
            };
            write!(text, "{} conntrack {}--ctstate {state}", style.pick("-m", "--match"), not(*negated))
        }
    };
}

/// `-m multiport` stands before the protocol, as in kumactl: only then is `--dport` taken for that
/// match's own option.
fn write_transport(text: &mut String, transport: &Transport, style: Style) {
    let multiport = [&transport.source, &transport.destination]
        .into_iter()
        .flatten()
        .any(|p| matches!(p, PortMatch::Multiport { .. }));
    if multiport {
        let _ = write!(text, "{} multiport ", style.pick("-m", "--match"));
    } else if transport.module_first {
        let _ = write!(text, "{} {} ", style.pick("-m", "--match"), transport.protocol);
    }
    let _ = write!(text, "{} {}", style.pick("-p", "--protocol"), transport.protocol);
    for (ports, option) in [
        (&transport.source, style.pick("--sport", "--source-port")),
        (&transport.destination, style.pick("--dport", "--destination-port")),
    ] {
        match ports {
            None => {}
            Some(PortMatch::Range { range, negated }) => {
                let _ = write!(text, " {}{option} ", not(*negated));
                write_range(text, *range);
            }
            Some(PortMatch::Multiport { ports, negated }) => {
                let _ = write!(text, " {}{option} ", not(*negated));
                for (index, range) in ports.ranges().iter().enumerate() {
                    if index > 0 {
                        text.push(',');
                    }
                    write_range(text, *range);
                }
            }
        }
    }
    if transport.mid_stream {
        let _ = write!(text, " ! --tcp-flags FIN,SYN,RST,ACK SYN");
    }
}

fn write_range(text: &mut String, range: PortRange) {
    let _ = match range.is_single() {
        true => write!(text, "{}", range.first()),
        false => write!(text, "{}:{}", range.first(), range.last()),
    };
}

fn not(negated: bool) -> &'static str {
    if negated { "! " } else { "" }
}

impl Style {
    fn pick(self, short: &'static str, long: &'static str) -> &'static str {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}
