//! The rules that are active in a network namespace, as far as they were read: [`engine::installed`](crate::engine::installed) reads them, and the
//! [simulator](crate::simulate::Simulator::of_installed) follows them.

use crate::iptables_save::Saved;
use crate::model::{IptablesMode, Note};
use crate::net::{FamilyName, InterfaceName, V4, V6};
use crate::nftables::{LiveTable, OtherTable};

/// The rules of a network namespace, as far as anything here knows of them: our tables, those of iptables, and those that other
/// programs have in nf_tables.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Installed {
    /// Our tables of nf_tables, as they are.
    pub native: Vec<LiveTable>,
    /// The tables of iptables, for each [`IptablesMode`] that has some or could not be looked into.
    pub iptables: Vec<Listing>,
    /// The tables of nf_tables that are other programs', but for those that iptables lists.
    pub foreign: Vec<OtherTable>,
    /// The tables of nf_tables with rules that are not followed, as `nft` calls them: `bridge filter`. What is sent and received
    /// through a bridge, and the ARP that it needs, may meet them.
    pub others: Vec<String>,
    /// Whether programs of the engine ebpf are in force. They deal with sockets, before there are the
    /// packets that rules are for, and what they are told is not read.
    pub programs: bool,
    /// Whether there may be such programs: one is attached to the network namespace, and the caller may not see whose it is.
    pub programs_suspected: bool,
    /// What belongs to the installation besides rules and is not there, in words.
    pub missing: Vec<String>,
    /// The loopback interface there.
    pub loopback: InterfaceName,
    /// What could not be looked at.
    pub notes: Vec<Note>,
}

impl Installed {
    /// A namespace of which nothing has been read yet.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(crate) fn nothing() -> Self {
        Self {
            native: Vec::new(),
            iptables: Vec::new(),
            foreign: Vec::new(),
            others: Vec::new(),
            programs: false,
            programs_suspected: false,
            missing: Vec::new(),
            loopback: InterfaceName::lo(),
            notes: Vec::new(),
        }
    }

    /// All that is not known of what is in force: the notes, and a warning about the tables that are not followed.
    pub fn unknown(&self) -> Vec<Note> {
        let mut notes = self.notes.clone();
        if self.programs {
            notes.push(Note::warning("ebpf", PROGRAMS));
        }
        if !self.others.is_empty() {
            let text = "there are tables of bridges or ARP, which are not followed, and their rules may do otherwise";
            notes.push(Note::warning("nf_tables", format!("{text}: {}", self.others.join(", "))));
        }
        notes
    }
}

/// What is not known where programs are in force.
const PROGRAMS: &str = "programs of the engine ebpf are active, and what they are told is not read; ask about the \
                        configuration that they were made from, by the engine ebpf";

/// The tables of iptables of one mode, ours and those of other programs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listing {
    /// The mode of the programs that list them.
    pub mode: IptablesMode,
    /// Those of IPv4, without what is unread.
    pub v4: Saved<V4>,
    /// Those of IPv6, without what is unread.
    pub v6: Saved<V6>,
    /// What there is besides and could not be read.
    pub unread: Vec<Unread>,
}

/// Rules that are there, or may be, and could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unread {
    /// Their family.
    pub family: FamilyName,
    /// Their table; all of the family's if there is none.
    pub table: Option<String>,
    /// Whether they are known to be there.
    pub certain: bool,
    /// Why not, in words.
    pub reason: String,
}
