//! The sources of a pod's configuration, and what comes of them.

use std::collections::BTreeMap;

use super::config_map::ConfigMap;
use super::control_plane::ControlPlane;
use super::{Origin, Pod, annotations, to_annotation};
use crate::config::dataplane::TransparentProxying;
use crate::config::{Config, Format, Profile};
use crate::error::Problem;
use crate::model::Note;
use crate::net::{Gid, Port, Uid};

/// Everything that the configuration of a pod's transparent proxy depends on. Each part is optional, and may be given in
/// any order; one that is given twice replaces the first, except for the control plane's variables, which add up.
#[derive(Debug, Default)]
pub struct Sources {
    pub(super) profile: Profile,
    pub(super) pod: Pod,
    pub(super) control_plane: ControlPlane,
    pub(super) config_map: Option<ConfigMap>,
    pub(super) custom: Option<ConfigMap>,
    /// Of the pod's document.
    pub(super) problems: Vec<Problem>,
}

/// What comes of [`Sources`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Resolved {
    /// The configuration.
    pub config: Config,
    /// Where each of its keys came from, in the order of the reference ([`Key::all`](crate::config::Key::all)).
    pub origins: Vec<Origin>,
    /// What to look at: settings without effect, names that are probably misspelt.
    pub notes: Vec<Note>,
    /// The user that the sidecar runs as.
    pub sidecar_uid: Uid,
    /// The group that the sidecar runs as, according to the control plane.
    pub sidecar_gid: Gid,
    /// Whether the pod is a gateway: `kuma.io/gateway`.
    pub gateway: bool,
    /// Whether the injector has been at the pod: `kuma.io/sidecar-injected`.
    pub injected: bool,
    /// Whether the configuration is that of `traffic.kuma.io/transparent-proxy-config`.
    pub from_annotation: bool,
    /// Where the sidecar serves the application's probes, if it does.
    pub probe_proxy_port: Option<Port>,
    /// Where Envoy's administration listens; none where that is switched off.
    pub admin_port: Option<Port>,
    /// What the pod's `Dataplane` has at `networking.transparentProxying`, if anything:
    /// [`transparent_proxying`](super::transparent_proxying), but for a pod of Kuma 2.9 that the injector has not been at
    /// as it will be then.
    pub transparent_proxying: Option<TransparentProxying>,
}

impl Resolved {
    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.iter().find(|origin| origin.key == key)
    }

    /// All of it as JSON: `config`, `origins`, `notes`, `sidecarUid`, `sidecarGid`, `gateway`, `injected`,
    /// `fromAnnotation`, and where there is one `probeProxyPort`, `adminPort`, `transparentProxying`.
    ///
    /// ```
    /// use kumatp::config::kubernetes::Sources;
    ///
    /// let json: serde_json::Value = serde_json::from_str(&Sources::new().resolve()?.to_json())?;
    /// assert_eq!(json.pointer("/config/redirect/outbound/port"), Some(&15001.into()));
    /// assert_eq!(json["probeProxyPort"], 9001);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to_json(&self) -> String {
        let port = |port: Option<Port>| port.map(Port::number);
        let mut json = serde_json::json!({
            "config": serde_json::from_str::<serde_json::Value>(&self.config.to_json()).unwrap_or_default(),
            "origins": self.origins,
            "notes": self.notes,
            "sidecarUid": self.sidecar_uid.number(),
            "sidecarGid": self.sidecar_gid.number(),
            "gateway": self.gateway,
            "injected": self.injected,
            "fromAnnotation": self.from_annotation,
            "probeProxyPort": port(self.probe_proxy_port),
            "adminPort": port(self.admin_port),
            "transparentProxying": self.transparent_proxying,
        });
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        serde_json::to_string_pretty(&json).expect("a tree of text and numbers can be written")
    }

    /// The annotations about the transparent proxy that the injector writes to the pod.
    pub fn annotations(&self) -> BTreeMap<&'static str, String> {
        let port = |port: Option<Port>| port.map_or(0, Port::number).to_string();
        let mut annotations = crate::sorted::map([
            (annotations::INJECTED, "true".to_owned()),
            (annotations::CONFIG, to_annotation(&self.config)),
            (annotations::PROBE_PROXY_PORT, port(self.probe_proxy_port)),
            (annotations::ADMIN_PORT, port(self.admin_port)),
        ]);
        if self.config.cni_mode {
            annotations.insert(annotations::NETWORKS, "kuma-cni".to_owned());
        }
        annotations
    }
}

impl Sources {
    /// None yet; Kuma's defaults come of it.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which generation of Kuma the sources are for.
    pub fn profile(&mut self, profile: Profile) {
        self.profile = profile;
    }

    /// The pod.
    pub fn pod(&mut self, pod: Pod) {
        self.pod = pod;
        self.problems.clear();
    }

    /// The pod, as a `Pod` document.
    pub fn pod_document(&mut self, text: &str, format: Format) {
        self.problems.clear();
        self.pod = Pod::read(text, format, &mut self.problems);
    }

    /// The pod, if nothing is wrong with its document.
    pub fn valid_pod(&self) -> Option<&Pod> {
        self.problems.is_empty().then_some(&self.pod)
    }

    /// Whether the pod, which is given before, is a zone proxy and nothing else: [`Pod::zone_proxy_only`].
    pub fn zone_proxy_only(&mut self, only: bool) {
        self.pod.zone_proxy_only = only;
    }

    /// The environment of the control plane, of which the variables of [`Variable::all`](super::Variable::all) count. An
    /// empty one is treated as not set.
    pub fn control_plane<I>(&mut self, variables: I)
    where
        I: IntoIterator<Item = (String, String)>,
    {
        self.control_plane.extend(variables);
    }

    /// The ConfigMap of the system namespace, which the operator writes: a `ConfigMap` document, or the configuration
    /// that one holds under `config.yaml`.
    pub fn config_map(&mut self, text: &str, format: Format) {
        self.config_map = Some(ConfigMap::read("system ConfigMap", text, format));
    }

    /// The ConfigMap of the pod's namespace that `traffic.kuma.io/transparent-proxy-configmap-name` names, in the same
    /// form. Without that annotation it has no effect, which a note says.
    pub fn custom_config_map(&mut self, text: &str, format: Format) {
        self.custom = Some(ConfigMap::read("custom ConfigMap", text, format));
    }
}
