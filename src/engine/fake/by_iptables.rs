//! What the iptables engine does to the host in memory.

use std::path::{Path, PathBuf};

use super::host::{Host, InIptables, no_chain};
use crate::engine::compare::of_rulesets;
use crate::engine::failures::Failures;
use crate::engine::messages::{self, tables};
use crate::engine::{Report, Status};
use crate::error::{Error, InvalidValue};
use crate::facts::HostAbilities;
use crate::model::{EngineName, FamilyExecutables, Note, Options, Plan, Ruleset};
use crate::net::{Family, FamilyName, V4, V6};

/// What iptables says to those who may not use it.
const DENIED: &str = "Permission denied (you must be root)";

/// The programs of iptables of one kind. (The type of the real engine needs a host.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Nft,
    Legacy,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Nft, Self::Legacy];

    fn as_str(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Legacy => "legacy",
        }
    }

    /// That of a program, as distributions name it.
    fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("legacy") { Self::Legacy } else { Self::Nft }
    }

    /// A program: the one that is configured, or where distributions have it.
    fn program(self, family: FamilyName, config: &Options, suffix: &str) -> PathBuf {
        let configured = of_family(config, family);
        let given = if suffix.is_empty() { &configured.tables } else { &configured.restore };
        let given = given.as_ref().filter(|path| Self::of(path) == self);
        let name = if family == FamilyName::V4 { "iptables" } else { "ip6tables" };
        given.cloned().unwrap_or_else(|| format!("/usr/sbin/{name}-{}{suffix}", self.as_str()).into())
    }
}

fn of_family(config: &Options, family: FamilyName) -> &FamilyExecutables {
    match family {
        FamilyName::V4 => &config.iptables_executables.v4,
        FamilyName::V6 => &config.iptables_executables.v6,
    }
}

impl Host {
    pub(super) fn abilities_by_iptables(&self, config: &Options) -> Result<HostAbilities, Error> {
        let mut found = match self.may("read the rules", config) {
            Ok(()) => self.abilities.clone(),
            Err(error) if config.dry_run => {
                let text = format!("the rules are for a host that has all that they need: {error}");
                HostAbilities { remarks: vec![Note::info("iptables", text)], ..HostAbilities::default() }
            }
            Err(error) => return Err(error),
        };
        found.v6_only_with_address = true;
        Ok(found)
    }

    pub(super) fn status_by_iptables(&self, plan: &Plan) -> Result<Status, Error> {
        self.may("read the rules", &plan.options)?;
        let mut all = Vec::new();
        for mode in Mode::ALL.into_iter().filter(|mode| !self.of(*mode).families().is_empty()) {
            let found = self.of(mode);
            let mut list = compare(Some(plan.iptables_v4()), found.v4.as_ref());
            list.extend(compare(plan.iptables_v6(), found.v6.as_ref()));
            list.extend(self.missing_address(&found.families()));
            all.push((format!("iptables ({})", mode.as_str()), list));
        }
        Ok(match &all[..] {
            [] => Status::Absent,
            [(_, list)] => Status::of(list.clone()),
            several => {
                let names: Vec<_> = several.iter().map(|(name, _)| name.as_str()).collect();
                let mut list = vec![format!("several engines have rules: {}", names.join(", "))];
                list.extend(
                    several.iter().flat_map(|(name, own)| own.iter().map(move |text| format!("{name}: {text}"))),
                );
                Status::of(list)
            }
        })
    }

    pub(super) fn install_by_iptables(&mut self, plan: &Plan) -> Result<Report, Error> {
        let config = &plan.options;
        let mut report = Report::new(EngineName::Iptables);
        self.may("read the rules", config)?;
        let mode = self.choose(plan, &mut report);
        if let (Some(_), Some((reason, _))) = (&plan.v6, &self.abilities.v6_refused) {
            return Err(messages::no_ip6tables(reason));
        }
        self.others_use(mode, Some(&plan.v4), config)?;
        if let Some(v6) = &plan.v6 {
            self.others_use(mode, Some(v6), config)?;
            self.add_address(&mut report);
        }

        let before = self.of(mode).families();
        self.of_mut(mode).load(plan);
        let mut used = vec![(FamilyName::V4, mode)];
        used.extend(plan.v6.is_some().then_some((FamilyName::V6, mode)));
        for (family, _) in &used {
            let restore = mode.program(*family, config, "-restore");
            report.step(messages::loaded(!before.contains(family), *family, &restore, mode.as_str()));
        }
        let older: Vec<_> = everywhere().filter(|place| !used.contains(place)).collect();
        let removed = self.remove(&older, config, &mut report);
        let families = self.own.families();
        if !families.is_empty() {
            report.step(format!("removed {}", tables(&families)));
            families.into_iter().for_each(|family| self.own.remove(family));
        }
        self.remove_programs(&mut report);
        if plan.v6.is_none() {
            self.remove_address(&mut report);
        }
        removed.map_err(|error| messages::not_removed(&error))?;
        Ok(report)
    }

    pub(super) fn uninstall_by_iptables(&mut self, config: &Options) -> Result<Report, Error> {
        let mut report = Report::new(EngineName::Iptables);
        self.may("read the rules", config)?;
        let all: Vec<_> = everywhere().collect();
        if !config.dry_run {
            let removed = self.remove(&all, config, &mut report);
            self.release_address(EngineName::Iptables, false, &mut report);
            return removed.map(|()| report);
        }
        let mut failures = Failures::default();
        all.iter()
            .filter_map(|place| self.others_use_in(*place, config).err())
            .for_each(|problem| failures.add(problem));
        failures.or(())?;
        let what = all.into_iter().flat_map(|place| self.describe(place));
        report.steps.extend(what.map(|what| format!("would remove {what}")));
        self.release_address(EngineName::Iptables, true, &mut report);
        Ok(report)
    }

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
    fn remove(&mut self, places: &[Where], config: &Options, report: &mut Report) -> Result<(), Error> {
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
        failures.or(())
    }

    fn describe(&self, (family, mode): Where) -> Vec<String> {
        let items = self.of(mode).describe(family).into_iter();
        items.map(|item| format!("{item} ({family}, {})", mode.as_str())).collect()
    }

    /// Chooses the programs as the real engine does: those that are configured, or those of the mode
    /// that has rules.
    fn choose(&self, plan: &Plan, report: &mut Report) -> Mode {
        if let Some(given) = &plan.options.iptables_executables.v4.tables {
            return Mode::of(given);
        }
        match [&self.nft, &self.legacy].map(|tables| tables.v4.is_some()) {
            [true, true] => {
                let note = Note::warning("iptables", messages::BOTH_MODES);
                report.notes.extend(Some(note).filter(|note| !plan.notes.contains(note)));
                Mode::Nft
            }
            [false, true] => Mode::Legacy,
            [_, false] => Mode::Nft,
        }
    }

    fn may(&self, what: &str, config: &Options) -> Result<(), Error> {
        match self.unprivileged {
            true => Err(messages::denied(what, &Mode::Nft.program(FamilyName::V4, config, "-save"), DENIED)),
            false => Ok(()),
        }
    }

    fn of(&self, mode: Mode) -> &InIptables {
        match mode {
            Mode::Nft => &self.nft,
            Mode::Legacy => &self.legacy,
        }
    }

    fn of_mut(&mut self, mode: Mode) -> &mut InIptables {
        match mode {
            Mode::Nft => &mut self.nft,
            Mode::Legacy => &mut self.legacy,
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
    fn others_use<F: Family>(&self, mode: Mode, stay: Option<&Ruleset<F>>, config: &Options) -> Result<(), Error> {
        let chains = self.of(mode).in_the_way(stay);
        let rules: Vec<_> = chains.into_iter().map(|chain| format!("-t nat -A SOMEBODY -j {chain}")).collect();
        match rules.is_empty() {
            true => Ok(()),
            false => Err(messages::in_the_way(&mode.program(F::NAME, config, ""), &rules)),
        }
    }
}

/// The rules of a family in tables of one kind.
type Where = (FamilyName, Mode);

/// Where there can be rules, in the order in which the real engine looks.
fn everywhere() -> impl Iterator<Item = Where> {
    FamilyName::ALL.into_iter().flat_map(|family| Mode::ALL.map(|mode| (family, mode)))
}

fn compare<F: Family>(wanted: Option<&Ruleset<F>>, found: Option<&Ruleset<F>>) -> Vec<String> {
    let canonical = |rules: Option<&Ruleset<F>>| rules.map(Ruleset::canonical).unwrap_or_else(|| Ruleset::new([]));
    of_rulesets(&canonical(wanted), &canonical(found))
}
