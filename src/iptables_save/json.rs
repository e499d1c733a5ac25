//! A text as JSON.

use serde::{Serialize, Serializer};

use super::{CtStates, PartialMatch, PartialTarget, Parts, Saved, SavedFamilies, SavedRule, SavedTable};
use crate::error::Error;
use crate::model::{Match, Target};
use crate::net::Family;

/// A text with or without the headings of [`families`](super::families) as a JSON document with the members `ipv4`
/// and `ipv6`, as far as the text has them.
///
/// A rule that the model can say is under `rule`; of any other, `unknown` says what is not known, and `parts` has the
/// [`Parts`]. Both have their text under `spec`.
///
/// # Errors
/// As [`SavedFamilies::parse`].
pub fn to_json(text: &str) -> Result<String, Error> {
    let mut json = serde_json::to_string_pretty(&SavedFamilies::parse(text)?).map_err(|error| Error::Os {
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
        let mut object = serializer.serialize_struct("SavedRule", 5)?;
        object.serialize_field("chain", &self.chain)?;
        object.serialize_field("placement", &self.placement)?;
        object.serialize_field("spec", &self.spec)?;
        match &self.rule {
            Ok(rule) => object.serialize_field("rule", rule)?,
            Err(unknown) => {
                object.serialize_field("unknown", &unknown.reason)?;
                object.serialize_field("parts", &self.parts())?;
            }
        }
        object.end()
    }
}

/// As a rule of the model, whose members it has too: `matches`, and those of the target. Besides, `goesOn` says what
/// [`PartialTarget::goes_on`] does.
impl<F: Family> Serialize for Parts<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase", bound = "")]
        struct Members<'a, F: Family> {
            matches: &'a [PartialMatch<F>],
            #[serde(flatten)]
            target: &'a PartialTarget,
            goes_on: bool,
        }
        Members { matches: &self.matches, target: &self.target, goes_on: self.target.goes_on() }.serialize(serializer)
    }
}

/// As a [`Match`], with further kinds: `protocol`, `ctStates` and `unknown`.
impl<F: Family> Serialize for PartialMatch<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged, bound = "")]
        enum Any<'a, F: Family> {
            Known(&'a Match<F>),
            Other(Other<'a>),
        }
        #[derive(Serialize)]
        #[serde(tag = "match", rename_all = "camelCase")]
        enum Other<'a> {
            Protocol { number: u8, negated: bool },
            CtStates { states: Vec<String>, negated: bool },
            Unknown { text: &'a str },
        }
        let any = match self {
            Self::Known(known) => Any::<F>::Known(known),
            Self::Protocol { number, negated } => Any::Other(Other::Protocol { number: *number, negated: *negated }),
            Self::CtState { states, negated } => {
                Any::Other(Other::CtStates { states: names(*states), negated: *negated })
            }
            Self::Unknown { text } => Any::Other(Other::Unknown { text }),
        };
        any.serialize(serializer)
    }
}

fn names(states: CtStates) -> Vec<String> {
    states.iter_names().map(|(name, _)| name.to_ascii_lowercase()).collect()
}

/// As a [`Target`], with further kinds: `goto`, `unknown` and `none`.
impl Serialize for PartialTarget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Any<'a> {
            Known(&'a Target),
            Other(Other<'a>),
        }
        #[derive(Serialize)]
        #[serde(tag = "target", rename_all = "camelCase")]
        enum Other<'a> {
            Jump { chain: &'a str },
            Goto { chain: &'a str },
            Unknown { name: &'a str, text: &'a str },
            None,
        }
        let any = match self {
            Self::Known(known) => Any::Known(known),
            Self::Jump { chain } => Any::Other(Other::Jump { chain }),
            Self::Goto { chain } => Any::Other(Other::Goto { chain }),
            Self::Unknown { name, text } => Any::Other(Other::Unknown { name, text }),
            Self::None => Any::Other(Other::None),
        };
        any.serialize(serializer)
    }
}
