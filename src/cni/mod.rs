//! The CNI plugin `kumatp-cni`: redirects the traffic of a pod into its sidecar before the pod starts.
//!
//! It speaks the specification of the Container Network Interface, version 1.1.0 and back to 0.3.0, and belongs behind
//! the plugin that makes the pod's interface. The program is thin: [`answer`] does it all.
//!
//! # What is redirected
//!
//! The plugin knows pods by their annotations, and does not call the Kubernetes API. They come from
//!
//! - the runtime, by the capability [`ANNOTATIONS`] (`io.kubernetes.cri.pod-annotations`), or
//! - a file that somebody else provides, `podFile`: a Pod or its annotations, in YAML or JSON.
//!
//! As with Kuma's plugin, a pod is redirected if its annotation `kuma.io/sidecar-injected` is `true`, unless its namespace
//! is excluded, or the file says that it uses the host's network, has the init container `kuma-init`, or has no container
//! `kuma-sidecar` ([`Decision::about`]). The configuration is that of the annotation
//! `traffic.kuma.io/transparent-proxy-config`, and over it that of the ConfigMap that
//! `traffic.kuma.io/transparent-proxy-configmap-name` names, which Kuma's plugin ignores. What a tenant may not
//! decide is refused there ([`kubernetes`](crate::config::kubernetes)).
//!
//! **A pod that should be redirected and cannot be does not start.** That goes for annotations that nobody hands over,
//! for wrong ones, for a kernel that refuses, and for rules that are not found in force afterwards.
//!
//! # The network configuration
//!
//! | key | what it is |
//! |---|---|
//! | `capabilities` | `{"io.kubernetes.cri.pod-annotations": true, "dns": true}` has the runtime hand over annotations and name servers |
//! | `kubernetes.exclude_namespaces` | namespaces whose pods are left alone; the other keys of Kuma's plugin there are for its client, and are ignored |
//! | `podFile` | path of the file about a pod, instead of the annotations; `{containerID}`, `{namespace}`, `{name}` and `{uid}` may stand in it |
//! | `configMapFile` | path of the ConfigMap that a pod names, or of its `config.yaml`; `{namespace}` and `{configMap}` may stand in it |
//! | `systemConfigMapFile` | path of the operator's own ConfigMap: what only repeats its settings is not refused |
//! | `profile` | the generation of Kuma that writes the annotations: `kuma-3`, the default, or `kuma-2.9`, where each setting may have an annotation of its own |
//! | `dns.nameservers` | the name servers of pods |
//!
//! A file that is not there is answered with code 11, so that the runtime tries again. Namespace, name and uid are
//! those that the runtime gives in `CNI_ARGS`.
//!
//! # Name servers
//!
//! With `redirect.dns.enabled` and without `captureAll`, queries to the pod's name servers are redirected. Those are what
//! the runtime hands over by the capability `dns`, or else `dns.nameservers`, or else those of the previous result. The
//! host's `resolv.conf` never counts: pods have another one. Where no server is known, the pod fails.
//!
//! # The operations
//!
//! - **ADD** applies the rules by netlink in the pod's namespace, and compares what is there with what should be. Done
//!   twice, it changes nothing. The previous result is passed on as it is.
//! - **CHECK** compares alike, and fails if anything differs.
//! - **DEL** removes the rules; if the namespace is gone, there is nothing to do.
//! - **GC** has nothing to collect: all rules are in namespaces of pods.
//! - **STATUS** tries rules in a network namespace of its own, and fails with code 50 where the kernel refuses them.
//! - **VERSION** lists the versions.
//!
//! Errors have the codes of the specification, or from 100 on [the plugin's own](Code). Remarks go to standard error.
//! It needs CAP_NET_ADMIN, and CAP_SYS_ADMIN to enter the namespaces.

mod environment;
mod failure;
mod host;
mod network;
mod plugin;
mod pod;
mod request;
mod settings;
mod template;
mod version;

pub use failure::{Code, Failure};
pub use network::{ANNOTATIONS, AttachmentId, Network};
pub use plugin::{Answer, answer};
pub use pod::Decision;
pub use request::{Attachment, Request};
pub use template::Template;
pub use version::Version;
