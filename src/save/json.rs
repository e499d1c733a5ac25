//! A text as JSON.

use serde::{Serialize, Serializer};

use super::{Saved, SavedRule, SavedTable, families, parse};
use crate::error::Error;
use crate::net::{Family, V4, V6};

/// A text with or without the headings of [`families`] as a JSON document with the members `ipv4`
/// and `ipv6`, as far as the text has them.
///
/// A rule that the model can say is under `rule`; of any other, `unknown` says what is not known.
/// Both have their text under `spec`.
///
/// # Errors
/// As [`parse`].
pub fn to_json(text: &str) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Document {
        #[serde(skip_serializing_if = "Option::is_none")]
        ipv4: Option<Saved<V4>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        ipv6: Option<Saved<V6>>,
    }
    let texts = families(text);
    let document = Document {
        ipv4: texts.v4.as_deref().map(parse).transpose()?,
        ipv6: texts.v6.as_deref().map(parse).transpose()?,
    };
    let mut json = serde_json::to_string_pretty(&document).map_err(|error| Error::Os {
        action: "write the rules as JSON".into(),
        message: error.to_string(),
        errno: None,
    })?;
    json.push('\n');
    Ok(json)
}

impl<F: Family> Serialize for Saved<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("Saved", 1)?;
        object.serialize_field("tables", &self.tables)?;
        object.end()
    }
}

impl<F: Family> Serialize for SavedTable<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("SavedTable", 3)?;
        object.serialize_field("name", &self.name)?;
        object.serialize_field("chains", &self.chains)?;
        object.serialize_field("rules", &self.rules)?;
        object.end()
    }
}

impl<F: Family> Serialize for SavedRule<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut object = serializer.serialize_struct("SavedRule", 4)?;
        object.serialize_field("chain", &self.chain)?;
        object.serialize_field("placement", &self.placement)?;
        object.serialize_field("spec", &self.spec)?;
        match &self.rule {
            Ok(rule) => object.serialize_field("rule", rule)?,
            Err(unknown) => object.serialize_field("unknown", &unknown.reason)?,
        }
        object.end()
    }
}
