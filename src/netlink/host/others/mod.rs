//! Tables that are not ours: what the kernel says of them, and what that does with packets.
//!
//! Nothing here is read unless somebody asks what is in force: installing and removing stay with our own tables.

mod constants;
mod facts;
mod registers;
mod rule;
mod sets;
mod text;

use std::collections::BTreeMap;

use self::constants::*;
use self::facts::Reader;
use self::rule::Rule;
use self::sets::{Element, Set};
use super::around::CalledChain;
use crate::error::visible;
use crate::model::BuiltinChain;
use crate::net::FamilyName;
use crate::netlink::constants::*;
use crate::netlink::kernel_table::comment;
use crate::netlink::wire::{Attributes, Messages};
use crate::nftables::{ChainType, Deed, OtherBase, OtherChain, OtherHook, OtherRule, OtherTable, TableFamily};

/// What was read of the tables that are not ours.
#[derive(Debug, Default)]
pub(super) struct Others {
    tables: Vec<Raw>,
}

/// A table, as the kernel lists it.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) number: u8,
    pub(super) family: TableFamily,
    pub(super) name: String,
    dormant: bool,
    chains: Vec<RawChain>,
    /// The chain that the last rule was of. The kernel lists rules chain by chain, in the order of the chains.
    last: usize,
    sets: Vec<Set>,
}

#[derive(Debug)]
struct RawChain {
    name: String,
    base: Option<OtherBase>,
    rules: Vec<RawRule>,
}

#[derive(Debug)]
struct RawRule {
    expressions: Vec<u8>,
    comment: Option<String>,
}

impl Raw {
    /// Whether the kernel calls a chain of it. Nothing else of a table does anything with packets.
    fn is_called(&self) -> bool {
        !self.dormant && self.chains.iter().any(|chain| chain.base.is_some())
    }

    /// The chain of this name. Looked for from the last one on, so that it takes no search of all chains for each rule.
    fn chain(&mut self, name: &str) -> Option<&mut RawChain> {
        let (before, behind) = self.chains.split_at(self.last.min(self.chains.len()));
        let found = behind.iter().chain(before).position(|chain| chain.name == name)?;
        self.last = (self.last + found) % self.chains.len();
        self.chains.get_mut(self.last)
    }

    pub(super) fn has_sets(&self) -> bool {
        !self.sets.is_empty()
    }
}

impl Others {
    /// Adds the tables of a list for which `wanted` is so.
    pub(super) fn read_tables(&mut self, messages: &[u8], wanted: impl Fn(TableFamily, &str) -> bool) {
        for message in Messages(messages).filter(|message| message.kind == message::NEWTABLE) {
            let Some((number, attributes)) = message.generic() else { continue };
            let (Some(family), Some(name)) = (family(number), attributes.text(NFTA_TABLE_NAME)) else { continue };
            if wanted(family, name) {
                let dormant = attributes.number(NFTA_TABLE_FLAGS).unwrap_or(0) & NFT_TABLE_F_DORMANT != 0;
                let (chains, sets) = (Vec::new(), Vec::new());
                self.tables.push(Raw { number, family, name: name.to_owned(), dormant, chains, last: 0, sets });
            }
        }
    }

    /// Adds what a list says of chains, rules, sets and their elements in the tables that were read. What names something that
    /// was not listed before is passed over.
    pub(super) fn read(&mut self, messages: &[u8]) {
        for message in Messages(messages) {
            let Some((number, attributes)) = message.generic() else { continue };
            // The table's name is attribute 1 of all of them.
            let name = attributes.text(NFTA_TABLE_NAME).unwrap_or_default();
            let here = |table: &&mut Raw| table.number == number && table.name == name;
            let Some(table) = self.tables.iter_mut().find(here) else { continue };
            match message.kind {
                message::NEWCHAIN => table.chains.extend(chain(&attributes, table.family)),
                message::NEWRULE => {
                    let of = attributes.text(NFTA_RULE_CHAIN).unwrap_or_default();
                    if let Some(chain) = table.chain(of) {
                        chain.rules.push(rule(&attributes));
                    }
                }
                message::NEWSET => table.sets.extend(set(&attributes)),
                message::NEWSETELEM => {
                    let of = attributes.text(NFTA_SET_ELEM_LIST_SET).unwrap_or_default();
                    if let Some(set) = table.sets.iter_mut().find(|set| set.name == of) {
                        let list = attributes.nest(NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
                        set.elements.extend(list.map(|(_, element)| self::element(&Attributes::of(element))));
                    }
                }
                _ => {}
            }
        }
    }

    /// The tables whose rules are to be read.
    pub(super) fn called(&self) -> Vec<(u8, String)> {
        let called = self.tables.iter().filter(|table| table.is_called());
        called.map(|table| (table.number, table.name.clone())).collect()
    }

    /// The sets of a table that rules look into and whose elements are to be read; they count as read.
    pub(super) fn asked(&mut self, number: u8, name: &str) -> Vec<String> {
        let Some(table) = self.tables.iter_mut().find(|table| table.number == number && table.name == name) else {
            return Vec::new();
        };
        let rules = table.chains.iter().flat_map(|chain| &chain.rules);
        let asked = crate::sorted::set(rules.flat_map(|rule| looks(&rule.expressions)));
        let sets = table.sets.iter_mut().filter(|set| set.is_steady() && asked.contains(&set.name));
        sets.map(|set| {
            set.read = true;
            set.name.clone()
        })
        .collect()
    }

    /// The nat chains that the kernel calls and that decide where connections go, with the number of their family.
    pub(super) fn nat_chains(&self) -> Vec<(u8, CalledChain)> {
        let called = self.tables.iter().filter(|table| !table.dormant);
        let chains = called.flat_map(|table| table.chains.iter().map(move |chain| (table, chain)));
        chains.filter_map(|(table, chain)| Some((table.number, called_chain(table, chain)?))).collect()
    }

    pub(super) fn tables(&self) -> &[Raw] {
        &self.tables
    }

    /// What the tables do with packets. `interfaces` are their names by their numbers, if they are known.
    pub(super) fn interpret(&self, interfaces: Option<&BTreeMap<u32, String>>) -> Vec<OtherTable> {
        self.tables.iter().map(|table| interpret(table, interfaces)).collect()
    }
}

fn called_chain(table: &Raw, chain: &RawChain) -> Option<CalledChain> {
    let base = chain.base.as_ref().filter(|base| base.kind == ChainType::Nat)?;
    let OtherHook::Builtin(hook @ (BuiltinChain::Prerouting | BuiltinChain::Output)) = base.hook else { return None };
    let (table, of) = (table.name.clone(), table.family);
    Some(CalledChain { of, table, chain: chain.name.clone(), hook, priority: base.priority })
}

fn interpret(table: &Raw, interfaces: Option<&BTreeMap<u32, String>>) -> OtherTable {
    let of_rule = |rule: &RawRule| {
        let expressions = Attributes::of(&rule.expressions);
        let read = |family| Rule::read(Reader { family, interfaces }, &table.sets, &expressions);
        let [v4, v6] = [FamilyName::V4, FamilyName::V6].map(read);
        // In the words of the family that it is for.
        let for_v6 = table.family == TableFamily::Ip6 || v4.is_idle() && !v6.is_idle();
        let text = text::join(if for_v6 { &v6.words } else { &v4.words });
        OtherRule { text, comment: rule.comment.clone(), parts: [v4, v6].map(|read| read.parts) }
    };
    let of_chain = |chain: &RawChain| OtherChain {
        name: chain.name.clone(),
        base: chain.base.clone(),
        rules: chain.rules.iter().map(of_rule).collect(),
    };
    OtherTable {
        family: table.family,
        name: table.name.clone(),
        title: format!("{} {}", table.family, visible(&table.name)),
        dormant: table.dormant,
        chains: table.chains.iter().map(of_chain).collect(),
    }
}

fn family(number: u8) -> Option<TableFamily> {
    Some(match number {
        NFPROTO_IPV4 => TableFamily::Ip,
        NFPROTO_IPV6 => TableFamily::Ip6,
        NFPROTO_INET => TableFamily::Inet,
        NFPROTO_ARP => TableFamily::Arp,
        NFPROTO_BRIDGE => TableFamily::Bridge,
        NFPROTO_NETDEV => TableFamily::Netdev,
        _ => return None,
    })
}

fn chain(attributes: &Attributes<'_>, family: TableFamily) -> Option<RawChain> {
    let base = attributes.nest(NFTA_CHAIN_HOOK).map(|hook| {
        let number = hook.number(NFTA_HOOK_HOOKNUM).unwrap_or(u32::MAX);
        let devices = hook.nest(NFTA_HOOK_DEVS).unwrap_or_default().map(|(_, name)| crate::netlink::wire::text(name));
        let devices = devices.chain(hook.get(NFTA_HOOK_DEV).map(crate::netlink::wire::text)).flatten();
        OtherBase {
            kind: if attributes.text(NFTA_CHAIN_TYPE) == Some("nat") { ChainType::Nat } else { ChainType::Filter },
            hook: of_number(number, family),
            // The same bits, signed.
            priority: hook.number(NFTA_HOOK_PRIORITY).unwrap_or(0) as i32,
            // `NF_ACCEPT`.
            drops: attributes.number(NFTA_CHAIN_POLICY).is_some_and(|policy| policy != 1),
            devices: devices.map(str::to_owned).collect(),
        }
    });
    Some(RawChain { name: attributes.text(NFTA_CHAIN_NAME)?.to_owned(), base, rules: Vec::new() })
}

fn of_number(number: u32, family: TableFamily) -> OtherHook {
    match (family, number) {
        (TableFamily::Netdev, NF_NETDEV_INGRESS) | (TableFamily::Inet, NF_INET_INGRESS) => OtherHook::Ingress,
        (TableFamily::Netdev, NF_NETDEV_EGRESS) => OtherHook::Egress,
        (TableFamily::Netdev | TableFamily::Arp, _) => OtherHook::Unknown(number),
        // `enum nf_inet_hooks` of linux/netfilter.h, in the order of the chains.
        _ => match usize::try_from(number).ok().and_then(|number| BuiltinChain::ALL.get(number)) {
            Some(chain) => OtherHook::Builtin(*chain),
            None => OtherHook::Unknown(number),
        },
    }
}

fn rule(attributes: &Attributes<'_>) -> RawRule {
    RawRule {
        expressions: attributes.get(NFTA_RULE_EXPRESSIONS).unwrap_or_default().to_vec(),
        comment: attributes.get(NFTA_RULE_USERDATA).and_then(comment).map(str::to_owned),
    }
}

fn set(attributes: &Attributes<'_>) -> Option<Set> {
    Some(Set {
        name: attributes.text(NFTA_SET_NAME)?.to_owned(),
        flags: attributes.number(NFTA_SET_FLAGS).unwrap_or(0),
        key_length: usize::try_from(attributes.number(NFTA_SET_KEY_LEN)?).ok()?,
        elements: Vec::new(),
        read: false,
    })
}

fn element(attributes: &Attributes<'_>) -> Element {
    let bytes = |kind| attributes.nest(kind).and_then(|data| data.get(NFTA_DATA_VALUE)).map(<[u8]>::to_vec);
    let verdict = attributes.nest(NFTA_SET_ELEM_DATA).and_then(|data| data.nest(NFTA_DATA_VERDICT));
    Element {
        key: bytes(NFTA_SET_ELEM_KEY).unwrap_or_default(),
        key_end: bytes(NFTA_SET_ELEM_KEY_END),
        flags: attributes.number(NFTA_SET_ELEM_FLAGS).unwrap_or(0),
        deed: verdict.map(|data| rule::verdict(&data).unwrap_or(Deed::Unknown("continue".into()))),
    }
}

/// The sets that a rule looks into.
fn looks(expressions: &[u8]) -> Vec<String> {
    let names = Attributes::of(expressions).filter_map(|(_, expression)| {
        let expression = Attributes::of(expression);
        let lookup = expression.text(NFTA_EXPR_NAME) == Some("lookup");
        let data = expression.nest(NFTA_EXPR_DATA).filter(|_| lookup)?;
        Some(data.text(NFTA_LOOKUP_SET)?.to_owned())
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_found_in_any_order() {
        let chain = |name: &str| RawChain { name: name.into(), base: None, rules: Vec::new() };
        let mut table = Raw {
            number: NFPROTO_IPV4,
            family: TableFamily::Ip,
            name: "t".into(),
            dormant: false,
            chains: ["a", "b", "c", "d"].map(chain).into(),
            last: 0,
            sets: Vec::new(),
        };
        for name in ["b", "b", "c", "a", "d", "nothing", "d", "c", "a"] {
            let found = table.chain(name).map(|chain| chain.name.clone());
            assert_eq!(found.as_deref(), Some(name).filter(|name| *name != "nothing"));
        }
        table.chains.clear();
        assert!(table.chain("a").is_none());
    }
}
