//! Documents inside the documents that callers give.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error::kumatp_error;
use crate::config::{Format, Profile};
use crate::error::{Error, InvalidValue};

/// Reads the document that the parameter `name` is. `T` says which members it has.
pub(super) fn read<'a, T: Deserialize<'a>>(name: &str, json: &'a str) -> Result<T, kumatp_error> {
    // serde would take a list of the members as well.
    if let Some(other) = json.trim_start().chars().next().filter(|first| *first != '{') {
        let problem =
            format!("expected a JSON object, and was given something that begins with '{}'", other.escape_debug());
        return Err(kumatp_error::argument(name, &problem));
    }
    serde_json::from_str(json).map_err(|error| kumatp_error::argument(name, &error.to_string()))
}

/// A document as a member of another: text, or JSON as it stands. What is neither is refused by whoever reads it.
pub(super) fn document(raw: &RawValue) -> (Cow<'_, str>, Format) {
    let json = raw.get();
    match serde_json::from_str::<String>(json) {
        Ok(text) => (Cow::Owned(text), TEXT),
        Err(_) => (Cow::Borrowed(json), Format::Json),
    }
}

/// How documents are written that are given as text.
#[cfg(feature = "yaml")]
const TEXT: Format = Format::Yaml;
#[cfg(not(feature = "yaml"))]
const TEXT: Format = Format::Json;

/// Variables by name: an object, a list of "NAME=value", or text with one of these a line. `what` is where they are, for
/// messages: the parameter and, inside it, the member.
pub(super) fn variables(
    (parameter, member): (&str, &str),
    json: &str,
) -> Result<BTreeMap<String, String>, kumatp_error> {
    let at = |rest: &str, problem: &str| {
        let separator = if member.is_empty() && rest.is_empty() { "" } else { ": " };
        kumatp_error::argument(parameter, &format!("{member}{rest}{separator}{problem}"))
    };
    let wrong = |error: serde_json::Error| at("", &error.to_string());
    let assignment = |rest: &str, text: &str| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(at(rest, &format!("expected NAME=value, and was given '{}'", text.escape_debug()))),
    };
    match json.trim_start().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<String> = serde_json::from_str(json).map_err(wrong)?;
            items.iter().enumerate().map(|(index, item)| assignment(&format!("[{index}]"), item)).collect()
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(wrong)?;
            let lines = text.lines().enumerate();
            lines
                .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
                .map(|(index, line)| assignment(&format!(" line {}", index + 1), line))
                .collect()
        }
        _ => serde_json::from_str(json).map_err(wrong),
    }
}

/// The profile of a document, which may leave it out.
pub(super) fn profile(name: Option<&str>) -> Result<Profile, Error> {
    let parse = |name: &str| name.parse().map_err(|error: InvalidValue| error.at("profile").into());
    name.map_or(Ok(Profile::default()), parse)
}
