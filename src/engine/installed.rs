//! The rules that are in force now.

use super::asked::Question;
use super::earlier::{self, EarlierChain};
use super::operations::Here;
use super::passthrough::{self, Ground as _};
use crate::error::Error;
use crate::facts;
use crate::in_force::{Installed, Listing};
use crate::model::{EngineName, Note, Options};
use crate::net::{FamilyName, InterfaceName};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

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
    let (config, record) = (Options::default(), kernel.record().unwrap_or_default());
    let mut found = Installed::nothing();
    for one in here.readers() {
        one.read(kernel, Question { config: &config, record: &record }, &mut found)?;
    }
    match facts::loopback_by(kernel) {
        Ok((name, _)) => found.loopback = name.as_str().parse().unwrap_or_else(|_| InterfaceName::lo()),
        Err(error) => found.notes.push(Note::info("loopback", format!("taken to be lo: {error}"))),
    }
    let of_v6 = found.native.iter().any(|table| table.family == FamilyName::V6)
        || found.iptables.iter().any(|listing| listing.has_ours_of(FamilyName::V6));
    found.missing.extend(passthrough::missing(kernel, of_v6.then_some(FamilyName::V6).as_slice())?);
    found.notes.extend(found.missing.iter().map(|text| Note::warning("loopback", text)));
    Ok(found)
}
