//! Kuma's Dataplane resource: what it says of the transparent proxy, and what its workload reaches.

use std::ffi::c_char;

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::boundary::{ErrorSlot, Handle, Out, Text, free, guard, quietly};
use super::config::{self, kumatp_config};
use super::embedded;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::config::dataplane::reachability::{Reachability, Resources};
use crate::config::dataplane::{Dataplane, TransparentProxying, compare, fill};
use crate::config::{Config, Layers};
use crate::error::Error;
use crate::model::Note;
use crate::net::Port;

/// A Dataplane, as far as it matters to the transparent proxy: always valid, and never changed. Free it with
/// kumatp_dataplane_free().
#[derive(Debug)]
pub struct kumatp_dataplane {
    dataplane: Dataplane,
    notes: Vec<Note>,
}

/// Fills the placeholders of a Dataplane's template, such as "{{ address }}", as `kuma-dp run --dataplane-var` does before it
/// reads the resource.
///
/// Only values are accepted that cannot change the structure of the resource. A placeholder that has no variable is an error.
///
/// @param template  the text, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param variables  a JSON document, lent: an object of variables by name, or a list of "name=value"; at most
///         KUMATP_MAX_TEXT bytes
/// @param variables_len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the resource, for kumatp_dataplane_parse(); the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `variables` is not such a document; KUMATP_E_CONFIG with every placeholder
///         that cannot be filled, whose field is "line 3", and every value that is not accepted ("variable address")
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_fill(
    template: *const c_char,
    len: usize,
    variables: *const c_char,
    variables_len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (template, variables) =
        unsafe { (Text::new("template", template, len), Text::new("variables", variables, variables_len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, template, variables) = (out.check()?, template.utf8()?, variables.utf8()?);
        let variables = embedded::variables(("variables", ""), variables)?;
        out.give(kumatp_text::new(fill(template, &variables)?));
        Ok(())
    })
}

/// Reads a Dataplane in the form of Universal ("type: Dataplane") or of Kubernetes ("kind: Dataplane").
///
/// Parsing is validating, of what the transparent proxy depends on. Fields that are not known are no error; see "notes" of
/// kumatp_dataplane_to_json().
///
/// @param text  the resource, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param format  one of KUMATP_FORMAT_*
/// @param[out] out  the Dataplane; the caller's, for kumatp_dataplane_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the resource is not valid, with all of its violations, whose paths
///         are as Kuma gives them; KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_parse(
    text: *const c_char,
    len: usize,
    format: u32,
    out: *mut *mut kumatp_dataplane,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, out, err) = unsafe { (Text::new("text", text, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text, format) = (out.check()?, text.utf8()?, config::format(format)?);
        let (dataplane, notes) = Dataplane::parse(text, format)?;
        out.give(kumatp_dataplane { dataplane, notes });
        Ok(())
    })
}

/// Reads a Dataplane as kumatp_dataplane_parse() does, and checks all of it as Kuma's control plane does: what that would refuse is
/// a violation, and what it accepts although it is plainly a slip, such as a field that it drops, is among the "notes" of
/// kumatp_dataplane_to_json(). Which meshes and zones there are, only a control plane knows.
///
/// How to check is one JSON document, whose member "profile" is the generation of Kuma, "kuma-3" (by default) or "kuma-2.9".
///
/// @param text  the resource, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param format  one of KUMATP_FORMAT_*
/// @param query  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param query_len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the Dataplane; the caller's, for kumatp_dataplane_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `query` is not such a document; KUMATP_E_CONFIG if Kuma would refuse the resource,
///         with all of its violations, whose paths are as Kuma gives them; KUMATP_E_UNSUPPORTED if this build of the library reads no
///         YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_validate(
    text: *const c_char,
    len: usize,
    format: u32,
    query: *const c_char,
    query_len: usize,
    out: *mut *mut kumatp_dataplane,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, query) = unsafe { (Text::new("text", text, len), Text::new("query", query, query_len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text, format) = (out.check()?, text.utf8()?, config::format(format)?);
        let query: Check = embedded::read("query", query.utf8()?)?;
        let profile = embedded::profile(query.profile.as_deref())?;
        let (dataplane, notes) = Dataplane::validate(text, format, profile)?;
        out.give(kumatp_dataplane { dataplane, notes });
        Ok(())
    })
}

/// How a Dataplane is checked, as a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Check {
    profile: Option<String>,
}

/// Writes what was read of a Dataplane, as a JSON document.
///
/// Its members: "name"; "mesh"; "labels", with those that Kuma adds when it stores a resource; "address", "namespace" and "zone",
/// text or null; "inbounds", a list of objects with "port", "address", "servicePort" (both may be null) and "tags"; "outbounds", the
/// backends of networking.outbound; "services", the values of kuma.io/service; "transparentProxying", the section, or null;
/// "isTransparent" (true or false), whether Kuma treats the workload as one with a transparent proxy; "origins", where each
/// key of kumatp_config_from_dataplane() comes from if that has no base, as kumatp_config_from_pod() has them, and empty if no
/// configuration can be made of it; "notes", as kumatp_config_notes() has them.
///
/// @param dataplane  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_to_json(
    dataplane: *const kumatp_dataplane,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (dataplane, out) = unsafe { (Handle::new("dataplane", dataplane), Out::new("out", out)) };
    // SAFETY: as the preamble asks.
    let err = unsafe { ErrorSlot::new(err) };
    guard(err, || {
        let (out, kumatp_dataplane { dataplane, notes }) = (out.check()?, dataplane.get()?);
        let inbounds: Vec<_> = dataplane
            .inbounds
            .iter()
            .map(|inbound| {
                json!({
                    "port": inbound.port.number(),
                    "address": inbound.address,
                    "servicePort": inbound.service_port.map(Port::number),
                    "tags": inbound.tags,
                })
            })
            .collect();
        out.give(kumatp_text::json(&json!({
            "name": dataplane.name,
            "mesh": dataplane.mesh,
            "labels": dataplane.labels,
            "address": dataplane.address,
            "namespace": dataplane.namespace(),
            "zone": dataplane.zone(),
            "inbounds": inbounds,
            "outbounds": dataplane.outbounds,
            "services": dataplane.services().collect::<Vec<_>>(),
            "transparentProxying": dataplane.transparent_proxying,
            "isTransparent": dataplane.is_transparent(),
            "origins": dataplane.origins().unwrap_or_default(),
            "notes": notes,
        })));
        Ok(())
    })
}

/// Makes the configuration of the host that a Dataplane's workload runs on: which directions are redirected and to which ports,
/// and the address families.
///
/// @param dataplane  lent
/// @param base  what the configuration says of all else, lent; NULL stands for Kuma's defaults
/// @param[out] out  the configuration, with the notes of both; the caller's, for kumatp_config_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the Dataplane has no section networking.transparentProxying
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_from_dataplane(
    dataplane: *const kumatp_dataplane,
    base: *const kumatp_config,
    out: *mut *mut kumatp_config,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (dataplane, base) = unsafe { (Handle::new("dataplane", dataplane), Handle::new("base", base)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, dataplane, base) = (out.check()?, dataplane.get()?, base.optional());
        let mut config = dataplane.dataplane.to_config()?;
        let mut notes = Vec::new();
        if let (Some(base), Some(section)) = (base, &dataplane.dataplane.transparent_proxying) {
            config = base.config().clone();
            section.apply_to(&mut config)?;
            notes.extend_from_slice(base.notes());
        }
        notes.extend_from_slice(&dataplane.notes);
        out.give(kumatp_config::new(config, notes));
        Ok(())
    })
}

/// Writes the section networking.transparentProxying for the Dataplane of a workload whose host is configured so, as a JSON
/// document: "redirectPortInbound", "redirectPortOutbound" (both left out where nothing is redirected) and "ipFamilyMode".
///
/// @param config  lent
/// @param[out] out  the section; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_to_transparent_proxying(
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::json(&TransparentProxying::of(config.get()?.config())));
        Ok(())
    })
}

/// Says where a Dataplane and the configuration of the host that its workload runs on disagree, as a JSON document: directions,
/// redirect ports, address families, and offered ports that connections reach without the sidecar.
///
/// It is a list of notes, as kumatp_config_notes() has them, and empty if both describe the same transparent proxy.
///
/// @param dataplane  lent
/// @param config  lent
/// @param[out] out  the list; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_compare(
    dataplane: *const kumatp_dataplane,
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (dataplane, config) = unsafe { (Handle::new("dataplane", dataplane), Handle::new("config", config)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, dataplane, config) = (out.check()?, dataplane.get()?, config.get()?);
        out.give(kumatp_text::json(&compare(config.config(), &dataplane.dataplane)));
        Ok(())
    })
}

/// What is asked about reachability, as a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Query<'a> {
    profile: Option<String>,
    #[serde(borrow, default)]
    resources: Vec<&'a RawValue>,
    #[serde(default)]
    explain: Vec<String>,
    #[serde(default, rename = "transparentProxy")]
    transparent_proxy: bool,
    #[serde(borrow, rename = "transparentProxyConfig")]
    transparent_proxy_config: Option<&'a RawValue>,
}

impl Query<'_> {
    /// What kuma-dp says of its transparent proxy by its flags, if it does, and the notes of it.
    fn flag(&self) -> Result<Option<(Config, Vec<Note>)>, Error> {
        let Some(config) = self.transparent_proxy_config else {
            return Ok(self.transparent_proxy.then(|| (Config::default(), Vec::new())));
        };
        let (text, format) = embedded::document(config);
        let mut layers = Layers::new();
        layers.document("transparentProxyConfig", &text, format);
        layers.finish().map(Some).map_err(|error| error.within("transparentProxyConfig"))
    }
}

/// Says which services and backends a Dataplane's workload reaches, on which ports, and why.
///
/// What is asked is one JSON document, with members that are all optional: "resources", a list of the resources of the mesh:
/// MeshService, MeshExternalService, MeshMultiZoneService, Dataplane (for the values of kuma.io/service) and Mesh; other kinds are
/// passed over. An item is an object: a resource, or a list of them as its "items"; or a text in YAML or JSON, with one
/// document or several (in JSON only, if this build of the library reads no YAML). "profile" is the generation of Kuma, "kuma-3" (by
/// default) or "kuma-2.9"; "explain", a list of names that are to be explained; "transparentProxy", true if kuma-dp runs with
/// --transparent-proxy, as on Kubernetes, so that the Dataplane need not say that there is a transparent proxy;
/// "transparentProxyConfig", the configuration that it is given by --transparent-proxy-config, an object or a text.
///
/// The result is a JSON document. Its members: "profile"; "backendRule" and "serviceRule", what decides, as text; "backends",
/// those that are reachable for certain: objects with "kind", "mesh", "name", "ports" (objects with "port" and, if it has one,
/// "name") and, if it has one, "namespace"; "byChance", in the same form those ports that Kuma might choose, and might not;
/// "choices", one object for each reference whose matches Kuma takes by chance, with "path", "reference", "oneOf" (it takes
/// exactly one of these), "perhaps" (and any of these), of both no more than 100, and "oneOfCount" and "perhapsCount", how many there
/// are; "services", the reachable values of kuma.io/service; "explanations", an object that has for each
/// name of "explain" a list, one item for each backend or service of that name: objects as those in "backends" (a service has
/// neither "kind" nor "namespace"), with "reachable" (true if it is for certain, else false), "portsByChance", "rule" (what decides,
/// as text), "why" (the answer in words) and "references", where references decide: objects with "path", "reference", "matches"
/// (true or false), "byChance" (true or false) and "why"; "notes", as kumatp_config_notes() has them: references that match
/// nothing, ports that no destination has, choices that Kuma leaves to chance.
///
/// @param dataplane  lent
/// @param query  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the answer; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `query` is not such a document; KUMATP_E_CONFIG if a resource is not valid, with
///         all problems of all of them, whose fields begin with "resources[2]: " for the third item
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_reach(
    dataplane: *const kumatp_dataplane,
    query: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (dataplane, query) = unsafe { (Handle::new("dataplane", dataplane), Text::new("query", query, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, dataplane) = (out.check()?, &dataplane.get()?.dataplane);
        let query: Query<'_> = embedded::read("query", query.utf8()?)?;
        let profile = embedded::profile(query.profile.as_deref())?;
        let mut resources = Resources::new();
        for (index, resource) in query.resources.iter().enumerate() {
            let (text, format) = embedded::document(resource);
            resources.document(&format!("resources[{index}]"), &text, format);
        }
        let (destinations, mut notes) = resources.finish()?;
        let reachability = match query.flag()? {
            Some((config, more)) => {
                notes.extend(more);
                Reachability::by_flag(dataplane, &destinations, profile, &config)
            }
            None => Reachability::of(dataplane, &destinations, profile),
        };
        notes.extend_from_slice(reachability.notes());
        let mut answer = serde_json::to_value(&reachability).expect("texts and numbers can be written");
        let explanations = crate::sorted::map(query.explain.iter().map(|name| (name, reachability.explain(name))));
        answer["explanations"] = json!(explanations);
        answer["notes"] = json!(notes);
        out.give(kumatp_text::json(&answer));
        Ok(())
    })
}

/// Frees a Dataplane. NULL is fine. What was made from it stays valid.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_dataplane_free(dataplane: *mut kumatp_dataplane) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(dataplane) });
}
