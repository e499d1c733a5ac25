//! Rules that track packets in zones, beside those that the plan has.

use super::draft::Draft;
use super::native::{Action, Condition, Field};
use super::owner;
use crate::net::Protocol;

/// For each rule of nat PREROUTING that redirects to a port whose answers raw OUTPUT puts into a zone: what tracks the
/// redirected packets in that zone, too.
pub(super) fn of_answers(redirecting: &[Draft], output: &[Draft], comments: bool) -> Vec<Draft> {
    let zone_of = |draft: &Draft| {
        let Action::Redirect { port } = draft.rule.action else { return None };
        let protocol = draft.protocol()?;
        output.iter().find_map(|answer| {
            let from_port = answer.rule.conditions.iter().any(|condition| {
                matches!(condition, Condition::Value { field: Field::SourcePort, values, negated: false }
                    if values.contains(port.number().into()))
            });
            match answer.rule.action {
                Action::Zone { zone } if from_port && answer.protocol() == Some(protocol) => Some(zone),
                _ => None,
            }
        })
    };
    let tracked = |draft: &Draft| {
        let mut tracking = draft.clone();
        tracking.rule.action = Action::Zone { zone: zone_of(draft)? };
        Some(tracking.added("track what is redirected in the zone of its answers", comments))
    };
    redirecting.iter().filter_map(tracked).collect()
}

/// For each query that nat OUTPUT (`deciding`, in the order of a packet) lets pass before it would redirect it: what tracks it
/// in the zone in which raw PREROUTING (`answered`) tracks its answer. Otherwise it would be tracked as a query to the sidecar,
/// and its answer would belong to no query.
pub(super) fn of_excluded(deciding: &[Draft], answered: &[Draft], output: &[Draft], comments: bool) -> Vec<Draft> {
    let udp = |draft: &&Draft| draft.protocol().is_none_or(|protocol| protocol == Protocol::Udp);
    let mut found: Vec<Draft> = Vec::new();
    for (at, redirected) in deciding.iter().enumerate().filter(|(_, draft)| is_query(draft)) {
        let answer = mirror(&redirected.rule.conditions);
        let zone = answered.iter().find_map(|draft| match draft.rule.action {
            Action::Zone { zone } if draft.rule.conditions == answer => Some(zone),
            _ => None,
        });
        let Some(zone) = zone else { continue };
        let tracked = |conditions: &[Condition]| {
            let same = |draft: &&Draft| draft.rule.action == Action::Zone { zone };
            output
                .iter()
                .chain(&found)
                .filter(same)
                .any(|draft| draft.rule.conditions.iter().all(|c| conditions.contains(c)))
        };
        let passing =
            deciding[..at].iter().filter(|draft| draft.rule.action == Action::Accept && draft.not_by.is_empty());
        let mut new = Vec::new();
        for passing in passing.filter(udp) {
            let Some(conditions) = both(&passing.rule.conditions, &redirected.rule.conditions) else { continue };
            if !tracked(&conditions) {
                let mut draft = passing.clone();
                draft.rule.conditions = conditions;
                draft.rule.action = Action::Zone { zone };
                new.push(draft.added("track queries that are not redirected as their answers", comments));
            }
        }
        found.extend(new);
    }
    found
}

fn is_query(draft: &Draft) -> bool {
    matches!(draft.rule.action, Action::Redirect { .. }) && draft.protocol() == Some(Protocol::Udp)
}

/// The conditions on the answer to a packet.
fn mirror(conditions: &[Condition]) -> Vec<Condition> {
    let mirrored = conditions.iter().cloned().map(|condition| match condition {
        Condition::Value { field, values, negated } => {
            let field = field.of_answer();
            Condition::Value { field, values, negated }
        }
        Condition::OutInterface { interface, negated } => Condition::InInterface { interface, negated },
        Condition::InInterface { interface, negated } => Condition::OutInterface { interface, negated },
        other => other,
    });
    owner::with(&[], mirrored)
}

/// The conditions for both rules; `None` if no packet fulfils them.
fn both(a: &[Condition], b: &[Condition]) -> Option<Vec<Condition>> {
    let excludes = |one: &Condition, other: &Condition| match (one, other) {
        (
            Condition::Value { field: a, values: x, negated: false },
            Condition::Value { field: b, values: y, negated: false },
        ) if a == b => !x.spans.iter().any(|x| y.spans.iter().any(|y| x.first <= y.last && y.first <= x.last)),
        _ => false,
    };
    let possible = !a.iter().any(|one| b.iter().any(|other| excludes(one, other)));
    possible.then(|| owner::with(a, b.iter().cloned()))
}
