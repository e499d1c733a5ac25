//! What Kuma's control plane can decode: a document against the fields of its API definition.

use std::collections::BTreeMap;

use super::super::reader::{Reader, join};
use super::values;
use crate::config::Profile;
use crate::config::wire::{Node, nearest, visible};
use crate::model::Note;

/// The fields that a mapping can have.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) fields: &'static [Field],
}

/// A field of a mapping.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) name: &'static str,
    /// The other name that the decoder knows it by, where the API definition has it in snake case.
    pub(super) snake: Option<&'static str>,
    pub(super) kind: Kind,
    /// Whether it is a list of these.
    pub(super) list: bool,
    /// The only profile that has it, if not every one does.
    pub(super) only: Option<Profile>,
    /// What takes its place where it is gone, as the end of a sentence.
    pub(super) instead: &'static str,
}

/// What a field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// A whole number of 32 bits, in quotes or not.
    Number,
    Bool,
    Duration,
    Time,
    /// The names of values, by their numbers.
    Enum(&'static [&'static str]),
    Message(&'static Message),
    /// A mapping of texts to texts.
    Texts,
    /// Whatever it is, nothing of it is looked at.
    Any,
    /// It is decoded by whoever asks for it.
    Raw,
}

/// What was decoded. A value that has the wrong type was reported, and no rule asks about it again.
#[derive(Debug)]
pub(super) enum Value {
    Text(String),
    Number(u32),
    Enum(i32),
    Nanoseconds(i64),
    Message(Decoded),
    Texts(BTreeMap<String, String>),
    List(Vec<Value>),
    Raw(Node),
    /// Read, and of no further interest.
    Other,
    Wrong,
}

/// A mapping that was decoded, and where it is.
#[derive(Debug, Default)]
pub(super) struct Decoded {
    path: String,
    fields: Vec<(&'static str, Value)>,
}

impl Decoded {
    fn get(&self, name: &str) -> Option<&Value> {
        self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path of a field.
    pub(super) fn at(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Whether the field is there, right or wrong.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// A text, which is empty if it is absent; none if it has the wrong type.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.get(name) {
            None => Some(""),
            Some(Value::Text(text)) => Some(text),
            Some(_) => None,
        }
    }

    /// A number, which is 0 if it is absent; none if it has the wrong type.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        match self.get(name) {
            None => Some(0),
            Some(Value::Number(number)) => Some(*number),
            Some(_) => None,
        }
    }

    /// The number of an enumeration's value, which is 0 if it is absent; none if it has the wrong type.
    pub(super) fn choice(&self, name: &str) -> Option<i32> {
        match self.get(name) {
            None => Some(0),
            Some(Value::Enum(number)) => Some(*number),
            Some(_) => None,
        }
    }

    /// A duration that is there and has the right type.
    pub(super) fn nanoseconds(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            Value::Nanoseconds(nanoseconds) => Some(*nanoseconds),
            _ => None,
        }
    }

    /// A mapping that is there and has the right type.
    pub(super) fn message(&self, name: &str) -> Option<&Self> {
        match self.get(name)? {
            Value::Message(message) => Some(message),
            _ => None,
        }
    }

    /// A value that is there and not decoded.
    pub(super) fn raw(&self, name: &str) -> Option<&Node> {
        match self.get(name)? {
            Value::Raw(node) => Some(node),
            _ => None,
        }
    }

    /// A mapping of texts, which is empty if it is absent; none if something of it has the wrong type.
    pub(super) fn texts(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        match self.get(name) {
            None => Some(&NONE),
            Some(Value::Texts(texts)) => Some(texts),
            Some(_) => None,
        }
    }

    /// Whether a list is absent, or has no items.
    pub(super) fn is_empty(&self, name: &str) -> bool {
        match self.get(name) {
            None => true,
            Some(Value::List(items)) => items.is_empty(),
            Some(_) => false,
        }
    }

    /// The items of a list, those that have the wrong type included.
    pub(super) fn items(&self, name: &str) -> &[Value] {
        match self.get(name) {
            Some(Value::List(items)) => items,
            _ => &[],
        }
    }

    /// The items of a list of mappings, with their positions, but for those that have the wrong type.
    pub(super) fn messages(&self, name: &str) -> impl Iterator<Item = (usize, &Self)> {
        self.items(name).iter().enumerate().filter_map(|(index, item)| match item {
            Value::Message(message) => Some((index, message)),
            _ => None,
        })
    }
}

/// Reads documents as a generation of Kuma does, and remembers what it would refuse or drop.
#[derive(Debug)]
pub(super) struct Decoder<'r> {
    pub(super) reader: &'r mut Reader,
    pub(super) profile: Profile,
}

impl Decoder<'_> {
    fn wrong(&mut self, path: &str, node: &Node, expected: &str) -> Value {
        self.reader.refuse(path, &node.quoted(), expected);
        Value::Wrong
    }

    fn warn(&mut self, path: &str, text: String) {
        self.reader.note(Note::warning(visible(path), text));
    }

    /// A mapping. Null is one without fields, as in a list.
    pub(super) fn message(&mut self, path: &str, node: &Node, of: &'static Message) -> Option<Decoded> {
        let mut decoded = Decoded { path: path.to_owned(), fields: Vec::new() };
        let entries = match node {
            Node::Null => return Some(decoded),
            Node::Map(entries) => entries,
            other => {
                let names = self.known(of);
                let keys =
                    if names.is_empty() { String::new() } else { format!(" with keys such as {}", names.join(", ")) };
                self.wrong(path, other, &format!("a mapping{keys}"));
                return None;
            }
        };
        for (key, node) in entries {
            let at = join(path, key);
            let mut named = of.fields.iter().filter(|field| field.name == key || field.snake == Some(key));
            // A field may be there twice, once for each generation.
            let Some(field) = named.clone().find(|field| self.has(field)).or_else(|| named.next()) else {
                let hint = self.reader.meant(key, self.known(of));
                self.warn(&at, format!("is unknown, and Kuma drops it{hint}"));
                continue;
            };
            if !self.has(field) {
                let instead = if field.instead.is_empty() { String::new() } else { format!("; {}", field.instead) };
                if !says_nothing(node) {
                    self.warn(&at, format!("has no effect in the profile {}, which drops it{instead}", self.profile));
                }
                continue;
            }
            if decoded.get(field.name).is_some() {
                self.wrong(&at, node, "the key only once");
                continue;
            }
            if *node != Node::Null {
                let value = self.field(&at, node, field);
                decoded.fields.push((field.name, value));
            }
        }
        Some(decoded)
    }

    /// Whether this generation has the field.
    fn has(&self, field: &Field) -> bool {
        field.only.is_none_or(|only| only == self.profile)
    }

    /// The names that this generation knows.
    fn known(&self, of: &'static Message) -> Vec<&'static str> {
        of.fields.iter().filter(|field| self.has(field)).map(|field| field.name).collect()
    }

    fn field(&mut self, path: &str, node: &Node, field: &Field) -> Value {
        if !field.list {
            return self.value(path, node, field.kind);
        }
        match node {
            Node::List(items) => {
                let item = |(index, item)| self.value(&format!("{path}[{index}]"), item, field.kind);
                Value::List(items.iter().enumerate().map(item).collect())
            }
            other => self.wrong(path, other, "a list"),
        }
    }

    fn value(&mut self, path: &str, node: &Node, kind: Kind) -> Value {
        match (kind, node) {
            (Kind::Any, _) | (Kind::Bool, Node::Bool(_)) => Value::Other,
            (Kind::Raw, _) => Value::Raw(node.clone()),
            (Kind::Text, Node::Null) => {
                self.warn(path, "null is read as an empty text".to_owned());
                Value::Text(String::new())
            }
            (Kind::Text, Node::Text(text)) => Value::Text(text.clone()),
            (Kind::Text, Node::Number(_) | Node::Bool(_)) => self.wrong(path, node, "a text; put it in quotes"),
            (Kind::Text, _) => self.wrong(path, node, "a text"),
            (Kind::Number, _) => match values::number(node) {
                Some(number) => Value::Number(number),
                None => self.wrong(path, node, &format!("a whole number from 0 to {}", u32::MAX)),
            },
            (Kind::Bool, _) => self.wrong(path, node, "true or false, without quotes"),
            (Kind::Duration, Node::Text(text)) => match values::nanoseconds(text) {
                Some(nanoseconds) => Value::Nanoseconds(nanoseconds),
                None => self.wrong(path, node, DURATION),
            },
            (Kind::Duration, _) => self.wrong(path, node, DURATION),
            (Kind::Time, Node::Text(text)) if values::is_time(text) => Value::Other,
            (Kind::Time, _) => self.wrong(path, node, "a time such as 2026-01-31T12:00:00Z"),
            (Kind::Enum(names), _) => self.choice(path, node, names),
            (Kind::Message(message), _) => self.message(path, node, message).map_or(Value::Wrong, Value::Message),
            (Kind::Texts, _) => self.texts(path, node),
        }
    }

    fn choice(&mut self, path: &str, node: &Node, names: &[&'static str]) -> Value {
        let expected = |text: &str| {
            let near = nearest(text, names.iter().copied());
            let hint = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            let one_of = if names.len() > 1 { "one of " } else { "" };
            format!("{one_of}{}{hint}", names.join(", "))
        };
        match node {
            Node::Text(text) => match (0_i32..).zip(names).find(|(_, name)| *name == text) {
                Some((number, _)) => Value::Enum(number),
                None => self.wrong(path, node, &expected(text)),
            },
            Node::Number(text) => match text.parse::<i32>() {
                Ok(number) => {
                    if !usize::try_from(number).is_ok_and(|index| index < names.len()) {
                        let text =
                            format!("{number} stands for none of {}; Kuma accepts it all the same", names.join(", "));
                        self.warn(path, text);
                    }
                    Value::Enum(number)
                }
                Err(_) => self.wrong(path, node, &expected("")),
            },
            _ => self.wrong(path, node, &expected("")),
        }
    }

    fn texts(&mut self, path: &str, node: &Node) -> Value {
        let Node::Map(entries) = node else {
            return self.wrong(path, node, "a mapping of texts to texts");
        };
        let mut texts = BTreeMap::new();
        let mut right = true;
        for (key, node) in entries {
            let at = key_path(path, key);
            match self.value(&at, node, Kind::Text) {
                Value::Text(text) if texts.contains_key(key) => {
                    self.reader.refuse(&at, &text, "the key only once");
                    right = false;
                }
                Value::Text(text) => {
                    texts.insert(key.clone(), text);
                }
                _ => right = false,
            }
        }
        if right { Value::Texts(texts) } else { Value::Wrong }
    }
}

/// Whether nothing is lost with the value.
fn says_nothing(node: &Node) -> bool {
    match node {
        Node::Null => true,
        Node::List(items) => items.is_empty(),
        Node::Map(entries) => entries.is_empty(),
        _ => false,
    }
}

const DURATION: &str = "a duration in quotes, such as \"5s\" or \"500ms\"";

/// The path of a key that is no field, as Kuma writes it: `labels["kuma.io/mesh"]`.
pub(super) fn key_path(path: &str, key: &str) -> String {
    format!("{path}[\"{key}\"]")
}
