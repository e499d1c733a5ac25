//! The configuration of a command: from files or a pod, environment and flags.

use std::path::Path;

use clap::ArgMatches;
use kumatp::config::kubernetes::Origin;
use kumatp::config::{Config, Format, Layered, Layers};
use kumatp::error::InvalidValue;
use kumatp::model::Note;
use kumatp::{Error, policy};

use crate::{Failure, flags, input, pod};

/// The configuration from files or a pod, environment and flags, and what to say about it.
pub(crate) fn config(matches: &ArgMatches) -> Result<(Config, Vec<Note>), Failure> {
    input::no_other_words(matches)?;
    layered(matches, None)
}

/// The same where words stand for something else, with another file above those of `--config`.
pub(crate) fn layered(matches: &ArgMatches, above: Option<&str>) -> Result<(Config, Vec<Note>), Failure> {
    let Traced { config, notes, .. } = traced(matches, above)?;
    Ok((config, notes))
}

/// A configuration, and where it came from.
pub(crate) struct Traced {
    pub(crate) config: Config,
    /// What to say about it.
    pub(crate) notes: Vec<Note>,
    /// Of the keys that have the value that the pod has.
    pub(crate) origins: Vec<Origin>,
}

/// The same as [`layered`], with the origins of what is the pod's.
pub(crate) fn traced(matches: &ArgMatches, above: Option<&str>) -> Result<Traced, Failure> {
    let mut layers = Layers::new();
    if above.is_some() {
        // Of several documents, messages name the one that they are about.
        layers.document("no file", "", Format::Yaml);
    }
    let pod = pod::given(matches)?;
    if let Some(resolved) = &pod {
        layers.base(resolved.config.clone());
    }
    for value in flags::config_files(matches) {
        for path in split(value) {
            layers.document(path, &input::read(path)?, Format::Yaml);
        }
    }
    if let Some(path) = above {
        layers.document(path, &input::read(path)?, Format::Yaml);
    }
    layers.environment(input::environment());
    flags::apply(matches, &mut layers).map_err(Failure::Usage)?;
    let Layered { mut config, mut notes, set, .. } = layers.apply()?;
    let mut origins = Vec::new();
    if let Some(resolved) = pod {
        // The users of the pod are not those of this host or container.
        config.cni_mode = true;
        name_servers_are_known(matches, &config)?;
        notes.splice(0..0, resolved.notes);
        origins = resolved.origins;
        origins.retain(|origin| !set.contains_key(origin.key));
    }
    Ok(Traced { config, notes, origins })
}

/// What the environment and flags say of the engines themselves, where nothing is installed.
pub(crate) fn of_engines(matches: &ArgMatches) -> Result<Config, Failure> {
    let mut layers = Layers::new();
    layers.environment(input::environment());
    flags::apply_places(matches, &mut layers).map_err(Failure::Usage)?;
    Ok(layers.finish()?.0)
}

/// Refuses to take the name servers of the host for those of a pod.
fn name_servers_are_known(matches: &ArgMatches, config: &Config) -> Result<(), Error> {
    const VARIABLE: &str = "KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_RESOLV_CONFIG_PATH";
    let given = |flag: &str| matches.try_contains_id(flag).unwrap_or_default();
    let resolv_conf = policy::facts_needed(config).resolv_conf;
    let Some(path) = resolv_conf.filter(|path| *path == Config::default().redirect.dns.resolv_conf) else {
        return Ok(());
    };
    if !given("netns") || given("facts") || input::environment().any(|(name, _)| name == VARIABLE) {
        return Ok(());
    }
    let expected = format!(
        "the path of the pod's own resolv.conf, since this one is the host's: set {VARIABLE}, or redirect all queries by \
         redirect.dns.captureAll"
    );
    Err(InvalidValue::new(path.display().to_string(), expected).at("redirect.dns.resolvConfigPath").into())
}

/// kumactl's help speaks of a comma-separated list of files; that is what is meant unless a file
/// has that very name.
fn split(value: &str) -> Vec<&str> {
    match value.contains(',') && !Path::new(value).exists() {
        true => value.split(',').map(str::trim).filter(|path| !path.is_empty()).collect(),
        false => vec![value],
    }
}
