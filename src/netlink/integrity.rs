//! Whether what is there is what was installed, by what the tables say of themselves.

use super::{Content, Dump};
use crate::net::FamilyName;
use crate::nftables::{Marker, SCHEMA, Table, table_name};

/// How what is there compares with what was installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Integrity {
    /// Nothing is different.
    Intact,
    /// Something is, in words.
    Changed(Vec<String>),
    /// A version of this crate installed it whose digests this one cannot compute: its schema.
    OtherSchema(u32),
}

impl Dump {
    /// Compares everything in the tables with the markers in them.
    pub(crate) fn integrity(&self) -> Integrity {
        let found: Vec<_> = FamilyName::ALL.into_iter().filter_map(|family| Some((family, self.of(family)?))).collect();
        let markers: Vec<_> = found.iter().map(|(_, content)| content.marker()).collect();
        if let Some(other) = markers.iter().flatten().find(|marker| marker.schema != SCHEMA) {
            return Integrity::OtherSchema(other.schema);
        }
        let mut changes = Vec::new();
        let mut tables = Vec::new();
        for ((family, content), marker) in found.iter().zip(&markers) {
            match examine(*family, content, marker.as_ref()) {
                Ok(table) => tables.push(table),
                Err(found) => {
                    let name = table_name(*family);
                    changes.extend(found.into_iter().map(|change| format!("{name}: {change}")));
                }
            }
        }
        if !changes.is_empty() {
            return Integrity::Changed(changes);
        }
        let digest = Marker::digest(&tables);
        if markers.iter().flatten().all(|marker| marker.digest == digest) {
            return Integrity::Intact;
        }
        // The numbers are right, so something has been put in the place of something else.
        let names: Vec<_> = tables.iter().map(|table| table_name(table.family)).collect();
        let replaced = format!("in {}, a rule or an interval of a set is another", names.join(" or "));
        Integrity::Changed(vec![match tables.len() {
            1 => format!("{replaced}, or the table of the other family was removed"),
            _ => replaced,
        }])
    }
}

/// The table, if it has as much in it as its marker says, and nothing that is not ours.
fn examine(family: FamilyName, content: &Content, marker: Option<&Marker>) -> Result<Table, Vec<String>> {
    let mut changes = Vec::new();
    if content.chains.iter().all(|chain| chain.rules.is_empty()) {
        return Err(vec!["it has no rules".to_owned()]);
    }
    let Some(marker) = marker else {
        changes.push(format!("it does not say what was installed: the rule of the chain {} is gone", Marker::CHAIN));
        return Err(changes);
    };
    let others = content.chains.iter().filter(|chain| chain.name != Marker::CHAIN);
    let rules = others.map(|chain| chain.rules.len()).sum::<usize>();
    if rules != marker.rules {
        changes.push(format!("it has {rules} rules instead of {}", marker.rules));
        let empty = content.chains.iter().filter(|chain| chain.rules.is_empty());
        changes.extend(empty.map(|chain| format!("the chain {} is empty", chain.name)));
    }
    let intervals = content.sets.iter().flat_map(|set| &set.elements).filter(|element| element.flags == 0).count();
    if intervals != marker.intervals {
        changes.push(format!("its sets have {intervals} intervals instead of {}", marker.intervals));
    }
    match content.lift(family) {
        Ok(table) => {
            let mut whole = table.clone();
            marker.put_into(&mut whole);
            // With the chain of the marker itself.
            changes.extend(Content::of(&whole).differences(content));
            if changes.is_empty() { Ok(table) } else { Err(changes) }
        }
        Err(found) => {
            changes.extend(found);
            Err(changes)
        }
    }
}
