//! From what is installed to a program.

use std::collections::HashMap;

use super::native;
use super::outcome::RulePosition;
use super::program::{Act, Base, Code, Line, Program, Test};
use super::saved::Whose;
use super::{Reading, Simulator};
use crate::error::Error;
use crate::in_force::{Installed, Listing, Unread};
use crate::iptables_save::Saved;
use crate::model::{BuiltinChain, TableName};
use crate::net::{Family, V4, V6};
use crate::nftables::{ChainType, LiveTable, priority, table_name};

impl<'r> Simulator<'r> {
    /// The rules that are in force, as far as they were read: our tables, everything in those of iptables, and those that other
    /// programs have in nf_tables. What is known to be there and could not be read makes packets that come to it
    /// [`Undecided`](super::Verdict::Undecided), as programs of the engine ebpf do with what they may redirect; so does a condition or
    /// an action of other programs that is not known, such as a mark or a translation to another address, where the answer depends on it.
    ///
    /// Not followed are the tables of [`Installed::others`].
    ///
    /// # Errors
    /// [`Error::Config`] if a listing of iptables has a table that is none of its own.
    pub fn of_installed(installed: &'r Installed) -> Result<Self, Error> {
        let mut simulator = Self::installed(installed, Whose::All)?;
        simulator.programs = installed.programs || installed.programs_suspected;
        Ok(simulator)
    }

    /// The same without the rules of other programs: what [`diff`](Self::diff) compares with a plan. What could not be read is left out.
    ///
    /// # Errors
    /// As [`of_installed`](Self::of_installed). [`Error::Unsupported`] if it was the engine ebpf that installed, which has no rules
    /// to compare.
    pub fn of_installed_ours(installed: &'r Installed) -> Result<Self, Error> {
        if installed.programs {
            return Err(Error::Unsupported {
                what: "comparing what the engine ebpf has installed, which are no rules,".into(),
                remedy: "have it compared by the state of the installation instead: 'kumatp status --config FILE'"
                    .into(),
            });
        }
        let mut simulator = Self::installed(installed, Whose::Ours)?;
        simulator.missing.clone_from(&installed.missing);
        Ok(simulator)
    }

    fn installed(installed: &'r Installed, whose: Whose) -> Result<Self, Error> {
        let v4 = sources::<V4>(installed, |listing| &listing.v4, whose)?;
        let v6 = sources::<V6>(installed, |listing| &listing.v6, whose)?;
        let programs = |v4: &[Program<'r>], v6: &[Program<'r>]| [Program::all(v4), Program::all(v6)];
        let [all_v4, all_v6] = programs(&v4, &v6);
        let mut simulator = Self::new(all_v4, Some(all_v6)).with_loopback(installed.loopback.clone());
        let why =
            "chains of several programs have the same priority and disagree, and which are called first is not known";
        // Whichever of them is the first: of those that decide, no other is asked.
        for first in 1..v4.len().max(v6.len()) {
            let ties = |all: &[Program<'r>]| {
                let others = all.iter().enumerate().filter(|(at, _)| *at != first);
                all.get(first).is_some_and(|one| others.into_iter().any(|(_, other)| one.ties_with(other)))
            };
            if ties(&v4) || ties(&v6) {
                let in_front = |all: &[Program<'r>]| {
                    let mut all = all.to_vec();
                    all.get_mut(..=first).into_iter().for_each(|some| some.rotate_right(1));
                    all
                };
                let programs = programs(&in_front(&v4), &in_front(&v6));
                simulator.readings.push(Reading { programs, why });
            }
        }
        if simulator.v4.meets_translation() || simulator.v6.meets_translation() {
            let why = "a filter chain has the priority at which connections are translated, and which comes first is not known";
            let programs = [simulator.v4.clone().behind_translation(), simulator.v6.clone().behind_translation()];
            simulator.readings.push(Reading { programs, why });
        }
        Ok(simulator)
    }
}

/// What everybody's rules do, one program for each of those whose chains the kernel calls in an order that is known.
fn sources<'r, F: Family>(
    installed: &'r Installed,
    saved: impl Fn(&'r Listing) -> &'r Saved<F>,
    whose: Whose,
) -> Result<Vec<Program<'r>>, Error> {
    let mut sources = Vec::new();
    for table in installed.native.iter().filter(|table| table.family == F::NAME && !table.dormant) {
        sources.push(Program::of_live(table));
    }
    for listing in &installed.iptables {
        let mut program = Program::of_saved(saved(listing), whose)?;
        let certain = listing.unread.iter().filter(|unread| unread.family == F::NAME && unread.certain);
        for unread in certain.filter(|_| whose == Whose::All) {
            program.add_unread(unread);
        }
        sources.push(program);
    }
    if whose == Whose::All {
        sources.extend(installed.foreign.iter().map(|table| Program::of_others(table, F::NAME)));
    }
    Ok(sources)
}

impl<'r> Program<'r> {
    fn of_live(table: &'r LiveTable) -> Self {
        let mut program = Self::default();
        let title = table_name(table.family);
        let places: HashMap<&str, usize> =
            table.chains.iter().enumerate().map(|(at, chain)| (chain.name.as_str(), at)).collect();
        for (index, chain) in table.chains.iter().enumerate() {
            let lines = chain.rules.iter().enumerate().map(|(number, rule)| match rule {
                Ok(rule) => native::line(table.family, &chain.name, number, rule, &places),
                Err(foreign) => {
                    let mut tests: Vec<Test> = foreign.conditions.iter().map(native::test).collect();
                    tests.push(Test::Unknown(foreign.text.as_str().into()));
                    let act = Act::Unknown(foreign.text.as_str().into());
                    Line { tests, act, place: RulePosition::rule(table.family, title, &chain.name, number, foreign) }
                }
            });
            program.chains.push(Code::new(lines.collect()));
            match &chain.base {
                None => {}
                Some(Ok(base)) => {
                    let policy = RulePosition::added(table.family, title, &chain.name, "the policy is drop");
                    let policy = chain.drops.then_some(policy);
                    program.call(base.hook, Base { chain: index, kind: base.kind, priority: base.priority, policy });
                }
                // Called by a hook or in an order that is not known here.
                Some(Err(foreign)) if !chain.rules.is_empty() || chain.drops => {
                    let words = "it is not known when this chain is called";
                    let place = RulePosition::added(table.family, title, &chain.name, words);
                    program.add_unknown(place, &foreign.text, None);
                }
                Some(Err(_)) => {}
            }
        }
        program
    }

    fn add_unread(&mut self, unread: &'r Unread) {
        let table = unread.table.as_deref().unwrap_or("any");
        let place = RulePosition::added(unread.family, table, "any", "this could not be read");
        self.add_unknown(place, &unread.reason, unread.table.as_ref().and_then(|table| table.parse().ok()));
    }

    /// Something that all packets come to, or those that come to this table, and that may do anything with them.
    pub(super) fn add_unknown(&mut self, place: RulePosition<'r>, reason: &str, table: Option<TableName>) {
        let chain = self.chains.len();
        self.chains.push(Code::new(vec![Line { tests: Vec::new(), act: Act::Unknown(reason.into()), place }]));
        for hook in BuiltinChain::ALL {
            let kind = if table == Some(TableName::Nat) { ChainType::Nat } else { ChainType::Filter };
            let priority = table.map_or(i32::MIN, |table| priority(table, hook));
            self.call(hook, Base { chain, kind, priority, policy: None });
        }
    }
}
