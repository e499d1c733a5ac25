//! Kuma's configuration as text: documents, environment variables and flags become a [`Config`], and a [`Config`]
//! becomes a document again.
//!
//! The table in [`keys`] has one row for each key and serves all three sources: [`node`] reads a document into a
//! plain tree, [`layers`] pairs what it finds with rows, and [`value`] parses and prints each kind of value.

mod duration;
mod keys;
mod kuma;
mod layers;
mod nearest;
mod node;
mod value;

pub(super) use crate::error::visible;
pub(super) use duration::parse as parse_duration;
pub use keys::Key;
pub(super) use keys::{Field, ROWS, Row};
pub use kuma::{KumaDifference, KumaProgram};
pub use layers::{Layered, Layers};
pub(super) use layers::{Reading, syntax_problem};
pub(super) use nearest::{nearest, one_of, within};
pub(super) use node::{Node, parse as parse_node, parse_all as parse_nodes};
pub(super) use value::{ValueSource, switch};

use super::Config;
use crate::error::Error;

/// How a configuration document is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, and so JSON as well.
    #[cfg(feature = "yaml")]
    Yaml,
}

impl Config {
    /// The configuration that one document describes: Kuma's defaults, and what the document says instead.
    ///
    /// An empty document is a valid one, and `null` leaves a key at its default. Unknown keys are passed over;
    /// [`Layers`] names them, and takes more documents, the environment and flags.
    ///
    /// ```
    /// use kumatp::config::{Config, Format};
    ///
    /// let config = Config::parse(r#"{"redirect": {"inbound": {"excludePorts": [22, "3000-5000"]}}}"#, Format::Json)?;
    /// assert_eq!(config.redirect.inbound.exclude_ports.to_string(), "22,3000-5000");
    ///
    /// let error = Config::parse(r#"{"redirect": {"dns": {"enabled": true, "port": 70000}}}"#, Format::Json).unwrap_err();
    /// assert_eq!(error.problems()[0].path, "redirect.dns.port");
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] with every problem of the document.
    pub fn parse(text: &str, format: Format) -> Result<Self, Error> {
        let mut layers = Layers::new();
        layers.document("", text, format);
        layers.finish().map(|(config, _)| config)
    }

    /// The configuration as a JSON document that [`parse`](Self::parse) reads back.
    ///
    /// As in the documents that Kuma writes, keys are in alphabetical order, and lists, switches and groups that say
    /// nothing beyond the defaults are left out. Names of chains are left out always, since no document can set them.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(&self.to_tree()).expect("a tree of text and numbers can be written")
    }

    /// The same as [`to_json`](Self::to_json), in YAML.
    #[cfg(feature = "yaml")]
    pub fn to_yaml(&self) -> String {
        yaml_serde::to_string(&self.to_tree()).expect("a tree of text and numbers can be written")
    }

    fn to_tree(&self) -> serde_json::Value {
        let mut config = self.clone();
        let mut default = Self::default();
        let mut tree = serde_json::Map::new();
        for row in keys::ROWS {
            if let Some(value) = row.shown(&mut config, &mut default) {
                let mut at = &mut tree;
                let mut names = row.path.split('.').peekable();
                while let Some(name) = names.next() {
                    if names.peek().is_none() {
                        at.insert(name.to_owned(), value);
                        break;
                    }
                    let group = at.entry(name).or_insert_with(|| serde_json::Map::new().into());
                    at = group.as_object_mut().expect("the path of a key is not the beginning of another");
                }
            }
        }
        tree.into()
    }
}

#[cfg(test)]
mod tests;
