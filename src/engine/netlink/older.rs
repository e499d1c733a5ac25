//! What older installations left where netlink does not reach.

use std::io;

use crate::engine::Report;
use crate::engine::messages::{legacy_conflict, legacy_problem};
use crate::engine::record::Record;
use crate::error::{Error, counted};
use crate::model::Note;
use crate::net::FamilyName;
use crate::netlink::Kernel;

/// What is known of installations in tables of iptables-legacy.
#[derive(Debug, Default)]
pub(crate) struct Legacy {
    /// The families that have one.
    pub(crate) families: Vec<FamilyName>,
    /// The families whose tables could not be looked into, and why.
    unseen: Vec<(FamilyName, io::Error)>,
}

impl Legacy {
    /// Looks into the tables of the network namespace of the calling thread.
    pub(crate) fn look(kernel: &mut Kernel) -> Self {
        let mut found = Self::default();
        for family in FamilyName::ALL {
            match kernel.legacy.has_installation(family) {
                Ok(true) => found.families.push(family),
                Ok(false) => {}
                Err(error) => found.unseen.push((family, error)),
            }
        }
        found
    }

    /// Only the iptables programs can remove what there is: a conflict, unless the caller will have them do it. Whether there is
    /// something.
    pub(in crate::engine) fn refuse(&self, allowed: bool, report: &mut Report) -> Result<bool, Error> {
        self.note(&mut report.notes);
        let Some(problem) = legacy_problem(&self.families) else { return Ok(false) };
        if allowed {
            report.notes.push(Note::info("iptables", problem));
            return Ok(true);
        }
        Err(legacy_conflict(problem))
    }

    /// What could not be looked into, if anything.
    pub(crate) fn unseen(&self) -> Option<Error> {
        let (_, error) = self.unseen.first()?;
        let families: Vec<_> = self.unseen.iter().map(|(family, _)| family.to_string()).collect();
        let what =
            format!("look for an older installation in the {} tables of iptables-legacy", families.join(" and "));
        Some(Error::io(what, error))
    }

    /// Says so.
    pub(crate) fn note(&self, notes: &mut Vec<Note>) {
        notes.extend(self.unseen().map(|error| Note::warning("iptables", error.to_string())));
    }
}

pub(in crate::engine) fn unmarked(record: &Record) -> String {
    format!(
        "an older iptables installation has {} without comments in built-in chains of iptables",
        counted(record.rules.len(), "rule")
    )
}
