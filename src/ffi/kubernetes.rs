//! Configurations of pods.

use std::collections::BTreeMap;
use std::ffi::c_char;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::config::kumatp_config;
use super::embedded;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::config::kubernetes::{Pod, Resolved, Sources, to_annotation};

/// Sources as a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct SourcesDocument<'a> {
    profile: Option<String>,
    #[serde(borrow)]
    pod: Option<&'a RawValue>,
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    zone_proxy_only: bool,
    #[serde(borrow)]
    control_plane: Option<&'a RawValue>,
    #[serde(borrow)]
    config_map: Option<&'a RawValue>,
    #[serde(borrow)]
    custom_config_map: Option<&'a RawValue>,
}

/// Makes the configuration of a pod on Kubernetes from its annotations, ConfigMaps and the control plane's settings.
///
/// Nothing is read but what is given, so any agent can ask: no cluster, no file, no environment.
///
/// The sources are given as one JSON document, with members that are all optional: "pod", the Pod; or, in its place,
/// "annotations", an object of its annotations by name, if no more is known of it; "controlPlane", the environment of the control
/// plane, of which the variables that matter count: an object of variables by name, a list of "NAME=value", or text with
/// one of these a line; "configMap", the ConfigMap of the system namespace, which the operator writes; "customConfigMap", the
/// one of the pod's namespace that the annotation traffic.kuma.io/transparent-proxy-configmap-name names; "profile", the generation
/// of Kuma, "kuma-3" (by default) or "kuma-2.9"; "zoneProxyOnly", true if the pod is a zone proxy and nothing else, according to the
/// Services that select it. A Pod or ConfigMap is an object, or text in YAML or JSON (in JSON only, if this build of
/// the library reads no YAML); in the place of a ConfigMap, the configuration that it holds will do.
///
/// Annotations and the custom ConfigMap are the tenant's: keys there that name files or programs of the host, or that would
/// leave the pod without rules, are refused.
///
/// The report is a JSON document. Its members: "config", the configuration as kumatp_config_to_json() has it; "sidecarUid" and
/// "sidecarGid", numbers; "gateway" and "injected" (true or false), whether the pod is a gateway, and whether the injector has
/// been at it; "fromAnnotation" (true or false), whether the configuration is that of the annotation
/// traffic.kuma.io/transparent-proxy-config; where there is one, "probeProxyPort", where the sidecar serves the application's
/// probes, "adminPort", where Envoy's administration listens, and "transparentProxying", what the pod's Dataplane has at
/// networking.transparentProxying; "annotations", those that the injector writes to the pod, by name; "origins", for each key of
/// the configuration an object with "key", "value" (JSON, as text), "source" and, where there are any, "added" and "overridden",
/// each a list of objects with "source" and "value"; "notes", as kumatp_config_notes() has them.
///
/// @param sources  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the configuration; the caller's, for kumatp_config_free()
/// @param[out] report  the report; the caller's, for kumatp_text_free(). May be NULL: then none is made
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `sources` is not such a document; KUMATP_E_CONFIG if one of the sources is
///         not valid, with all problems of all of them: the field is the name of an annotation or variable, a path in
///         the Pod, or the name of a ConfigMap with the path of a key
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_from_pod(
    sources: *const c_char,
    len: usize,
    out: *mut *mut kumatp_config,
    report: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (sources, out) = unsafe { (Text::new("sources", sources, len), Out::new("out", out)) };
    // SAFETY: as the preamble asks.
    let (report, err) = unsafe { (Out::new("report", report), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, report) = (out.check()?, report.optional()?);
        let resolved = read(sources.utf8()?)?.resolve()?;
        if let Some(report) = report {
            report.give(self::report(&resolved));
        }
        out.give(kumatp_config::new(resolved.config, resolved.notes));
        Ok(())
    })
}

fn read(json: &str) -> Result<Sources, kumatp_error> {
    let given: SourcesDocument<'_> = embedded::read("sources", json)?;
    let mut sources = Sources::new();
    sources.profile(embedded::profile(given.profile.as_deref())?);
    match (given.pod, given.annotations) {
        (Some(_), Some(_)) => {
            let problem = "expected either \"pod\" or \"annotations\", and was given both";
            return Err(kumatp_error::argument("sources", problem));
        }
        (Some(pod), None) => {
            let (text, format) = embedded::document(pod);
            sources.pod_document(&text, format);
        }
        (None, Some(annotations)) => sources.pod(Pod::with_annotations(annotations)),
        (None, None) => {}
    }
    sources.zone_proxy_only(given.zone_proxy_only);
    if let Some(variables) = given.control_plane {
        sources.control_plane(embedded::variables(("sources", "controlPlane"), variables.get())?);
    }
    if let Some(map) = given.config_map {
        let (text, format) = embedded::document(map);
        sources.config_map(&text, format);
    }
    if let Some(map) = given.custom_config_map {
        let (text, format) = embedded::document(map);
        sources.custom_config_map(&text, format);
    }
    Ok(sources)
}

fn report(resolved: &Resolved) -> kumatp_text {
    let mut report: Value = serde_json::from_str(&resolved.to_json()).expect("it is a document");
    report["annotations"] = json!(resolved.annotations());
    kumatp_text::json(&report)
}

/// Writes a configuration as the value of the annotation traffic.kuma.io/transparent-proxy-config, which
/// kumatp_config_from_pod() reads back.
///
/// It is YAML (JSON, if this build of the library writes no YAML). As in Kuma's own, lists, switches and groups that
/// say nothing are left out.
///
/// @param config  lent
/// @param[out] out  the value; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_to_annotation(
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::new(to_annotation(config.get()?.config())));
        Ok(())
    })
}
