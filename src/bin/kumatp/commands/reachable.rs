//! What a workload reaches.

use std::fmt::Write as _;
use std::path::Path;

use clap::ArgMatches;
use kumatp::Error;
use kumatp::config::Format;
use kumatp::config::dataplane::reachability::{Reachability, Resources, Rule};
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
    let reachability = Reachability::of(&dataplane, &destinations, pod::profile_of(matches));
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
    // Writing to a text cannot fail.
    for reached in reachability.backends() {
        let ports: Vec<_> = reached.ports.iter().map(ToString::to_string).collect();
        let _ = write!(text, "  {} {}", reached.backend.kind, reached.backend.name.escape_debug());
        if let Some(namespace) = reached.backend.namespace() {
            let _ = write!(text, " in {}", namespace.escape_debug());
        }
        let _ = writeln!(text, ": {}", ports.join(", "));
    }
    if text.len() == before {
        text.push_str("  none\n");
    }
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
