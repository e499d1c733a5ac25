//! The rules of both families.

use super::{Saved, families, parse};
use crate::error::Error;
use crate::net::{Family, FamilyName, V4, V6};

/// The rules of both families, as far as there are some.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[non_exhaustive]
pub struct SavedFamilies {
    /// Those of IPv4; `None` if no text had anything of it.
    #[serde(rename = "ipv4", skip_serializing_if = "Option::is_none")]
    pub v4: Option<Saved<V4>>,
    /// Those of IPv6.
    #[serde(rename = "ipv6", skip_serializing_if = "Option::is_none")]
    pub v6: Option<Saved<V6>>,
}

impl SavedFamilies {
    /// Reads a text with or without the headings of [`families`].
    ///
    /// # Errors
    /// As [`parse`].
    ///
    /// ```
    /// use kumatp::net::FamilyName;
    /// use kumatp::save::SavedFamilies;
    ///
    /// let mut saved = SavedFamilies::parse("*nat\nCOMMIT\n")?;
    /// assert!(saved.has(FamilyName::V4) && !saved.has(FamilyName::V6));
    /// saved.add("### IPv6 ###\n*nat\nCOMMIT\n")?;
    /// assert!(saved.has(FamilyName::V6));
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut saved = Self::default();
        saved.add(text)?;
        Ok(saved)
    }

    /// Adds the tables of another text to those of the texts before it.
    ///
    /// # Errors
    /// As [`parse`]; then nothing of the text is added.
    pub fn add(&mut self, text: &str) -> Result<(), Error> {
        let texts = families(text);
        let v4 = texts.v4.as_deref().map(parse).transpose()?;
        let v6 = texts.v6.as_deref().map(parse).transpose()?;
        add(&mut self.v4, v4);
        add(&mut self.v6, v6);
        Ok(())
    }

    /// Whether a text had rules, or at least tables, of this family.
    pub fn has(&self, family: FamilyName) -> bool {
        match family {
            FamilyName::V4 => self.v4.is_some(),
            FamilyName::V6 => self.v6.is_some(),
        }
    }
}

fn add<F: Family>(saved: &mut Option<Saved<F>>, more: Option<Saved<F>>) {
    match (saved, more) {
        (_, None) => {}
        (Some(saved), Some(more)) => saved.tables.extend(more.tables),
        (saved @ None, more) => *saved = more,
    }
}
