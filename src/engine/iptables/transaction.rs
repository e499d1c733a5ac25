//! Changing rules: test both families, apply both, undo the first if the second fails.

use std::thread;
use std::time::Duration;

use super::host::{Host, denied};
use super::locate::{Mode, Toolset};
use super::ours::{Ours, Wanted};
use super::{Memory, Report, note_suspects};
use crate::config::Config;
use crate::engine::record::Record;
use crate::engine::words;
use crate::error::Error;
use crate::net::{Family, FamilyName, V4, V6};

/// How often to look anew where somebody else changes the rules at the same time.
const LOOKS: u32 = 4;

/// How long loading rules may take, besides waiting for the lock.
const RESTORE_LIMIT: Duration = Duration::from_secs(60);

/// An installation of both families.
pub(super) struct Transaction<'a> {
    pub(super) host: &'a Host<'a>,
    pub(super) config: &'a Config,
    /// What an older installation noted down.
    pub(super) old: &'a Record,
    /// The same, and what this one has.
    pub(super) record: &'a Record,
    pub(super) v4: (&'a Toolset, Wanted),
    pub(super) v6: Option<(&'a Toolset, Wanted)>,
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

impl Transaction<'_> {
    pub(super) fn run(&self, memory: &mut Memory, report: &mut Report) -> Result<(), Error> {
        again_if_outdated(|| self.attempt(memory, report))
    }

    fn attempt(&self, memory: &mut Memory, report: &mut Report) -> Result<(), Failure> {
        let (v4_tools, v4_wanted) = &self.v4;
        let v4_before = self.find::<V4>(v4_tools)?;
        let v4_text = text(v4_tools, &v4_before, v4_wanted)?;
        let v6 = match &self.v6 {
            Some((tools, wanted)) => {
                let before = self.find::<V6>(tools)?;
                let text = text(tools, &before, wanted)?;
                Some((*tools, before, text))
            }
            None => None,
        };

        load(self.host, self.config, v4_tools, &v4_text, Load::Test)?;
        if let Some((tools, _, text)) = &v6 {
            load(self.host, self.config, tools, text, Load::Test)?;
        }
        // Before the rules, which let the sidecar's connections from it pass.
        let added = match v6 {
            Some(_) => memory.add_address(self.config.ip_family_mode, report)?,
            None => false,
        };
        if let Err(failure) = self.change(v4_tools, &v4_text, &v4_before, v6.as_ref()) {
            if added {
                // The failure that comes first is the one to report.
                let _ = memory.remove_address(report);
            }
            return Err(failure);
        }
        note_suspects(&v4_before, v4_tools, self.old, report);
        step(v4_tools, &v4_before, report);
        if let Some((tools, before, _)) = &v6 {
            note_suspects(before, tools, self.old, report);
            step(tools, before, report);
        }
        Ok(())
    }

    fn change(
        &self,
        v4_tools: &Toolset,
        v4_text: &str,
        v4_before: &Ours,
        v6: Option<&(&Toolset, Ours, String)>,
    ) -> Result<(), Failure> {
        load(self.host, self.config, v4_tools, v4_text, Load::Apply)
            .map_err(|failure| self.undone::<V4>(v4_tools, v4_before, failure))?;
        let Some((v6_tools, v6_before, v6_text)) = v6 else { return Ok(()) };
        load(self.host, self.config, v6_tools, v6_text, Load::Apply).map_err(|failure| {
            // One table may be in force and the next one not.
            let failure = self.undone::<V6>(v6_tools, v6_before, failure);
            self.undone::<V4>(v4_tools, v4_before, failure)
        })
    }

    /// Puts a family back as it was, after a failure. If that fails as well, the error says so.
    fn undone<F: Family>(&self, tools: &Toolset, before: &Ours, failure: Failure) -> Failure {
        let undone = self.find::<F>(tools).map_err(Failure::from).and_then(|now| {
            let text = now.replace_by(&before.to_be_put_back(&now));
            match text.is_empty() || now.same_as(before) {
                true => Ok(()),
                false => load(self.host, self.config, tools, &text, Load::Apply),
            }
        });
        match undone {
            Ok(()) => failure,
            Err(second) => Failure {
                error: Error::Conflict {
                    problem: format!(
                        "{}; and the {} rules could not be put back as they were: {}",
                        failure.error, tools.family, second.error
                    ),
                    remedy: "uninstall, and install again".into(),
                },
                outdated: false,
            },
        }
    }

    fn find<F: Family>(&self, tools: &Toolset) -> Result<Ours, Error> {
        find::<F>(self.host, self.record, tools)
    }
}

/// Removes what is ours of one family and mode; `ours` is what was found there first.
pub(super) fn remove(
    host: &Host<'_>,
    config: &Config,
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
            false => load(host, config, tools, &text(tools, &ours, &Wanted::default())?, Load::Apply),
        }
    })
}

fn find<F: Family>(host: &Host<'_>, record: &Record, tools: &Toolset) -> Result<Ours, Error> {
    let saved = host.look::<F>(tools)?;
    Ok(saved.map(|saved| Ours::find(&saved, &record.of(tools.family, tools.mode))).unwrap_or_default())
}

fn text(tools: &Toolset, before: &Ours, wanted: &Wanted) -> Result<String, Error> {
    let rules = before.in_the_way(wanted);
    match rules.is_empty() {
        true => Ok(before.replace_by(wanted)),
        false => Err(words::in_the_way(&tools.tables, &rules)),
    }
}

fn step(tools: &Toolset, before: &Ours, report: &mut Report) {
    report.step(words::loaded(before.is_empty(), tools.family, &tools.restore, tools.mode));
}

fn again_if_outdated(mut attempt: impl FnMut() -> Result<(), Failure>) -> Result<(), Error> {
    let mut looks = 1;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(Failure { outdated: true, .. }) if looks < LOOKS => looks += 1,
            Err(Failure { error, .. }) => return Err(error),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Test,
    Apply,
}

/// Gives a text to a restore program, again and again while the failure may pass.
fn load(host: &Host<'_>, config: &Config, tools: &Toolset, text: &str, load: Load) -> Result<(), Failure> {
    let mut args = vec!["--noflush".to_owned()];
    if load == Load::Test {
        args.push("--test".into());
    }
    // The nft programs take no lock.
    if tools.mode == Mode::Legacy && config.wait.seconds > 0 {
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
            return Ok(());
        }
        if output.may_pass() && retries > 0 && host.runner.left() > config.retry.sleep {
            retries -= 1;
            thread::sleep(config.retry.sleep);
            continue;
        }
        if output.denied() {
            return Err(denied("change the rules", tools, &output).into());
        }
        let outdated = output.outdated();
        return Err(Failure { error: output.error(), outdated });
    }
}
