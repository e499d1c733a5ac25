//! What each command does.

mod config;
mod dataplane;
mod diff;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod explain;
#[cfg(target_os = "linux")]
mod install;
mod reachable;
mod rules;
#[cfg(target_os = "linux")]
mod state;
mod validate;

use clap::{ArgMatches, Command};

pub(crate) use self::config::config;
pub(crate) use self::dataplane::dataplane;
pub(crate) use self::diff::diff;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::{install, status, uninstall};
pub(crate) use self::explain::explain;
#[cfg(target_os = "linux")]
pub(crate) use self::install::{install, uninstall};
pub(crate) use self::reachable::reachable;
pub(crate) use self::rules::{render, translate};
#[cfg(target_os = "linux")]
pub(crate) use self::state::status;
pub(crate) use self::validate::{switches, validate};
use crate::Failure;
use crate::output::{print, print_json, warn};

pub(crate) fn completion(matches: &ArgMatches, mut command: Command) -> Result<(), Failure> {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command, "kumatp", &mut script);
        print(&String::from_utf8_lossy(&script))?;
    }
    Ok(())
}
