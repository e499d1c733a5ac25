//! Reading what the user gives: configuration layers, standard input, stray words.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::ArgMatches;
use kumatp::config::{Config, Format, Layers};
use kumatp::error::InvalidValue;
use kumatp::model::Note;
use kumatp::{Error, policy};

use crate::{Failure, files, flags, pod};

/// The configuration from files or a pod, environment and flags, and what to say about it.
pub(crate) fn config(matches: &ArgMatches) -> Result<(Config, Vec<Note>), Failure> {
    no_other_words(matches)?;
    layered(matches, None)
}

/// The same where words stand for something else, with another file above those of `--config`.
pub(crate) fn layered(matches: &ArgMatches, above: Option<&str>) -> Result<(Config, Vec<Note>), Failure> {
    let mut layers = Layers::new();
    if above.is_some() {
        // Of several documents, messages name the one that they are about.
        layers.document("no file", "", Format::Yaml);
    }
    let pod = pod::given(matches)?;
    if let Some(resolved) = &pod {
        layers.document("pod", &resolved.config.to_yaml(), Format::Yaml);
    }
    for value in flags::config_files(matches) {
        for path in split(value) {
            layers.document(path, &read(path)?, Format::Yaml);
        }
    }
    if let Some(path) = above {
        layers.document(path, &read(path)?, Format::Yaml);
    }
    layers.environment(environment());
    flags::apply(matches, &mut layers).map_err(Failure::Usage)?;
    let (mut config, mut notes) = layers.finish()?;
    if let Some(resolved) = pod {
        // The users of the pod are not those of this host or container.
        config.cni_mode = true;
        name_servers_are_known(matches, &config)?;
        notes.splice(0..0, resolved.notes);
    }
    Ok((config, notes))
}

/// What the environment and flags say of the engines themselves, where nothing is installed.
pub(crate) fn of_engines(matches: &ArgMatches) -> Result<Config, Failure> {
    let mut layers = Layers::new();
    layers.environment(environment());
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
    if !given("netns") || given("facts") || environment().any(|(name, _)| name == VARIABLE) {
        return Ok(());
    }
    let expected = format!(
        "the path of the pod's own resolv.conf, since this one is the host's: set {VARIABLE}, or redirect all queries by \
         redirect.dns.captureAll"
    );
    Err(InvalidValue::new(path.display().to_string(), expected).at("redirect.dns.resolvConfigPath").into())
}

/// Names the file in every problem of a document.
pub(crate) fn in_file(path: &str, error: Error) -> Error {
    match error {
        Error::Config(mut problems) => {
            problems.iter_mut().for_each(|problem| problem.path = format!("{path}: {}", problem.path));
            Error::Config(problems)
        }
        other => other,
    }
}

/// Environment variables whose names are text; the values' other bytes are replaced, so that a
/// bad value is refused with its name instead of being passed over.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
}

/// kumactl's help speaks of a comma-separated list of files; that is what is meant unless a file
/// has that very name.
fn split(value: &str) -> Vec<&str> {
    match value.contains(',') && !Path::new(value).exists() {
        true => value.split(',').map(str::trim).filter(|path| !path.is_empty()).collect(),
        false => vec![value],
    }
}

/// Whether standard input has been read.
static STDIN_IS_READ: AtomicBool = AtomicBool::new(false);

/// The text of a file, or of standard input for `-`.
pub(crate) fn read(path: &str) -> Result<String, Failure> {
    let wrong = |problem: &dyn std::fmt::Display| {
        Failure::Usage(format!("{problem}; give a readable text file, or - for standard input"))
    };
    let action = format!("read '{path}'");
    if path == "-" && STDIN_IS_READ.swap(true, Ordering::Relaxed) {
        return Err(Failure::Usage("'-' is given twice, and standard input can be read once: give a file".into()));
    }
    let bytes = match path {
        "-" => files::bounded(std::io::stdin().lock()),
        _ => files::read(Path::new(path)),
    }
    .map_err(|error| wrong(&Error::io(&action, &error)))?;
    String::from_utf8(bytes).map_err(|error| wrong(&format!("cannot {action}: {error}")))
}

/// The words that are no flags. `transparent-proxy`, which kumactl's commands have before all others, is left out.
pub(crate) fn words(matches: &ArgMatches) -> impl Iterator<Item = &str> {
    let mut words = matches.get_many::<String>("words").into_iter().flatten().map(String::as_str).peekable();
    words.next_if(|word| *word == "transparent-proxy");
    words
}

/// Whether the command stands in for kumactl: by the name that it was started under, or by the word that follows kumactl's
/// commands. Scripts then look for kumactl's last line.
pub(crate) fn stands_in_for_kumactl(matches: &ArgMatches) -> bool {
    let program = std::env::args_os().next();
    let by_name = program.as_deref().and_then(|path| Path::new(path).file_name()).is_some_and(|name| name == "kumactl");
    let mut words = matches.get_many::<String>("words").into_iter().flatten();
    by_name || words.any(|word| word == "transparent-proxy")
}

/// Refuses every word that is no flag but `transparent-proxy`.
pub(crate) fn no_other_words(matches: &ArgMatches) -> Result<(), Failure> {
    match words(matches).next() {
        None => Ok(()),
        Some(word) if matches!(word, "true" | "false" | "yes" | "no" | "0" | "1") => Err(Failure::Usage(format!(
            "unexpected argument '{word}': the value of a switch follows an equals sign, as in --redirect-inbound={word}"
        ))),
        Some(word) => Err(Failure::Usage(format!(
            "unexpected argument '{word}': the only positional argument is 'transparent-proxy'"
        ))),
    }
}
