//! What is different between two configurations, or one and what is installed.

use std::process::ExitCode;

use clap::ArgMatches;
use kumatp::simulate::Diff;

use super::{print, print_json};
use crate::host::Earlier;
use crate::source::RulesSource;
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
    let (before, after) = RulesSource::two(matches, a, b)?;
    let earlier = [before.earlier(), after.earlier()].concat();
    let (before, after) = (before.simulator()?, after.simulator()?);
    let diff = before.diff(&after);
    match matches.get_flag("json") {
        true => print_json(&Document { diff: &diff, earlier })?,
        false => print(&format!("{diff}\n"))?,
    }
    Ok(if diff.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENT) })
}

/// The difference, and the nat chains of other programs that come before what is installed.
#[derive(serde::Serialize)]
struct Document<'a, 'r> {
    #[serde(flatten)]
    diff: &'a Diff<'r>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<Earlier>,
}
