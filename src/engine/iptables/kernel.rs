//! What the kernel says itself, so that no program has to be run for it. `None` where it does not say: that is no answer, and the
//! programs are asked.

use std::cell::RefCell;
use std::io;

use super::legacy_tables::LegacyTables;
use super::locate::Toolset;
use super::ours::Ours;
use crate::model::{IptablesMode, TableName};
use crate::net::FamilyName;
use crate::netlink::{
    Batch, Extension, Leftovers, LegacyView, Socket, Stop, legacy_has_extension, legacy_table_exists,
};

/// The chain in which Docker translates queries to its DNS server.
pub(super) const DOCKER: &str = "DOCKER_OUTPUT";

/// The way to the kernel of an operation.
#[derive(Debug)]
pub(super) struct Kernel<'a>(RefCell<&'a mut crate::netlink::Kernel>);

/// What there is of an installation, ours or kumactl's.
#[derive(Debug)]
pub(super) enum Seen {
    Nothing,
    /// All of it, in tables of iptables-nft.
    Plain(Leftovers),
    /// There is one, and it takes its listing to tell what belongs to it.
    Unclear,
    Unknown,
}

/// How many times a removal is begun again because others changed the rules meanwhile.
const ATTEMPTS: usize = 8;

impl<'a> Kernel<'a> {
    pub(super) fn new(kernel: &'a mut crate::netlink::Kernel) -> Self {
        Self(RefCell::new(kernel))
    }

    /// Does something with it that is no question.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut crate::netlink::Kernel) -> T) -> T {
        work(&mut self.0.borrow_mut())
    }

    /// That rules have been changed, so that what was seen of iptables-legacy is no longer so.
    pub(super) fn changed(&self) {
        self.with(|kernel| kernel.legacy = LegacyView::default());
    }

    /// Whether there is a table, or can be one. One of iptables-legacy is made by asking.
    pub(super) fn has_table(&self, tools: &Toolset, table: TableName) -> Option<bool> {
        match tools.mode {
            // A kernel that answers has the tables that it is told to make.
            IptablesMode::Nft => {
                self.ask(|socket| socket.chain_exists(tools.family, table.as_str(), DOCKER)).map(|_| true)
            }
            IptablesMode::Legacy => {
                let exists = legacy_table_exists(tools.family, table).ok();
                self.changed();
                exists
            }
        }
    }

    /// Whether rules can have this.
    pub(super) fn has(&self, tools: &Toolset, extension: Extension) -> Option<bool> {
        match tools.mode {
            IptablesMode::Nft => self.ask(|socket| socket.has_extension(tools.family, extension)),
            IptablesMode::Legacy => legacy_has_extension(tools.family, extension).ok(),
        }
    }

    /// Whether Docker has its chain.
    pub(super) fn has_docker(&self, tools: &Toolset) -> Option<bool> {
        match tools.mode {
            IptablesMode::Nft => self.ask(|socket| socket.chain_exists(tools.family, TableName::Nat.as_str(), DOCKER)),
            IptablesMode::Legacy => {
                self.with(|kernel| kernel.legacy.chain_exists(tools.family, TableName::Nat.as_str(), DOCKER)).ok()
            }
        }
    }

    /// Whether there are rules or chains in the tables that matter, by kumactl's measure: more than
    /// the built-in chains.
    pub(super) fn has_rules(&self, tools: &Toolset) -> Option<bool> {
        match tools.mode {
            IptablesMode::Nft => self.ask(|socket| socket.iptables_has_rules(tools.family))?,
            IptablesMode::Legacy => {
                let any = |table: TableName| self.with(|kernel| kernel.legacy.has_rules(tools.family, table));
                let found: io::Result<Vec<_>> = TableName::OURS.into_iter().map(any).collect();
                Some(found.ok()?.contains(&true))
            }
        }
    }

    /// What there is of an installation whose rules have comments.
    pub(super) fn seen(&self, tools: &Toolset) -> Option<Seen> {
        match tools.mode {
            IptablesMode::Nft => {
                let leftovers = self.ask(|socket| Ok(socket.leftovers()?.0.of(tools.family)))?;
                Some(match (leftovers.is_empty(), leftovers.is_plain()) {
                    (true, _) => Seen::Nothing,
                    (false, true) => Seen::Plain(leftovers),
                    (false, false) => Seen::Unclear,
                })
            }
            IptablesMode::Legacy if LegacyTables::of(tools.family).none() => Some(Seen::Nothing),
            IptablesMode::Legacy => Some(if self.with(|kernel| kernel.legacy.has_installation(tools.family)).ok()? {
                Seen::Unclear
            } else {
                Seen::Nothing
            }),
        }
    }

    /// What is ours in tables of iptables-legacy, for removal.
    pub(super) fn marked(&self, tools: &Toolset) -> Option<Ours> {
        let marked =
            (tools.mode == IptablesMode::Legacy).then(|| self.with(|kernel| kernel.legacy.marked(tools.family)))?;
        marked.ok()?.map(Ours::marked)
    }

    /// Removes an installation from tables of iptables-nft, in one step. False if that cannot be: nothing has been changed then.
    pub(super) fn remove(&self, family: FamilyName) -> bool {
        let attempt = |socket: &mut Socket| {
            let (leftovers, generation) = socket.leftovers()?;
            let leftovers = leftovers.of(family);
            if leftovers.is_empty() || !leftovers.is_plain() {
                return Ok(Some(leftovers.is_empty()));
            }
            // For this generation only: what is not what it was read as is not removed.
            let mut batch = Batch::new(Some(generation));
            batch.remove_leftovers(&leftovers);
            // If the answer was lost, the next look says what was done.
            match socket.send(&batch.commit()) {
                Ok(outcome) if outcome.failures.is_empty() => Ok(Some(true)),
                Ok(_) | Err(Stop::Unknown) => Ok(None),
                Err(stop) => Err(stop),
            }
        };
        (0..ATTEMPTS).find_map(|_| self.ask(attempt).unwrap_or(Some(false))).unwrap_or(false)
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Socket) -> Result<T, Stop>) -> Option<T> {
        self.with(|kernel| kernel.netfilter().and_then(question).ok())
    }
}
