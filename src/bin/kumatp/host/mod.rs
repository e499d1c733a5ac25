//! What the command needs of the host: an engine in a network namespace, and facts. Only Linux has the first.

use std::path::PathBuf;

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::model::EngineName;
use kumatp::net::Uid;
use kumatp::{Error, Facts, policy};

use crate::{Failure, input, output};

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::{Earlier, Live, needs_linux, preview};
#[cfg(target_os = "linux")]
pub(crate) use self::linux::{Earlier, Live, preview};

/// What changes the rules, and where.
pub(crate) struct Target {
    pub(crate) engine: EngineName,
    /// Whether the engine was asked for by name.
    pub(crate) asked: bool,
    namespace: Option<PathBuf>,
    /// The file with the facts, if they were given.
    facts: Option<String>,
}

impl Target {
    /// The engine that was asked for by name or by the configuration, or the usual one, in the network namespace that was asked
    /// for, or this one.
    pub(crate) fn for_config(matches: &ArgMatches, config: &Config, usual: EngineName) -> Result<Self, Failure> {
        let target = Self::of(matches, usual)?;
        // Flags have been carried over to the configuration.
        Ok(match config.ebpf.enabled {
            true => Self { engine: EngineName::Ebpf, asked: true, ..target },
            false => target,
        })
    }

    /// The engine that was asked for by name, or the usual one, in the network namespace that was
    /// asked for, or this one.
    pub(crate) fn of(matches: &ArgMatches, usual: EngineName) -> Result<Self, Failure> {
        // Not every command takes an engine.
        let asked = matches.try_get_one::<String>("engine").ok().flatten();
        let asked = asked.map(|name| name.parse()).transpose();
        let asked = asked.map_err(|error| Failure::Usage(format!("--engine: {error}")))?;
        Ok(Self { asked: asked.is_some(), ..Self::with(asked.unwrap_or(usual), matches) })
    }

    /// This engine, in the network namespace that was asked for, or this one.
    pub(crate) fn with(engine: EngineName, matches: &ArgMatches) -> Self {
        let namespace = matches.get_one::<String>("netns").map(PathBuf::from);
        // Not every command takes facts.
        let facts = matches.try_get_one::<String>("facts").ok().flatten().cloned();
        Self { engine, asked: false, namespace, facts }
    }

    /// The facts that a plan for this configuration needs: those that were given, or what is found.
    pub(crate) fn facts(&self, config: &Config) -> Result<Facts, Failure> {
        match self.given_facts()? {
            Some(facts) => Ok(facts),
            None => self.ask(config),
        }
    }

    /// The facts that were given.
    pub(crate) fn given_facts(&self) -> Result<Option<Facts>, Failure> {
        let Some(path) = &self.facts else { return Ok(None) };
        let text = input::read(path)?;
        serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("--facts {path}: {error}")))
    }

    /// The facts where nothing is installed: if no user was named and none of the usual ones exists, the sidecar is taken to run
    /// as uid 5678, and a note says so.
    pub(crate) fn facts_for_a_question(&self, config: &Config) -> Result<Facts, Failure> {
        match self.facts(config) {
            Err(Failure::Library(Error::Facts { fact, problem, .. }))
                if fact == "kumaDPUser" && config.kuma_dp_user.is_none() =>
            {
                let mut config = config.clone();
                config.kuma_dp_user = Some(Uid::SIDECAR.to_string());
                output::say_once(format!(
                    "note: kumaDPUser: {problem}; assuming uid {}; `install` would fail",
                    Uid::SIDECAR
                ));
                self.facts(&config)
            }
            facts => facts,
        }
    }

    /// Whether the facts are not looked for.
    pub(crate) fn facts_are_given(&self) -> bool {
        self.facts.is_some()
    }

    /// The facts for two configurations, which are looked for once if both need the same.
    pub(crate) fn facts_of_both(&self, a: &Config, b: &Config) -> Result<(Facts, Facts), Failure> {
        let first = self.facts_for_a_question(a)?;
        let same = self.facts_are_given()
            || (policy::facts_needed(a) == policy::facts_needed(b) && a.iptables_executables == b.iptables_executables);
        let second = if same { first.clone() } else { self.facts_for_a_question(b)? };
        Ok((first, second))
    }
}
