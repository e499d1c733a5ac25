//! What each command does.

mod config;
mod dataplane;
mod diff;
mod explain;
mod install;
mod reachable;
mod rules;
mod state;
mod validate;

use std::path::Path;

use clap::{ArgMatches, Command};
use kumatp::engine::Report;

pub(crate) use self::config::config;
pub(crate) use self::dataplane::dataplane;
pub(crate) use self::diff::diff;
pub(crate) use self::explain::explain;
pub(crate) use self::install::{install, uninstall};
pub(crate) use self::reachable::reachable;
pub(crate) use self::rules::{render, translate};
pub(crate) use self::state::status;
pub(crate) use self::validate::{switches, validate};
use crate::Failure;
use crate::output::{self, print, print_json, warn};

/// Where firewalld keeps its direct rules.
const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

pub(crate) fn completion(matches: &ArgMatches, mut command: Command) -> Result<(), Failure> {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut command, "kumatp", &mut script);
        print(&String::from_utf8_lossy(&script))?;
    }
    Ok(())
}

/// What was done, on standard output.
fn tell<'a>(reports: impl IntoIterator<Item = &'a Report>, steps: bool, summary: &str) -> Result<(), Failure> {
    let mut text = String::new();
    if steps {
        text.extend(reports.into_iter().flat_map(|report| &report.steps).map(|step| format!("{step}\n")));
    }
    output::report(&text, summary)
}

fn direct_xml() -> &'static Path {
    Path::new(DIRECT_XML)
}
