//! The rules that are in force now.

use std::collections::BTreeMap;

use super::asked::Question;
use super::backend::{Doubt, Look};
use super::earlier::{self, EarlierChain};
use super::iptables::NftTables;
use super::location::Location;
use super::operations::Here;
use super::passthrough::{self, Ground as _};
use crate::error::Error;
use crate::facts;
use crate::in_force::{Installed, Listing};
use crate::model::{EngineName, IptablesMode, Note, Options};
use crate::net::{FamilyName, InterfaceName};
use crate::netlink::{Around, Kernel, Stop};
use crate::netns::{self, Namespace};
use crate::nftables::{LiveTable, OtherTable};

impl Installed {
    /// The engine that rules of ours are by; none if there are none. Of rules of both, netlink's come first, and ebpf's programs
    /// last.
    pub fn engine(&self) -> Option<EngineName> {
        match self.native.is_empty() {
            false => Some(EngineName::Netlink),
            true if self.iptables.iter().any(Listing::has_ours) => Some(EngineName::Iptables),
            true => self.programs.then_some(EngineName::Ebpf),
        }
    }

    /// The nat chains of other programs that the kernel calls before ours.
    pub fn earlier(&self) -> Vec<EarlierChain> {
        earlier::of_installed(&self.native, &self.iptables, &self.foreign)
    }

    /// A warning that names them, if there are some.
    pub fn earlier_note(&self) -> Option<Note> {
        earlier::note(&self.earlier())
    }
}

/// Reads the rules that are in force in the network namespace of the calling thread, or in another one.
///
/// Tables of nf_tables, ours and those of other programs, are read from the kernel. What is in tables of iptables is what its programs
/// list; they are run only if there is such a table. Tables are not read at one moment: what changes meanwhile may be in some and not in others.
///
/// # Errors
/// [`Error::Permission`] if the caller may not look, [`Error::Os`] if something cannot be read. Want of a program is no
/// error: a note says so, and [`Listing::unread`](crate::in_force::Listing::unread) what there is.
pub fn installed(namespace: Option<&Namespace>) -> Result<Installed, Error> {
    netns::run(namespace, installed_here)
}

fn installed_here() -> Result<Installed, Error> {
    let (here, mut kernel) = (Here::new(), Kernel::default());
    let kernel = &mut kernel;
    let mut notes = Vec::new();
    let mut nft = NftTables::default();
    let (native, foreign) = match kernel.netfilter().and_then(|socket| socket.look_around(interfaces().as_ref())) {
        Ok(Around { ours, of_iptables, others }) => {
            for (family, table, has_sets) in of_iptables {
                nft.families.push(family);
                nft.with_sets.extend(has_sets.then_some((family, table.to_string())));
            }
            let lift = |family: FamilyName| Some(ours.of(family)?.lift_live(family));
            (FamilyName::ALL.into_iter().filter_map(lift).collect(), others)
        }
        Err(Stop::Missing) => {
            notes.push(Note::info("netlink", format!("not looked into: {}", Error::from(Stop::Missing))));
            (Vec::new(), Vec::new())
        }
        Err(stop) => return Err(stop.into()),
    };
    let of_ip = |table: &OtherTable| FamilyName::ALL.into_iter().any(|family| table.family.meets(family));
    let (foreign, others): (Vec<_>, Vec<_>) = foreign.into_iter().partition(of_ip);
    let others: Vec<_> = others.into_iter().filter(OtherTable::has_a_say).map(|table| table.title).collect();
    let mut iptables = Vec::new();
    for mode in IptablesMode::ALL {
        let listing = here.iptables.list(kernel, mode, &nft)?;
        notes.extend(listing.unread.iter().map(|unread| {
            let what = match &unread.table {
                Some(table) => format!("the table {table}"),
                None => "the tables".to_owned(),
            };
            let text = format!("{what} ({}, {mode}) could not be read: {}", unread.family, unread.reason);
            Note::warning("iptables", text)
        }));
        if !(listing.v4.tables.is_empty() && listing.v6.tables.is_empty() && listing.unread.is_empty()) {
            iptables.push(listing);
        }
    }
    let loopback = match facts::loopback_by(kernel) {
        Ok((name, _)) => name.as_str().parse().unwrap_or_else(|_| InterfaceName::lo()),
        Err(error) => {
            notes.push(Note::info("loopback", format!("taken to be lo: {error}")));
            InterfaceName::lo()
        }
    };
    let (programs, programs_suspected) = programs(&here, kernel, &mut notes)?;
    let of_v6 = native.iter().any(|table: &LiveTable| table.family == FamilyName::V6)
        || iptables.iter().any(|listing| listing.has_ours_of(FamilyName::V6));
    let missing = passthrough::missing(kernel, of_v6.then_some(FamilyName::V6).as_slice())?;
    notes.extend(missing.iter().map(|text| Note::warning("loopback", text)));
    Ok(Installed {
        programs,
        programs_suspected,
        missing: missing.into_iter().collect(),
        native,
        iptables,
        foreign,
        others,
        loopback,
        notes,
    })
}

/// Whether there are programs of the engine ebpf, and whether there may be some that cannot be seen.
fn programs(here: &Here, kernel: &mut Kernel, notes: &mut Vec<Note>) -> Result<(bool, bool), Error> {
    let (config, record) = (Options::default(), kernel.record().unwrap_or_default());
    let question = Question { config: &config, record: &record };
    Ok(match here.backends().look(kernel, question, [Location::Programs])?.pop() {
        None | Some((_, Look::Absent)) => (false, false),
        Some((_, Look::Present(_))) => (true, false),
        Some((_, Look::Unknown(unknown))) => {
            notes.push(unknown.note);
            (false, unknown.doubt == Doubt::Suspected)
        }
    })
}

/// The network interfaces by their numbers; none if they cannot be listed.
fn interfaces() -> Option<BTreeMap<u32, String>> {
    let list = nix::net::if_::if_nameindex().ok()?;
    Some(crate::sorted::map(list.iter().map(|one| (one.index(), one.name().to_string_lossy().into_owned()))))
}
