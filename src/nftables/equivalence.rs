//! The lowering does what the rules do: random rulesets, in the model and in the native form, are
//! walked by two small interpreters that share nothing, and must agree on every packet.

use arbitrary::{Result, Unstructured};
use arbtest::arbtest;

use super::guards::Guarding;
use super::{Action, Base, ChainType, Condition, Field, Table};
use crate::model::{
    BuiltinChain, Chain, ChainName, CtState, Guards, LogLevel, Match, Owner, PortMatch, Rule, Ruleset, TableName,
    Target, Transport,
};
use crate::net::{Cidr, Family, Gid, Port, PortRange, PortSet, Protocol, Uid, V4};

/// The first packet of a connection.
#[derive(Debug, Clone)]
struct Packet {
    protocol: Option<Protocol>,
    ports: (u16, u16),
    addresses: (u32, u32),
    interfaces: (&'static str, &'static str),
    owner: Option<(u32, u32)>,
    invalid: bool,
}

/// What became of it at one hook.
#[derive(Debug, PartialEq, Default)]
struct HookResult {
    end: End,
    logged: Vec<String>,
    zone: Option<u16>,
}

#[derive(Debug, PartialEq, Default, Clone, Copy)]
enum End {
    #[default]
    Passed,
    Dropped,
    Redirected(u16),
}

#[test]
fn native_rules_do_what_the_rules_do() {
    arbtest(|u| {
        let ruleset = ruleset(u)?;
        let table = Table::of(&ruleset);
        for _ in 0..16 {
            let packet = packet(u)?;
            for name in [TableName::Raw, TableName::Nat] {
                let (model, native) = (by_model(&ruleset, name, &packet), by_native(&table, name, &packet));
                assert_eq!(model, native, "{packet:?}\n{ruleset:#?}\n{table:#?}");
            }
        }
        Ok(())
    })
    .size_min(4000)
    .size_max(40_000)
    .budget_ms(1_000);
}

/// Behind the rules, whatever opens a connection and was not translated is dropped if the rules redirect it, and only then.
#[test]
fn the_closing_chain_decides_as_the_rules_do() {
    let guarding = Guarding { can: Guards::default(), loopback: "lo".parse().unwrap() };
    let (mut dropped, mut passed) = (0, 0);
    arbtest(|u| {
        let ruleset = ruleset(u)?;
        let table = Table::guarded(&ruleset, guarding.clone());
        for _ in 0..16 {
            let mut packet = packet(u)?;
            packet.protocol = Some(Protocol::Tcp);
            let model = by_model(&ruleset, TableName::Nat, &packet).end != End::Passed;
            let closing = table.chain("closing_output");
            let native = closing
                .and_then(|chain| native_chain(&table, chain.name.as_str(), &packet, &mut HookResult::default()));
            assert_eq!(model, native == Some(End::Dropped), "{packet:?}\n{ruleset:#?}\n{table:#?}");
            if model { dropped += 1 } else { passed += 1 }
        }
        Ok(())
    })
    .size_min(4000)
    .size_max(40_000)
    .budget_ms(1_000);
    assert!(dropped > 0 && passed > 0);
}

fn ruleset(u: &mut Unstructured<'_>) -> Result<Ruleset<V4>> {
    let table = |u: &mut Unstructured<'_>, name| {
        let output = ChainName::from(BuiltinChain::Output);
        let chains = [output, "A".parse().unwrap(), "B".parse().unwrap()];
        let made = chains.iter().enumerate().map(|(index, chain)| {
            let mut made = Chain::new(chain.clone());
            for _ in 0..u.int_in_range(0..=6)? {
                made.push(rule(u, name, &chains[index + 1..])?);
            }
            Ok(made)
        });
        Ok(crate::model::Table::new(name, made.collect::<Result<Vec<_>>>()?))
    };
    Ok(Ruleset::new([table(u, TableName::Raw)?, table(u, TableName::Nat)?]))
}

fn rule(u: &mut Unstructured<'_>, table: TableName, below: &[ChainName]) -> Result<Rule<V4>> {
    // Few targets, so that neighbours have the same.
    let target = match u.int_in_range(0..=9)? {
        0..=3 => Target::Return,
        4 => Target::Accept,
        5 => Target::Drop,
        6 => Target::Log { prefix: u.choose(&["one", "two"])?.parse().unwrap(), level: LogLevel::DEBUG },
        _ if !below.is_empty() && u.arbitrary()? => Target::jump(u.choose(below)?),
        _ if table == TableName::Nat => Target::redirect(port(u)?),
        _ => Target::Zone { zone: u.int_in_range(1..=2)? },
    };
    let mut rule = Rule::new(target);
    if u.ratio(1, 3)? {
        rule = rule.inserted();
    }
    for _ in 0..u.int_in_range(0..=2)? {
        rule = rule.with(condition(u)?);
    }
    Ok(rule)
}

fn condition(u: &mut Unstructured<'_>) -> Result<Match<V4>> {
    let negated = u.ratio(1, 4)?;
    Ok(match u.int_in_range(0..=8)? {
        0 => Match::Source { net: net(u)?, negated },
        1 => Match::Destination { net: net(u)?, negated },
        2 => Match::InInterface { interface: u.choose(&["a", "a+", "+", "ab"])?.parse().unwrap(), negated },
        3 => Match::OutInterface { interface: u.choose(&["a", "a+", "+", "ab"])?.parse().unwrap(), negated },
        4 | 5 => {
            let mut transport = Transport::new(protocol(u)?);
            if u.arbitrary()? {
                transport.source = Some(port_match(u)?);
            }
            if u.arbitrary()? {
                transport.destination = Some(port_match(u)?);
            }
            transport.into()
        }
        6 | 7 => {
            let (first, more) = (u.int_in_range(0..=2)?, u.int_in_range(0..=1)?);
            let owner =
                match u.ratio(3, 4)? {
                    true => crate::net::UidRange::new(Uid::new(first).unwrap(), Uid::new(first + more).unwrap())
                        .map(Owner::Uid),
                    false => crate::net::GidRange::new(Gid::new(first).unwrap(), Gid::new(first + more).unwrap())
                        .map(Owner::Gid),
                };
            Match::Owner { owner: owner.unwrap(), negated: u.arbitrary()? }
        }
        _ => Match::CtState { state: CtState::Invalid, negated },
    })
}

fn net(u: &mut Unstructured<'_>) -> Result<Cidr<V4>> {
    let prefix = *u.choose(&[0, 1, 29, 30, 31, 32])?;
    Ok(Cidr::new(V4::from_bits(address(u)?.into()), prefix).unwrap())
}

fn address(u: &mut Unstructured<'_>) -> Result<u32> {
    Ok(u.int_in_range(0..=5)? + if u.arbitrary()? { u32::MAX - 5 } else { 0 })
}

fn port(u: &mut Unstructured<'_>) -> Result<Port> {
    Ok(Port::new(u.int_in_range(1..=5)? + if u.arbitrary()? { u16::MAX - 5 } else { 0 }).unwrap())
}

fn port_range(u: &mut Unstructured<'_>) -> Result<PortRange> {
    let (a, b) = (port(u)?, port(u)?);
    Ok(PortRange::new(a.min(b), a.max(b)).unwrap())
}

fn port_match(u: &mut Unstructured<'_>) -> Result<PortMatch> {
    let negated = u.ratio(1, 4)?;
    Ok(match u.arbitrary()? {
        true => PortMatch::Range { range: port_range(u)?, negated },
        false => {
            let ports = (0..u.int_in_range(1..=3)?).map(|_| port_range(u)).collect::<Result<PortSet>>()?;
            PortMatch::Multiport { ports, negated }
        }
    })
}

fn protocol(u: &mut Unstructured<'_>) -> Result<Protocol> {
    Ok(if u.arbitrary()? { Protocol::Tcp } else { Protocol::Udp })
}

fn packet(u: &mut Unstructured<'_>) -> Result<Packet> {
    Ok(Packet {
        protocol: if u.ratio(7, 8)? { Some(protocol(u)?) } else { None },
        ports: (port(u)?.number(), port(u)?.number()),
        addresses: (address(u)?, address(u)?),
        interfaces: (u.choose(&["a", "ab", "b"])?, u.choose(&["a", "ab", "b"])?),
        owner: if u.arbitrary()? { Some((u.int_in_range(0..=3)?, u.int_in_range(0..=3)?)) } else { None },
        invalid: u.arbitrary()?,
    })
}

/// How a walk through a chain ended; `None` if it goes on.
type Verdict = Option<End>;

fn by_model(ruleset: &Ruleset<V4>, table: TableName, packet: &Packet) -> HookResult {
    let mut outcome = HookResult::default();
    if let Some(table) = ruleset.table(table) {
        let output = ChainName::from(BuiltinChain::Output);
        outcome.end = model_chain(table, &output, packet, &mut outcome).unwrap_or_default();
    }
    outcome
}

fn model_chain(
    table: &crate::model::Table<V4>,
    name: &ChainName,
    packet: &Packet,
    outcome: &mut HookResult,
) -> Verdict {
    for rule in table.chain(name).unwrap().in_effect() {
        if !rule.matches.iter().all(|condition| model_match(condition, packet)) {
            continue;
        }
        match &rule.target {
            Target::Accept => return Some(End::Passed),
            Target::Drop => return Some(End::Dropped),
            Target::Return => return None,
            Target::Jump { chain } => {
                if let Some(end) = model_chain(table, chain, packet, outcome) {
                    return Some(end);
                }
            }
            Target::Redirect { port } => return Some(End::Redirected(port.number())),
            Target::Log { prefix, .. } => outcome.logged.push(prefix.to_string()),
            Target::Zone { zone } => outcome.zone = outcome.zone.or(Some(*zone)),
        }
    }
    None
}

fn model_match(condition: &Match<V4>, packet: &Packet) -> bool {
    let (holds, negated) = match condition {
        Match::Source { net, negated } => (net.contains(packet.addresses.0.into()), *negated),
        Match::Destination { net, negated } => (net.contains(packet.addresses.1.into()), *negated),
        Match::InInterface { interface, negated } => (interface.matches(packet.interfaces.0), *negated),
        Match::OutInterface { interface, negated } => (interface.matches(packet.interfaces.1), *negated),
        Match::Transport(transport) => {
            let of = |ports: &Option<PortMatch>, port: u16| {
                ports.as_ref().is_none_or(|p| p.ports().contains(Port::new(port).unwrap()) != p.negated())
            };
            let holds = packet.protocol == Some(transport.protocol)
                && of(&transport.source, packet.ports.0)
                && of(&transport.destination, packet.ports.1);
            (holds, false)
        }
        Match::Owner { owner, negated } => {
            let Some((uid, gid)) = packet.owner else { return *negated };
            let holds = match owner {
                Owner::Uid(range) => range.contains(Uid::new(uid).unwrap()),
                Owner::Gid(range) => range.contains(Gid::new(gid).unwrap()),
            };
            (holds, *negated)
        }
        // Of all that nobody generates here.
        Match::Local { .. } | Match::Translated => (false, false),
        Match::CtState { negated, .. } => (packet.invalid, *negated),
    };
    holds != negated
}

fn by_native(table: &Table, name: TableName, packet: &Packet) -> HookResult {
    let mut outcome = HookResult::default();
    let kind = if name == TableName::Nat { ChainType::Nat } else { ChainType::Filter };
    let mut chains: Vec<_> = table.chains.iter().filter(|chain| chain.base.is_some_and(|b| b.kind == kind)).collect();
    chains.sort_by_key(|chain| chain.base.map(|Base { priority, .. }| priority));
    for chain in chains {
        match native_chain(table, chain.name.as_str(), packet, &mut outcome) {
            None | Some(End::Passed) => {}
            Some(end) => {
                outcome.end = end;
                break;
            }
        }
    }
    outcome
}

fn native_chain(table: &Table, name: &str, packet: &Packet, outcome: &mut HookResult) -> Verdict {
    for rule in &table.chain(name).unwrap().rules {
        if !rule.conditions.iter().all(|condition| native_match(condition, packet)) {
            continue;
        }
        match &rule.action {
            Action::Accept => return Some(End::Passed),
            Action::Drop => return Some(End::Dropped),
            Action::Return => return None,
            Action::Goto { chain } => return native_chain(table, chain.as_str(), packet, outcome),
            Action::Jump { chain } => {
                if let Some(end) = native_chain(table, chain.as_str(), packet, outcome) {
                    return Some(end);
                }
            }
            Action::Redirect { port } | Action::Translate { port, .. } => return Some(End::Redirected(port.number())),
            Action::Log { prefix, .. } => outcome.logged.push(prefix.to_string()),
            Action::Zone { zone } => outcome.zone = outcome.zone.or(Some(*zone)),
        }
    }
    None
}

fn native_match(condition: &Condition, packet: &Packet) -> bool {
    match condition {
        Condition::InInterface { interface, negated } => interface.matches(packet.interfaces.0) != *negated,
        Condition::OutInterface { interface, negated } => interface.matches(packet.interfaces.1) != *negated,
        Condition::Protocol { protocol, negated } => (packet.protocol == Some(*protocol)) != *negated,
        Condition::Value { field, values, negated } => {
            let value = match field {
                Field::SourceAddress => Some(packet.addresses.0.into()),
                Field::DestinationAddress => Some(packet.addresses.1.into()),
                Field::SourcePort => Some(packet.ports.0.into()),
                Field::DestinationPort => Some(packet.ports.1.into()),
                Field::User => packet.owner.map(|owner| owner.0.into()),
                Field::Group => packet.owner.map(|owner| owner.1.into()),
            };
            value.is_some_and(|value| values.contains(value) != *negated)
        }
        // The packet opens its connection.
        Condition::MidStream | Condition::BoundSocket => false,
        // Only the first packets of connections that were not translated are looked at, of hosts and for hosts that are not known.
        Condition::Translated | Condition::Local { .. } => false,
        Condition::CtState { negated, .. } => packet.invalid != *negated,
    }
}
