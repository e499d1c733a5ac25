//! Changing rules: both families, and what was put in force is undone if a part fails.
//!
//! A restore program changes one table after the other, so a text may be refused when some of its tables are in force. Testing it first
//! would cost a program more each time, and would not find what only the kernel refuses.

use std::thread;
use std::time::Duration;

use super::host::{Host, denied};
use super::kernel::Seen;
use super::locate::Toolset;
use super::ours::{ExpectedRules, Ours};
use super::uncommented;
use crate::engine::messages;
use crate::engine::passthrough::Passthrough;
use crate::engine::record::{Record, Recorded};
use crate::engine::report::Report;
use crate::error::Error;
use crate::iptables_save::Saved;
use crate::model::{IptablesMode, Options, Ruleset};
use crate::net::{Family, FamilyName, V4, V6};

/// How often to look anew where somebody else changes the rules at the same time.
const LOOKS: u32 = 4;

/// How long loading rules may take, besides waiting for the lock.
const RESTORE_LIMIT: Duration = Duration::from_secs(60);

/// An installation of both families.
pub(super) struct Transaction<'a, 'k> {
    pub(super) host: &'a Host<'k>,
    pub(super) config: &'a Options,
    /// What an older installation noted down.
    pub(super) old: &'a Record,
    /// What this one has to note down.
    pub(super) unmarked: &'a [Recorded],
    pub(super) v4: (&'a Toolset, &'a Ruleset<V4>),
    pub(super) v6: Option<(&'a Toolset, &'a Ruleset<V6>)>,
}

/// What is to be done to a family.
struct Step<'a, F: Family> {
    tools: &'a Toolset,
    wanted: &'a Ruleset<F>,
    before: Ours,
    text: String,
}

/// Why a change failed.
struct Failure {
    error: Error,
    /// The rules were not those that the text was written for.
    outdated: bool,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self { error, outdated: false }
    }
}

impl Transaction<'_, '_> {
    /// Puts the rules in force. Those without comments are returned, with their places.
    pub(super) fn run(&self, passthrough: &mut Passthrough, report: &mut Report) -> Result<Vec<Recorded>, Error> {
        again_if_outdated(|| self.attempt(passthrough, report))
    }

    fn attempt(&self, passthrough: &mut Passthrough, report: &mut Report) -> Result<Vec<Recorded>, Failure> {
        let mut unmarked = self.unmarked.to_vec();
        let v4 = self.look(self.v4, &mut unmarked)?;
        let v6 = self.v6.map(|v6| self.look(v6, &mut unmarked)).transpose()?;
        // Before they are there, so that they can be told whenever this ends.
        passthrough.record.rules.clone_from(&self.old.rules);
        passthrough.record.or_rules(&unmarked);
        self.host.kernel.with(|kernel| passthrough.save(kernel, report));
        self.change(&v4, v6.as_ref(), &passthrough.record)?;
        self.tell(&v4, report);
        v6.iter().for_each(|v6| self.tell(v6, report));
        Ok(unmarked)
    }

    /// Finds out what is to be done to a family.
    fn look<'a, F: Family>(
        &self,
        (tools, wanted): (&'a Toolset, &'a Ruleset<F>),
        unmarked: &mut [Recorded],
    ) -> Result<Step<'a, F>, Error> {
        // A rule without a comment is told from equal ones by its place among them.
        let listed = unmarked.iter().any(|rule| rule.family == F::NAME);
        let saved = match self.host.seen(tools, self.old) {
            Seen::Nothing if !listed => None,
            _ => self.host.look_to_change::<F>(tools)?,
        };
        let saved = saved.unwrap_or(Saved { tables: Vec::new() });
        let before = Ours::find(&saved, &self.old.of(tools.family, tools.mode));
        let rules = unmarked.iter_mut().filter(|rule| rule.family == F::NAME);
        uncommented::place(&saved, |table, chain, place| before.has(table, chain, place), rules);
        let text = text(tools, &before, &ExpectedRules::of(wanted))?;
        Ok(Step { tools, wanted, before, text })
    }

    fn apply<F: Family>(&self, step: &Step<'_, F>) -> Result<(), Failure> {
        load(self.host, self.config, step.tools, &step.text)
    }

    fn change(&self, v4: &Step<'_, V4>, v6: Option<&Step<'_, V6>>, record: &Record) -> Result<(), Failure> {
        self.apply(v4).map_err(|failure| self.undone(v4, record, failure))?;
        let Some(v6) = v6 else { return Ok(()) };
        self.apply(v6).map_err(|failure| {
            // One table may be in force and the next one not.
            let failure = self.undone(v6, record, failure);
            self.undone(v4, record, failure)
        })
    }

    /// Puts a family back as it was, after a failure, as far as what is there is what this installation wrote. If that fails as
    /// well, the error says so.
    fn undone<F: Family>(&self, step: &Step<'_, F>, record: &Record, failure: Failure) -> Failure {
        let Step { tools, wanted, before, .. } = step;
        let family = tools.family;
        let undone = find::<F>(self.host, record, tools).map_err(Failure::from).and_then(|now| {
            let (text, changed) = now.undo(before, wanted);
            match text.is_empty() {
                true => Ok(changed),
                false => load(self.host, self.config, tools, &text).map(|()| changed),
            }
        });
        let conflict = |problem: String, remedy: &str, outdated| Failure {
            error: Error::Conflict { problem, remedy: remedy.to_owned() },
            outdated,
        };
        match undone {
            Ok(changed) if changed.is_empty() => failure,
            Ok(changed) => conflict(
                format!(
                    "{}; another program changed the {family} rules of kumatp in the table {} meanwhile, so they stay as they are",
                    failure.error,
                    changed.join(" and ")
                ),
                "install again",
                failure.outdated,
            ),
            Err(second) => conflict(
                format!(
                    "{}; and the {family} rules could not be put back as they were: {}",
                    failure.error, second.error
                ),
                "uninstall, and install again",
                false,
            ),
        }
    }

    fn tell<F: Family>(&self, step: &Step<'_, F>, report: &mut Report) {
        let Step { tools, before, .. } = step;
        before.note_suspects(tools, self.old, report);
        report.step(messages::loaded(before.is_empty(), tools.family, &tools.restore, tools.mode));
    }
}

/// Removes what is ours of one family and mode; `ours` is what was found there first.
pub(super) fn remove(
    host: &Host<'_>,
    config: &Options,
    record: &Record,
    tools: &Toolset,
    ours: &Ours,
) -> Result<(), Error> {
    let mut first = Some(ours.clone());
    again_if_outdated(|| {
        let ours = match first.take() {
            Some(ours) => ours,
            None => match tools.family {
                FamilyName::V4 => find::<V4>(host, record, tools)?,
                FamilyName::V6 => find::<V6>(host, record, tools)?,
            },
        };
        match ours.is_empty() {
            true => Ok(()),
            false => load(host, config, tools, &text(tools, &ours, &ExpectedRules::default())?),
        }
    })
}

fn find<F: Family>(host: &Host<'_>, record: &Record, tools: &Toolset) -> Result<Ours, Error> {
    let saved = host.look_to_change::<F>(tools)?;
    Ok(saved.map(|saved| Ours::find(&saved, &record.of(tools.family, tools.mode))).unwrap_or_default())
}

fn text(tools: &Toolset, before: &Ours, wanted: &ExpectedRules) -> Result<String, Error> {
    let rules = before.in_the_way(wanted);
    match rules.is_empty() {
        true => Ok(before.replace_by(wanted)),
        false => Err(messages::in_the_way(&tools.tables, &rules)),
    }
}

fn again_if_outdated<T>(mut attempt: impl FnMut() -> Result<T, Failure>) -> Result<T, Error> {
    let mut looks = 1;
    loop {
        match attempt() {
            Ok(done) => return Ok(done),
            Err(Failure { outdated: true, .. }) if looks < LOOKS => looks += 1,
            Err(Failure { error, .. }) => return Err(error),
        }
    }
}

/// Gives a text to a restore program, again and again while the failure may pass.
fn load(host: &Host<'_>, config: &Options, tools: &Toolset, text: &str) -> Result<(), Failure> {
    let mut args = vec!["--noflush".to_owned()];
    // The nft programs take no lock.
    if tools.mode == IptablesMode::Legacy && config.wait.seconds > 0 {
        args.push(format!("--wait={}", config.wait.seconds));
        if config.wait.interval_micros > 0 {
            args.push(format!("--wait-interval={}", config.wait.interval_micros));
        }
    }
    let limit = RESTORE_LIMIT + Duration::from_secs(config.wait.seconds.into());
    let mut retries = config.retry.max_retries;
    loop {
        let output = host.runner.run(&tools.restore, &args, text, limit)?;
        if output.success() {
            host.kernel.changed();
            return Ok(());
        }
        if output.may_pass() && retries > 0 && host.runner.left() > config.retry.sleep {
            retries -= 1;
            thread::sleep(config.retry.sleep);
            continue;
        }
        if output.no_lock_file() {
            return Err(messages::no_lock_file(&tools.restore, &output.message()).into());
        }
        if output.denied() {
            return Err(denied("change the rules", &tools.restore, &output).into());
        }
        let outdated = output.outdated();
        let error = match output.owner_refused(text) {
            true => messages::owner_refused(output.error()),
            false => output.error(),
        };
        return Err(Failure { error, outdated });
    }
}
