//! The programs of a host: which there are, which to use, and which rules there are. What they can do, [`questions`](super::questions)
//! finds out.

use std::ops::Deref;
use std::path::Path;
use std::time::Duration;

use super::kernel::Kernel;
use super::legacy_tables::LegacyTables;
use super::locate::Toolset;
use super::program::Output;
use super::programs::{Choice, Programs};
use crate::engine::messages;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::iptables_save::{self, Saved};
use crate::model::{IptablesMode, Note, Options, TableName};
use crate::net::{Family, FamilyName};

/// How long a program may take to print all rules: some hosts have hundreds of thousands.
pub(super) const SAVE_LIMIT: Duration = Duration::from_secs(60);

/// What is asked of the programs and of the kernel that they talk to, for a configuration.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) config: &'a Options,
    pub(super) kernel: Kernel<'a>,
    /// Whether the programs are taken to have what the kernel has: what they do not, they say when they are to use it.
    pub(super) presumes: bool,
    programs: &'a Programs,
}

impl Deref for Host<'_> {
    type Target = Programs;

    fn deref(&self) -> &Programs {
        self.programs
    }
}

/// What programs list.
#[derive(Debug)]
pub(super) struct Looked<F: Family> {
    pub(super) saved: Saved<F>,
    /// Tables that they cannot show as they are: others than iptables made what is in them.
    pub(super) hidden: Vec<String>,
}

impl<'a> Host<'a> {
    pub(super) fn new(programs: &'a Programs, config: &'a Options, kernel: &'a mut crate::netlink::Kernel) -> Self {
        Self { config, kernel: Kernel::new(kernel), presumes: true, programs }
    }

    /// The same, which asks the programs of their part as well. A dry run does not.
    pub(super) fn thorough(mut self) -> Self {
        self.presumes = self.config.dry_run;
        self
    }

    /// Every set of programs that there is, the given ones in the place of those found.
    pub(super) fn all(&self) -> Vec<Toolset> {
        let mut all = Vec::new();
        for family in FamilyName::ALL {
            let given = self.given(self.config, family).and_then(|given| given.as_ref().ok());
            for mode in IptablesMode::ALL {
                match given {
                    Some(given) if given.mode == mode => all.push(given.clone()),
                    _ => all.extend(self.toolset(family, mode).ok().cloned()),
                }
            }
        }
        all
    }

    /// The programs that an installation uses; chosen once.
    pub(super) fn chosen(&self) -> Result<&'a Choice, Error> {
        if let Some(chosen) = self.programs.chosen.get() {
            return Ok(chosen);
        }
        let choice = self.choose()?;
        Ok(self.programs.chosen.get_or_init(|| choice))
    }

    /// Chooses the programs as kumactl does: the only usable ones; else those of the mode that has
    /// rules; if both have, the one with Docker's chain, and nft if that does not decide either.
    fn choose(&self) -> Result<Choice, Error> {
        let (v4, remarks) = self.choose_v4()?;
        let v6 = self
            .given(self.config, FamilyName::V6)
            .cloned()
            .unwrap_or_else(|| self.toolset(FamilyName::V6, v4.mode).cloned().map_err(Clone::clone));
        // Looked at for IPv4 above.
        let v6 = v6.and_then(|tools| self.usable(&tools).map(|()| tools));
        Ok(Choice { v4, v6, remarks })
    }

    fn choose_v4(&self) -> Result<(Toolset, Vec<Note>), Error> {
        let none = |problem: String| Error::Unsupported {
            what: format!("the iptables engine on this host ({problem})"),
            remedy: "install iptables, name its programs (--iptables-executables), or take another engine".into(),
        };
        if let Some(given) = self.given(self.config, FamilyName::V4) {
            let tools = given.clone().map_err(none)?;
            self.check(&tools)?.map_err(none)?;
            return Ok((tools, Vec::new()));
        }
        let [nft, legacy] = IptablesMode::ALL.map(|mode| self.toolset(FamilyName::V4, mode));
        let (first, conflict) = match (nft, legacy) {
            (_, Ok(legacy)) if !self.has_rules(legacy) => (IptablesMode::Nft, false),
            (Ok(nft), Ok(legacy)) if self.has_rules(nft) => match (self.has_docker(nft), self.has_docker(legacy)) {
                (false, true) => (IptablesMode::Legacy, false),
                (in_nft, in_legacy) => (IptablesMode::Nft, in_nft == in_legacy),
            },
            (_, Ok(_)) => (IptablesMode::Legacy, false),
            (_, Err(_)) => (IptablesMode::Nft, false),
        };
        let mut problems = Vec::new();
        for mode in [first, first.other()] {
            match self.toolset(FamilyName::V4, mode) {
                Err(missing) => problems.push(missing.clone()),
                Ok(tools) => match self.check(tools)? {
                    Err(problem) => problems.push(problem),
                    Ok(()) => {
                        let mut remarks = Vec::new();
                        if conflict && problems.is_empty() {
                            remarks.push(Note::warning("iptables", messages::BOTH_MODES));
                        }
                        return Ok((tools.clone(), remarks));
                    }
                },
            }
        }
        Err(none(problems.join("; ")))
    }

    /// What the chosen programs can do, of what the configuration needs.
    pub(super) fn abilities(&self) -> Result<HostAbilities, Error> {
        let choice = match self.chosen() {
            Ok(choice) => choice,
            // A plan is for a capable host unless the real one was seen to be another.
            Err(error) if self.config.dry_run => {
                let mut assumed = HostAbilities { v6_only_with_address: true, ..HostAbilities::default() };
                let text = format!("the rules are for a host that has all that they need: {error}");
                assumed.remarks.push(Note::info("iptables", text));
                return Ok(assumed);
            }
            Err(error) => return Err(error),
        };
        let mut abilities =
            HostAbilities { remarks: choice.remarks.clone(), v6_only_with_address: true, ..HostAbilities::default() };
        abilities.v4 = self.abilities_of(&choice.v4);
        match &choice.v6 {
            Ok(tools) => abilities.v6 = self.abilities_of(tools),
            Err(_) if self.config.dry_run => {}
            Err(problem) => {
                let remedy = "install ip6tables, or name its programs (--iptables-executables)";
                abilities.v6_refused = Some((problem.clone(), remedy.into()));
            }
        }
        Ok(abilities)
    }

    /// All rules of a family and mode. `None` for legacy programs where the kernel has no legacy
    /// table in use: merely looking would make one.
    pub(super) fn look<F: Family>(&self, tools: &Toolset) -> Result<Option<Saved<F>>, Error> {
        Ok(self.look_whole(tools)?.map(|looked| looked.saved))
    }

    /// The same for programs that are going to change rules. Where the kernel does not say which legacy tables are in use, each
    /// table of an installation is asked for, which makes it if it is not there.
    pub(super) fn look_to_change<F: Family>(&self, tools: &Toolset) -> Result<Option<Saved<F>>, Error> {
        if !tools.is_hidden() {
            return self.look(tools);
        }
        let mut saved = Saved { tables: Vec::new() };
        for table in TableName::OURS {
            let output = self.runner.run(&tools.save, &["-t", table.as_str()], "", SAVE_LIMIT)?;
            if !output.no_table() {
                saved.tables.extend(read::<F>(tools, &output)?.tables);
            }
        }
        Ok(Some(saved))
    }

    /// The same as [`look`](Self::look), and what is hidden from the programs.
    pub(super) fn look_whole<F: Family>(&self, tools: &Toolset) -> Result<Option<Looked<F>>, Error> {
        if tools.mode == IptablesMode::Legacy {
            match LegacyTables::of(tools.family) {
                LegacyTables::Known(names) if names.is_empty() => return Ok(None),
                LegacyTables::Known(_) => {}
                LegacyTables::Unknown => return Err(tools.hidden()),
            }
        }
        let output = self.runner.run::<&str>(&tools.save, &[], "", SAVE_LIMIT)?;
        let saved = read(tools, &output)?;
        // "# Table `nat' is incompatible, use 'nft' tool." (iptables/xtables-save.c)
        let table = |line: &str| Some(line.strip_prefix("# Table `")?.split_once('\'')?.0.to_owned());
        Ok(Some(Looked { saved, hidden: output.stdout.lines().filter_map(table).collect() }))
    }
}

/// What a program printed.
fn read<F: Family>(tools: &Toolset, output: &Output) -> Result<Saved<F>, Error> {
    if output.denied() {
        return Err(denied("read the rules", &tools.save, output));
    }
    if !output.success() {
        return Err(output.error());
    }
    iptables_save::parse(&output.stdout).map_err(|error| Error::Program {
        program: tools.save.display().to_string(),
        status: "its output cannot be read".into(),
        message: error.to_string(),
    })
}

pub(super) fn denied(what: &str, program: &Path, output: &Output) -> Error {
    messages::denied(what, program, &output.message())
}
