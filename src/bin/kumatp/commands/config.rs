//! Configurations from pods and Dataplanes, and back.

use std::fmt::Write as _;

use clap::ArgMatches;
use kumatp::Error;
use kumatp::config::Config;
use kumatp::config::dataplane::{TransparentProxying, compare};
use kumatp::config::kubernetes::{Contribution, Origin, SettingSource};
use serde::Serialize;

use super::dataplane::{self, Read};
use super::{print, print_json, warn};
use crate::{Failure, configuration, pod};

pub(crate) fn config(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("print", matches)) => printed(matches),
        Some(("from-pod", matches)) => from_pod(matches),
        Some(("from-dataplane", matches)) => from_dataplane(matches),
        Some(("to-dataplane", matches)) => to_dataplane(matches),
        _ => Err(Failure::Usage("give a command; kumatp config --help lists them".into())),
    }
}

fn printed(matches: &ArgMatches) -> Result<(), Failure> {
    let (config, notes) = configuration::layered(matches, None)?;
    warn(&notes, config.verbose);
    print_config(matches, &config)
}

fn from_pod(matches: &ArgMatches) -> Result<(), Failure> {
    let path = dataplane::file(matches);
    let resolved = pod::resolve(matches, path, pod::read(path)?)?;
    let explain = matches.get_flag("explain");
    warn(&resolved.notes, explain);
    if matches.get_flag("annotation") {
        return print_as(matches, &resolved.annotations());
    }
    if !explain {
        return print_config(matches, &resolved.config);
    }
    match output(matches) {
        None => print(&table(&resolved.origins)),
        Some(_) => print_as(matches, &tree(&resolved.to_json())?),
    }
}

fn from_dataplane(matches: &ArgMatches) -> Result<(), Failure> {
    let path = dataplane::file(matches);
    let Read { dataplane, notes } = Read::file(matches, path)?;
    let in_file = |error: Error| error.within(path);
    let config = dataplane.to_config().map_err(in_file)?;
    warn(&notes, false);
    warn(&compare(&config, &dataplane), false);
    if !matches.get_flag("explain") {
        return print_config(matches, &config);
    }
    let origins = dataplane.origins().map_err(in_file)?;
    match output(matches) {
        None => print(&table(&origins)),
        Some(_) => print_as(matches, &serde_json::json!({ "config": tree(&config.to_json())?, "origins": origins })),
    }
}

fn to_dataplane(matches: &ArgMatches) -> Result<(), Failure> {
    /// The section where a `Dataplane` has it.
    #[derive(Serialize)]
    struct Body {
        networking: Networking,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Networking {
        transparent_proxying: TransparentProxying,
    }
    let (config, notes) = configuration::layered(matches, None)?;
    warn(&notes, config.verbose);
    print_as(matches, &Body { networking: Networking { transparent_proxying: TransparentProxying::of(&config) } })
}

/// The format that was asked for.
fn output(matches: &ArgMatches) -> Option<&str> {
    matches.get_one::<String>("output").map(String::as_str)
}

fn print_config(matches: &ArgMatches, config: &Config) -> Result<(), Failure> {
    let config = match matches.contains_id("for") {
        true => {
            let (config, notes) = config.for_kuma();
            warn(&notes, false);
            config
        }
        false => config.clone(),
    };
    match output(matches) {
        Some("json") => print(&format!("{}\n", config.to_json())),
        _ => print(&config.to_yaml()),
    }
}

fn print_as(matches: &ArgMatches, value: &impl Serialize) -> Result<(), Failure> {
    match output(matches) {
        Some("json") => print_json(value),
        _ => print(&yaml_serde::to_string(value).map_err(|error| Failure::Other(error.to_string()))?),
    }
}

fn tree(json: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::Other(error.to_string()))
}

/// Origins as text: first the settings that a source decides, then the defaults.
fn table(origins: &[Origin]) -> String {
    let mut text = String::new();
    let (decided, defaults): (Vec<_>, Vec<_>) = origins
        .iter()
        .partition(|origin| origin.source.is_set() || !origin.added.is_empty() || !origin.overridden.is_empty());
    // Writing to a text cannot fail.
    for origin in decided {
        let _ = writeln!(text, "{} = {}\n  from {}", origin.key, origin.value, origin.source);
        for (word, others) in [("with", &origin.added), ("not ", &origin.overridden)] {
            for Contribution { source, value, .. } in others {
                let _ = writeln!(text, "  {word} {value} from {source}");
            }
        }
    }
    let (of_the_control_plane, of_kuma): (Vec<_>, Vec<_>) =
        defaults.into_iter().partition(|origin| origin.source != SettingSource::Default);
    for (heading, origins) in [("By default of the control plane:", of_the_control_plane), ("By default:", of_kuma)] {
        if !origins.is_empty() {
            let _ = writeln!(text, "{heading}");
        }
        for origin in origins {
            let _ = writeln!(text, "  {} = {}", origin.key, origin.value);
        }
    }
    text
}
