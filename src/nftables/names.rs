use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::native::Field;
use crate::model::Origin;

/// The name of a chain or set: letters, digits, `_`, `.` and `-`, beginning with a letter, and never
/// a word that means something in nft's language.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// The nearest name to `wanted`.
    pub(super) fn nearest(wanted: &str) -> Self {
        Self(safe(wanted).into())
    }

    /// This name, if it is one.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(crate) fn exactly(text: &str) -> Option<Self> {
        (safe(text) == text).then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Gives out names, each once.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Name>);

impl Names {
    /// The nearest name to `wanted` that is free.
    pub(super) fn take(&mut self, wanted: &str) -> Name {
        let nearest = Name::nearest(wanted);
        let mut name = nearest.clone();
        let mut count = 1;
        while !self.0.insert(name.clone()) {
            count += 1;
            name = Name(format!("{nearest}_{count}").into());
        }
        name
    }
}

/// No word of nft's language has an underscore or a capital letter, so a name with one of these is
/// never taken for such a word.
fn safe(wanted: &str) -> String {
    let kept = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') { c } else { '_' };
    let text: String = wanted.chars().map(kept).collect();
    let distinct = text.contains(|c: char| c == '_' || c.is_ascii_uppercase());
    match distinct && text.starts_with(|c: char| c.is_ascii_alphabetic()) {
        true => text,
        false => format!("x_{text}"),
    }
}

/// What to call the set of a rule that this key asked for: `outbound_exclude_ports` for
/// `redirect.outbound.excludePorts`.
pub(super) fn of_origin(origin: Option<Origin>) -> Option<String> {
    let origin = origin?;
    let key = origin.key.strip_prefix("redirect.").unwrap_or(origin.key);
    let mut text = String::with_capacity(key.len() + 4);
    let mut after_capital = true;
    for c in key.chars() {
        if c.is_ascii_uppercase() && !after_capital {
            text.push('_');
        }
        after_capital = c.is_ascii_uppercase() || c == '.';
        text.push(if c == '.' { '_' } else { c.to_ascii_lowercase() });
    }
    Some(text)
}

/// What to call the set of a rule that no key asked for.
pub(super) fn of_field(field: Field) -> &'static str {
    match field {
        Field::SourceAddress | Field::DestinationAddress => "addresses_1",
        Field::SourcePort | Field::DestinationPort => "ports_1",
        Field::User => "users_1",
        Field::Group => "groups_1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_given_once() {
        let mut names = Names::default();
        for (wanted, name) in [
            ("KUMA_MESH_INBOUND", "KUMA_MESH_INBOUND"),
            ("KUMA_MESH_INBOUND", "KUMA_MESH_INBOUND_2"),
            ("log", "x_log"),
            ("f2b-sshd", "x_f2b-sshd"),
            ("cali:x", "cali_x"),
            ("1A", "x_1A"),
            ("_A", "x__A"),
        ] {
            assert_eq!(names.take(wanted).as_str(), name);
        }
    }

    #[test]
    fn sets_are_called_after_the_key() {
        for (key, name) in [
            ("redirect.outbound.excludePorts", "outbound_exclude_ports"),
            ("redirect.outbound.excludePortsForUIDs", "outbound_exclude_ports_for_uids"),
            ("redirect.dns.resolvConfigPath", "dns_resolv_config_path"),
        ] {
            assert_eq!(of_origin(Some(key.into())).as_deref(), Some(name));
        }
    }
}
