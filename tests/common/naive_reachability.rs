//! What a workload reaches, found by doing what Kuma does: every reference against every backend, and Kuma's search in
//! every order that matters. It shares no code with the library beyond the types of its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use kumatp::config::dataplane::reachability::{Backend, BackendPort, Destinations, MeshMode};
use kumatp::config::dataplane::{BackendKind, BackendRef, BackendSelector, Dataplane, ResourceFamilyMode};
use kumatp::config::{Config, Profile};
use kumatp::model::IpFamilyMode;

const DISPLAY_NAME: &str = "kuma.io/display-name";
const NAMESPACE: &str = "k8s.kuma.io/namespace";
const ZONE: &str = "kuma.io/zone";

/// The positions of backends among the destinations, each with the position of a port.
pub(crate) type Ports = BTreeSet<(usize, usize)>;

/// What is reached whatever Kuma chooses, and what else might be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) certain: Ports,
    pub(crate) perhaps: Ports,
}

pub(crate) fn backends(
    dataplane: &Dataplane,
    destinations: &Destinations,
    profile: Profile,
    flag: Option<&Config>,
) -> Answer {
    let listeners = |ports: Ports| -> Ports {
        let listens = |(backend, port): &(usize, usize)| {
            let backend = &destinations.backends()[*backend];
            // A port has a listener at every virtual address that is not the workload's own.
            backend.vips.is_empty() || backend.vips.iter().any(|vip| !is_own(dataplane, *vip, &backend.ports[*port]))
        };
        ports.into_iter().filter(listens).collect()
    };
    let all = || {
        let of_mesh = destinations.backends().iter().enumerate().filter(|(_, b)| b.mesh == dataplane.mesh);
        let all = of_mesh.flat_map(|(i, b)| (0..b.ports.len()).map(move |p| (i, p))).collect();
        Answer { certain: listeners(all), perhaps: Ports::new() }
    };
    let union = |refs: &[BackendRef]| {
        let mut answer = Answer::default();
        for reference in refs {
            let matches = matches(reference, dataplane, destinations, profile);
            for backend in &matches {
                let others: Vec<usize> = matches.iter().copied().filter(|other| other != backend).collect();
                let search = |order: Vec<usize>| {
                    let ports = search(reference, destinations, profile, &order).into_iter();
                    ports.filter(|(found, _)| found == backend).collect::<Ports>()
                };
                answer.perhaps.extend(search([&[*backend], &others[..]].concat()));
                answer.certain.extend(search([&others[..], &[*backend]].concat()));
            }
        }
        let perhaps = answer.perhaps.difference(&answer.certain).copied().collect();
        Answer { certain: listeners(answer.certain), perhaps: listeners(perhaps) }
    };
    // kuma-dp 2.9 has no such flag.
    let flag = flag.filter(|_| profile == Profile::Kuma3);
    if !has_proxy(dataplane, flag) {
        return Answer::default();
    }
    let Some(section) = &dataplane.transparent_proxying else { return all() };
    if profile == Profile::Kuma3 {
        let any = |reference: &BackendRef| {
            let order = matches(reference, dataplane, destinations, profile);
            !search(reference, destinations, profile, &order).is_empty()
        };
        if dataplane.outbounds.iter().any(any) {
            return union(&dataplane.outbounds);
        }
    }
    match &section.reachable_backends {
        Some(backends) => union(&backends.refs),
        None if profile == Profile::Kuma29 => {
            let services = section.reachable_services.as_ref().is_some_and(|services| !services.is_empty());
            let mode = destinations.mode(&dataplane.mesh) == Some(MeshMode::ReachableBackends);
            if services || mode { Answer::default() } else { all() }
        }
        None => all(),
    }
}

/// Whether Kuma takes the workload for one with a transparent proxy.
pub(crate) fn has_proxy(dataplane: &Dataplane, flag: Option<&Config>) -> bool {
    let address = dataplane.address.clone().unwrap_or_default();
    // Names are looked up, and are taken for addresses of IPv4 here.
    let ipv6 = address.parse::<IpAddr>().is_ok() && !address.contains('.');
    let (ports, ipv4_only) = match (flag, &dataplane.transparent_proxying) {
        (Some(config), _) => {
            let ports = [config.redirect.inbound.enabled, config.redirect.outbound.enabled];
            (ports, config.ip_family_mode == IpFamilyMode::Ipv4)
        }
        (None, None) => return false,
        (None, Some(section)) => {
            let ports = [section.redirect_port_inbound.is_some(), section.redirect_port_outbound.is_some()];
            (ports, section.ip_family_mode == ResourceFamilyMode::Ipv4)
        }
    };
    ports.contains(&true) && !(ipv4_only && (ipv6 || address.is_empty()))
}

fn is_own(dataplane: &Dataplane, vip: IpAddr, port: &BackendPort) -> bool {
    dataplane.inbounds.iter().any(|inbound| {
        let address = inbound.address.as_ref().or(dataplane.address.as_ref());
        let address = address.and_then(|address| address.parse::<IpAddr>().ok());
        inbound.port == port.number && address.is_some_and(|own| own.is_unspecified() || own == vip)
    })
}

/// The backends that meet all conditions of a reference but the port.
pub(crate) fn matches(
    reference: &BackendRef,
    dataplane: &Dataplane,
    destinations: &Destinations,
    profile: Profile,
) -> Vec<usize> {
    let backends = destinations.backends().iter().enumerate();
    let of_kind = backends.filter(|(_, b)| b.mesh == dataplane.mesh && b.kind == reference.kind);
    let matches = of_kind.filter(|(_, backend)| match profile {
        Profile::Kuma3 => is_meant_by_kuma_3(&reference.select, dataplane, backend),
        _ => is_meant_by_kuma_2_9(&reference.select, dataplane, backend),
    });
    matches.map(|(index, _)| index).collect()
}

/// What one reference adds if Kuma looks at its matches in this order.
pub(crate) fn search(reference: &BackendRef, destinations: &Destinations, profile: Profile, order: &[usize]) -> Ports {
    // Kuma 3 notes down sections of backends: the names of ports, or their numbers in place of a name.
    let mut sections: BTreeSet<(usize, String)> = BTreeSet::new();
    let mut found = Ports::new();
    for index in order {
        let backend = &destinations.backends()[*index];
        if profile == Profile::Kuma29 {
            found.extend(ports_of_kuma_2_9(reference.port, backend).into_iter().map(|port| (*index, port)));
            continue;
        }
        let asked = section_of(reference);
        let is =
            |port: &&BackendPort| port.name.clone().unwrap_or_default() == asked || port.number.to_string() == asked;
        let taken = match backend.kind {
            BackendKind::MeshExternalService => backend.ports.first(),
            _ => backend.ports.iter().find(is),
        };
        if let Some(port) = taken {
            sections.insert((*index, section(port)));
            break;
        }
        sections.extend(backend.ports.iter().map(|port| (*index, section(port))));
    }
    for &index in order {
        let ports = destinations.backends()[index].ports.iter().enumerate();
        let noted = |name: String| sections.contains(&(index, name));
        let ports = ports.filter(|(_, port)| noted(section(port)) || noted(String::new()));
        found.extend(ports.map(|(port, _)| (index, port)));
    }
    found
}

fn section(port: &BackendPort) -> String {
    port.name.clone().unwrap_or_else(|| port.number.to_string())
}

/// The section that a reference asks for in Kuma 3; empty if it asks for none.
fn section_of(reference: &BackendRef) -> String {
    match (reference.port, legacy(reference)) {
        (Some(port @ 1..), _) => port.to_string(),
        (_, Some((_, _, number @ 1..))) => number.to_string(),
        _ => String::new(),
    }
}

/// The parts of the older form of a name.
fn legacy(reference: &BackendRef) -> Option<(String, String, i32)> {
    let BackendSelector::Name { name, namespace } = &reference.select else { return None };
    let parts: Vec<&str> = name.split('_').collect();
    match (reference.kind, namespace.as_deref().unwrap_or_default(), parts.as_slice()) {
        (BackendKind::MeshService, "", [name, namespace, "svc", number]) => {
            Some(((*name).to_owned(), (*namespace).to_owned(), number.parse().ok()?))
        }
        _ => None,
    }
}

fn label<'b>(labels: &'b BTreeMap<String, String>, key: &str) -> &'b str {
    labels.get(key).map_or("", String::as_str)
}

fn all_labels(labels: &BTreeMap<String, String>, backend: &Backend) -> bool {
    labels.iter().all(|pair| backend.labels.iter().any(|own| own == pair))
}

fn is_meant_by_kuma_3(select: &BackendSelector, dataplane: &Dataplane, backend: &Backend) -> bool {
    let (name, namespace) = match select {
        BackendSelector::Labels(labels) => return all_labels(labels, backend),
        BackendSelector::Name { name, namespace } => (name.clone(), namespace.clone().unwrap_or_default()),
        _ => unreachable!("there is no other way to select"),
    };
    let reference = BackendRef::named(backend.kind, &name);
    let reference = if namespace.is_empty() { reference } else { reference.in_namespace(&namespace) };
    let (name, mut namespace) = match legacy(&reference) {
        Some((name, namespace, _)) => (name, namespace),
        None => (name, namespace),
    };
    if namespace.is_empty() {
        namespace = label(&dataplane.labels, NAMESPACE).to_owned();
    }
    label(&backend.labels, DISPLAY_NAME) == name
        && (namespace.is_empty() || label(&backend.labels, NAMESPACE) == namespace)
}

fn is_meant_by_kuma_2_9(select: &BackendSelector, dataplane: &Dataplane, backend: &Backend) -> bool {
    let (name, namespace) = match select {
        BackendSelector::Labels(labels) => return all_labels(labels, backend),
        BackendSelector::Name { name, namespace } => (name, namespace),
        _ => unreachable!("there is no other way to select"),
    };
    let own = label(&dataplane.labels, NAMESPACE);
    let namespace = namespace.as_deref().filter(|given| !given.is_empty()).unwrap_or(own);
    let zone = label(&dataplane.labels, ZONE);
    label(&backend.labels, DISPLAY_NAME) == name
        && label(&backend.labels, NAMESPACE) == namespace
        && (zone.is_empty() || label(&backend.labels, ZONE) == zone)
}

fn ports_of_kuma_2_9(asked: Option<u32>, backend: &Backend) -> Vec<usize> {
    let Some(asked) = asked else { return (0..backend.ports.len()).collect() };
    let numbers = backend.ports.iter().map(|port| u32::from(port.number.number()));
    let by_number = numbers.enumerate().find(|(_, number)| *number == asked).map(|(port, _)| port);
    let names = backend.ports.iter().enumerate();
    let by_name = names.filter(|(_, port)| port.name.as_deref() == Some(&asked.to_string())).map(|(port, _)| port);
    by_number.or_else(|| by_name.min()).into_iter().collect()
}
