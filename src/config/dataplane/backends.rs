//! Which backends a workload says it uses: `reachableBackends`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::check::values::{is_label_key, is_subdomain};
use super::reader::{Fields, Reader};
use crate::config::Format;
use crate::config::wire::{Node, one_of};
use crate::error::{Error, InvalidValue, visible};
use crate::model::Note;
use crate::named::named;

/// The backends that a workload may reach: the union of what the references resolve to. An empty list is none at all,
/// which is something else than no `ReachableBackends`: all.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct ReachableBackends {
    /// The references: `refs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub refs: Vec<BackendRef>,
}

/// A reference to one backend by name, or to many by labels: an item of `refs`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackendRef {
    /// The kind of resource: `kind`.
    pub kind: BackendKind,
    /// Which resources of that kind: `name` and `namespace`, or `labels`.
    pub select: BackendSelector,
    /// Which of their ports, by number: `port`. Kuma accepts any number here; 0 is treated as none in `kuma-3`.
    pub port: Option<u32>,
}

/// Which resources of a kind a [`BackendRef`] means.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendSelector {
    /// One, by its name.
    Name {
        /// The name: `name`.
        name: String,
        /// The Kubernetes namespace; if absent, the workload's own: `namespace`.
        namespace: Option<String>,
    },
    /// Those that have all of these labels, of which there is at least one: `labels`.
    Labels(BTreeMap<String, String>),
}

/// The kinds of resources that a [`BackendRef`] can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum BackendKind {
    /// `MeshExternalService`.
    MeshExternalService,
    /// `MeshMultiZoneService`.
    MeshMultiZoneService,
    /// `MeshService`.
    MeshService,
}

named! {
    /// Every kind, in the order in which Kuma lists them.
    BackendKind {
        MeshExternalService = "MeshExternalService",
        MeshMultiZoneService = "MeshMultiZoneService",
        MeshService = "MeshService",
    }
}

impl FromStr for BackendKind {
    type Err = InvalidValue;

    /// The exact name; the refusal of a near miss says which one was probably meant.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        one_of(text, "the kinds ", Self::ALL, Self::as_str)
    }
}

impl Serialize for BackendKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl BackendRef {
    /// A reference to a resource by its name, in the workload's own namespace.
    pub fn named(kind: BackendKind, name: impl Into<String>) -> Self {
        Self { kind, select: BackendSelector::Name { name: name.into(), namespace: None }, port: None }
    }

    /// A reference to the resources that have all of these labels.
    pub fn labelled<K, V>(kind: BackendKind, labels: impl IntoIterator<Item = (K, V)>) -> Self
    where
        K: Into<String>,
        V: Into<String>,
    {
        let labels = labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        Self { kind, select: BackendSelector::Labels(labels), port: None }
    }

    /// The same in this namespace; without effect on a reference by labels.
    #[must_use]
    pub fn in_namespace(mut self, to: impl Into<String>) -> Self {
        if let BackendSelector::Name { namespace, .. } = &mut self.select {
            *namespace = Some(to.into());
        }
        self
    }

    /// The same for this port alone.
    #[must_use]
    pub fn on_port(mut self, port: u32) -> Self {
        self.port = Some(port);
        self
    }
}

impl fmt::Display for BackendRef {
    /// In one line, for messages: `MeshService redis in kuma-demo, port 6379`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match &self.select {
            BackendSelector::Name { name, namespace } => {
                write!(f, " {}", visible(name))?;
                if let Some(namespace) = namespace {
                    write!(f, " in {}", visible(namespace))?;
                }
            }
            BackendSelector::Labels(labels) => {
                f.write_str(" with")?;
                for (key, value) in labels {
                    write!(f, " {}={}", visible(key), visible(value))?;
                }
            }
        }
        if let Some(port) = self.port {
            write!(f, ", port {port}")?;
        }
        Ok(())
    }
}

impl Serialize for BackendRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("kind", &self.kind)?;
        match &self.select {
            BackendSelector::Name { name, namespace } => {
                map.serialize_entry("name", name)?;
                if let Some(namespace) = namespace {
                    map.serialize_entry("namespace", namespace)?;
                }
            }
            BackendSelector::Labels(labels) => map.serialize_entry("labels", labels)?,
        }
        if let Some(port) = self.port {
            map.serialize_entry("port", &port)?;
        }
        map.end()
    }
}

impl ReachableBackends {
    /// These references.
    pub fn new(refs: impl IntoIterator<Item = BackendRef>) -> Self {
        Self { refs: refs.into_iter().collect() }
    }

    /// Reads a document of its own, such as the value of the annotation `kuma.io/reachable-backends`:
    /// a mapping with the list `refs`. An empty document is an empty list, so that nothing is reachable.
    ///
    /// Paths in problems and notes begin at the document: `refs[0].kind`.
    ///
    /// ```
    /// use kumatp::config::Format;
    /// use kumatp::config::dataplane::ReachableBackends;
    ///
    /// let text = r#"{"refs": [{"kind": "MeshMulitZoneService", "name": "a"}, {"kind": "MeshService"}]}"#;
    /// let error = ReachableBackends::parse(text, Format::Json).unwrap_err();
    /// let problems = error.problems();
    /// assert_eq!(problems[0].path, "refs[0].kind");
    /// assert!(problems[0].expected.ends_with("did you mean 'MeshMultiZoneService'?"));
    /// assert_eq!(problems[1].path, "refs[1].name");
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn parse(text: &str, format: Format) -> Result<(Self, Vec<Note>), Error> {
        let mut reader = Reader::default();
        let node = reader.document("document", text, format);
        let backends = node.map(|node| match node {
            Node::Null => Self::default(),
            node => Self::read(&mut reader, "", &node),
        });
        reader.finish(backends)
    }

    /// As JSON, which [`parse`](Self::parse) reads back.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers can be written")
    }

    /// As YAML, which [`parse`](Self::parse) reads back.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> String {
        yaml_serde::to_string(self).expect("texts and numbers can be written")
    }

    pub(super) fn read(reader: &mut Reader, path: &str, node: &Node) -> Self {
        let Some(fields) = reader.fields(path, node, &["refs"], true) else { return Self::default() };
        let path = fields.path("refs");
        let items = fields.get("refs").map(|refs| reader.items(&path, refs, "references")).unwrap_or_default();
        let refs = items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| BackendRef::read(reader, &format!("{path}[{index}]"), item))
            .collect();
        Self { refs }
    }
}

impl BackendRef {
    /// Reads and checks an item. The rules, and the field that each violation is reported at, are those of
    /// `validateTransparentProxying` in Kuma's `pkg/core/resources/apis/mesh/dataplane_validator.go`.
    fn read(reader: &mut Reader, path: &str, node: &Node) -> Option<Self> {
        let fields = reader.fields(path, node, &["kind", "name", "namespace", "port", "labels"], true)?;
        let kind = reader.text_of(&fields, "kind").parse::<BackendKind>();
        let kind = kind.map_err(|error| reader.problem(error.at(fields.path("kind")))).ok();
        let select = Self::select(reader, &fields);
        let port = reader.number_of(&fields, "port", u32::MAX);
        let text = match port {
            Some(0) => Some(
                "0 is no port: Kuma 3 takes it for none, which means all ports, or the first that has no name; in \
                             Kuma 2.9 no port matches"
                    .to_owned(),
            ),
            Some(port @ 65536..) => {
                Some(format!("{port} is no port: in Kuma 3 all ports are reachable instead; in Kuma 2.9 none is"))
            }
            _ => None,
        };
        if let Some(text) = text {
            reader.note(Note::warning(fields.path("port"), text));
        }
        Some(Self { kind: kind?, select: select?, port })
    }

    fn select(reader: &mut Reader, fields: &Fields<'_>) -> Option<BackendSelector> {
        let (name, namespace) = (reader.text_of(fields, "name"), reader.text_of(fields, "namespace"));
        let path = fields.path("labels");
        let labels = fields.get("labels").map(|node| reader.map(&path, node, "labels")).unwrap_or_default();
        if let Some(key) = labels.keys().find(|key| !is_label_key(key)) {
            let text = format!("no resource has the label '{}', so that nothing can match", visible(key));
            reader.note(Note::warning(path.clone(), text));
        }
        if !(namespace.is_empty() || is_subdomain(namespace)) {
            let text = format!("no namespace is called '{}', so that nothing can match", visible(namespace));
            reader.note(Note::warning(fields.path("namespace"), text));
        }
        if !name.is_empty() && !is_subdomain(name) {
            let expected = "a lowercase RFC 1123 subdomain of at most 253 characters: lowercase letters, digits, '-' \
                            and '.', with a letter or digit at both ends of each part";
            reader.refuse(&fields.path("name"), name, expected);
        }
        // Nobody knows what one of the wrong type means, and what is missing beside it.
        let wrong = |key| fields.get(key).is_some_and(|node| !matches!(node, Node::Text(_)));
        let read = |node: &Node| matches!(node, Node::Map(entries) if entries.len() == labels.len());
        if wrong("name") || wrong("namespace") || fields.get("labels").is_some_and(|node| !read(node)) {
            return None;
        }
        if name.is_empty() && namespace.is_empty() && labels.is_empty() {
            reader.refuse(&fields.path("name"), "", "a name, or labels in its place");
            return None;
        }
        if name.is_empty() && !namespace.is_empty() {
            let expected = format!("a name, since the namespace '{}' is given", visible(namespace));
            reader.refuse(&fields.path("name"), "", &expected);
        }
        if !(labels.is_empty() || name.is_empty() && namespace.is_empty()) {
            let given = fields.get("labels").map(Node::quoted).unwrap_or_default();
            reader.refuse(&path, &given, "no labels where a name or namespace is given");
        }
        Some(match labels.is_empty() {
            true => BackendSelector::Name {
                name: name.to_owned(),
                namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
            },
            false => BackendSelector::Labels(labels),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_empty_and_list() {
        for empty in ["", "null", "{}", r#"{"refs": []}"#, r#"{"refs": null}"#] {
            let (backends, notes) = ReachableBackends::parse(empty, Format::Json).unwrap();
            assert_eq!((backends, notes), (ReachableBackends::default(), Vec::new()), "{empty}");
        }
        assert_eq!(ReachableBackends::default().to_json(), "{}");
        assert!(ReachableBackends::parse("[]", Format::Json).is_err());
    }

    #[test]
    fn what_is_written_is_read_back() {
        use BackendKind::*;
        let backends = ReachableBackends::new([
            BackendRef::named(MeshService, "redis").in_namespace("kuma-demo").on_port(6379),
            BackendRef::labelled(MeshMultiZoneService, [("kuma.io/display-name", "test-server")]),
            BackendRef::named(MeshExternalService, "mes-http"),
        ]);
        assert_eq!(ReachableBackends::parse(&backends.to_json(), Format::Json).unwrap().0, backends);
        #[cfg(feature = "yaml")]
        assert_eq!(ReachableBackends::parse(&backends.to_yaml(), Format::Yaml).unwrap().0, backends);
        assert_eq!(backends.refs[0].to_string(), "MeshService redis in kuma-demo, port 6379");
    }

    #[test]
    fn kinds_have_near_misses() {
        let error = "MeshMulitZoneService".parse::<BackendKind>().unwrap_err();
        assert!(error.expected().contains("'MeshMultiZoneService'"), "{error}");
        assert!(!"Something".parse::<BackendKind>().unwrap_err().expected().contains("did you mean"));
        assert!("meshservice".parse::<BackendKind>().unwrap_err().expected().contains("'MeshService'"));
    }

    #[test]
    fn types_are_checked_and_unknown_keys_noted() {
        let text = r#"{"refs": [{"kind": "MeshService", "name": 1, "lables": {}, "port": -1},
            {"kind": "MeshService", "labels": {"a": true}}, 7,
            {"kind": "MeshService", "name": "a", "name": "b", "port": "8080"}]}"#;
        let error = ReachableBackends::parse(text, Format::Json).unwrap_err();
        let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert!(paths.contains(&"refs[0].port") && paths.contains(&"refs[1].labels[\"a\"]"), "{paths:?}");
        assert!(paths.contains(&"refs[2]") && paths.contains(&"refs[3].name"), "{paths:?}");
        let text = r#"{"refs": [{"kind": "MeshService", "name": "a", "prt": 80, "port": 70000}]}"#;
        let (backends, notes) = ReachableBackends::parse(text, Format::Json).unwrap();
        assert_eq!(backends.refs[0].port, Some(70000));
        assert_eq!(notes.len(), 2);
        assert!(notes[0].text.contains("`port`"), "{notes:?}");
    }
}
