//! From the native form to a program.

use std::collections::HashMap;

use super::outcome::Place;
use super::program::{Act, Base, Code, Line, Program, Spans, Test};
use crate::model::CtState;
use crate::net::FamilyName;
use crate::nftables::{Action, Condition, Name, Rule, Table};
use crate::save::CtStates;

impl<'r> Program<'r> {
    /// The rules of a table of ours.
    pub(super) fn of_native(table: &'r Table) -> Self {
        let mut program = Self::default();
        let places: HashMap<&Name, usize> =
            table.chains.iter().enumerate().map(|(at, chain)| (&chain.name, at)).collect();
        for (index, chain) in table.chains.iter().enumerate() {
            let line = |(index, rule): (usize, &'r Rule)| Line {
                tests: rule.conditions.iter().map(test).collect(),
                act: act(&rule.action, &places),
                place: Place::rule(table.family, keyword(table.family), chain.name.as_str(), index, rule),
            };
            program.chains.push(Code::new(chain.rules.iter().enumerate().map(line).collect()));
            if let Some(base) = chain.base {
                program.call(base.hook, Base { chain: index, kind: base.kind, priority: base.priority, policy: None });
            }
        }
        program
    }
}

fn keyword(family: FamilyName) -> &'static str {
    match family {
        FamilyName::V4 => "ip kuma-mesh",
        FamilyName::V6 => "ip6 kuma-mesh",
    }
}

fn test(condition: &Condition) -> Test {
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
        Condition::CtState { state: CtState::Invalid, negated } => {
            Test::CtState { states: CtStates::INVALID, negated: *negated }
        }
    }
}

fn act<'r>(action: &'r Action, places: &HashMap<&Name, usize>) -> Act {
    let to = |chain: &Name| places.get(chain).copied().ok_or_else(|| format!("there is no chain {}", chain.as_str()));
    match action {
        Action::Accept => Act::Accept,
        Action::Drop => Act::Drop,
        Action::Return => Act::Return,
        Action::Jump { chain } => to(chain).map_or_else(|reason| Act::Unknown(reason.into()), Act::Jump),
        Action::Goto { chain } => to(chain).map_or_else(|reason| Act::Unknown(reason.into()), Act::Goto),
        Action::Redirect { port } => Act::Redirect(*port),
        Action::Log { prefix, level } => Act::Log(prefix.clone(), *level),
        Action::Zone { zone } => Act::Zone(*zone),
    }
}
