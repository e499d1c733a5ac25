//! What a workload reaches.

use std::fmt::Write as _;
use std::path::Path;

use clap::ArgMatches;
use kumatp::Error;
use kumatp::config::dataplane::reachability::{Choice, Reachability, Reached, Resources, Rule};
use kumatp::config::{Config, Format, Layers};
use kumatp::error::InvalidValue;

use super::dataplane::Read;
use super::{print, print_json, warn};
use crate::{Failure, input, pod};

pub(crate) fn reachable(matches: &ArgMatches) -> Result<(), Failure> {
    let path = matches.get_one::<String>("dataplane").map_or("-", String::as_str);
    let Read { dataplane, notes } = Read::file(matches, path)?;
    let mut resources = Resources::new();
    for path in matches.get_many::<String>("resources").into_iter().flatten() {
        for file in files(path)? {
            resources.document(&file, &input::read(&file)?, Format::Yaml);
        }
    }
    let (destinations, more) = resources.finish()?;
    let profile = pod::profile_of(matches);
    let reachability = match flag(matches)? {
        Some(config) => Reachability::by_flag(&dataplane, &destinations, profile, &config),
        None => Reachability::of(&dataplane, &destinations, profile),
    };
    for notes in [&notes, &more, reachability.notes()] {
        warn(notes, true);
    }

    let Some(name) = matches.get_one::<String>("explain") else {
        return match matches.get_flag("json") {
            true => print_json(&reachability),
            false => print(&describe(&reachability)),
        };
    };
    let explanations = reachability.explain(name);
    if explanations.is_empty() {
        let expected =
            "the name of a MeshService, MeshExternalService, MeshMultiZoneService or service in the resources";
        return Err(Failure::Usage(InvalidValue::new(name, expected).at("--explain").to_string()));
    }
    match matches.get_flag("json") {
        true => print_json(&explanations),
        false => print(&explanations.iter().map(|one| format!("{one}\n")).collect::<String>()),
    }
}

/// What kuma-dp says of its transparent proxy by its flags, if it does.
fn flag(matches: &ArgMatches) -> Result<Option<Config>, Failure> {
    let mut layers = Layers::new();
    let mut files = matches.get_many::<String>("transparent-proxy-config").into_iter().flatten().peekable();
    if files.peek().is_none() {
        return Ok(matches.get_flag("transparent-proxy").then(Config::default));
    }
    for path in files {
        layers.document(path, &input::read(path)?, Format::Yaml);
    }
    let (config, notes) = layers.finish()?;
    warn(&notes, false);
    Ok(Some(config))
}

/// The file itself, or the files of a directory in the order of their names.
fn files(path: &str) -> Result<Vec<String>, Failure> {
    if !Path::new(path).is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |error: &std::io::Error| Failure::Usage(Error::io(format!("read '{path}'"), error).to_string());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| wrong(&error))? {
        let file = entry.map_err(|error| wrong(&error))?.path();
        let is_resource = file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end == *known));
        if is_resource && file.is_file() {
            files.push(file.display().to_string());
        }
    }
    if files.is_empty() {
        return Err(Failure::Usage(format!("--resources: '{path}' has no file that ends in .yaml, .yml or .json")));
    }
    files.sort();
    Ok(files)
}

fn describe(reachability: &Reachability<'_>) -> String {
    let mut text = format!("Backends: {}\n", reachability.backend_rule());
    let before = text.len();
    lines(&mut text, "  ", reachability.backends());
    let mut choices = reachability.choices().peekable();
    if text.len() == before {
        text.push_str(if choices.peek().is_none() { "  none\n" } else { "  none for certain\n" });
    }
    choices.for_each(|choice| chance(&mut text, &choice));
    let services: Vec<_> = reachability.services().collect();
    // Who has none and says nothing of them has no use for the heading.
    if services.is_empty() && reachability.service_rule() != Rule::ReachableServices {
        return text;
    }
    let _ = writeln!(text, "Services: {}", reachability.service_rule());
    for service in &services {
        let _ = writeln!(text, "  {}", service.escape_debug());
    }
    if services.is_empty() {
        text.push_str("  none\n");
    }
    text
}

/// What Kuma might choose for a reference.
fn chance(text: &mut String, choice: &Choice<'_>) {
    // Writing to a text cannot fail.
    let _ = writeln!(text, "By chance, for {} ({}):", choice.path, choice.reference);
    let lists = match choice.one_of.len() {
        0 | 1 => [("", &[][..]), ("Kuma might choose any of these, or none", &choice.perhaps[..])],
        _ => [
            ("Kuma might choose any one of these, but no other", &choice.one_of[..]),
            ("and besides it any of these, or none", &choice.perhaps[..]),
        ],
    };
    for (heading, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        let _ = writeln!(text, "  {heading}:");
        lines(text, "    ", list.iter().take(Choice::LISTED).cloned());
        if let Some(more @ 1..) = list.len().checked_sub(Choice::LISTED) {
            let _ = writeln!(text, "    and {more} more");
        }
    }
}

/// A line for each backend, with its ports.
fn lines<'a>(text: &mut String, indent: &str, list: impl Iterator<Item = Reached<'a>>) {
    for reached in list {
        let ports: Vec<_> = reached.ports.iter().map(ToString::to_string).collect();
        let _ = write!(text, "{indent}{} {}", reached.backend.kind, reached.backend.name.escape_debug());
        if let Some(namespace) = reached.backend.namespace() {
            let _ = write!(text, " in {}", namespace.escape_debug());
        }
        let _ = writeln!(text, ": {}", ports.join(", "));
    }
}
