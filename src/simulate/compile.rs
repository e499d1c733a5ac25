//! From the model's rules to a program.

use std::collections::HashMap;

use super::outcome::Place;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::engine::EngineName;
use crate::model::{
    BuiltinChain, Chain, ChainName, CtState, Match, Owner, Placement, PortMatch, Rule, Ruleset, Table, TableName,
    Target, Transport,
};
use crate::net::{Cidr, Family};
use crate::nftables::{ChainType, Field, Span, priority};
use crate::save::CtStates;

impl<'r> Program<'r> {
    /// The rules of a plan, as an engine makes them work.
    pub(super) fn of<F: Family>(ruleset: &'r Ruleset<F>, engine: EngineName) -> Self {
        let by_sockets = engine == EngineName::Ebpf;
        let mut program = Self::default();
        program.by_sockets = by_sockets;
        // Sockets are steered as packets would be translated; nothing is tracked, logged or dropped.
        for table in ruleset.tables.iter().filter(|table| !by_sockets || table.name == TableName::Nat) {
            program.add(ruleset, table, engine);
        }
        program
    }

    fn add<F: Family>(&mut self, ruleset: &'r Ruleset<F>, table: &'r Table<F>, engine: EngineName) {
        let first = self.chains.len();
        let mut places: HashMap<&ChainName, usize> = HashMap::new();
        for (index, chain) in table.chains.iter().enumerate() {
            // A name that stands twice in a table is one chain.
            places.entry(&chain.name).or_insert(first + index);
        }
        for chain in &table.chains {
            let compile = |rule| act(rule, &places, engine);
            let code = match (engine, chain.name.builtin()) {
                (EngineName::Netlink, Some(_)) if table.name == TableName::Nat => guarded(table.name, chain, compile),
                (EngineName::Netlink, Some(BuiltinChain::Prerouting)) if table.name == TableName::Raw => {
                    let mut all = zones_of_answers(ruleset);
                    all.extend(lines(table.name, chain, compile));
                    all
                }
                _ => lines(table.name, chain, compile),
            };
            self.chains.push(Code::new(code));
        }
        for (name, chain) in places {
            if let Some(hook) = name.builtin() {
                let kind = if table.name == TableName::Nat { ChainType::Nat } else { ChainType::Filter };
                self.call(hook, Base { chain, kind, priority: priority(table.name, hook), policy: None });
            }
        }
    }
}

/// A chain's rules in the order in which packets meet them.
fn lines<'r, F: Family>(table: TableName, chain: &'r Chain<F>, act: impl Fn(&'r Rule<F>) -> Act) -> Vec<Line<'r>> {
    chain.in_effect().enumerate().map(|(index, rule)| line(table, &chain.name, index, rule, act(rule))).collect()
}

fn line<'r, F: Family>(table: TableName, chain: &'r ChainName, index: usize, rule: &'r Rule<F>, act: Act) -> Line<'r> {
    Line { tests: tests(&rule.matches), act, place: Place::rule(F::NAME, table.as_str(), chain.as_str(), index, rule) }
}

fn act<F: Family>(rule: &Rule<F>, places: &HashMap<&ChainName, usize>, engine: EngineName) -> Act {
    match &rule.target {
        Target::Accept => Act::Accept,
        Target::Drop => Act::Drop,
        Target::Return => Act::Return,
        Target::Jump { chain } => match places.get(chain) {
            Some(place) => Act::Jump(*place),
            // The tables of the netlink engine are done with the packet, as are programs; who owns the chain sees it later.
            None if matches!(engine, EngineName::Netlink | EngineName::Ebpf) => Act::Accept,
            None => Act::Unknown(format!("the chain {chain} is not among these rules").into()),
        },
        Target::Redirect { port } => Act::Redirect(*port),
        Target::Log { prefix, level } => Act::Log(prefix.clone(), *level),
        Target::Zone { zone } => Act::Zone(*zone),
    }
}

/// A built-in chain with translation as the netlink engine has it: TCP that does not open a connection is let pass, behind the
/// rules that log, both where rules are inserted and where they are appended.
fn guarded<'r, F: Family>(table: TableName, chain: &'r Chain<F>, act: impl Fn(&'r Rule<F>) -> Act) -> Vec<Line<'r>> {
    let guard = |act| Line {
        tests: vec![Test::MidStream],
        act,
        place: Place::added(F::NAME, table.as_str(), chain.name.as_str(), "let connections from before live on"),
    };
    let inserted = chain.in_effect().take_while(|rule| rule.placement == Placement::Insert).count();
    let mut all = lines(table, chain, act);
    let mut appended = all.split_off(inserted);
    let logs = |lines: &[Line<'_>]| lines.iter().take_while(|line| matches!(line.act, Act::Log(..))).count();
    if !all.is_empty() {
        let end = all.len() + 1;
        all.insert(logs(&all), guard(Act::Skip(end)));
    }
    if !appended.is_empty() {
        appended.insert(logs(&appended), guard(Act::Accept));
    }
    all.append(&mut appended);
    all
}

/// What the netlink engine adds before raw PREROUTING: packets that nat PREROUTING redirects to a port whose answers raw
/// OUTPUT tracks in a zone are tracked there as well.
fn zones_of_answers<'r, F: Family>(ruleset: &'r Ruleset<F>) -> Vec<Line<'r>> {
    let chain = |table, hook: BuiltinChain| ruleset.table(table).and_then(|table| table.chain(&hook.into()));
    let (Some(redirecting), Some(answering)) =
        (chain(TableName::Nat, BuiltinChain::Prerouting), chain(TableName::Raw, BuiltinChain::Output))
    else {
        return Vec::new();
    };
    let zone_of = |rule: &Rule<F>| {
        let Target::Redirect { port } = rule.target else { return None };
        let protocol = transport(rule)?.protocol;
        answering.in_effect().find_map(|answer| {
            let transport = transport(answer).filter(|transport| transport.protocol == protocol)?;
            let from = transport.source.as_ref().filter(|ports| !ports.negated() && ports.ports().contains(port));
            match answer.target {
                Target::Zone { zone } if from.is_some() => Some(zone),
                _ => None,
            }
        })
    };
    let line = |rule: &'r Rule<F>| {
        Some(Line {
            tests: tests(&rule.matches),
            act: Act::Zone(zone_of(rule)?),
            place: Place::added(F::NAME, "raw", "PREROUTING", "track what is redirected in the zone of its answers"),
        })
    };
    redirecting.in_effect().filter_map(line).collect()
}

fn transport<F: Family>(rule: &Rule<F>) -> Option<&Transport> {
    rule.matches.iter().find_map(|condition| match condition {
        Match::Transport(transport) => Some(transport),
        _ => None,
    })
}

/// The conditions of a rule.
pub(super) fn tests<'r, F: Family>(matches: impl IntoIterator<Item = &'r Match<F>>) -> Vec<Test> {
    let mut tests = Vec::new();
    for condition in matches {
        if condition.is_always() {
            continue;
        }
        match condition {
            Match::Source { net, negated } => tests.push(prefix(Field::SourceAddress, net, *negated)),
            Match::Destination { net, negated } => tests.push(prefix(Field::DestinationAddress, net, *negated)),
            Match::InInterface { interface, negated } => {
                tests.push(Test::Interface { out: false, pattern: interface.clone(), negated: *negated });
            }
            Match::OutInterface { interface, negated } => {
                tests.push(Test::Interface { out: true, pattern: interface.clone(), negated: *negated });
            }
            Match::Transport(Transport { protocol, source, destination, .. }) => {
                tests.push(Test::Protocol { number: protocol.number(), negated: false });
                tests.extend(source.as_ref().map(|ports| port(Field::SourcePort, ports)));
                tests.extend(destination.as_ref().map(|ports| port(Field::DestinationPort, ports)));
            }
            Match::Owner { owner, negated } => {
                let (field, first, last) = match owner {
                    Owner::Uid(range) => (Field::User, range.first().number(), range.last().number()),
                    Owner::Gid(range) => (Field::Group, range.first().number(), range.last().number()),
                };
                let span = Span { first: first.into(), last: last.into() };
                tests.push(Test::Value { field, spans: Spans::One(span), negated: *negated });
            }
            Match::CtState { state: CtState::Invalid, negated } => {
                tests.push(Test::CtState { states: CtStates::INVALID, negated: *negated });
            }
        }
    }
    tests
}

fn prefix<F: Family>(field: Field, net: &Cidr<F>, negated: bool) -> Test {
    let span = Span { first: F::to_bits(net.first()), last: F::to_bits(net.last()) };
    Test::Value { field, spans: Spans::One(span), negated }
}

fn port(field: Field, ports: &PortMatch) -> Test {
    let span = |range: &crate::net::PortRange| Span {
        first: range.first().number().into(),
        last: range.last().number().into(),
    };
    let spans = match ports {
        PortMatch::Range { range, .. } => Spans::One(span(range)),
        PortMatch::Multiport { ports, .. } => Spans::of(ports.ranges().iter().map(span).collect()),
    };
    Test::Value { field, spans, negated: ports.negated() }
}
