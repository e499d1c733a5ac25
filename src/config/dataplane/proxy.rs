//! Whether Kuma takes a workload for one with a transparent proxy.

use std::net::IpAddr;

use super::{Dataplane, ResourceFamilyMode};
use crate::config::Config;
use crate::model::IpFamilyMode;

/// Whether Kuma takes a workload for one with a transparent proxy. Without one it makes no listeners for the virtual
/// addresses of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proxied {
    /// It does.
    Yes,
    /// It does if the name of the host stands for an IPv4 address, which nobody knows here.
    IfNameIsIpv4,
    /// It does not: there is no section `transparentProxying`.
    NoSection,
    /// It does not: neither direction has a port.
    NothingRedirected,
    /// It does not: the mode is IPv4, and the address is none.
    NotIpv4,
}

impl Dataplane {
    /// What Kuma makes of this workload. `flag` is what kuma-dp says by a flag, in which case the section does not
    /// count.
    pub(super) fn proxied(&self, flag: Option<&Config>) -> Proxied {
        let (redirects, ipv4) = match (flag, &self.transparent_proxying) {
            (Some(config), _) => {
                let redirect = &config.redirect;
                let redirects = redirect.inbound.enabled || redirect.outbound.enabled;
                (redirects, config.ip_family_mode == IpFamilyMode::Ipv4)
            }
            (None, Some(section)) => {
                let redirects = section.redirect_port_inbound.is_some() || section.redirect_port_outbound.is_some();
                (redirects, section.ip_family_mode == ResourceFamilyMode::Ipv4)
            }
            (None, None) => return Proxied::NoSection,
        };
        match (redirects, ipv4) {
            (false, _) => Proxied::NothingRedirected,
            (true, false) => Proxied::Yes,
            (true, true) => self.has_ipv4_address().map_or(Proxied::IfNameIsIpv4, |ipv4| match ipv4 {
                true => Proxied::Yes,
                false => Proxied::NotIpv4,
            }),
        }
    }

    /// Whether Kuma treats the workload as one with a transparent proxy: something is redirected, and the address is
    /// no IPv6 address where the mode is `IPv4`. The control plane looks up a host name first, so that one counts as
    /// an IPv4 address here.
    pub fn is_transparent(&self) -> bool {
        matches!(self.proxied(None), Proxied::Yes | Proxied::IfNameIsIpv4)
    }

    /// Whether the address is one of IPv4, which Kuma also says of `::ffff:192.0.2.7`; none for a host name.
    pub(super) fn has_ipv4_address(&self) -> Option<bool> {
        let address = self.address.as_deref().unwrap_or_default();
        match address.parse() {
            Ok(IpAddr::V4(_)) => Some(true),
            Ok(IpAddr::V6(_)) => Some(address.contains('.')),
            Err(_) if address.is_empty() => Some(false),
            Err(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Format;

    fn proxied(address: &str, section: &str, flag: Option<&Config>) -> Proxied {
        let networking = format!(r#"{{"address": "{address}"{section}}}"#);
        let text = format!(r#"{{"type": "Dataplane", "name": "a", "networking": {networking}}}"#);
        Dataplane::parse(&text, Format::Json).unwrap().0.proxied(flag)
    }

    #[test]
    fn by_section_and_address() {
        let section = |keys: &str| format!(r#", "transparentProxying": {{{keys}}}"#);
        let ipv4 = section(r#""redirectPortOutbound": 1, "ipFamilyMode": "IPv4""#);
        for (address, section, expected) in [
            ("192.0.2.7", String::new(), Proxied::NoSection),
            ("192.0.2.7", section(""), Proxied::NothingRedirected),
            ("192.0.2.7", section(r#""redirectPortInbound": 0"#), Proxied::NothingRedirected),
            ("192.0.2.7", section(r#""redirectPortInbound": 1"#), Proxied::Yes),
            ("2001:db8::7", section(r#""redirectPortOutbound": 1"#), Proxied::Yes),
            ("2001:db8::7", section(r#""redirectPortOutbound": 1, "ipFamilyMode": "IPv6""#), Proxied::Yes),
            ("192.0.2.7", ipv4.clone(), Proxied::Yes),
            ("::ffff:192.0.2.7", ipv4.clone(), Proxied::Yes),
            ("2001:db8::7", ipv4.clone(), Proxied::NotIpv4),
            ("", ipv4.clone(), Proxied::NotIpv4),
            ("web.example.org", ipv4, Proxied::IfNameIsIpv4),
        ] {
            assert_eq!(proxied(address, &section, None), expected, "{address} {section}");
        }
    }

    #[test]
    fn by_flag_the_section_does_not_count() {
        let mut config = Config::default();
        assert_eq!(proxied("2001:db8::7", "", Some(&config)), Proxied::Yes);
        let off = r#", "transparentProxying": {"ipFamilyMode": "IPv4"}"#;
        assert_eq!(proxied("2001:db8::7", off, Some(&config)), Proxied::Yes);
        config.ip_family_mode = IpFamilyMode::Ipv4;
        assert_eq!(proxied("2001:db8::7", "", Some(&config)), Proxied::NotIpv4);
        assert_eq!(proxied("192.0.2.7", "", Some(&config)), Proxied::Yes);
        config.redirect.inbound.enabled = false;
        assert_eq!(proxied("192.0.2.7", "", Some(&config)), Proxied::Yes);
        config.redirect.outbound.enabled = false;
        let on = r#", "transparentProxying": {"redirectPortInbound": 1}"#;
        assert_eq!(proxied("192.0.2.7", on, Some(&config)), Proxied::NothingRedirected);
    }
}
