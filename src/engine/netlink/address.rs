use nix::libc;

use super::problem;
use crate::config::IpFamilyMode;
use crate::engine::record::{Place, Record};
use crate::engine::words::{ADDED_ADDRESS, REMOVED_ADDRESS};
use crate::engine::{Report, loopback};
use crate::error::Error;
use crate::model::Note;

/// The sidecar's own IPv6 address on the loopback interface, and whether it was us who added it.
pub(in crate::engine) struct Address {
    place: Option<Place>,
    pub(in crate::engine) record: Record,
}

impl Address {
    pub(in crate::engine) fn recall(report: &mut Report) -> Self {
        let place = Place::of_this_namespace();
        let record = place.as_ref().map_err(Clone::clone).and_then(Place::load).unwrap_or_else(|error| {
            report
                .notes
                .push(Note::info("record", format!("what an older installation noted down is not known: {error}")));
            Record::default()
        });
        Self { place: place.ok(), record }
    }

    /// Nothing is known of it, and nothing will be noted down.
    pub(super) fn unrecorded() -> Self {
        Self { place: None, record: Record::default() }
    }

    /// True if it was not there, and is now.
    pub(in crate::engine) fn add(&mut self, mode: IpFamilyMode, report: &mut Report) -> Result<bool, Error> {
        let added = match loopback::add_where_possible(mode, report) {
            // Adding an address that is there needs the privilege as well.
            Err(Error::Os { errno: Some(libc::EPERM), .. }) => return Err(problem::not_permitted()),
            other => other?,
        };
        if added {
            report.step(ADDED_ADDRESS);
            self.note(true, report);
        }
        Ok(added)
    }

    pub(in crate::engine) fn remove(&mut self, report: &mut Report) -> Result<(), Error> {
        if self.record.loopback_address {
            if loopback::remove()? {
                report.step(REMOVED_ADDRESS);
            }
            self.note(false, report);
        }
        Ok(())
    }

    /// Not being able to write is no reason to leave traffic unredirected.
    fn note(&mut self, ours: bool, report: &mut Report) {
        self.record.loopback_address = ours;
        let Some(place) = &self.place else { return };
        if let Err(error) = place.store(&self.record) {
            let text = format!("{error}; a later uninstall will not know whose ::6 on the loopback interface is");
            report.notes.push(Note::info("record", text));
        }
    }
}
