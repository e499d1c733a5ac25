//! Annotations as values of keys.

use std::collections::BTreeMap;

use super::annotations::{self, Annotation, Shape};
use crate::config::Profile;
use crate::config::wire::{Node, Reading, ValueSource};
use crate::error::{InvalidValue, Problem};

/// Annotations of a pod as they were read: the keys that they set, and the rest.
#[derive(Debug, Default)]
pub(super) struct Annotations {
    pub(super) reading: Reading,
    /// Whether the pod is a gateway: `kuma.io/gateway`.
    pub(super) gateway: bool,
    /// `kuma.io/transparent-proxying`.
    pub(super) enabled: Option<bool>,
    /// `kuma.io/transparent-proxying-ebpf`.
    pub(super) ebpf: bool,
    /// `kuma.io/sidecar-injected`.
    pub(super) injected: bool,
    /// `kuma.io/application-probe-proxy-port`; 0 for none.
    pub(super) probe_proxy_port: Option<u16>,
    /// `kuma.io/envoy-admin-port`.
    pub(super) admin_port: Option<u16>,
}

impl Annotations {
    pub(super) fn read(texts: &BTreeMap<String, String>, profile: Profile, problems: &mut Vec<Problem>) -> Self {
        let mut read = Self::default();
        for annotation in Annotation::all().filter(|annotation| annotation.is_read_in(profile)) {
            if let Some(text) = texts.get(annotation.name()) {
                if let Err(error) = read.take(annotation, text, profile) {
                    problems.push(error.at(annotation.name()));
                }
            }
        }
        problems.extend(read.reading.remarks().0);
        read
    }

    fn take(&mut self, annotation: Annotation, text: &str, profile: Profile) -> Result<(), InvalidValue> {
        let refused = || InvalidValue::new(text, annotation.shape().expected());
        let set = |reading: &mut Reading, node| {
            if let Some(key) = annotation.key() {
                reading.set(key, annotation.name(), node, ValueSource::Document);
            }
        };
        match annotation.shape() {
            Shape::Gateway => {
                self.gateway = text == "provided" || switch(text, true).ok_or_else(refused)?;
                if self.gateway {
                    set(&mut self.reading, Node::Bool(false));
                }
            }
            shape @ (Shape::Enabled | Shape::Boolean) => {
                let on = switch(text, shape == Shape::Enabled).ok_or_else(refused)?;
                match annotation.name() {
                    annotations::TRANSPARENT_PROXYING => self.enabled = Some(on),
                    annotations::EBPF => self.ebpf = on,
                    annotations::INJECTED => self.injected = on,
                    _ => set(&mut self.reading, Node::Bool(on)),
                }
            }
            Shape::Port => {
                let port = port(text).ok_or_else(refused)?;
                match annotation.name() {
                    annotations::PROBE_PROXY_PORT => self.probe_proxy_port = Some(port),
                    annotations::ADMIN_PORT => self.admin_port = Some(port),
                    _ => set(&mut self.reading, Node::Number(port.to_string())),
                }
            }
            // Empty items are dropped. Kuma keeps blanks around addresses, which iptables then chokes on.
            Shape::Ports | Shape::Ips => {
                let items: Vec<&str> = text.split(',').filter(|item| !item.trim().is_empty()).collect();
                if !items.is_empty() {
                    set(&mut self.reading, Node::Text(items.join(",")));
                }
            }
            Shape::Uids => {
                let items = text.split(';').map(|item| Node::Text(item.to_owned())).collect();
                set(&mut self.reading, Node::List(items));
            }
            Shape::Mode if text.is_empty() => {}
            // Kuma 2.9 compares letter by letter.
            Shape::Mode if profile == Profile::Kuma29 && !["dualstack", "ipv4"].contains(&text) => {
                return Err(refused());
            }
            Shape::Mode | Shape::Uid => {
                if annotation.shape() == Shape::Uid {
                    text.parse::<crate::net::Uid>().map_err(|_| refused())?;
                }
                set(&mut self.reading, Node::Text(text.to_owned()));
            }
            Shape::Names | Shape::Document | Shape::Text => {}
        }
        Ok(())
    }
}

/// The value of a switch. Kuma minds letter case and blanks.
pub(super) fn switch(text: &str, enabled: bool) -> Option<bool> {
    match text {
        "true" | "yes" => Some(true),
        "false" | "no" => Some(false),
        "enabled" if enabled => Some(true),
        "disabled" if enabled => Some(false),
        _ => None,
    }
}

fn port(text: &str) -> Option<u16> {
    Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).and_then(|text| text.parse().ok())
}
