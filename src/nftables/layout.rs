//! Which rules of a built-in chain go into which base chain, and what stands before them.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::native::{Action, Condition};
use super::{Name, merge_rules};
use crate::model::Comment;
use crate::net::{FamilyName, Protocol};

bitflags::bitflags! {
    /// Transport protocols, as far as rules tell them apart.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Protocols: u8 {
        const TCP = 1;
        const UDP = 2;
        const OTHER = 4;
    }
}

impl From<Protocol> for Protocols {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::TCP,
            Protocol::Udp => Self::UDP,
        }
    }
}

/// What a rule or a chain may do, with the chains that it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Effect {
    /// The protocols of packets that it may do something with.
    pub(super) protocols: Protocols,
    /// Whether it may accept, which ends the chain that led to it as well.
    pub(super) accepts: bool,
    /// Whether it may log, so that it makes a difference how often a packet comes to it.
    pub(super) logs: bool,
}

impl Effect {
    const NONE: Self = Self { protocols: Protocols::empty(), accepts: false, logs: false };
}

/// The regular chains that base chains lead to, and what each may do.
#[derive(Debug)]
pub(super) struct Chains {
    pub(super) rules: BTreeMap<Name, Vec<Draft>>,
    effects: BTreeMap<Name, Effect>,
}

impl Chains {
    /// Chains with these rules.
    pub(super) fn new(rules: BTreeMap<Name, Vec<Draft>>) -> Self {
        let mut chains = Self { rules, effects: BTreeMap::new() };
        // Chains may lead to each other in any order, even in a loop, which the kernel will refuse.
        loop {
            let effects =
                crate::sorted::map(chains.rules.iter().map(|(name, drafts)| (name.clone(), chains.of_all(drafts))));
            if effects == chains.effects {
                return chains;
            }
            chains.effects = effects;
        }
    }

    fn of_all(&self, drafts: &[Draft]) -> Effect {
        drafts.iter().map(|draft| self.effect(draft)).fold(Effect::NONE, |all, one| Effect {
            protocols: all.protocols | one.protocols,
            accepts: all.accepts || one.accepts,
            logs: all.logs || one.logs,
        })
    }

    /// What the rule may do.
    pub(super) fn effect(&self, draft: &Draft) -> Effect {
        let own = draft.protocols();
        match &draft.rule.action {
            Action::Return => Effect::NONE,
            Action::Accept => Effect { accepts: true, ..Effect::NONE },
            Action::Jump { chain } | Action::Goto { chain } => {
                let there = self.effects.get(chain).copied().unwrap_or(Effect::NONE);
                Effect { protocols: own & there.protocols, ..there }
            }
            Action::Log { .. } => Effect { protocols: own, logs: true, ..Effect::NONE },
            Action::Drop | Action::Redirect { .. } | Action::Translate { .. } | Action::Zone { .. } => {
                Effect { protocols: own, ..Effect::NONE }
            }
        }
    }
}

impl Draft {
    /// The protocols of packets that it may match.
    fn protocols(&self) -> Protocols {
        self.protocol().map_or(Protocols::all(), Protocols::from)
    }
}

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
    let comment = |words| comments.then(|| Comment::ours(words));
    let logs = drafts.iter().take_while(|draft| matches!(draft.rule.action, Action::Log { .. })).count();
    let rest = &drafts[logs..];
    let reach = chains.of_all(rest).protocols;
    let mut guards = Vec::new();
    let only = [Protocol::Tcp, Protocol::Udp].into_iter().find(|protocol| Protocols::from(*protocol) == reach);
    if let (Some(protocol), true) = (only, rest.len() + lost.len() > 1) {
        guards.push(Draft::own(
            vec![Condition::Protocol { protocol, negated: true }],
            Action::Accept,
            comment(match protocol {
                Protocol::Tcp => "let pass what is not TCP, as all that follows is for TCP",
                Protocol::Udp => "let pass what is not UDP, as all that follows is for UDP",
            }),
        ));
    }
    if reach.contains(Protocols::TCP) {
        guards.extend(lost);
    }
    drafts.splice(logs..logs, guards);
    drafts
}
