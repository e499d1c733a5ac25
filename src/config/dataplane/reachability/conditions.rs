//! What a reference asks of a backend, by the profile and where the workload is.

use super::super::resource::{DISPLAY_NAME, NAMESPACE, ZONE};
use super::super::{BackendKind, BackendRef, BackendSelector, Dataplane};
use super::{Backend, BackendPort};
use crate::config::Profile;

/// A reference as the conditions that a backend has to meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Conditions<'a> {
    pub(super) kind: BackendKind,
    /// The labels that must have these values; at least one.
    pub(super) labels: Vec<(&'a str, &'a str)>,
    /// A label that must be absent or empty.
    pub(super) absent: Option<&'static str>,
    pub(super) port: Option<u32>,
}

/// The ports of a backend that a reference means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ports {
    All,
    /// All, since none is the one that is asked for: `kuma-3`.
    AllInstead,
    /// The one that is asked for, where others of this backend's kind may have it too: `kuma-2.9`.
    One(usize),
    /// The one that is asked for, and no other backend: `kuma-3`.
    Asked(usize),
    /// The first without a name, since none is asked for, and no other backend: `kuma-3`.
    Unnamed(usize),
    None,
}

impl Ports {
    /// Whether Kuma looks at no other match after this one.
    pub(super) fn ends(&self) -> bool {
        matches!(self, Self::Asked(_) | Self::Unnamed(_))
    }

    /// The positions of these ports. Kuma 3 tells ports apart by their names, or numbers if they have none, so that
    /// one may stand for several.
    pub(super) fn positions(&self, backend: &Backend) -> impl Iterator<Item = usize> {
        (0..backend.ports.len()).filter(move |position| match self {
            Self::All | Self::AllInstead => true,
            Self::One(port) => position == port,
            Self::Asked(port) | Self::Unnamed(port) => same(&backend.ports[*port], &backend.ports[*position]),
            Self::None => false,
        })
    }
}

/// Whether Kuma 3 takes one port for the other. A name that is empty stands for all ports.
fn same(one: &BackendPort, other: &BackendPort) -> bool {
    match (one.name.as_deref(), other.name.as_deref()) {
        (Some(""), _) => true,
        (Some(one), Some(other)) => one == other,
        (None, None) => one.number == other.number,
        (Some(name), None) => is_number(name, u32::from(other.number.number())),
        (None, Some(name)) => is_number(name, u32::from(one.number.number())),
    }
}

/// Whether a name is this number. Most names are no numbers, so that it is seldom written out.
fn is_number(name: &str, number: u32) -> bool {
    name.as_bytes().first().is_some_and(u8::is_ascii_digit) && name == number.to_string()
}

impl<'a> Conditions<'a> {
    /// What a reference means, by the profile and where the workload is.
    pub(super) fn of(reference: &'a BackendRef, dataplane: &'a Dataplane, profile: Profile) -> Self {
        let kind = reference.kind;
        let port = match profile {
            Profile::Kuma3 => reference.port.filter(|port| *port > 0),
            Profile::Kuma29 => reference.port,
        };
        let (name, namespace) = match &reference.select {
            BackendSelector::Labels(labels) => {
                let labels = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
                return Self { kind, labels, absent: None, port };
            }
            BackendSelector::Name { name, namespace } => {
                (name.as_str(), namespace.as_deref().filter(|namespace| !namespace.is_empty()))
            }
        };
        let own = dataplane.namespace();
        if profile == Profile::Kuma29 {
            // Kuma 2.9 compares identifiers: what is absent on one side must be absent on the other.
            let namespace = namespace.or(own);
            let mut labels = vec![(DISPLAY_NAME, name)];
            labels.extend(namespace.map(|namespace| (NAMESPACE, namespace)));
            labels.extend(dataplane.zone().map(|zone| (ZONE, zone)));
            return Self { kind, labels, absent: namespace.is_none().then_some(NAMESPACE), port };
        }
        let (name, namespace, port) = match (kind, namespace, legacy_name(name)) {
            (BackendKind::MeshService, None, Some((name, namespace, number))) => {
                (name, Some(namespace).filter(|namespace| !namespace.is_empty()), port.or(number))
            }
            _ => (name, namespace, port),
        };
        let mut labels = vec![(DISPLAY_NAME, name)];
        labels.extend(namespace.or(own).map(|namespace| (NAMESPACE, namespace)));
        Self { kind, labels, absent: None, port }
    }

    pub(super) fn has_labels(&self, backend: &Backend) -> bool {
        self.labels.iter().all(|(label, value)| backend.labels.get(*label).is_some_and(|found| found == value))
            && self.absent.is_none_or(|label| backend.labels.get(label).is_none_or(String::is_empty))
    }

    /// Which ports of a backend that meets the other conditions are meant.
    pub(super) fn ports(&self, backend: &Backend, profile: Profile) -> Ports {
        let position = |is: &dyn Fn(&BackendPort) -> bool| backend.ports.iter().position(is);
        let number = |at: &BackendPort, port| u32::from(at.number.number()) == port;
        let name = |at: &BackendPort, port| at.name.as_deref().is_some_and(|name| is_number(name, port));
        match (profile, self.port) {
            (Profile::Kuma29, None) => Ports::All,
            // The number is first looked up, and taken for a name if no port has it.
            (Profile::Kuma29, Some(port)) => position(&|at| number(at, port))
                .or_else(|| position(&|at| name(at, port)))
                .map_or(Ports::None, Ports::One),
            (Profile::Kuma3, _) if self.kind == BackendKind::MeshExternalService => {
                if backend.ports.is_empty() {
                    Ports::All
                } else {
                    Ports::Asked(0)
                }
            }
            (Profile::Kuma3, None) => {
                position(&|at| at.name.as_deref().unwrap_or_default().is_empty()).map_or(Ports::All, Ports::Unnamed)
            }
            (Profile::Kuma3, Some(port)) => {
                position(&|at| number(at, port) || name(at, port)).map_or(Ports::AllInstead, Ports::Asked)
            }
        }
    }
}

/// The parts of `name_namespace_svc_port`, how services of Kubernetes are called in the tag `kuma.io/service`.
fn legacy_name(name: &str) -> Option<(&str, &str, Option<u32>)> {
    let mut parts = name.split('_');
    let (name, namespace) = (parts.next()?, parts.next()?);
    let port: i32 = parts.next().filter(|part| *part == "svc").and(parts.next())?.parse().ok()?;
    parts.next().is_none().then_some((name, namespace, u32::try_from(port).ok().filter(|port| *port > 0)))
}
