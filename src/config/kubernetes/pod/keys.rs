//! Whether a document is a Pod, and keys of one that are probably misspelt or in the wrong place.

use super::reader::Reader;
use crate::config::wire::{Node, visible, within};
use crate::error::{InvalidValue, Problem};
use crate::model::Note;

/// The keys of one mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keys {
    /// Those that are read.
    read: &'static [&'static str],
    /// The others that can be there; none where Kubernetes adds keys from time to time.
    others: Option<&'static [&'static str]>,
}

impl Keys {
    const fn some(read: &'static [&'static str]) -> Self {
        Self { read, others: None }
    }

    const fn all(read: &'static [&'static str], others: &'static [&'static str]) -> Self {
        Self { read, others: Some(others) }
    }
}

const POD: Keys = Keys::all(&["kind", "apiVersion", "metadata", "spec"], &["status"]);

const METADATA: Keys = Keys::all(
    &["name", "namespace", "labels", "annotations"],
    &[
        "generateName",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "ownerReferences",
        "finalizers",
        "clusterName",
        "managedFields",
    ],
);

const SPEC: Keys = Keys::some(&["containers", "initContainers", "hostNetwork", "securityContext"]);

pub(super) const CONTAINER: Keys = Keys::some(&[
    "name",
    "securityContext",
    "ports",
    "restartPolicy",
    "readinessProbe",
    "livenessProbe",
    "startupProbe",
]);

const SECURITY: Keys = Keys::some(&["runAsUser"]);
const PROBE: Keys = Keys::some(&["httpGet", "tcpSocket", "grpc"]);
const HANDLER: Keys = Keys::some(&["port"]);

/// Keys that have one place only, with it: such a key in another mapping was indented wrongly.
const PLACES: [(&str, &[&str]); 2] =
    [("metadata", &["labels", "annotations"]), ("spec", &["containers", "initContainers", "hostNetwork"])];

/// The problem with a mapping that is no Pod.
pub(super) fn not_a_pod(node: &Node) -> Option<Problem> {
    let refused =
        |path: &str, node: &Node, expected: &'static str| Some(InvalidValue::new(node.quoted(), expected).at(path));
    let workload = node.at(&["spec", "template"]).is_some();
    if let Some(kind) = node.at(&["kind"]) {
        if kind.scalar() != Some("Pod") {
            let expected = match workload {
                true => "the kind Pod; the pod of a workload is its spec.template, with `kind: Pod`",
                false => "the kind Pod",
            };
            return refused("kind", kind, expected);
        }
    } else if let Some(kind) = node.at(&["type"]) {
        return refused("type", kind, "a Pod, which has `kind: Pod` and no type");
    } else if workload {
        return refused("spec", node.at(&["spec"])?, "that of a Pod; the pod of a workload is its spec.template");
    } else if node.at(&["metadata"]).or(node.at(&["spec"])).is_none() {
        return refused("pod", node, "a Pod, with kind, metadata and spec");
    } else if let Node::Map(entries) = node {
        // What has parts of something else, and does not say that it is a Pod, is that.
        let foreign = |key: &str| !is_of(key, POD) && hint("", key, POD).is_none();
        if let Some((key, value)) = entries.iter().find(|(key, _)| foreign(key)) {
            return refused(&visible(key), value, "a Pod, which has no such key; a Pod says `kind: Pod`");
        }
    }
    match node.at(&["apiVersion"]) {
        Some(version) if version.scalar() != Some("v1") => refused("apiVersion", version, "v1, as a Pod has it"),
        _ => None,
    }
}

impl Reader {
    /// Looks at the keys of a Pod, of its `metadata` and of its `spec`, and at what is missing.
    pub(super) fn parts(&mut self, pod: &Node) {
        self.keys("", pod, POD);
        for (part, keys, unknown) in
            [("metadata", METADATA, "its annotations are not known"), ("spec", SPEC, "its containers are not known")]
        {
            match pod.at(&[part]) {
                None | Some(Node::Null) => self.notes.push(Note::warning(part, format!("missing; {unknown}"))),
                Some(node) => drop(self.keys(part, node, keys)),
            }
        }
        if pod.at(&["kind"]).is_none() {
            self.notes.push(Note::warning("kind", "missing; the document is read as a Pod"));
        }
        self.below("spec", pod.at(&["spec"]), "securityContext", SECURITY);
    }

    pub(super) fn probe_keys(&mut self, path: &str, probe: Option<&Node>) {
        let Some(probe) = probe.filter(|probe| **probe != Node::Null) else { return };
        if self.keys(path, probe, PROBE) {
            for handler in PROBE.read {
                self.below(path, Some(probe), handler, HANDLER);
            }
        }
    }

    /// Looks at the keys of the mapping `key` in a container, if it is there.
    pub(super) fn security_keys(&mut self, path: &str, container: &Node) {
        self.below(path, Some(container), "securityContext", SECURITY);
    }

    fn below(&mut self, path: &str, node: Option<&Node>, key: &str, keys: Keys) {
        if let Some(node) = node.and_then(|node| node.at(&[key])).filter(|node| **node != Node::Null) {
            self.keys(&format!("{path}.{key}"), node, keys);
        }
    }

    /// Warns of the keys of a mapping that were probably meant for others, and refuses those that come twice. Returns
    /// whether it is a mapping; what else it is gets refused.
    pub(super) fn keys(&mut self, path: &str, node: &Node, keys: Keys) -> bool {
        let Node::Map(entries) = node else {
            self.refuse(path, node, "a mapping");
            return false;
        };
        for (index, (key, value)) in entries.iter().enumerate() {
            let at = join(path, key);
            if keys.read.contains(&key.as_str()) {
                if entries[..index].iter().any(|(other, _)| other == key) {
                    self.refuse(&at, value, "the key only once");
                }
            } else if let (Some(meant), true) = (hint(path, key, keys), self.strict) {
                self.problems.push(InvalidValue::new(key, format!("the key `{meant}`")).at(visible(&at)));
            } else if let Some(meant) = hint(path, key, keys) {
                self.notes.push(Note::warning(visible(&at), format!("unknown key; did you mean `{meant}`?")));
            } else if !is_of(key, keys) {
                self.notes.push(Note::warning(visible(&at), "unknown key, which is ignored"));
            }
        }
        true
    }
}

/// Whether a key can be in a mapping.
fn is_of(key: &str, keys: Keys) -> bool {
    keys.read.contains(&key) || keys.others.is_none_or(|others| others.contains(&key))
}

/// The path of the key that was probably meant by one that is not read.
fn hint(path: &str, key: &str, keys: Keys) -> Option<String> {
    if keys.others.is_some_and(|others| others.contains(&key)) {
        return None;
    }
    if let Some((place, _)) = PLACES.iter().find(|(place, keys)| *place != path && keys.contains(&key)) {
        return Some(join(place, key));
    }
    // Of a short name, every other letter would make another word.
    let tolerated = (key.chars().count() / 3).clamp(1, 2);
    within(key, keys.read.iter().copied(), tolerated).map(|near| join(path, near))
}

fn join(path: &str, key: &str) -> String {
    match path {
        "" => key.to_owned(),
        path => format!("{path}.{key}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Pod;
    use crate::config::Format;

    fn refusal(text: &str) -> String {
        Pod::parse(text, Format::Json).unwrap_err().problems()[0].to_string()
    }

    fn notes(text: &str) -> Vec<String> {
        Pod::parse(text, Format::Json).unwrap().notes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_no_pod_is_refused() {
        for (text, says) in [
            (r#"{"a": 1}"#, "pod: '{a: 1}' is not valid: expected a Pod"),
            ("{}", "pod: '{}' is not valid"),
            (r#"{"type": "Dataplane", "mesh": "default", "name": "web"}"#, "type: 'Dataplane'"),
            (r#"{"kind": "Dataplane", "metadata": {}, "spec": {}}"#, "kind: 'Dataplane'"),
            (r#"{"kind": null, "metadata": {}, "spec": {}}"#, "kind: 'null'"),
            (r#"{"kind": "List", "items": [{"kind": "Pod"}]}"#, "kind: 'List'"),
            (r#"{"apiVersion": "kuma.io/v1alpha1", "metadata": {}, "spec": {}}"#, "apiVersion: 'kuma.io/v1alpha1'"),
            (r#"{"apiVersion": "v2", "kind": "Pod", "metadata": {}}"#, "apiVersion: 'v2'"),
            (r#"{"metadata": {}, "data": {"config.yaml": ""}}"#, "data: "),
            (r#"{"metadata": {}, "spec": {"template": {}}}"#, "spec: "),
            (
                r#"{"kind": "Pod", "metadata": ["annotations"]}"#,
                "metadata: '[annotations]' is not valid: expected a mapping",
            ),
            (r#"{"kind": "Pod", "spec": "x"}"#, "spec: 'x'"),
            (
                r#"{"kind": "Pod", "spec": {"containers": [{"livenessProbe": 7}]}}"#,
                "spec.containers[0].livenessProbe: '7'",
            ),
            (
                r#"{"kind": "Pod", "metadata": {}, "metadata": {}}"#,
                "metadata: '{}' is not valid: expected the key only once",
            ),
        ] {
            let said = refusal(text);
            assert!(said.starts_with(says), "{text}: {said}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(notes(r#"{"metadata": {}, "spec": {}}"#), ["kind: missing; the document is read as a Pod"]);
        assert_eq!(
            notes(r#"{"kind": "Pod", "spec": null}"#),
            ["metadata: missing; its annotations are not known", "spec: missing; its containers are not known"]
        );
    }

    #[test]
    fn near_misses_are_named() {
        let meant = |place: &str, key: &str| {
            let inner = |levels: &[&str], innermost: &str| {
                levels.iter().rev().fold(format!(r#"{{"{innermost}": {{}}}}"#), |text, level| match *level {
                    "[]" => format!("[{text}]"),
                    level => format!(r#"{{"{level}": {text}}}"#),
                })
            };
            let (metadata, spec) = match place.split_once('.').unwrap_or((place, "")) {
                ("metadata", _) => (inner(&[], key), "{}".to_owned()),
                ("spec", "") => ("{}".to_owned(), inner(&[], key)),
                ("spec", rest) => ("{}".to_owned(), inner(&rest.split('.').collect::<Vec<_>>(), key)),
                _ => ("{}".to_owned(), "{}".to_owned()),
            };
            let top = if place.is_empty() { format!(r#", "{key}": {{}}"#) } else { String::new() };
            notes(&format!(r#"{{"kind": "Pod", "metadata": {metadata}, "spec": {spec}{top}}}"#))
        };
        for (place, key, near) in [
            ("", "Metadata", "`metadata`"),
            ("", "specs", "`spec`"),
            ("", "annotations", "`metadata.annotations`"),
            ("", "initContainers", "`spec.initContainers`"),
            ("", "something", "ignored"),
            ("metadata", "annotation", "`metadata.annotations`"),
            ("metadata", "Annotations", "`metadata.annotations`"),
            ("metadata", "label", "`metadata.labels`"),
            ("metadata", "namespce", "`metadata.namespace`"),
            ("metadata", "hostNetwork", "`spec.hostNetwork`"),
            ("metadata", "something", "ignored"),
            ("spec", "annotations", "`metadata.annotations`"),
            ("spec", "container", "`spec.containers`"),
            ("spec", "initcontainers", "`spec.initContainers`"),
            ("spec", "hostNetworks", "`spec.hostNetwork`"),
            ("spec.securityContext", "runAsUsers", "`spec.securityContext.runAsUser`"),
            ("spec.containers.[]", "livenessProbes", "`spec.containers[0].livenessProbe`"),
            ("spec.containers.[]", "nam", "`spec.containers[0].name`"),
            ("spec.containers.[].securityContext", "runasuser", "`spec.containers[0].securityContext.runAsUser`"),
            ("spec.initContainers.[].startupProbe", "httpget", "`spec.initContainers[0].startupProbe.httpGet`"),
            ("spec.containers.[].livenessProbe.grpc", "ports", "`spec.containers[0].livenessProbe.grpc.port`"),
        ] {
            let said = meant(place, key);
            assert!(said.len() == 1 && said[0].contains(near), "{place} {key}: {said:?}");
        }
        for (place, key) in [
            ("", "status"),
            ("metadata", "uid"),
            ("metadata", "generateName"),
            ("spec", "hostname"),
            ("spec", "hostPID"),
            ("spec", "ephemeralContainers"),
            ("spec.containers.[]", "image"),
            ("spec.containers.[]", "args"),
            ("spec.containers.[]", "resizePolicy"),
            ("spec.securityContext", "runAsGroup"),
            ("spec.containers.[].livenessProbe", "exec"),
            ("spec.containers.[].livenessProbe.httpGet", "host"),
            ("spec.containers.[].livenessProbe.httpGet", "path"),
        ] {
            assert!(meant(place, key).is_empty(), "{place} {key}: {:?}", meant(place, key));
        }
    }
}
