//! What the command needs of the host: an engine in a network namespace, and facts.

use std::path::PathBuf;

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, EngineName};
use kumatp::net::Uid;
use kumatp::netlink::Namespace;
use kumatp::{Error, Facts, facts, policy};

use crate::{Failure, input};

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
    /// The engine that was asked for by name, or the usual one, in the network namespace that was
    /// asked for, or this one.
    pub(crate) fn of(matches: &ArgMatches, usual: EngineName) -> Result<Self, Failure> {
        let asked = matches.get_one::<String>("engine").map(|name| name.parse()).transpose();
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

    pub(crate) fn engine(&self) -> Result<Box<dyn Engine>, Failure> {
        match self.engine {
            EngineName::Iptables => Ok(Box::new(self.iptables()?)),
            EngineName::Ebpf => Ok(Box::new(self.ebpf()?)),
            _ => Ok(Box::new(self.netlink()?)),
        }
    }

    pub(crate) fn netlink(&self) -> Result<Netlink, Error> {
        Ok(match self.namespace()? {
            Some(namespace) => Netlink::in_namespace(namespace),
            None => Netlink::default(),
        })
    }

    pub(crate) fn iptables(&self) -> Result<Iptables, Error> {
        Ok(match self.namespace()? {
            Some(namespace) => Iptables::default().in_namespace(namespace),
            None => Iptables::default(),
        })
    }

    pub(crate) fn ebpf(&self) -> Result<Ebpf, Error> {
        Ok(match self.namespace()? {
            Some(namespace) => Ebpf::default().in_namespace(namespace),
            None => Ebpf::default(),
        })
    }

    /// Whether another namespace was asked for.
    pub(crate) fn elsewhere(&self) -> bool {
        self.namespace.is_some()
    }

    /// The namespace that was asked for.
    pub(crate) fn namespace(&self) -> Result<Option<Namespace>, Error> {
        self.namespace.as_ref().map(Namespace::open).transpose()
    }

    /// The facts that a plan for this configuration needs: those that were given, or what is found.
    pub(crate) fn facts(&self, config: &Config, engine: &dyn Engine) -> Result<Facts, Failure> {
        if let Some(path) = &self.facts {
            let text = input::read(path)?;
            return serde_json::from_str(&text).map_err(|error| Failure::Usage(format!("--facts {path}: {error}")));
        }
        Ok(self.probe(&policy::facts_needed(config), engine.abilities(config)?)?)
    }

    /// The facts for a question, which nothing is installed for: where no user was named and none of the usual ones is there, the
    /// sidecar is taken to be 5678.
    pub(crate) fn facts_for_a_question(&self, config: &Config) -> Result<Facts, Failure> {
        let engine = self.engine()?;
        match self.facts(config, &*engine) {
            Err(Failure::Library(Error::Facts { fact, .. }))
                if fact == "kumaDPUser" && config.kuma_dp_user.is_none() =>
            {
                let mut config = config.clone();
                config.kuma_dp_user = Some(Uid::SIDECAR.to_string());
                self.facts(&config, &*engine)
            }
            facts => facts,
        }
    }

    /// Looks at the host.
    pub(crate) fn probe(&self, request: &facts::Request, abilities: facts::HostAbilities) -> Result<Facts, Error> {
        match self.namespace()? {
            Some(namespace) => facts::probe_in(&namespace, request, abilities),
            None => facts::probe(request, abilities),
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

    /// # Errors
    /// If the programs of iptables are to be run, which want root, and it is not root who runs this.
    pub(crate) fn must_be_allowed(&self, action: &str) -> Result<(), Error> {
        match self.engine == EngineName::Iptables && !nix::unistd::geteuid().is_root() {
            true => Err(Error::Permission { action: action.into(), needed: "root".into() }),
            false => Ok(()),
        }
    }
}
