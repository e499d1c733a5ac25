//! What Kuma asks of a resource's name, mesh and labels.

use std::collections::BTreeMap;

use super::schema::{Decoded, key_path};
use super::values::{is_dns_label, is_label_key, is_label_value, is_subdomain};
use crate::config::Profile;
use crate::config::dataplane::reader::Reader;
use crate::config::dataplane::resource::MESH;

/// The label that names a workload, and by it the service that is made for it.
const WORKLOAD: &str = "kuma.io/workload";
/// The label that says whether a resource comes from the global control plane or from a zone.
const ORIGIN: &str = "kuma.io/origin";

pub(super) const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain of at most 253 characters: lowercase letters, digits, \
                                    '-' and '.', with a letter or digit at both ends of each part";

/// A resource as Universal has it.
pub(super) fn universal(reader: &mut Reader, resource: &Decoded, profile: Profile) {
    name(reader, resource);
    if let Some(mesh) = resource.text("mesh") {
        let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if mesh.is_empty() || mesh.len() > 253 || !mesh.bytes().all(valid) {
            let expected = "the name of a mesh: at most 253 lowercase letters, digits, '-', '_' and '.'";
            reader.refuse(&resource.at("mesh"), mesh, expected);
        }
    }
    let Some(texts) = labels(reader, resource) else { return };
    if let (Some(label), Some(mesh)) = (texts.get(MESH), resource.text("mesh")) {
        if label != mesh {
            let expected = format!("the mesh of the resource, '{mesh}'; the label can be left out");
            reader.refuse(&key_path(&resource.at("labels"), MESH), label, &expected);
        }
    }
    if let Some(workload) = texts.get(WORKLOAD).filter(|workload| !workload.is_empty()) {
        if profile == Profile::Kuma3 && !is_dns_label(workload) {
            let expected = "a lowercase RFC 1035 label of at most 63 characters, since a MeshService gets this name";
            reader.refuse(&key_path(&resource.at("labels"), WORKLOAD), workload, expected);
        }
    }
}

/// A resource as Kubernetes has it. The API server checks what Kuma leaves to it.
pub(super) fn kubernetes(reader: &mut Reader, resource: &Decoded) {
    const VERSION: &str = "kuma.io/v1alpha1";
    if let Some(version) = resource.text("apiVersion").filter(|version| *version != VERSION) {
        reader.refuse("apiVersion", version, VERSION);
    }
    match resource.message("metadata") {
        Some(metadata) => {
            name(reader, metadata);
            labels(reader, metadata);
        }
        None if !resource.has("metadata") => reader.refuse("metadata.name", "", SUBDOMAIN),
        None => {}
    }
}

fn name(reader: &mut Reader, of: &Decoded) {
    if let Some(name) = of.text("name").filter(|name| !is_subdomain(name)) {
        reader.refuse(&of.at("name"), name, SUBDOMAIN);
    }
}

/// The labels, if all of them could be read.
fn labels<'d>(reader: &mut Reader, of: &'d Decoded) -> Option<&'d BTreeMap<String, String>> {
    let labels = of.texts("labels")?;
    for (key, value) in labels {
        let path = key_path(&of.at("labels"), key);
        if !is_label_key(key) {
            let expected = "a key of at most 63 letters, digits, '-', '_' and '.' that begins and ends with a letter or digit; a \
                            domain and '/' may be before it";
            reader.refuse(&path, key, expected);
        }
        if !is_label_value(value) {
            let expected = "at most 63 letters, digits, '-', '_' and '.' that begin and end with a letter or digit";
            reader.refuse(&path, value, expected);
        } else if key == ORIGIN && !["", "global", "zone"].contains(&value.as_str()) {
            reader.refuse(&path, value, "'zone' or 'global'; the label can be left out");
        }
    }
    Some(labels)
}
