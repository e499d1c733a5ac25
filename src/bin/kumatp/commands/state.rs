//! What is installed.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::ebpf::Programs;
use kumatp::engine::{State, Status, engine_there, state_with};
use kumatp::model::EngineName;
use kumatp::{Facts, policy};

use super::{print, print_json, warn};
use crate::host::Target;
use crate::{Failure, configuration, flags};

/// The exit status where something else is installed than should be.
const DRIFTED: u8 = 3;
/// The exit status where nothing is installed.
const ABSENT: u8 = 4;
/// The exit status where something is installed and there was nothing to compare it with.
const UNCOMPARED: u8 = 5;

pub(crate) fn status(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let mut target = Target::with(EngineName::Netlink, matches);
    let (config, notes) = configuration::config(matches)?;
    warn(&notes, config.verbose);
    let found = match flags::configure(matches) {
        false => state_with(&config.options(), None, target.namespace()?.as_ref())?,
        true => {
            // What is there is compared with what its own engine would make of the configuration.
            let there = engine_there(&config.options(), target.namespace()?.as_ref())?;
            target = Target::for_config(matches, &config, there.unwrap_or(EngineName::Netlink))?;
            let mut found = compared(&target, &config)?;
            if config.ebpf.enabled {
                must_be_by_ebpf(&mut found);
            }
            found
        }
    };
    match matches.get_flag("json") {
        true => print_json(&found)?,
        false => {
            // What is not known belongs to the answer. What to do before going back to kumactl is no news each time.
            let (back, others): (Vec<_>, Vec<_>) =
                found.notes.iter().cloned().partition(|note| note.about == "kumactl");
            warn(&others, true);
            warn(&back, config.verbose);
            print(&describe(&found, flags::configure(matches)))?;
        }
    }
    Ok(match found.status {
        Status::Absent => ExitCode::from(ABSENT),
        Status::Drifted { .. } => ExitCode::from(DRIFTED),
        Status::Uncompared { .. } => ExitCode::from(UNCOMPARED),
        _ => ExitCode::SUCCESS,
    })
}

/// Compares what is there with what an installation would make of the configuration on a capable host. Where that is something else,
/// with what it makes of it on this host.
fn compared(target: &Target, config: &Config) -> Result<State, Failure> {
    let namespace = target.namespace()?;
    let compare = |facts: &Facts| -> Result<_, Failure> {
        let plan = policy::plan(config, facts)?;
        Ok((state_with(&config.options(), Some(&plan), namespace.as_ref())?, plan.notes))
    };
    let done = match target.given_facts()? {
        Some(facts) => compare(&facts),
        None => {
            let engine = target.engine()?;
            let presumed = engine.presumed(&config.options())?;
            let first = compare(&target.look(config, presumed.clone())?);
            let is_same = |(state, _): &(State, _)| matches!(state.status, Status::Current | Status::Absent);
            match first {
                Ok(found) if is_same(&found) => Ok(found),
                first => match engine.abilities(&config.options())? {
                    found if found == presumed => first,
                    found => compare(&target.look(config, found)?),
                },
            }
        }
    };
    let (state, notes) = done?;
    warn(&notes, config.verbose);
    Ok(state)
}

/// Rules are no programs, however much they are alike in what they do.
fn must_be_by_ebpf(state: &mut State) {
    if let [only] = &mut state.installations[..] {
        if only.engine != EngineName::Ebpf {
            let difference = format!("ebpf.enabled: installed by {} instead of ebpf", only.name());
            only.status = Status::Drifted { differences: vec![difference] };
            state.status = only.status.clone();
        }
    }
}

fn describe(state: &State, configured: bool) -> String {
    match &state.status {
        Status::Uncompared { reason } if state.installations.is_empty() => return format!("unknown: {reason}\n"),
        _ if state.installations.is_empty() => return "absent: no transparent proxy is installed\n".into(),
        _ => {}
    }
    let mut text = String::new();
    for installation in &state.installations {
        let families: Vec<_> = installation.families.iter().map(ToString::to_string).collect();
        let families = if families.is_empty() { String::new() } else { format!(" for {}", families.join(" and ")) };
        let what = format!("installed by {}{families}", installation.name());
        // Writing to a text cannot fail.
        let _ = match &installation.status {
            Status::Drifted { differences } => writeln!(text, "drifted: {what}")
                .and_then(|()| differences.iter().try_for_each(|one| writeln!(text, "  {one}"))),
            Status::Uncompared { .. } if installation.engine == EngineName::Iptables && !configured => {
                writeln!(text, "installed: {what}; not compared: give the configuration (--config)")
            }
            Status::Uncompared { reason } => writeln!(text, "installed: {what}; not compared: {reason}"),
            _ => writeln!(text, "current: {what}"),
        };
        if let Some(programs) = &installation.programs {
            describe_programs(programs, &mut text);
        }
    }
    let compared = state.installations.iter().any(|one| !matches!(one.status, Status::Uncompared { .. }));
    if let (Status::Uncompared { reason }, true) = (&state.status, compared) {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "unknown: {reason}");
    }
    if state.installations.len() > 1 {
        text.push_str("drifted: several engines have rules; install again, or uninstall\n");
    }
    text
}

/// The programs, what they are attached to, and what they have counted.
fn describe_programs(programs: &Programs, text: &mut String) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "  generation {} in {}", programs.generation, programs.dir.display());
    for one in &programs.attached {
        let _ = writeln!(text, "  {}: program {}, link {}, at {}", one.hook, one.program, one.link, one.target);
    }
    for (name, count) in &programs.counters {
        let _ = writeln!(text, "  {}: {count}", name.replace('_', " "));
    }
}
