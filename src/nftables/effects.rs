//! What rules and chains may do with packets.

use std::collections::BTreeMap;

use super::Name;
use super::draft::Draft;
use super::native::Action;
use crate::net::Protocol;

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

    pub(super) fn of_all(&self, drafts: &[Draft]) -> Effect {
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
    pub(super) fn protocols(&self) -> Protocols {
        self.protocol().map_or(Protocols::all(), Protocols::from)
    }
}
