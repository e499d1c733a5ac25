//! What a pod's annotations say for its `Dataplane`.

use super::annotations::{
    DIRECT_ACCESS_SERVICES, INBOUND_PORT, IP_FAMILY_MODE, OUTBOUND_PORT, REACHABLE_BACKENDS, REACHABLE_SERVICES,
    TRANSPARENT_PROXYING,
};
use super::config_map::EMBEDDED;
use super::{Annotation, Pod, read};
use crate::config::dataplane::{ReachableBackends, ResourceFamilyMode, TransparentProxying};
use crate::config::wire::visible;
use crate::config::{Config, Profile};
use crate::error::{Error, InvalidValue, Problem};
use crate::model::Note;
use crate::net::Port;

/// The section `networking.transparentProxying` of the `Dataplane` that Kuma makes for a pod, and notes; none where the
/// pod has nothing to say there.
///
/// In [`Profile::Kuma3`] it holds what may be reached; ports and family mode are the sidecar's own business.
/// `kuma.io/transparent-proxying-reachable-services`, which Kuma 3 has dropped, is taken all the same, with a note. In
/// [`Profile::Kuma29`] it is there where `kuma.io/transparent-proxying` is enabled, and then needs both ports.
///
/// ```
/// use kumatp::config::Profile;
/// use kumatp::config::kubernetes::{Pod, transparent_proxying};
///
/// let pod = Pod::with_annotations([("kuma.io/reachable-backends".to_owned(), "{}".to_owned())]);
/// let (section, _) = transparent_proxying(&pod, Profile::Kuma3)?;
/// // Nothing may be reached, which is not the same as nothing being said.
/// assert!(section.unwrap().reachable_backends.unwrap().refs.is_empty());
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Config`] with every problem; the path begins with the name of the annotation.
pub fn transparent_proxying(pod: &Pod, profile: Profile) -> Result<(Option<TransparentProxying>, Vec<Note>), Error> {
    let (mut problems, mut notes) = (Vec::new(), Vec::new());
    let section = section(pod, profile, None, &mut problems, &mut notes);
    if problems.is_empty() { Ok((section, notes)) } else { Err(Error::Config(problems)) }
}

/// The same. With a configuration, a pod that the injector has not been at yet is taken as it will be.
pub(super) fn section(
    pod: &Pod,
    profile: Profile,
    config: Option<&Config>,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<Note>,
) -> Option<TransparentProxying> {
    let text = |name: &str| pod.annotations.get(name).map(String::as_str);
    let mut section = TransparentProxying::default();
    if profile == Profile::Kuma29 {
        let enabled = match text(TRANSPARENT_PROXYING) {
            None => config.is_some(),
            // `Sources` reports it by itself.
            Some(value) => read::switch(value, true).unwrap_or_else(|| {
                if config.is_none() {
                    problems.push(refused(TRANSPARENT_PROXYING, value));
                }
                false
            }),
        };
        if !enabled {
            return None;
        }
        let mut port = |name: &'static str, configured: Option<Port>| match (text(name), configured) {
            (Some(value), _) => match value.parse() {
                Ok(0) => None,
                Ok(number @ 1..=65535) => Port::new(number as u16),
                Ok(_) | Err(_) => {
                    if config.is_none() {
                        problems.push(refused(name, value));
                    }
                    None
                }
            },
            (None, Some(port)) => Some(port),
            (None, None) => {
                let expected = format!("a port, since {TRANSPARENT_PROXYING} is enabled");
                problems.push(InvalidValue::new("", expected).at(name));
                None
            }
        };
        section.redirect_port_inbound = port(INBOUND_PORT, config.map(|config| config.redirect.inbound.port));
        section.redirect_port_outbound = port(OUTBOUND_PORT, config.map(|config| config.redirect.outbound.port));
        section.ip_family_mode = match text(IP_FAMILY_MODE) {
            None | Some("") => config.map_or(ResourceFamilyMode::DualStack, |config| config.ip_family_mode.into()),
            Some("dualstack") => ResourceFamilyMode::DualStack,
            Some("ipv4") => ResourceFamilyMode::Ipv4,
            Some(value) => {
                if config.is_none() {
                    problems.push(refused(IP_FAMILY_MODE, value));
                }
                ResourceFamilyMode::Unspecified
            }
        };
    }

    section.direct_access_services = names(text(DIRECT_ACCESS_SERVICES), DIRECT_ACCESS_SERVICES, notes);
    let services = names(text(REACHABLE_SERVICES), REACHABLE_SERVICES, notes);
    if text(REACHABLE_SERVICES).is_some() && profile == Profile::Kuma3 {
        let text = format!("is of {} and taken here all the same; Kuma 3 has {REACHABLE_BACKENDS}", Profile::Kuma29);
        notes.push(Note::warning(REACHABLE_SERVICES, text));
    }
    section.reachable_services = Some(services).filter(|services| !services.is_empty());
    section.reachable_backends = match text(REACHABLE_BACKENDS) {
        Some(text) => Some(backends(text, problems, notes)),
        None => pod.zone_proxy_only.then(ReachableBackends::default).filter(|_| profile == Profile::Kuma3),
    };
    Some(section).filter(|section| *section != TransparentProxying::default())
}

fn refused(name: &'static str, value: &str) -> Problem {
    let expected = Annotation::find(name).map_or("", Annotation::expected);
    InvalidValue::new(value, expected).at(name)
}

fn backends(text: &str, problems: &mut Vec<Problem>, notes: &mut Vec<Note>) -> ReachableBackends {
    match ReachableBackends::parse(text, EMBEDDED) {
        Ok((backends, more)) => {
            notes.extend(more.into_iter().map(|note| note.within(REACHABLE_BACKENDS)));
            backends
        }
        Err(error) => {
            problems.extend_from_slice(error.within(REACHABLE_BACKENDS).problems());
            ReachableBackends::default()
        }
    }
}

/// The items of a list of names. Empty ones are dropped, blanks are kept, as Kuma does.
fn names(text: Option<&str>, annotation: &'static str, notes: &mut Vec<Note>) -> Vec<String> {
    let names: Vec<String> =
        text.unwrap_or_default().split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if let Some(name) = names.iter().find(|name| name.trim() != name.as_str()) {
        let text = format!("the name '{}' has blanks around it, so it matches no service", visible(name));
        notes.push(Note::warning(annotation, text));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    type Told = (Option<TransparentProxying>, Vec<Note>);

    fn of(annotations: &[(&str, &str)], profile: Profile) -> Result<Told, Error> {
        let annotations = annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        transparent_proxying(&Pod::with_annotations(annotations), profile)
    }

    #[test]
    fn services_are_listed_as_they_stand() {
        let (section, notes) = of(&[(DIRECT_ACCESS_SERVICES, "a,,b, c")], Profile::Kuma3).unwrap();
        assert_eq!(section.unwrap().direct_access_services, ["a", "b", " c"]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].text.contains("' c'"));

        let (section, notes) = of(&[(REACHABLE_SERVICES, "a_b_svc_80")], Profile::Kuma3).unwrap();
        assert_eq!(section.unwrap().reachable_services.unwrap(), ["a_b_svc_80"]);
        assert_eq!(notes[0].about, REACHABLE_SERVICES);
        assert_eq!(of(&[(REACHABLE_SERVICES, "")], Profile::Kuma3).unwrap().0, None);
    }

    #[test]
    fn backends_are_checked() {
        let text = r#"{"refs": [{"kind": "MeshMulitZoneService", "name": "a"}, {"kind": "MeshService"}]}"#;
        let error = of(&[(REACHABLE_BACKENDS, text)], Profile::Kuma3).unwrap_err();
        assert_eq!(error.problems()[0].path, "kuma.io/reachable-backends: refs[0].kind");
        assert!(error.problems()[0].expected.contains("MeshMultiZoneService'"));
        assert_eq!(error.problems()[1].path, "kuma.io/reachable-backends: refs[1].name");
        let error = of(&[(REACHABLE_BACKENDS, "[")], Profile::Kuma3).unwrap_err();
        assert!(error.problems()[0].path.starts_with("kuma.io/reachable-backends: "), "{error}");
        // Present and empty is nothing at all.
        let (section, _) = of(&[(REACHABLE_BACKENDS, "")], Profile::Kuma3).unwrap();
        assert_eq!(section.unwrap().reachable_backends, Some(ReachableBackends::default()));
    }

    #[test]
    fn kuma_2_9_has_the_ports_too() {
        let old = Profile::Kuma29;
        let enabled = (TRANSPARENT_PROXYING, "enabled");
        assert_eq!(of(&[(DIRECT_ACCESS_SERVICES, "*")], old).unwrap().0, None);

        let ports = [enabled, (INBOUND_PORT, "15006"), (OUTBOUND_PORT, "0")];
        let section = of(&ports, old).unwrap().0.unwrap();
        assert_eq!(section.redirect_port_inbound, Port::new(15006));
        assert_eq!(section.redirect_port_outbound, None);
        assert_eq!(section.ip_family_mode, ResourceFamilyMode::DualStack);

        let error = of(&[enabled, (OUTBOUND_PORT, "70000"), (IP_FAMILY_MODE, "ipv6")], old).unwrap_err();
        let told: Vec<String> = error.problems().iter().map(Problem::to_string).collect();
        assert_eq!(told.len(), 3);
        assert!(
            told[0].starts_with("kuma.io/transparent-proxying-inbound-port: '' is not valid: expected a port, since")
        );
        assert!(told[1].starts_with("kuma.io/transparent-proxying-outbound-port: '70000'"));
        assert!(told[2].starts_with("kuma.io/transparent-proxying-ip-family-mode: 'ipv6'"));
        assert!(of(&[(TRANSPARENT_PROXYING, "on")], old).is_err());
    }
}
