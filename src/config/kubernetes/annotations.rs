//! The table of annotations. A new annotation is a new row here.

use std::collections::BTreeMap;

use crate::config::Profile;
use crate::config::wire::{nearest, visible, within};
use crate::model::Note;

pub(super) const EXCLUDE_INBOUND_PORTS: &str = "traffic.kuma.io/exclude-inbound-ports";
pub(crate) const CONFIG: &str = "traffic.kuma.io/transparent-proxy-config";
pub(crate) const CONFIG_MAP_NAME: &str = "traffic.kuma.io/transparent-proxy-configmap-name";
pub(super) const TRANSPARENT_PROXYING: &str = "kuma.io/transparent-proxying";
pub(super) const INBOUND_PORT: &str = "kuma.io/transparent-proxying-inbound-port";
pub(super) const OUTBOUND_PORT: &str = "kuma.io/transparent-proxying-outbound-port";
pub(super) const IP_FAMILY_MODE: &str = "kuma.io/transparent-proxying-ip-family-mode";
pub(super) const REACHABLE_SERVICES: &str = "kuma.io/transparent-proxying-reachable-services";
pub(super) const EBPF: &str = "kuma.io/transparent-proxying-ebpf";
pub(super) const REACHABLE_BACKENDS: &str = "kuma.io/reachable-backends";
pub(super) const DIRECT_ACCESS_SERVICES: &str = "kuma.io/direct-access-services";
pub(super) const BUILTIN_DNS: &str = "kuma.io/builtin-dns";
pub(super) const GATEWAY: &str = "kuma.io/gateway";
pub(super) const SIDECAR_UID: &str = "kuma.io/sidecar-uid";
pub(super) const ADMIN_PORT: &str = "kuma.io/envoy-admin-port";
pub(super) const PROBE_PROXY_PORT: &str = "kuma.io/application-probe-proxy-port";
pub(crate) const INJECTED: &str = "kuma.io/sidecar-injected";
pub(super) const NETWORKS: &str = "k8s.v1.cni.cncf.io/networks";

/// An annotation of pods that concerns the transparent proxy.
///
/// ```
/// use kumatp::config::{Profile, kubernetes::Annotation};
///
/// let annotation = Annotation::find("kuma.io/builtin-dns").unwrap();
/// assert_eq!(annotation.key(), Some("redirect.dns.enabled"));
/// assert!(!annotation.is_read_in(Profile::Kuma3) && annotation.is_read_in(Profile::Kuma29));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Annotation(&'static Row);

impl Annotation {
    /// Every annotation that is read, whichever the profile.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(Self)
    }

    /// The annotation of this name.
    pub fn find(name: &str) -> Option<Self> {
        Self::all().find(|annotation| annotation.name() == name)
    }

    /// Its name, such as `traffic.kuma.io/exclude-inbound-ports`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// The path of the configuration key that it sets, if it sets one.
    pub fn key(self) -> Option<&'static str> {
        self.0.key
    }

    /// What a value must look like, as it completes the sentence "expected …".
    pub fn expected(self) -> &'static str {
        self.0.shape.expected()
    }

    /// Whether it has an effect in this profile.
    pub fn is_read_in(self, profile: Profile) -> bool {
        self.0.since == Generation::Both || profile == Profile::Kuma29
    }

    pub(super) fn shape(self) -> Shape {
        self.0.shape
    }
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    since: Generation,
    shape: Shape,
    key: Option<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Generation {
    Both,
    /// Kuma 3 has dropped it.
    Only29,
}

/// How the text of an annotation is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A switch that takes `enabled` and `disabled` as well.
    Enabled,
    /// The same, or `provided`, which only some of Kuma's code takes and all of it should (its gateways are set up so).
    Gateway,
    /// A switch.
    Boolean,
    /// A port, or 0.
    Port,
    /// Ports and ranges, parted by commas.
    Ports,
    /// Addresses and CIDRs, parted by commas.
    Ips,
    /// Exclusions for uids, parted by semicolons.
    Uids,
    /// An address family mode.
    Mode,
    /// Names, parted by commas and not trimmed.
    Names,
    /// A uid.
    Uid,
    /// A document.
    Document,
    /// Any text.
    Text,
}

impl Shape {
    pub(super) fn expected(self) -> &'static str {
        match self {
            Self::Enabled => "'enabled', 'disabled', 'true', 'false', 'yes' or 'no'",
            Self::Gateway => "'enabled', 'provided', 'disabled', 'true', 'false', 'yes' or 'no'",
            Self::Boolean => "'true', 'false', 'yes' or 'no'",
            Self::Port => "a port from 1 to 65535, or 0 for none",
            Self::Ports => "ports from 1 to 65535 or ranges such as 3000-5000, separated by commas",
            Self::Ips => "IP addresses or CIDRs, separated by commas",
            Self::Uids => "exclusions of the form [protocols:][ports:]uids, separated by semicolons",
            Self::Mode => "'dualstack' or 'ipv4'",
            Self::Names => "names of services, separated by commas without blanks",
            Self::Uid => "a uid from 0 to 4294967294",
            Self::Document => "a YAML document",
            Self::Text => "text",
        }
    }
}

macro_rules! rows {
    ($($name:expr, $since:ident, $shape:ident, $key:tt;)+) => {
        const ROWS: &[Row] = &[$(Row {
            name: $name,
            since: Generation::$since,
            shape: Shape::$shape,
            key: rows!(@key $key),
        }),+];
    };
    (@key -) => { None };
    (@key $key:literal) => { Some($key) };
}

// Name; generations of Kuma that read it; how it is read; the key that it sets.
rows! {
    EXCLUDE_INBOUND_PORTS, Both, Ports, "redirect.inbound.excludePorts";
    "traffic.kuma.io/exclude-outbound-ports", Both, Ports, "redirect.outbound.excludePorts";
    "traffic.kuma.io/exclude-inbound-ips", Both, Ips, "redirect.inbound.excludePortsForIPs";
    "traffic.kuma.io/exclude-outbound-ips", Both, Ips, "redirect.outbound.excludePortsForIPs";
    "traffic.kuma.io/exclude-outbound-ports-for-uids", Both, Uids, "redirect.outbound.excludePortsForUIDs";
    "traffic.kuma.io/drop-invalid-packets", Both, Boolean, "dropInvalidPackets";
    "traffic.kuma.io/iptables-logs", Both, Boolean, "log.enabled";
    CONFIG, Both, Document, -;
    CONFIG_MAP_NAME, Both, Text, -;

    TRANSPARENT_PROXYING, Both, Enabled, -;
    INBOUND_PORT, Only29, Port, "redirect.inbound.port";
    OUTBOUND_PORT, Only29, Port, "redirect.outbound.port";
    IP_FAMILY_MODE, Both, Mode, "ipFamilyMode";
    // Kuma 3 has dropped it, but a pod that still has it means it.
    REACHABLE_SERVICES, Both, Names, -;
    EBPF, Only29, Enabled, -;
    "kuma.io/transparent-proxying-ebpf-bpf-fs-path", Only29, Text, -;
    "kuma.io/transparent-proxying-ebpf-cgroup-path", Only29, Text, -;
    "kuma.io/transparent-proxying-ebpf-tc-attach-iface", Only29, Text, -;
    "kuma.io/transparent-proxying-ebpf-instance-ip-env-var-name", Only29, Text, -;
    "kuma.io/transparent-proxying-ebpf-programs-source-path", Only29, Text, -;

    REACHABLE_BACKENDS, Both, Document, -;
    DIRECT_ACCESS_SERVICES, Both, Names, -;
    BUILTIN_DNS, Only29, Enabled, "redirect.dns.enabled";
    "kuma.io/builtin-dns-port", Only29, Port, "redirect.dns.port";
    "kuma.io/builtin-dns-logging", Only29, Enabled, -;

    GATEWAY, Both, Gateway, "redirect.inbound.enabled";
    SIDECAR_UID, Both, Uid, "kumaDPUser";
    ADMIN_PORT, Both, Port, -;
    PROBE_PROXY_PORT, Both, Port, -;
    INJECTED, Both, Boolean, -;
    NETWORKS, Both, Text, -;
}

/// The annotation that sets a key.
pub(super) fn of_key(key: &str) -> Option<Annotation> {
    Annotation::all().find(|annotation| annotation.key() == Some(key))
}

/// Annotations of other parts of Kuma whose names are near to one of ours.
const OTHERS: &[&str] = &["kuma.io/sidecar-injection", "kuma.io/virtual-probes", "kuma.io/virtual-probes-port"];

/// Notes on names that are probably misspelt, and on annotations that the profile does not read.
pub(super) fn remarks(annotations: &BTreeMap<String, String>, profile: Profile, notes: &mut Vec<Note>) {
    for name in annotations.keys() {
        match Annotation::find(name) {
            Some(annotation) if !annotation.is_read_in(profile) => {
                let text = format!("has no effect in the profile {profile}, only in {}", Profile::Kuma29);
                notes.push(Note::warning(name, text));
            }
            Some(_) => {}
            None => notes.extend(unknown(name)),
        }
    }
}

/// What to say about a name that no row has, if it was meant to be one.
fn unknown(name: &str) -> Option<Note> {
    let names = || ROWS.iter().map(|row| row.name);
    let near = if name.starts_with("traffic.kuma.io/") || name.starts_with(TRANSPARENT_PROXYING) {
        let hint = nearest(name, names()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Some(Note::warning(visible(name), format!("unknown annotation{hint}")));
    } else if name.contains("kuma") && !OTHERS.contains(&name) {
        // Kuma has many more annotations, so only a slip of the finger counts.
        within(name, names(), 2)?
    } else {
        return None;
    };
    Some(Note::warning(visible(name), format!("unknown annotation; did you mean `{near}`?")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wire::ROWS as KEYS;

    #[test]
    fn names_are_unique_and_keys_exist() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(ROWS[..index].iter().all(|other| other.name != row.name), "{}", row.name);
            assert!(row.key.is_none_or(|key| KEYS.iter().any(|known| known.path == key)), "{}", row.name);
            assert!(row.key.is_none_or(|key| ROWS[..index].iter().all(|other| other.key != Some(key))), "{}", row.name);
        }
    }

    fn hint(name: &str) -> Option<String> {
        unknown(name).map(|note| note.text)
    }

    #[test]
    fn slips_of_the_finger() {
        for (name, near) in [
            ("traffic.kuma.io/exclude-inbound-port", "`traffic.kuma.io/exclude-inbound-ports`"),
            ("traffic.kuma.io/exclude-outbound-port-for-uid", "`traffic.kuma.io/exclude-outbound-ports-for-uids`"),
            ("kuma.io/transparent-proxying-ip-family", "`kuma.io/transparent-proxying-ip-family-mode`"),
            ("kuma.io/gatway", "`kuma.io/gateway`"),
            ("kuma.io/reachable-backend", "`kuma.io/reachable-backends`"),
            ("traffic.kuma.io/something-entirely-different-from-all", "unknown annotation"),
        ] {
            assert!(hint(name).is_some_and(|text| text.contains(near)), "{name}: {:?}", hint(name));
        }
        for name in
            ["kuma.io/sidecar-injection", "kuma.io/mesh", "kuma.io/sidecar-env-vars", "prometheus.io/port", "gateway"]
        {
            assert_eq!(hint(name), None, "{name}");
        }
        assert!(!unknown("traffic.kuma.io/a\nb").unwrap().to_string().contains('\n'));
    }
}
