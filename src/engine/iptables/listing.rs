//! Everything that the programs list, whoever made it.

use super::host::Host;
use super::legacy_tables::LegacyTables;
use super::ours::Ours;
use super::programs::Programs;
use crate::error::Error;
use crate::in_force::{Installed, Listing, Unread};
use crate::iptables_save::Saved;
use crate::model::{IptablesMode, Note, Options};
use crate::net::{Family, FamilyName};
use crate::netlink::{Kernel, Stop};

impl Listing {
    /// Whether there are rules of ours or kumactl's among what was read.
    pub(in crate::engine) fn has_ours(&self) -> bool {
        FamilyName::ALL.into_iter().any(|family| self.has_ours_of(family))
    }

    /// The same of one family.
    pub(in crate::engine) fn has_ours_of(&self, family: FamilyName) -> bool {
        match family {
            FamilyName::V4 => has_ours(&self.v4),
            FamilyName::V6 => has_ours(&self.v6),
        }
    }
}

/// Whether there are rules of ours or kumactl's.
pub(in crate::engine) fn has_ours<F: Family>(saved: &Saved<F>) -> bool {
    !Ours::find(saved, &[]).is_empty()
}

/// What is known of the tables of iptables-nft without its programs.
#[derive(Debug, Default)]
struct NftTables {
    /// The families that have some.
    families: Vec<FamilyName>,
    /// Those with sets. iptables-nft makes none; its programs list a rule that looks into one as if it did not.
    with_sets: Vec<(FamilyName, String)>,
}

impl NftTables {
    fn look(kernel: &mut Kernel) -> Result<Self, Error> {
        let mut nft = Self::default();
        match kernel.around(|| None) {
            Ok(around) => {
                for (family, table, has_sets) in &around.of_iptables {
                    nft.families.push(*family);
                    nft.with_sets.extend(has_sets.then(|| (*family, table.to_string())));
                }
            }
            // The back end of netlink says so.
            Err(Stop::Missing) => {}
            Err(stop) => return Err(stop.into()),
        }
        Ok(nft)
    }
}

impl Programs {
    /// What there is of both modes. Programs are run only for tables that are there, so none is made by looking.
    ///
    /// # Errors
    /// If the caller may not look. Want of a program is no error.
    pub(super) fn list_all(&self, kernel: &mut Kernel, found: &mut Installed) -> Result<(), Error> {
        let nft = NftTables::look(kernel)?;
        for mode in IptablesMode::ALL {
            let listing = self.list(kernel, mode, &nft)?;
            found.notes.extend(listing.unread.iter().map(|unread| {
                let what = match &unread.table {
                    Some(table) => format!("the table {table}"),
                    None => "the tables".to_owned(),
                };
                let text = format!("{what} ({}, {mode}) could not be read: {}", unread.family, unread.reason);
                Note::warning("iptables", text)
            }));
            if !(listing.v4.tables.is_empty() && listing.v6.tables.is_empty() && listing.unread.is_empty()) {
                found.iptables.push(listing);
            }
        }
        Ok(())
    }

    fn list(&self, kernel: &mut Kernel, mode: IptablesMode, nft: &NftTables) -> Result<Listing, Error> {
        let config = Options::default();
        let host = Host::new(self, &config, kernel);
        let mut unread = Vec::new();
        let (v4, v6) = (list(&host, mode, nft, &mut unread)?, list(&host, mode, nft, &mut unread)?);
        Ok(Listing { mode, v4, v6, unread })
    }
}

fn list<F: Family>(
    host: &Host<'_>,
    mode: IptablesMode,
    nft: &NftTables,
    unread: &mut Vec<Unread>,
) -> Result<Saved<F>, Error> {
    let (there, certain) = match mode {
        IptablesMode::Nft => (nft.families.contains(&F::NAME), true),
        IptablesMode::Legacy => {
            let tables = LegacyTables::of(F::NAME);
            (!tables.none(), matches!(tables, LegacyTables::Known(_)))
        }
    };
    let mut saved = Saved { tables: Vec::new() };
    if !there {
        return Ok(saved);
    }
    let mut cannot = |table: Option<String>, reason: String| {
        let said = |other: &Unread| other.family == F::NAME && (other.table.is_none() || other.table == table);
        if !unread.iter().any(said) {
            unread.push(Unread { family: F::NAME, table, certain, reason });
        }
    };
    match host.toolset(F::NAME, mode).map(|tools| host.look_whole(tools)) {
        Ok(Ok(None)) => {}
        Ok(Ok(Some(looked))) => {
            saved = looked.saved;
            for table in looked.hidden {
                cannot(Some(table), "it has chains or rules that iptables did not make".to_owned());
            }
        }
        Ok(Err(error @ Error::Program { .. })) => cannot(None, error.to_string()),
        // In a user namespace, the kernel may keep even the names of legacy tables back.
        Ok(Err(error @ Error::Permission { .. })) if mode == IptablesMode::Legacy => cannot(None, error.to_string()),
        Ok(Err(error)) => return Err(error),
        Err(missing) => cannot(None, missing.clone()),
    }
    for (_, table) in nft.with_sets.iter().filter(|(family, _)| mode == IptablesMode::Nft && *family == F::NAME) {
        cannot(Some(table.clone()), "it has sets, which the iptables programs do not show".to_owned());
    }
    let hidden = |name: &str| unread.iter().any(|u| u.family == F::NAME && u.table.as_deref() == Some(name));
    saved.tables.retain(|table| !hidden(&table.name));
    Ok(saved)
}
