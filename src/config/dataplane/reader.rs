//! Taking a document apart, while remembering all that is wrong with it.

use std::collections::BTreeMap;

use super::check::values;
use crate::config::Format;
use crate::config::wire::{Node, nearest, parse_node, parse_nodes, syntax_problem, visible};
use crate::error::{Error, InvalidValue, Problem};
use crate::model::Note;

/// How many problems, and how many notes, are told one by one.
const ENOUGH: usize = 1_000;

/// What is wrong with a document so far, and what there is to say about it.
#[derive(Debug, Default)]
pub(in crate::config) struct Reader {
    /// What every path begins with from now on, for example the name of a file.
    pub(in crate::config) prefix: String,
    problems: Vec<Problem>,
    more_problems: usize,
    notes: Vec<Note>,
    more_notes: usize,
}

/// The entries of a mapping.
#[derive(Debug)]
pub(in crate::config) struct Fields<'n> {
    path: String,
    entries: Vec<(&'static str, &'n Node)>,
}

impl<'n> Fields<'n> {
    /// The value of a key; none if it is absent or null.
    pub(in crate::config) fn get(&self, key: &str) -> Option<&'n Node> {
        self.entries.iter().find(|(known, _)| *known == key).map(|(_, node)| *node)
    }

    /// The path of a key.
    pub(in crate::config) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// The path of `key` in the mapping at `path`.
pub(in crate::config) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Reader {
    /// The document as a tree.
    pub(in crate::config) fn document(&mut self, name: &str, text: &str, format: Format) -> Option<Node> {
        parse_node(text, format).map_err(|error| self.problem(syntax_problem(name, text, error))).ok()
    }

    /// The documents of a text as trees. Paths in what follows do not begin with `name`.
    pub(in crate::config) fn documents(&mut self, name: &str, text: &str, format: Format) -> Vec<Node> {
        parse_nodes(text, format)
            .map_err(|error| self.problem(syntax_problem(&visible(name), text, error)))
            .unwrap_or_default()
    }

    /// What messages call a path.
    fn place(&self, path: &str) -> String {
        match (self.prefix.strip_suffix(": "), path) {
            (None, "") => "document".to_owned(),
            (Some(document), "") => document.to_owned(),
            (_, path) => format!("{}{path}", self.prefix),
        }
    }

    /// Reads what is inside something: every path begins with it meanwhile.
    pub(in crate::config) fn inside<T>(&mut self, path: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.prefix.len();
        if !path.is_empty() {
            self.prefix.push_str(path);
            self.prefix.push('.');
        }
        let value = read(self);
        self.prefix.truncate(before);
        value
    }

    /// Remembers a problem.
    pub(in crate::config) fn problem(&mut self, mut problem: Problem) {
        problem.path = self.place(&problem.path);
        match self.problems.len() < ENOUGH {
            true => self.problems.push(problem),
            false => self.more_problems += 1,
        }
    }

    /// Remembers that a value is not what it should be.
    pub(in crate::config) fn refuse(&mut self, path: &str, value: &str, expected: &str) {
        self.problem(InvalidValue::new(value, expected.to_owned()).at(visible(path)));
    }

    /// Remembers something worth knowing.
    pub(in crate::config) fn note(&mut self, mut note: Note) {
        note.about = self.place(&note.about);
        match self.notes.len() < ENOUGH {
            true => self.notes.push(note),
            false => self.more_notes += 1,
        }
    }

    /// Whether there was a problem so far.
    pub(in crate::config) fn has_problems(&self) -> bool {
        !self.problems.is_empty()
    }

    /// Which name was probably meant, as the end of a sentence. Where no more notes are told one by one, nobody asks.
    pub(in crate::config) fn meant(&self, key: &str, names: impl IntoIterator<Item = &'static str>) -> String {
        let near = Some(names).filter(|_| self.notes.len() < ENOUGH).and_then(|names| nearest(key, names));
        near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
    }

    /// Adds what another reader found worth knowing, unless this one knows it.
    pub(in crate::config) fn add_notes(&mut self, notes: Vec<Note>) {
        let known = |own: &[Note], note: &Note| own.iter().any(|one| one.about == note.about);
        let new: Vec<_> = notes.into_iter().filter(|note| !known(&self.notes, note)).collect();
        new.into_iter().for_each(|note| self.note(note));
    }

    /// Reads something that only some generations of Kuma have: what is wrong with it is worth knowing, and no problem.
    pub(in crate::config) fn leniently<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.problems.len();
        let value = read(self);
        for problem in self.problems.split_off(before) {
            let text = format!("is passed over, since it is not {}; Kuma 2.9 refuses it", problem.expected);
            self.notes.push(Note::warning(problem.path, text));
        }
        value
    }

    /// What was read, unless there was a problem, and the notes.
    pub(in crate::config) fn finish<T>(mut self, value: Option<T>) -> Result<(T, Vec<Note>), Error> {
        if let (Some(last), more @ 1..) = (self.problems.last_mut(), self.more_problems) {
            last.expected.push_str(&format!(" ({more} more values are not valid)"));
        }
        if self.more_notes > 0 {
            self.notes.push(Note::warning("document", format!("{} more notes like these", self.more_notes)));
        }
        match value {
            Some(value) if self.problems.is_empty() => Ok((value, self.notes)),
            _ => Err(Error::Config(self.problems)),
        }
    }

    /// The entries of a mapping that have one of the names in `known`, which are in camel case; Kuma reads the form in
    /// snake case as well. Entries with other names get a note if `strict`, and are else passed over, as Kuma does.
    pub(in crate::config) fn fields<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: &[&'static str],
        strict: bool,
    ) -> Option<Fields<'n>> {
        let Node::Map(entries) = node else {
            let expected = format!("a mapping with keys such as {}", known.join(", "));
            self.refuse(path, &node.quoted(), &expected);
            return None;
        };
        let mut fields = Fields { path: path.to_owned(), entries: Vec::new() };
        for (key, value) in entries {
            let Some(name) = known.iter().copied().find(|name| name == key || snake(name).as_ref() == Some(key)) else {
                if strict {
                    let hint = self.meant(key, known.iter().copied());
                    self.note(Note::warning(visible(&join(path, key)), format!("is unknown and has no effect{hint}")));
                }
                continue;
            };
            match value {
                _ if fields.get(name).is_some() => self.refuse(&join(path, name), &value.quoted(), "the key only once"),
                Node::Null => {}
                value => fields.entries.push((name, value)),
            }
        }
        Some(fields)
    }

    /// The items of a list.
    pub(in crate::config) fn items<'n>(&mut self, path: &str, node: &'n Node, of: &str) -> &'n [Node] {
        match node {
            Node::List(items) => items,
            other => {
                self.refuse(path, &other.quoted(), &format!("a list of {of}"));
                &[]
            }
        }
    }

    /// A text. Numbers are none: whether `1.10` means that or `1.1` nobody can tell.
    pub(in crate::config) fn text<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n str> {
        match node {
            Node::Text(text) => Some(text),
            Node::Number(_) | Node::Bool(_) => {
                self.refuse(path, &node.quoted(), "a text; put it in quotes");
                None
            }
            other => {
                self.refuse(path, &other.quoted(), "a text");
                None
            }
        }
    }

    /// The text of a key, empty if it is absent.
    pub(in crate::config) fn text_of<'n>(&mut self, fields: &Fields<'n>, key: &str) -> &'n str {
        fields.get(key).and_then(|node| self.text(&fields.path(key), node)).unwrap_or_default()
    }

    /// A text among others. Null is an empty one there, as in Kuma.
    fn item<'n>(&mut self, path: &str, node: &'n Node) -> Option<&'n str> {
        if *node == Node::Null {
            self.note(Note::warning(visible(path), "null is read as an empty text"));
            return Some("");
        }
        self.text(path, node)
    }

    /// A list of texts.
    pub(in crate::config) fn texts(&mut self, path: &str, node: &Node, of: &str) -> Vec<String> {
        let items = self.items(path, node, of).iter().enumerate();
        items.filter_map(|(index, item)| self.item(&format!("{path}[{index}]"), item)).map(str::to_owned).collect()
    }

    /// A mapping of texts to texts.
    pub(in crate::config) fn map(&mut self, path: &str, node: &Node, of: &str) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let Node::Map(entries) = node else {
            self.refuse(path, &node.quoted(), &format!("a mapping of {of} to text"));
            return map;
        };
        for (key, value) in entries {
            let path = format!("{path}[\"{key}\"]");
            if let Some(value) = self.item(&path, value) {
                if map.insert(key.clone(), value.to_owned()).is_some() {
                    self.refuse(&path, value, "the key only once");
                }
            }
        }
        map
    }

    /// A whole number; in quotes it is one as well.
    pub(in crate::config) fn number(&mut self, path: &str, node: &Node, most: u32) -> Option<u32> {
        let number = values::number(node).filter(|number| *number <= most);
        if number.is_none() {
            self.refuse(path, &node.quoted(), &format!("a whole number from 0 to {most}"));
        }
        number
    }

    /// The number of a key, if it is there.
    pub(in crate::config) fn number_of(&mut self, fields: &Fields<'_>, key: &str, most: u32) -> Option<u32> {
        fields.get(key).and_then(|node| self.number(&fields.path(key), node, most))
    }
}

/// `redirectPortInbound` as `redirect_port_inbound`, which is how the field is called in Kuma's API definition. Some
/// fields have no second name.
fn snake(camel: &str) -> Option<String> {
    if ["backendRef", "servicePort"].contains(&camel) {
        return None;
    }
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    Some(snake)
}
