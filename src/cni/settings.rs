use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use crate::config::{Config, Executables, Format, Layers};
use crate::error::{Error, InvalidValue, Problem};
use crate::model::Note;

/// The annotation that holds the whole configuration of a pod's transparent proxy. Kuma's injector writes it.
const CONFIG: &str = "traffic.kuma.io/transparent-proxy-config";

/// The annotation that names a ConfigMap with more settings.
pub(super) const CONFIG_MAP: &str = "traffic.kuma.io/transparent-proxy-configmap-name";

/// A ConfigMap that a pod names, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ConfigMap {
    pub(super) name: String,
    /// The resource, or the configuration that is in it under `config.yaml`.
    pub(super) text: String,
}

/// The configuration that a pod asks for: that of the annotation, and over it that of the ConfigMap that it names.
/// Whoever may write the pod wrote both, so they are refused where they name files or programs of the host, or ask for
/// rules that would not come into force.
pub(super) fn configuration(
    annotations: &BTreeMap<String, String>,
    map: Option<&ConfigMap>,
) -> Result<(Config, Vec<Note>), Error> {
    let text = annotations.get(CONFIG).filter(|text| !text.trim().is_empty());
    let text =
        text.ok_or_else(|| InvalidValue::new("", "the configuration of the transparent proxy, in YAML").at(CONFIG))?;
    let mut layers = Layers::new();
    layers.document(CONFIG, text, Format::Yaml);
    if let Some(map) = map {
        layers.document(&format!("ConfigMap {}", map.name), &map.configuration()?, Format::Yaml);
    }
    let (mut config, notes) = layers.finish().map_err(|error| match error {
        Error::Config(problems) => Error::Config(problems.into_iter().map(in_annotation).collect()),
        other => other,
    })?;
    let problems = refused(&config);
    if !problems.is_empty() {
        return Err(Error::Config(problems));
    }
    // The users here are those of the host.
    config.cni_mode = true;
    Ok((config, notes))
}

impl ConfigMap {
    fn configuration(&self) -> Result<Cow<'_, str>, Error> {
        let wrong = |path: &str, value: String, expected: &'static str| {
            Error::from(InvalidValue::new(value, expected).at(format!("ConfigMap {}: {path}", self.name)))
        };
        // What cannot be read is told about when it is read as configuration.
        let Ok(Value::Object(whole)) = yaml_serde::from_str(&self.text) else { return Ok(self.text.as_str().into()) };
        match (whole.get("kind"), whole.get("data")) {
            (None, None) => Ok(self.text.as_str().into()),
            (Some(kind), _) if kind != "ConfigMap" => Err(wrong("kind", kind.to_string(), "ConfigMap")),
            (_, data) => match data.and_then(|data| data.get("config.yaml")) {
                Some(Value::String(text)) => Ok(text.clone().into()),
                other => {
                    let value = other.map(Value::to_string).unwrap_or_default();
                    Err(wrong("data[config.yaml]", value, "the configuration as text"))
                }
            },
        }
    }
}

fn in_annotation(mut problem: Problem) -> Problem {
    if !problem.path.starts_with(CONFIG) && !problem.path.starts_with("ConfigMap ") {
        problem.path = format!("{CONFIG}: {}", problem.path);
    }
    problem
}

fn refused(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, value: String, expected: &'static str| {
        problems.push(in_annotation(InvalidValue::new(value, expected).at(key)));
    };
    if config.iptables_executables != Executables::default() {
        refuse("iptablesExecutables", "a path".into(), "no programs: a pod cannot name those of the host");
    }
    let default = Config::default().redirect.dns.resolv_conf;
    if config.redirect.dns.resolv_conf != default {
        let path = config.redirect.dns.resolv_conf.display().to_string();
        refuse("redirect.dns.resolvConfigPath", path, "/etc/resolv.conf: a pod cannot name files of the host");
    }
    if config.store_firewalld {
        refuse("storeFirewalld", "true".into(), "false: a pod cannot change files of the host");
    }
    if config.dry_run {
        refuse("dryRun", "true".into(), "false: the pod would start without its rules");
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(text: &str, map: Option<&str>) -> Result<Config, Error> {
        let map = map.map(|text| ConfigMap { name: "web".into(), text: text.into() });
        configuration(&BTreeMap::from([(CONFIG.to_owned(), text.to_owned())]), map.as_ref()).map(|(config, _)| config)
    }

    fn of(text: &str) -> Result<Config, Error> {
        both(text, None)
    }

    #[test]
    fn what_the_injector_writes() {
        let config =
            of("cniMode: false\nkumaDPUser: '5678'\nredirect:\n  dns:\n    resolvConfigPath: /etc/resolv.conf\n")
                .unwrap();
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
            let config = both(ANNOTATION, Some(map)).unwrap();
            assert_eq!((config.redirect.inbound.port.number(), config.redirect.outbound.port.number()), (1, 3));
        }
        for (map, path) in [
            ("redirect: {outbound: {port: x}}", "ConfigMap web: redirect.outbound.port"),
            ("kind: Secret", "ConfigMap web: kind"),
            ("data: {config: ''}", "ConfigMap web: data[config.yaml]"),
            ("dryRun: true", "dryRun"),
            ("[1]", "ConfigMap web"),
        ] {
            let error = both(ANNOTATION, Some(map)).unwrap_err();
            assert!(error.problems()[0].path.ends_with(path), "{error}");
        }
    }

    #[test]
    fn refusals_name_the_annotation_and_the_key() {
        for (text, path) in [
            ("", CONFIG),
            (" \n", CONFIG),
            ("[1]", CONFIG),
            ("redirect: {inbound: {port: x}}", "transparent-proxy-config: redirect.inbound.port"),
            ("iptablesExecutables: {iptables: /tmp/evil}", "iptablesExecutables"),
            ("redirect: {dns: {resolvConfigPath: /proc/1/environ}}", "redirect.dns.resolvConfigPath"),
            ("storeFirewalld: true", "storeFirewalld"),
            ("dryRun: true", "dryRun"),
        ] {
            let error = of(text).unwrap_err();
            assert!(
                error.problems()[0].path.starts_with(CONFIG) && error.problems()[0].path.ends_with(path),
                "{error}"
            );
        }
        assert_eq!(configuration(&BTreeMap::new(), None).unwrap_err().problems()[0].path, CONFIG);
    }
}
