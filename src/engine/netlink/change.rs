//! Changing what is in the kernel: one batch, begun again where others change the rules meanwhile.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::problem::{self, Attempt};
use crate::engine::compare::ExpectedTables;
use crate::engine::loopback;
use crate::engine::messages::{not_ours, tables};
use crate::engine::open_connections::OpenConnections;
use crate::engine::record::Record;
use crate::engine::report::Report;
use crate::error::Error;
use crate::model::{IptablesMode, Note};
use crate::net::{FamilyName, Port};
use crate::netlink::{Batch, Dump, Kernel, Leftovers, OwnTables, Socket, Stop};
use crate::nftables::Native;

/// How many times an operation is begun again because others changed the rules meanwhile.
const ATTEMPTS: usize = 8;

/// Puts the rules in force, in the place of all that any older installation has in nf_tables.
/// `listeners` are the ports that they redirect to; `record` is what older ones noted down; `redirected` says whether rules that netlink does not see redirect already.
pub(super) fn install(
    kernel: &mut Kernel,
    native: &Native,
    listeners: &BTreeSet<Port>,
    redirected: bool,
    record: &Record,
    report: &mut Report,
) -> Result<(), Error> {
    let wanted = ExpectedTables::of(native);
    // The first time, the tables that are not there need not be removed, if nobody makes them
    // meanwhile: the generation sees to that. Closing a socket after a removal takes 10 ms.
    let mut trusting = true;
    let mut stop = problem::restless();
    let mut open = None;
    for _ in 0..ATTEMPTS {
        let (found, leftovers, generation) = kernel.netfilter()?.look(&|family| wanted.of_family(family))?;
        let taken: Vec<_> = found.taken.iter().copied().filter(|family| wanted.of_family(*family).is_some()).collect();
        if !taken.is_empty() {
            return Err(not_ours(&taken));
        }
        let same = wanted.is(&found);
        if same && leftovers.is_empty() {
            return Ok(());
        }
        let fresh = trusting && found.v4.is_none() && found.v6.is_none();
        // Leftovers are removed by what was read of them.
        let relies = fresh || !leftovers.is_empty();
        let mut batch = Batch::new(relies.then_some(generation));
        let (mut made, mut removed) = (Vec::new(), Vec::new());
        for family in FamilyName::ALL.into_iter().filter(|_| !same) {
            let content = wanted.of_family(family);
            if !fresh && (content.is_some() || found.of(family).is_some()) {
                batch.remove(family);
            }
            match content {
                Some(content) => {
                    batch.add(family, content);
                    made.push(family);
                }
                None if found.of(family).is_some() => removed.push(family),
                None => {}
            }
        }
        batch.remove_leftovers(&leftovers);
        if open.is_none() && !redirected && leftovers.is_empty() {
            let begins = |family: &FamilyName| wanted.of_family(*family).is_some() && found.of(*family).is_none();
            let families: Vec<_> = FamilyName::ALL.into_iter().filter(begins).collect();
            open = (!families.is_empty()).then(|| OpenConnections::keep(kernel, families, listeners.clone()));
        }
        // The rules send connections to an address that may just have been added.
        loopback::settle(kernel);
        match problem::send(kernel.netfilter()?, &batch.commit(), Some(native))? {
            Attempt::Done => {}
            Attempt::Changed => {
                trusting = false;
                stop = problem::restless();
                continue;
            }
            // What is there then, the next round tells.
            Attempt::Unknown => {
                let (found, leftovers, _) = kernel.netfilter()?.look(&|family| wanted.of_family(family))?;
                if !wanted.is(&found) || !leftovers.is_empty() {
                    stop = Stop::Unknown.into();
                    continue;
                }
            }
        }
        if let Some(open) = open {
            open.look_again(kernel, report);
        }
        if !made.is_empty() {
            let verb = if found == Dump::default() { "installed" } else { "replaced" };
            report.step(format!("{verb} {}", tables(&made)));
        }
        if !removed.is_empty() {
            report.step(format!("removed {}", tables(&removed)));
        }
        leftovers.describe().into_iter().for_each(|what| report.step(format!("removed {what}")));
        note_uncommented(&leftovers, record, report);
        return Ok(());
    }
    Err(stop)
}

/// Removes all that any installation has in nf_tables, unless only asked to say what that is. A table of somebody else with
/// our name stays, and is a conflict once the rest is gone.
pub(super) fn removal(
    socket: &mut Socket,
    dry_run: bool,
    record: &Record,
    report: &mut Report,
) -> Result<Vec<String>, Error> {
    let mut stop = problem::restless();
    for _ in 0..ATTEMPTS {
        let (OwnTables { ours: families, taken }, leftovers, generation) = socket.look_for_removal()?;
        let finished = |found| if taken.is_empty() { Ok(found) } else { Err(not_ours(&taken)) };
        let own = (!families.is_empty()).then(|| tables(&families));
        let found: Vec<_> = own.into_iter().chain(leftovers.describe()).collect();
        if found.is_empty() {
            return finished(found);
        }
        let mut batch = Batch::new((!leftovers.is_empty()).then_some(generation));
        families.iter().for_each(|family| batch.remove(*family));
        batch.remove_leftovers(&leftovers);
        if !dry_run {
            match problem::send(socket, &batch.commit(), None)? {
                Attempt::Done => {}
                Attempt::Changed => {
                    stop = problem::restless();
                    continue;
                }
                Attempt::Unknown => {
                    let (tables, leftovers, _) = socket.look_for_removal()?;
                    if !tables.ours.is_empty() || !leftovers.is_empty() {
                        stop = Stop::Unknown.into();
                        continue;
                    }
                }
            }
        }
        note_uncommented(&leftovers, record, report);
        return finished(found);
    }
    Err(stop)
}

/// Removes our tables and nothing else: for an engine whose rules have taken their place.
pub(super) fn remove_tables(kernel: &mut Kernel, report: &mut Report) -> Result<(), Error> {
    let socket = match kernel.netfilter() {
        // There is nothing in what the kernel does not have.
        Err(Stop::Missing) => return Ok(()),
        other => other?,
    };
    for _ in 0..ATTEMPTS {
        let families = match socket.tables() {
            Err(Stop::System(_, Errno::EOPNOTSUPP | Errno::EINVAL)) => return Ok(()),
            other => other?.ours,
        };
        if families.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(None);
        families.iter().for_each(|family| batch.remove(*family));
        if problem::send(socket, &batch.commit(), None)? == Attempt::Done {
            report.step(format!("removed {}", tables(&families)));
            return Ok(());
        }
    }
    Err(problem::restless())
}

/// Says that rules may be left that nothing tells from those of other programs: not where they were noted down, of which more is said.
pub(super) fn note_uncommented(leftovers: &Leftovers, record: &Record, report: &mut Report) {
    let noted = |family: &FamilyName| !record.of(*family, IptablesMode::Nft).is_empty();
    if leftovers.uncommented && !leftovers.families().iter().all(noted) {
        let text = "the rules of an older iptables-nft installation had no comments, so of those outside of its own chains only the ones that lead there are known; look into PREROUTING and OUTPUT with iptables-nft-save";
        report.notes.push(Note::warning("comments.disabled", text));
    }
}
