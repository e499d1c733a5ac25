use std::path::PathBuf;

use super::environment::identifier;
use crate::error::InvalidValue;

/// The path of a file, with placeholders for what belongs to a pod: `/run/mesh/pods/{namespace}/{name}.yaml`.
///
/// What is put in their place is an identifier without slashes that begins with a letter or a digit, so it cannot
/// lead to another directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Placeholder(&'static str),
}

impl Template {
    /// Reads a template in which these placeholders may stand.
    pub(super) fn parse(text: &str, placeholders: &[&'static str]) -> Result<Self, InvalidValue> {
        let names: Vec<_> = placeholders.iter().map(|name| format!("{{{name}}}")).collect();
        let refused = || {
            let names = if names.is_empty() { "nothing in braces".to_owned() } else { names.join(", ") };
            InvalidValue::new(text, format!("the absolute path of a file, in which {names} may stand"))
        };
        if !text.starts_with('/') || text.ends_with('/') || text.contains('\0') {
            return Err(refused());
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or_else(refused)?;
            let known = placeholders.iter().find(|known| **known == name).ok_or_else(refused)?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Placeholder(known));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        match parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains('}'))) {
            true => Err(refused()),
            false => Ok(Self(parts)),
        }
    }

    /// The path for a pod. `value` knows what to put in the place of a placeholder.
    ///
    /// # Errors
    /// The name of the placeholder, and why there is no value, or not this one.
    pub(super) fn path<'v>(
        &self,
        value: impl Fn(&str) -> Option<&'v str>,
    ) -> Result<PathBuf, (&'static str, InvalidValue)> {
        let mut path = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => path.push_str(text),
                Part::Placeholder(name) => {
                    path.push_str(identifier(value(name).unwrap_or_default()).map_err(|why| (*name, why))?);
                }
            }
        }
        Ok(path.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["namespace", "name"];

    #[test]
    fn placeholders_are_filled() {
        let template = Template::parse("/run/{namespace}/{name}.yaml", KNOWN).unwrap();
        let path = template.path(|key| Some(if key == "name" { "web-0" } else { "shop" })).unwrap();
        assert_eq!(path, PathBuf::from("/run/shop/web-0.yaml"));
        let same = Template::parse("/etc/pod.yaml", KNOWN).unwrap();
        assert_eq!(same.path(|_| None).unwrap(), PathBuf::from("/etc/pod.yaml"));
    }

    #[test]
    fn no_value_leads_elsewhere() {
        let template = Template::parse("/run/{name}", KNOWN).unwrap();
        for bad in ["..", ".", "", "a/b", "../x", "/etc", "a\0", "a b", "é", "-x"] {
            let (name, why) = template.path(|_| Some(bad)).unwrap_err();
            assert_eq!((name, why.value()), ("name", bad));
        }
        assert_eq!(template.path(|_| None).unwrap_err().0, "name");
    }

    #[test]
    fn wrong_templates() {
        for bad in ["", "run/{name}", "/run/{pod}", "/run/{name", "/run/name}", "/run/{}", "/run/{{name}}", "/run/"] {
            let why = Template::parse(bad, KNOWN).unwrap_err().to_string();
            assert!(why.contains("{namespace}, {name}"), "{why}");
        }
    }
}
