//! Rules on their way from the model to the native form.

use super::native::{Action, Condition, Field, Rule, RuleSource, Span, Values};
use crate::model::{Comment, Match, Owner, PortMatch, Transport};
use crate::net::{Cidr, Family, Protocol};

/// A rule that may still say "not by this owner", which no native condition can.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) rule: Rule,
    /// Conditions on owners that must **not** hold.
    pub(super) not_by: Vec<Condition>,
}

impl Draft {
    /// A rule of the lowering's own.
    pub(super) fn own(conditions: Vec<Condition>, action: Action, words: &'static str, comments: bool) -> Self {
        let rule = Rule { conditions, action, comment: None, sources: Vec::new(), added: None };
        Self { rule, not_by: Vec::new() }.added(words, comments)
    }

    /// The same as a rule of the lowering's own, with what it is for.
    pub(super) fn added(mut self, words: &'static str, comments: bool) -> Self {
        self.rule.added = Some(words);
        self.rule.comment = comments.then(|| Comment::ours(words));
        self
    }

    /// A rule of the model; `None` if it never matches.
    pub(super) fn of<F: Family>(rule: &crate::model::Rule<F>, action: Action, source: RuleSource) -> Option<Self> {
        let mut conditions = Vec::new();
        let mut not_by = Vec::new();
        for condition in &rule.matches {
            if push(&mut conditions, &mut not_by, condition) == Satisfiable::Never {
                return None;
            }
        }
        crate::sorted::by_key(&mut conditions, Condition::rank);
        conditions.dedup();
        let rule = Rule { conditions, action, comment: rule.comment.clone(), sources: vec![source], added: None };
        Some(Self { rule, not_by })
    }

    /// The protocol that a packet must have, if it must have one.
    pub(super) fn protocol(&self) -> Option<Protocol> {
        self.rule.conditions.iter().find_map(|condition| match condition {
            Condition::Protocol { protocol, negated: false } => Some(*protocol),
            Condition::MidStream => Some(Protocol::Tcp),
            _ => None,
        })
    }
}

#[derive(PartialEq)]
enum Satisfiable {
    Possible,
    /// No packet fulfils the condition.
    Never,
}

fn push<F: Family>(conditions: &mut Vec<Condition>, not_by: &mut Vec<Condition>, condition: &Match<F>) -> Satisfiable {
    match condition {
        Match::Source { net, negated } => return address(conditions, Field::SourceAddress, net, *negated),
        Match::Destination { net, negated } => return address(conditions, Field::DestinationAddress, net, *negated),
        // Every interface, even none: nf_tables would look for one.
        Match::InInterface { interface, negated } | Match::OutInterface { interface, negated }
            if interface.as_str() == "+" =>
        {
            return if *negated { Satisfiable::Never } else { Satisfiable::Possible };
        }
        Match::InInterface { interface, negated } => {
            conditions.push(Condition::InInterface { interface: interface.clone(), negated: *negated });
        }
        Match::OutInterface { interface, negated } => {
            conditions.push(Condition::OutInterface { interface: interface.clone(), negated: *negated });
        }
        Match::Transport(transport) => return push_transport(conditions, transport),
        Match::Owner { owner, negated } => {
            let (field, first, last) = match owner {
                Owner::Uid(range) => (Field::User, range.first().number(), range.last().number()),
                Owner::Gid(range) => (Field::Group, range.first().number(), range.last().number()),
            };
            let span = Span { first: first.into(), last: last.into() };
            let to = if *negated { not_by } else { conditions };
            to.push(value(field, vec![span], false));
        }
        Match::Local { end } => conditions.push(Condition::Local { end: *end, negated: false }),
        Match::Translated => conditions.push(Condition::Translated),
        Match::CtState { state, negated } => {
            conditions.push(Condition::CtState { state: *state, negated: *negated });
        }
    }
    Satisfiable::Possible
}

fn address<F: Family>(conditions: &mut Vec<Condition>, field: Field, net: &Cidr<F>, negated: bool) -> Satisfiable {
    if net.prefix() == 0 {
        return if negated { Satisfiable::Never } else { Satisfiable::Possible };
    }
    let span = Span { first: F::to_bits(net.first()), last: F::to_bits(net.last()) };
    conditions.push(value(field, vec![span], negated));
    Satisfiable::Possible
}

fn push_transport(conditions: &mut Vec<Condition>, transport: &Transport) -> Satisfiable {
    conditions.push(Condition::Protocol { protocol: transport.protocol, negated: false });
    if transport.mid_stream {
        conditions.push(Condition::MidStream);
    }
    for (field, ports) in [(Field::SourcePort, &transport.source), (Field::DestinationPort, &transport.destination)] {
        let Some(ports) = ports else { continue };
        let spans: Vec<_> = spans(ports);
        match (spans.is_empty(), ports.negated()) {
            (true, false) => return Satisfiable::Never,
            (true, true) => {}
            (false, negated) => conditions.push(value(field, spans, negated)),
        }
    }
    Satisfiable::Possible
}

fn spans(ports: &PortMatch) -> Vec<Span> {
    let merged = ports.ports().merged();
    let span = |range: &crate::net::PortRange| Span {
        first: range.first().number().into(),
        last: range.last().number().into(),
    };
    merged.ranges().iter().map(span).collect()
}

/// A condition on a field; the set, if there has to be one, is named at the end of the lowering.
pub(super) fn value(field: Field, spans: Vec<Span>, negated: bool) -> Condition {
    Condition::Value { field, values: Values { spans: spans.into(), set: None }, negated }
}
