//! What connection tracking knows of a packet's connection besides its state: how it is translated.

use super::view::Value;
use crate::net::{Family, Port};

/// An address and a port, as far as they are known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Endpoint {
    pub(super) address: Value,
    pub(super) port: Value,
}

impl Endpoint {
    /// One that nothing is known of.
    pub(super) const UNKNOWN: Self = Self { address: Value::Unknown, port: Value::Unknown };

    pub(super) fn of<F: Family>(address: F::Addr, port: Port) -> Self {
        Self { address: Value::Is(F::to_bits(address)), port: Value::Is(port.number().into()) }
    }

    /// Whether the other one is not the same; `None` if that is not known.
    pub(super) fn differs(self, other: Self) -> Option<bool> {
        let differ = |a, b| match (a, b) {
            (Value::Unknown, _) | (_, Value::Unknown) => None,
            _ => Some(a != b),
        };
        match (differ(self.address, other.address), differ(self.port, other.port)) {
            (Some(false), Some(false)) => Some(false),
            (Some(true), _) | (_, Some(true)) => Some(true),
            _ => None,
        }
    }
}

/// How a packet is translated on its way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Translation {
    /// What its destination becomes, in PREROUTING and OUTPUT.
    pub(super) destination: Option<Endpoint>,
    /// What its source becomes, in POSTROUTING and INPUT.
    pub(super) source: Option<Endpoint>,
    /// Whether it is redirected to this host.
    pub(super) to_this_host: bool,
    /// Whether connection tracking marks the connection as one whose destination was translated. `None` if that is not known.
    pub(super) dnat: Option<bool>,
    /// The same of its source.
    pub(super) snat: Option<bool>,
}

impl Translation {
    /// None at all.
    pub(super) const NONE: Self =
        Self { destination: None, source: None, to_this_host: false, dnat: Some(false), snat: Some(false) };

    /// One that nothing is known of, of a packet that may or may not be for this host.
    pub(super) const fn unknown(to_this_host: bool) -> Self {
        Self {
            destination: Some(Endpoint::UNKNOWN),
            source: Some(Endpoint::UNKNOWN),
            to_this_host,
            dnat: None,
            snat: None,
        }
    }

    /// That of the answers to a packet that was sent from `source` to `destination`, and translated like this.
    pub(super) fn back(self, source: Endpoint, destination: Endpoint) -> Self {
        Self {
            destination: self.source.map(|_| source),
            source: self.destination.map(|_| destination),
            to_this_host: false,
            dnat: self.dnat,
            snat: self.snat,
        }
    }
}

/// What is known of a packet of a connection that was decided on before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// Where it is from on its way, if that is not what the packet says.
    pub(super) source: Option<Endpoint>,
    /// Where it is sent on its way, if that is not what the packet says.
    pub(super) destination: Option<Endpoint>,
    pub(super) translation: Translation,
}

impl Known {
    /// The packet is on its way as it is.
    pub(super) const NOTHING: Self = Self::translated(Translation::NONE);

    pub(super) const fn translated(translation: Translation) -> Self {
        Self { source: None, destination: None, translation }
    }
}
