//! From the model's rules to a program.

use std::collections::HashMap;

use super::additions::Additions;
use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::iptables_save::CtStates;
use crate::model::{
    Chain, ChainName, CtState, EngineName, Match, Owner, PortMatch, Rule, Ruleset, Table, TableName, Target, Transport,
};
use crate::net::{Cidr, Family};
use crate::nftables::{ChainType, Field, Guarding, Span, priority};

impl<'r> Program<'r> {
    /// The rules of a plan, as an engine makes them work.
    pub(super) fn of<F: Family>(ruleset: &'r Ruleset<F>, engine: EngineName, guarding: &Guarding) -> Self {
        if engine == EngineName::Netlink {
            return Self::lowered(ruleset, guarding);
        }
        let mut program = Self::default();
        // Programs that steer sockets have neither packets to drop or to track.
        let counts = |table: &&Table<F>| engine != EngineName::Ebpf || table.name == TableName::Nat;
        for table in ruleset.tables.iter().filter(counts) {
            program.add(table, engine, None);
        }
        program
    }

    /// Adds a table, with what the netlink engine adds to one that translates.
    pub(super) fn add<F: Family>(&mut self, table: &'r Table<F>, engine: EngineName, additions: Option<Additions<'_>>) {
        let first = self.chains.len();
        let mut places: HashMap<&ChainName, usize> = HashMap::new();
        for (index, chain) in table.chains.iter().enumerate() {
            // A name that stands twice in a table is one chain.
            places.entry(&chain.name).or_insert(first + index);
        }
        for chain in &table.chains {
            let compile = |rule| act(rule, &places, engine);
            let code = match (engine, additions) {
                (_, Some(additions)) if table.name == TableName::Nat => additions.translating(table, chain, compile),
                (EngineName::Ebpf, _) => {
                    let mut all = lines(table.name, chain, compile);
                    // What the engine refuses to install.
                    all.retain(|line| {
                        let of_networks = line.place.key().is_some_and(|key| key.key == "redirect.vnet.networks");
                        !of_networks && !matches!(line.act, Act::Log(..))
                    });
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

pub(super) fn line<'r, F: Family>(
    table: TableName,
    chain: &'r ChainName,
    index: usize,
    rule: &'r Rule<F>,
    act: Act,
) -> Line<'r> {
    Line {
        tests: tests(&rule.matches),
        act,
        place: RulePosition::rule(F::NAME, table.as_str(), chain.as_str(), index, rule),
    }
}

fn act<F: Family>(rule: &Rule<F>, places: &HashMap<&ChainName, usize>, engine: EngineName) -> Act {
    match &rule.target {
        Target::Accept => Act::Accept,
        Target::Drop => Act::Drop,
        Target::Return => Act::Return,
        Target::Jump { chain } => match places.get(chain) {
            Some(place) => Act::Jump(*place),
            // The tables of the netlink engine are done with the packet; who owns the chain sees it later.
            None if engine == EngineName::Netlink => Act::Accept,
            // So does a socket that is not steered.
            None if engine == EngineName::Ebpf => Act::Accept,
            None => Act::Unknown(format!("the chain {chain} is not among these rules").into()),
        },
        Target::Redirect { port } => Act::Redirect(*port),
        Target::Log { prefix, level } => Act::Log(prefix.clone(), *level),
        Target::Zone { zone } => Act::Zone(*zone),
    }
}

pub(super) fn transport<F: Family>(rule: &Rule<F>) -> Option<&Transport> {
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
            Match::Transport(Transport { protocol, source, destination, mid_stream, .. }) => {
                tests.push(Test::Protocol { number: protocol.number(), negated: false });
                tests.extend(mid_stream.then_some(Test::MidStream));
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
            Match::Local { end } => tests.push(Test::Local { end: *end, negated: false }),
            Match::Translated => tests.push(Test::CtState { states: CtStates::DNAT, negated: false }),
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

pub(super) fn port(field: Field, ports: &PortMatch) -> Test {
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
