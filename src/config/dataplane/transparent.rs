//! The section `networking.transparentProxying`.

use std::str::FromStr;

use super::ReachableBackends;
use super::reader::{Fields, Reader};
use crate::config::wire::{Node, one_of};
use crate::config::{Config, Format};
use crate::error::{Error, InvalidValue};
use crate::model::{IpFamilyMode, Note};
use crate::named::named;
use crate::net::Port;

/// How Kuma's validation spells the path of the section when it reports a violation of `reachableBackends`
/// (`pkg/core/resources/apis/mesh/dataplane_validator.go`). Tools look for it, so it is kept.
pub(super) const VIOLATIONS_PATH: &str = "networking.transparentProxing.reachableBackends";

/// What a `Dataplane` says about its transparent proxy.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TransparentProxying {
    /// The sidecar's inbound listener: `redirectPortInbound`. None, written as 0 or left out, is no redirection.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub redirect_port_inbound: Option<Port>,
    /// The sidecar's outbound listener: `redirectPortOutbound`. None, written as 0 or left out, is no redirection.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_number")]
    pub redirect_port_outbound: Option<Port>,
    /// Which address families: `ipFamilyMode`.
    #[serde(skip_serializing_if = "ResourceFamilyMode::is_unspecified")]
    pub ip_family_mode: ResourceFamilyMode,
    /// Services that are reached at the address of each instance, `*` for all: `directAccessServices`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub direct_access_services: Vec<String>,
    /// The values of `kuma.io/service` that may be reached: `reachableServices`, of Kuma 2.9. An empty list says the
    /// same as none: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_services: Option<Vec<String>>,
    /// The backends that may be reached: `reachableBackends`. An empty list is none at all; absent is all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reachable_backends: Option<ReachableBackends>,
}

/// The address families as a `Dataplane` spells them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ResourceFamilyMode {
    /// Not said, which works as `DualStack`: `UnSpecified`.
    #[default]
    Unspecified,
    /// IPv4 and IPv6: `DualStack`.
    DualStack,
    /// IPv4 only: `IPv4`.
    Ipv4,
    /// IPv6 only: `IPv6`. Kuma has the word but no transparent proxy that does it.
    Ipv6,
}

named! {
    /// Every mode, in the order of the numbers that Kuma's API definition gives them.
    ResourceFamilyMode { Unspecified = "UnSpecified", DualStack = "DualStack", Ipv4 = "IPv4", Ipv6 = "IPv6" }
}

impl ResourceFamilyMode {
    /// The mode of a [`Config`](crate::Config) that does it. There is none for IPv6 alone.
    pub fn to_config(self) -> Option<IpFamilyMode> {
        match self {
            Self::Unspecified | Self::DualStack => Some(IpFamilyMode::DualStack),
            Self::Ipv4 => Some(IpFamilyMode::Ipv4),
            Self::Ipv6 => None,
        }
    }

    fn is_unspecified(&self) -> bool {
        *self == Self::Unspecified
    }
}

impl From<IpFamilyMode> for ResourceFamilyMode {
    /// A resource cannot say that IPv6 is required.
    fn from(mode: IpFamilyMode) -> Self {
        match mode {
            IpFamilyMode::DualStack | IpFamilyMode::Required => Self::DualStack,
            IpFamilyMode::Ipv4 => Self::Ipv4,
        }
    }
}

impl FromStr for ResourceFamilyMode {
    type Err = InvalidValue;

    /// The exact word, or its number; the refusal of a near miss says which one was probably meant.
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let by_number = Self::ALL.into_iter().enumerate().find(|(number, _)| number.to_string() == text);
        by_number.map_or_else(|| one_of(text, "", Self::ALL, Self::as_str), |(_, mode)| Ok(mode))
    }
}

impl serde::Serialize for ResourceFamilyMode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[expect(clippy::ref_option, reason = "serde passes the field so")]
fn as_number<S: serde::Serializer>(port: &Option<Port>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(port.map_or(0, Port::number))
}

impl TransparentProxying {
    /// Reads the section as a document of its own.
    ///
    /// Problems of `reachableBackends` have the path that Kuma's own validation gives them, with its spelling:
    /// `networking.transparentProxing.reachableBackends.refs[0].kind`. Kuma checks nothing else of the section but the
    /// types; problems with those are at `networking.transparentProxying`.
    ///
    /// ```
    /// use kumatp::config::Format;
    /// use kumatp::config::dataplane::TransparentProxying;
    ///
    /// let text = r#"{"redirectPortOutbound": 15001, "ipFamilyMode": "IPv4", "reachableBackends": {}}"#;
    /// let (section, notes) = TransparentProxying::parse(text, Format::Json)?;
    /// assert_eq!(section.redirect_port_inbound, None);
    /// assert!(section.reachable_backends.is_some_and(|backends| backends.refs.is_empty()));
    /// assert!(notes.is_empty());
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every problem.
    pub fn parse(text: &str, format: Format) -> Result<(Self, Vec<Note>), Error> {
        let mut reader = Reader::default();
        let node = reader.document("document", text, format);
        let section = node.map(|node| match node {
            Node::Null => Self::default(),
            node => Self::read(&mut reader, &node),
        });
        reader.finish(section)
    }

    /// As JSON, which [`parse`](Self::parse) reads back.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("texts and numbers can be written")
    }

    /// As YAML, which [`parse`](Self::parse) reads back.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> String {
        yaml_serde::to_string(self).expect("texts and numbers can be written")
    }

    /// Reads what the `Dataplane` has at `networking.transparentProxying`.
    pub(super) fn read(reader: &mut Reader, node: &Node) -> Self {
        let known = [
            "redirectPortInbound",
            "redirectPortOutbound",
            "ipFamilyMode",
            "directAccessServices",
            "reachableServices",
            "reachableBackends",
        ];
        let Some(fields) = reader.fields("networking.transparentProxying", node, &known, true) else {
            return Self::default();
        };
        let default = Config::default().redirect;
        let redirect_port_inbound = redirect_port(reader, &fields, "redirectPortInbound", default.inbound.port);
        let redirect_port_outbound = redirect_port(reader, &fields, "redirectPortOutbound", default.outbound.port);
        let ip_family_mode =
            fields.get("ipFamilyMode").and_then(|node| family_mode(reader, &fields.path("ipFamilyMode"), node));
        let services =
            |reader: &mut Reader, key| fields.get(key).map(|node| reader.texts(&fields.path(key), node, "services"));
        Self {
            redirect_port_inbound,
            redirect_port_outbound,
            ip_family_mode: ip_family_mode.unwrap_or_default(),
            direct_access_services: services(reader, "directAccessServices").unwrap_or_default(),
            // Newer generations drop it, whatever it is.
            reachable_services: reader.leniently(|reader| services(reader, "reachableServices")),
            reachable_backends: fields
                .get("reachableBackends")
                .map(|node| ReachableBackends::read(reader, VIOLATIONS_PATH, node)),
        }
    }
}

/// The sidecar's port in one direction. Any number but 0 redirects that direction in Kuma, even one that is no port.
fn redirect_port(reader: &mut Reader, fields: &Fields<'_>, key: &str, default: Port) -> Option<Port> {
    match reader.number_of(fields, key, u32::MAX)? {
        0 => None,
        number => Some(u16::try_from(number).ok().and_then(Port::new).unwrap_or_else(|| {
            let text = format!(
                "{number} is no port; Kuma accepts it and redirects to where no sidecar can listen. A configuration gets {default}"
            );
            reader.note(Note::warning(fields.path(key), text));
            default
        })),
    }
}

/// The address families, by name or by the number that Kuma's API definition has for it. Any number will do for Kuma:
/// all but that of `IPv4` are both families.
fn family_mode(reader: &mut Reader, path: &str, node: &Node) -> Option<ResourceFamilyMode> {
    let both = "both families are redirected";
    let number = match node {
        Node::Number(number) => number.parse::<i32>().ok(),
        _ => None,
    };
    let mode = match (node, number) {
        (_, Some(number)) => {
            let known = usize::try_from(number).ok().and_then(|index| ResourceFamilyMode::ALL.get(index)).copied();
            if known.is_none() {
                let text = format!("{number} stands for no mode; Kuma accepts it, and {both}");
                reader.note(Note::warning(path, text));
            }
            known.unwrap_or_default()
        }
        (Node::Text(text), _) if text.parse::<i32>().is_err() => {
            text.parse().map_err(|error: InvalidValue| reader.problem(error.at(path))).ok()?
        }
        _ => {
            let names = ResourceFamilyMode::ALL.map(ResourceFamilyMode::as_str).join(", ");
            reader.refuse(path, &node.quoted(), &format!("one of {names}, or its number without quotes"));
            return None;
        }
    };
    if mode == ResourceFamilyMode::Ipv6 {
        reader.note(Note::warning(path, format!("IPv6 alone is nothing that Kuma does yet: {both}")));
    }
    Some(mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let text = r#"{"redirectPortInbound": 15006, "redirect_port_outbound": "15001", "ipFamilyMode": 2,
            "directAccessServices": ["*"], "reachableServices": ["a_b_svc_80"],
            "reachableBackends": {"refs": [{"kind": "MeshService", "name": "a", "port": 80}]}}"#;
        let (section, notes) = TransparentProxying::parse(text, Format::Json).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(section.redirect_port_outbound.map(Port::number), Some(15001));
        assert_eq!(section.ip_family_mode, ResourceFamilyMode::Ipv4);
        assert!(section.to_json().contains("\"redirectPortOutbound\": 15001"), "{}", section.to_json());
        assert_eq!(TransparentProxying::parse(&section.to_json(), Format::Json).unwrap().0, section);
        #[cfg(feature = "yaml")]
        assert_eq!(TransparentProxying::parse(&section.to_yaml(), Format::Yaml).unwrap().0, section);
        assert_eq!(TransparentProxying::default().to_json(), "{}");
        assert_eq!(TransparentProxying::parse("", Format::Json).unwrap().0, TransparentProxying::default());
    }

    #[test]
    fn empty_is_not_absent() {
        let text = r#"{"reachableServices": [], "reachableBackends": {}}"#;
        let (section, _) = TransparentProxying::parse(text, Format::Json).unwrap();
        assert_eq!(section.reachable_services, Some(Vec::new()));
        assert_eq!(section.reachable_backends, Some(ReachableBackends::default()));
        let (absent, _) = TransparentProxying::parse(r#"{"reachableBackends": null}"#, Format::Json).unwrap();
        assert_eq!((absent.reachable_services, absent.reachable_backends), (None, None));
    }

    #[test]
    fn every_problem_at_once() {
        let text = r#"{"redirectPortInbound": -1, "redirectPortOutbound": true, "ipFamilyMode": "ipv4",
            "directAccessServices": "*", "reachableBackends": {"refs": [{"kind": "X", "name": "a"}]}}"#;
        let error = TransparentProxying::parse(text, Format::Json).unwrap_err();
        let paths: Vec<_> = error.problems().iter().map(|problem| problem.path.as_str()).collect();
        let correct = "networking.transparentProxying";
        assert_eq!(
            paths,
            [
                format!("{correct}.redirectPortInbound"),
                format!("{correct}.redirectPortOutbound"),
                format!("{correct}.ipFamilyMode"),
                format!("{correct}.directAccessServices"),
                "networking.transparentProxing.reachableBackends.refs[0].kind".to_owned(),
            ]
        );
        assert!(error.to_string().contains("did you mean 'IPv4'?"), "{error}");
    }
}
