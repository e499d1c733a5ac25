//! What only Kuma 2.9 has: probes of the control plane's own, and settings for metrics.

use std::collections::HashSet;

use super::super::schema::Decoded;
use super::super::values::is_request_target;
use super::{Role, Rules};

impl Rules<'_> {
    pub(super) fn older(&mut self, spec: &Decoded, role: Role) {
        match role {
            Role::BuiltinGateway if spec.has("probes") => {
                self.reader.refuse("networking.probes", "", "none for a builtin gateway");
            }
            Role::BuiltinGateway | Role::Unknown => {}
            Role::DelegatedGateway => self.probes(spec),
            Role::Ordinary => {
                self.probes(spec);
                self.metrics(spec);
            }
        }
    }

    fn probes(&mut self, spec: &Decoded) {
        let Some(probes) = spec.message("probes") else { return };
        self.port(probes, "port");
        for (_, endpoint) in probes.messages("endpoints") {
            self.port(endpoint, "inboundPort");
            for name in ["inboundPath", "path"] {
                if let Some(text) = endpoint.text(name).filter(|text| !is_request_target(text)) {
                    self.reader.refuse(&endpoint.at(name), text, "a path that begins with '/'");
                }
            }
        }
    }

    fn metrics(&mut self, spec: &Decoded) {
        let Some(metrics) = spec.message("metrics") else { return };
        if let Some(kind) = metrics.text("type").filter(|kind| *kind != "prometheus") {
            self.reader.refuse(&metrics.at("type"), kind, "prometheus, which is the only kind");
        }
        let mut names = HashSet::new();
        for (_, aggregate) in metrics.message("conf").into_iter().flat_map(|conf| conf.messages("aggregate")) {
            if let Some(name) = aggregate.text("name").filter(|name| !names.insert((*name).to_owned())) {
                self.reader.refuse(&aggregate.at("name"), name, "a name that none before it has");
            }
        }
    }
}
