//! References against destinations.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::super::{BackendKind, BackendRef, Dataplane};
use super::wanted::{Ports, Wanted};
use super::{Backend, BackendPort, Destinations, MeshMode};
use crate::config::Profile;
use crate::model::Note;

/// What decides which backends, or which services, are reachable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Rule {
    /// All: the `Dataplane` has no section `transparentProxying`.
    NoSection,
    /// All: nothing is said.
    NothingSaid,
    /// None: `reachableBackends` is empty.
    Empty,
    /// The union of what the items of `reachableBackends` match.
    ReachableBackends,
    /// What the items of `networking.outbound` match, in place of `reachableBackends`: `kuma-3`.
    Outbounds,
    /// No backend: the mesh has the mode `ReachableBackends`, and the workload says nothing: `kuma-2.9`.
    MeshMode,
    /// No backend: the workload has `reachableServices` and no `reachableBackends`: `kuma-2.9`.
    OnlyServices,
    /// The services in `reachableServices`: `kuma-2.9`.
    ReachableServices,
    /// All services: `kuma-3` does not read `reachableServices`.
    NotInProfile,
}

impl Rule {
    /// Whether everything is reachable by this rule alone.
    pub fn allows_all(self) -> bool {
        matches!(self, Self::NoSection | Self::NothingSaid | Self::NotInProfile)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSection => "the Dataplane has no transparentProxying, so nothing is filtered",
            Self::NothingSaid => "the Dataplane does not say what it reaches, so all is reachable",
            Self::Empty => "reachableBackends is empty, so no backend is reachable",
            Self::ReachableBackends => "reachableBackends lists what is reachable",
            Self::Outbounds => "networking.outbound has backends, which take the place of reachableBackends",
            Self::MeshMode => "the mesh has meshServices.mode ReachableBackends, and there is no reachableBackends",
            Self::OnlyServices => "reachableServices is set and reachableBackends is not, so no backend is reachable",
            Self::ReachableServices => "reachableServices lists what is reachable",
            Self::NotInProfile => "Kuma 3 does not read reachableServices, so no service is filtered",
        })
    }
}

/// A backend that can be reached, and its ports that can.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reached<'a> {
    /// The backend.
    pub backend: &'a Backend,
    /// The ports of it, in its own order.
    pub ports: Vec<&'a BackendPort>,
}

impl Serialize for Reached<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let backend = self.backend;
        let mut fields = serializer.serialize_struct("Reached", 5)?;
        fields.serialize_field("kind", &backend.kind)?;
        fields.serialize_field("mesh", &backend.mesh)?;
        fields.serialize_field("name", &backend.name)?;
        if let Some(namespace) = backend.namespace() {
            fields.serialize_field("namespace", namespace)?;
        }
        fields.serialize_field("ports", &self.ports)?;
        fields.end()
    }
}

/// What one workload reaches. See the [module](super) for the rules.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Reachability<'a> {
    pub(super) dataplane: &'a Dataplane,
    pub(super) destinations: &'a Destinations,
    pub(super) profile: Profile,
    pub(super) backend_rule: Rule,
    pub(super) service_rule: Rule,
    /// The references that decide, if any do.
    pub(super) wanted: Vec<Wanted<'a>>,
    /// For each backend, whether each of its ports is reached; empty where all or none are.
    reached: Vec<Vec<bool>>,
    notes: Vec<Note>,
}

impl<'a> Reachability<'a> {
    /// Holds what a workload says against all that there is.
    ///
    /// The time is that of reading the references and the destinations once, and of writing down what matches: for
    /// each reference only the destinations are looked at that have the rarest of its labels.
    pub fn of(dataplane: &'a Dataplane, destinations: &'a Destinations, profile: Profile) -> Self {
        let mut this = Self {
            dataplane,
            destinations,
            profile,
            backend_rule: Rule::NoSection,
            service_rule: Rule::NoSection,
            wanted: Vec::new(),
            reached: Vec::new(),
            notes: Vec::new(),
        };
        let Some(section) = &dataplane.transparent_proxying else { return this };
        let services = section.reachable_services.as_ref().filter(|services| !services.is_empty());
        this.service_rule = match (services, profile) {
            (None, _) => Rule::NothingSaid,
            (Some(_), Profile::Kuma29) => Rule::ReachableServices,
            (Some(_), Profile::Kuma3) => {
                let text = "has no effect in Kuma 3, which knows reachableBackends only";
                this.notes.push(Note::warning("networking.transparentProxying.reachableServices", text));
                Rule::NotInProfile
            }
        };
        if profile == Profile::Kuma3
            && !dataplane.outbounds.is_empty()
            && this.resolve(&dataplane.outbounds, Rule::Outbounds)
        {
            return this;
        }
        let mode = destinations.mode(&dataplane.mesh);
        let rule = match (&section.reachable_backends, profile) {
            (Some(backends), _) if backends.refs.is_empty() => Rule::Empty,
            (Some(backends), _) => {
                this.resolve(&backends.refs, Rule::ReachableBackends);
                return this;
            }
            (None, Profile::Kuma29) if services.is_some() => Rule::OnlyServices,
            (None, Profile::Kuma29) if mode == Some(MeshMode::ReachableBackends) => Rule::MeshMode,
            (None, _) => Rule::NothingSaid,
        };
        this.wanted.clear();
        this.reached.clear();
        this.backend_rule = rule;
        this
    }

    /// Takes these references for what decides, and says whether they match anything.
    fn resolve(&mut self, references: &'a [BackendRef], rule: Rule) -> bool {
        let (dataplane, profile) = (self.dataplane, self.profile);
        let backends = &self.destinations.backends();
        self.backend_rule = rule;
        self.wanted = references.iter().map(|reference| Wanted::of(reference, dataplane, profile)).collect();
        self.reached = backends.iter().map(|backend| vec![false; backend.ports.len()]).collect();
        let index = Index::of(&self.wanted, backends, &dataplane.mesh);
        let mut done = HashSet::new();
        let mut any = false;
        for (position, wanted) in self.wanted.iter().enumerate() {
            // Many of the same shall not cost more than one.
            if !done.insert(wanted) {
                continue;
            }
            let (mut matches, mut instead, mut chosen) = (0_usize, 0_usize, false);
            for backend in index.matches(wanted, backends) {
                matches += 1;
                let reached = &mut self.reached[backend];
                match wanted.ports(&backends[backend], profile) {
                    Ports::All => reached.fill(true),
                    Ports::AllInstead => {
                        instead += 1;
                        reached.fill(true);
                    }
                    Ports::One(port) => {
                        chosen = true;
                        reached[port] = true;
                    }
                    Ports::None => instead += 1,
                }
                any |= reached.contains(&true);
            }
            let about = rule.path(position);
            if rule == Rule::ReachableBackends {
                let summary = (matches, instead, chosen || wanted.kind == BackendKind::MeshExternalService);
                self.notes.extend(notes(about, &references[position], summary, profile));
            }
        }
        any
    }

    /// The profile whose rules were followed.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// What decides which backends are reachable.
    pub fn backend_rule(&self) -> Rule {
        self.backend_rule
    }

    /// What decides which services are reachable.
    pub fn service_rule(&self) -> Rule {
        self.service_rule
    }

    /// The backends that are reachable on at least one port, in the order of the destinations.
    pub fn backends(&self) -> impl Iterator<Item = Reached<'a>> {
        let backends = self.destinations.backends().iter().enumerate();
        backends.filter_map(|(index, backend)| {
            let ports = self.ports(index, backend);
            (!ports.is_empty()).then_some(Reached { backend, ports })
        })
    }

    pub(super) fn ports(&self, index: usize, backend: &'a Backend) -> Vec<&'a BackendPort> {
        if backend.mesh != self.dataplane.mesh {
            return Vec::new();
        }
        let all = self.backend_rule.allows_all();
        let reached = self.reached.get(index);
        let ports = backend.ports.iter().enumerate();
        ports.filter(|(port, _)| all || reached.is_some_and(|reached| reached[*port])).map(|(_, port)| port).collect()
    }

    /// The values of `kuma.io/service` that are reachable, in order.
    pub fn services(&self) -> impl Iterator<Item = &'a str> {
        let listed: HashSet<&str> = self.listed_services().collect();
        let all = self.service_rule.allows_all();
        self.destinations
            .services()
            .filter(|service| service.mesh == self.dataplane.mesh)
            .map(|service| service.name.as_str())
            .filter(move |service| all || listed.contains(service))
    }

    pub(super) fn listed_services(&self) -> impl Iterator<Item = &'a str> {
        let section = self.dataplane.transparent_proxying.as_ref();
        section.and_then(|section| section.reachable_services.as_ref()).into_iter().flatten().map(String::as_str)
    }

    /// What there is to say: references that match nothing, ports that no destination has, and choices that Kuma
    /// leaves to chance.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// All of it as JSON: the rules, the reachable backends with their ports, the services, the notes.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers can be written")
    }

    /// The same in YAML.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> String {
        yaml_serde::to_string(self).expect("texts and numbers can be written")
    }
}

impl Serialize for Reachability<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Reachability", 6)?;
        fields.serialize_field("profile", &self.profile.to_string())?;
        fields.serialize_field("backendRule", &self.backend_rule.to_string())?;
        fields.serialize_field("backends", &self.backends().collect::<Vec<_>>())?;
        fields.serialize_field("serviceRule", &self.service_rule.to_string())?;
        fields.serialize_field("services", &self.services().collect::<Vec<_>>())?;
        fields.serialize_field("notes", &self.notes)?;
        fields.end()
    }
}

impl Rule {
    /// What messages call the reference at a position.
    pub(super) fn path(self, position: usize) -> String {
        match self {
            Self::Outbounds => format!("networking.outbound, backend {}", position + 1),
            _ => format!("refs[{position}]"),
        }
    }
}

fn notes(
    about: String,
    reference: &BackendRef,
    (matches, without_port, chosen): (usize, usize, bool),
    profile: Profile,
) -> Vec<Note> {
    let mut notes = Vec::new();
    let port = reference.port.unwrap_or_default();
    if matches == 0 {
        notes.push(Note::warning(&about, format!("{reference} matches nothing")));
    }
    if without_port > 0 {
        let (so, what) = match profile {
            Profile::Kuma3 => ("all their ports are reachable", "some destinations have"),
            Profile::Kuma29 => ("they are not reachable", "some destinations have"),
        };
        let what = if without_port == matches { "no destination has" } else { what };
        let not = if without_port == matches { "" } else { "no " };
        notes.push(Note::warning(&about, format!("{what} {not}port {port}, so {so}")));
    }
    if profile == Profile::Kuma3 && matches > 1 && chosen {
        let text = format!("Kuma takes one of these {matches} matches, by chance; all of them are listed here");
        notes.push(Note::info(&about, text));
    }
    notes
}

/// The backends of one mesh by the labels that references ask for.
struct Index<'a> {
    by_label: HashMap<(BackendKind, &'a str, &'a str), Vec<usize>>,
}

impl<'a> Index<'a> {
    fn of(wanted: &[Wanted<'a>], backends: &'a [Backend], mesh: &str) -> Self {
        let keys: HashSet<&str> = wanted.iter().flat_map(|wanted| &wanted.labels).map(|(label, _)| *label).collect();
        let mut by_label: HashMap<_, Vec<usize>> = HashMap::new();
        for (index, backend) in backends.iter().enumerate().filter(|(_, backend)| backend.mesh == mesh) {
            for label in &keys {
                if let Some(value) = backend.labels.get(*label) {
                    by_label.entry((backend.kind, *label, value.as_str())).or_default().push(index);
                }
            }
        }
        Self { by_label }
    }

    /// The backends that meet all conditions but the port, in order.
    fn matches(&self, wanted: &Wanted<'a>, backends: &[Backend]) -> impl Iterator<Item = usize> {
        let lists = wanted.labels.iter().map(|(label, value)| {
            self.by_label.get(&(wanted.kind, *label, *value)).map(Vec::as_slice).unwrap_or_default()
        });
        let rarest = lists.min_by_key(|list| list.len()).unwrap_or_default();
        rarest.iter().copied().filter(|index| wanted.has_labels(&backends[*index]))
    }
}
