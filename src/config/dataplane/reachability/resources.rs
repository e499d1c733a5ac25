//! The resources of a mesh that a workload can reach.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::super::reader::{Fields, Reader, join};
use super::super::resource::{DISPLAY_NAME, NAMESPACE, Resource, ZONE};
use super::super::{BackendKind, Dataplane};
use crate::config::Format;
use crate::config::wire::{Node, nearest, one_of, visible};
use crate::error::{Error, InvalidValue};
use crate::model::Note;
use crate::named::named;
use crate::net::Port;

/// A `MeshService`, `MeshExternalService` or `MeshMultiZoneService`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Backend {
    /// The kind of resource.
    pub kind: BackendKind,
    /// The name of the resource where it was found, which may differ from its [`display_name`](Self::display_name).
    pub name: String,
    /// The mesh that it belongs to.
    pub mesh: String,
    /// Its labels, with those that Kuma adds when it stores a resource.
    pub labels: BTreeMap<String, String>,
    /// Its ports. A `MeshExternalService` has one.
    pub ports: Vec<BackendPort>,
    /// Its virtual addresses, as the control plane notes them down: `status.vips` or `status.vip`. None are known of a
    /// resource that was not applied yet.
    pub vips: Vec<IpAddr>,
}

/// A port of a [`Backend`].
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct BackendPort {
    /// Its number.
    #[serde(rename = "port", serialize_with = "as_number")]
    pub number: Port,
    /// Its name, if it has one. Kuma 3 does not take an empty one for none: it stands for all ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

fn as_number<S: serde::Serializer>(port: &Port, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(port.number())
}

impl BackendPort {
    /// A port.
    pub fn new(number: Port, name: Option<String>) -> Self {
        Self { number, name }
    }
}

impl fmt::Display for BackendPort {
    /// `6379`, or `6379 (redis)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)?;
        let name = self.name.as_ref().filter(|name| !name.is_empty());
        name.map_or(Ok(()), |name| write!(f, " ({})", visible(name)))
    }
}

impl Backend {
    /// A backend with these labels and ports, and the label `kuma.io/display-name` if they have none.
    pub fn new<L>(kind: BackendKind, mesh: &str, name: &str, labels: L, ports: Vec<BackendPort>) -> Self
    where
        L: IntoIterator<Item = (String, String)>,
    {
        let mut labels = crate::sorted::map(labels);
        if labels.get(DISPLAY_NAME).is_none_or(String::is_empty) {
            labels.insert(DISPLAY_NAME.to_owned(), name.to_owned());
        }
        Self { kind, name: name.to_owned(), mesh: mesh.to_owned(), labels, ports, vips: Vec::new() }
    }

    /// The same with these virtual addresses.
    #[must_use]
    pub fn at(mut self, vips: impl IntoIterator<Item = IpAddr>) -> Self {
        self.vips = vips.into_iter().collect();
        self
    }

    /// The name that it was made with: the label `kuma.io/display-name`.
    pub fn display_name(&self) -> &str {
        self.labels.get(DISPLAY_NAME).filter(|name| !name.is_empty()).unwrap_or(&self.name)
    }

    /// Its namespace on Kubernetes: the label `k8s.kuma.io/namespace`.
    pub fn namespace(&self) -> Option<&str> {
        self.labels.get(NAMESPACE).map(String::as_str).filter(|namespace| !namespace.is_empty())
    }

    /// The zone that it was made in: the label `kuma.io/zone`.
    pub fn zone(&self) -> Option<&str> {
        self.labels.get(ZONE).map(String::as_str).filter(|zone| !zone.is_empty())
    }
}

/// A service of the older form: a value of the tag `kuma.io/service` that some workload of a mesh has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[non_exhaustive]
pub struct Service {
    /// The mesh.
    pub mesh: String,
    /// The value of the tag.
    pub name: String,
}

impl Service {
    /// A service.
    pub fn new(mesh: impl Into<String>, name: impl Into<String>) -> Self {
        Self { mesh: mesh.into(), name: name.into() }
    }
}

/// How a mesh uses `MeshService`: `spec.meshServices.mode` of a `Mesh`. Only `ReachableBackends` in `kuma-2.9` changes
/// what is reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum MeshMode {
    /// `Disabled`.
    #[default]
    Disabled,
    /// `Everywhere`.
    Everywhere,
    /// `ReachableBackends`: only workloads with `reachableBackends` reach any.
    ReachableBackends,
    /// `Exclusive`.
    Exclusive,
}

named! {
    /// Every mode.
    MeshMode {
        Disabled = "Disabled",
        Everywhere = "Everywhere",
        ReachableBackends = "ReachableBackends",
        Exclusive = "Exclusive",
    }
}

impl FromStr for MeshMode {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        one_of(text, "the modes ", Self::ALL, Self::as_str)
    }
}

/// All that could be reached, in a fixed order: by kind, mesh, name, namespace and zone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Destinations {
    backends: Vec<Backend>,
    services: BTreeSet<Service>,
    modes: BTreeMap<String, MeshMode>,
}

impl Destinations {
    /// These backends and services.
    pub fn new(backends: impl IntoIterator<Item = Backend>, services: impl IntoIterator<Item = Service>) -> Self {
        let mut backends: Vec<_> = backends.into_iter().collect();
        crate::sorted::by(&mut backends, |left, right| identity(left).cmp(&identity(right)));
        Self { backends, services: crate::sorted::set(services), modes: BTreeMap::new() }
    }

    /// Says which mode a mesh has.
    pub fn set_mode(&mut self, mesh: impl Into<String>, mode: MeshMode) {
        self.modes.insert(mesh.into(), mode);
    }

    /// The backends of all meshes.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The services of all meshes.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.iter()
    }

    /// The mode of a mesh, if one was said.
    pub fn mode(&self, mesh: &str) -> Option<MeshMode> {
        self.modes.get(mesh).copied()
    }
}

/// What tells a backend from every other.
fn identity(backend: &Backend) -> (BackendKind, &str, &str, Option<&str>, Option<&str>) {
    (backend.kind, &backend.mesh, &backend.name, backend.namespace(), backend.zone())
}

/// Collects [`Destinations`] from documents, with all that is wrong with them.
///
/// Resources are read in the form of Universal and in that of Kubernetes, one or more in a document of YAML, or as
/// `items` of a list, such as `kumactl get … -o yaml` and `kubectl get … -o yaml` print. `MeshService`,
/// `MeshExternalService` and `MeshMultiZoneService` are backends; a `Dataplane` has services; a `Mesh` has a mode. All
/// other kinds are passed over.
///
/// A label that Kuma adds when it stores a resource (display name, namespace, mesh) is added if it is missing, so
/// that a file can be asked about before it is applied.
#[derive(Debug, Default)]
pub struct Resources {
    reader: Reader,
    backends: Vec<Backend>,
    services: Vec<Service>,
    modes: BTreeMap<String, MeshMode>,
}

impl Resources {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the resources of a text. `name` is what messages call it, for example the path of a file.
    pub fn document(&mut self, name: &str, text: &str, format: Format) {
        self.reader.prefix.clear();
        let nodes = self.reader.documents(name, text, format);
        let several = nodes.len() > 1;
        for (index, node) in nodes.iter().enumerate() {
            let which = if several { format!(" document {}", index + 1) } else { String::new() };
            self.resource(&format!("{}{which}", visible(name)), node);
        }
        self.reader.prefix.clear();
    }

    /// Adds a resource, or those of a list.
    fn resource(&mut self, name: &str, node: &Node) {
        let kind = Resource::kind_of(node);
        let items = match node {
            Node::Map(entries) if kind.is_none_or(|kind| kind.ends_with("List")) => {
                entries.iter().find_map(|(key, value)| match value {
                    Node::List(items) if key == "items" => Some(items),
                    _ => None,
                })
            }
            _ => None,
        };
        if let Some(items) = items {
            // A list in a list is no resource, so this does not nest.
            for (index, item) in items.iter().enumerate() {
                self.single(&format!("{name} items[{index}]"), item);
            }
            return;
        }
        self.single(name, node);
    }

    fn single(&mut self, name: &str, node: &Node) {
        self.reader.prefix = format!("{name}: ");
        let reader = &mut self.reader;
        match Resource::kind_of(node) {
            None => reader.refuse("", &node.quoted(), "a resource with a type or kind"),
            Some("Dataplane") => {
                let Some(resource) = Resource::read(reader, node) else { return };
                let dataplane = Dataplane::of(reader, resource);
                self.services.extend(dataplane.services().map(|service| Service::new(&dataplane.mesh, service)));
            }
            Some("Mesh") => {
                if let Some((mesh, mode)) = mode(reader, node) {
                    self.modes.insert(mesh, mode);
                }
            }
            Some(kind) => match kind.parse::<BackendKind>() {
                Ok(kind) => self.backends.extend(backend(reader, kind, node)),
                Err(_) => {
                    if let Some(near) = nearest(kind, BackendKind::ALL.map(BackendKind::as_str)) {
                        let text = format!("the kind {} is passed over; did you mean {near}?", visible(kind));
                        reader.note(Note::warning("kind", text));
                    }
                }
            },
        }
    }

    /// What was collected, and what there is to say about it.
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of every document.
    pub fn finish(mut self) -> Result<(Destinations, Vec<Note>), Error> {
        let mut destinations = Destinations::new(self.backends, self.services);
        destinations.modes = self.modes;
        self.reader.prefix.clear();
        let mut seen = HashSet::new();
        for backend in &destinations.backends {
            if !seen.insert(identity(backend)) {
                let about = format!("{} {}", backend.kind, visible(&backend.name));
                self.reader.note(Note::warning(about, "there are several of this name; each is taken for itself"));
            }
        }
        self.reader.finish(Some(destinations))
    }
}

fn backend(reader: &mut Reader, kind: BackendKind, node: &Node) -> Option<Backend> {
    let resource = Resource::read(reader, node)?;
    if resource.name.is_empty() {
        reader.refuse("name", "", "the name of the resource");
    }
    let known = ["ports", "match"];
    let fields = reader.fields(resource.path, resource.body, &known, false)?;
    let ports = match kind {
        BackendKind::MeshExternalService => match fields.get("match") {
            Some(node) => port(reader, &fields.path("match"), node).into_iter().collect(),
            None => {
                reader.refuse(&fields.path("match"), "", "a mapping with the port of the service");
                Vec::new()
            }
        },
        BackendKind::MeshMultiZoneService | BackendKind::MeshService => ports(reader, &fields),
    };
    let (name, mesh, labels) = (resource.name, resource.mesh, resource.labels);
    Some(Backend { kind, name, mesh, labels, ports, vips: vips(node) })
}

/// The virtual addresses in the status of a resource. The control plane writes it, so that nothing in it is a mistake of
/// the user's.
fn vips(node: &Node) -> Vec<IpAddr> {
    let member = |node: &Node, key: &str| match node {
        Node::Map(entries) => entries.iter().find(|(found, _)| found == key).map(|(_, value)| value.clone()),
        _ => None,
    };
    let status = member(node, "status");
    let of = |key| status.as_ref().and_then(|status| member(status, key));
    let list = match of("vips") {
        Some(Node::List(items)) => items,
        _ => Vec::new(),
    };
    let address = |vip: Node| match member(&vip, "ip")? {
        Node::Text(text) => text.parse().ok(),
        _ => None,
    };
    list.into_iter().chain(of("vip")).filter_map(address).collect()
}

fn ports(reader: &mut Reader, fields: &Fields<'_>) -> Vec<BackendPort> {
    let path = fields.path("ports");
    let items = fields.get("ports").map(|node| reader.items(&path, node, "ports")).unwrap_or_default();
    items.iter().enumerate().filter_map(|(index, item)| port(reader, &format!("{path}[{index}]"), item)).collect()
}

fn port(reader: &mut Reader, path: &str, node: &Node) -> Option<BackendPort> {
    let fields = reader.fields(path, node, &["port", "name"], false)?;
    let name = fields.get("name").map(|_| reader.text_of(&fields, "name").to_owned());
    let text = fields.get("port").map(|node| node.scalar().map_or_else(|| node.quoted(), str::to_owned));
    match text.unwrap_or_default().parse() {
        Ok(number) => Some(BackendPort { number, name }),
        Err(error) => {
            reader.problem(InvalidValue::at(error, fields.path("port")));
            None
        }
    }
}

/// The name of a `Mesh`, and its mode if it says one.
fn mode(reader: &mut Reader, node: &Node) -> Option<(String, MeshMode)> {
    let resource = Resource::read(reader, node)?;
    let fields = reader.fields(resource.path, resource.body, &["meshServices"], false)?;
    let services = fields.get("meshServices")?;
    let fields = reader.fields(&join(resource.path, "meshServices"), services, &["mode"], false)?;
    let mode = reader.text_of(&fields, "mode");
    if mode.is_empty() {
        return None;
    }
    match mode.parse() {
        Ok(mode) => Some((resource.name, mode)),
        Err(error) => {
            reader.problem(InvalidValue::at(error, fields.path("mode")));
            None
        }
    }
}
