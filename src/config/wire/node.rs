//! A document as a plain tree, before anything is known about its keys.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::Format;
use crate::room::with_room;

/// A value of a document. Numbers are kept as text, so that a message can quote any of them.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::config) enum Node {
    Null,
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    /// In the order of the document, repeated keys included.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The text of a text or a number. A whole number with a decimal point, `80.0`, is the number without it.
    pub(in crate::config) fn scalar(&self) -> Option<&str> {
        match self {
            Self::Number(text) => Some(text.strip_suffix(".0").unwrap_or(text)),
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is none, or an empty text, list or mapping.
    pub(super) fn says_nothing(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.trim().is_empty(),
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }

    /// The value as a message quotes it; long lists and mappings are cut.
    pub(in crate::config) fn quoted(&self) -> String {
        let mut text = String::new();
        self.quote(&mut text);
        text
    }

    /// The same value as JSON has it.
    pub(in crate::config) fn from_json(value: &serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.to_string()),
            Value::String(text) => Self::Text(text.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from_json).collect()),
            Value::Object(entries) => {
                Self::Map(entries.iter().map(|(key, value)| (key.clone(), Self::from_json(value))).collect())
            }
        }
    }

    /// The value at a path of keys; of a key that comes twice, the first.
    pub(in crate::config) fn at(&self, path: &[&str]) -> Option<&Self> {
        match (path, self) {
            ([], node) => Some(node),
            ([key, rest @ ..], Self::Map(entries)) => entries.iter().find(|(name, _)| name == key)?.1.at(rest),
            _ => None,
        }
    }

    fn quote(&self, text: &mut String) {
        const ENOUGH: usize = 160;
        let separate = |text: &mut String, index| {
            if index > 0 {
                text.push_str(", ");
            }
            text.len() < ENOUGH
        };
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(value) | Self::Text(value) => text.push_str(value),
            Self::List(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    if !separate(text, index) {
                        break;
                    }
                    item.quote(text);
                }
                text.push(']');
            }
            Self::Map(entries) => {
                text.push('{');
                for (index, (key, value)) in entries.iter().enumerate() {
                    if !separate(text, index) {
                        break;
                    }
                    text.push_str(key);
                    text.push_str(": ");
                    value.quote(text);
                }
                text.push('}');
            }
        }
    }
}

/// Why a document cannot be read at all.
#[derive(Debug)]
pub(in crate::config) struct SyntaxError {
    /// Line and column, from 1, where they are known.
    pub(in crate::config) place: Option<(usize, usize)>,
    /// What the parser says.
    pub(in crate::config) message: String,
    /// What was expected, for example `JSON`.
    pub(in crate::config) language: &'static str,
}

/// Reads a document. An empty one is [`Node::Null`].
///
/// Time and memory stay in proportion to the length of the text, whatever it is.
pub(in crate::config) fn parse(text: &str, format: Format) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    with_room(text, || match format {
        Format::Json => json(text),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml(text),
    })
}

/// Reads a text of several documents, as YAML separates them by `---`; those that are empty are left out.
pub(in crate::config) fn parse_all(text: &str, format: Format) -> Result<Vec<Node>, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut nodes = with_room(text, || match format {
        Format::Json => json(text).map(|node| vec![node]),
        #[cfg(feature = "yaml")]
        Format::Yaml => yaml_all(text),
    })?;
    nodes.retain(|node| *node != Node::Null);
    Ok(nodes)
}

fn json(text: &str) -> Result<Node, SyntaxError> {
    if text.trim().is_empty() {
        return Ok(Node::Null);
    }
    let budget = Budget::of(text);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Seed { budget: &budget, merge: false }
        .deserialize(&mut deserializer)
        .and_then(|node| deserializer.end().map(|()| node))
        .map_err(|error| SyntaxError::new("JSON", Some((error.line(), error.column())), error.to_string()))
}

#[cfg(feature = "yaml")]
fn yaml(text: &str) -> Result<Node, SyntaxError> {
    if let Some(result) = json_in_yaml(text) {
        return result;
    }
    bounded(text)?;
    let budget = Budget::of(text);
    Seed { budget: &budget, merge: true }.deserialize(yaml_serde::Deserializer::from_str(text)).map_err(yaml_error)
}

#[cfg(feature = "yaml")]
fn yaml_all(text: &str) -> Result<Vec<Node>, SyntaxError> {
    if let Some(result) = json_in_yaml(text) {
        return result.map(|node| vec![node]);
    }
    bounded(text)?;
    let budget = Budget::of(text);
    yaml_serde::Deserializer::from_str(text)
        .map(|document| Seed { budget: &budget, merge: true }.deserialize(document).map_err(yaml_error))
        .collect()
}

/// What looks like JSON may use escapes that YAML lacks, so it is tried first.
#[cfg(feature = "yaml")]
fn json_in_yaml(text: &str) -> Option<Result<Node, SyntaxError>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    match json(text) {
        Err(error) if too_nested(text) => Some(Err(error)),
        Err(_) => None,
        node => Some(node),
    }
}

#[cfg(feature = "yaml")]
fn bounded(text: &str) -> Result<(), SyntaxError> {
    let refused = |message: &str| Err(SyntaxError::new("YAML", None, message.to_owned()));
    // The time that the parser takes grows with the square of these two, and no configuration comes near.
    if too_nested(text) {
        return refused("more than 10000 '[' and '{' are too many for YAML; write JSON, or lists with one item a line");
    }
    if text.lines().filter(|line| line.starts_with('%')).count() > 100 {
        return refused("more than 100 directives (lines that begin with '%')");
    }
    Ok(())
}

#[cfg(feature = "yaml")]
fn yaml_error(error: yaml_serde::Error) -> SyntaxError {
    let place = error.location().map(|location| (location.line(), location.column()));
    SyntaxError::new("YAML", place, error.to_string())
}

#[cfg(feature = "yaml")]
fn too_nested(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > 10_000
}

impl SyntaxError {
    fn new(language: &'static str, place: Option<(usize, usize)>, message: String) -> Self {
        // The place is reported apart from the message.
        let message = match place {
            Some((line, column)) => message.replacen(&format!(" at line {line} column {column}"), "", 1),
            None => message,
        };
        Self { place, message, language }
    }
}

/// How much a document may grow to. Aliases in YAML can make a short text a huge tree.
struct Budget(Cell<usize>);

impl Budget {
    fn of(text: &str) -> Self {
        Self(Cell::new(text.len().saturating_mul(2).saturating_add(100_000)))
    }

    fn spend<E: serde::de::Error>(&self, text: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(text.saturating_add(1));
        self.0.set(left.ok_or_else(|| E::custom("the aliases make the document too large"))?);
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Budget,
    /// Whether the key `<<` merges another mapping into this one, as in YAML.
    merge: bool,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a plain value without a tag")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        self.budget.spend(0)?;
        Ok(Node::Null)
    }

    // YAML's empty document.
    fn visit_none<E: serde::de::Error>(self) -> Result<Node, E> {
        self.visit_unit()
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Node, E> {
        self.budget.spend(0)?;
        Ok(Node::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Node, E> {
        self.visit_i128(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Node, E> {
        self.visit_u128(value.into())
    }

    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Node, E> {
        self.budget.spend(0)?;
        Ok(Node::Number(value.to_string()))
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Node, E> {
        self.budget.spend(0)?;
        Ok(Node::Number(value.to_string()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node, E> {
        self.budget.spend(0)?;
        // With its decimal point, even where nothing follows it.
        let whole = value.is_finite() && value.fract() == 0.0;
        Ok(Node::Number(if whole { format!("{value}.0") } else { value.to_string() }))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.budget.spend(value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Node, E> {
        self.budget.spend(value.len())?;
        Ok(Node::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        self.budget.spend(0)?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        self.budget.spend(0)?;
        let mut entries = Vec::new();
        let mut merged = Vec::new();
        while let Some(key) = map.next_key_seed(self)? {
            let value = map.next_value_seed(self)?;
            match key {
                Node::Text(key) if self.merge && key == "<<" => merged.push(value),
                Node::List(_) | Node::Map(_) => {
                    return Err(A::Error::custom(format!("a key must be text, not {}", key.quoted())));
                }
                key => entries.push((key.quoted(), value)),
            }
        }
        merge(&mut entries, merged).map_err(A::Error::custom)?;
        Ok(Node::Map(entries))
    }
}

/// Adds what the values of `<<` bring in: keys that are there already stay as they are.
fn merge(entries: &mut Vec<(String, Node)>, values: Vec<Node>) -> Result<(), String> {
    if values.is_empty() {
        return Ok(());
    }
    let mut known: HashSet<String> = entries.iter().map(|(key, _)| key.clone()).collect();
    let sources = values.into_iter().flat_map(|value| match value {
        Node::List(sources) => sources,
        source => vec![source],
    });
    for source in sources {
        let Node::Map(source) = source else {
            return Err(format!("the value of '<<' must be a mapping, not {}", source.quoted()));
        };
        entries.extend(source.into_iter().filter(|(key, _)| known.insert(key.clone())));
    }
    Ok(())
}
