//! `networking`: the workload's address, its role, and what it offers.

use std::collections::HashMap;

use super::super::schema::{Decoded, key_path};
use super::super::values::{is_address, is_host};
use super::{PROTOCOL, Role, Rules, SERVICE, item, or, overlap};
use crate::config::Profile;

const LOOPBACK: &str = "127.0.0.1";

impl Rules<'_> {
    pub(super) fn networking(&mut self, networking: &Decoded) -> Role {
        let role = self.role(networking);
        self.admin(networking);
        self.by_role(networking, role);
        self.workload_address(networking);
        let address = networking.text("address").unwrap_or_default();
        for (_, inbound) in networking.messages("inbound") {
            self.inbound(inbound, address);
        }
        self.twice(networking, address);
        for (_, outbound) in networking.messages("outbound") {
            self.outbound(outbound);
        }
        if let Some(section) = networking.message("transparentProxying") {
            self.transparent_proxying(section);
        }
        role
    }

    fn role(&self, networking: &Decoded) -> Role {
        if !networking.has("gateway") {
            return Role::Ordinary;
        }
        match (networking.message("gateway").and_then(|gateway| gateway.choice("type")), self.profile) {
            (None, _) => Role::Unknown,
            (Some(0), _) => Role::DelegatedGateway,
            (Some(1), Profile::Kuma29) => Role::BuiltinGateway,
            (Some(_), _) => Role::Ordinary,
        }
    }

    /// What a workload in this role cannot have, and what it must have.
    fn by_role(&mut self, networking: &Decoded, role: Role) {
        let gateway = match role {
            Role::DelegatedGateway => "delegated",
            Role::BuiltinGateway => "builtin",
            Role::Ordinary => {
                if self.profile == Profile::Kuma29 && networking.is_empty("inbound") {
                    self.reader.refuse(networking.path(), "", "an inbound, or a gateway");
                }
                self.listeners(networking);
                return;
            }
            Role::Unknown => return,
        };
        let mut forbidden = vec!["inbound", "listeners"];
        if role == Role::BuiltinGateway {
            forbidden.push("outbound");
        }
        for name in forbidden {
            if !networking.items(name).is_empty() {
                let expected = format!("no such list, since this is a {gateway} gateway");
                self.reader.refuse(&networking.at(name), "", &expected);
            }
        }
        let Some(gateway) = networking.message("gateway") else { return };
        // Without any tags it is one of the newer form.
        let required = self.profile == Profile::Kuma29 || gateway.texts("tags").is_some_and(|tags| !tags.is_empty());
        self.tags(gateway, required);
        if let Some(protocol) = gateway.texts("tags").and_then(|tags| tags.get(PROTOCOL)).filter(|tag| *tag != "tcp") {
            self.reader.refuse(&key_path(&gateway.at("tags"), PROTOCOL), protocol, "tcp, as for every gateway");
        }
    }

    fn workload_address(&mut self, networking: &Decoded) {
        let Some(address) = networking.text("address") else { return };
        let path = networking.at("address");
        let unspecified = address.parse().is_ok_and(|address: std::net::IpAddr| address.is_unspecified());
        if address == "0.0.0.0" || address == "::" {
            self.reader.refuse(&path, address, "the address at which others reach the workload");
        } else if unspecified {
            self.warn(&path, "is no address at which others reach the workload; Kuma accepts this spelling of it");
        } else if !is_address(address) && !is_host(address) {
            let expected = "the IP address or host name at which others reach the workload";
            self.reader.refuse(&path, address, expected);
        }
    }

    fn inbound(&mut self, inbound: &Decoded, address: &str) {
        self.port(inbound, "port");
        if inbound.number("servicePort") != Some(0) {
            self.port(inbound, "servicePort");
        }
        self.address(inbound, "address");
        self.address(inbound, "serviceAddress");
        self.same_place(inbound, address);
        if let Some(protocol) = inbound.text("protocol").filter(|protocol| !protocol.is_empty()) {
            self.protocol(&inbound.at("protocol"), protocol);
        }
        if self.profile == Profile::Kuma29 {
            self.inbound_tags(inbound);
        }
        if let Some(probe) = inbound.message("serviceProbe") {
            self.service_probe(probe);
        }
    }

    /// The application cannot listen where the sidecar does.
    fn same_place(&mut self, inbound: &Decoded, address: &str) {
        let Some(service) = inbound.text("serviceAddress").filter(|service| !service.is_empty()) else { return };
        let (Some(port), Some(service_port)) = (inbound.number("port"), inbound.number("servicePort")) else { return };
        let taken = service == address || inbound.text("address") == Some(service);
        if taken && (service_port == 0 || service_port == port) {
            let expected = "another address or `servicePort` than those of the inbound, where the sidecar listens";
            self.reader.refuse(&inbound.at("serviceAddress"), service, expected);
        }
    }

    fn inbound_tags(&mut self, inbound: &Decoded) {
        self.tags(inbound, false);
        let Some(tags) = inbound.texts("tags") else { return };
        let path = inbound.at("tags");
        if let Some(protocol) = tags.get(PROTOCOL) {
            self.protocol(&key_path(&path, PROTOCOL), protocol);
        }
        if !tags.contains_key(SERVICE) {
            self.reader.refuse(&key_path(&path, SERVICE), "", "the name of the service");
        }
    }

    fn service_probe(&mut self, probe: &Decoded) {
        for name in ["interval", "timeout"] {
            match probe.nanoseconds(name) {
                Some(0) => self.reader.refuse(&probe.at(name), "0", "a duration longer than nothing"),
                Some(..0) => self.warn(&probe.at(name), "is a duration below zero; Kuma accepts it"),
                _ => {}
            }
        }
        for name in ["unhealthyThreshold", "healthyThreshold"] {
            if probe.has(name) && probe.number(name) == Some(0) {
                self.reader.refuse(&probe.at(name), "0", "a number of checks from 1");
            }
        }
    }

    /// Two inbounds of one address and port, of which Kuma makes one listener.
    fn twice(&mut self, networking: &Decoded, address: &str) {
        let mut seen = HashMap::new();
        for (index, inbound) in networking.messages("inbound") {
            let Some(port) = inbound.number("port").filter(|port| *port != 0) else { continue };
            let at = (or(inbound.text("address"), address).to_owned(), port);
            if let Some(first) = seen.get(&at) {
                let text = format!(
                    "is also that of {}; Kuma makes one listener of the two",
                    item(networking, "inbound", *first)
                );
                self.warn(&inbound.at("port"), text);
            } else {
                seen.insert(at, index);
            }
        }
    }

    /// Envoy's own interface listens on the loopback address.
    fn admin(&mut self, networking: &Decoded) {
        let Some(admin) = networking.message("admin") else { return };
        let Some(port) = admin.number("port") else { return };
        let path = admin.at("port");
        let address = networking.text("address").unwrap_or_default();
        let inbound = networking.messages("inbound").any(|(_, inbound)| {
            let own = or(inbound.text("address"), address);
            let workload = or(inbound.text("serviceAddress"), own);
            let number = inbound.number("port");
            let workload_port = inbound.number("servicePort").filter(|port| *port != 0).or(number);
            number == Some(port) && overlap(LOOPBACK, own) || workload_port == Some(port) && overlap(LOOPBACK, workload)
        });
        let outbound = networking.messages("outbound").any(|(_, outbound)| {
            outbound.number("port") == Some(port) && overlap(LOOPBACK, or(outbound.text("address"), LOOPBACK))
        });
        for (taken, name) in [(inbound, "inbound"), (outbound, "outbound")] {
            if taken {
                self.reader.refuse(
                    &path,
                    &port.to_string(),
                    &format!("another port than those of each {name} on 127.0.0.1"),
                );
            }
        }
        if port > 65_535 {
            self.warn(&path, format!("{port} is no port; Kuma accepts it, and Envoy cannot listen there"));
        }
    }

    /// Where a proxy between zones listens.
    fn listeners(&mut self, networking: &Decoded) {
        let mut names = HashMap::new();
        for (index, listener) in networking.messages("listeners") {
            if let Some(number) = listener.choice("type").filter(|number| ![1, 2].contains(number)) {
                let value = if listener.has("type") { number.to_string() } else { String::new() };
                self.reader.refuse(&listener.at("type"), &value, "ZoneIngress or ZoneEgress");
            }
            self.port(listener, "port");
            self.address(listener, "address");
            if listener.text("address") == Some("") {
                self.reader.refuse(&listener.at("address"), "", "an IP address");
            }
            let Some(name) = listener.text("name").filter(|name| !name.is_empty()) else { continue };
            if let Some(first) = names.insert(name.to_owned(), index) {
                let expected = format!("another name than that of {}", item(networking, "listeners", first));
                self.reader.refuse(&listener.at("name"), name, &expected);
            }
        }
    }
}
