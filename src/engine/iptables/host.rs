//! The programs of a host: which there are, which to use, and which rules there are. What they can do, [`questions`](super::questions)
//! finds out.

use std::cell::{OnceCell, RefCell};
use std::path::Path;
use std::time::Duration;

use super::kernel::Kernel;
use super::locate::{self, Modes, Search, Toolset};
use super::program::{Output, Runner};
use super::questions::Answers;
use crate::engine::messages;
use crate::engine::turn::Turn;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::iptables_save::{self, Saved};
use crate::model::{IptablesMode, Note, Options, TableName};
use crate::net::{Family, FamilyName};

/// How long a program may take to print all rules: some hosts have hundreds of thousands.
pub(super) const SAVE_LIMIT: Duration = Duration::from_secs(60);

/// The programs of a host, as far as they have been looked at.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) runner: Runner,
    pub(super) config: &'a Options,
    pub(super) kernel: Kernel,
    pub(super) answers: RefCell<Answers>,
    /// Whether the programs are taken to have what the kernel has: what they do not, they say when they are to use it.
    pub(super) presumes: bool,
    search: &'a Search,
    modes: Modes,
    given: [OnceCell<Option<Result<Toolset, String>>>; 2],
    toolsets: [OnceCell<Result<Toolset, String>>; 4],
}

/// What programs list.
#[derive(Debug)]
pub(super) struct Looked<F: Family> {
    pub(super) saved: Saved<F>,
    /// Tables that they cannot show as they are: others than iptables made what is in them.
    pub(super) hidden: Vec<String>,
}

/// The programs that an installation uses.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) v4: Toolset,
    /// The error says what is missing.
    pub(super) v6: Result<Toolset, String>,
    /// What was noticed while choosing.
    pub(super) remarks: Vec<Note>,
}

impl<'a> Host<'a> {
    pub(super) fn new(search: &'a Search, config: &'a Options, limit: Duration) -> Self {
        Self {
            runner: Runner::new(search.joined(), limit),
            config,
            kernel: Kernel::default(),
            answers: RefCell::default(),
            presumes: true,
            search,
            modes: Modes::default(),
            given: Default::default(),
            toolsets: Default::default(),
        }
    }

    /// The same, which asks the programs of their part as well. A dry run does not.
    pub(super) fn thorough(mut self) -> Self {
        self.presumes = self.config.dry_run;
        self
    }

    /// The same in this turn.
    pub(super) fn in_turn(mut self, turn: &Turn) -> Self {
        self.runner = self.runner.in_turn(turn);
        self
    }

    /// Every set of programs that there is, the given ones in the place of those found.
    pub(super) fn all(&self) -> Vec<Toolset> {
        let mut all = Vec::new();
        for family in FamilyName::ALL {
            let given = self.given(family).and_then(|given| given.as_ref().ok());
            for mode in IptablesMode::ALL {
                match given {
                    Some(given) if given.mode == mode => all.push(given.clone()),
                    _ => all.extend(self.toolset(family, mode).ok().cloned()),
                }
            }
        }
        all
    }

    /// Chooses the programs as kumactl does: the only usable ones; else those of the mode that has
    /// rules; if both have, the one with Docker's chain, and nft if that does not decide either.
    pub(super) fn choose(&self) -> Result<Choice, Error> {
        let (v4, remarks) = self.choose_v4()?;
        let v6 = self
            .given(FamilyName::V6)
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
        if let Some(given) = self.given(FamilyName::V4) {
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
        let choice = match self.choose() {
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
            HostAbilities { remarks: choice.remarks, v6_only_with_address: true, ..HostAbilities::default() };
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

    fn given(&self, family: FamilyName) -> Option<&Result<Toolset, String>> {
        let executables = &self.config.iptables_executables;
        let (executables, known) = match family {
            FamilyName::V4 => (&executables.v4, &self.given[0]),
            FamilyName::V6 => (&executables.v6, &self.given[1]),
        };
        known.get_or_init(|| locate::given(&self.runner, &self.modes, family, executables)).as_ref()
    }

    pub(super) fn toolset(&self, family: FamilyName, mode: IptablesMode) -> Result<&Toolset, &String> {
        let index = usize::from(family == FamilyName::V6) * 2 + usize::from(mode == IptablesMode::Legacy);
        self.toolsets[index].get_or_init(|| self.search.toolset(&self.runner, &self.modes, family, mode)).as_ref()
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

impl Toolset {
    /// Whether the kernel does not say which of the tables of these programs are in use.
    pub(super) fn is_hidden(&self) -> bool {
        self.mode == IptablesMode::Legacy && matches!(LegacyTables::of(self.family), LegacyTables::Unknown)
    }

    /// That it does not.
    pub(super) fn hidden(&self) -> Error {
        Error::Permission {
            action: format!("see which {} tables of iptables-legacy are in use", self.family),
            needed: "root of the first user namespace".to_owned(),
        }
    }
}

pub(super) fn denied(what: &str, program: &Path, output: &Output) -> Error {
    messages::denied(what, program, &output.message())
}

/// The legacy tables that are in use in the network namespace of the calling thread.
pub(super) enum LegacyTables {
    Known(Vec<String>),
    /// Not to be found out.
    Unknown,
}

impl LegacyTables {
    pub(super) fn of(family: FamilyName) -> Self {
        let name = match family {
            FamilyName::V4 => "ip_tables_names",
            FamilyName::V6 => "ip6_tables_names",
        };
        let dir = Path::new("/proc/thread-self/net");
        match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => Self::Known(text.lines().map(str::to_owned).collect()),
            // The module is not loaded.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.join("dev").exists() => {
                Self::Known(Vec::new())
            }
            Err(_) => Self::Unknown,
        }
    }

    pub(super) fn none(&self) -> bool {
        matches!(self, Self::Known(names) if names.is_empty())
    }

    pub(super) fn has(&self, table: &str) -> bool {
        matches!(self, Self::Known(names) if names.iter().any(|name| name == table))
    }
}
