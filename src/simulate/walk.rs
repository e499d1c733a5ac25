//! A packet's way through the hooks and their chains.

use super::outcome::{Effect, LogLine, Outcome, Step, Verdict};
use super::packet::{Direction, IpProtocol, Packet, Tracking};
use super::program::{Act, Base, Line, Program, Test};
use crate::model::BuiltinChain;
use crate::net::{Family, InterfaceName};
use crate::nftables::{ChainType, End, Field};
use crate::save::CtStates;

/// How many rules a packet may meet, how many may match, and how deep chains may call each other, before a ruleset is taken to
/// have no end. The kernel refuses loops, but texts may have them, and chains that call others many times over.
const RULES: u32 = 10_000_000;
const MATCHES: usize = 100_000;
const DEPTH: usize = 256;

/// The priority at which connection tracking sees packets (linux/netfilter_ipv4.h).
const CONNTRACK: i32 = -200;

/// Sends a packet through a program.
pub(super) fn walk<'r, F: Family>(program: &Program<'r>, packet: &Packet<F>, loopback: &str) -> Outcome<'r> {
    let outcome = Outcome {
        verdict: Verdict::Delivered,
        zone: 0,
        log: Vec::new(),
        trace: Vec::with_capacity(8),
        decided_by: None,
    };
    let mut walk =
        Walk { program, view: View::of(packet, loopback), outcome, zone: None, translated: [false; 2], met: 0 };
    let ended = walk.hooks::<F>(packet.direction, loopback);
    if ended.is_ok() && packet.tracking == Tracking::Established {
        walk.outcome.verdict = Verdict::Established;
    }
    walk.outcome.zone = walk.zone.unwrap_or_default();
    walk.outcome
}

/// The way ends here: the verdict is in the outcome.
#[derive(Debug, Clone, Copy)]
struct Ended;

/// A field of a packet.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Is(u128),
    Absent,
    Unknown,
}

/// A packet as the rules see it.
struct View<'p> {
    /// In the order of [`Field`].
    fields: [Value; 6],
    protocol: u8,
    tracking: Tracking,
    /// Whether connection tracking has seen it.
    tracked: bool,
    /// Whether the rules have redirected it.
    redirected: bool,
    input: &'p str,
    output: &'p str,
    loopback: &'p str,
    /// Whether it is of this host.
    made_here: bool,
    /// Whether it is for this host.
    arrives: bool,
}

impl<'p> View<'p> {
    fn of<F: Family>(packet: &'p Packet<F>, loopback: &'p str) -> Self {
        let has_ports = matches!(packet.protocol, IpProtocol::Tcp | IpProtocol::Udp);
        let port = |port: crate::net::Port| if has_ports { Value::Is(port.number().into()) } else { Value::Absent };
        let owner = |id: Option<u32>| id.map_or(Value::Absent, |id| Value::Is(id.into()));
        Self {
            fields: [
                Value::Is(F::to_bits(packet.source)),
                Value::Is(F::to_bits(packet.destination)),
                port(packet.source_port),
                port(packet.destination_port),
                owner(packet.socket.map(|socket| socket.uid.number())),
                owner(packet.socket.map(|socket| socket.gid.number())),
            ],
            protocol: packet.protocol.number(),
            tracking: packet.tracking,
            tracked: false,
            redirected: false,
            input: packet.in_interface.as_ref().map_or("", InterfaceName::as_str),
            output: packet.out_interface.as_ref().map_or("", InterfaceName::as_str),
            loopback,
            made_here: packet.direction == Direction::Outbound,
            arrives: packet.direction != Direction::Forwarded,
        }
    }

    /// Whether the condition holds; `None` if that is not known.
    fn holds(&self, test: &Test) -> Option<bool> {
        Some(match test {
            Test::Interface { out, pattern, negated } => {
                pattern.matches(if *out { self.output } else { self.input }) != *negated
            }
            Test::Protocol { number, negated } => (self.protocol == *number) != *negated,
            Test::Value { field, spans, negated } => match self.fields[*field as usize] {
                Value::Is(value) => spans.contains(value) != *negated,
                Value::Absent => *negated,
                Value::Unknown => return None,
            },
            Test::MidStream => self.tracking != Tracking::New && self.protocol == IpProtocol::Tcp.number(),
            // A packet of this host is from one of its addresses; where another is for is told by its interfaces.
            Test::Local(End::Source) => self.made_here,
            Test::Local(End::Destination) => match self.made_here {
                true => self.output == self.loopback,
                false => self.arrives,
            },
            Test::BoundSocket => self.tracking == Tracking::MidStream,
            Test::Translated => self.redirected,
            Test::CtState { states, negated } => {
                let mut own = match self.tracking {
                    _ if !self.tracked => CtStates::INVALID,
                    Tracking::New | Tracking::MidStream => CtStates::NEW,
                    Tracking::Established => CtStates::ESTABLISHED,
                    Tracking::Invalid => CtStates::INVALID,
                };
                own.set(CtStates::DNAT, self.redirected);
                match states.intersects(own) {
                    true => !negated,
                    // How the connection is translated besides is not known.
                    false if states.intersects(self.unknown_states()) => return None,
                    false => *negated,
                }
            }
            Test::Unknown(_) => return None,
        })
    }

    /// States that the packet may be in without it being known here.
    fn unknown_states(&self) -> CtStates {
        match self.tracking {
            Tracking::New | Tracking::MidStream if self.tracked => CtStates::SNAT,
            Tracking::Established if self.tracked => CtStates::SNAT | CtStates::DNAT,
            _ => CtStates::empty(),
        }
    }

    /// Whether all hold, except the one at `but`.
    fn all_hold(&self, tests: &[Test], but: Option<usize>) -> Option<bool> {
        let mut known = true;
        for (index, test) in tests.iter().enumerate() {
            match self.holds(test) {
                _ if Some(index) == but => {}
                Some(true) => {}
                Some(false) => return Some(false),
                None => known = false,
            }
        }
        known.then_some(true)
    }
}

struct Walk<'w, 'r> {
    program: &'w Program<'r>,
    view: View<'w>,
    outcome: Outcome<'r>,
    zone: Option<u16>,
    /// Whether it was decided on the translation of the destination, and of the source.
    translated: [bool; 2],
    met: u32,
}

impl<'w, 'r> Walk<'w, 'r> {
    /// All hooks that the packet passes.
    fn hooks<F: Family>(&mut self, direction: Direction, loopback: &'w str) -> Result<(), Ended> {
        use BuiltinChain::{Forward, Input, Output, Postrouting, Prerouting};
        match direction {
            Direction::Outbound => {
                if self.hook(Output)? {
                    self.set(Field::DestinationAddress, Value::Is(F::to_bits(F::localhost().addr())));
                    // It is routed anew.
                    self.view.output = loopback;
                }
                self.hook(Postrouting)?;
                if self.view.output == loopback {
                    // It comes back with the connection that it has, and without its socket.
                    (self.view.input, self.view.output) = (loopback, "");
                    self.set(Field::User, Value::Absent);
                    self.set(Field::Group, Value::Absent);
                    self.hook(Prerouting)?;
                    self.hook(Input)?;
                }
            }
            Direction::Inbound | Direction::Forwarded => {
                let output = std::mem::take(&mut self.view.output);
                let redirected = self.hook(Prerouting)?;
                if redirected {
                    // To the first address of the interface, which is not known here.
                    self.set(Field::DestinationAddress, Value::Unknown);
                }
                if redirected || direction == Direction::Inbound {
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

    fn set(&mut self, field: Field, value: Value) {
        self.view.fields[field as usize] = value;
    }

    /// Sends the packet through what a hook calls. Whether it was redirected there.
    fn hook(&mut self, hook: BuiltinChain) -> Result<bool, Ended> {
        let translation = usize::from(matches!(hook, BuiltinChain::Input | BuiltinChain::Postrouting));
        let mut redirected = false;
        let program = self.program;
        for base in program.calls(hook) {
            self.view.tracked |= base.priority > CONNTRACK;
            // Only the first packet of a connection, and of the chains the first that decides (linux nf_nat_core.c).
            let fresh = matches!(self.view.tracking, Tracking::New | Tracking::MidStream);
            if base.kind == ChainType::Nat && (!fresh || self.translated[translation]) {
                continue;
            }
            if self.base(base, base.kind == ChainType::Nat && translation == 0)? {
                redirected = true;
                self.translated[translation] = true;
            }
        }
        self.view.tracked = true;
        self.translated[translation] = true;
        Ok(redirected)
    }

    /// Sends the packet through a chain that a hook calls, and those that it calls. `decides` is whether the chain is one that
    /// decides where the packet goes. Whether it was redirected.
    fn base(&mut self, base: &'w Base<'r>, decides: bool) -> Result<bool, Ended> {
        // Where to go on: the chain and its line. Behind a goto, the chain that went is not come back to.
        let mut calls: Vec<(usize, usize)> = Vec::new();
        let (mut chain, mut line) = (base.chain, 0);
        loop {
            let Some((at, found)) = self.next(chain, line)? else {
                match calls.pop() {
                    Some(caller) => (chain, line) = caller,
                    None => return self.policy(base),
                }
                continue;
            };
            line = at + 1;
            let effect = match &found.act {
                Act::Accept => Effect::Accepted,
                Act::Drop => Effect::Dropped,
                Act::Return => Effect::Returned,
                Act::Jump(_) | Act::Goto(_) => Effect::Called,
                Act::Redirect(_) => Effect::Redirected,
                Act::Log(..) => Effect::Logged,
                Act::Zone(_) => Effect::Tracked,
                Act::Skip(_) | Act::Next => Effect::Passed,
                Act::Unknown(_) => Effect::Unknown,
            };
            self.outcome.trace.push(Step { place: found.place, effect });
            let decider = Some(self.outcome.trace.len() - 1);
            match &found.act {
                Act::Accept => {
                    if decides {
                        self.outcome.decided_by = decider;
                    }
                    return Ok(false);
                }
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
                Act::Redirect(port) => {
                    self.view.redirected = true;
                    self.set(Field::DestinationPort, Value::Is(port.number().into()));
                    self.outcome.verdict = Verdict::Redirected { port: *port };
                    // Where a chain has but one rule, the choice was made by the one that called it.
                    let only = self.program.chains[chain].lines.len() == 1 && chain != base.chain;
                    self.outcome.decided_by = decider.map(|at| at.saturating_sub(usize::from(only)));
                    return Ok(true);
                }
                Act::Log(prefix, level) => self.outcome.log.push(LogLine { prefix: prefix.clone(), level: *level }),
                Act::Zone(zone) => {
                    // A template counts only before the packet has its connection, and the first one does.
                    if !self.view.tracked && self.zone.is_none() {
                        self.zone = Some(*zone);
                    }
                }
                Act::Skip(to) => line = *to,
                Act::Next => {}
                Act::Unknown(reason) => {
                    let reason = reason.to_string();
                    return Err(self.end(Verdict::Undecided { reason }));
                }
            }
        }
    }

    /// The first rule of the chain from `line` on that matches, with its place.
    fn next(&mut self, chain: usize, line: usize) -> Result<Option<(usize, &'w Line<'r>)>, Ended> {
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
                match (common, self.view.fields[run.field() as usize]) {
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
                None if rule.act.is_harmless() => {}
                None => {
                    let unknown = rule.tests.iter().find_map(|test| match test {
                        Test::Unknown(text) => Some(text.clone()),
                        _ => None,
                    });
                    self.outcome.trace.push(Step { place: rule.place, effect: Effect::Unknown });
                    let reason = match unknown {
                        Some(text) => format!("it is not known whether '{text}' holds"),
                        None => "it is not known what the packet has been translated to".to_owned(),
                    };
                    return Err(self.end(Verdict::Undecided { reason }));
                }
            }
            at += 1;
        }
        Ok(None)
    }

    /// The end of a chain that a hook calls.
    fn policy(&mut self, base: &Base<'r>) -> Result<bool, Ended> {
        match &base.policy {
            None => Ok(false),
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
