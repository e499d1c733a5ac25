//! What each command does.

mod config;
mod dataplane;
mod diff;
mod explain;
mod install;
mod reachable;
mod rules;
mod state;

use std::io::Write as _;
use std::path::Path;

use clap::{ArgMatches, Command};
use kumatp::config::{Format, Layers};
use kumatp::engine::Report;
use kumatp::model::{Note, Severity};

pub(crate) use self::config::config;
pub(crate) use self::dataplane::dataplane;
pub(crate) use self::diff::diff;
pub(crate) use self::explain::explain;
pub(crate) use self::install::{install, uninstall};
pub(crate) use self::reachable::reachable;
pub(crate) use self::rules::{render, translate};
pub(crate) use self::state::status;
use crate::{Failure, input};

/// Where firewalld keeps its direct rules.
const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

pub(crate) fn validate(matches: &ArgMatches) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for path in matches.get_many::<String>("file").into_iter().flatten() {
        let mut layers = Layers::new();
        layers.document(path, &input::read(path)?, Format::Yaml);
        match layers.finish() {
            Ok((_, notes)) => {
                warn(&notes, false);
                print(&format!("{path}: valid\n"))?;
            }
            Err(error) => wrong.extend(error.to_string().lines().map(|line| format!("{path}: {line}"))),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Usage(wrong.join("\n"))),
    }
}

pub(crate) fn completion(matches: &ArgMatches, mut command: Command) -> Result<(), Failure> {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        clap_complete::generate(*shell, &mut command, "kumatp", &mut std::io::stdout());
    }
    Ok(())
}

/// Warnings always, other notes if asked for, on standard error.
pub(crate) fn warn(notes: &[Note], verbose: bool) {
    for note in notes {
        match note.severity {
            Severity::Warning => eprintln!("warning: {note}"),
            Severity::Info if verbose => eprintln!("note: {note}"),
            Severity::Info => {}
        }
    }
}

/// What was done, on standard output.
fn tell<'a>(reports: impl IntoIterator<Item = &'a Report>, steps: bool, summary: &str) -> Result<(), Failure> {
    let mut text = String::new();
    if steps {
        text.extend(reports.into_iter().flat_map(|report| &report.steps).map(|step| format!("{step}\n")));
    }
    text.push_str(summary);
    text.push('\n');
    print(&text)
}

fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{json}\n"))
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Other(format!("cannot write to standard output: {error}"))),
    }
}

fn direct_xml() -> &'static Path {
    Path::new(DIRECT_XML)
}
