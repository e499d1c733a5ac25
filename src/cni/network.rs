use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::environment::identifier;
use super::failure::{self, Code};
use super::template::Template;
use super::{Failure, Version};
use crate::config::Profile;
use crate::error::{InvalidValue, Problem, visible};
use crate::facts::Resolvers;

/// The capability by which a runtime hands the annotations of a pod to plugins.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// The keys of the network configuration that are the plugin's own, so that misspelt ones are noticed.
const OWN_KEYS: [&str; 5] = ["kubernetes", "podFile", "configMapFile", "systemConfigMapFile", "profile"];

/// The key of `kubernetes` that is read. Kuma's plugin has others there, for its Kubernetes client.
const EXCLUDED: &str = "exclude_namespaces";

/// The part of a network configuration that is for this plugin, as the runtime hands it over on standard input.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Network {
    /// The version of the specification that is spoken: `cniVersion`.
    pub version: Version,
    /// The network: `name`.
    pub name: String,
    /// The result of the plugin before this one, or of the whole chain: `prevResult`.
    pub previous: Option<Map<String, Value>>,
    /// The annotations of the pod, by the capability [`ANNOTATIONS`]; unset if the runtime does not hand them over.
    pub annotations: Option<BTreeMap<String, String>>,
    /// The name servers of the pod: those of the capability `dns`, or of `dns.nameservers` in the plugin's
    /// configuration, or in the previous result; whichever names some first.
    pub resolvers: Option<Resolvers>,
    /// Where the pod is described: `podFile`. Then [`annotations`](Self::annotations) do not count.
    pub pod_file: Option<Template>,
    /// Where the ConfigMaps that pods name are: `configMapFile`.
    pub config_map_file: Option<Template>,
    /// Where the operator's ConfigMap is: `systemConfigMapFile`. Settings that only repeat its own are not refused.
    pub system_config_map_file: Option<Template>,
    /// The generation of Kuma that writes the annotations: `profile`.
    pub profile: Profile,
    /// Namespaces whose pods are left alone: `kubernetes.exclude_namespaces`.
    pub excluded_namespaces: Vec<String>,
    /// Whether the capability [`ANNOTATIONS`] is asked for; unset where the runtime did not pass `capabilities` on,
    /// which it must not for operations on a pod.
    pub asks_for_annotations: Option<bool>,
    /// Attachments that are still there: `cni.dev/valid-attachments`.
    pub valid_attachments: Vec<AttachmentId>,
}

/// What identifies an attachment of a pod to a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct AttachmentId {
    /// The container.
    pub container_id: String,
    /// The interface in it.
    pub interface: String,
}

/// Reads JSON that has to be an object.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, Failure> {
    let refused =
        |details: String| Failure::new(Code::Decoding, "the network configuration is no JSON object", details);
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(refused(format!("it is {}", shortened(&other)))),
        Err(error) => Err(refused(error.to_string())),
    }
}

impl Network {
    /// Reads a network configuration; all that is wrong with it is told at once.
    pub(super) fn read(map: &Map<String, Value>) -> Result<Self, Failure> {
        let version = Version::of(map)?;
        Self::of_version(map, version).map_err(|failure| failure.in_version(version))
    }

    fn of_version(map: &Map<String, Value>, version: Version) -> Result<Self, Failure> {
        misspelt("", map, &OWN_KEYS)?;
        let mut problems = Vec::new();
        let mut whole = Reader { path: String::new(), map, problems: &mut problems };
        let name = whole.name();
        let previous = whole.object("prevResult").cloned();
        let pod_file = whole.template("podFile", &["containerID", "namespace", "name", "uid"]);
        let config_map_file = whole.template("configMapFile", &["namespace", "configMap"]);
        let system_config_map_file = whole.template("systemConfigMapFile", &[]);
        let profile = whole.profile();
        let valid_attachments = whole.attachments();
        let asks_for_annotations =
            whole.object("capabilities").map(|all| all.get(ANNOTATIONS) == Some(&Value::Bool(true)));
        let mut excluded_namespaces = Vec::new();
        if let Some(map) = whole.object("kubernetes") {
            misspelt("kubernetes.", map, &[EXCLUDED])?;
            excluded_namespaces = whole.within("kubernetes", map).texts(EXCLUDED).unwrap_or_default();
        }
        let mut annotations = None;
        let mut servers = None;
        if let Some(map) = whole.object("runtimeConfig") {
            let mut runtime = whole.within("runtimeConfig", map);
            annotations = runtime.annotations();
            if let Some(map) = runtime.object("dns") {
                // Some runtimes write it with a capital letter.
                let key = if map.contains_key("Servers") { "Servers" } else { "servers" };
                servers = runtime.within("dns", map).texts(key);
            }
        }
        let own = whole.object("dns").and_then(|map| whole.within("dns", map).texts("nameservers"));
        let result = previous.as_ref().and_then(|map| {
            let mut previous = whole.within("prevResult", map);
            let dns = previous.object("dns")?;
            previous.within("dns", dns).texts("nameservers")
        });
        let resolvers = [servers, own, result].into_iter().flatten().find(|servers| !servers.is_empty()).map(resolvers);
        if !problems.is_empty() {
            return Err(failure::network(&problems));
        }
        Ok(Self {
            version,
            name,
            previous,
            annotations,
            resolvers,
            pod_file,
            config_map_file,
            system_config_map_file,
            profile,
            excluded_namespaces,
            asks_for_annotations,
            valid_attachments,
        })
    }
}

fn resolvers(texts: Vec<String>) -> Resolvers {
    let mut resolvers = Resolvers::default();
    resolvers.extend(texts.iter().map(String::as_str));
    resolvers
}

/// Refuses keys that are ours but for the way they are spelt. Other unknown keys may be there for others.
fn misspelt(prefix: &str, map: &Map<String, Value>, known: &[&str]) -> Result<(), Failure> {
    for (key, value) in map.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        if let Some(near) = known.iter().find(|known| bare(known) == bare(key)) {
            return Err(Failure::new(
                Code::UnsupportedField,
                format!("unsupported key {prefix}{}", visible(key)),
                format!("{prefix}{}: {}; did you mean {prefix}{near}?", visible(key), shortened(value)),
            ));
        }
    }
    Ok(())
}

/// A key without letter case, signs between words, and the ending of a plural.
fn bare(key: &str) -> String {
    let letters = key.chars().filter(|c| c.is_ascii_alphanumeric()).map(|c| c.to_ascii_lowercase());
    letters.collect::<String>().trim_end_matches('s').to_owned()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Reads one object of the document.
struct Reader<'a, 'p> {
    /// Where it is, with a full stop at the end; empty for the document.
    path: String,
    map: &'a Map<String, Value>,
    problems: &'p mut Vec<Problem>,
}

impl<'a> Reader<'a, '_> {
    fn within<'b>(&mut self, key: &str, map: &'b Map<String, Value>) -> Reader<'b, '_> {
        Reader { path: format!("{}{key}.", self.path), map, problems: self.problems }
    }

    fn refuse(&mut self, key: &str, value: impl Into<String>, expected: &'static str) {
        self.problems.push(InvalidValue::new(value, expected).at(format!("{}{key}", self.path)));
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    fn object(&mut self, key: &str) -> Option<&'a Map<String, Value>> {
        match self.get(key)? {
            Value::Object(map) => Some(map),
            other => {
                self.refuse(key, shortened(other), "an object");
                None
            }
        }
    }

    fn list(&mut self, key: &str) -> Option<&'a [Value]> {
        match self.get(key)? {
            Value::Array(items) => Some(items),
            other => {
                self.refuse(key, shortened(other), "a list");
                None
            }
        }
    }

    fn texts(&mut self, key: &str) -> Option<Vec<String>> {
        let items = self.list(key)?;
        let mut texts = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item {
                Value::String(text) => texts.push(text.clone()),
                other => self.refuse(&format!("{key}[{index}]"), shortened(other), "a string"),
            }
        }
        Some(texts)
    }

    fn text(&mut self, key: &str) -> Option<&'a str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            other => {
                self.refuse(key, shortened(other), "a string");
                None
            }
        }
    }

    fn name(&mut self) -> String {
        let text = match self.get("name") {
            None => {
                self.refuse("name", "", "the name of the network");
                return String::new();
            }
            Some(_) => self.text("name").unwrap_or("-"),
        };
        if let Err(why) = identifier(text) {
            if text != "-" {
                self.problems.push(why.at("name"));
            }
        }
        text.to_owned()
    }

    fn profile(&mut self) -> Profile {
        self.text("profile").map_or(Ok(Profile::default()), str::parse).unwrap_or_else(|why: InvalidValue| {
            self.problems.push(why.at("profile"));
            Profile::default()
        })
    }

    fn template(&mut self, key: &str, placeholders: &[&'static str]) -> Option<Template> {
        match Template::parse(self.text(key)?, placeholders) {
            Ok(template) => Some(template),
            Err(why) => {
                self.problems.push(why.at(format!("{}{key}", self.path)));
                None
            }
        }
    }

    /// Unset if the runtime does not hand them over; `null` where the pod has none.
    fn annotations(&mut self) -> Option<BTreeMap<String, String>> {
        let mut all = BTreeMap::new();
        match self.map.get(ANNOTATIONS)? {
            Value::Null => {}
            Value::Object(map) => {
                for (name, value) in map {
                    match value {
                        Value::String(text) => drop(all.insert(name.clone(), text.clone())),
                        other => self.refuse(
                            &format!("{ANNOTATIONS}[{:?}]", name),
                            shortened(other),
                            "the text of an annotation",
                        ),
                    }
                }
            }
            other => self.refuse(ANNOTATIONS, shortened(other), "the annotations of the pod, as an object"),
        }
        Some(all)
    }

    fn attachments(&mut self) -> Vec<AttachmentId> {
        const KEY: &str = "cni.dev/valid-attachments";
        let mut all = Vec::new();
        for (index, item) in self.list(KEY).unwrap_or_default().iter().enumerate() {
            let path = format!("{KEY}[{index}]");
            let Value::Object(map) = item else {
                self.refuse(&path, shortened(item), "an object with containerID and ifname");
                continue;
            };
            let mut one = self.within(&path, map);
            let mut part = |key: &str, expected: &'static str| match one.get(key) {
                Some(Value::String(text)) if !text.is_empty() => Some(text.clone()),
                other => {
                    one.refuse(key, other.map(shortened).unwrap_or_default(), expected);
                    None
                }
            };
            let id = part("containerID", "the identifier of a container");
            let interface = part("ifname", "the name of an interface");
            if let (Some(container_id), Some(interface)) = (id, interface) {
                all.push(AttachmentId { container_id, interface });
            }
        }
        all
    }
}
