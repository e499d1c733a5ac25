//! Where the value of a setting came from.

use std::fmt;

use serde_json::Value;

use super::annotations;

/// Where the value of a configuration key came from, and what it won against.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Origin {
    /// The path of the key, such as `redirect.inbound.excludePorts`.
    pub key: &'static str,
    /// The value in the resulting configuration, in JSON.
    pub value: String,
    /// The source that decided.
    pub source: SettingSource,
    /// What was added to its value: the ports of probes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Contribution>,
    /// What other sources say about the key, the next in order first. Defaults are not listed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overridden: Vec<Contribution>,
}

impl Origin {
    /// Who asked for the value or, where it is a list, for one of its items, counted from 0: the source that decided, or the one
    /// that added the item. Of what the injector wrote it is the annotation that it was made from, if the pod has that.
    ///
    /// ```
    /// use kumatp::config::kubernetes::{Pod, Sources};
    ///
    /// let mut sources = Sources::new();
    /// let annotation = ("traffic.kuma.io/exclude-inbound-ports".to_owned(), "8081".to_owned());
    /// sources.pod(Pod::with_annotations([annotation]));
    /// let resolved = sources.resolve()?;
    /// let origin = resolved.origin("redirect.inbound.excludePorts").unwrap();
    /// assert_eq!(origin.asked_by(Some(0)).to_string(), "annotation traffic.kuma.io/exclude-inbound-ports");
    /// // Where the sidecar serves the application's probes.
    /// assert!(origin.asked_by(Some(1)).to_string().ends_with("KUMA_RUNTIME_KUBERNETES_APPLICATION_PROBE_PROXY_PORT"));
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    pub fn asked_by(&self, item: Option<u32>) -> &SettingSource {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let whole = json(&self.value);
        let asked = item.and_then(|item| whole.get(usize::try_from(item).ok()?)).unwrap_or(&whole);
        let says = |one: &&Contribution| {
            let value = json(&one.value);
            value == *asked || value.as_array().is_some_and(|items| items.contains(asked))
        };
        let injected = self.source == SettingSource::Annotation(annotations::CONFIG);
        let by_tenant =
            |one: &&Contribution| injected && matches!(one.source, SettingSource::Annotation(_)) && says(one);
        let other = self.added.iter().find(says).or_else(|| self.overridden.iter().find(by_tenant));
        other.map_or(&self.source, |one| &one.source)
    }
}

/// What one source says about a key.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Contribution {
    /// The source.
    pub source: SettingSource,
    /// Its value, in JSON.
    pub value: String,
}

/// Where a value can come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SettingSource {
    /// Kuma's default for the key.
    Default,
    /// The control plane.
    ControlPlane {
        /// The environment variable that sets it.
        variable: &'static str,
        /// Whether the variable was given; else it is the control plane's default.
        set: bool,
    },
    /// The ConfigMap of the system namespace, with what to call it.
    ConfigMap(String),
    /// An annotation of the pod, by its name.
    Annotation(&'static str),
    /// The ConfigMap of the pod's namespace, with what to call it.
    CustomConfigMap(String),
    /// The pod itself, with the path of the field.
    Pod(String),
    /// A `Dataplane`, with the path of the field:
    /// [`Dataplane::origins`](crate::config::dataplane::Dataplane::origins).
    Dataplane(String),
}

impl SettingSource {
    /// Whether somebody set the value, so that it is no default.
    pub fn is_set(&self) -> bool {
        !matches!(self, Self::Default | Self::ControlPlane { set: false, .. })
    }
}

impl fmt::Display for SettingSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::ControlPlane { variable, set: true } => write!(f, "control plane, {variable}"),
            Self::ControlPlane { variable, set: false } => write!(f, "control plane's default, {variable}"),
            Self::ConfigMap(label) | Self::CustomConfigMap(label) => f.write_str(label),
            Self::Annotation(name) => write!(f, "annotation {name}"),
            Self::Pod(path) | Self::Dataplane(path) => f.write_str(path),
        }
    }
}

impl serde::Serialize for SettingSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `redirect.dns.port = 15053: control plane's default, KUMA_…; not 1053 (ConfigMap kuma-system/tp)`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}: {}", self.key, self.value, self.source)?;
        for Contribution { source, value } in &self.added {
            write!(f, "; with {value} ({source})")?;
        }
        for Contribution { source, value } in &self.overridden {
            write!(f, "; not {value} ({source})")?;
        }
        Ok(())
    }
}
