//! What an engine asks of what is in a table, and adds to it to find out what the kernel can do.

use crate::model::{BuiltinChain, End};
use crate::net::FamilyName;
use crate::netlink::KernelTable;
use crate::netlink::kernel_table::{BaseContent, ChainContent, RuleContent};
use crate::nftables::{Action, Base, ChainType, Condition, Rule};

impl KernelTable {
    /// Whether there is a base chain whose name begins so.
    pub(crate) fn has_base_chain(&self, beginning: &str) -> bool {
        self.chains.iter().any(|chain| chain.base.is_some() && chain.name.starts_with(beginning))
    }

    /// Whether a rule has an expression of this name.
    pub(crate) fn uses(&self, expression: &str) -> bool {
        let rules = self.chains.iter().flat_map(|chain| &chain.rules);
        rules.flat_map(|rule| &rule.expressions).any(|one| one.name() == expression)
    }

    /// The chains of [`add_guards`](Self::add_guards).
    pub(crate) const ADDRESS_TYPES: &str = "guard_address_types";
    pub(crate) const SOCKETS: &str = "guard_sockets";

    /// Adds a chain for each of what a plan's guards ask of the kernel and can do without.
    pub(crate) fn add_guards(&mut self, family: FamilyName) {
        let local = Condition::Local { end: End::Destination, negated: false };
        for (name, condition) in [(Self::ADDRESS_TYPES, local), (Self::SOCKETS, Condition::BoundSocket)] {
            let rule = Rule {
                conditions: vec![condition],
                action: Action::Accept,
                comment: None,
                sources: Vec::new(),
                added: None,
            };
            let base = Base { kind: ChainType::Nat, hook: BuiltinChain::Prerouting, priority: -98 };
            self.chains.push(ChainContent {
                name: name.to_owned(),
                base: Some(BaseContent::of(&base)),
                rules: vec![RuleContent::of(&rule, family)],
            });
        }
    }

    /// Where the kernel calls its nat chains: the hook, and the priority.
    pub(crate) fn nat_chains(&self) -> Vec<(BuiltinChain, i32)> {
        let bases = self.chains.iter().filter_map(|chain| chain.base.as_ref()).filter(|base| base.kind == "nat");
        // `enum nf_inet_hooks` of linux/netfilter.h, in the order of the chains.
        let hook = |number: u32| BuiltinChain::ALL.get(usize::try_from(number).ok()?).copied();
        bases.filter_map(|base| Some((hook(base.hook)?, base.priority))).collect()
    }
}
