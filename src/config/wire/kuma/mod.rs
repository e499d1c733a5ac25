//! How Kuma's own programs read a document that this crate takes: `kuma-dp run --transparent-proxy-config`, which runs beside
//! the rules and gets the same file, and `kumactl install transparent-proxy --config`.
//!
//! Both turn YAML 1.1 into JSON and decode that into fixed types, so that the form of a value counts: a port in quotes is
//! text, and text is no port. [`forms`] says for each key who reads it and as which type.

mod forms;
mod items;
mod style;
mod write;

use std::fmt;

use serde::{Serialize, Serializer};

use self::style::Style;
use super::keys::{self, Row};
use super::node::{self, Node};
use super::{Format, Layers};
use crate::config::Config;
use crate::error::{Error, InvalidValue, Problem, visible};
use crate::named::named;

/// How many items of one list are told one by one.
const ENOUGH: usize = 100;

/// A program of Kuma that reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KumaProgram {
    /// The data plane proxy: `kuma-dp run --transparent-proxy-config`. It reads the address families, whether and to which ports
    /// is redirected, and the virtual networks, and passes over everything else.
    KumaDp,
    /// `kumactl install transparent-proxy --config`.
    Kumactl,
}

named! {
    /// Every program.
    KumaProgram { KumaDp = "kuma-dp", Kumactl = "kumactl" }
}

impl Serialize for KumaProgram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A setting of a document that Kuma 3's own programs refuse or read otherwise.
///
/// ```
/// use kumatp::config::{Format, KumaDifference, KumaProgram};
///
/// let text = r#"{"ipFamilyMode": "required", "redirect": {"inbound": {"port": "15006", "excludePorts": ["8000-8100"]}}}"#;
/// let differences = KumaDifference::find(text, Format::Json)?;
/// let told: Vec<_> = differences.iter().map(|one| (one.path.as_str(), one.refused, &one.programs[..])).collect();
/// assert_eq!(
///     told,
///     [
///         ("ipFamilyMode", true, &KumaProgram::ALL[..]),
///         ("redirect.inbound.port", true, &KumaProgram::ALL[..]),
///         ("redirect.inbound.excludePorts[0]", true, &[KumaProgram::Kumactl][..]),
///     ]
/// );
/// assert_eq!(
///     differences[1].to_string(),
///     "redirect.inbound.port: '15006' is refused by kuma-dp and kumactl: expected a number without quotes"
/// );
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct KumaDifference {
    /// The key, with the position in a list: `redirect.inbound.excludePorts[0]`.
    pub path: String,
    /// The value as it was given.
    pub value: String,
    /// Which programs differ.
    pub programs: Vec<KumaProgram>,
    /// Whether they refuse the document for it. Otherwise they take something else for the value, or pass over the key.
    pub refused: bool,
    /// What would be right for them, or what they take the value for.
    pub reason: String,
}

impl KumaDifference {
    /// Every difference of a document, in the order of the document.
    ///
    /// # Errors
    /// [`Error::Config`] if the document is not valid here either.
    pub fn find(text: &str, format: Format) -> Result<Vec<Self>, Error> {
        let mut layers = Layers::new();
        layers.document("", text, format);
        let (config, _) = layers.finish()?;
        let style = Style::of(text, format);
        let mut found = Search { style: &style, config: &config, differences: style.refused_as_a_whole() };
        // What cannot be read was refused before.
        if let Ok(Node::Map(entries)) = node::parse(text, format) {
            found.walk("", &entries);
        }
        Ok(found.differences)
    }

    /// Whether this program is one of those that differ.
    pub fn concerns(&self, program: KumaProgram) -> bool {
        self.programs.contains(&program)
    }

    /// The same as a problem of the document, for who needs it to be right for these programs.
    pub fn to_problem(&self) -> Problem {
        let expected = format!("{} (for {})", self.reason, names(&self.programs));
        InvalidValue::new(&*self.value, expected).at(&*self.path)
    }
}

impl fmt::Display for KumaDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, value, programs, refused, reason } = self;
        let (value, programs) = (crate::error::quoted(value), names(programs));
        match refused {
            true => write!(f, "{path}: {value} is refused by {programs}: expected {reason}"),
            false => write!(f, "{path}: {value} is read differently by {programs}: {reason}"),
        }
    }
}

fn names(programs: &[KumaProgram]) -> String {
    programs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

struct Search<'a> {
    style: &'a Style<'a>,
    config: &'a Config,
    differences: Vec<KumaDifference>,
}

impl Search<'_> {
    fn walk(&mut self, group: &str, entries: &[(String, Node)]) {
        let names = keys::children(group);
        for (key, node) in entries {
            // Letter case does not matter to any of the programs. Unknown keys, all of them pass over.
            let Some(name) = names.iter().find(|name| name.eq_ignore_ascii_case(key)) else { continue };
            let path = if group.is_empty() { (*name).to_owned() } else { format!("{group}.{name}") };
            match (keys::in_document(&path), node) {
                (Some(row), node) => self.look(row, node),
                (None, Node::Map(entries)) => self.walk(&path, entries),
                (None, _) => {}
            }
        }
    }

    fn look(&mut self, row: &Row, node: &Node) {
        let Some(form) = forms::of(row.path) else { return };
        let mut found = form.look(node, self.style, self.config);
        let more = found.len().saturating_sub(ENOUGH);
        found.truncate(ENOUGH);
        if let Some(last) = found.last_mut().filter(|_| more > 0) {
            last.reason.push_str(&format!(" ({more} more items of this list are like it)"));
        }
        for found in found {
            let path = match found.index {
                Some(index) => format!("{}[{index}]", row.path),
                None => row.path.to_owned(),
            };
            let programs = match found.only {
                Some(program) => vec![program],
                None => form.programs().to_vec(),
            };
            self.differences.push(KumaDifference {
                path,
                value: visible(&found.value),
                programs,
                refused: found.refused,
                reason: found.reason,
            });
        }
    }
}

/// What a form has to say about a value.
struct FormFinding {
    /// The position in a list.
    index: Option<usize>,
    value: String,
    refused: bool,
    reason: String,
    /// The one program that minds, if not all that read the key do.
    only: Option<KumaProgram>,
}

impl FormFinding {
    fn refused(value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { index: None, value: value.into(), refused: true, reason: reason.into(), only: None }
    }

    fn otherwise(value: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { refused: false, ..Self::refused(value, reason) }
    }

    fn at(self, index: Option<usize>) -> Self {
        Self { index, ..self }
    }

    fn only(self, program: KumaProgram) -> Self {
        Self { only: Some(program), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::wire::keys::ROWS;

    #[test]
    fn every_key_of_a_document_has_a_form() {
        for row in ROWS {
            assert_eq!(forms::of(row.path).is_some(), row.in_documents(), "{}", row.path);
        }
        for path in forms::paths() {
            assert!(keys::in_document(path).is_some(), "{path}");
        }
    }
}
