use crate::config::kubernetes::{CONFIG, Pod, Sources};
use crate::config::{Config, Format, Profile};
use crate::error::{Error, InvalidValue};
use crate::model::Note;

/// The ConfigMaps that a configuration is made from besides the pod, as they were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ConfigMaps {
    /// The operator's.
    pub(super) system: Option<String>,
    /// The one in the pod's namespace that the pod names.
    pub(super) custom: Option<String>,
}

/// The configuration that a pod asks for.
///
/// In Kuma 3, the injector writes all of it to one annotation, so a pod without that is not what it seems. What a tenant
/// may not decide is refused in [`crate::config::kubernetes`].
pub(super) fn configuration(pod: Pod, maps: &ConfigMaps, profile: Profile) -> Result<(Config, Vec<Note>), Error> {
    let mut sources = Sources::new();
    sources.profile(profile);
    let written = pod.annotations.get(CONFIG).is_some_and(|text| !text.trim().is_empty());
    if !written && profile != Profile::Kuma29 {
        return Err(InvalidValue::new("", "the configuration of the transparent proxy, in YAML").at(CONFIG).into());
    }
    sources.pod(pod);
    if let Some(text) = &maps.system {
        sources.config_map(text, Format::Yaml);
    }
    if let Some(text) = &maps.custom {
        sources.custom_config_map(text, Format::Yaml);
    }
    let mut resolved = sources.resolve()?;
    // The users here are those of the host, so none is looked up.
    resolved.config.cni_mode = true;
    // Even the operator may not have pods start without their rules.
    resolved.config.dry_run = false;
    Ok((resolved.config, resolved.notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kubernetes::{CONFIG_MAP_NAME, INJECTED};

    fn pod(annotations: &[(&str, &str)]) -> Pod {
        Pod::with_annotations(annotations.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())))
    }

    fn of(text: &str, custom: Option<&str>) -> Result<Config, Error> {
        let mut annotations = vec![(CONFIG, text), (INJECTED, "true")];
        annotations.extend(custom.map(|_| (CONFIG_MAP_NAME, "web")));
        let maps = ConfigMaps { system: None, custom: custom.map(str::to_owned) };
        configuration(pod(&annotations), &maps, Profile::Kuma3).map(|(config, _)| config)
    }

    #[test]
    fn what_the_injector_writes() {
        let text = "cniMode: false\nkumaDPUser: '5678'\nredirect:\n  dns:\n    resolvConfigPath: /etc/resolv.conf\n";
        let config = of(text, None).unwrap();
        assert!(config.cni_mode);
        assert_eq!(config.kuma_dp_user.as_deref(), Some("5678"));
    }

    #[test]
    fn the_config_map_goes_over_the_annotation() {
        const ANNOTATION: &str = "redirect: {inbound: {port: 1}, outbound: {port: 2}}";
        for map in [
            "redirect: {outbound: {port: 3}}",
            "kind: ConfigMap\ndata:\n  config.yaml: |\n    redirect: {outbound: {port: 3}}\n",
        ] {
            let config = of(ANNOTATION, Some(map)).unwrap();
            assert_eq!((config.redirect.inbound.port.number(), config.redirect.outbound.port.number()), (1, 3));
        }
    }

    #[test]
    fn without_the_annotation() {
        let annotations = [
            (INJECTED, "true"),
            ("kuma.io/transparent-proxying", "enabled"),
            ("kuma.io/transparent-proxying-inbound-port", "16006"),
            ("kuma.io/transparent-proxying-outbound-port", "16001"),
        ];
        let error = configuration(pod(&annotations), &ConfigMaps::default(), Profile::Kuma3).unwrap_err();
        assert_eq!(error.problems()[0].path, CONFIG);
        let (config, _) = configuration(pod(&annotations), &ConfigMaps::default(), Profile::Kuma29).unwrap();
        assert_eq!(config.redirect.inbound.port.number(), 16006);
        assert_eq!(of(" ", None).unwrap_err().problems()[0].path, CONFIG);
    }

    #[test]
    fn what_a_tenant_may_not_decide() {
        for text in [
            "iptablesExecutables: {iptables: /tmp/evil}",
            "redirect: {dns: {resolvConfigPath: /proc/1/environ}}",
            "storeFirewalld: true",
            "dryRun: true",
            "kumaDPUser: root",
        ] {
            let error = of(text, None).unwrap_err();
            assert!(error.problems()[0].path.starts_with(CONFIG), "{text}: {error}");
        }
    }
}
