use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::failure::Code;
use super::{Failure, Version};
use crate::error::{InvalidValue, Problem};
use crate::net::InterfaceName;

/// What a runtime asks of a plugin, and with which parameters. `CNI_PATH` is not among them: it is for plugins that
/// call others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    Add(Parameters),
    Check(Parameters),
    Del(Parameters),
    Gc,
    Status,
    Version,
}

/// What the variables say about an attachment of a pod to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) container_id: String,
    pub(super) interface: String,
    /// Unset for a DEL whose namespace is gone already.
    pub(super) netns: Option<PathBuf>,
    /// Whether the namespace may be the plugin's own.
    pub(super) netns_override: bool,
    pub(super) args: BTreeMap<String, String>,
}

impl Command {
    /// Reads the variables whose names begin with `CNI_`; all that is wrong with them is told at once.
    pub(super) fn read(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, Failure> {
        let mut reader = Reader { values: BTreeMap::new(), problems: Vec::new() };
        for (name, value) in variables {
            let Ok(name) = name.into_string() else { continue };
            if !name.starts_with("CNI_") {
                continue;
            }
            match value.into_string() {
                Ok(value) if value.is_empty() => {}
                Ok(value) => drop(reader.values.insert(name, value)),
                Err(value) => reader.refuse(&name, InvalidValue::new(value.to_string_lossy(), "UTF-8 text")),
            }
        }
        let command = reader.command();
        match command {
            Some(command) if reader.problems.is_empty() => Ok(command),
            _ => {
                let mut names: Vec<_> = reader.problems.iter().map(|problem| problem.path.as_str()).collect();
                names.dedup();
                let message = format!("missing or invalid environment variables: {}", names.join(", "));
                Err(Failure::of_problems(Code::Environment, &message, &reader.problems))
            }
        }
    }

    /// The first version of the specification that has the command.
    pub(super) fn since(&self) -> Version {
        match self {
            Self::Add(_) | Self::Del(_) | Self::Version => Version::V0_3_0,
            Self::Check(_) => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }
}

struct Reader {
    values: BTreeMap<String, String>,
    problems: Vec<Problem>,
}

impl Reader {
    fn refuse(&mut self, name: &str, why: InvalidValue) {
        self.problems.push(why.at(name));
    }

    fn command(&mut self) -> Option<Command> {
        let name = self.needed("CNI_COMMAND", |text| Ok(text.to_owned()))?;
        Some(match name.as_str() {
            "ADD" => Command::Add(self.parameters(true)?),
            "CHECK" => Command::Check(self.parameters(true)?),
            // The namespace may be gone.
            "DEL" => Command::Del(self.parameters(false)?),
            "GC" => Command::Gc,
            "STATUS" => Command::Status,
            "VERSION" => Command::Version,
            _ => {
                self.refuse("CNI_COMMAND", InvalidValue::new(name, "ADD, DEL, CHECK, GC, STATUS or VERSION"));
                return None;
            }
        })
    }

    fn optional<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, InvalidValue>) -> Option<T> {
        match parse(self.values.get(name)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(name, why);
                None
            }
        }
    }

    fn needed<T>(&mut self, name: &str, parse: impl FnOnce(&str) -> Result<T, InvalidValue>) -> Option<T> {
        let told = self.values.contains_key(name) || self.problems.iter().any(|problem| problem.path == name);
        if !told {
            let hint = match name {
                "CNI_COMMAND" => "a command: this program is run by a container runtime, not by hand",
                _ => "a value, as the command needs it",
            };
            self.refuse(name, InvalidValue::new("", hint));
        }
        self.optional(name, parse)
    }

    fn parameters(&mut self, netns_needed: bool) -> Option<Parameters> {
        let container_id = self.needed("CNI_CONTAINERID", |text| identifier(text).map(str::to_owned));
        let interface =
            self.needed("CNI_IFNAME", |text| text.parse::<InterfaceName>().map(|name| name.as_str().to_owned()));
        let netns = match netns_needed {
            true => self.needed("CNI_NETNS", path),
            false => self.optional("CNI_NETNS", path),
        };
        let netns_override = self.values.get("CNI_NETNS_OVERRIDE").is_some_and(|text| allows(text));
        let args = match self.values.contains_key("CNI_ARGS") {
            true => self.optional("CNI_ARGS", arguments)?,
            false => BTreeMap::new(),
        };
        Some(Parameters { container_id: container_id?, interface: interface?, netns, netns_override, args })
    }
}

fn allows(text: &str) -> bool {
    text == "1" || text.eq_ignore_ascii_case("true")
}

fn path(text: &str) -> Result<PathBuf, InvalidValue> {
    match text.starts_with('/') && !text.contains('\0') {
        true => Ok(text.into()),
        false => Err(InvalidValue::new(text, "the absolute path of a network namespace")),
    }
}

/// Accepts what the specification allows as identifier of a container and as name of a network. Such a name cannot
/// lead out of a directory.
pub(super) fn identifier(text: &str) -> Result<&str, InvalidValue> {
    let right = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    match text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(right) {
        true => Ok(text),
        false => Err(InvalidValue::new(text, "letters, digits, '_', '.' and '-', a letter or digit first")),
    }
}

/// Reads `KEY=VALUE;KEY=VALUE`.
fn arguments(text: &str) -> Result<BTreeMap<String, String>, InvalidValue> {
    let mut map = BTreeMap::new();
    for item in text.split(';').filter(|item| !item.is_empty()) {
        let (key, value) = item
            .split_once('=')
            .filter(|(key, _)| !key.is_empty())
            .ok_or_else(|| InvalidValue::new(item, "KEY=VALUE pairs, separated by semicolons"))?;
        if map.insert(key.to_owned(), value.to_owned()).is_some_and(|earlier| earlier != value) {
            return Err(InvalidValue::new(item, format!("one value of {key}")));
        }
    }
    Ok(map)
}
