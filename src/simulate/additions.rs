//! What the netlink engine adds to the rules of a plan, as it is told beside them: [`nftables`](crate::nftables) says why. None of it
//! decides: the lowered rules do.

use std::collections::HashSet;

use super::compile::{self, line, tests};
use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::model::{
    BuiltinChain, Chain, ChainName, End, Match, Owner, Placement, Rule, Ruleset, Table, TableName, Target,
};
use crate::net::{Cidr, Family, FamilyName, Protocol};
use crate::nftables::{CLIENT_PORTS, ChainType, Field, Guarding, Span, priority};

/// What the lowering adds to the rules of a plan beside its closing chains, as people read about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Additions<'g>(pub(super) &'g Guarding);

/// The chains of nat that a hook leads to, the built-in one among them.
type Reached<'r> = HashSet<&'r ChainName>;

pub(super) fn reached<F: Family>(nat: &Table<F>, hook: BuiltinChain) -> Reached<'_> {
    let mut found = Reached::new();
    let mut waiting: Vec<&Chain<F>> = nat.chain(&hook.into()).into_iter().collect();
    while let Some(chain) = waiting.pop() {
        if found.insert(&chain.name) {
            waiting.extend(chain.rules.iter().filter_map(|rule| nat.chain(rule.target.chain()?)));
        }
    }
    found
}

impl Additions<'_> {
    pub(super) fn interface(&self, out: bool, negated: bool) -> Test {
        Test::Interface { out, pattern: self.0.loopback.clone(), negated }
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
    pub(super) fn keep_local(&self, line: &mut Line<'_>) {
        let passes = matches!(line.act, Act::Accept | Act::Return);
        if passes && self.0.can.address_types && line.tests.contains(&self.interface(true, false)) {
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
        if !self.0.can.address_types || !(inbound || outbound) {
            return None;
        }
        let mut better = plain.clone();
        let end = if inbound { End::Destination } else { End::Source };
        if inbound {
            better.tests.push(Test::Local { end: End::Source, negated: true });
        } else {
            if let Some(servers) = destination(rule) {
                if !is_link_local(servers) || !self.0.can.sockets {
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
        if hook != BuiltinChain::Prerouting || !self.0.can.sockets {
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
pub(super) fn added<'r, F: Family>(hook: BuiltinChain, words: &'r str) -> RulePosition<'r> {
    RulePosition::added(F::NAME, TableName::Nat.as_str(), hook.as_str(), words)
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
    /// Adds what stands before raw.
    pub(super) fn add_to_raw<F: Family>(&mut self, ruleset: &'r Ruleset<F>, additions: Additions<'_>) {
        let raw = |hook: BuiltinChain| priority(TableName::Raw, hook) - 1;
        let mut first = vec![no_martians::<F>(additions)];
        first.extend(zones_of_answers(ruleset));
        self.call_filter(BuiltinChain::Prerouting, raw(BuiltinChain::Prerouting), Code::new(first));
        let excluded = zones_of_excluded(ruleset);
        self.call_filter(BuiltinChain::Output, raw(BuiltinChain::Output), Code::new(excluded));
    }

    pub(super) fn call_filter(&mut self, hook: BuiltinChain, priority: i32, code: Code<'r>) {
        let chain = self.chains.len();
        self.chains.push(code);
        self.call(hook, Base { chain, kind: ChainType::Filter, priority, policy: None });
    }
}

pub(super) fn local(end: End) -> Test {
    Test::Local { end, negated: false }
}

/// What arrives from elsewhere for an address of loopback is dropped.
fn no_martians<'r, F: Family>(additions: Additions<'_>) -> Line<'r> {
    Line {
        tests: vec![additions.interface(false, true), to_loopback::<F>(0)],
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
pub(super) fn to_loopback<F: Family>(lowest: u128) -> Test {
    let span = |first, last| Span { first, last };
    let spans = match F::NAME {
        FamilyName::V4 if lowest > 0 => vec![span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V4 => vec![span(0, 0x00ff_ffff), span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V6 => vec![span(lowest, 1), span(6, 6)],
    };
    Test::Value { field: Field::DestinationAddress, spans: Spans::of(spans), negated: false }
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
    let field = field.of_answer();
    Test::Value { field, spans, negated }
}

fn same(a: &[Test], b: &[Test]) -> bool {
    a.len() == b.len() && a.iter().all(|test| b.contains(test))
}
