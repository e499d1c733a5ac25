//! The `Dataplane` itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::check::{check, values};
use super::reader::Reader;
use super::resource::{NAMESPACE, Resource, ZONE};
use super::{BackendKind, BackendRef, BackendSelector, TransparentProxying};
use crate::config::wire::Node;
use crate::config::{Format, Profile};
use crate::error::{Error, InvalidValue};
use crate::model::Note;
use crate::net::Port;

/// The label by which services were told apart before `MeshService`.
const SERVICE: &str = "kuma.io/service";

/// A workload of the mesh, as far as it matters to the transparent proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Dataplane {
    /// Its name.
    pub name: String,
    /// The mesh that it belongs to; `default` if the resource does not say.
    pub mesh: String,
    /// Its labels, with those that Kuma adds when it stores a resource: `kuma.io/display-name`, `kuma.io/mesh` and, on
    /// Kubernetes, `k8s.kuma.io/namespace`.
    pub labels: BTreeMap<String, String>,
    /// The address of the workload, or its host name: `networking.address`.
    pub address: Option<String>,
    /// What it offers: `networking.inbound`.
    pub inbounds: Vec<DataplaneInbound>,
    /// The backends that it uses by listeners of its own: `networking.outbound[].backendRef`. Names are not checked.
    pub outbounds: Vec<BackendRef>,
    /// Its transparent proxy: `networking.transparentProxying`.
    pub transparent_proxying: Option<TransparentProxying>,
}

/// A port that a workload offers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DataplaneInbound {
    /// The port that clients use: `port`.
    pub port: Port,
    /// The address, if it is not that of the workload: `address`.
    pub address: Option<String>,
    /// The port that the application listens on, if it is another: `servicePort`.
    pub service_port: Option<Port>,
    /// Its tags, `kuma.io/service` among them in the older form: `tags`.
    pub tags: BTreeMap<String, String>,
}

impl Dataplane {
    /// The namespace on Kubernetes: the label `k8s.kuma.io/namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.labels.get(NAMESPACE).map(String::as_str).filter(|namespace| !namespace.is_empty())
    }

    /// The zone: the label `kuma.io/zone`, which the control plane adds.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
    }

    /// The values of `kuma.io/service` that it offers.
    pub fn services(&self) -> impl Iterator<Item = &str> {
        self.inbounds.iter().filter_map(|inbound| inbound.tags.get(SERVICE)).map(String::as_str)
    }

    /// The addresses and ports that its inbounds listen on. Host names are looked up by the control plane only.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = (IpAddr, Port)> {
        self.inbounds.iter().filter_map(|inbound| {
            let address = inbound.address.as_ref().or(self.address.as_ref())?;
            Some((address.parse().ok()?, inbound.port))
        })
    }

    /// Reads a `Dataplane` in the form of Universal (`type: Dataplane`) or of Kubernetes (`kind: Dataplane`, with its
    /// body at `spec`). [`fill`](super::fill) puts the values of variables into a template first.
    ///
    /// What is checked is what the transparent proxy depends on; see
    /// [`TransparentProxying::parse`] for the paths of problems. Unknown keys get a note in the section
    /// `transparentProxying`, and are passed over elsewhere. [`validate`](Self::validate) checks the rest as well.
    ///
    /// ```
    /// use kumatp::config::Format;
    /// use kumatp::config::dataplane::Dataplane;
    ///
    /// let text = r#"{"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {
    ///     "address": "192.0.2.7",
    ///     "inbound": [{"port": 8080, "protocol": "http"}],
    ///     "transparentProxying": {"redirectPortInbound": 15006, "redirectPortOutbound": 15001}}}"#;
    /// let (dataplane, _) = Dataplane::parse(text, Format::Json)?;
    /// assert_eq!(dataplane.inbounds[0].port.number(), 8080);
    /// let config = dataplane.to_config()?;
    /// assert!(config.redirect.inbound.enabled && config.redirect.outbound.port.number() == 15001);
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn parse(text: &str, format: Format) -> Result<(Self, Vec<Note>), Error> {
        let mut reader = Reader::default();
        let node = reader.document("document", text, format);
        let dataplane = node.and_then(|node| Self::read(&mut reader, &node));
        reader.finish(dataplane)
    }

    /// Reads a `Dataplane`, and checks all of it as Kuma's control plane of that generation does: what it would refuse is a
    /// problem, at the path that Kuma gives it, and what it accepts although it is plainly a slip is a warning, such as
    /// a field that it drops.
    ///
    /// What only a control plane knows is not checked: which meshes there are, and which zone it is.
    ///
    /// ```
    /// use kumatp::config::dataplane::Dataplane;
    /// use kumatp::config::{Format, Profile};
    ///
    /// let text = r#"{"type": "Dataplane", "mesh": "default", "name": "web-1", "networking": {"address": "0.0.0.0",
    ///     "inbound": [{"port": 8080, "protocol": "htp", "tags": {"kuma.io/service": "web"}}]}}"#;
    /// let error = Dataplane::validate(text, Format::Json, Profile::Kuma3).unwrap_err();
    /// let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
    /// assert_eq!(paths, ["networking.address", "networking.inbound[0].protocol"]);
    ///
    /// let text = text.replace("0.0.0.0", "192.0.2.7").replace("htp", "http");
    /// let (_, notes) = Dataplane::validate(&text, Format::Json, Profile::Kuma3)?;
    /// assert_eq!(notes[0].about, "networking.inbound[0].tags");
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn validate(text: &str, format: Format, profile: Profile) -> Result<(Self, Vec<Note>), Error> {
        let mut reader = Reader::default();
        let Some(node) = reader.document("document", text, format) else { return reader.finish(None) };
        if is_one(&mut reader, &node) {
            check(&mut reader, &node, profile);
        }
        if reader.has_problems() {
            return reader.finish(None);
        }
        let mut own = Reader::default();
        let dataplane = Self::read(&mut own, &node);
        let (dataplane, notes) = own.finish(dataplane)?;
        reader.add_notes(notes);
        reader.finish(Some(dataplane))
    }

    fn read(reader: &mut Reader, node: &Node) -> Option<Self> {
        if !is_one(reader, node) {
            return None;
        }
        let resource = Resource::read(reader, node)?;
        Some(Self::of(reader, resource))
    }

    pub(super) fn of(reader: &mut Reader, resource: Resource<'_>) -> Self {
        let mut dataplane =
            Self { name: resource.name, mesh: resource.mesh, labels: resource.labels, ..Self::default() };
        let body = reader.fields(resource.path, resource.body, &["networking"], false);
        if let Some(networking) = body.and_then(|fields| fields.get("networking")) {
            // Kuma's paths begin with `spec` on Kubernetes.
            reader.inside(resource.path, |reader| dataplane.networking(reader, networking));
        }
        dataplane
    }

    fn networking(&mut self, reader: &mut Reader, node: &Node) {
        let known = ["address", "inbound", "outbound", "transparentProxying"];
        let Some(fields) = reader.fields("networking", node, &known, false) else { return };
        self.address = non_empty(reader.text_of(&fields, "address"));
        for (index, node) in items(reader, &fields, "inbound", "inbounds").iter().enumerate() {
            let inbound = DataplaneInbound::read(reader, &format!("networking.inbound[{index}]"), node);
            self.inbounds.extend(inbound);
        }
        for (index, node) in items(reader, &fields, "outbound", "outbounds").iter().enumerate() {
            let path = format!("networking.outbound[{index}]");
            let backend = reader
                .fields(&path, node, &["backendRef"], false)
                .and_then(|fields| Some((fields.path("backendRef"), fields.get("backendRef")?)))
                .and_then(|(path, node)| outbound(reader, &path, node));
            self.outbounds.extend(backend);
        }
        self.transparent_proxying =
            fields.get("transparentProxying").map(|node| TransparentProxying::read(reader, node));
    }
}

/// Whether the document is a `Dataplane`.
fn is_one(reader: &mut Reader, node: &Node) -> bool {
    let kind = Resource::kind_of(node).unwrap_or_default();
    if kind == "Dataplane" {
        return true;
    }
    match node {
        Node::Map(_) => {
            let key = if node.at(&["kind"]).is_some() { "kind" } else { "type" };
            reader.refuse(key, kind, "Dataplane");
        }
        other => reader.refuse("", &other.quoted(), "a resource with a type or kind"),
    }
    false
}

impl DataplaneInbound {
    fn read(reader: &mut Reader, path: &str, node: &Node) -> Option<Self> {
        let fields = reader.fields(path, node, &["port", "address", "servicePort", "tags"], false)?;
        let port = fields.get("port").and_then(values::number).and_then(to_port);
        if port.is_none() {
            let given = fields.get("port").map(Node::quoted).unwrap_or_default();
            reader.refuse(&fields.path("port"), &given, "a port from 1 to 65535");
        }
        let service_port = reader.number_of(&fields, "servicePort", u16::MAX.into());
        let tags = fields.get("tags");
        // Newer generations drop them, whatever they are.
        let tags = reader.leniently(|reader| tags.map(|tags| reader.map(&fields.path("tags"), tags, "tags")));
        let tags = tags.unwrap_or_default();
        Some(Self {
            port: port?,
            address: non_empty(reader.text_of(&fields, "address")),
            service_port: service_port.and_then(to_port),
            tags,
        })
    }
}

/// A backend of a listener that the user defined. It is looser than an item of `reachableBackends`: the name may have
/// the older form `name_namespace_svc_port`, and labels win over a name.
fn outbound(reader: &mut Reader, path: &str, node: &Node) -> Option<BackendRef> {
    let fields = reader.fields(path, node, &["kind", "name", "port", "labels"], false)?;
    let kind = reader.text_of(&fields, "kind").parse::<BackendKind>();
    let kind = kind.map_err(|error: InvalidValue| reader.problem(error.at(fields.path("kind")))).ok();
    let name = reader.text_of(&fields, "name").to_owned();
    let labels = fields.get("labels").map(|node| reader.map(&fields.path("labels"), node, "labels"));
    let select = match labels.filter(|labels| !labels.is_empty()) {
        Some(labels) => BackendSelector::Labels(labels),
        None if name.is_empty() => {
            reader.refuse(&fields.path("name"), "", "a name, or labels in its place");
            return None;
        }
        None => BackendSelector::Name { name, namespace: None },
    };
    Some(BackendRef { kind: kind?, select, port: reader.number_of(&fields, "port", u32::MAX) })
}

fn items<'n>(reader: &mut Reader, fields: &super::reader::Fields<'n>, key: &str, of: &str) -> &'n [Node] {
    fields.get(key).map(|node| reader.items(&fields.path(key), node, of)).unwrap_or_default()
}

fn to_port(number: u32) -> Option<Port> {
    Port::new(u16::try_from(number).ok()?)
}

fn non_empty(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let body = r#""networking": {"address": "192.0.2.1", "inbound": [{"port": 80, "servicePort": 8080}],
            "outbound": [{"port": 1, "tags": {"kuma.io/service": "x"}},
                {"port": 2, "backendRef": {"kind": "MeshService", "name": "a_b_svc_80", "port": 80}}],
            "transparentProxying": {"redirectPortInbound": 15006}}"#;
        let universal = format!(r#"{{"type": "Dataplane", "mesh": "m", "name": "a", {body}}}"#);
        let kubernetes = format!(
            r#"{{"apiVersion": "kuma.io/v1alpha1", "kind": "Dataplane", "mesh": "m",
                "metadata": {{"name": "a", "namespace": "ns", "labels": {{"kuma.io/zone": "east"}}}}, "spec": {{{body}}}}}"#
        );
        let (left, notes) = Dataplane::parse(&universal, Format::Json).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let (mut right, _) = Dataplane::parse(&kubernetes, Format::Json).unwrap();
        assert_eq!((right.namespace(), right.zone(), left.namespace()), (Some("ns"), Some("east"), None));
        assert_eq!(right.labels["kuma.io/display-name"], "a");
        right.labels.clone_from(&left.labels);
        assert_eq!(left, right);
        assert_eq!((left.outbounds.len(), left.inbounds[0].port.number()), (1, 80));
    }

    #[test]
    fn problems_come_together() {
        let text = r#"{"kind": "Dataplane", "spec": {"networking": {"inbound": [{"port": 0}, {}, {"port": 70000}, 3],
            "outbound": [{"backendRef": {"kind": "MeshServic", "name": "a"}}, {"backendRef": {"kind": "MeshService"}}],
            "transparentProxying": {"reachableBackends": {"refs": [{"kind": "MeshService"}]}}}}}"#;
        let error = Dataplane::parse(text, Format::Json).unwrap_err();
        let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "spec.networking.inbound[0].port",
                "spec.networking.inbound[1].port",
                "spec.networking.inbound[2].port",
                "spec.networking.inbound[3]",
                "spec.networking.outbound[0].backendRef.kind",
                "spec.networking.outbound[1].backendRef.name",
                "spec.networking.transparentProxing.reachableBackends.refs[0].name",
            ]
        );
        for (text, path) in
            [(r#"{"type": "Mesh"}"#, "type"), (r#"{"kind": "Pod"}"#, "kind"), ("{}", "type"), ("", "document")]
        {
            assert_eq!(Dataplane::parse(text, Format::Json).unwrap_err().problems()[0].path, path, "{text}");
        }
    }
}
