//! Why a destination is reachable, or why not.

use std::fmt;

use serde::ser::{Serialize, SerializeStruct, Serializer};

use super::super::BackendRef;
use super::choice::{Grade, Tally};
use super::conditions::{Conditions, Ports};
use super::{Backend, BackendPort, Reachability, Rule};
use crate::error::visible;

/// Why one destination is reachable or not. `Display` is the answer in words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explanation<'a> {
    /// The backend; none for a service of the older form.
    pub backend: Option<&'a Backend>,
    /// Its name, or the value of `kuma.io/service`.
    pub name: &'a str,
    /// The mesh that it is in.
    pub mesh: &'a str,
    /// Whether it is in the mesh of the workload; if not, nothing else matters.
    pub same_mesh: bool,
    /// Whether it is reachable for certain, on one port at least.
    pub reachable: bool,
    /// The ports that are reachable for certain; none for a service.
    pub ports: Vec<&'a BackendPort>,
    /// The ports that are reachable only if Kuma happens to choose them.
    pub ports_by_chance: Vec<&'a BackendPort>,
    /// The ports that Kuma makes no listener for, since the workload itself listens there.
    pub own_ports: Vec<&'a BackendPort>,
    /// What decides.
    pub rule: Rule,
    /// What each reference has to do with it, where references decide.
    pub references: Vec<ReferenceOutcome<'a>>,
}

/// What one reference has to do with a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReferenceOutcome<'a> {
    /// Which one: `refs[3]`.
    pub path: String,
    /// The reference.
    pub reference: &'a BackendRef,
    /// Whether it matches.
    pub matched: Matched<'a>,
    /// Whether Kuma takes the match for certain.
    pub chance: Chance,
}

/// Whether Kuma takes a match for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Chance {
    /// It does, or there is no match.
    None,
    /// It takes one of so many.
    OneOf(usize),
    /// It takes this one if it comes across it before a match that ends the search.
    IfBefore,
}

/// Whether a reference matches a destination.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Matched<'a> {
    /// All ports.
    AllPorts,
    /// One port.
    Port(&'a BackendPort),
    /// One port, the first that has no name, since none is asked for: `kuma-3`.
    FirstUnnamed(&'a BackendPort),
    /// All ports, since none is the one that is asked for: `kuma-3`.
    AllPortsInstead,
    /// Not, and this is missing.
    No(Vec<Lack<'a>>),
}

/// What a destination would need for a reference to match.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack<'a> {
    /// Another kind, this one.
    Kind(super::super::BackendKind),
    /// A label.
    Label {
        /// Which one.
        label: &'a str,
        /// The value that the reference asks for.
        wanted: &'a str,
        /// The value that the destination has, if any.
        found: Option<&'a str>,
    },
    /// To be without a label: neither the reference nor the workload has a namespace, in `kuma-2.9`.
    NoLabel {
        /// Which one.
        label: &'a str,
        /// The value that the destination has.
        found: &'a str,
    },
    /// A port with this number or name.
    Port(u32),
}

impl<'a> Reachability<'a> {
    /// Why every destination of this name is reachable or not: backends by the name or the display name, then
    /// services. None if there is no such destination in any mesh.
    pub fn explain(&self, name: &str) -> Vec<Explanation<'a>> {
        let backends = self.destinations.backends().iter().enumerate();
        let named = backends.filter(|(_, backend)| backend.name == name || backend.display_name() == name);
        let services = self.destinations.services().filter(|service| service.name == name);
        let listed = |name: &str| match self.service_rule {
            Rule::ReachableServices => self.listed_services().any(|listed| listed == name),
            rule => rule.allows_all(),
        };
        named
            .map(|(index, backend)| self.explain_backend(index, backend))
            .chain(services.map(|service| {
                let same_mesh = service.mesh == self.dataplane.mesh;
                Explanation {
                    backend: None,
                    name: &service.name,
                    mesh: &service.mesh,
                    same_mesh,
                    reachable: same_mesh && listed(&service.name),
                    ports: Vec::new(),
                    ports_by_chance: Vec::new(),
                    own_ports: Vec::new(),
                    rule: self.service_rule,
                    references: Vec::new(),
                }
            }))
            .collect()
    }

    fn explain_backend(&self, index: usize, backend: &'a Backend) -> Explanation<'a> {
        let same_mesh = backend.mesh == self.dataplane.mesh;
        let [ports, ports_by_chance] = [Grade::Always, Grade::ByChance].map(|grade| self.ports(index, backend, grade));
        let own_ports = self.own_ports(index, backend).collect();
        let wanted = self.wanted.iter().enumerate().filter(|_| same_mesh);
        let references = wanted
            .zip(self.references())
            .map(|((position, (wanted, tally)), reference)| {
                let (matched, chance) = self.matched(wanted, tally, backend);
                ReferenceOutcome { path: self.backend_rule.path(position), reference, matched, chance }
            })
            .collect();
        Explanation {
            backend: Some(backend),
            name: &backend.name,
            mesh: &backend.mesh,
            same_mesh,
            reachable: !ports.is_empty(),
            ports,
            ports_by_chance,
            own_ports,
            rule: self.backend_rule,
            references,
        }
    }

    fn matched(&self, wanted: &Conditions<'a>, tally: &Tally, backend: &'a Backend) -> (Matched<'a>, Chance) {
        let mut lacks = Vec::new();
        if wanted.kind != backend.kind {
            lacks.push(Lack::Kind(wanted.kind));
        }
        lacks.extend(wanted.labels.iter().filter_map(|(label, value)| {
            let found = backend.labels.get(*label).map(String::as_str);
            (found != Some(*value)).then_some(Lack::Label { label, wanted: value, found })
        }));
        lacks.extend(wanted.absent.and_then(|label| {
            let found = backend.labels.get(label).filter(|found| !found.is_empty())?;
            Some(Lack::NoLabel { label, found })
        }));
        let ports = if lacks.is_empty() { wanted.ports(backend, self.profile) } else { Ports::None };
        let chance = match (tally.grade(&ports), ports.ends()) {
            (Grade::ByChance, true) => Chance::OneOf(tally.ending),
            (Grade::ByChance, false) if ports != Ports::None => Chance::IfBefore,
            _ => Chance::None,
        };
        let matched = match ports {
            Ports::All => Matched::AllPorts,
            Ports::AllInstead => Matched::AllPortsInstead,
            Ports::One(port) | Ports::Asked(port) => Matched::Port(&backend.ports[port]),
            Ports::Unnamed(port) => Matched::FirstUnnamed(&backend.ports[port]),
            Ports::None => {
                lacks.extend(wanted.port.filter(|_| lacks.is_empty()).map(Lack::Port));
                Matched::No(lacks)
            }
        };
        (matched, chance)
    }
}

/// `kind` and `namespace` where there is one, `name`, `mesh`, `reachable`, `ports`, `portsByChance`, `rule`, `references`
/// with `path`, `reference`, `matches`, `byChance` and `why`, and `why` in words.
impl Serialize for Explanation<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Explanation", 10)?;
        if let Some(backend) = self.backend {
            fields.serialize_field("kind", &backend.kind)?;
        }
        fields.serialize_field("name", self.name)?;
        if let Some(namespace) = self.backend.and_then(Backend::namespace) {
            fields.serialize_field("namespace", namespace)?;
        }
        fields.serialize_field("mesh", self.mesh)?;
        fields.serialize_field("reachable", &self.reachable)?;
        fields.serialize_field("ports", &self.ports)?;
        fields.serialize_field("portsByChance", &self.ports_by_chance)?;
        fields.serialize_field("rule", &self.rule.to_string())?;
        fields.serialize_field("references", &self.references)?;
        fields.serialize_field("why", &self.to_string())?;
        fields.end()
    }
}

impl Serialize for ReferenceOutcome<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("ReferenceOutcome", 5)?;
        fields.serialize_field("path", &self.path)?;
        fields.serialize_field("reference", self.reference)?;
        fields.serialize_field("matches", &self.matches())?;
        fields.serialize_field("byChance", &(self.chance != Chance::None))?;
        fields.serialize_field("why", &self.to_string())?;
        fields.end()
    }
}

impl fmt::Display for Explanation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.backend {
            Some(backend) => write!(f, "{} {}", backend.kind, visible(self.name))?,
            None => write!(f, "service {}", visible(self.name))?,
        }
        if let Some(namespace) = self.backend.and_then(Backend::namespace) {
            write!(f, " in {}", visible(namespace))?;
        }
        self.verdict(f)?;
        if !self.same_mesh {
            return write!(f, ": it is in the mesh {}", visible(self.mesh));
        }
        let perhaps = self.reachable || !self.ports_by_chance.is_empty();
        let list = match self.rule {
            Rule::ReachableBackends => "reachableBackends",
            Rule::Outbounds => "networking.outbound",
            Rule::ReachableServices if !self.reachable => return f.write_str(": it is not in reachableServices"),
            Rule::ReachableServices => return f.write_str(": it is in reachableServices"),
            rule if self.own_ports.is_empty() => return write!(f, ": {rule}"),
            _ => "",
        };
        if self.backend.is_some_and(|backend| backend.ports.is_empty()) {
            return f.write_str(": it has no ports");
        }
        if !self.own_ports.is_empty() {
            write!(f, ": {} an inbound of the workload itself", listed(&self.own_ports, "is", "are"))?;
        }
        if !perhaps && self.own_ports.is_empty() {
            write!(f, ": no item of {list} matches")?;
        }
        let matches = perhaps || !self.own_ports.is_empty();
        let mut telling = self.references.iter().filter(|outcome| outcome.matches() == matches);
        telling.try_for_each(|outcome| write!(f, "\n  {outcome}"))
    }
}

/// `port 80 (http)`, or `ports 80, 81`, with a verb behind it if there is one.
fn listed(ports: &[&BackendPort], is: &str, are: &str) -> String {
    let list: Vec<_> = ports.iter().map(ToString::to_string).collect();
    let (word, verb) = if list.len() == 1 { ("port", is) } else { ("ports", are) };
    format!("{word} {} {verb}", list.join(", ")).trim_end().to_owned()
}

impl Explanation<'_> {
    /// Whether it is reachable, and on which ports.
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chance = listed(&self.ports_by_chance, "", "");
        match (self.reachable, self.ports.is_empty(), self.ports_by_chance.is_empty()) {
            (false, _, true) => f.write_str(" is not reachable"),
            (false, _, false) => write!(f, " might be reachable on {chance}, by Kuma's choice"),
            (true, true, _) => f.write_str(" is reachable"),
            (true, false, true) => write!(f, " is reachable on {}", listed(&self.ports, "", "")),
            (true, false, false) => {
                write!(
                    f,
                    " is reachable on {}, and might be on {chance}, by Kuma's choice",
                    listed(&self.ports, "", "")
                )
            }
        }
    }
}

impl ReferenceOutcome<'_> {
    fn matches(&self) -> bool {
        !matches!(self.matched, Matched::No(_))
    }
}

impl fmt::Display for ReferenceOutcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}) ", self.path, self.reference)?;
        match &self.matched {
            Matched::AllPorts => f.write_str("matches all ports")?,
            Matched::Port(port) => write!(f, "matches port {port}")?,
            Matched::FirstUnnamed(port) => write!(f, "matches port {port}, the first that has no name")?,
            Matched::AllPortsInstead => {
                f.write_str("matches, and all ports are meant, since none is the one asked for")?;
            }
            Matched::No(lacks) => {
                f.write_str("needs ")?;
                for (index, lack) in lacks.iter().enumerate() {
                    let separator = if index > 0 { ", and " } else { "" };
                    write!(f, "{separator}{lack}")?;
                }
            }
        }
        match self.chance {
            Chance::None => Ok(()),
            Chance::OneOf(rivals) => write!(f, "; Kuma takes one of {rivals} such matches, by chance"),
            Chance::IfBefore => f.write_str("; Kuma takes it only if it comes before a match that ends the search"),
        }
    }
}

impl fmt::Display for Lack<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "the kind {kind}"),
            Self::NoLabel { label, found } => {
                write!(f, "no label {}; here it is {}", visible(label), visible(found))
            }
            Self::Label { label, wanted, found } => {
                write!(f, "the label {}={}", visible(label), visible(wanted))?;
                found.map_or(Ok(()), |found| write!(f, "; here it is {}", visible(found)))
            }
            Self::Port(port) => write!(f, "a port {port}"),
        }
    }
}
