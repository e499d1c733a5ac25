//! What is different between two configurations, or one and what is installed.

use std::process::ExitCode;

use clap::ArgMatches;

use super::{print, print_json};
use crate::source::Source;
use crate::{Failure, input};

/// The exit status where there is a difference.
const DIFFERENT: u8 = 3;

pub(crate) fn diff(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = input::words(matches).collect();
    let [a, b] = words[..] else {
        return Err(Failure::Usage(format!(
            "give two things to compare, each a file with a configuration or the word live: {} given",
            words.len()
        )));
    };
    let (before, after) = Source::two(matches, a, b)?;
    let (before, after) = (before.simulator()?, after.simulator()?);
    let diff = before.diff(&after);
    match matches.get_flag("json") {
        true => print_json(&diff)?,
        false => print(&format!("{diff}\n"))?,
    }
    Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}
