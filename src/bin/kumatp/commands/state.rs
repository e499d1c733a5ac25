//! What is installed.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use kumatp::engine::{EngineName, State, Status, state};
use kumatp::policy;

use super::{print, print_json, warn};
use crate::host::Target;
use crate::{Failure, input, pod};

/// The exit status where something else is installed than should be.
const DRIFTED: u8 = 3;
/// The exit status where nothing is installed.
const ABSENT: u8 = 4;
/// The exit status where something is installed and there was nothing to compare it with.
const UNCOMPARED: u8 = 5;

pub(crate) fn status(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let target = Target::with(EngineName::Netlink, matches);
    let compared = matches.contains_id("config") || pod::is_given(matches);
    let plan = match compared {
        false => {
            input::no_other_words(matches)?;
            None
        }
        true => {
            let (config, notes) = input::config(matches)?;
            warn(&notes, config.verbose);
            let plan = policy::plan(&config, &target.facts(&config, &*target.engine()?)?)?;
            warn(&plan.notes, config.verbose);
            Some(plan)
        }
    };
    let found = state(plan.as_ref(), target.namespace()?.as_ref())?;
    match matches.get_flag("json") {
        true => print_json(&found)?,
        false => {
            warn(&found.notes, false);
            print(&describe(&found))?;
        }
    }
    Ok(match found.status {
        Status::Absent => ExitCode::from(ABSENT),
        Status::Drifted { .. } => ExitCode::from(DRIFTED),
        Status::Uncompared { .. } => ExitCode::from(UNCOMPARED),
        _ => ExitCode::SUCCESS,
    })
}

fn describe(state: &State) -> String {
    if state.installations.is_empty() {
        return "absent: no transparent proxy is installed\n".into();
    }
    let mut text = String::new();
    for installation in &state.installations {
        let families: Vec<_> = installation.families.iter().map(ToString::to_string).collect();
        let what = format!("installed by {} for {}", installation.name(), families.join(" and "));
        // Writing to a text cannot fail.
        let _ = match &installation.status {
            Status::Drifted { differences } => writeln!(text, "drifted: {what}")
                .and_then(|()| differences.iter().try_for_each(|one| writeln!(text, "  {one}"))),
            Status::Uncompared { reason } => writeln!(text, "installed: {what}; not compared: {reason}"),
            _ => writeln!(text, "current: {what}"),
        };
    }
    if state.installations.len() > 1 {
        text.push_str("drifted: several engines have rules; install again, or uninstall\n");
    }
    text
}
