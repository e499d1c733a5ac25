#[cfg(feature = "ebpf")]
use std::path::PathBuf;

use nix::libc;

use super::problem;
use crate::engine::Report;
use crate::engine::failures::Failures;
use crate::engine::holders::{self, Holder};
use crate::engine::loopback::{self, Presence};
use crate::engine::messages::{ADDED_ADDRESS, REMOVED_ADDRESS, WOULD_REMOVE_ADDRESS};
use crate::engine::record::{Record, RecordStore};
use crate::error::Error;
use crate::model::{IpFamilyMode, Note, Options};
use crate::netlink::{Dump, Kernel, KernelTable, Socket, Stop};

/// The sidecar's own IPv6 address on the loopback interface, and whether it was us who added it.
///
/// The kernel keeps that with the address itself since Linux 5.18. Before, the marker of our table tells, or the record where
/// another engine has added it.
#[derive(Debug)]
pub(in crate::engine) struct Address {
    presence: Presence,
    noted: bool,
    pub(in crate::engine) record: Record,
}

impl Address {
    /// Looks at the address, and for what says whose it is.
    pub(in crate::engine) fn recall(kernel: &mut Kernel, report: &mut Report) -> Result<Self, Error> {
        let record = Record::recall(kernel).unwrap_or_else(|error| {
            let text = format!("cannot read the record of older installations by iptables: {error}");
            report.notes.push(Note::warning("record", text));
            Record::default()
        });
        let presence = loopback::look(kernel)?;
        let noted = is_noted(kernel, presence, &record)?;
        Ok(Self { presence, noted, record })
    }

    /// Whether an installation has added it.
    pub(in crate::engine) fn is_ours(&self) -> bool {
        self.presence == Presence::Ours || self.noted
    }

    /// Whether it is ours and the kernel does not say so.
    pub(in crate::engine) fn has_to_be_noted(&self) -> bool {
        self.noted
    }

    /// True if it was not there, and is now.
    pub(in crate::engine) fn add(
        &mut self,
        kernel: &mut Kernel,
        mode: IpFamilyMode,
        report: &mut Report,
    ) -> Result<bool, Error> {
        let added = match loopback::add_where_possible(kernel, mode, report) {
            // Adding an address that is there needs the privilege as well.
            Err(Error::Os { errno: Some(libc::EPERM), .. }) => return Err(problem::not_permitted()),
            other => other?,
        };
        if added.new {
            report.step(ADDED_ADDRESS);
            self.presence = added.presence;
            self.noted = self.presence == Presence::Unmarked;
        }
        Ok(added.new)
    }

    /// Removes it if it is ours.
    pub(in crate::engine) fn remove(&mut self, kernel: &mut Kernel, report: &mut Report) -> Result<(), Error> {
        if self.is_ours() && loopback::remove_by(kernel)? {
            report.step(REMOVED_ADDRESS);
        }
        if self.is_ours() {
            self.presence = Presence::Absent;
            self.noted = false;
        }
        self.forget(kernel, report);
        Ok(())
    }

    /// The same for an uninstallation: it stays where an installation needs it that is not `gone`.
    pub(in crate::engine) fn release(
        &mut self,
        kernel: &mut Kernel,
        config: &Options,
        gone: &[Holder],
        report: &mut Report,
    ) -> Result<(), Error> {
        let kept = if self.is_ours() { holders::look(kernel, config, gone) } else { None };
        match kept {
            Some(note) => {
                report.notes.push(note);
                // What said so may be gone.
                if !config.dry_run && self.noted && !self.record.loopback_address {
                    self.record.loopback_address = true;
                    self.store(kernel, report);
                }
            }
            None if !config.dry_run => self.remove(kernel, report)?,
            None if self.is_ours() => report.steps.push(WOULD_REMOVE_ADDRESS.to_owned()),
            None => {}
        }
        Ok(())
    }

    /// Takes an addition back, as what it was for has failed with this.
    pub(in crate::engine) fn take_back(&mut self, kernel: &mut Kernel, why: Error, report: &mut Report) -> Error {
        let mut failures = Failures::default();
        failures.add(why.clone());
        failures.take(self.remove(kernel, report));
        failures.or(()).err().unwrap_or(why)
    }

    /// Takes the address out of the record of another engine.
    pub(in crate::engine) fn forget(&mut self, kernel: &mut Kernel, report: &mut Report) {
        if self.record.loopback_address {
            self.record.loopback_address = false;
            self.store(kernel, report);
        }
    }

    /// Notes down whether it is ours and where eBPF programs are pinned, for an engine that has no other place for that.
    #[cfg(feature = "ebpf")]
    pub(in crate::engine) fn note(&mut self, kernel: &mut Kernel, bpffs: Option<PathBuf>, report: &mut Report) {
        if (self.record.loopback_address, &self.record.bpffs) != (self.noted, &bpffs) {
            (self.record.loopback_address, self.record.bpffs) = (self.noted, bpffs);
            self.store(kernel, report);
        }
    }

    /// Not being able to write is no reason to leave traffic unredirected.
    fn store(&self, kernel: &mut Kernel, report: &mut Report) {
        kernel.no_records = false;
        if let Err(error) = RecordStore::of(kernel).and_then(|place| place.store(&self.record)) {
            let text = format!("cannot save the installation record, which a later uninstall needs: {error}");
            report.notes.push(Note::warning("record", text));
        }
    }
}

/// Whether an installation has added the address, for an engine that keeps a record.
pub(in crate::engine) fn address_is_ours(kernel: &mut Kernel, record: &Record) -> Result<bool, Error> {
    let presence = loopback::look(kernel)?;
    Ok(presence == Presence::Ours || is_noted(kernel, presence, record)?)
}

fn is_noted(kernel: &mut Kernel, presence: Presence, record: &Record) -> Result<bool, Error> {
    Ok(presence == Presence::Unmarked && (record.loopback_address || marker_says_so(kernel)?))
}

/// Whether the marker of our table says that the address is ours.
fn marker_says_so(kernel: &mut Kernel) -> Result<bool, Error> {
    let dump = match kernel.netfilter().and_then(Socket::rules) {
        Ok(dump) => dump,
        // There is no table in what the kernel does not have.
        Err(Stop::Missing) => Dump::default(),
        Err(stop) => return Err(stop.into()),
    };
    Ok([&dump.v4, &dump.v6].into_iter().flatten().filter_map(KernelTable::marker).any(|marker| marker.address))
}
