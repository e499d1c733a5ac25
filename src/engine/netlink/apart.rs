//! Removing what can be removed where not everything can.

use super::change::note_uncommented;
use super::problem::{self, Attempt};
use crate::engine::failures::Failures;
use crate::engine::messages::{not_ours, tables};
use crate::engine::record::Record;
use crate::engine::report::Report;
use crate::error::Error;
use crate::netlink::{Batch, Socket};

/// How many times a part is tried again because others changed the rules meanwhile.
const ATTEMPTS: usize = 8;

/// Removes each part for itself: each table of ours, and what iptables-nft installations left. Says what was
/// removed, and what failed: `together`, if no part fails for itself.
pub(super) fn remove(
    socket: &mut Socket,
    record: &Record,
    together: Error,
    report: &mut Report,
) -> (Vec<String>, Error) {
    let mut failures = Failures::default();
    let mut removed = Vec::new();
    let (ours, taken) = match failures.take(socket.tables().map_err(Error::from)) {
        Some(tables) => (tables.ours, tables.taken),
        None => Default::default(),
    };
    for family in ours {
        let mut batch = Batch::new(None);
        batch.remove(family);
        match problem::send(socket, &batch.commit(), None) {
            Ok(Attempt::Done) => removed.push(tables(&[family])),
            Ok(_) => failures.add(problem::restless()),
            Err(error) => failures.add(error),
        }
    }
    if !taken.is_empty() {
        failures.add(not_ours(&taken));
    }
    removed.extend(failures.take(leftovers(socket, record, report)).unwrap_or_default());
    (removed, failures.or(()).err().unwrap_or(together))
}

fn leftovers(socket: &mut Socket, record: &Record, report: &mut Report) -> Result<Vec<String>, Error> {
    for _ in 0..ATTEMPTS {
        let (_, leftovers, generation) = socket.look_for_removal()?;
        if leftovers.is_empty() {
            return Ok(Vec::new());
        }
        let mut batch = Batch::new(Some(generation));
        batch.remove_leftovers(&leftovers);
        if problem::send(socket, &batch.commit(), None)? == Attempt::Done {
            note_uncommented(&leftovers, record, report);
            return Ok(leftovers.describe());
        }
    }
    Err(problem::restless())
}
