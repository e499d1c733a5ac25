//! From tables of other programs to a program.

use std::collections::HashMap;
use std::sync::Arc;

use super::outcome::{Described, RulePosition};
use super::program::{Act, Base, Code, Line, NewSource, Program, Spans, Test};
use super::view::Value;
use crate::iptables_save::CtStates;
use crate::model::{BuiltinChain, Origin};
use crate::net::{FamilyName, InterfaceName, Protocol};
use crate::nftables::{ChainType, Deed, Fact, Field, OtherBase, OtherChain, OtherHook, OtherRule, OtherTable, Part};

impl<'r> Program<'r> {
    /// What a table of other programs does with packets of a family; nothing if they do not meet it.
    pub(super) fn of_others(table: &'r OtherTable, family: FamilyName) -> Self {
        let mut program = Self::default();
        if table.dormant || !table.family.meets(family) {
            return program;
        }
        let places: HashMap<&str, usize> =
            table.chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), at)).collect();
        for chain in &table.chains {
            let rules = chain.rules.iter().enumerate();
            let lines = rules.flat_map(|(number, rule)| {
                let place = RulePosition::rule(family, &table.title, &chain.name, number, rule);
                Reader { place, places: &places, lines: Vec::new() }.read(rule.parts(family))
            });
            program.chains.push(Code::new(lines.collect()));
        }
        // Of chains of the same priority the kernel calls the one first that was made last.
        for (index, chain) in table.chains.iter().enumerate().rev() {
            if let Some(base) = &chain.base {
                program.call_other(table, chain, index, base, family);
            }
        }
        program
    }

    fn call_other(
        &mut self,
        table: &'r OtherTable,
        chain: &'r OtherChain,
        index: usize,
        base: &OtherBase,
        family: FamilyName,
    ) {
        let policy = RulePosition::added(family, &table.title, &chain.name, "the policy is drop");
        match base.hook {
            OtherHook::Builtin(hook) => {
                let policy = base.drops.then_some(policy);
                self.call(hook, Base { chain: index, kind: base.kind, priority: base.priority, policy });
            }
            // Before and behind everything else that a packet meets.
            OtherHook::Ingress => self.call_for_devices(base, index, policy, (BuiltinChain::Prerouting, i32::MIN)),
            OtherHook::Egress => self.call_for_devices(base, index, policy, (BuiltinChain::Postrouting, i32::MAX)),
            OtherHook::Unknown(_) if base.drops || !chain.rules.is_empty() => {
                let words = "it is not known when this chain is called";
                self.add_unknown(RulePosition::added(family, &table.title, &chain.name, words), words, None);
            }
            OtherHook::Unknown(_) => {}
        }
    }

    /// A chain that only packets of some devices come to.
    fn call_for_devices(
        &mut self,
        base: &OtherBase,
        index: usize,
        place: RulePosition<'r>,
        (hook, priority): (BuiltinChain, i32),
    ) {
        let out = hook == BuiltinChain::Postrouting;
        let mut lines = Vec::new();
        for device in &base.devices {
            let pattern = device.parse::<InterfaceName>().ok().and_then(|name| name.as_str().parse().ok());
            let test = match pattern {
                Some(pattern) => Test::Interface { out, pattern, negated: false },
                None => Test::Unknown(format!("the device {device:?}").into()),
            };
            lines.push(Line { tests: vec![test.clone()], act: Act::Jump(index), place });
            if base.drops {
                lines.push(Line { tests: vec![test], act: Act::Drop, place });
            }
        }
        let chain = self.chains.len();
        self.chains.push(Code::new(lines));
        self.call(hook, Base { chain, kind: ChainType::Filter, priority, policy: None });
    }
}

/// A rule on its way to lines of a program.
struct Reader<'a, 'r> {
    place: RulePosition<'r>,
    places: &'a HashMap<&'r str, usize>,
    lines: Vec<Line<'r>>,
}

impl<'r> Reader<'_, 'r> {
    fn read(mut self, parts: &[Part]) -> Vec<Line<'r>> {
        // All lists of facts with which the rule has come so far.
        let mut ways: Vec<Vec<&Fact>> = vec![Vec::new()];
        let mut ended = false;
        for part in parts {
            match part {
                Part::If(lists) => {
                    ways = match ways.len().saturating_mul(lists.len()) {
                        0..=WAYS => product(&ways, lists),
                        _ => return self.too_many(),
                    };
                }
                Part::Do(deed) => {
                    ended |= deed.is_final();
                    ways.iter().for_each(|facts| self.push(facts.iter().copied(), self.act(deed)));
                }
                Part::Choose(choices) => {
                    ended = true;
                    if ways.len().saturating_mul(choices.len()) > WAYS {
                        return self.too_many();
                    }
                    for (facts, way) in choices.iter().flat_map(|choice| ways.iter().map(move |way| (choice, way))) {
                        self.push(way.iter().copied().chain(&facts.0), self.act(&facts.1));
                    }
                }
            }
        }
        if !ended {
            ways.iter().for_each(|facts| self.push(facts.iter().copied(), Act::Next));
        }
        self.lines
    }

    /// A rule that is too long to be written out.
    fn too_many(mut self) -> Vec<Line<'r>> {
        let text: Arc<str> = "more values at once than are followed".into();
        self.lines =
            vec![Line { tests: vec![Test::Unknown(text.clone())], act: Act::Unknown(text), place: self.place }];
        self.lines
    }

    /// Adds a line for packets that the facts hold for. Ports are those of TCP and UDP; what another protocol has in that place
    /// is not known.
    fn push<'f>(&mut self, facts: impl Iterator<Item = &'f Fact>, act: Act) {
        let facts: Vec<&Fact> = facts.collect();
        let is_port = |fact: &&&Fact| {
            matches!(fact, Fact::Value { field: Field::SourcePort | Field::DestinationPort, .. } | Fact::Flags { .. })
        };
        let protocol = facts.iter().find_map(|fact| match fact {
            Fact::Protocol { number, negated: false } => Some(*number),
            _ => None,
        });
        let with_ports = [Protocol::Tcp.number(), Protocol::Udp.number()];
        let tests = |unknown: bool| -> Vec<Test> {
            facts.iter().map(|fact| if unknown && is_port(&fact) { unknown_header() } else { test(fact) }).collect()
        };
        let mut add = |tests: Vec<Test>| self.lines.push(Line { tests, act: act.clone(), place: self.place });
        match protocol {
            Some(number) => add(tests(!with_ports.contains(&number))),
            None if !facts.iter().any(|fact| is_port(&fact)) => add(tests(false)),
            None => {
                let of = |number, negated| Test::Protocol { number, negated };
                for number in with_ports {
                    add([vec![of(number, false)], tests(false)].concat());
                }
                add([with_ports.map(|number| of(number, true)).to_vec(), tests(true)].concat());
            }
        }
    }

    fn act(&self, deed: &Deed) -> Act {
        let to = |chain: &str, go: fn(usize) -> Act| match self.places.get(chain) {
            Some(place) => go(*place),
            None => Act::Unknown(format!("there is no chain {chain}").into()),
        };
        match deed {
            Deed::Accept => Act::Accept,
            Deed::Drop => Act::Drop,
            Deed::Return => Act::Return,
            Deed::Jump(chain) => to(chain, Act::Jump),
            Deed::Goto(chain) => to(chain, Act::Goto),
            Deed::Redirect(port) => Act::Redirect(*port),
            Deed::Source => Act::Source(NewSource { address: Value::Unknown, port: Some(Value::Unknown) }),
            Deed::Untrack => Act::Untrack,
            Deed::Zone(zone) => Act::Zone(*zone),
            Deed::Log { prefix, level } => Act::Log(prefix.clone(), *level),
            Deed::Unknown(text) => Act::Unknown(text.clone()),
        }
    }
}

/// How many lists of facts a rule may have.
const WAYS: usize = 1 << 20;

fn product<'f>(ways: &[Vec<&'f Fact>], lists: &'f [Vec<Fact>]) -> Vec<Vec<&'f Fact>> {
    let both = |way: &Vec<&'f Fact>, list: &'f Vec<Fact>| way.iter().copied().chain(list).collect();
    ways.iter().flat_map(|way| lists.iter().map(move |list| both(way, list))).collect()
}

fn unknown_header() -> Test {
    Test::Unknown("what another protocol has where TCP and UDP have their ports".into())
}

fn test(fact: &Fact) -> Test {
    let not = |negated: bool, test: Test| if negated { Test::Not(Box::new(test)) } else { test };
    match fact {
        Fact::Interface { out, interface, negated } => {
            Test::Interface { out: *out, pattern: interface.clone(), negated: *negated }
        }
        Fact::Protocol { number, negated } => Test::Protocol { number: *number, negated: *negated },
        Fact::Value { field, spans } => {
            let spans = match spans[..] {
                [one] => Spans::One(one),
                _ => Spans::Many(spans.clone()),
            };
            Test::Value { field: *field, spans, negated: false }
        }
        Fact::Flags { mask, flags, negated } => not(*negated, Test::Flags { mask: *mask, flags: *flags }),
        Fact::State { bits, negated } => Test::CtState { states: states(*bits), negated: *negated },
        Fact::Translated { negated } => Test::CtState { states: CtStates::DNAT, negated: *negated },
        Fact::Local { end, negated } => Test::Local { end: *end, negated: *negated },
        Fact::Never => Test::CtState { states: CtStates::empty(), negated: false },
        Fact::Unknown(text) => Test::Unknown(text.clone()),
    }
}

/// `NF_CT_STATE_*` of linux/netfilter/nf_tables.h.
fn states(bits: u32) -> CtStates {
    let names = [
        (1, CtStates::INVALID),
        (2, CtStates::ESTABLISHED),
        (4, CtStates::RELATED),
        (8, CtStates::NEW),
        (64, CtStates::UNTRACKED),
    ];
    names.into_iter().filter(|(bit, _)| bits & bit != 0).map(|(_, state)| state).collect()
}

impl Described for OtherRule {
    fn text(&self, _: FamilyName) -> String {
        self.text.clone()
    }

    fn purpose(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    fn origin(&self) -> Option<Origin> {
        None
    }
}
