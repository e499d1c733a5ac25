//! What is read of the tables in one piece: while the rules do not change.

use nix::errno::Errno;

use super::ask::Present;
use super::socket::{ATTEMPTS, Answer, Socket, Stop};
use super::{Leftovers, leftovers};
use crate::model::TableName;
use crate::net::FamilyName;
use crate::netlink::batch::number;
use crate::netlink::constants::*;
use crate::netlink::decode::Decoder;
use crate::netlink::wire::{Head, Writer};
use crate::netlink::{Dump, KernelTable};
use crate::nftables::{Marker, TABLE};

/// The families that have a table of our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnTables {
    /// In which it is ours.
    pub(crate) ours: Vec<FamilyName>,
    /// In which it is somebody else's.
    pub(crate) taken: Vec<FamilyName>,
}

/// What the table of a family may have in it, asked for only where there is one. Sets that are the same are only compared with it
/// while they are listed, so that there is never a second one in memory.
pub(super) type Expected<'a> = dyn Fn(FamilyName) -> Option<&'a KernelTable> + 'a;

/// Nothing is known of what there may be.
pub(super) fn nothing_expected(_: FamilyName) -> Option<&'static KernelTable> {
    None
}

impl Socket {
    /// Everything in our tables, and the generation of the rules that it is true for.
    pub(crate) fn dump(&mut self, expected: &Expected<'_>) -> Result<(Dump, u32), Stop> {
        self.steadily(|socket, present| socket.dump_once(present, expected))
    }

    /// The rules in our tables, without the elements of their sets: listing these takes the kernel longer than in proportion.
    pub(crate) fn rules(&mut self) -> Result<Dump, Stop> {
        let read = |socket: &mut Self, present: &Present| {
            let mut decoder = Decoder::default();
            for family in FamilyName::ALL {
                if !socket.read_rules(present, family, &mut decoder)? {
                    return Ok(None);
                }
            }
            Ok(Some(decoder.finish()))
        };
        Ok(self.steadily(read)?.0)
    }

    /// Everything in our tables, and what older installations left in the tables of iptables.
    pub(crate) fn look(&mut self, expected: &Expected<'_>) -> Result<(Dump, Leftovers, u32), Stop> {
        let read = |socket: &mut Self, present: &Present| {
            Ok(socket.dump_once(present, expected)?.zip(socket.leftovers_once(present)?))
        };
        let ((dump, leftovers), generation) = self.steadily(read)?;
        Ok((dump, leftovers, generation))
    }

    /// What an uninstallation removes: the tables of ours, and leftovers.
    pub(crate) fn look_for_removal(&mut self) -> Result<(OwnTables, Leftovers, u32), Stop> {
        let read = |socket: &mut Self, present: &Present| {
            Ok(socket.tables_once(present)?.zip(socket.leftovers_once(present)?))
        };
        let ((tables, leftovers), generation) = self.steadily(read)?;
        Ok((tables, leftovers, generation))
    }

    /// What older installations left in the tables of iptables, and the generation of the rules that it is true for.
    pub(crate) fn leftovers(&mut self) -> Result<(Leftovers, u32), Stop> {
        self.steadily(Self::leftovers_once)
    }

    /// Reads something while the rules do not change, and says their generation. Which tables there are is known before.
    pub(super) fn steadily<T>(
        &mut self,
        mut read: impl FnMut(&mut Self, &Present) -> Result<Option<T>, Stop>,
    ) -> Result<(T, u32), Stop> {
        for _ in 0..ATTEMPTS {
            let present = match self.ahead.take() {
                Some(present) => present,
                None => self.present()?,
            };
            let asked = self.sequence;
            let found = read(self, &present);
            let (before, after) = match self.sequence == asked {
                // Nothing more was read.
                true => (present.before, present.after),
                false => (present.before, self.generation()?),
            };
            match found {
                Ok(Some(found)) if before == after => return Ok((found, after)),
                // A table that vanishes during the dump makes some of it fail.
                Ok(_) | Err(Stop::Invalid(_) | Stop::System(_, Errno::ENOENT)) if before != after => {}
                Ok(_) => {}
                Err(stop) => return Err(stop),
            }
        }
        Err(Stop::Restless)
    }

    /// `None` if it was interrupted.
    pub(super) fn dump_once(&mut self, present: &Present, expected: &Expected<'_>) -> Result<Option<Dump>, Stop> {
        let mut decoder = Decoder::default();
        for family in FamilyName::ALL {
            if !self.read_rules(present, family, &mut decoder)? {
                return Ok(None);
            }
            let content = decoder.dump.of(family);
            let sets: Vec<_> =
                content.into_iter().flat_map(|content| &content.sets).map(|set| set.name.clone()).collect();
            for set in sets {
                if !self.read_elements(family, &set, expected(family), &mut decoder)? {
                    return Ok(None);
                }
            }
        }
        Ok(Some(decoder.finish()))
    }

    /// Reads the elements of a set as they come. False if it was interrupted.
    fn read_elements(
        &mut self,
        family: FamilyName,
        set: &str,
        expected: Option<&KernelTable>,
        decoder: &mut Decoder,
    ) -> Result<bool, Stop> {
        let head = Head { kind: message::GETSETELEM, flags: NLM_F_DUMP, family: number(family), ..Head::default() };
        let name = |w: &mut Writer| {
            w.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
            w.text(NFTA_SET_ELEM_LIST_SET, set);
        };
        let mut read = Ok(());
        let interrupted = self.stream(head, name, |piece| match piece {
            None => {
                decoder.begin(family, set, expected);
                read = Ok(());
            }
            Some(datagram) if read.is_ok() => read = decoder.read(datagram),
            Some(_) => {}
        })?;
        read.map_err(Stop::Invalid)?;
        Ok(!interrupted)
    }

    /// Reads what is in the table of our name, but for the elements of its sets. False if it was interrupted.
    fn read_rules(&mut self, present: &Present, family: FamilyName, decoder: &mut Decoder) -> Result<bool, Stop> {
        let Some(table) = present.table(family, TABLE) else { return Ok(true) };
        decoder.read(table).map_err(Stop::Invalid)?;
        for kind in [message::GETCHAIN, message::GETSET, message::GETRULE] {
            // The table's name is attribute 1 of all of them.
            let list = self.get(family, kind, NLM_F_DUMP, |w| w.text(NFTA_RULE_TABLE, TABLE))?;
            if list.interrupted {
                return Ok(false);
            }
            decoder.read(&list.bytes).map_err(Stop::Invalid)?;
        }
        Ok(true)
    }

    /// `None` if it was interrupted. Of tables that are not ours, this reads the names, the chains,
    /// and the rules of the built-in chains that installations put rules into.
    fn leftovers_once(&mut self, present: &Present) -> Result<Option<Leftovers>, Stop> {
        let mut leftovers = Leftovers::default();
        for family in FamilyName::ALL {
            let found: Vec<_> =
                TableName::OURS.into_iter().filter(|table| present.table(family, table.as_str()).is_some()).collect();
            if found.is_empty() {
                continue;
            }
            found.iter().for_each(|table| leftovers.enter(family, *table));
            // Kernels list the chains of all tables of the family; those of other programs are passed over.
            let chains = self.get(family, message::GETCHAIN, NLM_F_DUMP, |_| {})?;
            if chains.interrupted {
                return Ok(None);
            }
            leftovers.read(&chains.bytes);
            for table in found {
                let builtin = leftovers::CHAINS.iter().map(|chain| chain.as_str().to_owned());
                for chain in builtin.chain(leftovers.chains(family, table)) {
                    let rules = self.get(family, message::GETRULE, NLM_F_DUMP, |w| {
                        w.text(NFTA_RULE_TABLE, table.as_str());
                        w.text(NFTA_RULE_CHAIN, &chain);
                    })?;
                    if rules.interrupted {
                        return Ok(None);
                    }
                    leftovers.read(&rules.bytes);
                }
            }
        }
        Ok(Some(leftovers))
    }

    /// The tables of our name.
    pub(crate) fn tables(&mut self) -> Result<OwnTables, Stop> {
        Ok(self.steadily(Self::tables_once)?.0)
    }

    /// `None` if it was interrupted.
    fn tables_once(&mut self, present: &Present) -> Result<Option<OwnTables>, Stop> {
        let mut decoder = Decoder::default();
        let mut marked = Vec::new();
        for family in FamilyName::ALL.into_iter().filter(|family| present.table(*family, TABLE).is_some()) {
            // Elsewhere a look at the rules tells whose it is.
            match self.chain_exists(family, TABLE, Marker::CHAIN)? {
                true => marked.push(family),
                false if !self.read_rules(present, family, &mut decoder)? => return Ok(None),
                false => {}
            }
        }
        let dump = decoder.finish();
        let ours = |family: &FamilyName| marked.contains(family) || dump.of(*family).is_some();
        Ok(Some(OwnTables { ours: FamilyName::ALL.into_iter().filter(ours).collect(), taken: dump.taken }))
    }

    fn get(&mut self, family: FamilyName, kind: u16, flags: u16, body: impl Fn(&mut Writer)) -> Result<Answer, Stop> {
        self.send_request(Head { kind, flags, family: number(family), ..Head::default() }, body)
    }
}
