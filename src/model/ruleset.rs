use super::{BuiltinChain, ChainName, Placement, Rule, TableName};
use crate::net::{Family, FamilyName};

/// The rules of one family: tables in the order in which they are rendered.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(bound = "")]
#[non_exhaustive]
pub struct Ruleset<F: Family> {
    /// The tables; none of them is empty in a ruleset that a plan holds.
    pub tables: Vec<Table<F>>,
}

impl<F: Family> Ruleset<F> {
    /// A ruleset of the tables that have anything in them.
    pub fn new(tables: impl IntoIterator<Item = Table<F>>) -> Self {
        Self { tables: tables.into_iter().filter(|table| !table.is_empty()).collect() }
    }

    /// The family.
    pub fn family(&self) -> FamilyName {
        F::NAME
    }

    /// The table of this name.
    pub fn table(&self, name: TableName) -> Option<&Table<F>> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Every rule, with its table and chain, in the order of rendering.
    pub fn rules(&self) -> impl Iterator<Item = (TableName, &ChainName, &Rule<F>)> {
        self.tables.iter().flat_map(|table| {
            table
                .chains
                .iter()
                .flat_map(move |chain| chain.rules.iter().map(move |rule| (table.name, &chain.name, rule)))
        })
    }

    /// The ruleset as iptables-save would list it on a host that had no rules: see
    /// [`Rule::canonical`] and [`Rule::split_multiport`]; tables and chains sorted, empty built-in chains gone. Two rulesets that
    /// are equal in this form load to the same rules.
    pub fn canonical(&self) -> Self {
        let mut tables: Vec<_> = self.tables.iter().map(Table::canonical).collect();
        tables.retain(|table| !table.is_empty());
        crate::sorted::by_key(&mut tables, |table| table.name);
        Self { tables }
    }
}

/// A table and its chains.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(bound = "")]
#[non_exhaustive]
pub struct Table<F: Family> {
    /// Which table.
    pub name: TableName,
    /// Its chains: built-in ones first, then user-defined ones in the order of their creation.
    pub chains: Vec<Chain<F>>,
}

impl<F: Family> Table<F> {
    /// A table with these chains.
    pub fn new(name: TableName, chains: impl IntoIterator<Item = Chain<F>>) -> Self {
        Self { name, chains: chains.into_iter().collect() }
    }

    /// Whether it has neither a rule nor a user-defined chain.
    pub fn is_empty(&self) -> bool {
        self.chains.iter().all(|chain| chain.is_builtin() && chain.rules.is_empty())
    }

    /// The chain of this name.
    pub fn chain(&self, name: &ChainName) -> Option<&Chain<F>> {
        self.chains.iter().find(|chain| chain.name == *name)
    }

    /// The chains that have to be created.
    pub fn user_defined(&self) -> impl Iterator<Item = &Chain<F>> {
        self.chains.iter().filter(|chain| !chain.is_builtin())
    }

    fn canonical(&self) -> Self {
        let mut chains: Vec<_> = self.chains.iter().map(Chain::canonical).collect();
        chains.retain(|chain| !(chain.is_builtin() && chain.rules.is_empty()));
        crate::sorted::by(&mut chains, |a, b| {
            (a.name.builtin().map_or(5, |b| b as usize), &a.name)
                .cmp(&(b.name.builtin().map_or(5, |b| b as usize), &b.name))
        });
        Self { name: self.name, chains }
    }
}

/// A chain and its rules, in the order in which they are written; see [`Placement`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(bound = "")]
#[non_exhaustive]
pub struct Chain<F: Family> {
    /// Its name.
    pub name: ChainName,
    /// Its rules.
    pub rules: Vec<Rule<F>>,
}

impl<F: Family> Chain<F> {
    /// A user-defined chain without rules.
    pub fn new(name: ChainName) -> Self {
        Self { name, rules: Vec::new() }
    }

    /// A built-in chain without rules.
    pub fn builtin(chain: BuiltinChain) -> Self {
        Self::new(chain.into())
    }

    /// Whether the kernel provides it.
    pub fn is_builtin(&self) -> bool {
        self.name.builtin().is_some()
    }

    /// Adds a rule.
    pub fn push(&mut self, rule: Rule<F>) {
        self.rules.push(rule);
    }

    /// The rules in the order in which a packet meets them: the inserted ones, then the appended.
    pub fn in_effect(&self) -> impl Iterator<Item = &Rule<F>> {
        let at = |placement| self.rules.iter().filter(move |rule| rule.placement == placement);
        at(Placement::Insert).chain(at(Placement::Append))
    }

    fn canonical(&self) -> Self {
        Self {
            name: self.name.clone(),
            rules: self.in_effect().cloned().flat_map(Rule::split_multiport).map(Rule::canonical).collect(),
        }
    }
}
