//! Whether documents are right.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches};
use kumatp::Error;
use kumatp::config::{Format, KumaDifference, KumaProgram, Layers};
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
    /// What else should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<Note>,
}

impl Checked {
    /// The outcome of a check. The paths of problems name the file.
    ///
    /// # Errors
    /// Those that are not about the file.
    pub(super) fn new(file: &str, outcome: Result<Vec<Note>, Failure>) -> Result<Self, Failure> {
        let mut checked = Self {
            file: file.to_owned(),
            valid: false,
            error: None,
            problems: vec![],
            warnings: vec![],
            notes: vec![],
        };
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

/// The switch that asks for what Kuma's own programs take.
pub(crate) fn for_kuma() -> Arg {
    Arg::new("for").long("for").value_name("PROGRAM").value_parser(["kuma", "kuma-dp", "kumactl"])
}

pub(crate) fn validate(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let files = matches.get_many::<String>("file").into_iter().flatten();
    let program = matches.get_one::<String>("for").map(String::as_str);
    conclude(matches, files.map(|file| configuration(file, program)).collect::<Result<_, _>>()?)
}

fn configuration(file: &str, program: Option<&str>) -> Result<Checked, Failure> {
    let text = match input::read(file) {
        Ok(text) => text,
        Err(failure) => return Checked::new(file, Err(failure)),
    };
    let mut layers = Layers::new();
    // Of several documents, messages name the one that they are about.
    layers.document("no file", "", Format::Yaml);
    layers.document(file, &text, Format::Yaml);
    let mut checked = Checked::new(file, layers.finish().map(|(_, notes)| notes).map_err(Failure::from))?;
    // What is not valid for kumatp has been told, whatever it is for others.
    for mut difference in KumaDifference::find(&text, Format::Yaml).unwrap_or_default() {
        difference.path = format!("{file}: {}", difference.path);
        checked.for_kuma(&difference, program);
    }
    Ok(checked)
}

impl Checked {
    /// Takes in how Kuma's programs read a setting: it decides for who asks about them, and is a remark for all others.
    fn for_kuma(&mut self, difference: &KumaDifference, program: Option<&str>) {
        let runs_beside = difference.concerns(KumaProgram::KumaDp);
        let note = |severity| {
            let (path, text) = (difference.path.clone(), difference.to_string());
            let text = text.strip_prefix(&format!("{path}: ")).unwrap_or(&text).to_owned();
            match severity {
                Severity::Warning => Note::warning(path, text),
                Severity::Info => Note::info(path, text),
            }
        };
        match program {
            None if difference.refused || runs_beside => self.notes.push(note(Severity::Info)),
            None => {}
            Some("kuma-dp") if !runs_beside => {}
            Some("kumactl") if !difference.concerns(KumaProgram::Kumactl) => {}
            Some(_) if difference.refused => {
                self.valid = false;
                self.problems.push(difference.to_problem());
            }
            Some(_) => self.warnings.push(note(Severity::Warning)),
        }
    }
}

/// Tells what was found out about all files.
pub(super) fn conclude(matches: &ArgMatches, files: Vec<Checked>) -> Result<ExitCode, Failure> {
    let valid = files.iter().all(|file| file.valid);
    let warned = files.iter().any(|file| !file.warnings.is_empty());
    if matches.get_flag("json") {
        print_json(&serde_json::json!({ "valid": valid, "files": files }))?;
    } else {
        files.iter().for_each(|file| {
            warn(&file.warnings, false);
            warn(&file.notes, true);
        });
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
