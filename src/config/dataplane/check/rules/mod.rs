//! What Kuma asks of the body of a Dataplane (`pkg/core/resources/apis/mesh/dataplane_validator.go`).

mod backends;
mod network;
mod older;

use super::schema::{Decoded, key_path};
use super::values::is_address;
use crate::config::Profile;
use crate::config::dataplane::reader::{Reader, join};
use crate::config::wire::visible;
use crate::model::Note;

/// The tag by which services were told apart before `MeshService`.
const SERVICE: &str = "kuma.io/service";
/// The tag that said the protocol of a service.
const PROTOCOL: &str = "kuma.io/protocol";

/// Remembers every violation in a body.
pub(super) fn check(reader: &mut Reader, spec: &Decoded, profile: Profile) {
    let mut rules = Rules { reader, profile };
    let role = match spec.message("networking") {
        Some(networking) => rules.networking(networking),
        None if !spec.has("networking") => {
            rules.reader.refuse("networking", "", "a section with at least the address of the workload");
            return;
        }
        None => Role::Unknown,
    };
    if profile == Profile::Kuma29 {
        rules.older(spec, role);
    }
}

/// What a workload is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Ordinary,
    DelegatedGateway,
    BuiltinGateway,
    /// It says of the role what no rule can understand.
    Unknown,
}

struct Rules<'r> {
    reader: &'r mut Reader,
    profile: Profile,
}

impl Rules<'_> {
    fn warn(&mut self, path: &str, text: impl Into<String>) {
        self.reader.note(Note::warning(visible(path), text.into()));
    }

    /// A port that must be there.
    fn port(&mut self, of: &Decoded, name: &str) {
        if let Some(number) = of.number(name).filter(|number| !(1..=65_535).contains(number)) {
            let value = if of.has(name) { number.to_string() } else { String::new() };
            self.reader.refuse(&of.at(name), &value, "a port from 1 to 65535");
        }
    }

    /// An address that may be left out.
    fn address(&mut self, of: &Decoded, name: &str) {
        if let Some(address) = of.text(name).filter(|address| !address.is_empty() && !is_address(address)) {
            self.reader.refuse(&of.at(name), address, "an IP address");
        }
    }

    /// A protocol; letter case does not matter.
    fn protocol(&mut self, path: &str, protocol: &str) {
        let named: &[&str] = match self.profile {
            Profile::Kuma3 => &["grpc", "http", "http2", "tcp"],
            Profile::Kuma29 => &["grpc", "http", "http2", "kafka", "tcp"],
        };
        let lower = protocol.to_lowercase();
        // Kuma also takes one that it does not name.
        if !named.contains(&lower.as_str()) && lower != "tls" {
            self.reader.refuse(path, protocol, &format!("one of the protocols {}", named.join(", ")));
        }
    }

    /// Tags, of which `kuma.io/service` must be one if it is `required`.
    fn tags(&mut self, of: &Decoded, required: bool) {
        let Some(tags) = of.texts("tags") else { return };
        let path = of.at("tags");
        let word = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
        for (key, value) in tags {
            let at = key_path(&path, key);
            if key.is_empty() {
                self.reader.refuse(&path, key, "a name for each tag");
            }
            if !key.bytes().all(|byte| word(byte) || byte == b'/') {
                self.reader.refuse(&at, key, "a name of letters, digits and '. - _ : /'");
            }
            if value.is_empty() || !value.bytes().all(word) {
                self.reader.refuse(&at, value, "a value of letters, digits and '. - _ :'");
            }
        }
        if required && !tags.contains_key(SERVICE) {
            self.reader.refuse(&path, "", &format!("the tag {SERVICE} among them"));
        }
    }
}

/// Whether two addresses are those of one listener, as a wildcard is that of every address.
fn overlap(one: &str, other: &str) -> bool {
    use std::net::IpAddr;
    let parse = |text: &str| text.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => one == other || one.is_unspecified() || other.is_unspecified(),
        _ => false,
    }
}

/// The text of a field that is there, or another.
fn or<'t>(text: Option<&'t str>, other: &'t str) -> &'t str {
    text.filter(|text| !text.is_empty()).unwrap_or(other)
}

/// The path of an item.
fn item(of: &Decoded, name: &str, index: usize) -> String {
    format!("{}[{index}]", join(of.path(), name))
}
