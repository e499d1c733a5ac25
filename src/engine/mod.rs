//! Engines: what carries a plan out on a host. All stand behind one trait.

use std::fmt;
use std::str::FromStr;

use crate::config::Config;
use crate::error::{Error, InvalidValue};
use crate::facts::Abilities;
use crate::model::{Note, Plan};

/// What carries plans out on a host.
pub trait Engine {
    /// Which engine it is.
    fn name(&self) -> EngineName;

    /// What the host can do with this engine; reads, never changes.
    ///
    /// # Errors
    /// If the engine cannot work on this host at all.
    fn abilities(&self, config: &Config) -> Result<HostAbilities, Error>;

    /// Makes the plan's rules the ones that are in force, replacing an older installation.
    ///
    /// # Errors
    /// Whatever the error, the rules are those from before, unless the error says otherwise.
    fn apply(&self, plan: &Plan) -> Result<Report, Error>;

    /// Removes what any version of ours, or kumactl, has installed, and nothing else.
    ///
    /// # Errors
    /// If something could not be removed.
    fn uninstall(&self) -> Result<Report, Error>;
}

/// The engines by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum EngineName {
    /// The distribution's iptables programs.
    Iptables,
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Iptables => "iptables",
        })
    }
}

impl FromStr for EngineName {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text {
            "iptables" => Ok(Self::Iptables),
            _ => Err(InvalidValue::new(text, "the engine iptables")),
        }
    }
}

/// What an engine can do on a host, as it found it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct HostAbilities {
    /// For IPv4.
    pub v4: Abilities,
    /// For IPv6.
    pub v6: Abilities,
    /// Set if the engine cannot make rules for IPv6 at all: why, and what to do about it.
    pub v6_refused: Option<(String, String)>,
    /// What was noticed while looking, for people.
    pub remarks: Vec<String>,
}

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The engine that did it.
    pub engine: EngineName,
    /// Whether anything is different now.
    pub changed: bool,
    /// The steps, in order, each in the past tense: `added ::6/128 to lo`.
    pub steps: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<Note>,
}

impl Report {
    /// A report of an engine that has done nothing yet.
    pub fn new(engine: EngineName) -> Self {
        Self { engine, changed: false, steps: Vec::new(), notes: Vec::new() }
    }

    /// Adds a step that changed something.
    pub fn step(&mut self, step: impl Into<String>) {
        self.changed = true;
        self.steps.push(step.into());
    }
}
