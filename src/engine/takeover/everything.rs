//! Removing everything, and what an installation has taken the place of.

use super::Backends;
use crate::engine::asked::Question;
use crate::engine::backend::{Doubt, Look, Present, Taken, Work};
use crate::engine::failures::Failures;
use crate::engine::location::Location;
use crate::engine::messages::legacy_stays;
use crate::engine::passthrough::{Ground, Passthrough};
use crate::engine::record::Record;
use crate::engine::report::Report;
use crate::error::Error;
use crate::model::{EngineName, Note, Options};

/// What a removal has come to.
#[derive(Debug, Default)]
struct Removal {
    failures: Failures,
    /// Where nothing is left.
    gone: Vec<Location>,
    /// Why it is not known whether there is something more.
    unseen: Option<Error>,
}

impl Removal {
    fn add(&mut self, taken: Result<Taken, Error>) {
        if let Some(taken) = self.failures.take(taken) {
            self.gone.extend(taken.gone);
            self.failures.take(taken.failures.or(()));
        }
    }
}

impl<G: Ground> Backends<'_, G> {
    /// Takes away the rules and chains that installations by iptables have: what another engine has taken the place of, which
    /// needs `::6`.
    pub(in crate::engine) fn remove_leftovers(
        &self,
        ground: &mut G,
        config: &Options,
        mut report: Report,
    ) -> Result<Report, Error> {
        let mut passthrough = Passthrough::recall(ground, &mut report)?;
        let dry_run = config.dry_run;
        let mut work = Work { ground, config, dry_run, passthrough: &mut passthrough, report: &mut report };
        let taken = self.iptables.take_away(&mut work, &[])?;
        if !dry_run {
            passthrough.save(ground, &mut report);
        }
        taken.failures.or(report)
    }

    /// Takes everything away: first the eBPF programs, then the rules, by netlink and, what is left, by the programs of iptables.
    /// One report for each that was at work, netlink's first.
    ///
    /// # Errors
    /// As [`uninstall`](Self::uninstall).
    pub(in crate::engine) fn uninstall_all(
        &self,
        ground: &mut G,
        config: &Options,
        waited: Report,
    ) -> Result<Vec<Report>, Error> {
        let mut all = Removal::default();
        let dry_run = config.dry_run;
        let mut netlink = waited;
        let usable = match self.netlink.check(ground, config, None) {
            Err(error @ Error::Unsupported { .. }) => {
                netlink = unused(EngineName::Netlink, &error);
                false
            }
            other => other.map(|()| true)?,
        };
        let mut passthrough = Passthrough::recall(ground, &mut netlink)?;
        let mut programs = match self.programs(ground, config, &mut passthrough, &mut all) {
            Ok(programs) => programs,
            Err(error) => {
                all.failures.add(error);
                None
            }
        };
        if usable {
            let mut work = Work { ground, config, dry_run, passthrough: &mut passthrough, report: &mut netlink };
            match self.netlink.take_away(&mut work, &[]) {
                // Programs need the same privilege, and would say so once for each thing that they cannot look at.
                Err(error @ Error::Permission { .. }) => {
                    all.failures.add(error);
                    // The programs may be gone.
                    if !dry_run {
                        passthrough.save(ground, &mut netlink);
                    }
                    return all.failures.or(Vec::new());
                }
                taken => all.add(taken),
            }
        }
        let mut iptables = Report::new(EngineName::Iptables);
        let mut work = Work { ground, config, dry_run, passthrough: &mut passthrough, report: &mut iptables };
        let taken = self.iptables.take_away(&mut work, &[]);
        ground.changed();
        let by_programs = match taken {
            // iptables wants to be run by root, netlink does not.
            Err(error @ (Error::Unsupported { .. } | Error::Permission { .. })) if usable || removed(&programs) => {
                iptables = unused(EngineName::Iptables, &error);
                self.left_behind(ground, config, &passthrough.record, error, &mut all, &mut netlink)?;
                false
            }
            taken => {
                all.add(taken);
                true
            }
        };
        // Where nothing is changed, both have seen the same.
        iptables.steps.retain(|step| !netlink.steps.contains(step));

        let stays = self.needs_address(ground, config, &passthrough, &all.gone);
        // The last that did something says what became of the address.
        let last = match (&mut programs, by_programs && !iptables.steps.is_empty(), netlink.steps.is_empty()) {
            (_, true, _) => &mut iptables,
            (Some(programs), false, true) if !programs.steps.is_empty() => programs,
            _ => &mut netlink,
        };
        let is_kept = stays.is_some();
        let released = passthrough.release(ground, stays, dry_run, last);
        if !dry_run {
            if by_programs && !is_kept && all.failures.is_empty() && all.unseen.is_none() {
                passthrough.forget_the_unread();
            }
            passthrough.save(ground, last);
        }
        all.failures.take(released);
        all.failures.add_to_others(all.unseen);
        all.failures.or([netlink, iptables].into_iter().chain(programs).collect())
    }

    /// Takes the programs away. Most hosts have none, and nothing is to be said of them then.
    fn programs(
        &self,
        ground: &mut G,
        config: &Options,
        passthrough: &mut Passthrough,
        all: &mut Removal,
    ) -> Result<Option<Report>, Error> {
        let Some(ebpf) = self.ebpf else { return Ok(None) };
        let question = Question { config, record: &passthrough.record };
        let mut report = Report::new(EngineName::Ebpf);
        match ebpf.look(ground, question, Location::Programs)? {
            Look::Absent => return Ok(None),
            Look::Present(Present { stuck: Some(error), .. }) => return Err(error),
            Look::Present(_) => {
                let dry_run = config.dry_run;
                let mut work = Work { ground, config, dry_run, passthrough, report: &mut report };
                all.add(ebpf.take_away(&mut work, &[]));
            }
            Look::Unknown(unknown) => {
                report.notes.push(unknown.note);
                all.unseen = (unknown.doubt != Doubt::Unasked).then_some(unknown.reason);
            }
        }
        Ok(Some(report))
    }

    /// Says what stays as there are no programs of iptables, or may.
    fn left_behind(
        &self,
        ground: &mut G,
        config: &Options,
        record: &Record,
        why: Error,
        all: &mut Removal,
        report: &mut Report,
    ) -> Result<(), Error> {
        let look = self.iptables.look(ground, Question { config, record }, Location::IptablesLegacy)?;
        let left = match look.families() {
            [] => look.unknown().map(|unknown| unknown.reason.clone()),
            families => Some(legacy_stays(families)),
        };
        if let Some(left) = left {
            all.failures.add(left);
            all.failures.add(why);
        }
        self.note_what_stays(ground, config, record, report)
    }
}

fn unused(engine: EngineName, error: &Error) -> Report {
    let mut report = Report::new(engine);
    report.notes.push(Note::info(engine.to_string(), format!("not looked into: {error}")));
    report
}

fn removed(report: &Option<Report>) -> bool {
    report.as_ref().is_some_and(|report| !report.steps.is_empty())
}
