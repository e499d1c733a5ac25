//! Dataplanes as they are given: templates, variables, and whether they are right.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::ArgMatches;
use kumatp::Error;
use kumatp::config::dataplane::{Dataplane, compare, fill};
use kumatp::config::{Format, Layers, variables};
use kumatp::error::InvalidValue;
use kumatp::model::Note;

use super::validate::{Checked, conclude};
use super::warn;
use crate::pod::profile_of;
use crate::{Failure, input};

type Parsed = Result<(Dataplane, Vec<Note>), Error>;

/// A Dataplane that was read, and what there is to say about it.
pub(super) struct Read {
    pub(super) dataplane: Dataplane,
    pub(super) notes: Vec<Note>,
}

impl Read {
    /// Reads a file and fills its placeholders.
    pub(super) fn file(matches: &ArgMatches, path: &str) -> Result<Self, Failure> {
        Self::filled(path, &values(matches)?, |text| Dataplane::parse(text, Format::Yaml))
    }

    fn filled(
        path: &str,
        values: &BTreeMap<String, String>,
        parse: impl FnOnce(&str) -> Parsed,
    ) -> Result<Self, Failure> {
        let text = input::read(path)?;
        let read = fill(&text, values).and_then(|text| parse(&text));
        let (dataplane, notes) = read.map_err(|error| match error {
            // A wrong value is nothing of the file's.
            Error::Config(problems) => Error::Config(
                problems
                    .into_iter()
                    .map(|problem| if problem.path.starts_with("variable ") { problem } else { problem.within(path) })
                    .collect(),
            ),
            other => other,
        })?;
        Ok(Self { dataplane, notes: notes.into_iter().map(|note| note.within(path)).collect() })
    }
}

/// The file that a command is about.
pub(super) fn file(matches: &ArgMatches) -> &str {
    // It is required, so there is one.
    matches.get_one::<String>("file").map_or("-", String::as_str)
}

/// What `--var` and `--var-file` say.
fn values(matches: &ArgMatches) -> Result<BTreeMap<String, String>, Failure> {
    let mut values = BTreeMap::new();
    for path in matches.get_many::<String>("var-file").into_iter().flatten() {
        values.extend(variables(&input::read(path)?).map_err(|error| error.within(path))?);
    }
    for text in matches.get_many::<String>("var").into_iter().flatten() {
        let (name, value) = text.split_once('=').filter(|(name, _)| !name.trim().is_empty()).ok_or_else(|| {
            Failure::Usage(InvalidValue::new(text, "NAME=VALUE, such as address=192.0.2.7").at("--var").to_string())
        })?;
        values.insert(name.trim().to_owned(), value.to_owned());
    }
    Ok(values)
}

pub(crate) fn dataplane(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    match matches.subcommand() {
        Some(("validate", matches)) => validate(matches),
        _ => Err(Failure::Usage("give a command; kumatp dataplane --help lists them".into())),
    }
}

fn validate(matches: &ArgMatches) -> Result<ExitCode, Failure> {
    let values = values(matches)?;
    let profile = profile_of(matches);
    let host = match matches.contains_id("config") {
        false => None,
        true => {
            let mut layers = Layers::new();
            for path in matches.get_many::<String>("config").into_iter().flatten() {
                layers.document(path, &input::read(path)?, Format::Yaml);
            }
            layers.environment(input::environment());
            let (config, notes) = layers.finish()?;
            warn(&notes, false);
            Some(config)
        }
    };
    let files = matches.get_many::<String>("file").into_iter().flatten();
    let check = |path: &String| {
        let parse = |text: &str| Dataplane::validate(text, Format::Yaml, profile);
        let Read { dataplane, mut notes } = Read::filled(path, &values, parse)?;
        let disagreements = host.iter().flat_map(|host| compare(host, &dataplane));
        notes.extend(disagreements.map(|mut note| {
            note.about = format!("{path}: {}", note.about);
            note
        }));
        Ok(notes)
    };
    conclude(matches, files.map(|path| Checked::new(path, check(path))).collect::<Result<_, _>>()?)
}
