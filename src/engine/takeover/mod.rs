//! Installing over whatever is there, and removing everything: the one place that knows that there are several back ends.
//!
//! The address `::6` and the record come first, then the plan is put in force, and then what other back ends have is taken away:
//! there is no moment without redirection. What is only removed by running programs, they are run for where the caller permits it.

#[cfg(all(feature = "host", target_os = "linux"))]
mod everything;

use super::asked::Question;
use super::backend::{Backend, Look, Present, Work};
use super::failures::Failures;
use super::location::Location;
use super::messages::{self, legacy, legacy_conflict, legacy_problem, not_removed, stays, unmarked};
use super::passthrough::{Ground, Passthrough};
use super::record::Record;
use super::report::Report;
use crate::error::Error;
use crate::model::{EngineName, IpFamilyMode, Note, Options, Plan};
use crate::net::FamilyName;

/// The back ends of a host.
pub(super) struct Backends<'a, G> {
    pub(super) netlink: &'a dyn Backend<G>,
    pub(super) iptables: &'a dyn Backend<G>,
    /// In builds with it.
    pub(super) ebpf: Option<&'a dyn Backend<G>>,
}

/// Whether the programs of iptables may be run for what only they can remove, by an engine that does without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Programs {
    /// No: where there is something of that kind, nothing is installed.
    Refused,
    /// No: it stays, for the caller to remove.
    Spared,
    /// Yes.
    Run,
}

impl<'a, G: Ground> Backends<'a, G> {
    /// All of them, in the order in which installations are named.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a dyn Backend<G>> + use<'a, G> {
        [Some(self.netlink), Some(self.iptables), self.ebpf].into_iter().flatten()
    }

    /// The one behind an engine.
    pub(super) fn of(&self, engine: EngineName) -> Result<&'a dyn Backend<G>, Error> {
        self.all().find(|one| one.engine() == engine).ok_or_else(messages::without_ebpf)
    }

    /// Looks at locations. What a build has no back end for is not there.
    pub(super) fn look(
        &self,
        ground: &mut G,
        question: Question<'_>,
        locations: impl IntoIterator<Item = Location>,
    ) -> Result<Vec<(Location, Look)>, Error> {
        let look = |location: Location| {
            let one = self.all().find(|one| one.engine() == location.engine())?;
            Some(one.look(ground, question, location).map(|look| (location, look)))
        };
        locations.into_iter().filter_map(look).collect()
    }

    /// Puts a plan in force and takes away what others have. There is a second report where programs have been run for that.
    ///
    /// # Errors
    /// Whatever the error, what is in force is what was before, unless the error says otherwise.
    pub(super) fn install(
        &self,
        ground: &mut G,
        engine: EngineName,
        plan: &Plan,
        programs: Programs,
        mut report: Report,
    ) -> Result<(Report, Option<Report>), Error> {
        let (one, config) = (self.of(engine)?, &plan.options);
        one.check(ground, config, Some(plan))?;
        let mut passthrough = Passthrough::recall(ground, &mut report)?;
        let question = Question { config, record: &passthrough.record };
        let elsewhere = Location::ALL.into_iter().filter(|location| !Location::of(engine).contains(location));
        let others = self.look(ground, question, elsewhere)?;
        let legacy = not_in_the_way(&others, programs, &mut report)?;
        let left = left_to_programs(&legacy, &passthrough.record);
        let redirected = others.iter().any(redirects);

        let marker = one.has_marker();
        // What is in force sends connections there, so the address has to be there before.
        let added = plan.v6.is_some() && passthrough.add(ground, config.ip_family_mode, marker, &mut report)?;
        let mut work = Work { ground, config, dry_run: false, passthrough: &mut passthrough, report: &mut report };
        let put = one.put(&mut work, plan, redirected);
        let mut failures = match put {
            Ok(failures) => failures,
            Err(stopped) => {
                let undone = added && stopped.undone;
                let error =
                    if undone { passthrough.take_back(ground, stopped.error, &mut report) } else { stopped.error };
                passthrough.save(ground, &mut report);
                return Err(error);
            }
        };
        failures.take(self.take_others_away(&mut work, engine, &others));
        let removed = failures.or(());
        ground.changed();
        match (&plan.v6, &removed) {
            // What could not be removed may need it.
            (Some(_), _) | (None, Err(_)) => passthrough.keep(marker),
            (None, Ok(())) => passthrough.remove(ground, &mut report)?,
        }
        passthrough.save(ground, &mut report);
        removed.map_err(|error| not_removed(&error))?;
        note_what_is_open(ground, plan, &mut report);
        if engine == EngineName::Iptables {
            return Ok((report, None));
        }
        if programs != Programs::Run {
            let rules = passthrough.record.rules.len();
            report.notes.extend((rules > 0).then(|| Note::warning("comments.disabled", unmarked(rules))));
            return Ok((report, None));
        }
        if left.is_empty() {
            return Ok((report, None));
        }
        let cleared = self.clear(ground, config, passthrough)?;
        Ok((report, Some(cleared)))
    }

    /// Takes away what other back ends have, as far as it takes no programs of iptables. The locations of the engine that is in force
    /// now are spared.
    fn take_others_away(
        &self,
        work: &mut Work<'_, G>,
        engine: EngineName,
        others: &[(Location, Look)],
    ) -> Result<(), Error> {
        let there = |location: &Location| {
            let mut here = others.iter().filter(|(other, _)| other == location);
            here.any(|other| redirects(other) || matches!(other.1, Look::Present(_)))
        };
        let mut failures = Failures::default();
        for other in self.all().filter(|other| other.engine() != engine && other.engine() != EngineName::Iptables) {
            if Location::of(other.engine()).iter().any(there) {
                let taken = other.take_away(work, Location::of(engine));
                failures.take(taken.and_then(|taken| taken.failures.or(())));
            }
        }
        failures.or(())
    }

    /// Has the programs of iptables remove what another back end has taken the place of.
    fn clear(&self, ground: &mut G, config: &Options, mut passthrough: Passthrough) -> Result<Report, Error> {
        let mut report = Report::new(EngineName::Iptables);
        let mut work = Work { ground, config, dry_run: false, passthrough: &mut passthrough, report: &mut report };
        let taken = self.iptables.take_away(&mut work, &[]).and_then(|taken| taken.failures.or(()));
        ground.changed();
        passthrough.save(ground, &mut report);
        taken.map(|()| report).map_err(|error| {
            // Of one family, it may have been removed.
            let question = Question { config, record: &passthrough.record };
            let looked = self.iptables.look(ground, question, Location::IptablesLegacy);
            let families = looked.as_ref().map(Look::families).unwrap_or_default();
            let left = left_to_programs(families, &passthrough.record);
            Error::Several(vec![messages::still_active(&left).because(error.clone()), error])
        })
    }

    /// Takes away what an engine can remove. `::6` goes as well, unless something that stays needs it.
    ///
    /// # Errors
    /// If something could not be removed; what could be, is.
    pub(super) fn uninstall(
        &self,
        ground: &mut G,
        engine: EngineName,
        config: &Options,
        mut report: Report,
    ) -> Result<Report, Error> {
        let one = self.of(engine)?;
        one.check(ground, config, None)?;
        let mut passthrough = Passthrough::recall(ground, &mut report)?;
        let dry_run = config.dry_run;
        let mut work = Work { ground, config, dry_run, passthrough: &mut passthrough, report: &mut report };
        let taken = one.take_away(&mut work, &[])?;
        ground.changed();
        let mut failures = taken.failures;
        let stays = self.needs_address(ground, config, &passthrough, &taken.gone);
        failures.take(passthrough.release(ground, stays, dry_run, &mut report));
        if !dry_run {
            passthrough.save(ground, &mut report);
        }
        // Who removes some of what another engine has installed says what stays of it.
        let of_iptables = Location::of(EngineName::Iptables);
        if engine != EngineName::Iptables && Location::of(engine).iter().any(|here| of_iptables.contains(here)) {
            self.note_what_stays(ground, config, &passthrough.record, &mut report)?;
        }
        failures.or(report)
    }

    /// What only the programs of iptables can remove, as text. What cannot be looked at is not in it.
    pub(super) fn left_to_iptables(&self, ground: &mut G) -> Vec<String> {
        let (config, record) = (Options::default(), ground.record().unwrap_or_default());
        let question = Question { config: &config, record: &record };
        let looked = self.iptables.look(ground, question, Location::IptablesLegacy);
        left_to_programs(looked.as_ref().map(Look::families).unwrap_or_default(), &record)
    }

    /// Why the address has to stay: for what is installed at other locations than those where nothing is left. None if nothing needs
    /// it. What cannot be looked at may be there.
    fn needs_address(
        &self,
        ground: &mut G,
        config: &Options,
        passthrough: &Passthrough,
        gone: &[Location],
    ) -> Option<Note> {
        let question = Question { config, record: &passthrough.record };
        let mut unknown = None;
        let left = Location::ALL.into_iter().filter(|location| passthrough.is_ours() && !gone.contains(location));
        for location in left {
            match self.look(ground, question, [location]).map(|mut looked| looked.pop()) {
                Ok(Some((_, look))) if is_for_ipv6(&look) => {
                    return Some(messages::address_stays_for(location.engine()));
                }
                Ok(look) => unknown = unknown.or_else(|| look?.1.unknown()?.of_ipv6.clone()),
                Err(error) => unknown = unknown.or_else(|| Some(error.to_string())),
            }
        }
        unknown.map(|why| messages::address_may_be_needed(&why))
    }

    /// Says what an uninstallation leaves that only the programs of iptables can remove.
    fn note_what_stays(
        &self,
        ground: &mut G,
        config: &Options,
        record: &Record,
        report: &mut Report,
    ) -> Result<(), Error> {
        let look = self.iptables.look(ground, Question { config, record }, Location::IptablesLegacy)?;
        report.notes.extend(look.unknown().map(|unknown| unknown.note.clone()));
        let left = left_to_programs(look.families(), record);
        report.notes.extend(left.iter().map(|what| Note::warning("iptables", stays(what))));
        Ok(())
    }
}

/// What is left to the programs of iptables, as text.
fn left_to_programs(families: &[FamilyName], record: &Record) -> Vec<String> {
    let rules = (!record.rules.is_empty()).then(|| unmarked(record.rules.len()));
    families.iter().copied().map(legacy).chain(rules).collect()
}

/// Whether an installation for IPv6 is there. Of one that cannot be read, nobody knows.
fn is_for_ipv6(look: &Look) -> bool {
    matches!(look, Look::Present(Present { families, .. }) if families.is_empty() || families.contains(&FamilyName::V6))
}

/// Whether rules that were seen at a location, or may be there, redirect connections already.
fn redirects((location, look): &(Location, Look)) -> bool {
    match (location, look) {
        // They redirect sockets.
        (Location::Programs, _) | (_, Look::Absent) => false,
        (_, Look::Present(_)) => true,
        (_, Look::Unknown(_)) => *location == Location::Tables,
    }
}

/// Refuses to install beside what cannot be removed. What is not known, and what is left to the caller, is noted. Gives the families
/// that have rules in tables of iptables-legacy.
fn not_in_the_way(
    others: &[(Location, Look)],
    programs: Programs,
    report: &mut Report,
) -> Result<Vec<FamilyName>, Error> {
    let mut legacy = Vec::new();
    for (location, look) in others {
        report.notes.extend(look.unknown().map(|unknown| unknown.note.clone()));
        if let Look::Present(Present { stuck: Some(error), .. }) = look {
            return Err(error.clone());
        }
        if *location == Location::IptablesLegacy {
            legacy = look.families().to_vec();
            match (legacy_problem(&legacy), programs) {
                (None, _) => {}
                (Some(problem), Programs::Refused) => return Err(legacy_conflict(problem)),
                (Some(problem), _) => report.notes.push(Note::info("iptables", problem)),
            }
        }
    }
    Ok(legacy)
}

/// Says what goes past the sidecar, if the plan leaves IPv6 alone because it was told to. Where the facts are the reason, the plan
/// says it.
fn note_what_is_open(ground: &mut impl Ground, plan: &Plan, report: &mut Report) {
    if plan.options.ip_family_mode == IpFamilyMode::Ipv4 {
        let text = ground.left_open().map(|open| messages::left_open(&open));
        report.notes.extend(text.map(|text| Note::warning("ipFamilyMode", text)));
    }
}
