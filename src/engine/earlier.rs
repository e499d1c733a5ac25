//! Chains of other programs that decide on the destination of a connection before ours.

use std::fmt;

use serde::Serialize;

use super::iptables::has_ours;
use crate::error::Error;
use crate::error::visible;
use crate::in_force::Listing;
use crate::iptables_save::Saved;
use crate::model::{BuiltinChain, IptablesMode, Note, TableName};
use crate::net::{Family, FamilyName};
use crate::netlink::{CalledChain, Dump, Kernel, Stop};
use crate::nftables::{ChainType, LiveTable, OtherHook, OtherTable, priority, table_name};

/// A nat chain of other programs with rules that the kernel calls before ours in the same hook. If one of its rules translates a
/// connection, ours never see it.
///
/// Its JSON form:
///
/// ```json
/// { "family": "ipv4", "table": "ip proxy", "chain": "output", "hook": "OUTPUT", "priority": -110, "certain": true }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct EarlierChain {
    /// The family of the packets.
    pub family: FamilyName,
    /// The table: as `nft` calls it (`ip proxy`), or `nat (iptables-legacy)`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The hook.
    #[serde(serialize_with = "hook")]
    pub hook: BuiltinChain,
    /// Its priority.
    pub priority: i32,
    /// Whether it is known to come first. Of chains with the same priority the kernel calls the one first that was made last,
    /// which it does not tell.
    pub certain: bool,
}

fn hook<S: serde::Serializer>(hook: &BuiltinChain, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(hook.as_str())
}

/// `ip proxy output (OUTPUT, priority -110)`.
impl fmt::Display for EarlierChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { table, chain, hook, priority, .. } = self;
        write!(f, "{table} {} ({}, priority {priority})", visible(chain), hook.as_str())
    }
}

/// A nat chain that is called in a hook where the destination is translated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NatChain {
    pub(super) family: FamilyName,
    pub(super) table: String,
    pub(super) chain: String,
    pub(super) hook: BuiltinChain,
    pub(super) priority: i32,
}

/// The chains of other programs that come before the last one of ours in the same hook.
pub(super) fn earlier(ours: &[NatChain], others: Vec<NatChain>) -> Vec<EarlierChain> {
    let mut found = Vec::new();
    for NatChain { family, table, chain, hook, priority } in others {
        let same = ours.iter().filter(|own| (own.family, own.hook) == (family, hook));
        match same.map(|own| own.priority).max() {
            Some(last) if priority <= last => {
                found.push(EarlierChain { family, table, chain, hook, priority, certain: priority < last });
            }
            _ => {}
        }
    }
    found
}

/// The hooks in which destinations are translated.
const HOOKS: [BuiltinChain; 2] = [BuiltinChain::Prerouting, BuiltinChain::Output];

/// What each mode of iptables calls its nat table here.
fn table_of(mode: IptablesMode, family: FamilyName) -> String {
    match (mode, family) {
        (IptablesMode::Nft, FamilyName::V4) => "ip nat".to_owned(),
        (IptablesMode::Nft, FamilyName::V6) => "ip6 nat".to_owned(),
        (IptablesMode::Legacy, _) => "nat (iptables-legacy)".to_owned(),
    }
}

fn of_iptables(mode: IptablesMode, family: FamilyName, hook: BuiltinChain) -> NatChain {
    let (table, chain, priority) = (table_of(mode, family), hook.as_str().to_owned(), priority(TableName::Nat, hook));
    NatChain { family, table, chain, hook, priority }
}

/// The chains of our own tables.
fn of_netlink(family: FamilyName, (hook, priority): (BuiltinChain, i32)) -> NatChain {
    NatChain { family, table: table_name(family).to_owned(), chain: String::new(), hook, priority }
}

/// Looks what comes before the installations that were found. Those by iptables have their rules in chains of iptables, beside
/// those of other programs, of which nothing is said here.
pub(super) fn look(
    kernel: &mut Kernel,
    dump: &Dump,
    by_iptables: &[(IptablesMode, Vec<FamilyName>)],
    notes: &mut Vec<Note>,
) -> Result<Vec<EarlierChain>, Stop> {
    let mut ours = Vec::new();
    for family in FamilyName::ALL {
        let chains = dump.of(family).map(|content| content.nat_chains());
        ours.extend(chains.into_iter().flatten().map(|chain| of_netlink(family, chain)));
        let modes = by_iptables.iter().filter(|(_, families)| families.contains(&family));
        ours.extend(modes.flat_map(|(mode, _)| HOOKS.map(|hook| of_iptables(*mode, family, hook))));
    }
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let mut others = Vec::new();
    for CalledChain { of, table, chain, hook, priority } in kernel.netfilter()?.nat_chains(dump)? {
        let table = format!("{of} {}", visible(&table));
        let met = FamilyName::ALL.into_iter().filter(|family| of.meets(*family));
        others.extend(met.map(|family| NatChain {
            family,
            table: table.clone(),
            chain: chain.clone(),
            hook,
            priority,
        }));
    }
    for family in FamilyName::ALL {
        match kernel.legacy.nat_chains(family) {
            Ok(hooks) => others.extend(hooks.into_iter().map(|hook| of_iptables(IptablesMode::Legacy, family, hook))),
            Err(error) => {
                let action = format!("look whether nat rules of iptables-legacy ({family}) come before ours");
                notes.push(Note::info("iptables", Error::io(action, &error).to_string()));
            }
        }
    }
    others.retain(|chain| !ours.iter().any(|own| (own.family, &own.table) == (chain.family, &chain.table)));
    Ok(earlier(&ours, others))
}

/// The same of what is in force.
pub(super) fn of_installed(native: &[LiveTable], listings: &[Listing], foreign: &[OtherTable]) -> Vec<EarlierChain> {
    let mut ours = Vec::new();
    for table in native.iter().filter(|table| !table.dormant) {
        let bases = table.chains.iter().filter_map(|chain| chain.base.as_ref()?.as_ref().ok());
        let nat = bases.filter(|base| base.kind == ChainType::Nat);
        ours.extend(nat.map(|base| of_netlink(table.family, (base.hook, base.priority))));
    }
    let mut others = Vec::new();
    for listing in listings {
        of_listing(listing.mode, &listing.v4, &mut ours, &mut others);
        of_listing(listing.mode, &listing.v6, &mut ours, &mut others);
    }
    for table in foreign.iter().filter(|table| !table.dormant) {
        for chain in table.chains.iter().filter(|chain| !chain.rules.is_empty()) {
            let Some(base) = chain.base.as_ref().filter(|base| base.kind == ChainType::Nat) else { continue };
            let OtherHook::Builtin(hook) = base.hook else { continue };
            let met = FamilyName::ALL.into_iter().filter(|family| table.family.meets(*family) && HOOKS.contains(&hook));
            others.extend(met.map(|family| NatChain {
                family,
                table: table.title.clone(),
                chain: chain.name.clone(),
                hook,
                priority: base.priority,
            }));
        }
    }
    earlier(&ours, others)
}

fn of_listing<F: Family>(mode: IptablesMode, saved: &Saved<F>, ours: &mut Vec<NatChain>, others: &mut Vec<NatChain>) {
    let Some(table) = saved.table(TableName::Nat.as_str()) else { return };
    let chains = HOOKS.map(|hook| of_iptables(mode, F::NAME, hook));
    match has_ours(saved) {
        false => {
            others.extend(chains.into_iter().filter(|chain| table.rules.iter().any(|rule| rule.chain == chain.chain)))
        }
        true => ours.extend(chains),
    }
}

/// That there are such chains.
pub(super) fn note(chains: &[EarlierChain]) -> Option<Note> {
    let said = |certain| {
        let mut list: Vec<String> =
            chains.iter().filter(|chain| chain.certain == certain).map(ToString::to_string).collect();
        list.dedup();
        list.join(", ")
    };
    let (before, perhaps) = (said(true), said(false));
    let mut parts = Vec::new();
    if !before.is_empty() {
        parts.push(format!("nat chains of other programs come before ours and may decide first: {before}"));
    }
    if !perhaps.is_empty() {
        parts.push(format!("nat chains of other programs may come before ours, at the same priority: {perhaps}"));
    }
    (!parts.is_empty()).then(|| Note::warning("nat", parts.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_before_the_last_of_ours_is_named() {
        let chain = |table: &str, hook, priority| NatChain {
            family: FamilyName::V4,
            table: table.to_owned(),
            chain: "c".to_owned(),
            hook,
            priority,
        };
        let ours = [chain("", BuiltinChain::Output, -101), chain("", BuiltinChain::Output, -99)];
        let found = earlier(
            &ours,
            vec![
                chain("ip before", BuiltinChain::Output, -100),
                chain("ip same", BuiltinChain::Output, -99),
                chain("ip behind", BuiltinChain::Output, -98),
                chain("ip elsewhere", BuiltinChain::Prerouting, -150),
                NatChain { family: FamilyName::V6, ..chain("ip6 other", BuiltinChain::Output, -150) },
            ],
        );
        let names: Vec<_> = found.iter().map(|chain| (chain.table.as_str(), chain.certain)).collect();
        assert_eq!(names, [("ip before", true), ("ip same", false)]);
        assert_eq!(
            note(&found).unwrap().text,
            "nat chains of other programs come before ours and may decide first: ip before c (OUTPUT, priority -100); nat chains \
             of other programs may come before ours, at the same priority: ip same c (OUTPUT, priority -99)"
        );
        assert_eq!(note(&[]), None);
    }
}
