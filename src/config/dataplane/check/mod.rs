//! Whether Kuma's control plane accepts a Dataplane.
//!
//! [`schema`] decodes a document by the [`tables`] of a generation's fields, as the control plane does: what it cannot
//! decode is a violation, and what it drops is a warning. [`meta`] and [`rules`] then ask what its validation asks, each
//! violation at the path that Kuma gives it.

mod meta;
mod rules;
mod schema;
mod tables;
pub(super) mod values;

use self::schema::Decoder;
use super::reader::Reader;
use crate::config::Profile;
use crate::config::wire::Node;

/// Remembers every violation and every slip of a Dataplane.
pub(super) fn check(reader: &mut Reader, node: &Node, profile: Profile) {
    // Kuma looks at `type` where a resource has both.
    let universal = node.at(&["type"]).is_some();
    let table = if universal { &tables::UNIVERSAL } else { &tables::KUBERNETES };
    let Some(resource) = (Decoder { reader, profile }).message("", node, table) else { return };
    if universal {
        meta::universal(reader, &resource, profile);
        return rules::check(reader, &resource, profile);
    }
    meta::kubernetes(reader, &resource);
    let nothing = Node::Map(Vec::new());
    match resource.raw("spec").unwrap_or(&nothing) {
        spec @ Node::Map(_) => reader.inside("spec", |reader| {
            if let Some(spec) = (Decoder { reader, profile }).message("", spec, &tables::SPEC) {
                rules::check(reader, &spec, profile);
            }
        }),
        other => reader.refuse("spec", &other.quoted(), "a mapping with the body of the Dataplane"),
    }
}
