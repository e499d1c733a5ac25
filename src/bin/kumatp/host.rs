//! What the command needs of the host: an engine, facts, and who it runs as.

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, EngineName};
use kumatp::{Error, Facts, facts, policy};

use crate::Failure;

/// The engine that was asked for by name, if any.
pub(crate) fn asked(matches: &ArgMatches) -> Result<Option<EngineName>, Failure> {
    let name = matches.get_one::<String>("engine").map(|name| name.parse()).transpose();
    name.map_err(|error| Failure::Usage(format!("--engine: {error}")))
}

pub(crate) fn engine(name: EngineName) -> Result<Box<dyn Engine>, Failure> {
    match name {
        EngineName::Iptables => Ok(Box::new(Iptables::default())),
        EngineName::Netlink => Ok(Box::new(Netlink::default())),
        other => Err(Failure::Usage(format!("--engine: {other} cannot be used here"))),
    }
}

/// The facts that a plan for this configuration needs.
pub(crate) fn facts(config: &Config, engine: &dyn Engine) -> Result<Facts, Error> {
    facts::probe(&policy::facts_needed(config), engine.abilities(config)?)
}

/// # Errors
/// If the command does not run as root, which the iptables programs want.
pub(crate) fn must_be_root(action: &str) -> Result<(), Error> {
    match nix::unistd::geteuid().is_root() {
        true => Ok(()),
        false => Err(Error::Permission { action: action.into(), needed: "root".into() }),
    }
}
