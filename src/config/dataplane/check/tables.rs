//! The fields of a Dataplane, as Kuma's API definition has them (`api/mesh/v1alpha1/dataplane.proto`).

use super::schema::{Field, Kind, Message};
use crate::config::Profile;

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, snake: None, kind, list: false, only: None, instead: "" }
}

impl Field {
    const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    const fn snake(mut self, snake: &'static str) -> Self {
        self.snake = Some(snake);
        self
    }

    /// Only the older generation has it; the newer one drops it.
    const fn gone(mut self, instead: &'static str) -> Self {
        self.only = Some(Profile::Kuma29);
        self.instead = instead;
        self
    }

    /// Only the newer generation has it.
    const fn added(mut self, instead: &'static str) -> Self {
        self.only = Some(Profile::Kuma3);
        self.instead = instead;
        self
    }
}

/// A Dataplane as Universal has it.
pub(super) static UNIVERSAL: Message = Message {
    fields: &[
        field("type", Kind::Text),
        field("name", Kind::Text),
        field("mesh", Kind::Text),
        field("labels", Kind::Texts),
        field("creationTime", Kind::Time),
        field("modificationTime", Kind::Time),
        field("kri", Kind::Text),
        field("networking", Kind::Message(&NETWORKING)),
        field("metrics", Kind::Message(&METRICS)).gone(METRICS_INSTEAD),
        field("probes", Kind::Message(&PROBES)).gone(PROBES_INSTEAD),
    ],
};

/// A Dataplane as Kubernetes has it.
pub(super) static KUBERNETES: Message = Message {
    fields: &[
        field("apiVersion", Kind::Text),
        field("kind", Kind::Text),
        field("metadata", Kind::Message(&METADATA)),
        field("mesh", Kind::Text),
        field("spec", Kind::Raw),
        field("status", Kind::Any),
    ],
};

static METADATA: Message = Message {
    fields: &[
        field("name", Kind::Text),
        field("namespace", Kind::Text),
        field("labels", Kind::Texts),
        field("annotations", Kind::Texts),
        field("creationTimestamp", Kind::Any),
        field("deletionGracePeriodSeconds", Kind::Any),
        field("deletionTimestamp", Kind::Any),
        field("finalizers", Kind::Any),
        field("generateName", Kind::Any),
        field("generation", Kind::Any),
        field("managedFields", Kind::Any),
        field("ownerReferences", Kind::Any),
        field("resourceVersion", Kind::Any),
        field("selfLink", Kind::Any),
        field("uid", Kind::Any),
    ],
};

/// The body of a Dataplane on Kubernetes.
pub(super) static SPEC: Message = Message {
    fields: &[
        field("networking", Kind::Message(&NETWORKING)),
        field("metrics", Kind::Message(&METRICS)).gone(METRICS_INSTEAD),
        field("probes", Kind::Message(&PROBES)).gone(PROBES_INSTEAD),
    ],
};

const METRICS_INSTEAD: &str = "a MeshMetric takes its place";
const PROBES_INSTEAD: &str = "virtual probes are gone";

static NETWORKING: Message = Message {
    fields: &[
        field("address", Kind::Text),
        field("inbound", Kind::Message(&INBOUND)).list(),
        field("outbound", Kind::Message(&OUTBOUND)).list(),
        field("transparentProxying", Kind::Message(&TRANSPARENT_PROXYING)).snake("transparent_proxying"),
        field("gateway", Kind::Message(&GATEWAY)),
        field("admin", Kind::Message(&ADMIN)),
        field("listeners", Kind::Message(&LISTENER)).list().added("zone proxies are resources of their own there"),
        field("advertisedAddress", Kind::Text).gone("others reach the workload at `address`"),
    ],
};

static INBOUND: Message = Message {
    fields: &[
        field("port", Kind::Number),
        field("servicePort", Kind::Number),
        field("serviceAddress", Kind::Text),
        field("address", Kind::Text),
        field("name", Kind::Text),
        field("protocol", Kind::Text).added("the tag kuma.io/protocol says it there"),
        field("health", Kind::Message(&HEALTH)),
        field("serviceProbe", Kind::Message(&SERVICE_PROBE)),
        field("state", Kind::Enum(&["Ready", "NotReady", "Ignored"])),
        field("tags", Kind::Texts)
            .gone("labels of the Dataplane select it, and `protocol` of the inbound is its protocol"),
    ],
};

static HEALTH: Message = Message { fields: &[field("ready", Kind::Bool)] };

static SERVICE_PROBE: Message = Message {
    fields: &[
        field("interval", Kind::Duration),
        field("timeout", Kind::Duration),
        field("unhealthyThreshold", Kind::Number).snake("unhealthy_threshold"),
        field("healthyThreshold", Kind::Number).snake("healthy_threshold"),
        field("tcp", Kind::Message(&EMPTY)),
    ],
};

static EMPTY: Message = Message { fields: &[] };

static OUTBOUND: Message = Message {
    fields: &[
        field("address", Kind::Text),
        field("port", Kind::Number),
        field("backendRef", Kind::Message(&OUTBOUND_REF)),
        field("tags", Kind::Texts).gone("`backendRef` names what is used"),
    ],
};

static OUTBOUND_REF: Message = Message {
    fields: &[
        field("kind", Kind::Text),
        field("name", Kind::Text),
        field("port", Kind::Number),
        field("labels", Kind::Texts),
    ],
};

/// The values of `networking.gateway.type`.
const DELEGATED: &str = "DELEGATED";

static GATEWAY: Message = Message {
    fields: &[
        field("tags", Kind::Texts),
        // The second of two fields of one name: each generation has its own values.
        Field { only: Some(Profile::Kuma3), ..field("type", Kind::Enum(&[DELEGATED])) },
        Field { only: Some(Profile::Kuma29), ..field("type", Kind::Enum(&[DELEGATED, "BUILTIN"])) },
    ],
};

static TRANSPARENT_PROXYING: Message = Message {
    fields: &[
        field("redirectPortInbound", Kind::Number).snake("redirect_port_inbound"),
        field("redirectPortOutbound", Kind::Number).snake("redirect_port_outbound"),
        field("ipFamilyMode", Kind::Enum(&["UnSpecified", "DualStack", "IPv4", "IPv6"])).snake("ip_family_mode"),
        field("directAccessServices", Kind::Text).list().snake("direct_access_services"),
        field("reachableBackends", Kind::Raw).snake("reachable_backends"),
        field("reachableServices", Kind::Text)
            .list()
            .snake("reachable_services")
            .gone("`reachableBackends` takes its place"),
    ],
};

static ADMIN: Message = Message { fields: &[field("port", Kind::Number)] };

static LISTENER: Message = Message {
    fields: &[
        field("type", Kind::Enum(&["Unspecified", "ZoneIngress", "ZoneEgress"])),
        field("address", Kind::Text),
        field("port", Kind::Number),
        field("name", Kind::Text),
        field("state", Kind::Enum(&["Ready", "NotReady"])),
    ],
};

static METRICS: Message = Message {
    fields: &[field("name", Kind::Text), field("type", Kind::Text), field("conf", Kind::Message(&METRICS_CONF))],
};

static METRICS_CONF: Message = Message {
    fields: &[
        field("port", Kind::Any),
        field("path", Kind::Any),
        field("tags", Kind::Any),
        field("skipMTLS", Kind::Any),
        field("tls", Kind::Any),
        field("envoy", Kind::Any),
        field("aggregate", Kind::Message(&AGGREGATE)).list(),
    ],
};

static AGGREGATE: Message = Message {
    fields: &[
        field("name", Kind::Text),
        field("port", Kind::Number),
        field("path", Kind::Text),
        field("address", Kind::Text),
        field("enabled", Kind::Bool),
    ],
};

static PROBES: Message =
    Message { fields: &[field("port", Kind::Number), field("endpoints", Kind::Message(&ENDPOINT)).list()] };

static ENDPOINT: Message = Message {
    fields: &[
        field("inboundPort", Kind::Number).snake("inbound_port"),
        field("inboundPath", Kind::Text).snake("inbound_path"),
        field("path", Kind::Text),
    ],
};
