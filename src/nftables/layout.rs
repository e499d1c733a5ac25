//! Which rules of a built-in chain go into which base chain, and what stands before them.

use super::draft::Draft;
use super::effects::{Chains, Protocols};
use super::merge_rules;
use super::native::{Action, Condition};
use crate::net::{FamilyName, Protocol};

/// The two base chains of a hook with translation, before and after the chains of iptables.
///
/// In iptables, a packet that an inserted rule lets pass is done with the chain. Here it would meet
/// the second base chain, so the rules that let it pass are repeated there. Those that change
/// nothing are left out: in either base chain, a rule that lets packets pass is of use only if a
/// later one does something with packets of the same protocol.
pub(super) fn nat(inserted: Vec<Draft>, appended: Vec<Draft>, chains: &Chains) -> (Vec<Draft>, Vec<Draft>) {
    let effective = |draft: &Draft| !chains.effect(draft).protocols.is_empty();
    let hidden = |draft: &Draft| draft.rule.action != Action::Accept && chains.effect(draft).accepts;
    if inserted.iter().any(hidden) && appended.iter().any(effective) {
        // Whether a packet was let pass is decided in another chain, which cannot be repeated. All
        // rules go into one base chain.
        return (useful(inserted.into_iter().chain(appended), chains), Vec::new());
    }
    let passing: Vec<_> = inserted.iter().filter(|draft| draft.rule.action == Action::Accept).cloned().collect();
    (useful(inserted, chains), useful(passing.into_iter().chain(appended), chains))
}

pub(super) fn useful(drafts: impl IntoIterator<Item = Draft>, chains: &Chains) -> Vec<Draft> {
    let mut later = Protocols::empty();
    let mut kept: Vec<Draft> = Vec::new();
    let all: Vec<Draft> = drafts.into_iter().collect();
    for draft in all.into_iter().rev() {
        let effect = chains.effect(&draft);
        later |= effect.protocols;
        if !effect.protocols.is_empty() || (effect.accepts && draft.protocols().intersects(later)) {
            kept.push(draft);
        }
    }
    kept.reverse();
    kept
}

/// Folds the rules of a base chain with translation, and puts guards before them: what is not of the only protocol that all are
/// about passes, and so does what `lost` says, if there is a redirection of TCP.
///
/// They come after the rules that log, which are for every packet.
pub(super) fn guard(
    drafts: Vec<Draft>,
    lost: Vec<Draft>,
    chains: &Chains,
    comments: bool,
    family: FamilyName,
) -> Vec<Draft> {
    let mut drafts = merge_rules::fold(drafts, chains, family);
    let logs = drafts.iter().take_while(|draft| matches!(draft.rule.action, Action::Log { .. })).count();
    let rest = &drafts[logs..];
    let reach = chains.of_all(rest).protocols;
    let mut guards = Vec::new();
    let only = [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| Protocols::from(*protocol) == reach);
    if let (Some(protocol), true) = (only, rest.len() + lost.len() > 1) {
        guards.push(Draft::own(
            vec![Condition::Protocol { protocol, negated: true }],
            Action::Accept,
            match protocol {
                Protocol::Tcp => "let pass what is not TCP, as all that follows is for TCP",
                Protocol::Udp => "let pass what is not UDP, as all that follows is for UDP",
            },
            comments,
        ));
    }
    if reach.contains(Protocols::TCP) {
        guards.extend(lost);
    }
    drafts.splice(logs..logs, guards);
    drafts
}
