//! What a reference asks of a backend, by the profile and where the workload is.

use super::super::resource::{DISPLAY_NAME, NAMESPACE, ZONE};
use super::super::{BackendKind, BackendRef, BackendSelector, Dataplane};
use super::{Backend, BackendPort};
use crate::config::Profile;

/// A reference as the conditions that a backend has to meet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Wanted<'a> {
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
    /// All, since none is the one that is asked for.
    AllInstead,
    One(usize),
    None,
}

impl<'a> Wanted<'a> {
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
        let Some(port) = self.port else { return Ports::All };
        if self.kind == BackendKind::MeshExternalService && profile == Profile::Kuma3 {
            return Ports::All;
        }
        let number = |at: &BackendPort| u32::from(at.number.number()) == port;
        // Most names are no numbers, so that it is seldom written out.
        let digits = |name: &String| name.as_bytes().first().is_some_and(u8::is_ascii_digit);
        let name = |at: &BackendPort| at.name.as_ref().is_some_and(|name| digits(name) && *name == port.to_string());
        let position = |is: &dyn Fn(&BackendPort) -> bool| backend.ports.iter().position(is).map(Ports::One);
        match profile {
            Profile::Kuma3 => position(&|at| number(at) || name(at)).unwrap_or(Ports::AllInstead),
            // The number is first looked up, and taken for a name if no port has it.
            Profile::Kuma29 => position(&number).or_else(|| position(&name)).unwrap_or(Ports::None),
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
