//! Configurations.

use std::collections::BTreeMap;
use std::ffi::c_char;

use serde::Deserialize;
use serde_json::json;

use super::boundary::{ErrorSlot, Handle, Out, Text, free, guard, quietly};
use super::embedded;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::config::kubernetes::{Annotation, Variable};
use crate::config::{Config, Format, Key, KumaDifference, Layers};
use crate::error::Error;
use crate::model::Note;

/// The format of a document is JSON. Since 0.1.
pub const KUMATP_FORMAT_JSON: u32 = 1;
/// The format of a document is YAML, and so JSON as well. Since 0.1.
pub const KUMATP_FORMAT_YAML: u32 = 2;

/// A configuration: always valid, and never changed. Free it with kumatp_config_free().
#[derive(Debug)]
pub struct kumatp_config {
    config: Config,
    notes: Vec<Note>,
}

impl kumatp_config {
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn new(config: Config, notes: Vec<Note>) -> Self {
        Self { config, notes }
    }

    pub(super) fn notes(&self) -> &[Note] {
        &self.notes
    }

    fn finish(layers: Layers) -> Result<Self, Error> {
        let (config, notes) = layers.finish()?;
        Ok(Self::new(config, notes))
    }
}

/// Numbers, not Rust's enums, come from C: an unknown one must be seen before it is an enum.
pub(super) fn format(number: u32) -> Result<Format, kumatp_error> {
    match number {
        KUMATP_FORMAT_JSON => Ok(Format::Json),
        KUMATP_FORMAT_YAML => yaml().map_err(Into::into),
        _ => Err(kumatp_error::argument("format", &format!("expected one of KUMATP_FORMAT_*, and was given {number}"))),
    }
}

#[cfg(feature = "yaml")]
fn yaml() -> Result<Format, Error> {
    Ok(Format::Yaml)
}

#[cfg(not(feature = "yaml"))]
fn yaml() -> Result<Format, Error> {
    Err(super::arguments::not_built_in("YAML", "yaml"))
}

/// Layers as a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LayersDocument {
    #[serde(default)]
    documents: Vec<Document>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    flags: Vec<(String, String)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    name: String,
    format: FormatName,
    text: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    Json,
    Yaml,
}

/// Reads a configuration document in Kuma's format: Kuma's defaults, and what the document says instead.
///
/// Parsing is validating. An empty document is a valid one. Keys that are not known are no error; see
/// kumatp_config_notes().
///
/// @param text  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param format  one of KUMATP_FORMAT_*
/// @param[out] out  the configuration; the caller's, for kumatp_config_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the document is not valid, with all of its problems;
///         KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_parse(
    text: *const c_char,
    len: usize,
    format: u32,
    out: *mut *mut kumatp_config,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, out, err) = unsafe { (Text::new("text", text, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text, format) = (out.check()?, text.utf8()?, self::format(format)?);
        let mut layers = Layers::new();
        layers.document("", text, format);
        out.give(kumatp_config::finish(layers)?);
        Ok(())
    })
}

/// Makes a configuration from several sources, each over the one before: defaults, documents in their order,
/// environment variables, flags.
///
/// The sources are given as one JSON document with three members, all optional: "documents", a list of objects with
/// "text", "format" ("json" or "yaml") and, for messages, "name"; "environment", an object of variables by name, of which
/// those that begin with KUMA_TRANSPARENT_PROXY_ count; "flags", a list of pairs [name, value] such as
/// ["--redirect-dns-port", "15053"], where a switch has the value "true".
///
/// @param json  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the configuration; the caller's, for kumatp_config_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also if `json` is not such a document; KUMATP_E_CONFIG if one of the sources is
///         not valid, with all problems of all of them; KUMATP_E_UNSUPPORTED if this build of the library reads no YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_from_layers(
    json: *const c_char,
    len: usize,
    out: *mut *mut kumatp_config,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (json, out, err) = unsafe { (Text::new("json", json, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, json) = (out.check()?, json.utf8()?);
        let given: LayersDocument = embedded::read("json", json)?;
        let mut layers = Layers::new();
        for document in given.documents {
            let format = match document.format {
                FormatName::Json => Format::Json,
                FormatName::Yaml => yaml()?,
            };
            layers.document(&document.name, &document.text, format);
        }
        layers.environment(given.environment);
        for (flag, value) in &given.flags {
            layers.flag(flag, value);
        }
        out.give(kumatp_config::finish(layers)?);
        Ok(())
    })
}

/// Looks a configuration document over and reports everything that is to be said about it, as a JSON document.
///
/// Its members: "valid" (true or false); "problems", a list of objects with "path" (the key), "value" (as given),
/// "expected" (what would be right) and "message" (all three in a sentence); "notes", as kumatp_config_notes() has them;
/// "kuma", a list of the settings that Kuma's own programs refuse or read otherwise, objects with "path", "value", "programs"
/// (a list of "kuma-dp" and "kumactl"), "refused" (true or false), "reason" and "message". The last two lists are empty unless
/// the document is valid.
///
/// @param text  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param format  one of KUMATP_FORMAT_*
/// @param[out] out  the report; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK, whether the document is valid or not; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if this build of the
///         library reads no YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_check(
    text: *const c_char,
    len: usize,
    format: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, out, err) = unsafe { (Text::new("text", text, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text, format) = (out.check()?, text.utf8()?, self::format(format)?);
        let mut layers = Layers::new();
        layers.document("", text, format);
        let (problems, notes, kuma) = match layers.finish() {
            Ok((_, notes)) => (Vec::new(), notes, KumaDifference::find(text, format)?),
            Err(error) if error.problems().is_empty() => return Err(error.into()),
            Err(error) => (error.problems().to_vec(), Vec::new(), Vec::new()),
        };
        let kuma: Vec<_> = kuma
            .iter()
            .map(|difference| {
                json!({
                    "path": difference.path,
                    "value": difference.value,
                    "programs": difference.programs,
                    "refused": difference.refused,
                    "reason": difference.reason,
                    "message": difference.to_string(),
                })
            })
            .collect();
        let problems: Vec<_> = problems
            .iter()
            .map(|problem| {
                json!({
                    "path": problem.path,
                    "value": problem.value,
                    "expected": problem.expected,
                    "message": problem.to_string(),
                })
            })
            .collect();
        out.give(kumatp_text::json(&json!({
            "valid": problems.is_empty(),
            "problems": problems,
            "notes": notes,
            "kuma": kuma,
        })));
        Ok(())
    })
}

/// Writes a configuration as a JSON document that kumatp_config_parse() reads back: keys in alphabetical order, with
/// defaults filled in.
///
/// @param config  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_to_json(
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::new(config.get()?.config.to_json() + "\n"));
        Ok(())
    })
}

/// Writes a configuration as a YAML document that kumatp_config_parse() reads back.
///
/// @param config  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if this build of the library writes no YAML
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_to_yaml(
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::new(to_yaml(&config.get()?.config)?));
        Ok(())
    })
}

#[cfg(feature = "yaml")]
fn to_yaml(config: &Config) -> Result<String, Error> {
    Ok(config.to_yaml())
}

#[cfg(not(feature = "yaml"))]
fn to_yaml(_: &Config) -> Result<String, Error> {
    yaml().map(|_| String::new())
}

/// Makes the same configuration as far as Kuma 3's own programs can read it: what kumatp_config_to_json() and
/// kumatp_config_to_yaml() write of it, kuma-dp and kumactl take, and take for the same.
///
/// What they have nothing like is left out or changed, and kumatp_config_notes() of the result has a warning for each.
///
/// @param config  lent
/// @param[out] out  the other configuration; the caller's, for kumatp_config_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_for_kuma(
    config: *const kumatp_config,
    out: *mut *mut kumatp_config,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        let (config, notes) = config.get()?.config.for_kuma();
        out.give(kumatp_config::new(config, notes));
        Ok(())
    })
}

/// Writes what there is to say about a configuration, as a JSON document: keys and variables that are not known,
/// settings without effect.
///
/// It is a list of notes: objects with "severity" ("info" or "warning"), "about" (a key, variable or document) and
/// "text".
///
/// @param config  lent
/// @param[out] out  the list; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_notes(
    config: *const kumatp_config,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::json(&config.get()?.notes));
        Ok(())
    })
}

/// Writes every key that a configuration can have, as a JSON document.
///
/// It is a list of objects with "path" (such as "redirect.dns.port"), "inDocuments" (whether documents can hold it),
/// "environment" (the variable that sets it, or null) and "flag" (the flag that sets it, or null); and of a pod on Kubernetes
/// "annotations" and "controlPlane", the lists of the annotations that set it and of the control plane's variables.
///
/// @param[out] out  the list; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_keys(out: *mut *mut kumatp_text, err: *mut *mut kumatp_error) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        let keys: Vec<_> = Key::all()
            .map(|key| {
                json!({
                    "path": key.path(),
                    "inDocuments": key.in_documents(),
                    "environment": key.environment(),
                    "flag": key.flag(),
                    "annotations": Annotation::all()
                        .filter(|annotation| annotation.key() == Some(key.path()))
                        .map(Annotation::name)
                        .collect::<Vec<_>>(),
                    "controlPlane": Variable::all()
                        .filter(|variable| variable.key() == Some(key.path()))
                        .map(Variable::name)
                        .collect::<Vec<_>>(),
                })
            })
            .collect();
        out.give(kumatp_text::json(&keys));
        Ok(())
    })
}

/// Frees a configuration. NULL is fine. Plans that were made from it stay valid.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_config_free(config: *mut kumatp_config) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(config) });
}

#[cfg(all(test, not(feature = "yaml")))]
mod tests {
    use std::ptr::null_mut;

    use super::*;
    use crate::ffi::{KUMATP_E_UNSUPPORTED, KUMATP_OK, kumatp_config_from_pod};

    #[test]
    fn without_yaml_there_is_json() {
        let mut out = null_mut();
        // SAFETY: texts and slots that outlive the calls, and a handle that one has given out.
        unsafe {
            assert_eq!(
                kumatp_config_parse(c"{}".as_ptr(), 2, KUMATP_FORMAT_YAML, &raw mut out, null_mut()),
                KUMATP_E_UNSUPPORTED
            );
            assert_eq!(kumatp_config_parse(c"{}".as_ptr(), 2, KUMATP_FORMAT_JSON, &raw mut out, null_mut()), KUMATP_OK);
            assert_eq!(kumatp_config_to_yaml(out, &mut null_mut(), null_mut()), KUMATP_E_UNSUPPORTED);
            kumatp_config_free(out);

            // Text inside a document of ours is JSON too.
            let sources = r#"{"annotations": {"traffic.kuma.io/transparent-proxy-config": "{\"wait\": 7}"},
                "customConfigMap": "{}", "configMap": "{\"retry\": {\"maxRetries\": 3}}"}"#;
            let (text, len) = (sources.as_ptr().cast(), sources.len());
            assert_eq!(kumatp_config_from_pod(text, len, &raw mut out, null_mut(), null_mut()), KUMATP_OK);
            assert_eq!((*out).config.wait.seconds, 7);
            kumatp_config_free(out);
        }
    }
}
