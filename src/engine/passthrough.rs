//! The sidecar's own IPv6 address, `::6`, on the loopback interface, and the record of the network namespace: whose the address is,
//! and what else installations have noted down.
//!
//! The kernel keeps whose it is with the address itself since Linux 5.18. Before, the marker of our tables tells, where there are
//! some, and otherwise the record. All that is noted of it is read and written here.

use super::failures::Failures;
use super::messages::{ADDED_ADDRESS, MISSING_ADDRESS, REMOVED_ADDRESS, WOULD_REMOVE_ADDRESS};
use super::record::Record;
use super::report::Report;
use crate::error::Error;
use crate::model::{IpFamilyMode, Note};
use crate::net::FamilyName;

/// Whether `::6` is on the loopback interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Absent,
    /// The kernel does not say who added it: somebody else or, before Linux 5.18, perhaps we.
    Unmarked,
    /// The kernel says that we added it.
    Ours,
}

/// What became of an addition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Added {
    /// Whether it was not there before.
    pub(super) new: bool,
    /// What is there now.
    pub(super) presence: Presence,
}

/// A host, as far as it belongs to no back end.
pub(super) trait Ground {
    /// What installations have noted down.
    fn record(&mut self) -> Result<Record, Error>;

    /// Notes that down in the place of what was.
    fn store(&mut self, record: &Record) -> Result<(), Error>;

    /// Whether the address is there.
    fn address(&mut self) -> Result<Presence, Error>;

    /// Whether the marker of our tables says that it is ours.
    fn is_marked(&mut self) -> Result<bool, Error>;

    /// Adds it. Where the host cannot have it, the report has a warning, unless the mode insists.
    fn add_address(&mut self, mode: IpFamilyMode, report: &mut Report) -> Result<Added, Error>;

    /// Removes it. False if it was not there.
    fn remove_address(&mut self) -> Result<bool, Error>;

    /// Whether there is no IPv6 that would need it.
    fn ipv6_is_off(&mut self) -> bool;

    /// What goes past the sidecar where IPv6 is left alone, if anything.
    fn left_open(&mut self) -> Option<String>;

    /// Has everything looked at again that this operation has changed.
    fn changed(&mut self);
}

/// The address and the record, in an operation.
#[derive(Debug)]
pub(super) struct Passthrough {
    presence: Presence,
    noted: bool,
    /// What is to be noted down.
    pub(super) record: Record,
    /// What is noted down; none if that cannot be read and what it may say no longer matters.
    stored: Option<Record>,
    is_unread: bool,
}

impl Passthrough {
    /// Looks at the address, and for what says whose it is.
    pub(super) fn recall(ground: &mut impl Ground, report: &mut Report) -> Result<Self, Error> {
        let read = ground.record();
        let is_unread = read.is_err();
        let record = read.unwrap_or_else(|error| {
            report.notes.push(Note::warning("record", format!("cannot read the installation record: {error}")));
            Record::default()
        });
        let presence = ground.address()?;
        let noted = presence == Presence::Unmarked && (record.loopback_address || ground.is_marked()?);
        Ok(Self { presence, noted, stored: Some(record.clone()), record, is_unread })
    }

    /// Whether an installation has added it.
    pub(super) fn is_ours(&self) -> bool {
        self.presence == Presence::Ours || self.noted
    }

    /// Whether it is ours and the kernel does not say so.
    pub(super) fn has_to_be_noted(&self) -> bool {
        self.noted
    }

    /// Adds it for an installation, and notes that down unless the installation has a marker that will tell. True if it was not
    /// there.
    pub(super) fn add(
        &mut self,
        ground: &mut impl Ground,
        mode: IpFamilyMode,
        marker: bool,
        report: &mut Report,
    ) -> Result<bool, Error> {
        let added = ground.add_address(mode, report)?;
        if added.new {
            report.step(ADDED_ADDRESS);
            self.presence = added.presence;
            self.noted = self.presence == Presence::Unmarked;
        }
        if self.noted && !marker {
            self.record.loopback_address = true;
            self.save(ground, report);
        }
        Ok(added.new)
    }

    /// Takes an addition back, as what it was for has failed with this.
    pub(super) fn take_back(&mut self, ground: &mut impl Ground, why: Error, report: &mut Report) -> Error {
        let mut failures = Failures::default();
        failures.add(why.clone());
        failures.take(self.remove(ground, report));
        failures.or(()).err().unwrap_or(why)
    }

    /// Leaves it to the installation that is in force now. What the marker of that tells need not be noted down.
    pub(super) fn keep(&mut self, marker: bool) {
        self.record.loopback_address = self.noted && !marker;
    }

    /// Removes it if it is ours.
    pub(super) fn remove(&mut self, ground: &mut impl Ground, report: &mut Report) -> Result<(), Error> {
        if self.is_ours() {
            if ground.remove_address()? {
                report.step(REMOVED_ADDRESS);
            }
            self.presence = Presence::Absent;
            self.noted = false;
        }
        self.record.loopback_address = false;
        Ok(())
    }

    /// The same for an uninstallation: it stays where something says why.
    pub(super) fn release(
        &mut self,
        ground: &mut impl Ground,
        stays: Option<Note>,
        dry_run: bool,
        report: &mut Report,
    ) -> Result<(), Error> {
        match stays {
            Some(note) => {
                report.notes.push(note);
                // The marker that said so may be gone.
                self.record.loopback_address |= self.noted;
            }
            None if !dry_run => self.remove(ground, report)?,
            None if self.is_ours() => report.steps.push(WOULD_REMOVE_ADDRESS.to_owned()),
            None => {}
        }
        Ok(())
    }

    /// That nothing is left of what may have been noted down. What cannot be read would be told of until the machine starts again.
    pub(super) fn forget_the_unread(&mut self) {
        if std::mem::take(&mut self.is_unread) {
            self.stored = None;
        }
    }

    /// Writes down what has changed. Not being able to is no reason to leave traffic unredirected.
    pub(super) fn save(&mut self, ground: &mut impl Ground, report: &mut Report) {
        if self.stored.as_ref() == Some(&self.record) {
            return;
        }
        match ground.store(&self.record) {
            Ok(()) => self.stored = Some(self.record.clone()),
            Err(error) => {
                let text = format!("cannot save the installation record, which a later uninstall needs: {error}");
                if !report.notes.iter().any(|note| note.text == text) {
                    report.notes.push(Note::warning("record", text));
                }
            }
        }
    }
}

/// That the address is not there, if these families need it: not where there is no IPv6.
pub(super) fn missing(ground: &mut impl Ground, families: &[FamilyName]) -> Result<Option<String>, Error> {
    let missing = families.contains(&FamilyName::V6) && ground.address()? == Presence::Absent && !ground.ipv6_is_off();
    Ok(missing.then(|| MISSING_ADDRESS.to_owned()))
}
