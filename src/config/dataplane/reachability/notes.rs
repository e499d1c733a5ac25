//! What there is to say about references.

use super::super::proxy::Proxied;
use super::super::{BackendKind, BackendRef, Dataplane};
use super::choice::Tally;
use super::conditions::{Conditions, Ports};
use super::{Backend, Rule};
use crate::config::Profile;
use crate::error::visible;
use crate::model::Note;

/// Labels that the control plane adds when it stores a resource, with values that a file does not have.
const ADDED: [&str; 3] = ["kuma.io/zone", "kuma.io/origin", "kuma.io/env"];

/// The labels that only the control plane knows: those in [`ADDED`] that no backend has.
pub(super) fn unknown_labels(backends: &[Backend]) -> Vec<&'static str> {
    ADDED.into_iter().filter(|label| backends.iter().all(|backend| !backend.labels.contains_key(*label))).collect()
}

/// What there is to say about whether the workload has a transparent proxy.
pub(super) fn proxy(dataplane: &Dataplane, proxied: Proxied, profile: Profile) -> Vec<Note> {
    let mut notes = Vec::new();
    if proxied == Proxied::IfNameIsIpv4 {
        let name = visible(dataplane.address.as_deref().unwrap_or_default());
        let text = format!(
            "{name} is a name, and ipFamilyMode is IPv4: unless Kuma finds an IPv4 address for it, it makes no outbound \
             listeners"
        );
        notes.push(Note::warning("networking.address", text));
    }
    let Some(rule) = Rule::without_proxy(proxied) else { return notes };
    if profile == Profile::Kuma3 {
        let text = format!(
            "{rule}, unless kuma-dp runs with --transparent-proxy, --transparent-proxy-config (as on Kubernetes) or \
             --bind-outbounds"
        );
        notes.push(Note::warning("networking.transparentProxying", text));
    }
    if !dataplane.outbounds.is_empty() {
        let text = "its backends have listeners at addresses of their own, which need no transparent proxy and are not \
                    listed here";
        notes.push(Note::info("networking.outbound", text));
    }
    notes
}

/// What one reference gives reason to say.
pub(super) struct Noted<'n, 'a> {
    pub(super) about: String,
    pub(super) reference: &'n BackendRef,
    pub(super) wanted: &'n Conditions<'a>,
    pub(super) tally: Tally,
    /// The first match, and the ports of it.
    pub(super) first: Option<(&'n Backend, Ports)>,
    pub(super) unknown_labels: &'n [&'static str],
    pub(super) profile: Profile,
}

impl Noted<'_, '_> {
    pub(super) fn notes(&self) -> impl Iterator<Item = Note> {
        let warnings = [self.nothing(), self.without_port(), self.chance()];
        let warnings = warnings.map(|text| text.map(|text| Note::warning(&self.about, text)));
        warnings.into_iter().chain([self.narrow().map(|text| Note::info(&self.about, text))]).flatten()
    }

    fn nothing(&self) -> Option<String> {
        let asked = |label: &&&str| self.wanted.labels.iter().any(|(key, _)| key == *label);
        let unknown = self.unknown_labels.iter().find(asked);
        let hint = unknown.map(|label| format!("; Kuma adds {label} when it stores a resource, and none here has it"));
        let text = || format!("{} matches nothing{}", self.reference, hint.unwrap_or_default());
        (self.tally.matches == 0).then(text)
    }

    fn without_port(&self) -> Option<String> {
        let Tally { matches, without_port, .. } = self.tally;
        let port = self.wanted.port.filter(|_| without_port > 0)?;
        Some(match (self.profile, without_port == matches) {
            (Profile::Kuma3, true) => format!("no destination has port {port}, so all their ports are reachable"),
            (Profile::Kuma3, false) => {
                format!("some destinations have no port {port}, and Kuma takes all the ports of such a one")
            }
            (Profile::Kuma29, true) => format!("no destination has port {port}, so they are not reachable"),
            (Profile::Kuma29, false) => {
                format!("some destinations have no port {port}, so they are not reachable")
            }
        })
    }

    fn chance(&self) -> Option<String> {
        let Tally { ending, passing, .. } = self.tally;
        let others = match passing {
            0 => String::new(),
            1 => ", and perhaps the other one".to_owned(),
            passing => format!(", and perhaps some of the {passing} others"),
        };
        self.tally.by_chance().then(|| match ending {
            1 => format!("Kuma takes one of the matches for certain{others}, by chance"),
            _ => format!("Kuma takes one of these {ending} matches{others}, by chance"),
        })
    }

    /// That one port is meant where a reader may expect all of them.
    fn narrow(&self) -> Option<String> {
        let (backend, Ports::Unnamed(port)) = self.first.as_ref()? else { return None };
        let others = self.wanted.kind != BackendKind::MeshExternalService && backend.ports.len() > 1;
        (others && !self.tally.by_chance()).then(|| {
            let (name, number) = (visible(&backend.name), backend.ports[*port].number);
            format!("names no port, so Kuma takes one: {number}, the first of {name} that has no name")
        })
    }
}
