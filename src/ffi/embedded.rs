//! Documents inside the documents that callers give.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::status::kumatp_error;
use crate::config::{self, Format, Profile};
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

/// Variables by name: an object, a list of "NAME=value", or text with one of these a line. `what` is where they are: the
/// parameter and, inside it, the member.
pub(super) fn variables(what: (&str, &str), json: &str) -> Result<BTreeMap<String, String>, kumatp_error> {
    let (parameter, member) = what;
    let separator = if member.is_empty() { "" } else { ": " };
    let list = if member.is_empty() { parameter } else { member };
    let wrong = |error: serde_json::Error| kumatp_error::argument(parameter, &format!("{member}{separator}{error}"));
    match json.trim_start().as_bytes().first() {
        Some(b'[') => {
            let items: Vec<String> = serde_json::from_str(json).map_err(wrong)?;
            // Values are as they are given: they may have blanks, quotes and lines.
            let variable = |(index, item): (usize, &String)| {
                let (name, value) = item
                    .split_once('=')
                    .ok_or_else(|| Error::from(InvalidValue::new(item, "NAME=value").at(format!("{list}[{index}]"))))?;
                Ok((name.to_owned(), value.to_owned()))
            };
            items.iter().enumerate().map(variable).collect::<Result<Vec<_>, _>>().map(crate::sorted::map)
        }
        Some(b'"') => {
            let text: String = serde_json::from_str(json).map_err(wrong)?;
            let variables = config::variables(&text).map_err(|error| error.within(list))?;
            Ok(crate::sorted::map(variables))
        }
        _ => serde_json::from_str(json).map_err(wrong),
    }
}

/// The profile of a document, which may leave it out.
pub(super) fn profile(name: Option<&str>) -> Result<Profile, Error> {
    let parse = |name: &str| name.parse().map_err(|error: InvalidValue| error.at("profile").into());
    name.map_or(Ok(Profile::default()), parse)
}
