//! What the command needs of the host: facts, and who it runs as.

use kumatp::config::Config;
use kumatp::engine::Engine;
use kumatp::{Error, Facts, facts, policy};

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
