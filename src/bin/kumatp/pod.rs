//! A pod, and what else its configuration comes from.

use clap::{Arg, ArgAction, ArgMatches, Command};
use kumatp::Error;
use kumatp::config::kubernetes::{Resolved, Sources, Variable};
use kumatp::config::{Format, Profile, variables};
use kumatp::error::{InvalidValue, Problem};

use crate::{Failure, input};

const POD: &str = "pod";
const CP_ENV: &str = "cp-env";
const CP_ENV_INHERIT: &str = "cp-env-inherit";
const CONFIG_MAP: &str = "configmap";
const CUSTOM_CONFIG_MAP: &str = "custom-configmap";
const PROFILE: &str = "profile";
const HEADING: &str = "A pod of Kubernetes";

/// Adds `--pod`, by which a pod takes the place of configuration files, and the flags of [`sources`].
pub(crate) fn define(command: Command) -> Command {
    let pod = Arg::new(POD)
        .long(POD)
        .value_name("FILE")
        .help("Use the configuration of this pod, a Pod in YAML or JSON, instead of --config; - is standard input. Environment variables and flags override it")
        .help_heading(HEADING)
        .conflicts_with_all(["config", "config-file"]);
    command.arg(pod).args(sources().map(|arg| arg.requires(POD)))
}

/// The flags for all but the pod.
pub(crate) fn sources() -> impl Iterator<Item = Arg> {
    let file = |name: &'static str, help: &'static str| Arg::new(name).long(name).value_name("FILE").help(help);
    [
        file(
            CP_ENV,
            "Read the control plane's settings from this file of NAME=VALUE lines, as `kubectl set env --list` prints them; - is standard input. Repeatable: later files override earlier ones [default: the control plane's defaults]",
        )
        .action(ArgAction::Append),
        Arg::new(CP_ENV_INHERIT)
            .long(CP_ENV_INHERIT)
            .action(ArgAction::SetTrue)
            .help("Also read the control plane's settings from kumatp's environment; files override it"),
        file(CONFIG_MAP, "The ConfigMap of the control plane's namespace, or the configuration in it"),
        file(
            CUSTOM_CONFIG_MAP,
            "The ConfigMap that the pod names by traffic.kuma.io/transparent-proxy-configmap-name, or the configuration in it",
        ),
        profile(),
    ]
    .map(|arg| arg.help_heading(HEADING))
    .into_iter()
}

/// The flag for the generation of Kuma.
pub(crate) fn profile() -> Arg {
    Arg::new(PROFILE)
        .long(PROFILE)
        .value_name("GENERATION")
        .value_parser(["kuma-3", "kuma-2.9"])
        .help("The Kuma generation of the annotations and resources [default: kuma-3]")
}

pub(crate) fn profile_of(matches: &ArgMatches) -> Profile {
    matches.get_one::<String>(PROFILE).and_then(|name| name.parse().ok()).unwrap_or_default()
}

/// Whether a pod was given; not every command takes one.
pub(crate) fn is_given(matches: &ArgMatches) -> bool {
    path(matches).is_some()
}

fn path(matches: &ArgMatches) -> Option<&str> {
    matches.try_get_one::<String>(POD).ok().flatten().map(String::as_str)
}

/// What comes of the pod that was given, whose network is to be set up.
pub(crate) fn given(matches: &ArgMatches) -> Result<Option<Resolved>, Failure> {
    let Some(path) = path(matches) else { return Ok(None) };
    let sources = read(path)?;
    // What else is wrong with it is told together with the rest.
    if sources.valid_pod().is_some_and(|pod| pod.host_network) {
        let expected = "a pod with a network of its own; the rules would redirect the traffic of its host";
        let problem = InvalidValue::new("true", expected).at(format!("{path}: spec.hostNetwork"));
        return Err(Error::from(problem).into());
    }
    resolve(matches, path, sources).map(Some)
}

/// The pod of a file.
pub(crate) fn read(path: &str) -> Result<Sources, Failure> {
    let mut sources = Sources::new();
    sources.pod_document(&input::read(path)?, Format::Yaml);
    Ok(sources)
}

/// What comes of a pod, which is in the file of this path, and the other sources.
pub(crate) fn resolve(matches: &ArgMatches, path: &str, mut sources: Sources) -> Result<Resolved, Failure> {
    sources.profile(profile_of(matches));
    let files = Files {
        pod: path,
        system: matches.get_one::<String>(CONFIG_MAP).map(String::as_str),
        custom: matches.get_one::<String>(CUSTOM_CONFIG_MAP).map(String::as_str),
        settings: settings(matches)?,
    };
    sources.control_plane(files.settings.iter().map(|(_, name, value)| (name.clone(), value.clone())));
    if let Some(path) = files.system {
        sources.config_map(&input::read(path)?, Format::Yaml);
    }
    if let Some(path) = files.custom {
        sources.custom_config_map(&input::read(path)?, Format::Yaml);
    }
    sources.resolve().map_err(|error| files.blame(error).into())
}

/// The control plane's settings, each with where it is from.
fn settings(matches: &ArgMatches) -> Result<Vec<(String, String, String)>, Failure> {
    let mut settings = Vec::new();
    if matches.get_flag(CP_ENV_INHERIT) {
        let of_the_control_plane = |(name, _): &(String, String)| {
            name.starts_with("KUMA_RUNTIME_KUBERNETES_") || Variable::find(name).is_some()
        };
        let inherited = input::environment().filter(of_the_control_plane);
        settings.extend(inherited.map(|(name, value)| ("the environment".to_owned(), name, value)));
    }
    for path in matches.get_many::<String>(CP_ENV).into_iter().flatten() {
        let found = variables(&input::read(path)?).map_err(|error| error.within(path))?;
        settings.extend(found.into_iter().map(|(name, value)| (path.clone(), name, value)));
    }
    Ok(settings)
}

/// Which file is which.
struct Files<'a> {
    pod: &'a str,
    system: Option<&'a str>,
    custom: Option<&'a str>,
    settings: Vec<(String, String, String)>,
}

impl Files<'_> {
    /// Names the file in every problem.
    fn blame(&self, error: Error) -> Error {
        let Error::Config(problems) = error else { return error };
        let named = |problem: Problem| match self.of(&problem.path) {
            Some(file) => problem.within(file),
            None => problem,
        };
        Error::Config(problems.into_iter().map(named).collect())
    }

    /// The file of a path; none if it cannot be told.
    fn of(&self, path: &str) -> Option<&str> {
        let setting = self.settings.iter().rfind(|(_, name, _)| name == path);
        if let Some((file, ..)) = setting {
            return Some(file);
        }
        match (self.system, self.custom) {
            (file, _) if path.starts_with("system ConfigMap") => file,
            (_, file) if path.starts_with("custom ConfigMap") => file,
            // One that says its own name.
            (Some(_), Some(_)) if path.starts_with("ConfigMap ") => None,
            (system, custom) if path.starts_with("ConfigMap ") => system.or(custom),
            _ => Some(self.pod),
        }
    }
}
