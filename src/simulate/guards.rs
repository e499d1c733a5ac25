//! What the netlink engine adds to the rules of a plan: [`nftables`](crate::nftables) says why.

use std::collections::{HashMap, HashSet};

use super::compile::{self, line, tests};
use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::iptables_save::CtStates;
use crate::model::{
    BuiltinChain, Chain, ChainName, End, Guards, Match, Owner, Placement, PortMatch, Rule, Ruleset, Table, TableName,
    Target, Transport,
};
use crate::net::{Cidr, Family, FamilyName, InterfacePattern, Port, Protocol};
use crate::nftables::{CLIENT_PORTS, ChainType, Field, Span, priority};

/// How the guards of a plan are made.
#[derive(Debug, Clone)]
pub(super) struct Guarding {
    /// What of them the kernel can do.
    pub(super) can: Guards,
    pub(super) loopback: InterfacePattern,
}

impl Default for Guarding {
    fn default() -> Self {
        let loopback = "lo".parse().expect("a literal interface pattern is valid");
        Self { can: Guards::default(), loopback }
    }
}

/// The chains of nat that a hook leads to, the built-in one among them.
type Reached<'r> = HashSet<&'r ChainName>;

fn reached<F: Family>(nat: &Table<F>, hook: BuiltinChain) -> Reached<'_> {
    let mut found = Reached::new();
    let mut waiting: Vec<&Chain<F>> = nat.chain(&hook.into()).into_iter().collect();
    while let Some(chain) = waiting.pop() {
        if found.insert(&chain.name) {
            waiting.extend(chain.rules.iter().filter_map(|rule| nat.chain(rule.target.chain()?)));
        }
    }
    found
}

impl Guarding {
    fn interface(&self, out: bool, negated: bool) -> Test {
        Test::Interface { out, pattern: self.loopback.clone(), negated }
    }

    /// A chain of nat as the engine has it.
    pub(super) fn translating<'r, F: Family>(
        &self,
        nat: &'r Table<F>,
        chain: &'r Chain<F>,
        act: impl Fn(&'r Rule<F>) -> Act,
    ) -> Vec<Line<'r>> {
        let inbound = chain.name.builtin().is_none() && reached(nat, BuiltinChain::Prerouting).contains(&chain.name);
        let outbound = reached(nat, BuiltinChain::Output).contains(&chain.name);
        let mut halves: [Vec<Line<'r>>; 2] = Default::default();
        for (index, rule) in chain.in_effect().enumerate() {
            let half = &mut halves[usize::from(rule.placement == Placement::Append)];
            let mut plain = line(TableName::Nat, &chain.name, index, rule, act(rule));
            self.keep_local(&mut plain);
            half.extend(self.better(rule, &plain, inbound, outbound));
            half.push(plain);
        }
        let [mut all, mut appended] = halves;
        if let Some(hook) = chain.name.builtin() {
            let lost = |end| self.lost_entries::<F>(hook, end);
            let logs = |lines: &[Line<'_>]| lines.iter().take_while(|line| matches!(line.act, Act::Log(..))).count();
            let (first, last) = (lost(Act::Skip(0)), lost(Act::Accept));
            if !all.is_empty() {
                let end = all.len() + first.len();
                let at = logs(&all);
                all.splice(at..at, first.into_iter().map(|line| Line { act: Act::Skip(end), ..line }));
            }
            if !appended.is_empty() {
                let at = logs(&appended);
                appended.splice(at..at, last);
            }
        }
        all.append(&mut appended);
        all
    }

    /// What goes out by the loopback interface passes only if it is for this host.
    fn keep_local(&self, line: &mut Line<'_>) {
        let passes = matches!(line.act, Act::Accept | Act::Return);
        if passes && self.can.address_types && line.tests.contains(&self.interface(true, false)) {
            line.tests.push(local(End::Destination));
        }
    }

    /// What stands before a redirection and keeps an address of the packet.
    fn better<'r, F: Family>(
        &self,
        rule: &Rule<F>,
        plain: &Line<'r>,
        inbound: bool,
        outbound: bool,
    ) -> Option<Line<'r>> {
        let Act::Redirect(port) = plain.act else { return None };
        if !self.can.address_types || !(inbound || outbound) {
            return None;
        }
        let mut better = plain.clone();
        let end = if inbound { End::Destination } else { End::Source };
        if inbound {
            better.tests.push(Test::Local { end: End::Source, negated: true });
        } else {
            if let Some(servers) = destination(rule) {
                if !is_link_local(servers) || !self.can.sockets {
                    return None;
                }
                better.tests.push(Test::BoundSocket);
            }
            better.tests.push(self.interface(true, true));
        }
        better.tests.push(local(end));
        better.act = Act::Translate(end, port);
        Some(better)
    }

    /// What lets connections pass whose entries were lost.
    fn lost_entries<'r, F: Family>(&self, hook: BuiltinChain, act: Act) -> Vec<Line<'r>> {
        if hook != BuiltinChain::Prerouting || !self.can.sockets {
            return Vec::new();
        }
        let of_clients = Test::Value { field: Field::DestinationPort, spans: Spans::One(CLIENT_PORTS), negated: false };
        vec![Line {
            tests: vec![Test::MidStream, of_clients, Test::BoundSocket],
            act,
            place: added::<F>(hook, "let connections of this host go on whose tracking entry was lost"),
        }]
    }
}

/// Of nat, what no rule of the plan does.
fn added<'r, F: Family>(hook: BuiltinChain, words: &'r str) -> RulePosition<'r> {
    RulePosition::added(F::NAME, TableName::Nat.as_str(), hook.as_str(), words)
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

/// The addresses that a rule asks for as destination.
fn destination<F: Family>(rule: &Rule<F>) -> Option<&Cidr<F>> {
    rule.matches.iter().find_map(|condition| match condition {
        Match::Destination { net, negated: false } => Some(net),
        _ => None,
    })
}

/// Whether it is in `fe80::/10` (RFC 4291 section 2.5.6).
fn is_link_local<F: Family>(net: &Cidr<F>) -> bool {
    F::NAME == FamilyName::V6 && [net.first(), net.last()].iter().all(|addr| F::to_bits(*addr) >> 118 == 0xfe80 >> 6)
}

impl<'r> Program<'r> {
    /// Adds what stands before raw and behind nat.
    pub(super) fn guard<F: Family>(&mut self, ruleset: &'r Ruleset<F>, guarding: &Guarding) {
        let raw = |hook: BuiltinChain| priority(TableName::Raw, hook) - 1;
        let mut first = vec![no_martians::<F>(guarding)];
        first.extend(zones_of_answers(ruleset));
        self.call_filter(BuiltinChain::Prerouting, raw(BuiltinChain::Prerouting), Code::new(first));
        let excluded = zones_of_excluded(ruleset);
        self.call_filter(BuiltinChain::Output, raw(BuiltinChain::Output), Code::new(excluded));
        let Some(nat) = ruleset.table(TableName::Nat) else { return };
        for hook in [BuiltinChain::Prerouting, BuiltinChain::Output] {
            self.close(nat, hook, guarding);
        }
        self.call_filter(BuiltinChain::Postrouting, 1, Code::quiet(stays_here(nat, guarding)));
    }

    fn call_filter(&mut self, hook: BuiltinChain, priority: i32, code: Code<'r>) {
        let chain = self.chains.len();
        self.chains.push(code);
        self.call(hook, Base { chain, kind: ChainType::Filter, priority, policy: None });
    }

    /// Behind nat, a copy of its rules that drops what they would redirect.
    fn close<F: Family>(&mut self, nat: &'r Table<F>, hook: BuiltinChain, guarding: &Guarding) {
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
            let closed = move |rule| closed(rule, &chain.name, places, guarding, inbound);
            chain.in_effect().flat_map(closed).collect::<Vec<_>>()
        };
        let mut lines = before_closing::<F>(nat, hook, guarding);
        lines.extend(copy(entry, hook == BuiltinChain::Prerouting));
        self.call_filter(hook, -98, Code::quiet(lines));
        for chain in regular {
            let code = Code::quiet(copy(chain, inbound.contains(&chain.name)));
            self.chains.push(code);
        }
    }
}

/// What stands for a rule in a closing chain.
fn closed<'r, F: Family>(
    rule: &'r Rule<F>,
    chain: &'r ChainName,
    places: &HashMap<&ChainName, usize>,
    guarding: &Guarding,
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
        guarding.keep_local(&mut line);
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
            here.extend(guarding.can.address_types.then_some(local(End::Destination)));
            let there = inbound.then(|| line(here, Act::Accept, "let pass what is for the listener itself"));
            let drop = line(Vec::new(), Act::Drop, "drop what should have been redirected and was not");
            there.into_iter().chain([drop]).collect()
        }
    }
}

/// What a closing chain lets pass before it asks what the rules would do.
fn before_closing<'r, F: Family>(nat: &'r Table<F>, hook: BuiltinChain, guarding: &Guarding) -> Vec<Line<'r>> {
    let pass = |tests, words| Line { tests, act: Act::Accept, place: added::<F>(hook, words) };
    let other =
        pass(vec![Test::Protocol { number: Protocol::Tcp.number(), negated: true }], "let pass what is not TCP");
    let translated = pass(vec![translated()], "let pass what was redirected, or translated by others");
    if hook == BuiltinChain::Prerouting {
        let here = pass(vec![guarding.interface(false, false)], "let pass what this host sends to itself");
        return vec![here, translated, other, pass(vec![Test::MidStream], "let pass what opens no connection")];
    }
    let tracked = Test::CtState { states: CtStates::INVALID, negated: true };
    let words = "let pass what belongs to a connection and opens none";
    let mut lines = vec![translated, other, pass(vec![Test::MidStream, tracked], words)];
    lines.extend(mirrored(nat).map(|tests| answers_pass::<F>(tests, Act::Accept)));
    lines
}

fn local(end: End) -> Test {
    Test::Local { end, negated: false }
}

fn translated() -> Test {
    Test::CtState { states: CtStates::DNAT, negated: false }
}

/// What arrives from elsewhere for an address of loopback is dropped.
fn no_martians<'r, F: Family>(guarding: &Guarding) -> Line<'r> {
    Line {
        tests: vec![guarding.interface(false, true), to_loopback::<F>(0)],
        act: Act::Drop,
        place: RulePosition::added(
            F::NAME,
            TableName::Raw.as_str(),
            BuiltinChain::Prerouting.as_str(),
            "drop what arrives from elsewhere for a loopback address",
        ),
    }
}

/// Whether it is for an address of loopback: one of 127.0.0.0/8, from `lowest` on of 0.0.0.0/8; `::1`, `::6`, and from
/// `lowest` on what is below.
fn to_loopback<F: Family>(lowest: u128) -> Test {
    let span = |first, last| Span { first, last };
    let spans = match F::NAME {
        FamilyName::V4 if lowest > 0 => vec![span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V4 => vec![span(0, 0x00ff_ffff), span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V6 => vec![span(lowest, 1), span(6, 6)],
    };
    Test::Value { field: Field::DestinationAddress, spans: Spans::of(spans), negated: false }
}

/// Behind routing: what was redirected stays on this host.
fn stays_here<'r, F: Family>(nat: &'r Table<F>, guarding: &Guarding) -> Vec<Line<'r>> {
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
        line(vec![guarding.interface(true, false)], Act::Accept, "let pass what stays on this host"),
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
        let protocol = compile::transport(rule)?.protocol;
        answering.in_effect().find_map(|answer| {
            let transport = compile::transport(answer).filter(|transport| transport.protocol == protocol)?;
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
            place: RulePosition::added(
                F::NAME,
                "raw",
                "PREROUTING",
                "track what is redirected in the zone of its answers",
            ),
        })
    };
    redirecting.in_effect().filter_map(line).collect()
}

/// What the netlink engine adds before raw OUTPUT: queries that nat OUTPUT lets pass before it would redirect them are tracked in
/// the zone in which raw PREROUTING tracks their answers.
fn zones_of_excluded<'r, F: Family>(ruleset: &'r Ruleset<F>) -> Vec<Line<'r>> {
    let chain = |table, hook: BuiltinChain| ruleset.table(table).and_then(|table| table.chain(&hook.into()));
    let (Some(deciding), Some(answered)) =
        (chain(TableName::Nat, BuiltinChain::Output), chain(TableName::Raw, BuiltinChain::Prerouting))
    else {
        return Vec::new();
    };
    let rules: Vec<&Rule<F>> = deciding.in_effect().collect();
    let udp = |rule: &Rule<F>| compile::transport(rule).is_none_or(|transport| transport.protocol == Protocol::Udp);
    let mut lines = Vec::new();
    for (at, query) in rules.iter().enumerate() {
        let is_query = matches!(query.target, Target::Redirect { .. })
            && compile::transport(query).is_some_and(|transport| transport.protocol == Protocol::Udp);
        let asked = tests(query.matches.iter().filter(|condition| !is_not_by(condition)));
        let answer: Vec<Test> = asked.iter().cloned().map(mirror).collect();
        let zone = answered.in_effect().find_map(|rule| match rule.target {
            Target::Zone { zone } if is_query && same(&tests(&rule.matches), &answer) => Some(zone),
            _ => None,
        });
        let Some(zone) = zone else { continue };
        let passing = rules[..at].iter().filter(|rule| {
            matches!(rule.target, Target::Accept | Target::Return) && udp(rule) && !rule.matches.iter().any(is_not_by)
        });
        lines.extend(passing.map(|rule| {
            let words = "track queries that are not redirected as their answers";
            let place = RulePosition::added(F::NAME, TableName::Raw.as_str(), BuiltinChain::Output.as_str(), words);
            Line { tests: tests(&rule.matches).into_iter().chain(asked.clone()).collect(), act: Act::Zone(zone), place }
        }));
    }
    lines
}

fn is_not_by<F: Family>(condition: &Match<F>) -> bool {
    matches!(condition, Match::Owner { owner: Owner::Uid(_) | Owner::Gid(_), negated: true })
}

/// The condition on the answer.
fn mirror(test: Test) -> Test {
    let Test::Value { field, spans, negated } = test else { return test };
    let field = match field {
        Field::SourceAddress => Field::DestinationAddress,
        Field::DestinationAddress => Field::SourceAddress,
        Field::SourcePort => Field::DestinationPort,
        Field::DestinationPort => Field::SourcePort,
        owner => owner,
    };
    Test::Value { field, spans, negated }
}

fn same(a: &[Test], b: &[Test]) -> bool {
    a.len() == b.len() && a.iter().all(|test| b.contains(test))
}
