//! Rules that say "not by this owner".
//!
//! `! --uid-owner U` holds for a packet that has no socket, such as a RST that the kernel itself
//! sends; `meta skuid != U` does not. So the rule is made without `!=`: packets **of** U are taken
//! past the rule, and the rule itself has no condition on the owner.

use std::collections::VecDeque;

use super::draft::Draft;
use super::names::{Name, Names};
use super::native::{Action, Base, Chain, Condition, Rule};
use crate::model::Comment;

/// The chains with these rules. Where a rule needs it, the rest of its chain becomes a chain of its
/// own, at the end of the list.
pub(super) fn resolve(chains: Vec<(Name, Option<Base>, Vec<Draft>)>, names: &mut Names) -> Vec<Chain> {
    let mut resolved = Vec::with_capacity(chains.len());
    let mut waiting: VecDeque<_> = chains
        .into_iter()
        .map(|(name, base, drafts)| {
            let end = if base.is_some() { Action::Accept } else { Action::Return };
            (name, base, drafts, end)
        })
        .collect();
    while let Some((name, base, drafts, end)) = waiting.pop_front() {
        let (rules, rest) = rules(&name, &end, drafts, names);
        // A chain that is gone to, and not back from, ends as the chain that went to it.
        waiting.extend(rest.map(|(name, drafts)| (name, None, drafts, end)));
        resolved.push(Chain { name, base, rules });
    }
    resolved
}

/// The rules of the chain `name`, and the chain with the rest of them if there has to be one. Falling
/// off the end of the chain is the same as `end`.
fn rules(
    name: &Name,
    end: &Action,
    mut drafts: Vec<Draft>,
    names: &mut Names,
) -> (Vec<Rule>, Option<(Name, Vec<Draft>)>) {
    let mut rules = Vec::with_capacity(drafts.len());
    while let Some(index) = drafts.iter().position(|draft| !draft.not_by.is_empty()) {
        let mut rest = drafts.split_off(index);
        rules.extend(drafts.into_iter().map(|draft| draft.rule));
        let mut draft = rest.remove(0);
        if handled_next(&draft, rest.first()) {
            // The next rule does the same for packets of the owner. It goes first; the two never
            // both matched, so that changes nothing.
            rules.push(rest.remove(0).rule);
            rules.push(draft.rule);
            drafts = rest;
            continue;
        }
        let owners = std::mem::take(&mut draft.not_by);
        let draft = draft.rule;
        let ends = draft.action == *end;
        if ends && rest.is_empty() {
            // It ends the chain where the chain ends.
            return (rules, None);
        }
        if let ([owner], [last], true) = (&owners[..], &rest[..], ends && rest[0].not_by.is_empty()) {
            // All that packets of the owner may still meet is one rule.
            rules.extend(both(&draft, owner, &last.rule));
            rules.push(draft);
            rules.push(last.rule.clone());
            return (rules, None);
        }
        let on = match rest.is_empty() {
            true => end.clone(),
            false => Action::Goto { chain: names.take(&format!("{name}_rest")) },
        };
        let past = |conditions, words| Rule {
            conditions,
            action: on.clone(),
            comment: draft.comment.as_ref().map(|_| Comment::ours(words)),
            sources: draft.sources.clone(),
            added: None,
        };
        for owner in owners {
            let conditions = with(&draft.conditions, [owner]);
            rules.push(past(conditions, "the next rule is not for connections of this owner"));
        }
        let rest = match &on {
            Action::Goto { chain } => {
                let go_on = past(Vec::new(), "go on with the rest of the chain");
                rules.extend([draft, go_on]);
                Some((chain.clone(), rest))
            }
            _ => {
                rules.push(draft);
                None
            }
        };
        return (rules, rest);
    }
    rules.extend(drafts.into_iter().map(|draft| draft.rule));
    (rules, None)
}

/// Whether `next` ends the chain as `draft` does, for every packet of the one owner that `draft` spares.
fn handled_next(draft: &Draft, next: Option<&Draft>) -> bool {
    let (Some(next), [owner]) = (next, &draft.not_by[..]) else { return false };
    let conditions = &next.rule.conditions;
    next.not_by.is_empty()
        && next.rule.action == draft.rule.action
        && draft.rule.action.is_final()
        && conditions.contains(owner)
        && conditions.iter().all(|condition| condition == owner || draft.rule.conditions.contains(condition))
}

/// The rule `last` for packets of the owner that the conditions of `draft` hold for, if there can be
/// any.
fn both(draft: &Rule, owner: &Condition, last: &Rule) -> Option<Rule> {
    let more = last.conditions.iter().cloned().chain([owner.clone()]);
    let conditions = with(&draft.conditions, more);
    let protocols = conditions.iter().filter(|condition| matches!(condition, Condition::Protocol { .. }));
    (protocols.count() < 2).then(|| Rule { conditions, ..last.clone() })
}

/// These conditions and more, each once, in the order of a rule.
pub(super) fn with(conditions: &[Condition], more: impl IntoIterator<Item = Condition>) -> Vec<Condition> {
    let mut all = conditions.to_vec();
    for condition in more {
        if !all.contains(&condition) {
            all.push(condition);
        }
    }
    crate::sorted::by_key(&mut all, Condition::rank);
    all
}
