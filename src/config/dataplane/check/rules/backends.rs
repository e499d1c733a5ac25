//! What a workload uses: outbounds, and the section about the transparent proxy.

use super::super::schema::Decoded;
use super::Rules;
use crate::config::Profile;
use crate::config::dataplane::transparent::VIOLATIONS_PATH;
use crate::config::dataplane::{BackendKind, ReachableBackends};
use crate::error::InvalidValue;

impl Rules<'_> {
    pub(super) fn outbound(&mut self, outbound: &Decoded) {
        self.port(outbound, "port");
        self.address(outbound, "address");
        match (outbound.message("backendRef"), self.profile) {
            (Some(backend), profile) => {
                self.backend(backend);
                if profile == Profile::Kuma29 && outbound.texts("tags").is_some_and(|tags| !tags.is_empty()) {
                    self.reader.refuse(backend.path(), "", "either a `backendRef` or `tags`, not both");
                }
            }
            // It is there, but was not understood.
            (None, _) if outbound.has("backendRef") => {}
            (None, Profile::Kuma3) => {
                let expected = "a mapping with the kind, name and port of the backend that is used";
                self.reader.refuse(&outbound.at("backendRef"), "", expected);
            }
            (None, Profile::Kuma29) => self.tags(outbound, true),
        }
    }

    /// The backend of a listener that the user defined.
    fn backend(&mut self, backend: &Decoded) {
        let Some(kind) = backend.text("kind") else { return };
        let known = kind.parse::<BackendKind>();
        if let Err(error) = &known {
            let error = InvalidValue::new(error.value(), error.expected().to_owned());
            self.reader.problem(error.at(backend.at("kind")));
        }
        let unnamed = backend.text("name").is_some_and(str::is_empty);
        if unnamed && backend.texts("labels").is_some_and(|labels| labels.is_empty()) {
            self.reader.refuse(backend.path(), "", "a name, or labels in its place");
        }
        // A MeshExternalService has one port, so none needs to be said.
        if known != Ok(BackendKind::MeshExternalService) {
            self.port(backend, "port");
        }
    }

    pub(super) fn transparent_proxying(&mut self, section: &Decoded) {
        let ports = (section.number("redirectPortInbound"), section.number("redirectPortOutbound"));
        if let (Some(inbound @ 1..), Some(outbound)) = ports {
            if inbound == outbound {
                let text = "is also the port of `redirectPortInbound`; Kuma accepts it, and one sidecar cannot listen twice on it";
                self.warn(&section.at("redirectPortOutbound"), text);
            }
        }
        if let Some(backends) = section.raw("reachableBackends") {
            // One place knows its rules.
            ReachableBackends::read(self.reader, VIOLATIONS_PATH, backends);
        }
    }
}
