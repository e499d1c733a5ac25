//! The form of iptables-save.

use std::fmt::Write as _;

use crate::model::{
    BuiltinChain, Chain, CtState, End, Match, Owner, PortMatch, Rule, Ruleset, Table, TableName, Target, Transport,
};
use crate::net::{Family, PortRange};

/// The rules as iptables-save lists them on a host that had no rules: chains with policies and zero
/// counters, every rule appended.
///
/// Chains come in the order of the ruleset; the [canonical](Ruleset::canonical) one is iptables-nft's.
pub fn write<F: Family>(ruleset: &Ruleset<F>) -> String {
    let mut text = String::new();
    for table in &ruleset.tables {
        write_table(&mut text, table);
    }
    text
}

/// The built-in chains of a table, in the order in which iptables lists them.
fn builtin_chains(table: TableName) -> &'static [BuiltinChain] {
    use BuiltinChain::{Forward, Input, Output, Postrouting, Prerouting};
    match table {
        TableName::Raw => &[Prerouting, Output],
        TableName::Mangle => &[Prerouting, Input, Forward, Output, Postrouting],
        TableName::Nat => &[Prerouting, Input, Output, Postrouting],
        TableName::Filter | TableName::Security => &[Input, Forward, Output],
    }
}

fn write_table<F: Family>(text: &mut String, table: &Table<F>) {
    let _ = writeln!(text, "*{}", table.name);
    for chain in builtin_chains(table.name) {
        let _ = writeln!(text, ":{} ACCEPT [0:0]", chain.as_str());
    }
    for chain in table.user_defined() {
        let _ = writeln!(text, ":{} - [0:0]", chain.name);
    }
    for chain in &table.chains {
        write_chain(text, chain);
    }
    text.push_str("COMMIT\n");
}

fn write_chain<F: Family>(text: &mut String, chain: &Chain<F>) {
    for rule in chain.in_effect().cloned().flat_map(Rule::split_multiport) {
        let _ = write!(text, "-A {}", chain.name);
        write_rule(text, &rule);
        text.push('\n');
    }
}

/// First the conditions that are not of a module, in a fixed order, then the modules.
fn write_rule<F: Family>(text: &mut String, rule: &Rule<F>) {
    let mut headers: Vec<_> = rule.matches.iter().collect();
    crate::sorted::by_key(&mut headers, |condition| condition.canonical_rank());
    for condition in headers {
        write_header(text, condition);
    }
    if let Some(comment) = &rule.comment {
        text.push_str(" -m comment --comment ");
        write_quoted(text, comment.as_str());
    }
    for condition in &rule.matches {
        write_module(text, condition);
    }
    write_target(text, &rule.target);
}

fn write_header<F: Family>(text: &mut String, condition: &Match<F>) {
    let _ = match condition {
        Match::Source { net, negated } => write!(text, "{} -s {}/{}", not(*negated), net.first(), net.prefix()),
        Match::Destination { net, negated } => write!(text, "{} -d {}/{}", not(*negated), net.first(), net.prefix()),
        Match::InInterface { interface, negated } => write!(text, "{} -i {interface}", not(*negated)),
        Match::OutInterface { interface, negated } => write!(text, "{} -o {interface}", not(*negated)),
        Match::Transport(transport) => write!(text, " -p {}", transport.protocol),
        Match::Owner { .. } | Match::Local { .. } | Match::CtState { .. } | Match::Translated => Ok(()),
    };
}

fn write_module<F: Family>(text: &mut String, condition: &Match<F>) {
    let _ = match condition {
        Match::Transport(transport) => {
            write_ports(text, transport);
            Ok(())
        }
        Match::Owner { owner, negated } => {
            let (option, first, last) = match owner {
                Owner::Uid(range) => ("--uid-owner", range.first().number(), range.last().number()),
                Owner::Gid(range) => ("--gid-owner", range.first().number(), range.last().number()),
            };
            match first == last {
                true => write!(text, " -m owner{} {option} {first}", not(*negated)),
                false => write!(text, " -m owner{} {option} {first}-{last}", not(*negated)),
            }
        }
        Match::Local { end: End::Source } => write!(text, " -m addrtype --src-type LOCAL"),
        Match::Local { end: End::Destination } => write!(text, " -m addrtype --dst-type LOCAL"),
        Match::Translated => write!(text, " -m conntrack --ctstate DNAT"),
        Match::CtState { state, negated } => {
            let state = match state {
                CtState::Invalid => "INVALID",
            };
            write!(text, " -m conntrack{} --ctstate {state}", not(*negated))
        }
        Match::Source { .. } | Match::Destination { .. } | Match::InInterface { .. } | Match::OutInterface { .. } => {
            Ok(())
        }
    };
}

fn write_ports(text: &mut String, transport: &Transport) {
    let sides = [(&transport.source, "--sport"), (&transport.destination, "--dport")];
    let is_range = |ports: &Option<PortMatch>| matches!(ports, Some(PortMatch::Range { .. }));
    if sides.iter().any(|(ports, _)| is_range(ports)) || transport.mid_stream {
        let _ = write!(text, " -m {}", transport.protocol);
    }
    for (ports, option) in sides {
        if let Some(PortMatch::Range { range, negated }) = ports {
            let _ = write!(text, "{} {option} ", not(*negated));
            write_range(text, *range);
        }
    }
    if transport.mid_stream {
        text.push_str(" ! --tcp-flags FIN,SYN,RST,ACK SYN");
    }
    for (ports, option) in sides {
        if let Some(PortMatch::Multiport { ports, negated }) = ports {
            let _ = write!(text, " -m multiport{} {option}s ", not(*negated));
            for (index, range) in ports.ranges().iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_range(text, *range);
            }
        }
    }
}

fn write_target(text: &mut String, target: &Target) {
    let _ = match target {
        Target::Accept => write!(text, " -j ACCEPT"),
        Target::Drop => write!(text, " -j DROP"),
        Target::Return => write!(text, " -j RETURN"),
        Target::Jump { chain } => write!(text, " -j {chain}"),
        Target::Redirect { port } => write!(text, " -j REDIRECT --to-ports {port}"),
        Target::Log { prefix, level } => {
            text.push_str(" -j LOG --log-prefix ");
            write_quoted(text, prefix.as_str());
            // iptables-save leaves the default out: warning.
            match level.number() {
                4 => Ok(()),
                number => write!(text, " --log-level {number}"),
            }
        }
        Target::Zone { zone } => write!(text, " -j CT --zone {zone}"),
    };
}

fn write_range(text: &mut String, range: PortRange) {
    let _ = match range.is_single() {
        true => write!(text, "{}", range.first()),
        false => write!(text, "{}:{}", range.first(), range.last()),
    };
}

/// Quoted unless of plain characters only (iptables/libxtables/xtables.c, `xtables_save_string`).
fn write_quoted(text: &mut String, value: &str) {
    if !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        if matches!(c, '"' | '\\' | '\'') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
}

fn not(negated: bool) -> &'static str {
    if negated { " !" } else { "" }
}
