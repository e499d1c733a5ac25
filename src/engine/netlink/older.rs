//! What older installations left where netlink does not reach.

use crate::engine::record::Record;
use crate::error::Error;
use crate::model::Note;
use crate::net::FamilyName;
use crate::netlink::legacy_installation;

/// The families in whose iptables-legacy tables an installation has rules.
pub(crate) fn legacy_families(notes: &mut Vec<Note>) -> Vec<FamilyName> {
    let has = |family: &FamilyName| match legacy_installation(*family) {
        Ok(found) => found,
        Err(error) => {
            notes.push(Note::info("iptables", cannot_look_at_legacy(*family, &error).to_string()));
            false
        }
    };
    FamilyName::ALL.into_iter().filter(has).collect()
}

fn cannot_look_at_legacy(family: FamilyName, error: &std::io::Error) -> Error {
    Error::io(format!("look into the {family} tables of iptables-legacy for an older installation"), error)
}

pub(super) fn unmarked(record: &Record) -> String {
    format!(
        "an older iptables installation has {} rules without comments in built-in chains of iptables",
        record.rules.len()
    )
}
