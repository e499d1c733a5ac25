//! Rules made ready to be walked: numbers instead of addresses, places instead of names.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::outcome::RulePosition;
use super::view::Value;
use crate::iptables_save::CtStates;
use crate::model::{BuiltinChain, ChainPair, End, LogLevel, LogPrefix};
use crate::net::{InterfacePattern, Port, Uid};
use crate::nftables::{ChainType, Field, Span};

/// The rules of one family.
#[derive(Debug, Clone, Default)]
pub(super) struct Program<'r> {
    pub(super) chains: Vec<Code<'r>>,
    /// What each hook calls, in order; hooks in the order of [`BuiltinChain::ALL`].
    hooks: [Vec<Base<'r>>; 5],
}

impl<'r> Program<'r> {
    /// Adds what a hook calls.
    pub(super) fn call(&mut self, hook: BuiltinChain, base: Base<'r>) {
        let calls = &mut self.hooks[hook as usize];
        let at = calls.partition_point(|other| other.order(hook) <= base.order(hook));
        calls.insert(at, base);
    }

    /// Adds the rules of another program: where a priority is the same, behind those that are there.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(super) fn append(&mut self, mut other: Self) {
        let shift = self.chains.len();
        for line in other.chains.iter_mut().flat_map(|chain| &mut chain.lines) {
            if let Act::Jump(to) | Act::Goto(to) = &mut line.act {
                *to += shift;
            }
        }
        self.chains.append(&mut other.chains);
        for (hook, calls) in BuiltinChain::ALL.into_iter().zip(other.hooks) {
            for base in calls {
                self.call(hook, Base { chain: base.chain + shift, ..base });
            }
        }
    }

    /// The rules of all of these: where a priority is the same, in this order.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(super) fn all(programs: &[Self]) -> Self {
        let mut all = Self::default();
        programs.iter().for_each(|program| all.append(program.clone()));
        all
    }

    /// Whether a hook calls chains of both at the same place.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(super) fn ties_with(&self, other: &Self) -> bool {
        BuiltinChain::ALL.into_iter().any(|hook| {
            let orders = crate::sorted::set(self.calls(hook).iter().map(|base| base.order(hook)));
            other.calls(hook).iter().any(|base| orders.contains(&base.order(hook)))
        })
    }

    /// Whether a hook calls a chain at the place where it translates.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(super) fn meets_translation(&self) -> bool {
        BuiltinChain::ALL.into_iter().any(|hook| {
            let calls = self.calls(hook);
            calls.iter().any(|base| base.is_at_translation(hook))
                && calls.iter().any(|base| base.kind == ChainType::Nat)
        })
    }

    /// With those chains behind that place instead of before it.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(super) fn behind_translation(mut self) -> Self {
        for (hook, calls) in BuiltinChain::ALL.into_iter().zip(std::mem::take(&mut self.hooks)) {
            for base in calls {
                let priority = base.priority + i32::from(base.is_at_translation(hook));
                self.call(hook, Base { priority, ..base });
            }
        }
        self
    }

    /// The user whose connections the chains of ours let leave, whatever they are: the sidecar.
    pub(super) fn sidecar(&self) -> Option<Uid> {
        let lines = self.chains.iter().flat_map(|chain| &chain.lines);
        lines.filter(|line| ChainPair::owns(line.place.chain().2)).find_map(|line| match (&line.tests[..], &line.act) {
            ([Test::Value { field: Field::User, spans: Spans::One(span), negated: false }], Act::Return)
                if span.first == span.last =>
            {
                Uid::new(u32::try_from(span.first).ok()?)
            }
            _ => None,
        })
    }

    /// Whether it may translate anything.
    pub(super) fn translates(&self) -> bool {
        self.hooks.iter().flatten().any(|base| base.kind == ChainType::Nat)
    }

    /// All that hooks call.
    pub(super) fn bases_mut(&mut self) -> impl Iterator<Item = &mut Base<'r>> {
        self.hooks.iter_mut().flatten()
    }

    /// What the hook calls.
    pub(super) fn calls(&self, hook: BuiltinChain) -> &[Base<'r>] {
        &self.hooks[hook as usize]
    }
}

/// A chain that a hook calls.
#[derive(Debug, Clone)]
pub(super) struct Base<'r> {
    pub(super) chain: usize,
    pub(super) kind: ChainType,
    pub(super) priority: i32,
    /// Where its policy stands, if that is to drop what comes to its end.
    pub(super) policy: Option<RulePosition<'r>>,
}

impl Base<'_> {
    /// What it is called by in the order of its hook. All chains that translate are called at one place there, in the order of their
    /// priorities (linux nf_nat_core.c, `nf_nat_register_fn`).
    fn order(&self, hook: BuiltinChain) -> (i32, bool, i32) {
        match self.kind {
            ChainType::Filter => (self.priority, false, 0),
            ChainType::Nat => (translation(hook), true, self.priority),
        }
    }

    #[cfg(all(feature = "host", target_os = "linux"))]
    fn is_at_translation(&self, hook: BuiltinChain) -> bool {
        self.kind == ChainType::Filter && self.priority == translation(hook)
    }

    /// Whether packets come to it with what became of them where they are translated.
    pub(super) fn is_behind_translation(&self, hook: BuiltinChain) -> bool {
        self.kind == ChainType::Filter && self.priority > translation(hook)
    }
}

/// The priority at which packets are translated (linux/netfilter_ipv4.h).
fn translation(hook: BuiltinChain) -> i32 {
    match hook {
        BuiltinChain::Prerouting | BuiltinChain::Output => -100,
        BuiltinChain::Input | BuiltinChain::Forward | BuiltinChain::Postrouting => 100,
    }
}

/// A chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Code<'r> {
    pub(super) lines: Vec<Line<'r>>,
    runs: Vec<Run>,
    pub(super) role: Role,
}

/// Whether a chain decides, and whether its rules are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Role {
    /// It decides, and is told.
    #[default]
    Both,
    /// It decides, and is told where it drops a packet: otherwise it repeats what other chains say.
    Closes,
    /// It decides, and is told by the rules that it was made from.
    Decides,
    /// It decides nothing, and is told instead of what was made from it.
    Tells,
}

impl Role {
    /// Whether people read about its rules.
    pub(super) fn is_told(self) -> bool {
        matches!(self, Self::Both | Self::Tells)
    }
}

impl<'r> Code<'r> {
    /// A chain of these lines.
    pub(super) fn new(lines: Vec<Line<'r>>) -> Self {
        let runs = Run::all(&lines);
        Self { lines, runs, role: Role::Both }
    }

    /// The same in another role.
    pub(super) fn with(self, role: Role) -> Self {
        Self { role, ..self }
    }

    /// Whether a packet that comes here is redirected to this port, whatever else is asked.
    pub(super) fn only_redirects(&self, port: Port) -> bool {
        self.lines.iter().all(|line| matches!(line.act, Act::Redirect(to) | Act::Translate(_, to) if to == port))
    }

    /// The run that begins at this line.
    pub(super) fn run(&self, line: usize) -> Option<&Run> {
        let index = self.runs.binary_search_by_key(&line, |run| run.first).ok()?;
        Some(&self.runs[index])
    }
}

/// A rule: if all tests hold, then the act.
#[derive(Debug, Clone)]
pub(super) struct Line<'r> {
    pub(super) tests: Vec<Test>,
    pub(super) act: Act,
    pub(super) place: RulePosition<'r>,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    Interface {
        out: bool,
        pattern: InterfacePattern,
        negated: bool,
    },
    Protocol {
        number: u8,
        negated: bool,
    },
    /// A packet without the field has none of the values.
    Value {
        field: Field,
        spans: Spans,
        negated: bool,
    },
    MidStream,
    /// The address of this end is one of this host.
    Local {
        end: End,
        negated: bool,
    },
    BoundSocket,
    /// Bits of states; the packet is in one of them.
    CtState {
        states: CtStates,
        negated: bool,
    },
    /// Of the TCP flags of the mask, exactly these are set.
    #[cfg(all(feature = "host", target_os = "linux"))]
    Flags {
        mask: u8,
        flags: u8,
    },
    /// The other does not hold.
    #[cfg(all(feature = "host", target_os = "linux"))]
    Not(Box<Test>),
    /// One that is not known, as it is written.
    Unknown(Arc<str>),
}

/// Values: sorted, neither overlapping nor touching.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Spans {
    One(Span),
    Many(Arc<[Span]>),
}

impl Spans {
    pub(super) fn of(spans: Vec<Span>) -> Self {
        let merged = Span::union(spans);
        match merged[..] {
            [one] => Self::One(one),
            _ => Self::Many(merged.into()),
        }
    }

    pub(super) fn as_slice(&self) -> &[Span] {
        match self {
            Self::One(span) => std::slice::from_ref(span),
            Self::Many(spans) => spans,
        }
    }

    pub(super) fn contains(&self, value: u128) -> bool {
        match self {
            Self::One(span) => span.first <= value && value <= span.last,
            Self::Many(spans) => {
                let after = spans.partition_point(|span| span.first <= value);
                after.checked_sub(1).is_some_and(|index| value <= spans[index].last)
            }
        }
    }
}

/// What a rule does.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Accept,
    Drop,
    Return,
    Jump(usize),
    Goto(usize),
    Redirect(Port),
    /// To a port of this host, at the address of an end of the packet.
    Translate(End, Port),
    /// Translates the source.
    Source(NewSource),
    Log(LogPrefix, LogLevel),
    Zone(u16),
    /// Connection tracking lets it alone.
    #[cfg(all(feature = "host", target_os = "linux"))]
    Untrack,
    /// On with this line of the same chain.
    Skip(usize),
    /// On with the next line, whatever it does besides.
    Next,
    /// What it does is not known; why not.
    Unknown(Arc<str>),
}

/// What a source is translated to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NewSource {
    pub(super) address: Value,
    /// `None` where the port is kept.
    pub(super) port: Option<Value>,
}

impl Act {
    /// Whether it has no say in where the packet ends.
    pub(super) fn is_harmless(&self) -> bool {
        matches!(self, Self::Log(..) | Self::Next)
    }
}

/// How many rules make a search worth while.
const WORTH: usize = 8;

/// Adjacent rules that differ only in the values of one field, which are searched instead of tried.
#[derive(Debug, Clone)]
pub(super) struct Run {
    first: usize,
    /// The line behind the last one.
    pub(super) end: usize,
    field: Field,
    /// The tests that all have, and the one in which they differ.
    pub(super) varies: usize,
    /// From each value on, the first line that has it: sorted by value.
    steps: Vec<(u128, Option<usize>)>,
}

impl Run {
    /// The first line of the run for a value.
    pub(super) fn find(&self, value: u128) -> Option<usize> {
        let after = self.steps.partition_point(|(from, _)| *from <= value);
        after.checked_sub(1).and_then(|index| self.steps[index].1)
    }

    pub(super) fn field(&self) -> Field {
        self.field
    }

    fn all(lines: &[Line<'_>]) -> Vec<Self> {
        let mut runs = Vec::new();
        let mut first = 0;
        while first < lines.len() {
            let mut varies = None;
            let mut end = first + 1;
            while end < lines.len() && extends(&lines[first], &lines[end], &mut varies) {
                end += 1;
            }
            if let (Some(varies), true) = (varies, end - first >= WORTH) {
                runs.push(Self::of(lines, first, end, varies));
            }
            first = end;
        }
        runs
    }

    fn of(lines: &[Line<'_>], first: usize, end: usize, varies: usize) -> Self {
        // Every value at which the set of lines that have it may change, then a sweep over them.
        let mut events: Vec<(u128, bool, usize)> = Vec::new();
        let mut field = Field::DestinationPort;
        for (index, line) in lines[first..end].iter().enumerate() {
            let Test::Value { field: own, spans, .. } = &line.tests[varies] else { continue };
            field = *own;
            for span in spans.as_slice() {
                events.push((span.first, true, first + index));
                if let Some(after) = span.last.checked_add(1) {
                    events.push((after, false, first + index));
                }
            }
        }
        events.sort_unstable();
        let mut steps: Vec<(u128, Option<usize>)> = vec![(0, None)];
        let mut open = BTreeSet::new();
        for at_value in events.chunk_by(|a, b| a.0 == b.0) {
            for (_, begins, line) in at_value {
                // The spans of a line do not touch, so it is never begun twice.
                match begins {
                    true => open.insert(*line),
                    false => open.remove(line),
                };
            }
            let (value, lowest) = (at_value[0].0, open.first().copied());
            match steps.last_mut() {
                Some(last) if last.0 == value => last.1 = lowest,
                Some(last) if last.1 == lowest => {}
                _ => steps.push((value, lowest)),
            }
        }
        Self { first, end, field, varies, steps }
    }
}

/// Whether `next` differs from `head` only in the values of one field, the same as before.
fn extends(head: &Line<'_>, next: &Line<'_>, varies: &mut Option<usize>) -> bool {
    if head.tests.len() != next.tests.len() {
        return false;
    }
    let mut differing = (0..head.tests.len()).filter(|i| Some(*i) != *varies && head.tests[*i] != next.tests[*i]);
    let searchable = |at: usize| {
        matches!(
            (&head.tests[at], &next.tests[at]),
            (Test::Value { field: a, negated: false, .. }, Test::Value { field: b, negated: false, .. }) if a == b
        )
    };
    match (differing.next(), differing.next(), *varies) {
        (None, _, Some(at)) => searchable(at),
        (None, _, None) => false,
        (Some(at), None, None) if searchable(at) => {
            *varies = Some(at);
            true
        }
        _ => false,
    }
}
