//! The way back: from what the kernel lists to the native form.

use crate::error::visible;
use crate::model::{BuiltinChain, Comment, CtState, End, LogLevel};
use crate::net::{FamilyName, Port, Protocol};
use crate::netlink::KernelTable;
use crate::netlink::constants::*;
use crate::netlink::elements::Elements;
use crate::netlink::expression::{Expression, bytes};
use crate::netlink::kernel_table::{BaseContent, ChainContent, RuleContent, SetContent};
use crate::nftables::{
    Action, Base, Chain, ChainType, Condition, Field, Foreign, LiveChain, LiveTable, Marker, Name, Rule, Set, Span,
    Table, Values,
};

impl KernelTable {
    /// The table that this is the content of, without its marker.
    ///
    /// # Errors
    /// What in it no table of ours has, in words.
    pub(crate) fn lift(&self, family: FamilyName) -> Result<Table, Vec<String>> {
        let sets = self.lift_sets(family);
        let unknown = self.sets.iter().filter(|set| sets.iter().all(|known| known.name.as_str() != set.name));
        let mut problems: Vec<_> =
            unknown.map(|set| format!("set {} is not one that kumatp makes", set.name)).collect();
        let mut chains = Vec::new();
        for chain in self.lift_chains(&sets, family) {
            match strict(chain) {
                Ok(lifted) => chains.push(lifted),
                Err(found) => problems.extend(found),
            }
        }
        let table = Table { family, chains };
        let used = crate::sorted::set(table.sets().into_iter().map(|set| set.name));
        let unused = sets.iter().filter(|set| !used.contains(&set.name));
        // Where a rule is not understood, it may be the one that uses the set.
        if problems.is_empty() {
            problems.extend(unused.map(|set| format!("no rule uses the set {}", set.name)));
        }
        problems.extend(self.unlike(0));
        if problems.is_empty() { Ok(table) } else { Err(problems) }
    }

    /// The same of a table with anything in it.
    pub(crate) fn lift_live(&self, family: FamilyName) -> LiveTable {
        LiveTable {
            family,
            dormant: self.flags & NFT_TABLE_F_DORMANT != 0,
            chains: self.lift_chains(&self.lift_sets(family), family),
            marker: self.marker(),
        }
    }

    /// The sets that are like ours.
    fn lift_sets(&self, family: FamilyName) -> Vec<Set> {
        self.sets.iter().filter_map(|set| lift_set(set, family)).collect()
    }

    fn lift_chains(&self, sets: &[Set], family: FamilyName) -> Vec<LiveChain> {
        let chains = self.chains.iter().filter(|chain| chain.name != Marker::CHAIN);
        let lift = |chain: &ChainContent| LiveChain {
            name: chain.name.clone(),
            base: chain.base.as_ref().map(lift_base),
            drops: chain.base.as_ref().is_some_and(|base| base.policy != BaseContent::ACCEPT),
            rules: chain.rules.iter().map(|rule| lift_rule(rule, sets, family)).collect(),
        };
        chains.map(lift).collect()
    }
}

/// A chain with nothing in it that none of ours has.
fn strict(chain: LiveChain) -> Result<Chain, Vec<String>> {
    let mut problems = Vec::new();
    let mut rules = Vec::with_capacity(chain.rules.len());
    for (index, rule) in chain.rules.into_iter().enumerate() {
        match rule {
            Ok(lifted) => rules.push(lifted),
            Err(_) => problems.push(format!("rule {} of chain {} is not one that kumatp makes", index + 1, chain.name)),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    match (Name::exactly(&chain.name), chain.base.transpose(), chain.drops) {
        (Some(name), Ok(base), false) => Ok(Chain { name, base, rules }),
        _ => Err(vec![format!("chain {} is not one that kumatp makes", visible(&chain.name))]),
    }
}

/// Where a base chain is called, whatever happens at its end.
fn lift_base(base: &BaseContent) -> Result<Base, Foreign> {
    let known = [ChainType::Filter, ChainType::Nat]
        .into_iter()
        .flat_map(|kind| BuiltinChain::ALL.into_iter().map(move |hook| Base { kind, hook, priority: base.priority }));
    let same = |lifted: &Base| BaseContent { policy: base.policy, ..BaseContent::of(lifted) } == *base;
    known.into_iter().find(same).ok_or_else(|| Foreign {
        conditions: Vec::new(),
        text: format!("type {} hook {} priority {}", visible(&base.kind), base.hook, base.priority),
    })
}

fn lift_rule(rule: &RuleContent, sets: &[Set], family: FamilyName) -> Result<Rule, Foreign> {
    let mut rest = &rule.expressions[..];
    let mut conditions = Vec::new();
    while let Some(condition) = lift_condition(&mut rest, sets, family).filter(|next| may_follow(&conditions, next)) {
        conditions.push(condition);
    }
    if let Some(lifted) = whole(rule, &conditions, rest, family) {
        return Ok(lifted);
    }
    // Some of what was read may not be all that was there.
    loop {
        let start = expressions(&conditions, family);
        if let Some(rest) = rule.expressions.strip_prefix(&start[..]) {
            let mut words: Vec<_> = rest.iter().map(word).collect();
            words.extend(rule.comment().map(|comment| format!("comment \"{}\"", visible(comment))));
            return Err(Foreign { conditions, text: words.join(" ") });
        }
        conditions.pop();
    }
}

/// What an expression does, in a word or two.
fn word(expression: &Expression) -> String {
    match expression {
        Expression::Verdict { code, chain } => {
            let chain = visible(chain.as_deref().unwrap_or_default());
            match *code {
                NF_ACCEPT => "accept".to_owned(),
                NF_DROP => "drop".to_owned(),
                NFT_RETURN => "return".to_owned(),
                NFT_JUMP => format!("jump {chain}"),
                NFT_GOTO => format!("goto {chain}"),
                other => format!("verdict {other}"),
            }
        }
        Expression::Lookup { set, .. } => format!("lookup @{}", visible(set)),
        Expression::Other(name) => visible(name),
        known => known.name().to_owned(),
    }
}

/// Whether a rule of ours can have the condition behind these others: one on a port needs the protocol, and one on
/// the owner is never negated.
fn may_follow(others: &[Condition], next: &Condition) -> bool {
    match next {
        Condition::Value { field: Field::SourcePort | Field::DestinationPort, .. } => {
            let tells =
                |other: &Condition| matches!(other, Condition::Protocol { negated: false, .. } | Condition::MidStream);
            others.iter().any(tells)
        }
        Condition::Value { field: Field::User | Field::Group, negated, .. } => !negated,
        _ => true,
    }
}

/// The rule of these conditions, if what was read is all that was there.
fn whole(rule: &RuleContent, conditions: &[Condition], rest: &[Expression], family: FamilyName) -> Option<Rule> {
    let comment = match rule.comment() {
        None => None,
        Some(text) => Some(text.parse::<Comment>().ok()?),
    };
    let lifted =
        Rule { conditions: conditions.to_vec(), action: lift_action(rest)?, comment, sources: Vec::new(), added: None };
    (RuleContent::of(&lifted, family) == *rule).then_some(lifted)
}

/// What a rule with these conditions begins with.
fn expressions(conditions: &[Condition], family: FamilyName) -> Vec<Expression> {
    let rule = Rule::of_conditions(conditions);
    let mut expressions = Expression::of(&rule, family);
    // The action.
    expressions.pop();
    expressions
}

/// Takes the expressions of one condition off the front.
fn lift_condition(rest: &mut &[Expression], sets: &[Set], family: FamilyName) -> Option<Condition> {
    let (condition, after) = match rest {
        [
            Expression::Meta(NFT_META_L4PROTO),
            Expression::Compare { .. },
            Expression::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 13, .. },
            Expression::Mask(_),
            Expression::Compare { .. },
            after @ ..,
        ] => (Condition::MidStream, after),
        [Expression::Meta(NFT_META_IIFNAME), Expression::Compare { operation, value }, after @ ..] => {
            (Condition::InInterface { interface: interface(value)?, negated: negated(*operation) }, after)
        }
        [Expression::Meta(NFT_META_OIFNAME), Expression::Compare { operation, value }, after @ ..] => {
            (Condition::OutInterface { interface: interface(value)?, negated: negated(*operation) }, after)
        }
        [Expression::Meta(NFT_META_L4PROTO), Expression::Compare { operation, value }, after @ ..] => {
            let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| [p.number()] == value[..])?;
            (Condition::Protocol { protocol, negated: negated(*operation) }, after)
        }
        [Expression::CtState, Expression::Mask(_), Expression::Compare { operation, .. }, after @ ..] => {
            // "Is in the state" is "the bit is not zero".
            (Condition::CtState { state: CtState::Invalid, negated: !negated(*operation) }, after)
        }
        [Expression::CtStatus, Expression::Mask(_), Expression::Compare { .. }, after @ ..] => {
            (Condition::Translated, after)
        }
        [Expression::AddressType(flag), Expression::Compare { operation, .. }, after @ ..] => {
            let end = match *flag {
                NFTA_FIB_F_SADDR => End::Source,
                NFTA_FIB_F_DADDR => End::Destination,
                _ => return None,
            };
            (Condition::Local { end, negated: negated(*operation) }, after)
        }
        [Expression::Wildcard, Expression::Compare { .. }, after @ ..] => (Condition::BoundSocket, after),
        [load, after @ ..] => {
            let (field, loaded) = field(load, family)?;
            let (spans, set, negated, after) = lift_values(field, loaded, after, sets, family)?;
            (Condition::Value { field, values: Values { spans, set }, negated }, after)
        }
        [] => return None,
    };
    *rest = after;
    Some(condition)
}

type Lifted<'a> = (std::sync::Arc<[Span]>, Option<Name>, bool, &'a [Expression]);

/// What a field, of which so many bytes are loaded, is compared with.
fn lift_values<'a>(
    field: Field,
    loaded: usize,
    expressions: &'a [Expression],
    sets: &[Set],
    family: FamilyName,
) -> Option<Lifted<'a>> {
    let owner = matches!(field, Field::User | Field::Group);
    let one = |first, last, negated, after| Some(([Span { first, last }].into(), None, negated, after));
    let low_bits = |count: usize| u128::MAX.checked_shr(128 - 8 * count as u32).unwrap_or(0);
    match expressions {
        [Expression::Compare { operation: operation @ (NFT_CMP_EQ | NFT_CMP_NEQ), value }, after @ ..] => {
            if owner {
                let id = u32::from_ne_bytes(value[..].try_into().ok()?).into();
                return one(id, id, negated(*operation), after);
            }
            let open = 8 * field.width(family).checked_sub(loaded)?;
            let first = number(value)?.checked_shl(open as u32)?;
            one(first, first | low_bits(open / 8), negated(*operation), after)
        }
        [Expression::Mask(mask), Expression::Compare { operation, value }, after @ ..] => {
            let first = number(value)?;
            one(first, first | (!number(mask)? & low_bits(mask.len())), negated(*operation), after)
        }
        [Expression::BigEndian, after @ ..] if owner => lift_range(after, sets, one),
        after => lift_range(after, sets, one),
    }
}

fn lift_range<'a>(
    expressions: &'a [Expression],
    sets: &[Set],
    one: impl FnOnce(u128, u128, bool, &'a [Expression]) -> Option<Lifted<'a>>,
) -> Option<Lifted<'a>> {
    match expressions {
        [
            Expression::Compare { operation: NFT_CMP_GTE, value: first },
            Expression::Compare { operation: NFT_CMP_LTE, value: last },
            after @ ..,
        ] => one(number(first)?, number(last)?, false, after),
        [Expression::Outside { first, last }, after @ ..] => one(number(first)?, number(last)?, true, after),
        [Expression::Lookup { set, inverted }, after @ ..] => {
            let set = sets.iter().find(|known| known.name.as_str() == set)?;
            Some((set.spans.clone(), Some(set.name.clone()), *inverted, after))
        }
        _ => None,
    }
}

/// The field that an expression loads, and how many bytes of it.
fn field(load: &Expression, family: FamilyName) -> Option<(Field, usize)> {
    let (source, destination) = match family {
        FamilyName::V4 => (12, 16),
        FamilyName::V6 => (8, 24),
    };
    let (field, length) = match load {
        Expression::Meta(NFT_META_SKUID) => (Field::User, 4),
        Expression::Meta(NFT_META_SKGID) => (Field::Group, 4),
        Expression::Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset, length } if *offset == source => {
            (Field::SourceAddress, *length)
        }
        Expression::Payload { base: NFT_PAYLOAD_NETWORK_HEADER, offset, length } if *offset == destination => {
            (Field::DestinationAddress, *length)
        }
        Expression::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 0, length } => (Field::SourcePort, *length),
        Expression::Payload { base: NFT_PAYLOAD_TRANSPORT_HEADER, offset: 2, length } => {
            (Field::DestinationPort, *length)
        }
        _ => return None,
    };
    Some((field, usize::try_from(length).ok()?))
}

fn lift_action(expressions: &[Expression]) -> Option<Action> {
    let chain = |name: &Option<String>| Name::exactly(name.as_deref()?);
    Some(match expressions {
        [Expression::Verdict { code, chain: to }] => match *code {
            NF_ACCEPT => Action::Accept,
            NF_DROP => Action::Drop,
            NFT_RETURN => Action::Return,
            NFT_JUMP => Action::Jump { chain: chain(to)? },
            NFT_GOTO => Action::Goto { chain: chain(to)? },
            _ => return None,
        },
        [Expression::Immediate(port), Expression::Redirect] => {
            Action::Redirect { port: Port::new(u16::from_be_bytes(port[..].try_into().ok()?))? }
        }
        [Expression::Immediate(port), Expression::Translate { address: false, .. }] => {
            Action::Translate { to: End::Destination, port: Port::new(u16::from_be_bytes(port[..].try_into().ok()?))? }
        }
        [_, Expression::Port(port), Expression::Translate { address: true, .. }] => {
            Action::Translate { to: End::Source, port: Port::new(u16::from_be_bytes(port[..].try_into().ok()?))? }
        }
        [Expression::Immediate(zone), Expression::Zone] => {
            Action::Zone { zone: u16::from_ne_bytes(zone[..].try_into().ok()?) }
        }
        [Expression::Log { prefix, level }] => {
            Action::Log { prefix: prefix.parse().ok()?, level: LogLevel::new(u8::try_from(*level).ok()?)? }
        }
        _ => return None,
    })
}

fn lift_set(set: &SetContent, family: FamilyName) -> Option<Set> {
    // The type of the keys tells addresses, ports, users and groups apart, which is all that matters.
    let fields = [Field::DestinationAddress, Field::DestinationPort, Field::User, Field::Group];
    let Elements::Intervals(spans) = &set.elements else { return None };
    fields.into_iter().find_map(|field| {
        let lifted = Set { name: Name::exactly(&set.name)?, field, spans: spans.clone() };
        // All that is known of the set has to be what ours would have.
        (lifted.spans.len() > 1 && SetContent::of(&lifted, family) == *set).then_some(lifted)
    })
}

/// A whole name has its NULs, the beginning of one has none.
fn interface(value: &[u8]) -> Option<crate::net::InterfacePattern> {
    match value.iter().position(|byte| *byte == 0) {
        Some(end) => std::str::from_utf8(&value[..end]).ok()?.parse().ok(),
        None => format!("{}+", std::str::from_utf8(value).ok()?).parse().ok(),
    }
}

fn negated(operation: u32) -> bool {
    operation == NFT_CMP_NEQ
}

/// A number of at most 16 bytes, big endian.
fn number(value: &[u8]) -> Option<u128> {
    let number = value.iter().try_fold(0_u128, |sum, byte| Some(sum.checked_mul(256)? + u128::from(*byte)))?;
    (bytes(number, value.len().min(16)) == value).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::facts::{Facts, Resolvers};
    use crate::net::Uid;
    use crate::nftables::Native;

    /// Conditions and actions of every kind.
    fn everything() -> Native {
        let mut config = Config::default();
        config.redirect.dns.enabled = true;
        config.drop_invalid_packets = true;
        config.log.enabled = true;
        config.redirect.vnet = ["br+:172.18.0.0/17", "eth1:fd00:9::/63"].map(|t| t.parse().expect("valid")).to_vec();
        let outbound = &mut config.redirect.outbound;
        outbound.exclude_ports = "1,3,60000-65535".parse().expect("valid");
        outbound.exclude_ips = ["10.0.0.0/8", "10.1.0.0/16", "240.0.0.0/4", "198.51.100.7", "fd00::/7"]
            .map(|t| t.parse().expect("valid"))
            .to_vec();
        outbound.exclude_ports_for_uids =
            ["tcp:22:7", "tcp:22:9-11", "tcp:80-90:13-14"].map(|t| t.parse().expect("valid")).to_vec();
        let mut facts = Facts::capable_host(Uid::SIDECAR);
        facts.resolvers = Some(Resolvers::new(["127.0.0.11", "fd00::53"].map(|t| t.parse().expect("valid"))));
        Native::of(&crate::policy::plan(&config, &facts).expect("the configuration fits the facts"))
    }

    #[test]
    fn a_table_is_read_back() {
        for mut table in [everything().v4, everything().v6.unwrap()] {
            let content = KernelTable::of(&table);
            let marker = content.marker().unwrap();
            table.chains.retain(|chain| chain.name.as_str() != Marker::CHAIN);
            let lifted = content.lift(table.family).unwrap();
            assert_eq!(lifted, table);
            let native = everything();
            let lift = |table: &Table| KernelTable::of(table).lift(table.family).unwrap();
            assert_eq!(Marker::digest(&native.tables().map(lift).collect::<Vec<_>>()), marker.digest);
        }
    }

    #[test]
    fn what_is_not_ours_is_named() {
        let table = everything().v4;
        let problems = |change: &dyn Fn(&mut KernelTable)| {
            let mut content = KernelTable::of(&table);
            change(&mut content);
            content.lift(table.family).unwrap_err().join("\n")
        };
        let last = |content: &KernelTable| content.chains.iter().position(|c| c.name == "nat_output_last").unwrap();
        let counter = problems(&|content| {
            let at = last(content);
            content.chains[at].rules[1].expressions.insert(0, Expression::Other("counter".to_owned()));
        });
        assert_eq!(counter, "rule 2 of chain nat_output_last is not one that kumatp makes");
        let policy = problems(&|content| {
            let at = last(content);
            content.chains[at].base.as_mut().unwrap().policy = 0;
        });
        assert_eq!(policy, "chain nat_output_last is not one that kumatp makes");
        assert_eq!(problems(&|content| content.flags = 1), "the table is switched off (flags dormant)");
        let set = problems(&|content| {
            let mut more = content.sets[0].clone();
            more.name = "more_1".to_owned();
            content.sets.push(more);
        });
        assert_eq!(set, "no rule uses the set more_1");
    }
}
