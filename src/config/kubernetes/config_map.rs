//! ConfigMaps: the documents that hold configurations on Kubernetes.

use crate::config::Format;
use crate::config::wire::{Node, Reading, parse_node, syntax_problem};
use crate::error::{InvalidValue, Problem};
use crate::model::Note;

/// The key of a ConfigMap that holds the configuration.
const DATA_KEY: &str = "config.yaml";

/// How a document inside another is written.
#[cfg(feature = "yaml")]
pub(super) const EMBEDDED: Format = Format::Yaml;
#[cfg(not(feature = "yaml"))]
pub(super) const EMBEDDED: Format = Format::Json;

/// A ConfigMap that was read.
#[derive(Debug, Default)]
pub(super) struct ConfigMap {
    /// `namespace/name` where it says so, or else what the caller calls it.
    pub(super) label: String,
    /// `metadata.name`.
    pub(super) name: Option<String>,
    pub(super) reading: Reading,
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
}

impl ConfigMap {
    /// Reads a `ConfigMap`, or the configuration that one holds under `config.yaml`. `role` says which one it is.
    pub(super) fn read(role: &str, text: &str, format: Format) -> Self {
        let mut map = Self { label: role.to_owned(), ..Self::default() };
        let node = match parse_node(text, format) {
            Ok(node) => node,
            Err(error) => {
                map.problems.push(syntax_problem(role, text, error));
                return map;
            }
        };
        let is_map = node.at(&["kind"]).is_some() || node.at(&["data"]).is_some();
        if !is_map {
            map.take(text, format);
            return map;
        }
        if let Some(kind) = node.at(&["kind"]).filter(|kind| kind.scalar() != Some("ConfigMap")) {
            map.problems.push(InvalidValue::new(kind.quoted(), "the kind ConfigMap").at(format!("{role}: kind")));
            return map;
        }
        map.name = node.at(&["metadata", "name"]).and_then(Node::scalar).map(str::to_owned);
        if let Some(name) = &map.name {
            map.label = match node.at(&["metadata", "namespace"]).and_then(Node::scalar) {
                Some(namespace) => format!("ConfigMap {namespace}/{name}"),
                None => format!("ConfigMap {name}"),
            };
        }
        match node.at(&["data", DATA_KEY]) {
            Some(Node::Text(text)) if !text.trim().is_empty() => map.take(text, EMBEDDED),
            other => {
                let value = other.map(Node::quoted).unwrap_or_default();
                let error = InvalidValue::new(value, "the configuration as text");
                map.problems.push(error.at(format!("{}: data[{DATA_KEY}]", map.label)));
            }
        }
        map
    }

    fn take(&mut self, text: &str, format: Format) {
        self.reading = Reading::document(&self.label, text, format, &format!("{}: ", self.label));
        let (problems, notes) = self.reading.remarks();
        self.problems.extend(problems);
        self.notes.extend(notes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> ConfigMap {
        ConfigMap::read("the custom ConfigMap", text, Format::Json)
    }

    #[test]
    fn both_forms() {
        let mut whole = read(
            r#"{"kind": "ConfigMap", "metadata": {"name": "tp", "namespace": "web"}, "data": {"config.yaml": "{\"wait\": 7}"}}"#,
        );
        assert_eq!((whole.label.as_str(), whole.name.as_deref()), ("ConfigMap web/tp", Some("tp")));
        assert_eq!(whole.reading.value("wait").unwrap().0, 7);
        assert_eq!(whole.reading.path("wait"), Some("ConfigMap web/tp: wait"));
        assert_eq!(read(r#"{"wait": 7}"#).reading.value("wait").unwrap().0, 7);
    }

    #[test]
    fn problems_say_where() {
        for (text, path) in [
            ("[", "the custom ConfigMap: line 1 column 1"),
            ("[]", "the custom ConfigMap"),
            (r#"{"kind": "Secret"}"#, "the custom ConfigMap: kind"),
            (r#"{"data": {}}"#, "the custom ConfigMap: data[config.yaml]"),
            (r#"{"data": {"config.yaml": "{\"wait\": \"x\"}"}}"#, "the custom ConfigMap: wait"),
            (r#"{"wait": -1}"#, "the custom ConfigMap: wait"),
        ] {
            let map = read(text);
            assert_eq!(map.problems.iter().map(|problem| problem.path.as_str()).collect::<Vec<_>>(), [path], "{text}");
        }
        assert!(read(r#"{"wat": 1}"#).notes[0].text.contains("`wait`"));
    }
}
