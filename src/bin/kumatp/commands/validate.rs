//! Whether documents are right.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use kumatp::Error;
use kumatp::config::{Format, Layers};
use kumatp::error::Problem;
use kumatp::model::{Note, Severity};
use serde::Serialize;

use super::{print, print_json, warn};
use crate::{FAILURE, Failure, USAGE, input, json, output};

/// The switches of every command that validates.
pub(crate) fn switches() -> [Arg; 2] {
    [
        Arg::new("strict").long("strict").action(ArgAction::SetTrue).help("Exit with status 1 if there is a warning"),
        json(),
    ]
}

/// What was found out about one file.
#[derive(Debug, Serialize)]
pub(super) struct Checked {
    file: String,
    valid: bool,
    /// Why it could not be read, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    problems: Vec<Problem>,
    warnings: Vec<Note>,
}

impl Checked {
    /// The outcome of a check. The paths of problems name the file.
    ///
    /// # Errors
    /// Those that are not about the file.
    pub(super) fn new(file: &str, outcome: Result<Vec<Note>, Failure>) -> Result<Self, Failure> {
        let mut checked = Self { file: file.to_owned(), valid: false, error: None, problems: vec![], warnings: vec![] };
        match outcome {
            Ok(notes) => {
                checked.valid = true;
                checked.warnings = notes.into_iter().filter(|note| note.severity == Severity::Warning).collect();
            }
            Err(Failure::Library(Error::Config(problems))) => checked.problems = problems,
            Err(Failure::Usage(error)) => checked.error = Some(error),
            Err(other) => return Err(other),
        }
        Ok(checked)
    }
}

pub(crate) fn validate(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let files = matches.get_many::<String>("file").into_iter().flatten();
    conclude(matches, files.map(|file| Checked::new(file, configuration(file))).collect::<Result<_, _>>()?)
}

fn configuration(file: &str) -> Result<Vec<Note>, Failure> {
    let mut layers = Layers::new();
    // Of several documents, messages name the one that they are about.
    layers.document("no file", "", Format::Yaml);
    layers.document(file, &input::read(file)?, Format::Yaml);
    Ok(layers.finish()?.1)
}

/// Tells what was found out about all files.
pub(super) fn conclude(matches: &ArgMatches, files: Vec<Checked>) -> Result<ExitCode, Failure> {
    let valid = files.iter().all(|file| file.valid);
    let warned = files.iter().any(|file| !file.warnings.is_empty());
    if matches.get_flag("json") {
        print_json(&serde_json::json!({ "valid": valid, "files": files }))?;
    } else {
        files.iter().for_each(|file| warn(&file.warnings, false));
        print(
            &files.iter().filter(|file| file.valid).map(|file| format!("{}: valid\n", file.file)).collect::<String>(),
        )?;
        for file in files {
            let problems = file.problems.iter().map(ToString::to_string);
            problems.chain(file.error).for_each(|line| output::say(format_args!("error: {line}")));
        }
    }
    Ok(match (valid, warned && matches.get_flag("strict")) {
        (false, _) => ExitCode::from(USAGE),
        (true, true) => ExitCode::from(FAILURE),
        (true, false) => ExitCode::SUCCESS,
    })
}
