//! The table of the control plane's settings. A new setting is a new row here.

use std::collections::BTreeMap;

use crate::config::wire::{Node, Reading, ValueSource, switch, visible, within};
use crate::error::{InvalidValue, Problem};
use crate::model::Note;
use crate::net::{Gid, Uid};

/// A setting of Kuma's control plane that concerns the transparent proxies of pods, by the environment variable that
/// sets it.
///
/// ```
/// use kumatp::config::kubernetes::Variable;
///
/// let port = Variable::find("KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT").unwrap();
/// assert_eq!((port.key(), port.default_value()), (Some("redirect.dns.port"), "15053"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Variable(&'static Row);

impl Variable {
    /// Every variable that is read.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(Self)
    }

    /// The variable of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|variable| variable.name() == name)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The path of the configuration key that it concerns, if it concerns one.
    pub fn key(self) -> Option<&'static str> {
        self.0.key
    }

    /// What the control plane takes where the variable is not set.
    pub fn default_value(self) -> &'static str {
        self.0.default
    }
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    kind: Kind,
    default: &'static str,
    key: Option<&'static str>,
}

/// What a variable holds that sets no key by itself, or how its text differs from that of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What the key holds.
    Key,
    /// An address family mode in small letters.
    Mode,
    Uid,
    Gid,
    Switch,
    /// A port, or 0 for none.
    Port,
    Text,
}

pub(super) const UID: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_UID";
pub(super) const GID: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GUI";
/// What everybody would call it.
const RIGHT_GID: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GID";
pub(super) const PROBE_PROXY_PORT: &str = "KUMA_RUNTIME_KUBERNETES_APPLICATION_PROBE_PROXY_PORT";
pub(super) const CONFIG_MAP_NAME: &str = "KUMA_RUNTIME_KUBERNETES_INJECTOR_TRANSPARENT_PROXY_CONFIGMAP_NAME";
pub(super) const ADMIN_PORT: &str = "KUMA_BOOTSTRAP_SERVER_PARAMS_ADMIN_PORT";
pub(super) const ADMIN_UNIX_SOCKET: &str = "KUMA_EXPERIMENTAL_ENVOY_ADMIN_UNIX_SOCKET";
pub(super) const READINESS_PORT: &str = "KUMA_BOOTSTRAP_SERVER_PARAMS_READINESS_PORT";

macro_rules! rows {
    ($($name:expr, $kind:ident, $default:literal, $key:tt;)+) => {
        const ROWS: &[Row] = &[$(Row { name: $name, kind: Kind::$kind, default: $default, key: rows!(@key $key) }),+];
    };
    (@key -) => { None };
    (@key $key:literal) => { Some($key) };
}

// Name; what it holds; default; the key that it concerns.
rows! {
    "KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS", Key, "", "redirect.inbound.excludePorts";
    "KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS", Key, "", "redirect.outbound.excludePorts";
    "KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_INBOUND_IPS", Key, "", "redirect.inbound.excludePortsForIPs";
    "KUMA_RUNTIME_KUBERNETES_SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_IPS", Key, "", "redirect.outbound.excludePortsForIPs";
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_INBOUND", Key, "15006", "redirect.inbound.port";
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND", Key, "15001", "redirect.outbound.port";
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE", Mode, "dualstack", "ipFamilyMode";
    UID, Uid, "5678", "kumaDPUser";
    // Kuma spells it so.
    GID, Gid, "5678", -;
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_ENABLED", Key, "true", "redirect.dns.enabled";
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_BUILTIN_DNS_PORT", Key, "15053", "redirect.dns.port";
    "KUMA_RUNTIME_KUBERNETES_INJECTOR_CNI_ENABLED", Key, "false", "cniMode";
    PROBE_PROXY_PORT, Port, "9001", -;
    CONFIG_MAP_NAME, Text, "kuma-transparent-proxy-config", -;

    // Not of the injector, but it excludes their ports, or writes them to the pod.
    ADMIN_PORT, Port, "9901", -;
    ADMIN_UNIX_SOCKET, Switch, "false", -;
    READINESS_PORT, Port, "9902", -;
}

/// The variable that concerns a key.
pub(super) fn of_key(key: &str) -> Option<Variable> {
    Variable::all().find(|variable| variable.key() == Some(key))
}

/// The control plane's settings: what its variables say, and its defaults.
#[derive(Debug, Default)]
pub(super) struct ControlPlane {
    given: BTreeMap<&'static str, String>,
    notes: Vec<Note>,
}

impl ControlPlane {
    /// Takes variables over; of a name that comes twice, the last value counts, and an empty one is treated as not set.
    pub(super) fn extend(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            match Variable::find(&name) {
                Some(variable) if value.trim().is_empty() => {
                    // An empty name of a ConfigMap is how Kuma 2.9 is told to do without.
                    match variable.name() == CONFIG_MAP_NAME {
                        true => self.given.insert(variable.name(), String::new()),
                        false => self.given.remove(variable.name()),
                    };
                }
                Some(variable) => {
                    self.given.insert(variable.name(), value);
                }
                None if name.starts_with("KUMA_") => {
                    // The control plane has many more variables, so only a slip of the finger counts.
                    let near = match name == RIGHT_GID {
                        true => Some(GID),
                        false => within(&name, ROWS.iter().map(|row| row.name), 2),
                    };
                    if let Some(near) = near {
                        let text = format!("unknown environment variable; did you mean `{near}`?");
                        self.notes.push(Note::warning(visible(&name), text));
                    }
                }
                None => {}
            }
        }
    }

    /// Whether a variable was set.
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.given.contains_key(name)
    }

    /// What a variable, or its default, says.
    pub(super) fn text(&self, name: &'static str) -> &str {
        let default = || Variable::find(name).map_or("", Variable::default_value);
        self.given.get(name).map_or_else(default, String::as_str)
    }

    /// The values of those settings that concern keys.
    pub(super) fn reading(&self) -> Reading {
        let mut reading = Reading::default();
        for row in ROWS {
            let Some(key) = row.key else { continue };
            let text = self.text(row.name);
            // What is not valid is among the problems already.
            if check(row, text).is_ok() {
                reading.set(key, row.name, Node::Text(text.to_owned()), ValueSource::Environment);
            }
        }
        reading
    }

    /// What is wrong with those values that [`reading`](Self::reading) does not judge, and notes.
    pub(super) fn remarks(&self) -> (Vec<Problem>, Vec<Note>) {
        let problems =
            ROWS.iter().filter_map(|row| check(row, self.text(row.name)).err().map(|error| error.at(row.name)));
        (problems.collect(), self.notes.clone())
    }

    pub(super) fn uid(&self) -> Uid {
        self.text(UID).trim().parse().unwrap_or(Uid::SIDECAR)
    }

    pub(super) fn gid(&self) -> Option<Gid> {
        self.text(GID).trim().parse().ok()
    }

    /// A port; 0 for none.
    pub(super) fn port(&self, name: &'static str) -> u16 {
        self.text(name).trim().parse().unwrap_or(0)
    }

    pub(super) fn switch(&self, name: &'static str) -> bool {
        switch(&Node::Text(self.text(name).to_owned()), ValueSource::Environment).unwrap_or(false)
    }
}

fn check(row: &Row, text: &str) -> Result<(), InvalidValue> {
    let trimmed = text.trim();
    match row.kind {
        Kind::Key | Kind::Text => Ok(()),
        Kind::Mode if ["dualstack", "ipv4"].contains(&trimmed) => Ok(()),
        Kind::Mode => Err(InvalidValue::new(text, "'dualstack' or 'ipv4', in small letters")),
        Kind::Uid => trimmed.parse::<Uid>().map(|_| ()),
        Kind::Gid => trimmed.parse::<Gid>().map(|_| ()),
        Kind::Switch => switch(&Node::Text(text.to_owned()), ValueSource::Environment).map(|_| ()),
        Kind::Port => match trimmed.parse::<u16>() {
            Ok(_) if trimmed.bytes().all(|byte| byte.is_ascii_digit()) => Ok(()),
            _ => Err(InvalidValue::new(text, "a port from 1 to 65535, or 0 for none")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wire::ROWS as KEYS;

    #[test]
    fn defaults_are_valid_and_keys_exist() {
        let control_plane = ControlPlane::default();
        let mut reading = control_plane.reading();
        assert!(control_plane.remarks().0.is_empty() && reading.remarks().0.is_empty());
        for row in ROWS {
            if let Some(key) = row.key {
                assert!(KEYS.iter().any(|known| known.path == key), "{key}");
                assert!(reading.value(key).is_some(), "{key}");
            }
        }
    }

    #[test]
    fn every_variable_refuses_what_it_cannot_hold() {
        for (suffix, value, part) in [
            ("SIDECAR_TRAFFIC_EXCLUDE_INBOUND_PORTS", "80,70000", "70000"),
            ("SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_PORTS", "x", "x"),
            ("SIDECAR_TRAFFIC_EXCLUDE_INBOUND_IPS", "10.0.0.0/8,10.0.0", "10.0.0"),
            ("SIDECAR_TRAFFIC_EXCLUDE_OUTBOUND_IPS", "nowhere", "nowhere"),
            ("INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_INBOUND", "65536", "65536"),
            ("INJECTOR_SIDECAR_CONTAINER_REDIRECT_PORT_OUTBOUND", "-1", "-1"),
            ("INJECTOR_SIDECAR_CONTAINER_IP_FAMILY_MODE", "IPv4", "IPv4"),
            ("INJECTOR_SIDECAR_CONTAINER_UID", "root", "root"),
            ("INJECTOR_SIDECAR_CONTAINER_GUI", "4294967295", "4294967295"),
            ("INJECTOR_BUILTIN_DNS_ENABLED", "maybe", "maybe"),
            ("INJECTOR_BUILTIN_DNS_PORT", "dns", "dns"),
            ("INJECTOR_CNI_ENABLED", "2", "2"),
            ("APPLICATION_PROBE_PROXY_PORT", "+1", "+1"),
        ] {
            let name = format!("KUMA_RUNTIME_KUBERNETES_{suffix}");
            let mut control_plane = ControlPlane::default();
            control_plane.extend([(name.clone(), value.to_owned())]);
            let mut problems = control_plane.reading().remarks().0;
            problems.extend(control_plane.remarks().0);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert_eq!((problems[0].path.as_str(), problems[0].value.as_str()), (name.as_str(), part));
        }
    }

    #[test]
    fn slips_of_the_finger_are_noted() {
        let mut control_plane = ControlPlane::default();
        control_plane.extend([
            ("KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GID".to_owned(), "1".to_owned()),
            ("KUMA_STORE_TYPE".to_owned(), "kubernetes".to_owned()),
            ("PATH".to_owned(), "/bin".to_owned()),
        ]);
        let notes = control_plane.remarks().1;
        assert_eq!(notes.len(), 1);
        assert!(
            notes[0].text.ends_with("did you mean `KUMA_RUNTIME_KUBERNETES_INJECTOR_SIDECAR_CONTAINER_GUI`?"),
            "{}",
            notes[0]
        );
    }
}
