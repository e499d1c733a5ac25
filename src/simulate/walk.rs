//! A packet's way through the hooks and their chains.

use super::outcome::{Effect, LogLine, Outcome, RulePosition, Step, Verdict};
use super::packet::{Direction, Packet, Tracking};
use super::program::{Act, Base, Line, Program, Role, Test};
use super::translation::{Endpoint, Known, Translation};
use super::view::{Value, View};
use crate::model::{BuiltinChain, End};
use crate::net::Family;
use crate::nftables::{ChainType, Field};

/// How many rules a packet may meet, how many may match, and how deep chains may call each other, before a ruleset is taken to
/// have no end. The kernel refuses loops, but texts may have them, and chains that call others many times over.
const RULES: u32 = 10_000_000;
const MATCHES: usize = 100_000;
const DEPTH: usize = 256;

/// The priority at which connection tracking sees packets (linux/netfilter_ipv4.h).
const CONNTRACK: i32 = -200;

/// What became of a packet, and how it was translated.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sent<'r> {
    pub(super) outcome: Outcome<'r>,
    pub(super) translation: Translation,
    /// Whether a rule keeps it out of connection tracking.
    pub(super) untracked: bool,
}

impl Sent<'_> {
    /// Whether it ends in the same way, whatever its source is translated to.
    fn agrees(&self, other: &Self) -> bool {
        let key = |sent: &Self| {
            let Translation { destination, to_this_host, dnat, .. } = sent.translation;
            (sent.outcome.verdict.clone(), sent.outcome.zone, sent.untracked, destination, to_this_host, dnat)
        };
        key(self) == key(other)
    }
}

/// How many times a packet is sent, each time with other answers to what is not known, before it is left undecided.
const TRIES: usize = 64;

/// Sends a packet through a program. What is known of its connection has no meaning for the first packet of one.
///
/// Where it is not known whether a rule matches, it is tried both ways; only if the packet ends in different ways it is undecided.
pub(super) fn walk<'r, F: Family>(
    program: &Program<'r>,
    packet: &Packet<F>,
    known: &Known,
    loopback: &str,
) -> Sent<'r> {
    let sent = walk_if(program, packet, known, loopback, None);
    let unclear = packet.tracking.is_fresh() && sent.translation.dnat.is_none();
    if !unclear || !matches!(sent.outcome.verdict, Verdict::Undecided { .. }) {
        return sent;
    }
    // Redirected to the port that it was for, at an address that may be the same: that may make no difference.
    let [is, is_not] = [true, false].map(|translated| walk_if(program, packet, known, loopback, Some(translated)));
    if is.outcome.verdict == is_not.outcome.verdict { is } else { sent }
}

/// The same if a translation that may change nothing is one, or is none.
fn walk_if<'r, F: Family>(
    program: &Program<'r>,
    packet: &Packet<F>,
    known: &Known,
    loopback: &str,
    if_unclear: Option<bool>,
) -> Sent<'r> {
    let (mut sent, asked) = walk_assuming(program, packet, known, loopback, (&[], if_unclear));
    if let (Verdict::Undecided { .. }, Some(first)) = (&sent.outcome.verdict, asked.first()) {
        return Sent { outcome: first.clone(), ..sent };
    }
    let mut open = turned(&[], asked);
    let mut tries = 1;
    while let Some((assumed, undecided)) = open.pop() {
        let (other, asked) = walk_assuming(program, packet, known, loopback, (&assumed, if_unclear));
        tries += 1;
        if tries > TRIES || !sent.agrees(&other) {
            return Sent { outcome: undecided, ..sent };
        }
        if sent.translation.source != other.translation.source {
            sent.translation.source = Some(Endpoint::UNKNOWN);
        }
        if sent.translation.snat != other.translation.snat {
            sent.translation.snat = None;
        }
        open.extend(turned(&assumed, asked));
    }
    sent
}

/// The other answer to each question that was answered by default, and what to say if it makes a difference. The first question
/// comes last.
fn turned<'r>(assumed: &[bool], asked: Vec<Outcome<'r>>) -> Vec<(Vec<bool>, Outcome<'r>)> {
    let by_default = asked.into_iter().enumerate().skip(assumed.len());
    let turn = |(at, undecided)| {
        let defaults = std::iter::repeat_n(false, at - assumed.len());
        (assumed.iter().copied().chain(defaults).chain([true]).collect(), undecided)
    };
    by_default.map(turn).rev().collect()
}

/// The same with these answers to what is not known, one after another, and no to all others. With what would be undecided at each
/// question.
fn walk_assuming<'r, F: Family>(
    program: &Program<'r>,
    packet: &Packet<F>,
    known: &Known,
    loopback: &str,
    (assumed, if_unclear): (&[bool], Option<bool>),
) -> (Sent<'r>, Vec<Outcome<'r>>) {
    let outcome = Outcome {
        verdict: Verdict::Delivered,
        zone: 0,
        log: Vec::new(),
        trace: Vec::with_capacity(8),
        decided_by: None,
    };
    let view = View::of(packet, known, loopback);
    let here = match packet.direction {
        Direction::Outbound => Value::Is(F::to_bits(F::localhost().addr())),
        // The first address of the interface.
        Direction::Inbound | Direction::Forwarded => Value::Unknown,
    };
    let mut walk = Walk {
        program,
        view,
        outcome,
        zone: None,
        decided: [false; 2],
        here,
        if_unclear,
        met: 0,
        assumed,
        asked: Vec::new(),
    };
    let ended = walk.hooks::<F>(packet.direction, loopback);
    if ended.is_ok() && packet.tracking == Tracking::Established {
        walk.outcome.verdict = Verdict::Established;
    }
    walk.outcome.zone = walk.zone.unwrap_or_default();
    let sent = Sent { outcome: walk.outcome, translation: walk.view.translation, untracked: walk.view.untracked };
    (sent, walk.asked)
}

/// The way ends here: the verdict is in the outcome.
#[derive(Debug, Clone, Copy)]
struct Ended;

/// What is translated in a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Destination,
    Source,
}

impl Part {
    fn of(hook: BuiltinChain) -> Option<Self> {
        match hook {
            BuiltinChain::Prerouting | BuiltinChain::Output => Some(Self::Destination),
            BuiltinChain::Input | BuiltinChain::Postrouting => Some(Self::Source),
            BuiltinChain::Forward => None,
        }
    }
}

struct Walk<'w, 'r> {
    program: &'w Program<'r>,
    view: View<'w>,
    outcome: Outcome<'r>,
    zone: Option<u16>,
    /// Whether it was decided on the translation of the destination, and of the source.
    decided: [bool; 2],
    /// The address of this host that what is redirected goes to.
    here: Value,
    /// Whether a translation that may change nothing is one.
    if_unclear: Option<bool>,
    met: u32,
    /// Whether rules match of which that is not known, in the order in which it is asked; no if nothing is said.
    assumed: &'w [bool],
    /// What is undecided at each of them.
    asked: Vec<Outcome<'r>>,
}

impl<'w, 'r> Walk<'w, 'r> {
    /// All hooks that the packet passes.
    fn hooks<F: Family>(&mut self, direction: Direction, loopback: &'w str) -> Result<(), Ended> {
        use BuiltinChain::{Forward, Input, Output, Postrouting, Prerouting};
        match direction {
            Direction::Outbound => {
                let output = self.view.output;
                if self.is_for_elsewhere::<F>() {
                    // Only its translated destination tells where it goes.
                    self.view.output = None;
                }
                self.hook(Output)?;
                // It is routed anew.
                self.view.output = if self.view.translation.to_this_host { Some(loopback) } else { output };
                self.hook(Postrouting)?;
                if self.view.output == Some(loopback) {
                    // It comes back with the connection that it has, and without its socket.
                    (self.view.input, self.view.output) = (loopback, Some(""));
                    self.view.set(Field::User, Value::Absent);
                    self.view.set(Field::Group, Value::Absent);
                    self.hook(Prerouting)?;
                    self.hook(Input)?;
                }
            }
            Direction::Inbound | Direction::Forwarded => {
                let output = self.view.output.replace("");
                self.hook(Prerouting)?;
                if self.view.translation.to_this_host || direction == Direction::Inbound {
                    self.hook(Input)?;
                } else {
                    self.view.output = output;
                    self.hook(Forward)?;
                    self.hook(Postrouting)?;
                }
            }
        }
        Ok(())
    }

    /// Whether it is an answer to a source that was translated to what may be the address of another host.
    fn is_for_elsewhere<F: Family>(&self) -> bool {
        let Translation { destination, to_this_host, .. } = self.view.translation;
        let is_loopback = match self.view.get(Field::DestinationAddress) {
            Value::Is(bits) => Into::<std::net::IpAddr>::into(F::from_bits(bits)).is_loopback(),
            Value::Absent | Value::Unknown => false,
        };
        destination.is_some() && !to_this_host && !is_loopback
    }

    /// Sends the packet through what a hook calls, and translates it where the hook does.
    fn hook(&mut self, hook: BuiltinChain) -> Result<(), Ended> {
        let part = Part::of(hook);
        let program = self.program;
        let mut pending = part;
        for base in program.calls(hook) {
            let passed = if base.is_behind_translation(hook) { pending.take() } else { None };
            if let Some(part) = passed {
                self.translate(part);
            }
            self.view.tracked |= base.priority > CONNTRACK;
            match (base.kind, part) {
                (ChainType::Nat, Some(part)) => {
                    // Only the first packet of a connection, and of the chains the first that decides (linux nf_nat_core.c).
                    if self.view.tracking.is_fresh() && !self.view.untracked && !self.decided[part as usize] {
                        self.base(base, Some(part))?;
                    }
                }
                (ChainType::Nat, None) => {}
                (ChainType::Filter, _) => self.base(base, None)?,
            }
        }
        self.view.tracked = true;
        if let Some(part) = pending {
            self.translate(part);
        }
        Ok(())
    }

    /// What is behind the chains that translate: a packet of a known connection is translated as that is, and a new one is what
    /// they have made of it.
    fn translate(&mut self, part: Part) {
        let decided = std::mem::replace(&mut self.decided[part as usize], true);
        if self.view.tracking.is_fresh() {
            if part == Part::Source && !decided {
                // Another port is chosen where the answers to two connections could not be told apart.
                self.view.translation.snat = None;
            }
            return;
        }
        // A packet that comes back by the loopback interface has been translated.
        if decided {
            return;
        }
        match (part, self.view.translation) {
            (Part::Destination, Translation { destination: Some(end), .. }) => self.view.set_destination(end),
            (Part::Source, Translation { source: Some(end), .. }) => self.view.set_source(end),
            _ => {}
        }
    }

    /// Translates the first packet of a connection.
    fn set(&mut self, part: Part, end: Endpoint) {
        self.decided[part as usize] = true;
        match part {
            Part::Destination => {
                let before = self.view.destination();
                let (dnat, end) = match (end.differs(before), self.if_unclear) {
                    (None, Some(false)) => (Some(false), before),
                    (differs, assumed) => (differs.or(assumed), end),
                };
                self.view.translation.dnat = dnat;
                self.view.set_destination(end);
                self.view.translation.destination = Some(end);
            }
            Part::Source => {
                self.view.translation.snat = end.differs(self.view.source());
                self.view.set_source(end);
                self.view.translation.source = Some(end);
            }
        }
    }

    /// Sends the packet through a chain that a hook calls, and those that it calls. `part` is what the chain may translate.
    fn base(&mut self, base: &'w Base<'r>, part: Option<Part>) -> Result<(), Ended> {
        let role = self.program.chains[base.chain].role;
        let (tells, told) = (role == Role::Tells, role.is_told());
        let decides = told && part == Some(Part::Destination);
        if tells && self.is_told_dropped() {
            return Ok(());
        }
        // Where to go on: the chain and its line. Behind a goto, the chain that went is not come back to.
        let mut calls: Vec<(usize, usize)> = Vec::new();
        let (mut chain, mut line) = (base.chain, 0);
        loop {
            let Some((at, found)) = self.next(chain, line, tells)? else {
                match calls.pop() {
                    Some(caller) => (chain, line) = caller,
                    None => return self.policy(base),
                }
                continue;
            };
            line = at + 1;
            let effect = match &found.act {
                Act::Accept | Act::Source(_) => Effect::Accepted,
                Act::Drop => Effect::Dropped,
                Act::Return => Effect::Returned,
                Act::Jump(_) | Act::Goto(_) => Effect::Called,
                Act::Redirect(_) | Act::Translate(..) => Effect::Redirected,
                Act::Log(..) => Effect::Logged,
                Act::Zone(_) => Effect::Tracked,
                #[cfg(all(feature = "host", target_os = "linux"))]
                Act::Untrack => Effect::Untracked,
                Act::Skip(_) | Act::Next => Effect::Passed,
                Act::Unknown(_) => Effect::Unknown,
            };
            if told || effect == Effect::Unknown || effect == Effect::Dropped && !self.is_told_dropped() {
                self.outcome.trace.push(Step { place: found.place, effect });
            }
            let decider = self.outcome.trace.len().checked_sub(1);
            match &found.act {
                Act::Accept => {
                    if decides {
                        self.outcome.decided_by = decider;
                    }
                    return Ok(());
                }
                Act::Drop if tells => return Ok(()),
                Act::Drop => return Err(self.end(Verdict::Dropped)),
                Act::Return => {
                    if decides {
                        self.outcome.decided_by = decider;
                    }
                    match calls.pop() {
                        Some(caller) => (chain, line) = caller,
                        None => return self.policy(base),
                    }
                }
                Act::Jump(to) => {
                    if calls.len() >= DEPTH {
                        return Err(self.undecided("chains call each other in a loop"));
                    }
                    calls.push((chain, line));
                    (chain, line) = (*to, 0);
                }
                Act::Goto(to) => (chain, line) = (*to, 0),
                Act::Redirect(port) | Act::Translate(_, port) => {
                    let address = match &found.act {
                        Act::Translate(End::Source, _) => self.view.get(Field::SourceAddress),
                        Act::Translate(End::Destination, _) => self.view.get(Field::DestinationAddress),
                        _ => self.here,
                    };
                    if !tells {
                        self.set(Part::Destination, Endpoint { address, port: Value::Is(port.number().into()) });
                        self.view.translation.to_this_host = true;
                        self.outcome.verdict = Verdict::Redirected { port: *port };
                    }
                    if told {
                        // Where a chain does nothing else, the choice was made by the rule that called it.
                        let only = self.program.chains[chain].only_redirects(*port) && chain != base.chain;
                        self.outcome.decided_by = decider.map(|at| at.saturating_sub(usize::from(only)));
                    }
                    return Ok(());
                }
                Act::Source(end) => {
                    if part == Some(Part::Source) && !tells {
                        let port = end.port.unwrap_or(self.view.get(Field::SourcePort));
                        self.set(Part::Source, Endpoint { address: end.address, port });
                    }
                    return Ok(());
                }
                // Of what only tells, no more is done.
                Act::Log(..) | Act::Zone(_) if tells => {}
                Act::Log(prefix, level) => self.outcome.log.push(LogLine { prefix: prefix.clone(), level: *level }),
                Act::Zone(zone) => {
                    // A template counts only before the packet has its connection, and the first one does.
                    if !self.view.tracked && self.zone.is_none() {
                        self.zone = Some(*zone);
                        self.view.untracked = false;
                        if !told {
                            self.tell_addition(found.place);
                        }
                    }
                }
                // Something that has its connection, or a template for one, is let alone (linux nft_ct.c, `nft_notrack_eval`).
                #[cfg(all(feature = "host", target_os = "linux"))]
                Act::Untrack => self.view.untracked |= !self.view.tracked && self.zone.is_none(),
                Act::Skip(to) => line = *to,
                Act::Next => {}
                Act::Unknown(reason) => {
                    let reason = reason.to_string();
                    return Err(self.end(Verdict::Undecided { reason }));
                }
            }
        }
    }

    /// Tells of what was added to a plan and decided, if it was not told: before the rules of the plan there, which come too late.
    fn tell_addition(&mut self, place: RulePosition<'r>) {
        let trace = &mut self.outcome.trace;
        if place.is_added() && trace.iter().all(|step| step.place != place) {
            let at = trace.iter().position(|step| step.place.chain() == place.chain()).unwrap_or(trace.len());
            trace.insert(at, Step { place, effect: Effect::Tracked });
        }
    }

    /// Whether it has been told that the packet is dropped: what decides will do so.
    fn is_told_dropped(&self) -> bool {
        self.outcome.trace.last().is_some_and(|step| step.effect == Effect::Dropped)
    }

    /// The first rule of the chain from `line` on that matches, with its place. Of what only tells, a rule of which that is not known
    /// is taken not to.
    fn next(&mut self, chain: usize, line: usize, tells: bool) -> Result<Option<(usize, &'w Line<'r>)>, Ended> {
        let program = self.program;
        let code = &program.chains[chain];
        let mut at = line;
        while let Some(rule) = code.lines.get(at) {
            self.met += 1;
            if self.met > RULES || self.outcome.trace.len() > MATCHES {
                return Err(self.undecided("the rules have no end"));
            }
            if let Some(run) = code.run(at) {
                let common = self.view.all_hold(&rule.tests, Some(run.varies));
                match (common, self.view.get(run.field())) {
                    (Some(false), _) | (_, Value::Absent) => {
                        at = run.end;
                        continue;
                    }
                    (Some(true), Value::Is(value)) => match run.find(value) {
                        Some(found) => return Ok(Some((found, &code.lines[found]))),
                        None => {
                            at = run.end;
                            continue;
                        }
                    },
                    _ => {}
                }
            }
            match self.view.all_hold(&rule.tests, None) {
                Some(true) => return Ok(Some((at, rule))),
                Some(false) => {}
                None if tells || rule.act.is_harmless() => {}
                None if self.may_match(rule)? => return Ok(Some((at, rule))),
                None => {}
            }
            at += 1;
        }
        Ok(None)
    }

    /// Whether a rule is taken to match of which that is not known.
    fn may_match(&mut self, rule: &'w Line<'r>) -> Result<bool, Ended> {
        let assumed = self.assumed.get(self.asked.len()).copied().unwrap_or_default();
        let unknown = rule.tests.iter().find(|test| self.view.holds(test).is_none());
        let reason = match unknown {
            Some(Test::Unknown(text)) => format!("it is not known whether '{text}' holds"),
            _ => "it is not known what the packet has been translated to".to_owned(),
        };
        let mut undecided = self.outcome.clone();
        undecided.trace.push(Step { place: rule.place, effect: Effect::Unknown });
        undecided.decided_by = Some(undecided.trace.len() - 1);
        undecided.verdict = Verdict::Undecided { reason };
        if self.asked.len() >= TRIES {
            self.outcome = undecided;
            return Err(Ended);
        }
        self.asked.push(undecided);
        Ok(assumed)
    }

    /// The end of a chain that a hook calls.
    fn policy(&mut self, base: &Base<'r>) -> Result<(), Ended> {
        match &base.policy {
            None => Ok(()),
            Some(place) => {
                self.outcome.trace.push(Step { place: *place, effect: Effect::Dropped });
                Err(self.end(Verdict::Dropped))
            }
        }
    }

    fn undecided(&mut self, reason: &str) -> Ended {
        self.end(Verdict::Undecided { reason: reason.to_owned() })
    }

    /// Ends the way with the last rule that was met.
    fn end(&mut self, verdict: Verdict) -> Ended {
        self.outcome.verdict = verdict;
        self.outcome.decided_by = self.outcome.trace.len().checked_sub(1);
        Ended
    }
}
