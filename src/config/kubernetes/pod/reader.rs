//! Reading a `Pod` document.

use std::collections::BTreeMap;

use super::{Container, Pod, keys};
use crate::config::Format;
use crate::config::wire::{Node, parse_node, syntax_problem, visible};
use crate::error::{InvalidValue, Problem};
use crate::model::Note;
use crate::net::{Port, Uid};

#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
    pub(super) notes: Vec<Note>,
    /// Whether keys that were probably meant for others are problems, not notes.
    pub(super) strict: bool,
}

impl Reader {
    pub(super) fn document(&mut self, text: &str, format: Format) -> Pod {
        match parse_node(text, format) {
            Ok(node @ Node::Map(_)) => match keys::not_a_pod(&node) {
                Some(problem) => self.problems.push(problem),
                None => {
                    let pod = self.pod(&node);
                    return Pod { notes: std::mem::take(&mut self.notes), ..pod };
                }
            },
            Ok(node) => self.refuse("pod", &node, "a Pod"),
            Err(error) => self.problems.push(syntax_problem("pod", text, error)),
        }
        Pod::default()
    }

    pub(super) fn refuse(&mut self, path: &str, node: &Node, expected: impl Into<String>) {
        self.problems.push(InvalidValue::new(node.quoted(), expected.into()).at(visible(path)));
    }

    fn pod(&mut self, node: &Node) -> Pod {
        self.parts(node);
        let pod_user = self.user(node, "spec");
        Pod {
            name: self.text(node, &["metadata", "name"]),
            namespace: self.text(node, &["metadata", "namespace"]),
            labels: self.texts(node, &["metadata", "labels"]),
            annotations: self.texts(node, &["metadata", "annotations"]),
            containers: self.containers(node, "containers", pod_user),
            init_containers: self.containers(node, "initContainers", pod_user),
            host_network: self.host_network(node),
            ..Pod::default()
        }
    }

    fn host_network(&mut self, node: &Node) -> bool {
        match node.at(&["spec", "hostNetwork"]) {
            None | Some(Node::Null) => false,
            Some(Node::Bool(on)) => *on,
            Some(other) => {
                self.refuse("spec.hostNetwork", other, "true or false");
                true
            }
        }
    }

    fn text(&mut self, node: &Node, path: &[&str]) -> Option<String> {
        match node.at(path)? {
            Node::Null => None,
            Node::Text(text) => Some(text.clone()),
            other => {
                self.refuse(&path.join("."), other, "text");
                None
            }
        }
    }

    /// A mapping of texts. The API server takes nothing else, so `true` without quotes is a mistake to be named.
    fn texts(&mut self, node: &Node, path: &[&str]) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        let at = path.join(".");
        match node.at(path) {
            None | Some(Node::Null) => {}
            Some(Node::Map(entries)) => {
                for (key, value) in entries {
                    // Annotations go by their names in messages; everybody knows where they are.
                    let name = if path.ends_with(&["annotations"]) { key.clone() } else { format!("{at}[{key}]") };
                    match value {
                        Node::Text(text) if !texts.contains_key(key) => {
                            texts.insert(key.clone(), text.clone());
                        }
                        Node::Text(_) => self.refuse(&name, value, "the key only once"),
                        _ => self.refuse(&name, value, "text; put the value in quotes"),
                    }
                }
            }
            Some(other) => self.refuse(&at, other, "a mapping of names to texts"),
        }
        texts
    }

    fn user(&mut self, node: &Node, path: &str) -> Option<Uid> {
        let keys: &[&str] = match path {
            "spec" => &["spec", "securityContext", "runAsUser"],
            _ => &["securityContext", "runAsUser"],
        };
        match node.at(keys)? {
            Node::Null => None,
            value => {
                let user = value.scalar().and_then(|text| text.parse().ok());
                if user.is_none() {
                    let expected = "a uid from 0 to 4294967294";
                    self.refuse(&format!("{path}.securityContext.runAsUser"), value, expected);
                }
                user
            }
        }
    }

    fn containers(&mut self, node: &Node, list: &str, pod_user: Option<Uid>) -> Vec<Container> {
        let path = format!("spec.{list}");
        match node.at(&["spec", list]) {
            None | Some(Node::Null) => Vec::new(),
            Some(Node::List(items)) => {
                let read = |(index, item)| self.container(item, &format!("{path}[{index}]"), pod_user);
                items.iter().enumerate().filter_map(read).collect()
            }
            Some(other) => {
                self.refuse(&path, other, "a list of containers");
                Vec::new()
            }
        }
    }

    fn container(&mut self, node: &Node, path: &str, pod_user: Option<Uid>) -> Option<Container> {
        if !self.keys(path, node, keys::CONTAINER) {
            return None;
        }
        self.security_keys(path, node);
        let name = node.at(&["name"]).and_then(Node::scalar).unwrap_or_default().to_owned();
        let mut probe_ports = Vec::new();
        for probe in ["readinessProbe", "livenessProbe", "startupProbe"] {
            self.probe_keys(&format!("{path}.{probe}"), node.at(&[probe]));
            for handler in ["httpGet", "tcpSocket", "grpc"] {
                let Some(port) = node.at(&[probe, handler, "port"]).filter(|port| **port != Node::Null) else {
                    continue;
                };
                let at = format!("{path}.{probe}.{handler}.port");
                probe_ports.extend(self.probe_port(node, port, &at));
            }
        }
        Some(Container {
            name,
            run_as_user: self.user(node, path).or(pod_user),
            probe_ports,
            restarts: node.at(&["restartPolicy"]).and_then(Node::scalar) == Some("Always"),
        })
    }

    /// The number of a port that may be a name from the container's `ports`.
    fn probe_port(&mut self, container: &Node, port: &Node, path: &str) -> Option<Port> {
        match port {
            Node::Number(number) => match number.parse() {
                Ok(port) => return Some(port),
                Err(_) => self.refuse(path, port, "a port from 1 to 65535, or the name of one in `ports`"),
            },
            Node::Text(name) => {
                if let Ok(port) = name.parse() {
                    return Some(port);
                }
                let Some(Node::List(ports)) = container.at(&["ports"]) else {
                    self.unresolved(path, name);
                    return None;
                };
                let named = ports.iter().find(|port| port.at(&["name"]).and_then(Node::scalar) == Some(name));
                match named.and_then(|port| port.at(&["containerPort"])?.scalar()?.parse().ok()) {
                    Some(port) => return Some(port),
                    None => self.unresolved(path, name),
                }
            }
            _ => self.refuse(path, port, "a port from 1 to 65535, or the name of one in `ports`"),
        }
        None
    }

    fn unresolved(&mut self, path: &str, name: &str) {
        let text =
            format!("no port of the container has the name '{}', so the probe's port is not known", visible(name));
        self.notes.push(Note::warning(path, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Pod, Vec<Problem>, Vec<Note>) {
        let mut reader = Reader::default();
        let pod = reader.document(text, Format::Json);
        (pod.clone(), reader.problems, pod.notes)
    }

    #[test]
    fn users_and_probes() {
        let (pod, problems, notes) = read(
            r#"{"kind": "Pod", "metadata": {"name": "a", "namespace": "b", "labels": {"c": "d"}}, "spec": {
                "securityContext": {"runAsUser": 1000},
                "initContainers": [{"name": "first", "restartPolicy": "Always"}],
                "containers": [
                    {"name": "web", "securityContext": {"runAsUser": 7}, "ports": [{"name": "http", "containerPort": 8080}],
                     "livenessProbe": {"httpGet": {"port": "http"}}, "readinessProbe": {"tcpSocket": {"port": 90}},
                     "startupProbe": {"grpc": {"port": 91}}},
                    {"name": "other", "livenessProbe": {"httpGet": {"port": "none"}}, "readinessProbe": {"exec": {}}}
                ]}}"#,
        );
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(
            (pod.name.as_deref(), pod.namespace.as_deref(), pod.labels["c"].as_str()),
            (Some("a"), Some("b"), "d")
        );
        assert_eq!(pod.containers[0].probe_ports.iter().map(|port| port.number()).collect::<Vec<_>>(), [90, 8080, 91]);
        assert_eq!(pod.containers.iter().map(|one| one.run_as_user.unwrap().number()).collect::<Vec<_>>(), [7, 1000]);
        assert!(pod.init_containers[0].restarts && !pod.containers[0].restarts);
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].to_string().starts_with("spec.containers[1].livenessProbe.httpGet.port: no port"),
            "{}",
            notes[0]
        );
    }

    #[test]
    fn every_wrong_field_is_named() {
        let (_, problems, _) = read(
            r#"{"metadata": {"name": 7, "annotations": {"kuma.io/gateway": true, "a": ["b"]}, "labels": []},
                "spec": {"securityContext": {"runAsUser": "root"}, "initContainers": {}, "hostNetwork": "no",
                         "containers": ["x", {"livenessProbe": {"httpGet": {"port": 70000}}}]}}"#,
        );
        let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.securityContext.runAsUser",
                "metadata.name",
                "metadata.labels",
                "kuma.io/gateway",
                "a",
                "spec.containers[0]",
                "spec.containers[1].livenessProbe.httpGet.port",
                "spec.initContainers",
                "spec.hostNetwork"
            ]
        );
        assert!(problems[3].to_string().contains("'true' is not valid: expected text; put the value in quotes"));
    }

    #[test]
    fn other_documents_are_refused() {
        for (text, path) in [
            ("", "pod"),
            ("[]", "pod"),
            ("{", "pod: line 1 column 1"),
            (r#"{"kind": "Service"}"#, "kind"),
            (r#"{"kind": "Deployment", "spec": {"template": {}}}"#, "kind"),
        ] {
            let (_, problems, _) = read(text);
            assert_eq!(problems.len(), 1, "{text}");
            assert_eq!(problems[0].path, path);
        }
    }
}
