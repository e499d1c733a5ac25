//! From the native form to a program.

use std::collections::HashMap;

use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::iptables_save::CtStates;
use crate::model::CtState;
use crate::net::FamilyName;
use crate::nftables::{Action, Condition, Marker, Name, Rule, Table, table_name};

impl<'r> Program<'r> {
    /// The rules of a table of ours.
    pub(super) fn of_native(table: &'r Table) -> Self {
        let mut program = Self::default();
        let places: HashMap<&str, usize> =
            table.chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), at)).collect();
        for (index, chain) in table.chains.iter().enumerate() {
            // Nothing comes to the marker's.
            let rules = chain.rules.iter().enumerate().filter(|_| chain.name.as_str() != Marker::CHAIN);
            let lines = rules.map(|(number, rule)| line(table.family, chain.name.as_str(), number, rule, &places));
            program.chains.push(Code::new(lines.collect()));
            if let Some(base) = chain.base {
                program.call(base.hook, Base { chain: index, kind: base.kind, priority: base.priority, policy: None });
            }
        }
        program
    }
}

/// A rule of a table of ours.
pub(super) fn line<'r>(
    family: FamilyName,
    chain: &'r str,
    number: usize,
    rule: &'r Rule,
    places: &HashMap<&str, usize>,
) -> Line<'r> {
    Line {
        tests: rule.conditions.iter().map(test).collect(),
        act: act(&rule.action, places),
        place: RulePosition::rule(family, table_name(family), chain, number, rule),
    }
}

/// A condition of a rule.
pub(super) fn test(condition: &Condition) -> Test {
    match condition {
        Condition::InInterface { interface, negated } => {
            Test::Interface { out: false, pattern: interface.clone(), negated: *negated }
        }
        Condition::OutInterface { interface, negated } => {
            Test::Interface { out: true, pattern: interface.clone(), negated: *negated }
        }
        Condition::Protocol { protocol, negated } => Test::Protocol { number: protocol.number(), negated: *negated },
        Condition::Value { field, values, negated } => {
            let spans = match values.spans[..] {
                [one] => Spans::One(one),
                _ => Spans::Many(values.spans.clone()),
            };
            Test::Value { field: *field, spans, negated: *negated }
        }
        Condition::MidStream => Test::MidStream,
        Condition::Local { end, negated } => Test::Local { end: *end, negated: *negated },
        Condition::BoundSocket => Test::BoundSocket,
        Condition::Translated => Test::CtState { states: CtStates::DNAT, negated: false },
        Condition::CtState { state: CtState::Invalid, negated } => {
            Test::CtState { states: CtStates::INVALID, negated: *negated }
        }
    }
}

pub(super) fn act(action: &Action, places: &HashMap<&str, usize>) -> Act {
    let to = |chain: &Name| {
        places.get(chain.as_str()).copied().ok_or_else(|| format!("there is no chain {}", chain.as_str()))
    };
    match action {
        Action::Accept => Act::Accept,
        Action::Drop => Act::Drop,
        Action::Return => Act::Return,
        Action::Jump { chain } => to(chain).map_or_else(|reason| Act::Unknown(reason.into()), Act::Jump),
        Action::Goto { chain } => to(chain).map_or_else(|reason| Act::Unknown(reason.into()), Act::Goto),
        Action::Redirect { port } => Act::Redirect(*port),
        Action::Translate { to, port } => Act::Translate(*to, *port),
        Action::Log { prefix, level } => Act::Log(prefix.clone(), *level),
        Action::Zone { zone } => Act::Zone(*zone),
    }
}
