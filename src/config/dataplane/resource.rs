//! What all of Kuma's resources have in common, in the form of Universal and in that of Kubernetes.

use std::collections::BTreeMap;

use super::reader::Reader;
use crate::config::wire::Node;

/// The label with the name that a resource has where it was made.
pub(super) const DISPLAY_NAME: &str = "kuma.io/display-name";
/// The label with the Kubernetes namespace of a resource.
pub(super) const NAMESPACE: &str = "k8s.kuma.io/namespace";
/// The label with the zone that a resource was made in.
pub(super) const ZONE: &str = "kuma.io/zone";
/// The label with the mesh of a resource, which is also where Kubernetes resources say it.
pub(super) const MESH: &str = "kuma.io/mesh";

/// What a resource is called, and the rest of it.
#[derive(Debug)]
pub(super) struct Resource<'n> {
    pub(super) name: String,
    pub(super) mesh: String,
    /// As written, and those that Kuma adds when it stores a resource: display name, namespace, mesh.
    pub(super) labels: BTreeMap<String, String>,
    /// Where the body is: the value of `spec`, or the resource itself.
    pub(super) body: &'n Node,
    /// The path of the body.
    pub(super) path: &'static str,
}

impl<'n> Resource<'n> {
    /// The kind of the resource: `type` on Universal, `kind` on Kubernetes.
    pub(super) fn kind_of(node: &'n Node) -> Option<&'n str> {
        let Node::Map(entries) = node else { return None };
        let text = |wanted: &str| {
            entries.iter().find_map(|(key, value)| match value {
                Node::Text(text) if key == wanted => Some(text.as_str()),
                _ => None,
            })
        };
        text("type").or_else(|| text("kind"))
    }

    pub(super) fn read(reader: &mut Reader, node: &'n Node) -> Option<Self> {
        let known = ["type", "kind", "name", "mesh", "labels", "metadata", "spec"];
        let fields = reader.fields("", node, &known, false)?;
        let metadata = fields.get("metadata").and_then(|node| {
            let known = ["name", "namespace", "labels"];
            reader.fields("metadata", node, &known, false)
        });
        let mut labels = BTreeMap::new();
        let mut name = reader.text_of(&fields, "name");
        let mut namespace = "";
        for fields in [Some(&fields), metadata.as_ref()].into_iter().flatten() {
            if let Some(node) = fields.get("labels") {
                labels.append(&mut reader.map(&fields.path("labels"), node, "labels"));
            }
        }
        if let Some(metadata) = &metadata {
            name = reader.text_of(metadata, "name");
            namespace = reader.text_of(metadata, "namespace");
        }
        let mesh = match reader.text_of(&fields, "mesh") {
            "" => labels.get(MESH).cloned().unwrap_or_else(|| "default".to_owned()),
            mesh => mesh.to_owned(),
        };
        for (label, value) in [(DISPLAY_NAME, name), (NAMESPACE, namespace), (MESH, mesh.as_str())] {
            let missing = labels.get(label).is_none_or(String::is_empty);
            if missing && !value.is_empty() {
                labels.insert(label.to_owned(), value.to_owned());
            }
        }
        // On Universal a Dataplane has no such key, other kinds do.
        let inline = Self::kind_of(node) == Some("Dataplane") && node.at(&["type"]).is_some();
        let (body, path) = fields.get("spec").filter(|_| !inline).map_or((node, ""), |spec| (spec, "spec"));
        Some(Self { name: name.to_owned(), mesh, labels, body, path })
    }
}
