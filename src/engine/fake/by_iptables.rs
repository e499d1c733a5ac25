//! What the iptables engine does to the host in memory.

use std::path::{Path, PathBuf};

use super::host::{Host, InIptables, no_chain, seen};
use crate::engine::asked::{Asked, Question};
use crate::engine::backend::{Backend, Compared, Look, Stopped, Taken, Work};
use crate::engine::compare::of_rulesets;
use crate::engine::failures::Failures;
use crate::engine::installation::Installation;
use crate::engine::location::Location;
use crate::engine::messages;
use crate::engine::report::Report;
use crate::engine::status::Status;
use crate::error::{Error, InvalidValue};
use crate::facts::HostAbilities;
use crate::model::{EngineName, FamilyExecutables, IptablesMode, Note, Options, Plan, Ruleset};
use crate::net::{Family, FamilyName, V4, V6};

/// What iptables says to those who may not use it.
const DENIED: &str = "Permission denied (you must be root)";

/// The mode of a program, as distributions name it.
fn mode_of(path: &Path) -> IptablesMode {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if name.contains("legacy") { IptablesMode::Legacy } else { IptablesMode::Nft }
}

/// A program: the one that is configured, or where distributions have it.
fn program(mode: IptablesMode, family: FamilyName, config: &Options, suffix: &str) -> PathBuf {
    let configured = of_family(config, family);
    let given = if suffix.is_empty() { &configured.tables } else { &configured.restore };
    let given = given.as_ref().filter(|path| mode_of(path) == mode);
    let name = if family == FamilyName::V4 { "iptables" } else { "ip6tables" };
    given.cloned().unwrap_or_else(|| format!("/usr/sbin/{name}-{mode}{suffix}").into())
}

fn of_family(config: &Options, family: FamilyName) -> &FamilyExecutables {
    match family {
        FamilyName::V4 => &config.iptables_executables.v4,
        FamilyName::V6 => &config.iptables_executables.v6,
    }
}

/// The iptables engine of a host in memory.
#[derive(Debug)]
pub(super) struct ByIptables;

impl Backend<Host> for ByIptables {
    fn engine(&self) -> EngineName {
        EngineName::Iptables
    }

    fn presumed(&self, host: &mut Host, config: &Options) -> Result<HostAbilities, Error> {
        let mut found = match host.may("read the rules", config) {
            Ok(()) => host.abilities.clone(),
            Err(error) if config.dry_run => {
                let text = format!("the rules are for a host that has all that they need: {error}");
                HostAbilities { remarks: vec![Note::info("iptables", text)], ..HostAbilities::default() }
            }
            Err(error) => return Err(error),
        };
        found.v6_only_with_address = true;
        Ok(found)
    }

    fn look(&self, host: &mut Host, _: Question<'_>, location: Location) -> Result<Look, Error> {
        Ok(seen(match location {
            Location::IptablesLegacy => host.legacy.families(),
            _ => host.nft.families(),
        }))
    }

    fn check(&self, host: &mut Host, config: &Options, plan: Option<&Plan>) -> Result<(), Error> {
        host.may("read the rules", config)?;
        match (plan.and_then(|plan| plan.v6.as_ref()), &host.abilities.v6_refused) {
            (Some(_), Some((reason, _))) => Err(messages::no_ip6tables(reason)),
            _ => Ok(()),
        }
    }

    fn put(&self, work: &mut Work<'_, Host>, plan: &Plan, _: bool) -> Result<Failures, Stopped> {
        let (host, config) = (&mut *work.ground, work.config);
        let mode = host.choose(plan, work.report);
        host.others_use(mode, Some(&plan.v4), config)?;
        if let Some(v6) = &plan.v6 {
            host.others_use(mode, Some(v6), config)?;
        }
        let before = host.of(mode).families();
        host.of_mut(mode).load(plan);
        let mut used = vec![(FamilyName::V4, mode)];
        used.extend(plan.v6.is_some().then_some((FamilyName::V6, mode)));
        for (family, _) in &used {
            let restore = program(mode, *family, config, "-restore");
            work.report.step(messages::loaded(!before.contains(family), *family, &restore, mode));
        }
        let older: Vec<_> = everywhere().filter(|place| !used.contains(place)).collect();
        Ok(host.remove(&older, config, work.report))
    }

    fn take_away(&self, work: &mut Work<'_, Host>, _: &[Location]) -> Result<Taken, Error> {
        let (host, config) = (&mut *work.ground, work.config);
        let all: Vec<_> = everywhere().collect();
        if !work.dry_run {
            return Ok(Taken { failures: host.remove(&all, config, work.report), ..Taken::default() });
        }
        let mut failures = Failures::default();
        all.iter()
            .filter_map(|place| host.others_use_in(*place, config).err())
            .for_each(|problem| failures.add(problem));
        failures.or(())?;
        let what = all.into_iter().flat_map(|place| host.describe(place));
        work.report.steps.extend(what.map(|what| format!("would remove {what}")));
        Ok(Taken { gone: Location::of(EngineName::Iptables).to_vec(), ..Taken::default() })
    }

    fn compare(&self, host: &mut Host, asked: &Asked<'_>, _: &mut Vec<Note>) -> Result<Compared, Error> {
        let Some(plan) = asked.plan else { return Ok(Compared::default()) };
        let installation = |mode| {
            let found = host.of(mode);
            let mut list = compare(Some(plan.iptables_v4()), found.v4.as_ref());
            list.extend(compare(plan.iptables_v6(), found.v6.as_ref()));
            Installation::new(EngineName::Iptables, Some(mode), found.families(), Status::of(list))
        };
        let there = IptablesMode::ALL.into_iter().filter(|mode| !host.of(*mode).families().is_empty());
        Ok(Compared { installations: there.map(installation).collect(), unknown: None })
    }
}

impl Host {
    /// Empties a chain, in the tables of iptables-nft if it is there.
    pub(super) fn flush_by_iptables(&mut self, family: FamilyName, chain: &str) -> Result<(), InvalidValue> {
        match self.nft.flush(family, chain) || self.legacy.flush(family, chain) {
            true => Ok(()),
            false => {
                let chains = [&self.nft, &self.legacy].map(|tables| tables.all_chains(family)).concat();
                Err(no_chain(family, chain, chains))
            }
        }
    }

    /// Removes what is ours there as far as that can be, and says what stands in the way of the rest.
    fn remove(&mut self, places: &[Where], config: &Options, report: &mut Report) -> Failures {
        let mut failures = Failures::default();
        for (family, mode) in places {
            if let Err(problem) = self.others_use_in((*family, *mode), config) {
                failures.add(problem);
                continue;
            }
            let what = self.describe((*family, *mode));
            what.into_iter().for_each(|what| report.step(format!("removed {what}")));
            self.of_mut(*mode).remove(*family);
        }
        failures
    }

    fn describe(&self, (family, mode): Where) -> Vec<String> {
        let items = self.of(mode).describe(family).into_iter();
        items.map(|item| format!("{item} ({family}, {mode})")).collect()
    }

    /// Chooses the programs as the real engine does: those that are configured, or those of the mode
    /// that has rules.
    fn choose(&self, plan: &Plan, report: &mut Report) -> IptablesMode {
        if let Some(given) = &plan.options.iptables_executables.v4.tables {
            return mode_of(given);
        }
        match [&self.nft, &self.legacy].map(|tables| tables.v4.is_some()) {
            [true, true] => {
                let note = Note::warning("iptables", messages::BOTH_MODES);
                report.notes.extend(Some(note).filter(|note| !plan.notes.contains(note)));
                IptablesMode::Nft
            }
            [false, true] => IptablesMode::Legacy,
            [_, false] => IptablesMode::Nft,
        }
    }

    fn may(&self, what: &str, config: &Options) -> Result<(), Error> {
        match self.unprivileged {
            true => Err(messages::denied(what, &program(IptablesMode::Nft, FamilyName::V4, config, "-save"), DENIED)),
            false => Ok(()),
        }
    }

    fn of(&self, mode: IptablesMode) -> &InIptables {
        match mode {
            IptablesMode::Nft => &self.nft,
            IptablesMode::Legacy => &self.legacy,
        }
    }

    fn of_mut(&mut self, mode: IptablesMode) -> &mut InIptables {
        match mode {
            IptablesMode::Nft => &mut self.nft,
            IptablesMode::Legacy => &mut self.legacy,
        }
    }

    /// Nothing can be removed where others lead to it.
    fn others_use_in(&self, (family, mode): Where, config: &Options) -> Result<(), Error> {
        match family {
            FamilyName::V4 => self.others_use::<V4>(mode, None, config),
            FamilyName::V6 => self.others_use::<V6>(mode, None, config),
        }
    }

    /// Others must not lead to chains that go, if only those of `stay` stay.
    fn others_use<F: Family>(
        &self,
        mode: IptablesMode,
        stay: Option<&Ruleset<F>>,
        config: &Options,
    ) -> Result<(), Error> {
        let chains = self.of(mode).in_the_way(stay);
        let rules: Vec<_> = chains.into_iter().map(|chain| format!("-t nat -A SOMEBODY -j {chain}")).collect();
        match rules.is_empty() {
            true => Ok(()),
            false => Err(messages::in_the_way(&program(mode, F::NAME, config, ""), &rules)),
        }
    }
}

/// The rules of a family in tables of one kind.
type Where = (FamilyName, IptablesMode);

/// Where there can be rules, in the order in which the real engine looks.
fn everywhere() -> impl Iterator<Item = Where> {
    FamilyName::ALL.into_iter().flat_map(|family| IptablesMode::ALL.map(|mode| (family, mode)))
}

fn compare<F: Family>(wanted: Option<&Ruleset<F>>, found: Option<&Ruleset<F>>) -> Vec<String> {
    let canonical = |rules: Option<&Ruleset<F>>| rules.map(Ruleset::canonical).unwrap_or_else(|| Ruleset::new([]));
    of_rulesets(&canonical(wanted), &canonical(found))
}
