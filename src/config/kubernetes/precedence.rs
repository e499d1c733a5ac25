//! Which source wins for which key: Kuma's order, as one table.

/// A kind of source, as it counts for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rank {
    /// The annotation that belongs to the key.
    Annotation,
    /// The annotation that holds the whole configuration.
    Written,
    /// The ConfigMap, whatever it says.
    ConfigMap,
    /// The ConfigMap, if its value is not the default.
    ConfigMapChanged,
    /// The control plane, its defaults included.
    ControlPlane,
    /// The control plane, if its value is not the default.
    ControlPlaneChanged,
}

/// What the order depends on besides the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Situation {
    /// The pod has the annotation that holds the whole configuration. All else is in it already.
    pub(super) written: bool,
    /// Kuma 2.9 without a ConfigMap, where an annotation of its own carries each setting.
    pub(super) legacy: bool,
    /// The injector has been at the pod, so that it wrote those annotations.
    pub(super) injected: bool,
    /// Inbound traffic is redirected, as far as all but the custom ConfigMap say.
    pub(super) inbound: bool,
}

/// The order for a key, the winner first. Where nothing counts, the default of the key does.
///
/// The ConfigMap of the pod's namespace is none of these: its keys come over the result, as the second file that the
/// init container is given, but not over [`is_operators`] keys.
pub(super) fn order(key: &str, situation: Situation) -> &'static [Rank] {
    use Rank::*;
    if situation.written {
        return match key {
            "kumaDPUser" | "cniMode" => &[Written, ControlPlane],
            _ => &[Written],
        };
    }
    match key {
        // Where nothing is redirected, Kuma leaves the direction as the document has it.
        "redirect.inbound.port" | "redirect.inbound.excludePorts" | "redirect.inbound.excludePortsForIPs"
            if !situation.inbound =>
        {
            &[ConfigMap]
        }

        "redirect.inbound.excludePorts"
        | "redirect.outbound.excludePorts"
        | "redirect.inbound.excludePortsForIPs"
        | "redirect.outbound.excludePortsForIPs" => &[Annotation, ConfigMapChanged, ControlPlaneChanged],

        // Kuma never comes to the control plane here, since the ConfigMap's value always counts; its documentation
        // says otherwise, and an operator who sets the variable means it.
        "ipFamilyMode" => &[Annotation, ConfigMapChanged, ControlPlane],

        "kumaDPUser" | "redirect.inbound.port" | "redirect.outbound.port" if situation.legacy && situation.injected => {
            &[Annotation, ControlPlane]
        }
        "kumaDPUser" | "cniMode" | "redirect.inbound.port" | "redirect.outbound.port" => &[ControlPlane],

        "redirect.dns.enabled" | "redirect.dns.captureAll" | "redirect.dns.port" if situation.legacy => {
            &[Annotation, ControlPlane]
        }
        "redirect.dns.port" => &[ControlPlane],
        "redirect.dns.enabled" => &[ConfigMap],

        "dropInvalidPackets" | "log.enabled" | "redirect.outbound.excludePortsForUIDs" | "redirect.inbound.enabled" => {
            &[Annotation, ConfigMap]
        }
        _ => &[ConfigMap],
    }
}

/// Whether only the operator decides on a key, so that the ConfigMap of the pod's namespace is passed over.
pub(super) fn is_operators(key: &str) -> bool {
    matches!(key, "kumaDPUser" | "cniMode")
}
