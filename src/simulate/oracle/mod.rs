//! What the netlink engine makes of a plan, described a second time and from the rules of the plan alone: the oracle that the lowered
//! rules are compared with.

use std::collections::HashMap;

use super::Simulator;
use super::additions::{Additions, added, local, reached, to_loopback};
use super::compile::{self, tests};
use super::outcome::RulePosition;
use super::program::{Act, Code, Line, Program, Role, Spans, Test};
use crate::iptables_save::CtStates;
use crate::model::{
    BuiltinChain, Chain, ChainName, End, EngineName, Match, Plan, PortMatch, Rule, Ruleset, Table, TableName, Target,
    Transport,
};
use crate::net::{Family, FamilyName, Port, Protocol};
use crate::nftables::{Field, Guarding, Span};

impl<'r> Simulator<'r> {
    /// The rules of a plan as the netlink engine makes them work, by this description.
    pub(in crate::simulate) fn described(plan: &'r Plan) -> Self {
        let guarding = Guarding { can: plan.guards, loopback: plan.loopback.clone() };
        let v6 = plan.v6.as_ref().map(|v6| Program::described(v6, &guarding));
        Self::new(Program::described(&plan.v4, &guarding), v6).knowing(plan)
    }
}

impl<'r> Program<'r> {
    /// The rules of a plan as the netlink engine makes them work, by this description.
    pub(super) fn described<F: Family>(ruleset: &'r Ruleset<F>, guarding: &Guarding) -> Self {
        let additions = Additions(guarding);
        let mut program = Self::default();
        for table in &ruleset.tables {
            program.add(table, EngineName::Netlink, Some(additions));
        }
        program.add_to_raw(ruleset, additions);
        program.close_all(ruleset, additions);
        program
    }

    /// Adds what stands behind nat.
    fn close_all<F: Family>(&mut self, ruleset: &'r Ruleset<F>, additions: Additions<'_>) {
        let Some(nat) = ruleset.table(TableName::Nat) else { return };
        for hook in [BuiltinChain::Prerouting, BuiltinChain::Output] {
            self.close(nat, hook, additions);
        }
        self.call_filter(BuiltinChain::Postrouting, 1, Code::new(stays_here(nat, additions)).with(Role::Closes));
    }

    /// Behind nat, a copy of its rules that drops what they would redirect.
    fn close<F: Family>(&mut self, nat: &'r Table<F>, hook: BuiltinChain, additions: Additions<'_>) {
        let Some(entry) = nat.chain(&hook.into()) else { return };
        let chains = reached(nat, hook);
        let inbound = reached(nat, BuiltinChain::Prerouting);
        let base = self.chains.len();
        let regular: Vec<&Chain<F>> = nat.user_defined().filter(|chain| chains.contains(&chain.name)).collect();
        let mut places: HashMap<&ChainName, usize> = HashMap::new();
        for (at, chain) in regular.iter().enumerate() {
            places.entry(&chain.name).or_insert(base + 1 + at);
        }
        let places = &places;
        let copy = |chain: &'r Chain<F>, inbound: bool| {
            let closed = move |rule| closed(rule, &chain.name, places, additions, inbound);
            chain.in_effect().flat_map(closed).collect::<Vec<_>>()
        };
        let mut lines = before_closing::<F>(nat, hook, additions);
        lines.extend(copy(entry, hook == BuiltinChain::Prerouting));
        self.call_filter(hook, -98, Code::new(lines).with(Role::Closes));
        for chain in regular {
            let code = Code::new(copy(chain, inbound.contains(&chain.name))).with(Role::Closes);
            self.chains.push(code);
        }
    }
}

/// What stands for a rule in a closing chain.
fn closed<'r, F: Family>(
    rule: &'r Rule<F>,
    chain: &'r ChainName,
    places: &HashMap<&ChainName, usize>,
    additions: Additions<'_>,
    inbound: bool,
) -> Vec<Line<'r>> {
    if compile::transport(rule).is_some_and(|transport| transport.protocol == Protocol::Udp) {
        return Vec::new();
    }
    let line = |more: Vec<Test>, act, words| {
        let mut tests = tests(&rule.matches);
        tests.extend(more);
        Line { tests, act, place: RulePosition::added(F::NAME, TableName::Nat.as_str(), chain.as_str(), words) }
    };
    let passes = |act| {
        let mut line = line(Vec::new(), act, "let pass what is not redirected");
        additions.keep_local(&mut line);
        vec![line]
    };
    match &rule.target {
        Target::Log { .. } | Target::Zone { .. } => Vec::new(),
        Target::Accept => passes(Act::Accept),
        Target::Return => passes(Act::Return),
        Target::Drop => passes(Act::Drop),
        Target::Jump { chain } => passes(places.get(chain).map_or(Act::Accept, |place| Act::Jump(*place))),
        Target::Redirect { port } => {
            let at = u128::from(port.number());
            let spans = Spans::One(Span { first: at, last: at });
            let mut here = vec![Test::Value { field: Field::DestinationPort, spans, negated: false }];
            here.extend(additions.0.can.address_types.then_some(local(End::Destination)));
            let there = inbound.then(|| line(here, Act::Accept, "let pass what is for the listener itself"));
            let drop = line(Vec::new(), Act::Drop, "drop what should have been redirected and was not");
            there.into_iter().chain([drop]).collect()
        }
    }
}

/// What a closing chain lets pass before it asks what the rules would do.
fn before_closing<'r, F: Family>(nat: &'r Table<F>, hook: BuiltinChain, additions: Additions<'_>) -> Vec<Line<'r>> {
    let pass = |tests, words| Line { tests, act: Act::Accept, place: added::<F>(hook, words) };
    let other =
        pass(vec![Test::Protocol { number: Protocol::Tcp.number(), negated: true }], "let pass what is not TCP");
    let translated = pass(vec![translated()], "let pass what was redirected, or translated by others");
    if hook == BuiltinChain::Prerouting {
        let here = pass(vec![additions.interface(false, false)], "let pass what this host sends to itself");
        return vec![here, translated, other, pass(vec![Test::MidStream], "let pass what opens no connection")];
    }
    let tracked = Test::CtState { states: CtStates::INVALID, negated: true };
    let words = "let pass what belongs to a connection and opens none";
    let mut lines = vec![translated, other, pass(vec![Test::MidStream, tracked], words)];
    lines.extend(mirrored(nat).map(|tests| answers_pass::<F>(tests, Act::Accept)));
    lines
}

fn answers_pass<'r, F: Family>(tests: Vec<Test>, act: Act) -> Line<'r> {
    let words = "let answers of inbound connections to excluded ports pass, whatever became of their tracking entry";
    Line { tests, act, place: added::<F>(BuiltinChain::Output, words) }
}

/// The answers of inbound connections to the ports that chains of PREROUTING exclude; none if there are no such ports.
fn mirrored<F: Family>(nat: &Table<F>) -> Option<Vec<Test>> {
    let entry = nat.chain(&BuiltinChain::Prerouting.into())?;
    let chains = entry.rules.iter().filter_map(|rule| nat.chain(rule.target.chain()?));
    let excluded = |rule: &Rule<F>| match (&rule.target, &rule.matches[..]) {
        (
            Target::Return | Target::Accept,
            [Match::Transport(Transport { protocol: Protocol::Tcp, source: None, destination: Some(ports), .. })],
        ) if !ports.negated() => Some(spans(ports)),
        _ => None,
    };
    let ports: Vec<Span> = chains.flat_map(|chain| chain.in_effect().filter_map(excluded)).flatten().collect();
    let from = || Test::Value { field: Field::SourcePort, spans: Spans::of(ports.clone()), negated: false };
    (!ports.is_empty()).then(|| vec![Test::MidStream, from()])
}

fn spans(ports: &PortMatch) -> Vec<Span> {
    match compile::port(Field::DestinationPort, ports) {
        Test::Value { spans, .. } => spans.as_slice().to_vec(),
        _ => Vec::new(),
    }
}

fn translated() -> Test {
    Test::CtState { states: CtStates::DNAT, negated: false }
}

/// Behind routing: what was redirected stays on this host.
fn stays_here<'r, F: Family>(nat: &'r Table<F>, additions: Additions<'_>) -> Vec<Line<'r>> {
    let redirection = |rule: &Rule<F>| match rule.target {
        Target::Redirect { port } => Some((compile::transport(rule)?.protocol, port)),
        _ => None,
    };
    let redirected: Vec<(Protocol, Port)> =
        nat.chains.iter().flat_map(|chain| &chain.rules).filter_map(redirection).collect();
    if redirected.is_empty() {
        return Vec::new();
    }
    let line = |tests, act, words| {
        let place = RulePosition::added(F::NAME, TableName::Nat.as_str(), BuiltinChain::Postrouting.as_str(), words);
        Line { tests, act, place }
    };
    let words = "drop what was redirected and would leave this host";
    let mut lines = vec![
        line(vec![additions.interface(true, false)], Act::Accept, "let pass what stays on this host"),
        line(vec![to_loopback::<F>(1)], Act::Drop, words),
    ];
    for protocol in [Protocol::Tcp, Protocol::Udp].into_iter().filter(|_| F::NAME == FamilyName::V6) {
        let at = |(_, port): &(_, Port)| Span { first: port.number().into(), last: port.number().into() };
        let ports: Vec<Span> = redirected.iter().filter(|(of, _)| *of == protocol).map(at).collect();
        if ports.is_empty() {
            continue;
        }
        let tests = vec![
            Test::Protocol { number: protocol.number(), negated: false },
            Test::Value { field: Field::SourcePort, spans: Spans::of(ports.clone()), negated: true },
            Test::Value { field: Field::DestinationPort, spans: Spans::of(ports), negated: false },
            translated(),
        ];
        lines.push(line(tests, Act::Drop, words));
    }
    lines
}

mod tests;
