//! Finding and removing what installations by iptables left, ours or kumactl's.

use super::host::Host;
use super::kernel::Seen;
use super::locate::Toolset;
use super::ours::{ExpectedRules, Ours};
use super::transaction;
use crate::engine::failures::Failures;
use crate::engine::messages;
use crate::engine::record::Record;
use crate::engine::report::Report;
use crate::error::Error;
use crate::model::{EngineName, IptablesMode, Note, Options};
use crate::net::{Family, FamilyName, V4, V6};
use crate::netlink::Leftovers;

/// Whether no installation by iptables, ours or kumactl's, is there, as far as is known for certain.
pub(super) fn nothing_redirects(host: &Host<'_>, config: &Options, record: &Record) -> bool {
    let all = host.all();
    if all.iter().any(|tools| matches!(host.seen(tools, record), Seen::Plain(_) | Seen::Unclear)) {
        return false;
    }
    let mut there = Removal::new(host, config, record, false);
    // What there is to say of it, the removal says.
    let mut unsaid = Report::new(EngineName::Iptables);
    all.iter().for_each(|tools| there.look(tools, &mut unsaid));
    there.found.is_empty() && there.problems.is_empty() && !all.iter().any(Toolset::is_hidden)
}

/// What is ours in a family and mode.
enum Inventory {
    /// By the kernel's word; it removes it, too.
    Seen(Leftovers),
    /// By what programs list.
    Listed(Ours),
}

impl Inventory {
    /// What there is, as text: one item a table.
    fn describe(&self, tools: &Toolset) -> Vec<String> {
        match self {
            Self::Seen(leftovers) => leftovers.describe(),
            Self::Listed(ours) => {
                ours.describe().into_iter().map(|what| format!("{what} ({}, {})", tools.family, tools.mode)).collect()
            }
        }
    }
}

/// What is to be removed from several families and modes.
pub(super) struct Removal<'a, 'k> {
    host: &'a Host<'k>,
    config: &'a Options,
    record: Record,
    found: Vec<(Toolset, Inventory)>,
    /// What cannot be removed, and why.
    problems: Vec<(Where, Error)>,
    /// Why programs could not look, and whether any could.
    pub(super) blind: Option<Error>,
    pub(super) looked: bool,
    /// Whether to look by means that may make legacy tables, where there are no others.
    thorough: bool,
}

impl<'a, 'k> Removal<'a, 'k> {
    pub(super) fn new(host: &'a Host<'k>, config: &'a Options, record: &Record, thorough: bool) -> Self {
        let (record, found) = (record.clone(), Vec::new());
        Self { host, config, record, found, problems: Vec::new(), blind: None, looked: false, thorough }
    }

    /// Finds what is ours there.
    pub(super) fn look(&mut self, tools: &Toolset, report: &mut Report) {
        if !self.thorough && tools.is_hidden() {
            let error = tools.hidden();
            let text = format!("{error}; rules of an older installation in them would stay active");
            report.notes.push(Note::warning("iptables", text));
            self.blind.get_or_insert(error);
            return;
        }
        match self.host.seen(tools, &self.record) {
            Seen::Nothing => {
                self.looked = true;
                return;
            }
            Seen::Plain(leftovers) => {
                self.looked = true;
                self.found.push((tools.clone(), Inventory::Seen(leftovers)));
                return;
            }
            Seen::Unclear | Seen::Unknown => {}
        }
        match self.marked(tools).map_or_else(|| self.list(tools), Ok) {
            Ok(ours) => {
                self.looked = true;
                ours.note_suspects(tools, &self.record, report);
                let in_the_way = ours.in_the_way(&ExpectedRules::default());
                if !in_the_way.is_empty() {
                    self.problems.push((place(tools), messages::in_the_way(&tools.tables, &in_the_way)));
                } else if !ours.is_empty() {
                    self.found.push((tools.clone(), Inventory::Listed(ours)));
                }
            }
            // Programs for what the kernel does not have find nothing of ours in it.
            Err(error @ Error::Program { .. }) => {
                report.notes.push(Note::info("iptables", format!("not looked into: {error}")));
                self.blind.get_or_insert(error);
            }
            Err(error) => self.problems.push((place(tools), error)),
        }
    }

    /// What is ours, if the kernel says all that it takes to remove it.
    fn marked(&self, tools: &Toolset) -> Option<Ours> {
        let is_noted = !self.record.of(tools.family, tools.mode).is_empty();
        self.host.kernel.marked(tools).filter(|_| tools.familiar && !is_noted)
    }

    fn list(&self, tools: &Toolset) -> Result<Ours, Error> {
        match tools.family {
            FamilyName::V4 => self.find::<V4>(tools),
            FamilyName::V6 => self.find::<V6>(tools),
        }
    }

    fn find<F: Family>(&self, tools: &Toolset) -> Result<Ours, Error> {
        let saved = match self.thorough {
            true => self.host.look_to_change::<F>(tools)?,
            false => self.host.look::<F>(tools)?,
        };
        Ok(saved.map(|saved| Ours::find(&saved, &self.record.of(tools.family, tools.mode))).unwrap_or_default())
    }

    /// Who may not look anywhere need not be told so for each family.
    pub(super) fn must_be_allowed(&self) -> Result<(), Error> {
        let refused = |(_, problem): &(Where, Error)| matches!(problem, Error::Permission { .. });
        match self.problems.first() {
            Some((_, first)) if self.found.is_empty() && self.problems.iter().all(refused) => Err(first.clone()),
            _ => Ok(()),
        }
    }

    /// Says what [`run`](Self::run) would remove.
    pub(super) fn describe(self, report: &mut Report) -> Result<(), Error> {
        let mut failures = Failures::default();
        self.problems.into_iter().for_each(|(_, problem)| failures.add(problem));
        failures.or(())?;
        for (tools, found) in &self.found {
            report.steps.extend(found.describe(tools).into_iter().map(|what| format!("would remove {what}")));
        }
        Ok(())
    }

    /// Removes all that can be removed, and says where something stays, and why.
    pub(super) fn run(self, report: &mut Report) -> (Vec<Where>, Result<(), Error>) {
        let mut failures = Failures::default();
        let mut left = Vec::new();
        for (place, problem) in &self.problems {
            failures.add(problem.clone());
            left.push(*place);
        }
        for (tools, found) in &self.found {
            match self.remove(tools, found) {
                Ok(()) => found.describe(tools).into_iter().for_each(|what| report.step(format!("removed {what}"))),
                Err(error) => {
                    failures.add(error);
                    left.push(place(tools));
                }
            }
        }
        (left, failures.or(()))
    }

    fn remove(&self, tools: &Toolset, found: &Inventory) -> Result<(), Error> {
        match found {
            Inventory::Seen(_) if self.host.kernel.remove(tools.family) => Ok(()),
            // Programs say why not.
            Inventory::Seen(_) => {
                let ours = self.list(tools)?;
                let in_the_way = ours.in_the_way(&ExpectedRules::default());
                match in_the_way.is_empty() {
                    true => transaction::remove(self.host, self.config, &self.record, tools, &ours),
                    false => Err(messages::in_the_way(&tools.tables, &in_the_way)),
                }
            }
            Inventory::Listed(ours) => transaction::remove(self.host, self.config, &self.record, tools, ours),
        }
    }
}

/// The tables of a family in a mode.
pub(super) type Where = (FamilyName, IptablesMode);

fn place(tools: &Toolset) -> Where {
    (tools.family, tools.mode)
}
