//! Adjacent rules that differ in one value only become one rule.

use super::draft::{Draft, value};
use super::effects::Chains;
use super::native::{Condition, Field, Span};
use crate::net::FamilyName;

/// Folds runs of rules that do the same and differ only in the values of one field. Exact: a packet
/// meets the same action at the same place.
pub(super) fn fold(mut drafts: Vec<Draft>, chains: &Chains, family: FamilyName) -> Vec<Draft> {
    sort_by_protocol(&mut drafts);
    let mut folded = Vec::with_capacity(drafts.len());
    let mut drafts = drafts.into_iter().peekable();
    while let Some(first) = drafts.next() {
        let mut run = vec![first];
        let mut at = None;
        while let Some(next) = drafts.next_if(|next| extends(&run[0], next, chains, &mut at)) {
            run.push(next);
        }
        folded.push(merge(run, at, family));
    }
    folded
}

/// Puts rules of the same protocol together where it makes no difference: in a run of rules that all
/// have a protocol and all end the chain in the same way, no two of different protocols both match a
/// packet.
fn sort_by_protocol(drafts: &mut [Draft]) {
    let together = |a: &Draft, b: &Draft| {
        a.rule.action.is_final()
            && a.rule.action == b.rule.action
            && a.protocol().is_some()
            && b.protocol().is_some()
            && a.not_by.is_empty()
            && b.not_by.is_empty()
    };
    for run in drafts.chunk_by_mut(together) {
        crate::sorted::by_key(run, Draft::protocol);
    }
}

/// Whether `next` can be folded into a run that begins with `head`. `at` is the condition in which
/// the rules of the run differ, once they do.
fn extends(head: &Draft, next: &Draft, chains: &Chains, at: &mut Option<usize>) -> bool {
    // Two rules that log, or lead to one that does, would log a packet twice if both matched.
    if chains.effect(head).logs
        || head.rule.action != next.rule.action
        || head.rule.comment != next.rule.comment
        || head.not_by != next.not_by
        || head.rule.conditions.len() != next.rule.conditions.len()
    {
        return false;
    }
    let pairs = || head.rule.conditions.iter().zip(&next.rule.conditions);
    let mut differing = pairs().enumerate().filter(|(index, (a, b))| Some(*index) != *at && a != b);
    match (differing.next(), differing.next(), *at) {
        (None, ..) => at.is_none_or(|at| mergeable(&head.rule.conditions[at], &next.rule.conditions[at])),
        (Some((index, (a, b))), None, None) if mergeable(a, b) => {
            *at = Some(index);
            true
        }
        _ => false,
    }
}

fn mergeable(a: &Condition, b: &Condition) -> bool {
    matches!((a, b), (
        Condition::Value { field: a, negated: false, .. },
        Condition::Value { field: b, negated: false, .. },
    ) if a == b)
}

fn merge(run: Vec<Draft>, at: Option<usize>, family: FamilyName) -> Draft {
    let spans_of = |draft: &Draft, at: usize| match &draft.rule.conditions[at] {
        Condition::Value { field, values, .. } => Some((*field, values.spans.clone())),
        _ => None,
    };
    let merged = at.and_then(|at| {
        let (field, _) = spans_of(&run[0], at)?;
        let spans = run.iter().filter_map(|draft| spans_of(draft, at)).flat_map(|(_, spans)| spans.to_vec());
        Some((at, field, Span::union(spans.collect())))
    });
    let mut run = run.into_iter();
    let mut head = run.next().expect("a run has a first rule");
    head.rule.sources.extend(run.flat_map(|draft| draft.rule.sources));
    if let Some((at, field, spans)) = merged {
        // Every address there is; a set cannot say so more cheaply than nothing does. It is different
        // for an owner, which a packet may lack.
        let all = Span { first: 0, last: field.max(family) };
        let address = matches!(field, Field::SourceAddress | Field::DestinationAddress);
        match address && *spans == [all] {
            true => drop(head.rule.conditions.remove(at)),
            false => head.rule.conditions[at] = value(field, spans, false),
        }
    }
    head
}
