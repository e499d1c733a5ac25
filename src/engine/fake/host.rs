//! The host in memory: which rules are in which tables.

use super::calls::{Call, Operation};
use crate::engine::backend::{Look, Present};
use crate::engine::messages;
use crate::engine::passthrough::{Added, Ground, Presence};
use crate::engine::record::Record;
use crate::engine::report::Report;
use crate::error::{Error, InvalidValue};
use crate::facts::HostAbilities;
use crate::model::{EngineName, IpFamilyMode, Plan, Ruleset};
use crate::net::{Family, FamilyName, V4, V6};
use crate::netlink::{Dump, KernelTable};
use crate::nftables::{Native, Table};
use crate::render;

/// A host.
#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) abilities: HostAbilities,
    pub(super) unprivileged: bool,
    /// Whether an installation has put `::6` on the loopback interface.
    pub(super) address: bool,
    /// The tables of the netlink engine.
    pub(super) own: Own,
    /// The tables of iptables-nft.
    pub(super) nft: InIptables,
    /// The tables of iptables-legacy.
    pub(super) legacy: InIptables,
    /// What the programs of the eBPF engine were made from.
    pub(super) programs: Option<Plan>,
    pub(super) failures: Vec<(EngineName, Operation, Error)>,
    pub(super) calls: Vec<(EngineName, Call)>,
}

impl Ground for Host {
    fn record(&mut self) -> Result<Record, Error> {
        Ok(Record::default())
    }

    fn store(&mut self, _: &Record) -> Result<(), Error> {
        Ok(())
    }

    fn address(&mut self) -> Result<Presence, Error> {
        Ok(if self.address { Presence::Ours } else { Presence::Absent })
    }

    fn is_marked(&mut self) -> Result<bool, Error> {
        Ok(false)
    }

    fn add_address(&mut self, _: IpFamilyMode, _: &mut Report) -> Result<Added, Error> {
        Ok(Added { new: !std::mem::replace(&mut self.address, true), presence: Presence::Ours })
    }

    fn remove_address(&mut self) -> Result<bool, Error> {
        Ok(std::mem::take(&mut self.address))
    }

    fn ipv6_is_off(&mut self) -> bool {
        false
    }

    fn left_open(&mut self) -> Option<String> {
        None
    }

    fn changed(&mut self) {}
}

/// What is seen of rules for these families.
pub(super) fn seen(families: Vec<FamilyName>) -> Look {
    match families.is_empty() {
        true => Look::Absent,
        false => Look::Present(Present { families, ..Present::default() }),
    }
}

/// Tables of our own in nf_tables.
#[derive(Debug, Default)]
pub(super) struct Own {
    v4: Option<InForce>,
    v6: Option<InForce>,
    plan: Option<Plan>,
}

/// A table as text can be made of it, and as it is compared.
#[derive(Debug)]
struct InForce {
    table: Table,
    content: KernelTable,
}

impl InForce {
    fn of(table: Table) -> Self {
        Self { content: KernelTable::of(&table), table }
    }
}

impl Own {
    pub(super) fn put(&mut self, plan: &Plan) {
        let Native { v4, v6 } = Native::of(plan);
        *self = Self { v4: Some(InForce::of(v4)), v6: v6.map(InForce::of), plan: Some(plan.clone()) };
    }

    pub(super) fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    pub(super) fn families(&self) -> Vec<FamilyName> {
        FamilyName::ALL.into_iter().filter(|family| self.of(*family).is_some()).collect()
    }

    /// What the kernel would say is there.
    pub(super) fn dump(&self) -> Dump {
        let content = |in_force: &Option<InForce>| in_force.as_ref().map(|in_force| in_force.content.clone());
        Dump { v4: content(&self.v4), v6: content(&self.v6), ..Dump::default() }
    }

    pub(super) fn text(&self) -> String {
        let tables = [&self.v4, &self.v6].into_iter().flatten();
        tables.map(|in_force| render::nft::table(&in_force.table)).collect::<Vec<_>>().join("\n")
    }

    pub(super) fn remove(&mut self, family: FamilyName) {
        *self.of_mut(family) = None;
        if self.families().is_empty() {
            self.plan = None;
        }
    }

    pub(super) fn flush(&mut self, family: FamilyName, chain: &str) -> Result<(), InvalidValue> {
        let in_force = self.of_mut(family);
        if let Some(InForce { table, content }) = in_force {
            if content.flush(chain) {
                table.chains.iter_mut().filter(|known| known.name.as_str() == chain).for_each(|c| c.rules.clear());
                return Ok(());
            }
        }
        let chains = in_force.iter().flat_map(|in_force| &in_force.table.chains);
        Err(no_chain(family, chain, chains.map(|chain| chain.name.to_string())))
    }

    fn of(&self, family: FamilyName) -> Option<&InForce> {
        match family {
            FamilyName::V4 => self.v4.as_ref(),
            FamilyName::V6 => self.v6.as_ref(),
        }
    }

    fn of_mut(&mut self, family: FamilyName) -> &mut Option<InForce> {
        match family {
            FamilyName::V4 => &mut self.v4,
            FamilyName::V6 => &mut self.v6,
        }
    }
}

/// Our rules in the tables of iptables, of one kind.
#[derive(Debug, Default)]
pub(super) struct InIptables {
    pub(super) v4: Option<Ruleset<V4>>,
    pub(super) v6: Option<Ruleset<V6>>,
    plan: Option<Plan>,
    /// Our chains in the nat table that rules of other programs lead to.
    pub(super) jumps: Vec<(FamilyName, String)>,
}

/// Our rules in one table.
#[derive(Debug)]
pub(super) struct InTable {
    pub(super) table: &'static str,
    /// Chains and their numbers of rules; `None` for a built-in one.
    chains: Vec<(Option<String>, usize)>,
}

impl InIptables {
    /// Puts the rules of the families that the plan has in the place of theirs.
    pub(super) fn load(&mut self, plan: &Plan) {
        self.v4 = Some(plan.iptables_v4().clone());
        self.v6 = plan.iptables_v6().cloned().or(self.v6.take());
        self.plan = Some(plan.clone());
    }

    /// Puts a plan in the place of all that is there.
    pub(super) fn put(&mut self, plan: &Plan) {
        self.v4 = Some(plan.iptables_v4().clone());
        self.v6 = plan.iptables_v6().cloned();
        self.plan = Some(plan.clone());
    }

    pub(super) fn plan(&self) -> Option<&Plan> {
        self.plan.as_ref()
    }

    pub(super) fn families(&self) -> Vec<FamilyName> {
        FamilyName::ALL.into_iter().filter(|family| !self.tables(*family).is_empty()).collect()
    }

    pub(super) fn remove(&mut self, family: FamilyName) {
        match family {
            FamilyName::V4 => self.v4 = None,
            FamilyName::V6 => self.v6 = None,
        }
        if self.v4.is_none() && self.v6.is_none() {
            self.plan = None;
        }
    }

    pub(super) fn text(&self) -> String {
        fn of<F: Family>(rules: &Option<Ruleset<F>>) -> Option<String> {
            let text = render::iptables::ruleset(rules.as_ref()?, render::iptables::Style::Short);
            Some(format!("### {} ###\n\n{text}", F::NAME))
        }
        let families = [of(&self.v4), of(&self.v6)];
        families.into_iter().flatten().collect::<Vec<_>>().join("\n")
    }

    /// What there is of a family, as text: one item a table.
    pub(super) fn describe(&self, family: FamilyName) -> Vec<String> {
        let item = |table: InTable| {
            let chains = table.chains.iter().filter(|(name, _)| name.is_some()).count();
            messages::in_table(table.chains.iter().map(|(_, rules)| rules).sum(), chains, table.table)
        };
        self.tables(family).into_iter().map(item).collect()
    }

    pub(super) fn has_chain(&self, family: FamilyName, chain: &str) -> bool {
        self.chains(family).iter().any(|known| known == chain)
    }

    pub(super) fn add_jump(&mut self, family: FamilyName, chain: &str) -> Result<(), InvalidValue> {
        let chains = self.chains(family);
        if !chains.iter().any(|known| known == chain) {
            return Err(no_chain(family, chain, chains));
        }
        self.jumps.push((family, chain.to_owned()));
        Ok(())
    }

    /// The chains of a family that others lead to, unless they are among those that stay.
    pub(super) fn in_the_way<F: Family>(&self, stay: Option<&Ruleset<F>>) -> Vec<&str> {
        let stay: Vec<_> = stay.map(nat_chains).unwrap_or_default();
        let goes = |chain: &&str| !stay.iter().any(|known| known == *chain);
        let here = self.jumps.iter().filter(|(family, chain)| *family == F::NAME && self.has_chain(F::NAME, chain));
        here.map(|(_, chain)| chain.as_str()).filter(goes).collect()
    }

    /// Removes all rules of a chain, in every table that has it. False if none has.
    pub(super) fn flush(&mut self, family: FamilyName, chain: &str) -> bool {
        fn of<F: Family>(rules: &mut Option<Ruleset<F>>, chain: &str) -> bool {
            let chains = rules.iter_mut().flat_map(|rules| &mut rules.tables).flat_map(|table| &mut table.chains);
            chains.filter(|known| known.name.as_str() == chain).map(|known| known.rules.clear()).count() > 0
        }
        match family {
            FamilyName::V4 => of(&mut self.v4, chain),
            FamilyName::V6 => of(&mut self.v6, chain),
        }
    }

    /// The names of all chains of a family.
    pub(super) fn all_chains(&self, family: FamilyName) -> Vec<String> {
        fn of<F: Family>(rules: &Option<Ruleset<F>>) -> Vec<String> {
            let chains = rules.iter().flat_map(|rules| &rules.tables).flat_map(|table| &table.chains);
            chains.map(|chain| chain.name.to_string()).collect()
        }
        match family {
            FamilyName::V4 => of(&self.v4),
            FamilyName::V6 => of(&self.v6),
        }
    }

    /// Our chains in the nat table.
    fn chains(&self, family: FamilyName) -> Vec<String> {
        match family {
            FamilyName::V4 => self.v4.as_ref().map(nat_chains),
            FamilyName::V6 => self.v6.as_ref().map(nat_chains),
        }
        .unwrap_or_default()
    }

    fn tables(&self, family: FamilyName) -> Vec<InTable> {
        match family {
            FamilyName::V4 => self.v4.as_ref().map(in_tables),
            FamilyName::V6 => self.v6.as_ref().map(in_tables),
        }
        .unwrap_or_default()
    }
}

fn nat_chains<F: Family>(rules: &Ruleset<F>) -> Vec<String> {
    let nat = rules.table(crate::model::TableName::Nat);
    nat.into_iter().flat_map(|table| table.user_defined()).map(|chain| chain.name.to_string()).collect()
}

fn in_tables<F: Family>(rules: &Ruleset<F>) -> Vec<InTable> {
    let in_table = |table: &crate::model::Table<F>| {
        let chain =
            |chain: &crate::model::Chain<F>| ((!chain.is_builtin()).then(|| chain.name.to_string()), chain.rules.len());
        InTable { table: table.name.as_str(), chains: table.chains.iter().map(chain).collect() }
    };
    // As the programs count them: a rule that names many ports is several.
    rules.canonical().tables.iter().map(in_table).collect()
}

pub(super) fn no_chain(family: FamilyName, chain: &str, chains: impl IntoIterator<Item = String>) -> InvalidValue {
    let chains: Vec<_> = chains.into_iter().collect();
    InvalidValue::new(
        chain,
        match chains.is_empty() {
            true => format!("a chain that is installed for {family}, of which there is none"),
            false => format!("a chain that is installed for {family}: {}", chains.join(", ")),
        },
    )
}
