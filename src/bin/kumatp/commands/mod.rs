//! What each command does.

mod config;
mod dataplane;
#[cfg(target_os = "linux")]
mod demo;
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
#[cfg(target_os = "linux")]
pub(crate) use self::demo::demo;
pub(crate) use self::diff::diff;
#[cfg(not(target_os = "linux"))]
pub(crate) use self::elsewhere::{demo, install, status, uninstall};
pub(crate) use self::explain::explain;
#[cfg(target_os = "linux")]
pub(crate) use self::install::{install, uninstall};
pub(crate) use self::reachable::reachable;
pub(crate) use self::rules::{render, translate};
#[cfg(target_os = "linux")]
pub(crate) use self::state::status;
pub(crate) use self::validate::{for_kuma, switches, validate};
use crate::output::{print, print_json, warn};
use crate::{Failure, completion};

pub(crate) fn completion(matches: &ArgMatches, command: Command) -> Result<(), Failure> {
    matches.get_one::<clap_complete::Shell>("shell").map_or(Ok(()), |shell| print(&completion::script(*shell, command)))
}
