//! What the transparent proxy has to know of a pod.

mod keys;
mod reader;

use std::collections::BTreeMap;

use self::reader::Reader;
use crate::config::Format;
use crate::error::{Error, Problem};
use crate::model::Note;
use crate::net::{Port, Uid};

/// The container that the injector adds: the sidecar.
pub(crate) const SIDECAR: &str = "kuma-sidecar";

/// The init container that redirects a pod's traffic where no plugin does.
pub(crate) const INIT: &str = "kuma-init";

/// The containers that it can add.
pub(super) const INJECTED: [&str; 3] = [SIDECAR, INIT, "kuma-validation"];

/// A pod, as far as the transparent proxy depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pod {
    /// `metadata.name`.
    pub name: Option<String>,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `metadata.annotations`.
    pub annotations: BTreeMap<String, String>,
    /// `spec.containers`.
    pub containers: Vec<Container>,
    /// `spec.initContainers`.
    pub init_containers: Vec<Container>,
    /// `spec.hostNetwork`: whether it is in the network namespace of its host.
    pub host_network: bool,
    /// Whether the pod is a zone proxy and nothing else, according to the Services that select it. That is not in its
    /// document; without a word about it, Kuma 3 lets such a pod reach no backend.
    pub zone_proxy_only: bool,
    /// What to look at in its document: parts that are missing, keys that are probably misspelt or in the wrong place.
    pub notes: Vec<Note>,
}

/// A container of a [`Pod`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Container {
    /// `name`.
    pub name: String,
    /// The user that it surely runs as: its own `securityContext.runAsUser`, or else the pod's.
    pub run_as_user: Option<Uid>,
    /// The ports that its probes go to, in the order readiness, liveness, startup. Names are resolved by `ports`.
    pub probe_ports: Vec<Port>,
    /// Whether it keeps running beside the others: an init container with `restartPolicy: Always`.
    pub restarts: bool,
}

impl Pod {
    /// A pod of which only the annotations are known.
    pub fn with_annotations<I>(annotations: I) -> Self
    where
        I: IntoIterator<Item = (String, String)>,
    {
        Self { annotations: crate::sorted::map(annotations), ..Self::default() }
    }

    /// Reads a `Pod` document. Fields on which the transparent proxy does not depend are ignored; see [`notes`](Self::notes)
    /// for keys that were probably meant for one on which it does.
    ///
    /// ```
    /// use kumatp::config::{Format, kubernetes::Pod};
    ///
    /// let text = r#"{"kind": "Pod", "metadata": {"annotation": {"kuma.io/gateway": "enabled"}}, "spec": {}}"#;
    /// let pod = Pod::parse(text, Format::Json)?;
    /// assert_eq!(pod.notes[0].to_string(), "metadata.annotation: unknown key; did you mean `metadata.annotations`?");
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every field of the wrong type, and if the document is no Pod: it has another `kind` or
    /// `apiVersion`, is a resource of Kuma (`type`), or has neither a `kind` nor `metadata` or `spec`.
    pub fn parse(text: &str, format: Format) -> Result<Self, Error> {
        Self::of(Reader::default(), text, format)
    }

    /// The same, where a key that was probably meant for another is an error.
    #[cfg(feature = "cni")]
    pub(crate) fn parse_strictly(text: &str, format: Format) -> Result<Self, Error> {
        Self::of(Reader { strict: true, ..Reader::default() }, text, format)
    }

    fn of(mut reader: Reader, text: &str, format: Format) -> Result<Self, Error> {
        let pod = reader.document(text, format);
        if reader.problems.is_empty() { Ok(pod) } else { Err(Error::Config(reader.problems)) }
    }

    pub(super) fn read(text: &str, format: Format, problems: &mut Vec<Problem>) -> Self {
        let mut reader = Reader::default();
        let pod = reader.document(text, format);
        problems.append(&mut reader.problems);
        pod
    }
}
