//! What a workload reaches, found by holding every reference against every port of every backend. It shares no code
//! with the library beyond the types of its inputs.

use std::collections::BTreeSet;

use kumatp::config::Profile;
use kumatp::config::dataplane::reachability::{Backend, Destinations, MeshMode};
use kumatp::config::dataplane::{BackendKind, BackendRef, BackendSelector, Dataplane};

const DISPLAY_NAME: &str = "kuma.io/display-name";
const NAMESPACE: &str = "k8s.kuma.io/namespace";
const ZONE: &str = "kuma.io/zone";

/// The positions of backends among the destinations, each with the position of a port.
pub(crate) type Ports = BTreeSet<(usize, usize)>;

pub(crate) fn backends(dataplane: &Dataplane, destinations: &Destinations, profile: Profile) -> Ports {
    let all = || {
        let of_mesh = destinations.backends().iter().enumerate().filter(|(_, b)| b.mesh == dataplane.mesh);
        of_mesh.flat_map(|(i, b)| (0..b.ports.len()).map(move |p| (i, p))).collect()
    };
    let union = |refs: &[BackendRef]| -> Ports {
        refs.iter().flat_map(|reference| one(reference, dataplane, destinations, profile)).collect()
    };
    let Some(section) = &dataplane.transparent_proxying else { return all() };
    if profile == Profile::Kuma3 {
        let outbounds = union(&dataplane.outbounds);
        if !outbounds.is_empty() {
            return outbounds;
        }
    }
    match &section.reachable_backends {
        Some(backends) => union(&backends.refs),
        None if profile == Profile::Kuma29 => {
            let services = section.reachable_services.as_ref().is_some_and(|services| !services.is_empty());
            let mode = destinations.mode(&dataplane.mesh) == Some(MeshMode::ReachableBackends);
            if services || mode { Ports::new() } else { all() }
        }
        None => all(),
    }
}

fn one(reference: &BackendRef, dataplane: &Dataplane, destinations: &Destinations, profile: Profile) -> Ports {
    let mut ports = Ports::new();
    for (index, backend) in destinations.backends().iter().enumerate() {
        if backend.mesh != dataplane.mesh || backend.kind != reference.kind {
            continue;
        }
        let asked = match profile {
            Profile::Kuma3 => meant_by_kuma_3(reference, dataplane, backend),
            _ => meant_by_kuma_2_9(reference, dataplane, backend),
        };
        ports.extend(asked.into_iter().map(|port| (index, port)));
    }
    ports
}

fn label<'b>(labels: &'b std::collections::BTreeMap<String, String>, key: &str) -> &'b str {
    labels.get(key).map_or("", String::as_str)
}

fn all_labels(select: &BackendSelector, backend: &Backend) -> bool {
    match select {
        BackendSelector::Labels(labels) => labels.iter().all(|pair| backend.labels.iter().any(|own| own == pair)),
        _ => false,
    }
}

fn meant_by_kuma_3(reference: &BackendRef, dataplane: &Dataplane, backend: &Backend) -> Vec<usize> {
    let every = (0..backend.ports.len()).collect();
    let mut section = reference.port.filter(|port| *port != 0).map(|port| port.to_string());
    let matches = match &reference.select {
        BackendSelector::Name { name, namespace } => {
            let (mut name, mut namespace) = (name.clone(), namespace.clone().unwrap_or_default());
            let parts: Vec<String> = name.split('_').map(str::to_owned).collect();
            if let (BackendKind::MeshService, "", [a, b, svc, number]) =
                (reference.kind, namespace.as_str(), parts.as_slice())
            {
                if let (true, Ok(number)) = (svc == "svc", number.parse::<i32>()) {
                    (name, namespace) = (a.clone(), b.clone());
                    if section.is_none() && number > 0 {
                        section = Some(number.to_string());
                    }
                }
            }
            if namespace.is_empty() {
                namespace = label(&dataplane.labels, NAMESPACE).to_owned();
            }
            label(&backend.labels, DISPLAY_NAME) == name
                && (namespace.is_empty() || label(&backend.labels, NAMESPACE) == namespace)
        }
        labels => all_labels(labels, backend),
    };
    let Some(section) = section.filter(|_| backend.kind != BackendKind::MeshExternalService) else {
        return if matches { every } else { Vec::new() };
    };
    let is = |port: &usize| {
        let port = &backend.ports[*port];
        port.name.as_deref() == Some(&section) || port.number.to_string() == section
    };
    match (matches, (0..backend.ports.len()).find(is)) {
        (false, _) => Vec::new(),
        (true, Some(port)) => vec![port],
        (true, None) => every,
    }
}

fn meant_by_kuma_2_9(reference: &BackendRef, dataplane: &Dataplane, backend: &Backend) -> Vec<usize> {
    let matches = match &reference.select {
        BackendSelector::Name { name, namespace } => {
            let own = label(&dataplane.labels, NAMESPACE);
            let namespace = namespace.as_deref().filter(|given| !given.is_empty()).unwrap_or(own);
            let zone = label(&dataplane.labels, ZONE);
            label(&backend.labels, DISPLAY_NAME) == name
                && label(&backend.labels, NAMESPACE) == namespace
                && (zone.is_empty() || label(&backend.labels, ZONE) == zone)
        }
        labels => all_labels(labels, backend),
    };
    if !matches {
        return Vec::new();
    }
    let Some(asked) = reference.port else { return (0..backend.ports.len()).collect() };
    let numbers = backend.ports.iter().map(|port| u32::from(port.number.number()));
    let by_number = numbers.enumerate().find(|(_, number)| *number == asked).map(|(port, _)| port);
    let names = backend.ports.iter().enumerate();
    let by_name = names.filter(|(_, port)| port.name.as_deref() == Some(&asked.to_string())).map(|(port, _)| port);
    by_number.or_else(|| by_name.min()).into_iter().collect()
}
