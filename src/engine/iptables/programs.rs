//! The programs of a host, as far as they have been looked at in one operation.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use super::locate::{self, Modes, Search, Toolset};
use super::program::{Output, Runner};
use crate::engine::turn::Turn;
use crate::model::{IptablesMode, Note, Options};
use crate::net::FamilyName;

/// How long an operation may take in all, retries included.
const LIMIT: Duration = Duration::from_secs(300);

/// The programs of iptables, in one operation: what is known of them, so that none is run twice for one fact.
#[derive(Debug)]
pub(in crate::engine) struct Programs {
    pub(super) runner: Runner,
    pub(super) answers: RefCell<Answers>,
    pub(super) chosen: OnceCell<Choice>,
    search: Search,
    modes: Modes,
    given: [OnceCell<Option<Result<Toolset, String>>>; 2],
    toolsets: [OnceCell<Result<Toolset, String>>; 4],
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

/// What programs have answered.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) calls: HashMap<Vec<String>, Rc<Output>>,
    pub(super) rules: HashMap<(FamilyName, IptablesMode, bool), Rules>,
}

/// What there is in the tables that matter.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rules {
    pub(super) any: bool,
    pub(super) docker_output: bool,
}

impl Programs {
    pub(super) fn new(search: &Search) -> Self {
        Self {
            runner: Runner::new(search.joined(), LIMIT),
            answers: RefCell::default(),
            chosen: OnceCell::new(),
            search: search.clone(),
            modes: Modes::default(),
            given: Default::default(),
            toolsets: Default::default(),
        }
    }

    /// The same in this turn.
    pub(in crate::engine) fn in_turn(mut self, turn: &Turn) -> Self {
        self.runner = self.runner.in_turn(turn);
        self
    }

    /// Those that the configuration names for a family.
    pub(super) fn given(&self, config: &Options, family: FamilyName) -> Option<&Result<Toolset, String>> {
        let executables = &config.iptables_executables;
        let (executables, known) = match family {
            FamilyName::V4 => (&executables.v4, &self.given[0]),
            FamilyName::V6 => (&executables.v6, &self.given[1]),
        };
        known.get_or_init(|| locate::given(&self.runner, &self.modes, family, executables)).as_ref()
    }

    /// Those that are found.
    pub(super) fn toolset(&self, family: FamilyName, mode: IptablesMode) -> Result<&Toolset, &String> {
        let index = usize::from(family == FamilyName::V6) * 2 + usize::from(mode == IptablesMode::Legacy);
        self.toolsets[index].get_or_init(|| self.search.toolset(&self.runner, &self.modes, family, mode)).as_ref()
    }
}
