//! Workloads and services made from chance, so that references meet services often.

use std::collections::BTreeMap;
use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use kumatp::config::Config;
use kumatp::config::dataplane::reachability::{Backend, BackendPort, Destinations, MeshMode, Service};
use kumatp::config::dataplane::{
    BackendKind, BackendRef, Dataplane, ReachableBackends, ResourceFamilyMode, TransparentProxying,
};
use kumatp::model::IpFamilyMode;
use kumatp::net::Port;
use serde_json::json;

use crate::parse;

/// Addresses of workloads and of services, some the same.
const ADDRESSES: [&str; 4] = ["192.0.2.7", "2001:db8::7", "241.0.0.1", "241.0.0.2"];

fn word(u: &mut Unstructured<'_>) -> Result<String> {
    Ok((*u.choose(&["a", "b", "c"])?).to_owned())
}

fn any_labels(u: &mut Unstructured<'_>) -> Result<BTreeMap<String, String>> {
    let keys = ["app", "kuma.io/zone", "k8s.kuma.io/namespace", "kuma.io/display-name", "x"];
    let mut labels = BTreeMap::new();
    for _ in 0..u.int_in_range(0..=3)? {
        let value = if u.ratio(1, 8)? { String::new() } else { word(u)? };
        labels.insert((*u.choose(&keys)?).to_owned(), value);
    }
    Ok(labels)
}

fn any_kind(u: &mut Unstructured<'_>) -> Result<BackendKind> {
    // Mostly one kind, so that references meet destinations.
    Ok(if u.ratio(2, 3)? { BackendKind::MeshService } else { *u.choose(&BackendKind::ALL)? })
}

fn any_mesh(u: &mut Unstructured<'_>) -> Result<&'static str> {
    Ok(if u.ratio(1, 6)? { "other" } else { "default" })
}

pub(crate) fn any_destinations(u: &mut Unstructured<'_>) -> Result<Destinations> {
    let mut backends = Vec::new();
    for _ in 0..u.int_in_range(0..=8)? {
        let kind = any_kind(u)?;
        let most = if kind == BackendKind::MeshExternalService { 1 } else { 3 };
        let mut ports = Vec::new();
        for _ in 0..u.int_in_range(most.min(1)..=most)? {
            let name = [None, None, Some("80"), Some("81"), Some("http"), Some("")];
            let name = u.choose(&name)?.map(str::to_owned);
            ports.push(BackendPort::new(Port::new(u.int_in_range(80..=82)?).unwrap(), name));
        }
        let vips = (0..u.int_in_range(0..=2)?).map(|_| u.choose(&ADDRESSES)?.parse().map_err(|_| unreachable!()));
        let vips = vips.collect::<Result<Vec<IpAddr>>>()?;
        backends.push(Backend::new(kind, any_mesh(u)?, &word(u)?, any_labels(u)?, ports).at(vips));
    }
    let mut services = Vec::new();
    for _ in 0..u.int_in_range(0..=3)? {
        services.push(Service::new(any_mesh(u)?, word(u)?));
    }
    let mut destinations = Destinations::new(backends, services);
    if u.arbitrary()? {
        destinations.set_mode(any_mesh(u)?, *u.choose(&MeshMode::ALL)?);
    }
    Ok(destinations)
}

fn any_reference(u: &mut Unstructured<'_>) -> Result<BackendRef> {
    let kind = any_kind(u)?;
    let labels = any_labels(u)?;
    let mut reference = if labels.is_empty() || u.arbitrary()? {
        let legacy = ["a_b_svc_80", "a_b_svc_0", "b_a_svc_81", "a__svc_80", "a_b_svc_x", "a_b_80", "a_b_svc_-1"];
        let name = if u.ratio(1, 3)? { (*u.choose(&legacy)?).to_owned() } else { word(u)? };
        let named = BackendRef::named(kind, name);
        if u.ratio(1, 3)? { named.in_namespace(word(u)?) } else { named }
    } else {
        BackendRef::labelled(kind, labels)
    };
    reference.port = if u.arbitrary()? { Some(*u.choose(&[0, 80, 81, 82, 83])?) } else { None };
    Ok(reference)
}

pub(crate) fn any_dataplane(u: &mut Unstructured<'_>) -> Result<Dataplane> {
    let mut dataplane = Dataplane::default();
    dataplane.mesh = any_mesh(u)?.to_owned();
    dataplane.labels = any_labels(u)?;
    if u.ratio(1, 4)? {
        dataplane.outbounds.push(any_reference(u)?);
    }
    dataplane.address = Some((*u.choose(&ADDRESSES)?).to_owned()).filter(|_| u.ratio(15, 16).unwrap_or(true));
    for _ in 0..u.int_in_range(0..=1)? {
        let inbound = parse(&json!({"inbound": [{"port": u.int_in_range(80..=82)?}]}), &json!({})).inbounds.remove(0);
        dataplane.inbounds.push(inbound);
    }
    if u.ratio(15, 16)? {
        let mut section = TransparentProxying::default();
        section.redirect_port_inbound = Port::new(15006).filter(|_| u.ratio(7, 8).unwrap_or(true));
        section.redirect_port_outbound = Port::new(15001).filter(|_| u.ratio(7, 8).unwrap_or(true));
        section.ip_family_mode = *u.choose(&ResourceFamilyMode::ALL)?;
        if u.ratio(1, 3)? {
            section.reachable_services = Some((0..u.int_in_range(0..=2)?).map(|_| word(u)).collect::<Result<_>>()?);
        }
        if u.ratio(5, 6)? {
            let refs: Vec<_> = (0..u.int_in_range(0..=4)?).map(|_| any_reference(u)).collect::<Result<_>>()?;
            section.reachable_backends = Some(ReachableBackends::new(refs));
        }
        dataplane.transparent_proxying = Some(section);
    }
    Ok(dataplane)
}

/// What kuma-dp says by its flags, if anything.
pub(crate) fn any_config(u: &mut Unstructured<'_>) -> Result<Option<Config>> {
    let mut config = Config::default();
    config.redirect.inbound.enabled = u.ratio(3, 4)?;
    config.redirect.outbound.enabled = u.ratio(3, 4)?;
    config.ip_family_mode = *u.choose(&[IpFamilyMode::DualStack, IpFamilyMode::Ipv4])?;
    Ok(u.arbitrary::<bool>()?.then_some(config))
}
