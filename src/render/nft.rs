//! Scripts for `nft -f`, of the native form (see [`nftables`](crate::nftables)).

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::error::Error;
use crate::iptables_save::SavedFamilies;
use crate::model::{CtState, End, LogLevel, Plan, Ruleset};
use crate::net::{Family, FamilyName, InterfacePattern, Protocol};
use crate::nftables::{
    Action, Base, Chain, ChainType, Condition, Field, Native, Rule, Set, Span, TABLE, Table, Values,
};

/// A script that installs a plan in place of whatever version of it is there, both families in one
/// transaction. It may be loaded again and again. If the plan leaves IPv6 out, an IPv6 table that is
/// there is deleted.
///
/// ```
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let script = kumatp::render::nft::plan(&plan);
/// assert!(script.starts_with("table ip kuma-mesh\ndelete table ip kuma-mesh\ntable ip6 kuma-mesh\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn plan(plan: &Plan) -> String {
    native(&Native::of(plan))
}

/// The script of a native form; see [`plan`].
pub fn native(native: &Native) -> String {
    let mut text = String::new();
    for family in FamilyName::ALL {
        write_removal(&mut text, family);
    }
    for table in native.tables() {
        text.push('\n');
        write_table(&mut text, table);
    }
    text
}

/// A script that installs the rules of one family, whatever they are: those of an iptables-restore
/// text, for example.
///
/// It is a translation of what the rules do, not of where they stand: they go into our own table
/// [`TABLE`], appended rules after the chains of iptables and inserted ones before them. Policies of
/// built-in chains and what the model does not know are not in it.
pub fn ruleset<F: Family>(ruleset: &Ruleset<F>) -> String {
    let mut text = String::new();
    write_removal(&mut text, F::NAME);
    text.push('\n');
    write_table(&mut text, &Table::of(ruleset));
    text
}

/// The scripts of an iptables-save or iptables-restore text, with or without the headings of
/// [`families`](crate::iptables_save::families): one [`ruleset`] for each family that it has.
///
/// # Errors
/// [`Error::Config`], if the text is not of the syntax, or has a rule or a policy that the model cannot say.
///
/// ```
/// let script = kumatp::render::nft::translate("*nat\n-A OUTPUT -p tcp --dport 22 -j REDIRECT --to-ports 15001\nCOMMIT\n")?;
/// assert!(script.contains("tcp dport 22 redirect to :15001"));
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn translate(text: &str) -> Result<String, Error> {
    let saved = SavedFamilies::parse(text)?;
    let v4 = saved.v4.map(|saved| Ok(ruleset(&saved.ruleset()?)));
    let v6 = saved.v6.map(|saved| Ok(ruleset(&saved.ruleset()?)));
    let scripts: Result<Vec<_>, Error> = [v4, v6].into_iter().flatten().collect();
    Ok(scripts?.join("\n"))
}

/// A script that removes every installation.
pub fn removal() -> String {
    let mut text = String::new();
    for family in FamilyName::ALL {
        write_removal(&mut text, family);
    }
    text
}

/// One table, as it is.
pub(crate) fn table(table: &Table) -> String {
    let mut text = String::new();
    write_table(&mut text, table);
    text
}

/// One rule, as it stands in its chain.
pub fn rule(rule: &Rule, family: FamilyName) -> String {
    RuleText { rule, family }.to_string()
}

fn keyword(family: FamilyName) -> &'static str {
    match family {
        FamilyName::V4 => "ip",
        FamilyName::V6 => "ip6",
    }
}

/// A table cannot be deleted if it is not there, so it is added first.
fn write_removal(text: &mut String, family: FamilyName) {
    let family = keyword(family);
    let _ = writeln!(text, "table {family} {TABLE}\ndelete table {family} {TABLE}");
}

fn write_table(text: &mut String, table: &Table) {
    let _ = writeln!(text, "table {} {TABLE} {{", keyword(table.family));
    for (index, set) in table.sets().iter().enumerate() {
        separate(text, index);
        write_set(text, set, table.family);
    }
    let sets = table.sets().len();
    for (index, chain) in table.chains.iter().enumerate() {
        separate(text, sets + index);
        write_chain(text, chain, table.family);
    }
    text.push_str("}\n");
}

fn separate(text: &mut String, index: usize) {
    if index > 0 {
        text.push('\n');
    }
}

fn write_set(text: &mut String, set: &Set, family: FamilyName) {
    let kind = match (set.field, family) {
        (Field::SourceAddress | Field::DestinationAddress, FamilyName::V4) => "ipv4_addr",
        (Field::SourceAddress | Field::DestinationAddress, FamilyName::V6) => "ipv6_addr",
        (Field::SourcePort | Field::DestinationPort, _) => "inet_service",
        (Field::User, _) => "uid",
        (Field::Group, _) => "gid",
    };
    let _ = writeln!(text, "\tset {} {{\n\t\ttype {kind}\n\t\tflags interval\n\t\telements = {{", set.name);
    for (index, span) in set.spans.iter().enumerate() {
        let comma = if index + 1 < set.spans.len() { "," } else { "" };
        let _ = writeln!(text, "\t\t\t{}{comma}", SpanText { span: *span, field: set.field, family });
    }
    text.push_str("\t\t}\n\t}\n");
}

fn write_chain(text: &mut String, chain: &Chain, family: FamilyName) {
    let _ = writeln!(text, "\tchain {} {{", chain.name);
    if let Some(Base { kind, hook, priority, .. }) = chain.base {
        let kind = match kind {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
        };
        let hook = hook.as_str().to_ascii_lowercase();
        let _ = writeln!(text, "\t\ttype {kind} hook {hook} priority {priority}; policy accept;");
    }
    for rule in &chain.rules {
        let _ = writeln!(text, "\t\t{}", RuleText { rule, family });
    }
    text.push_str("\t}\n");
}

/// Conditions as they stand in a rule, each with a space behind it.
pub(crate) fn conditions(conditions: &[Condition], family: FamilyName) -> String {
    let rule = Rule::of_conditions(conditions);
    RuleText { rule: &rule, family }.to_string().trim_end_matches("accept").to_owned()
}

struct RuleText<'a> {
    rule: &'a Rule,
    family: FamilyName,
}

impl fmt::Display for RuleText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { conditions, action, comment, .. } = self.rule;
        // `tcp dport 80` says the protocol as well.
        let ported = |condition: &Condition| {
            matches!(condition, Condition::Value { field: Field::SourcePort | Field::DestinationPort, .. })
        };
        let protocol = conditions.iter().find_map(|condition| match condition {
            Condition::Protocol { protocol, negated: false } => Some(*protocol),
            // Which only TCP has.
            Condition::MidStream => Some(Protocol::Tcp),
            _ => None,
        });
        let said = conditions.iter().any(ported);
        for condition in conditions {
            match condition {
                Condition::InInterface { interface, negated } => {
                    write!(f, "iifname {}{} ", not(*negated), Interface(interface))?;
                }
                Condition::OutInterface { interface, negated } => {
                    write!(f, "oifname {}{} ", not(*negated), Interface(interface))?;
                }
                Condition::Protocol { negated: false, .. } if said => {}
                Condition::Protocol { protocol, negated } => write!(f, "meta l4proto {}{protocol} ", not(*negated))?,
                Condition::Value { field, values, negated } => {
                    let family = keyword(self.family);
                    match field {
                        Field::SourceAddress => write!(f, "{family} saddr ")?,
                        Field::DestinationAddress => write!(f, "{family} daddr ")?,
                        Field::SourcePort | Field::DestinationPort => {
                            let end = if *field == Field::SourcePort { "sport" } else { "dport" };
                            match protocol {
                                Some(protocol) => write!(f, "{protocol} {end} ")?,
                                None => write!(f, "th {end} ")?,
                            }
                        }
                        Field::User => f.write_str("meta skuid ")?,
                        Field::Group => f.write_str("meta skgid ")?,
                    }
                    write!(f, "{}{} ", not(*negated), ValuesText { values, field: *field, family: self.family })?;
                }
                Condition::Local { end, negated } => write!(f, "fib {} type {}local ", address(*end), not(*negated))?,
                Condition::BoundSocket => f.write_str("socket wildcard 0 ")?,
                Condition::Translated => f.write_str("ct status dnat ")?,
                Condition::MidStream => f.write_str("tcp flags & (fin | syn | rst | ack) != syn ")?,
                Condition::CtState { state, negated } => {
                    let state = match state {
                        CtState::Invalid => "invalid",
                    };
                    match negated {
                        false => write!(f, "ct state {state} ")?,
                        true => write!(f, "ct state & {state} == 0 ")?,
                    }
                }
            }
        }
        match action {
            Action::Accept => f.write_str("accept")?,
            Action::Drop => f.write_str("drop")?,
            Action::Return => f.write_str("return")?,
            Action::Jump { chain } => write!(f, "jump {chain}")?,
            Action::Goto { chain } => write!(f, "goto {chain}")?,
            Action::Redirect { port } => write!(f, "redirect to :{port}")?,
            Action::Translate { to: End::Destination, port } => write!(f, "dnat to :{port}")?,
            Action::Translate { to, port } => {
                write!(f, "dnat to {} {} : {port}", keyword(self.family), address(*to))?;
            }
            Action::Log { prefix, level } => write!(f, "log prefix \"{prefix}\" level {}", severity(*level))?,
            Action::Zone { zone } => write!(f, "ct zone set {zone}")?,
        }
        // Neither comments nor prefixes can hold a quote or a control character.
        comment.as_ref().map_or(Ok(()), |comment| write!(f, " comment \"{comment}\""))
    }
}

fn address(end: End) -> &'static str {
    match end {
        End::Source => "saddr",
        End::Destination => "daddr",
    }
}

fn severity(level: LogLevel) -> &'static str {
    const NAMES: [&str; 8] = ["emerg", "alert", "crit", "err", "warn", "notice", "info", "debug"];
    NAMES[usize::from(level.number() & 7)]
}

fn not(negated: bool) -> &'static str {
    if negated { "!= " } else { "" }
}

struct Interface<'a>(&'a InterfacePattern);

impl fmt::Display for Interface<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.prefix() {
            Some(prefix) => write!(f, "\"{prefix}*\""),
            None => write!(f, "\"{}\"", self.0),
        }
    }
}

struct ValuesText<'a> {
    values: &'a Values,
    field: Field,
    family: FamilyName,
}

impl fmt::Display for ValuesText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { values, field, family } = *self;
        match (&values.set, values.spans.first()) {
            (Some(set), _) => write!(f, "@{set}"),
            (None, Some(span)) => write!(f, "{}", SpanText { span: *span, field, family }),
            (None, None) => Ok(()),
        }
    }
}

struct SpanText {
    span: Span,
    field: Field,
    family: FamilyName,
}

impl fmt::Display for SpanText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { span, field, family } = *self;
        let address = matches!(field, Field::SourceAddress | Field::DestinationAddress);
        let write = |f: &mut fmt::Formatter<'_>, value: u128| match (address, family) {
            // The low 32 bits are all there are.
            (true, FamilyName::V4) => write!(f, "{}", Ipv4Addr::from(value as u32)),
            (true, FamilyName::V6) => write!(f, "{}", Ipv6Addr::from(value)),
            (false, _) => write!(f, "{value}"),
        };
        write(f, span.first)?;
        let bits = 8 * field.width(family) as u32;
        match (span.is_single(), span.prefix(bits)) {
            (true, _) => Ok(()),
            (false, Some(prefix)) if address => write!(f, "/{prefix}"),
            _ => {
                f.write_str("-")?;
                write(f, span.last)
            }
        }
    }
}
