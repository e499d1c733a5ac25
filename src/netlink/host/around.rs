//! Reading what is in force: our tables, and those of other programs.

use std::collections::BTreeMap;

use super::ask::Present;
use super::dump::nothing_expected;
use super::others::Others;
use super::socket::{Socket, Stop};
use crate::model::{BuiltinChain, TableName};
use crate::net::FamilyName;
use crate::netlink::Dump;
use crate::netlink::constants::*;
use crate::netlink::wire::{Head, Messages};
use crate::nftables::{OtherTable, TABLE, TableFamily};

/// What is in force in nf_tables.
#[derive(Debug)]
pub(crate) struct Around {
    /// Our tables.
    pub(crate) ours: Dump,
    /// The tables with names that iptables-nft gives its own, and whether they have sets.
    pub(crate) of_iptables: Vec<(FamilyName, TableName, bool)>,
    /// All other tables.
    pub(crate) others: Vec<OtherTable>,
}

impl Socket {
    /// Everything in our tables, and in those of other programs but for what iptables-nft lists. `interfaces` are their names by their
    /// numbers, if they are known.
    pub(crate) fn look_around(&mut self, interfaces: Option<&BTreeMap<u32, String>>) -> Result<Around, Stop> {
        let read = |socket: &mut Self, present: &Present| {
            let Some(ours) = socket.dump_once(present, &nothing_expected)? else { return Ok(None) };
            let Some((of_iptables, others)) = socket.others_once(&ours)? else { return Ok(None) };
            Ok(Some(Around { ours, of_iptables, others: others.interpret(interfaces) }))
        };
        Ok(self.steadily(read)?.0)
    }

    /// `None` if it was interrupted.
    #[expect(clippy::type_complexity, reason = "the members of what is in force")]
    fn others_once(&mut self, ours: &Dump) -> Result<Option<(Vec<(FamilyName, TableName, bool)>, Others)>, Stop> {
        let everything = Head { flags: NLM_F_DUMP, ..Head::default() };
        let mut others = Others::default();
        let mut of_iptables = Others::default();
        let tables = self.send_request(Head { kind: message::GETTABLE, ..everything }, |_| {})?;
        others.read_tables(&tables.bytes, |of, name| !is_ours(ours, of, name) && table_of_iptables(of, name).is_none());
        of_iptables.read_tables(&tables.bytes, |of, name| table_of_iptables(of, name).is_some());
        let mut interrupted = tables.interrupted;
        for kind in [message::GETCHAIN, message::GETSET] {
            let list = self.send_request(Head { kind, ..everything }, |_| {})?;
            others.read(&list.bytes);
            of_iptables.read(&list.bytes);
            interrupted |= list.interrupted;
        }
        for (number, table) in others.called() {
            let head = Head { family: number, ..everything };
            let rules =
                self.send_request(Head { kind: message::GETRULE, ..head }, |w| w.text(NFTA_RULE_TABLE, &table))?;
            others.read(&rules.bytes);
            interrupted |= rules.interrupted;
            for set in others.asked(number, &table) {
                let elements = self.send_request(Head { kind: message::GETSETELEM, ..head }, |w| {
                    w.text(NFTA_SET_ELEM_LIST_TABLE, &table);
                    w.text(NFTA_SET_ELEM_LIST_SET, &set);
                })?;
                others.read(&elements.bytes);
                interrupted |= elements.interrupted;
            }
        }
        let of_iptables = of_iptables.tables().iter().filter_map(|table| {
            let (family, name) = table_of_iptables(table.family, &table.name)?;
            Some((family, name, table.has_sets()))
        });
        Ok((!interrupted).then(|| (of_iptables.collect(), others)))
    }
}

/// A nat chain of other programs that the kernel calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CalledChain {
    pub(crate) of: TableFamily,
    pub(crate) table: String,
    pub(crate) chain: String,
    pub(crate) hook: BuiltinChain,
    pub(crate) priority: i32,
}

impl Socket {
    /// The nat chains of other programs, those of iptables-nft too, that have rules and decide where connections go. Of the rules it is
    /// only looked whether there are some.
    pub(crate) fn nat_chains(&mut self, ours: &Dump) -> Result<Vec<CalledChain>, Stop> {
        Ok(self.steadily(|socket, _| socket.nat_chains_once(ours))?.0)
    }

    /// `None` if it was interrupted.
    fn nat_chains_once(&mut self, ours: &Dump) -> Result<Option<Vec<CalledChain>>, Stop> {
        let everything = Head { flags: NLM_F_DUMP, ..Head::default() };
        let mut others = Others::default();
        let tables = self.send_request(Head { kind: message::GETTABLE, ..everything }, |_| {})?;
        others.read_tables(&tables.bytes, |of, name| !is_ours(ours, of, name));
        let chains = self.send_request(Head { kind: message::GETCHAIN, ..everything }, |_| {})?;
        others.read(&chains.bytes);
        let mut interrupted = tables.interrupted || chains.interrupted;
        let mut found = Vec::new();
        for (number, chain) in others.nat_chains() {
            let head = Head { kind: message::GETRULE, family: number, ..everything };
            let rules = self.send_request(head, |w| {
                w.text(NFTA_RULE_TABLE, &chain.table);
                w.text(NFTA_RULE_CHAIN, &chain.chain);
            })?;
            interrupted |= rules.interrupted;
            if Messages(&rules.bytes).any(|message| message.kind == message::NEWRULE) {
                found.push(chain);
            }
        }
        Ok((!interrupted).then_some(found))
    }
}

fn is_ours(ours: &Dump, of: TableFamily, name: &str) -> bool {
    name == TABLE && family_of(of).is_some_and(|of| ours.of(of).is_some())
}

fn family_of(family: TableFamily) -> Option<FamilyName> {
    match family {
        TableFamily::Ip => Some(FamilyName::V4),
        TableFamily::Ip6 => Some(FamilyName::V6),
        _ => None,
    }
}

/// The table of iptables that a table of nf_tables is, if it has such a name.
fn table_of_iptables(family: TableFamily, name: &str) -> Option<(FamilyName, TableName)> {
    Some((family_of(family)?, name.parse().ok()?))
}
