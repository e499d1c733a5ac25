//! A `Dataplane` and the configuration of the host that it runs on: from one to the other, and where they disagree.

use super::{Dataplane, ResourceFamilyMode, TransparentProxying};
use crate::config::Config;
use crate::config::kubernetes::{Origin, SettingSource};
use crate::config::wire::{Field, ROWS};
use crate::error::{Error, InvalidValue, visible};
use crate::model::{IpFamilyMode, Note};
use crate::net::Port;

const SECTION: &str = "networking.transparentProxying";

impl TransparentProxying {
    /// Writes what the section says into a configuration, and leaves all else as it is: which directions are
    /// redirected and to which ports, and the address families.
    ///
    /// A direction without a port is not redirected. A mode that the section does not say is that of `DualStack`,
    /// and where the configuration requires IPv6, `DualStack` keeps it so. So is `IPv6`, as in Kuma, which does not do
    /// that family alone yet.
    ///
    /// # Errors
    /// None so far.
    pub fn apply_to(&self, config: &mut Config) -> Result<(), Error> {
        let mode = self.ip_family_mode.to_config().unwrap_or(IpFamilyMode::DualStack);
        if ResourceFamilyMode::from(config.ip_family_mode) != ResourceFamilyMode::from(mode) {
            config.ip_family_mode = mode;
        }
        let redirect = &mut config.redirect;
        redirect.inbound.enabled = self.redirect_port_inbound.is_some();
        redirect.inbound.port = self.redirect_port_inbound.unwrap_or(redirect.inbound.port);
        redirect.outbound.enabled = self.redirect_port_outbound.is_some();
        redirect.outbound.port = self.redirect_port_outbound.unwrap_or(redirect.outbound.port);
        Ok(())
    }

    /// The section for the workload of a host that is configured so. It names no services or backends.
    ///
    /// ```
    /// use kumatp::Config;
    /// use kumatp::config::dataplane::TransparentProxying;
    ///
    /// let mut config = Config::default();
    /// config.redirect.inbound.enabled = false;
    /// let section = TransparentProxying::from(&config);
    /// assert_eq!(section.to_json(), "{\n  \"redirectPortOutbound\": 15001,\n  \"ipFamilyMode\": \"DualStack\"\n}");
    /// ```
    pub fn of(config: &Config) -> Self {
        let redirect = &config.redirect;
        Self {
            redirect_port_inbound: Some(redirect.inbound.port).filter(|_| redirect.inbound.enabled),
            redirect_port_outbound: Some(redirect.outbound.port).filter(|_| redirect.outbound.enabled),
            ip_family_mode: config.ip_family_mode.into(),
            ..Self::default()
        }
    }
}

impl From<&Config> for TransparentProxying {
    fn from(config: &Config) -> Self {
        Self::of(config)
    }
}

impl Dataplane {
    /// The configuration of the host that the workload runs on: Kuma's defaults, and what the section
    /// `transparentProxying` says instead. [`TransparentProxying::apply_to`] adds it to another configuration.
    ///
    /// # Errors
    /// [`Error::Config`] if the resource has no such section, or one that no transparent proxy can do.
    pub fn to_config(&self) -> Result<Config, Error> {
        let section = self.transparent_proxying.as_ref().ok_or_else(|| {
            let expected =
                "a section with redirectPortInbound and redirectPortOutbound; without it nothing is redirected";
            InvalidValue::new("", expected).at(SECTION)
        })?;
        let mut config = Config::default();
        section.apply_to(&mut config)?;
        Ok(config)
    }

    /// Where each key of [`to_config`](Self::to_config) came from, in the order of the reference: the field of the
    /// resource, or Kuma's default.
    ///
    /// # Errors
    /// As with [`to_config`](Self::to_config).
    pub fn origins(&self) -> Result<Vec<Origin>, Error> {
        let mut config = self.to_config()?;
        let section = self.transparent_proxying.clone().unwrap_or_default();
        let source = |key: &str| {
            let field = match key {
                "redirect.inbound.enabled" => "redirectPortInbound",
                "redirect.inbound.port" if section.redirect_port_inbound.is_some() => "redirectPortInbound",
                "redirect.outbound.enabled" => "redirectPortOutbound",
                "redirect.outbound.port" if section.redirect_port_outbound.is_some() => "redirectPortOutbound",
                "ipFamilyMode" if section.ip_family_mode != ResourceFamilyMode::Unspecified => "ipFamilyMode",
                _ => return SettingSource::Default,
            };
            SettingSource::Dataplane(format!("{SECTION}.{field}"))
        };
        let rows = ROWS.iter().filter(|row| row.in_documents()).filter_map(|row| match row.field {
            Field::Value(at) | Field::Port(at, _) => Some((row.path, at)),
            _ => None,
        });
        Ok(rows
            .map(|(key, at)| Origin {
                key,
                value: at(&mut config).write().to_string(),
                source: source(key),
                added: Vec::new(),
                overridden: Vec::new(),
            })
            .collect())
    }
}

/// Where the configuration of a host and the `Dataplane` of the workload on it disagree: directions, redirect ports,
/// address families, and offered ports that connections reach without the sidecar. Each is a warning; there are
/// none if both describe the same transparent proxy.
///
/// ```
/// use kumatp::Config;
/// use kumatp::config::Format;
/// use kumatp::config::dataplane::{Dataplane, compare};
///
/// let text = r#"{"type": "Dataplane", "mesh": "default", "name": "web", "networking": {"address": "192.0.2.7",
///     "transparentProxying": {"redirectPortInbound": 15006, "redirectPortOutbound": 15101}}}"#;
/// let (dataplane, _) = Dataplane::parse(text, Format::Json)?;
/// let notes = compare(&Config::default(), &dataplane);
/// assert_eq!(notes.len(), 1);
/// assert_eq!(notes[0].about, "redirect.outbound.port");
/// # Ok::<(), kumatp::Error>(())
/// ```
pub fn compare(config: &Config, dataplane: &Dataplane) -> Vec<Note> {
    let redirect = &config.redirect;
    let Some(section) = &dataplane.transparent_proxying else {
        let text = "the host redirects traffic, but the Dataplane has no such section";
        let redirects = redirect.inbound.enabled || redirect.outbound.enabled;
        return redirects.then(|| Note::warning(SECTION, text)).into_iter().collect();
    };
    let mut notes = Vec::new();
    let inbound = (redirect.inbound.enabled, redirect.inbound.port);
    notes.extend(direction("inbound", "redirectPortInbound", inbound, section.redirect_port_inbound));
    let outbound = (redirect.outbound.enabled, redirect.outbound.port);
    notes.extend(direction("outbound", "redirectPortOutbound", outbound, section.redirect_port_outbound));
    notes.extend(families(config.ip_family_mode, dataplane, section.ip_family_mode));
    if redirect.inbound.enabled && section.redirect_port_inbound.is_some() {
        notes.extend(bypassed(config, dataplane));
    }
    notes
}

fn direction(name: &str, key: &str, host: (bool, Port), resource: Option<Port>) -> Option<Note> {
    let (about, text) = match (host, resource) {
        ((true, host), Some(resource)) if host != resource => (
            format!("redirect.{name}.port"),
            format!("the host redirects to {host}, the sidecar listens on {resource} ({SECTION}.{key})"),
        ),
        ((true, host), None) => (
            format!("redirect.{name}.enabled"),
            format!("the host redirects to {host}, where the sidecar does not listen ({SECTION}.{key} is 0)"),
        ),
        ((false, _), Some(resource)) => (
            format!("redirect.{name}.enabled"),
            format!("the host does not redirect, but the sidecar expects it on {resource} ({SECTION}.{key})"),
        ),
        ((true, _), Some(_)) | ((false, _), None) => return None,
    };
    Some(Note::warning(about, text))
}

fn families(host: IpFamilyMode, dataplane: &Dataplane, mode: ResourceFamilyMode) -> Vec<Note> {
    let mut notes = Vec::new();
    let same = mode.to_config().map(ResourceFamilyMode::from) == Some(ResourceFamilyMode::from(host));
    if !same {
        let text = format!("the host has {host}, the Dataplane {mode} ({SECTION}.ipFamilyMode)");
        notes.push(Note::warning("ipFamilyMode", text));
    }
    if mode == ResourceFamilyMode::Ipv4 && dataplane.has_ipv4_address() == Some(false) {
        let address = dataplane.address.as_deref().unwrap_or("missing");
        let text = format!(
            "is {}, so that with ipFamilyMode IPv4 Kuma treats the workload as one without a transparent proxy",
            visible(address)
        );
        notes.push(Note::warning("networking.address", text));
    }
    notes
}

/// Offered ports that the host leaves alone.
fn bypassed(config: &Config, dataplane: &Dataplane) -> Vec<Note> {
    let inbound = &config.redirect.inbound;
    let offered = dataplane.inbounds.iter().enumerate();
    offered
        .filter_map(|(index, offered)| {
            let key = match inbound.include_ports.is_empty() {
                true => inbound.exclude_ports.contains(offered.port).then_some("redirect.inbound.excludePorts"),
                false => (!inbound.include_ports.contains(offered.port)).then_some("redirect.inbound.includePorts"),
            };
            let text = |key| format!("connections to {} do not go through the sidecar, because of {key}", offered.port);
            key.map(|key| Note::warning(format!("networking.inbound[{index}].port"), text(key)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;

    fn dataplane(section: &str) -> Dataplane {
        let text = format!(
            r#"{{"type": "Dataplane", "name": "a", "networking": {{"address": "2001:db8::1",
                "inbound": [{{"port": 80}}], "transparentProxying": {section}}}}}"#
        );
        Dataplane::parse(&text, Format::Json).unwrap().0
    }

    fn abouts(config: &Config, dataplane: &Dataplane) -> Vec<String> {
        compare(config, dataplane).into_iter().map(|note| note.about).collect()
    }

    #[test]
    fn there_and_back() {
        for section in [
            "{}",
            r#"{"redirectPortInbound": 16006}"#,
            r#"{"redirectPortInbound": 1, "redirectPortOutbound": 2, "ipFamilyMode": "IPv4"}"#,
        ] {
            let dataplane = dataplane(section);
            let config = dataplane.to_config().unwrap();
            let back = TransparentProxying::from(&config);
            let section = dataplane.transparent_proxying.clone().unwrap();
            assert_eq!(back.redirect_port_inbound, section.redirect_port_inbound);
            assert_eq!(back.redirect_port_outbound, section.redirect_port_outbound);
            assert_eq!(back.ip_family_mode.to_config(), section.ip_family_mode.to_config());
            let disagreements = abouts(&config, &dataplane);
            let expected: &[&str] =
                if section.ip_family_mode == ResourceFamilyMode::Ipv4 { &["networking.address"] } else { &[] };
            assert_eq!(disagreements, expected);
        }
    }

    #[test]
    fn origins_are_fields_and_defaults() {
        let origins = dataplane(r#"{"redirectPortInbound": 16006, "ipFamilyMode": "DualStack"}"#).origins().unwrap();
        let of = |key| origins.iter().find(|origin| origin.key == key).unwrap().to_string();
        assert_eq!(
            of("redirect.inbound.port"),
            "redirect.inbound.port = 16006: networking.transparentProxying.redirectPortInbound"
        );
        assert_eq!(
            of("redirect.outbound.enabled"),
            "redirect.outbound.enabled = false: networking.transparentProxying.redirectPortOutbound"
        );
        assert_eq!(of("redirect.outbound.port"), "redirect.outbound.port = 15001: default");
        assert!(of("ipFamilyMode").ends_with("networking.transparentProxying.ipFamilyMode"));
        assert!(
            dataplane("{}")
                .origins()
                .unwrap()
                .iter()
                .all(|origin| origin.key != "ipFamilyMode" || !origin.source.is_set())
        );
    }

    #[test]
    fn required_ipv6_is_kept() {
        let mut config = Config::default();
        config.ip_family_mode = IpFamilyMode::Required;
        dataplane("{}").transparent_proxying.unwrap().apply_to(&mut config).unwrap();
        assert_eq!(config.ip_family_mode, IpFamilyMode::Required);
        assert!(!config.redirect.inbound.enabled);
    }

    #[test]
    fn ipv6_alone_and_no_section() {
        let alone = dataplane(r#"{"ipFamilyMode": "IPv6"}"#).to_config().unwrap();
        assert_eq!(alone.ip_family_mode, IpFamilyMode::DualStack);
        let mut none = dataplane("{}");
        none.transparent_proxying = None;
        assert_eq!(none.to_config().unwrap_err().problems()[0].path, SECTION);
        assert_eq!(abouts(&Config::default(), &none), [SECTION]);
        assert!(!none.is_transparent());
    }

    #[test]
    fn disagreements() {
        let host = Config::default();
        let both = r#""redirectPortInbound": 15006, "redirectPortOutbound": 15001"#;
        assert_eq!(abouts(&host, &dataplane(&format!("{{{both}}}"))), [""; 0]);
        assert!(dataplane(&format!("{{{both}}}")).is_transparent());
        assert_eq!(
            abouts(&host, &dataplane(r#"{"redirectPortInbound": 1}"#)),
            ["redirect.inbound.port", "redirect.outbound.enabled"]
        );
        let ipv4 = dataplane(&format!(r#"{{{both}, "ipFamilyMode": "IPv4"}}"#));
        assert_eq!(abouts(&host, &ipv4), ["ipFamilyMode", "networking.address"]);
        assert!(!ipv4.is_transparent());
        let ipv6 = dataplane(&format!(r#"{{{both}, "ipFamilyMode": "IPv6"}}"#));
        assert_eq!(abouts(&host, &ipv6), ["ipFamilyMode"]);

        let mut host = Config::default();
        host.redirect.inbound.exclude_ports = "80".parse().unwrap();
        assert_eq!(abouts(&host, &dataplane(&format!("{{{both}}}"))), ["networking.inbound[0].port"]);
        host.redirect.inbound.include_ports = "80-90".parse().unwrap();
        assert_eq!(abouts(&host, &dataplane(&format!("{{{both}}}"))), [""; 0]);
        host.redirect.inbound.include_ports = "443".parse().unwrap();
        assert_eq!(abouts(&host, &dataplane(&format!("{{{both}}}"))), ["networking.inbound[0].port"]);
        host.redirect.inbound.enabled = false;
        assert_eq!(abouts(&host, &dataplane(&format!("{{{both}}}"))), ["redirect.inbound.enabled"]);
    }
}
