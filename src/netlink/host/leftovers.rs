//! What iptables-nft installations, ours or kumactl's, left in the tables of iptables.
//!
//! This is the only place where tables that are not ours are read and written. Ours are the chains
//! whose names begin with [`ChainPair::PREFIX`], the rules of `PREROUTING` and `OUTPUT` that lead to
//! them, and those whose comment begins with [`Comment::PREFIX`]. They are removed by their handles,
//! so nothing else can be.

use crate::error::counted;
use crate::model::{BuiltinChain, ChainPair, Comment, TableName};
use crate::net::FamilyName;
use crate::netlink::batch::{Batch, Object, number};
use crate::netlink::constants::*;
use crate::netlink::expression::Expression;
use crate::netlink::wire::{Attributes, Head, Messages, text};

/// The built-in chains that installations put rules into.
pub(super) const CHAINS: [BuiltinChain; 5] = BuiltinChain::ALL;

/// What is left in the tables of both families. True only for the generation that it was read in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leftovers {
    tables: Vec<InTable>,
    /// Whether rules of chains of ours have no comment: then rules elsewhere had none, either, and
    /// nothing tells them from those of other programs.
    pub(crate) uncommented: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct InTable {
    family: FamilyName,
    table: TableName,
    /// Our chains.
    chains: Vec<String>,
    /// How many rules are in them.
    inside: usize,
    /// Our rules in built-in chains, by chain and handle.
    outside: Vec<(BuiltinChain, u64)>,
    /// How often our chains are used, as the kernel counts it, less the rules and jumps that were read.
    uses: i64,
}

impl Leftovers {
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.iter().all(|table| table.chains.is_empty() && table.outside.is_empty())
    }

    /// Whether all that an installation has is known from this: its rules have comments, and nobody else's lead to its chains.
    pub(crate) fn is_plain(&self) -> bool {
        !self.uncommented && self.tables.iter().all(|table| table.uses == 0)
    }

    /// Those of one family alone.
    pub(crate) fn of(&self, family: FamilyName) -> Self {
        let tables = self.tables.iter().filter(|table| table.family == family).cloned().collect();
        Self { tables, uncommented: self.uncommented }
    }

    /// The families that have some.
    pub(crate) fn families(&self) -> Vec<FamilyName> {
        let has = |family: &FamilyName| self.found().any(|table| table.family == *family);
        FamilyName::ALL.into_iter().filter(has).collect()
    }

    /// What there is, as text: one item a table.
    pub(crate) fn describe(&self) -> Vec<String> {
        let item = |table: &InTable| {
            let rules = table.inside + table.outside.len();
            let InTable { family, table, chains, .. } = table;
            let (rules, chains) = (counted(rules, "rule"), counted(chains.len(), "chain"));
            format!("{rules} and {chains} of the table {table} ({family}, nft)")
        };
        self.found().map(item).collect()
    }

    fn found(&self) -> impl Iterator<Item = &InTable> {
        self.tables.iter().filter(|table| !table.chains.is_empty() || !table.outside.is_empty())
    }

    /// Says that there is a table, in which to look.
    pub(super) fn enter(&mut self, family: FamilyName, table: TableName) {
        self.tables.push(InTable { family, table, chains: Vec::new(), inside: 0, outside: Vec::new(), uses: 0 });
    }

    /// The names of our chains in a table.
    pub(super) fn chains(&self, family: FamilyName, table: TableName) -> Vec<String> {
        let here = self.tables.iter().filter(|known| (known.family, known.table) == (family, table));
        here.flat_map(|known| known.chains.clone()).collect()
    }

    /// Adds what some messages say of the tables that were entered. What is not ours is passed over.
    pub(super) fn read(&mut self, messages: &[u8]) {
        for message in Messages(messages) {
            let Some((family, attributes)) = message.generic() else { continue };
            // The table's name is attribute 1 of all of them.
            let name = attributes.text(NFTA_RULE_TABLE).unwrap_or_default();
            let here = |known: &&mut InTable| number(known.family) == family && known.table.as_str() == name;
            let Some(table) = self.tables.iter_mut().find(here) else { continue };
            match message.kind {
                message::NEWCHAIN => {
                    let name = attributes.text(NFTA_CHAIN_NAME).unwrap_or_default();
                    // Somebody else's base chain is none that rules lead to.
                    if ChainPair::owns(name) && attributes.get(NFTA_CHAIN_HOOK).is_none() {
                        table.uses += attributes.number(NFTA_CHAIN_USE).map_or(0, i64::from);
                        table.chains.push(name.to_owned());
                    }
                }
                message::NEWRULE => {
                    let rule = RuleMarks::read(&attributes);
                    let chain = attributes.text(NFTA_RULE_CHAIN).unwrap_or_default();
                    let builtin = CHAINS.into_iter().find(|builtin| builtin.as_str() == chain);
                    match (builtin, attributes.get(NFTA_RULE_HANDLE).and_then(|handle| handle.try_into().ok())) {
                        (Some(chain), Some(handle)) if rule.has_our_comment || rule.leads_to_us => {
                            table.uses -= i64::from(rule.leads_to_us);
                            table.outside.push((chain, u64::from_be_bytes(handle)));
                        }
                        (None, _) if table.chains.iter().any(|known| known == chain) => {
                            table.inside += 1;
                            table.uses -= 1 + i64::from(rule.leads_to_us);
                            self.uncommented |= !rule.has_our_comment;
                        }
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
}

impl Batch {
    /// Removes leftovers. The batch must be for the generation that they were read in.
    pub(crate) fn remove_leftovers(&mut self, leftovers: &Leftovers) {
        for table in leftovers.found() {
            let (family, name) = (table.family, table.table.as_str());
            let head = |kind| Head { kind, family: number(family), ..Head::default() };
            let object = |chain: &str| Object::Leftover { family, table: name, chain: chain.to_owned() };
            for (chain, handle) in &table.outside {
                self.push(head(message::DELRULE), object(chain.as_str()), |writer| {
                    writer.text(NFTA_RULE_TABLE, name);
                    writer.text(NFTA_RULE_CHAIN, chain.as_str());
                    writer.bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes());
                });
            }
            // Without a handle, all rules of the chain go; then no chain leads to another.
            for chain in &table.chains {
                self.push(head(message::DELRULE), object(chain), |writer| {
                    writer.text(NFTA_RULE_TABLE, name);
                    writer.text(NFTA_RULE_CHAIN, chain);
                });
            }
            for chain in &table.chains {
                self.push(head(message::DELCHAIN), object(chain), |writer| {
                    writer.text(NFTA_CHAIN_TABLE, name);
                    writer.text(NFTA_CHAIN_NAME, chain);
                });
            }
        }
    }
}

/// What a rule says that can make it ours.
#[derive(Debug, Default)]
struct RuleMarks {
    has_our_comment: bool,
    leads_to_us: bool,
}

impl RuleMarks {
    fn read(attributes: &Attributes<'_>) -> Self {
        let mut found = Self::default();
        // iptables-nft writes comments as a match of its own or, as nft does, as userdata.
        let userdata = attributes.get(NFTA_RULE_USERDATA).unwrap_or_default();
        found.has_our_comment = crate::netlink::kernel_table::comment(userdata).is_some_and(Comment::is_ours);
        for (_, expression) in attributes.nest(NFTA_RULE_EXPRESSIONS).unwrap_or_default() {
            let expression = Attributes::of(expression);
            let data = expression.nest(NFTA_EXPR_DATA).unwrap_or_default();
            match expression.text(NFTA_EXPR_NAME) {
                Some("match") if data.text(NFTA_MATCH_NAME) == Some("comment") => {
                    found.has_our_comment |= data.get(NFTA_MATCH_INFO).and_then(text).is_some_and(Comment::is_ours);
                }
                Some("immediate") => {
                    if let Expression::Verdict { chain: Some(chain), .. } = Expression::read(&expression) {
                        found.leads_to_us |= ChainPair::owns(&chain);
                    }
                }
                _ => {}
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;
    use crate::netlink::wire::Writer;

    const FAMILY: FamilyName = FamilyName::V4;

    fn message(writer: &mut Writer, kind: u16, family: u8, body: impl FnOnce(&mut Writer)) {
        writer.message(Head { kind, family, ..Head::default() }, body);
    }

    fn chain(writer: &mut Writer, table: &str, name: &str) {
        message(writer, message::NEWCHAIN, NFPROTO_IPV4, |w| {
            w.text(NFTA_CHAIN_TABLE, table);
            w.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// A rule as iptables-nft writes it: its comment is a match, its target a verdict.
    fn rule(writer: &mut Writer, chain: &str, handle: u64, comment: &str, to: &str) {
        message(writer, message::NEWRULE, NFPROTO_IPV4, |w| {
            w.text(NFTA_RULE_TABLE, "nat");
            w.text(NFTA_RULE_CHAIN, chain);
            w.bytes(NFTA_RULE_HANDLE, &handle.to_be_bytes());
            w.nest(NFTA_RULE_EXPRESSIONS, |w| {
                w.nest(NFTA_LIST_ELEM, |w| {
                    w.text(NFTA_EXPR_NAME, "match");
                    w.nest(NFTA_EXPR_DATA, |w| {
                        let mut info = comment.as_bytes().to_vec();
                        info.resize(256, 0);
                        w.text(NFTA_MATCH_NAME, "comment");
                        w.bytes(NFTA_MATCH_INFO, &info);
                    });
                });
                Expression::Verdict { code: NFT_JUMP, chain: Some(to.to_owned()) }.write(w, |_| None);
            });
        });
    }

    fn messages() -> Vec<u8> {
        let mut writer = Writer::default();
        chain(&mut writer, "nat", "KUMA_MESH_OUTBOUND");
        chain(&mut writer, "nat", "MINE");
        chain(&mut writer, "filter", "KUMA_MESH_OUTBOUND");
        let ours = "kuma/mesh/transparent/proxy/words";
        rule(&mut writer, "OUTPUT", 7, ours, "MINE");
        rule(&mut writer, "OUTPUT", 8, "not kuma/mesh/transparent/proxy/", "MINE");
        rule(&mut writer, "PREROUTING", 9, "", "KUMA_MESH_OUTBOUND");
        rule(&mut writer, "MINE", 10, ours, "KUMA_MESH_OUTBOUND");
        rule(&mut writer, "KUMA_MESH_OUTBOUND", 11, ours, "MINE");
        writer.finish()
    }

    fn read(messages: &[u8]) -> Leftovers {
        let mut leftovers = Leftovers::default();
        leftovers.enter(FAMILY, TableName::Nat);
        leftovers.read(messages);
        leftovers
    }

    #[test]
    fn ours_are_told_from_those_of_others() {
        let found = read(&messages());
        assert_eq!(found.describe(), ["3 rules and 1 chain of the table nat (IPv4, nft)"]);
        assert_eq!(found.tables[0].outside, [(BuiltinChain::Output, 7), (BuiltinChain::Prerouting, 9)]);
        assert!(!found.uncommented && !found.is_empty());
        let mut without = messages();
        rule_without_comment(&mut without);
        assert!(read(&without).uncommented);
    }

    fn rule_without_comment(messages: &mut Vec<u8>) {
        let mut writer = Writer::default();
        rule(&mut writer, "KUMA_MESH_OUTBOUND", 12, "", "MINE");
        messages.extend(writer.finish());
    }

    #[test]
    fn removal_names_handles_and_chains() {
        let mut batch = Batch::new(Some(1));
        batch.remove_leftovers(&read(&messages()));
        let finished = batch.commit();
        let said: Vec<_> = Messages(finished.bytes())
            .filter_map(|message| {
                let attributes = message.generic()?.1;
                let chain = attributes.text(if message.kind == message::DELCHAIN {
                    NFTA_CHAIN_NAME
                } else {
                    NFTA_RULE_CHAIN
                })?;
                Some((message.kind & 0xff, chain.to_owned(), attributes.get(NFTA_RULE_HANDLE).map(<[u8]>::len)))
            })
            .collect();
        let ours = || "KUMA_MESH_OUTBOUND".to_owned();
        assert_eq!(
            said,
            [
                (8, "OUTPUT".to_owned(), Some(8)),
                (8, "PREROUTING".to_owned(), Some(8)),
                (8, ours(), None),
                (5, ours(), Some(ours().len() + 1)),
            ]
        );
    }

    #[test]
    fn hostile_bytes_are_survived() {
        arbtest(|u| {
            let mut bytes = messages();
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(bytes.len())?;
                bytes[at] = u.arbitrary()?;
            }
            read(&bytes).describe();
            Ok(())
        });
    }
}
