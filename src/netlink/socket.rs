use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::batch::{Finished, number};
use super::constants::*;
use super::wire::{Head, Messages, Writer, array};
use super::{Dump, InvalidDump, Leftovers, Outcome, leftovers, options};
use crate::model::TableName;
use crate::net::FamilyName;
use crate::nftables::{Marker, TABLE};

/// How many times a dump is begun again because the rules changed meanwhile.
const ATTEMPTS: usize = 64;

/// How long the kernel may take for an answer, in seconds. It answers at once; this is so that a
/// defect cannot make anybody wait for ever.
const PATIENCE: i64 = 30;

/// More datagrams than can wait to be read, unless somebody keeps sending them.
const QUEUE: usize = 10_000;

/// Room for one datagram. The kernel cuts dumps into pieces of at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;

/// A socket to the kernel's netfilter, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

/// The families that have a table of our name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnTables {
    /// In which it is ours.
    pub(crate) ours: Vec<FamilyName>,
    /// In which it is somebody else's.
    pub(crate) taken: Vec<FamilyName>,
}

/// Why something could not be done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The kernel has no netfilter netlink.
    Missing,
    /// The system refused.
    System(&'static str, Errno),
    /// A batch of so many bytes does not fit the socket's buffer.
    TooLong(usize),
    /// The kernel's answers were lost: what it did is not known.
    Unknown,
    /// The rules kept changing.
    Restless,
    /// The answer makes no sense.
    Invalid(InvalidDump),
}

impl Socket {
    pub(crate) fn open() -> Result<Self, Stop> {
        Self::open_for(SockProtocol::NetlinkNetFilter)
    }

    /// The same to another part of the kernel.
    pub(super) fn open_for(protocol: SockProtocol) -> Result<Self, Stop> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol);
        let fd = match fd {
            Err(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => return Err(Stop::Missing),
            other => other.map_err(|errno| Stop::System("open a netlink socket", errno))?,
        };
        let set_up = |errno| Stop::System("set up a netlink socket", errno);
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(set_up)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE)).map_err(set_up)?;
        // Kernels from before 4.12 know neither; errors are then without details.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = options::set(fd.as_fd(), libc::SOL_NETLINK, option, 1);
        }
        Ok(Self { fd, sequence: 0x8000_0000, buffer: vec![0; DATAGRAM] })
    }

    /// Sends a batch and reads what the kernel says to it. It has been carried out if the outcome is
    /// an acknowledgement without failures and the batch was to be committed.
    pub(crate) fn send(&mut self, batch: &Finished) -> Result<Outcome, Stop> {
        self.make_room(batch.bytes.len());
        self.send_bytes(&batch.bytes)?;
        // The kernel has answered everything when sending returns.
        let mut outcome = Outcome::default();
        let lost = self.read_all(|datagram| outcome.read(batch, datagram))?;
        // One failure is enough to know that nothing was carried out. An acknowledgement is not enough
        // to know that nothing failed.
        if outcome.failures.is_empty() && (lost || !outcome.acknowledged) {
            return Err(Stop::Unknown);
        }
        Ok(outcome)
    }

    /// Reads all that waits to be read, and says whether something was lost. Once something was, the
    /// kernel throws away all further answers until everything has been read.
    pub(super) fn read_all(&mut self, mut datagram: impl FnMut(&[u8])) -> Result<bool, Stop> {
        let mut lost = false;
        for _ in 0..QUEUE {
            match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(length) => datagram(&self.buffer[..length]),
                Err(Stop::Unknown) => lost = true,
                Err(Stop::System(_, Errno::EAGAIN)) => return Ok(lost),
                Err(stop) => return Err(stop),
            }
        }
        Ok(true)
    }

    /// Everything in our tables, and the generation of the rules that it is true for.
    pub(crate) fn dump(&mut self) -> Result<(Dump, u32), Stop> {
        self.steadily(Self::dump_once)
    }

    /// The rules in our tables, without the elements of their sets: listing these takes the kernel longer than in proportion.
    pub(crate) fn rules(&mut self) -> Result<Dump, Stop> {
        let read = |socket: &mut Self| {
            let mut dump = Dump::default();
            for family in FamilyName::ALL {
                if !socket.read_rules(family, &mut dump)? {
                    return Ok(None);
                }
            }
            dump.finish();
            Ok(Some(dump))
        };
        Ok(self.steadily(read)?.0)
    }

    /// Everything in our tables, and what older installations left in the tables of iptables.
    pub(crate) fn look(&mut self) -> Result<(Dump, Leftovers, u32), Stop> {
        let read = |socket: &mut Self| Ok(socket.dump_once()?.zip(socket.leftovers_once()?));
        let ((dump, leftovers), generation) = self.steadily(read)?;
        Ok((dump, leftovers, generation))
    }

    /// What an uninstallation removes: the tables of ours, and leftovers.
    pub(crate) fn look_for_removal(&mut self) -> Result<(OwnTables, Leftovers, u32), Stop> {
        let read = |socket: &mut Self| Ok(socket.tables_once()?.zip(socket.leftovers_once()?));
        let ((tables, leftovers), generation) = self.steadily(read)?;
        Ok((tables, leftovers, generation))
    }

    /// What older installations left in the tables of iptables, and the generation of the rules that it is true for.
    pub(crate) fn leftovers(&mut self) -> Result<(Leftovers, u32), Stop> {
        self.steadily(Self::leftovers_once)
    }

    /// Reads something while the rules do not change, and says their generation.
    pub(super) fn steadily<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<Option<T>, Stop>,
    ) -> Result<(T, u32), Stop> {
        for _ in 0..ATTEMPTS {
            let before = self.generation()?;
            let found = read(self);
            let after = self.generation()?;
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
    pub(super) fn dump_once(&mut self) -> Result<Option<Dump>, Stop> {
        let mut dump = Dump::default();
        for family in FamilyName::ALL {
            if !self.read_rules(family, &mut dump)? {
                return Ok(None);
            }
            let sets: Vec<_> =
                dump.of(family).into_iter().flat_map(|content| &content.sets).map(|set| set.name.clone()).collect();
            for set in sets {
                let list = self.get(family, message::GETSETELEM, NLM_F_DUMP, |w| {
                    w.text(NFTA_SET_ELEM_LIST_TABLE, TABLE);
                    w.text(NFTA_SET_ELEM_LIST_SET, &set);
                })?;
                if list.interrupted {
                    return Ok(None);
                }
                dump.read(&list.bytes).map_err(Stop::Invalid)?;
            }
        }
        dump.finish();
        Ok(Some(dump))
    }

    /// Reads what is in the table of our name, but for the elements of its sets. False if it was interrupted.
    fn read_rules(&mut self, family: FamilyName, dump: &mut Dump) -> Result<bool, Stop> {
        let found = self.get(family, message::GETTABLE, 0, |w| w.text(NFTA_TABLE_NAME, TABLE));
        let table = match found {
            Ok(table) => table,
            // A family that the kernel does not have has no table of ours.
            Err(Stop::System(_, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => return Ok(true),
            Err(stop) => return Err(stop),
        };
        dump.read(&table.bytes).map_err(Stop::Invalid)?;
        for kind in [message::GETCHAIN, message::GETSET, message::GETRULE] {
            // The table's name is attribute 1 of all of them.
            let list = self.get(family, kind, NLM_F_DUMP, |w| w.text(NFTA_RULE_TABLE, TABLE))?;
            if list.interrupted {
                return Ok(false);
            }
            dump.read(&list.bytes).map_err(Stop::Invalid)?;
        }
        Ok(true)
    }

    /// `None` if it was interrupted. Of tables that are not ours, this reads the names, the chains,
    /// and the rules of the built-in chains that installations put rules into.
    fn leftovers_once(&mut self) -> Result<Option<Leftovers>, Stop> {
        let mut leftovers = Leftovers::default();
        for family in FamilyName::ALL {
            let mut found = Vec::new();
            for table in TableName::OURS {
                match self.get(family, message::GETTABLE, 0, |w| w.text(NFTA_TABLE_NAME, table.as_str())) {
                    Ok(_) => found.push(table),
                    Err(Stop::System(_, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => {}
                    Err(stop) => return Err(stop),
                }
            }
            if found.is_empty() {
                continue;
            }
            found.iter().for_each(|table| leftovers.enter(family, *table));
            // Kernels list the chains of all tables of the family; those of others are passed over.
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
    fn tables_once(&mut self) -> Result<Option<OwnTables>, Stop> {
        let mut dump = Dump::default();
        let mut marked = Vec::new();
        for family in FamilyName::ALL {
            // Elsewhere a look at the rules tells whose it is.
            match self.chain_exists(family, TABLE, Marker::CHAIN)? {
                true => marked.push(family),
                false if !self.read_rules(family, &mut dump)? => return Ok(None),
                false => {}
            }
        }
        dump.finish();
        let ours = |family: &FamilyName| marked.contains(family) || dump.of(*family).is_some();
        Ok(Some(OwnTables { ours: FamilyName::ALL.into_iter().filter(ours).collect(), taken: dump.taken }))
    }

    /// Whether a table of anybody has a chain of this name.
    pub(crate) fn chain_exists(&mut self, family: FamilyName, table: &str, chain: &str) -> Result<bool, Stop> {
        let found = self.get(family, message::GETCHAIN, 0, |w| {
            w.text(NFTA_CHAIN_TABLE, table);
            w.text(NFTA_CHAIN_NAME, chain);
        });
        match found {
            Ok(_) => Ok(true),
            Err(Stop::System(_, Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// The generation of the rules, which each change counts up.
    fn generation(&mut self) -> Result<u32, Stop> {
        let answer = match self.send_request(Head { kind: message::GETGEN, ..Head::default() }, |_| {}) {
            // There is nothing in this request that could be invalid, so nobody is there to read it.
            Err(Stop::System(_, Errno::EINVAL)) => return Err(Stop::Missing),
            other => other?,
        };
        Messages(&answer.bytes)
            .filter(|message| message.kind == message::NEWGEN)
            .find_map(|message| message.generic()?.1.number(NFTA_GEN_ID))
            .ok_or(Stop::System("read the generation of the rules", Errno::EPROTO))
    }

    fn get(&mut self, family: FamilyName, kind: u16, flags: u16, body: impl Fn(&mut Writer)) -> Result<Answer, Stop> {
        self.send_request(Head { kind, flags, family: number(family), ..Head::default() }, body)
    }

    /// Sends one request that changes nothing and reads the whole answer: one message, or those of a
    /// dump. Asks again if it was lost.
    pub(super) fn send_request(&mut self, head: Head, body: impl Fn(&mut Writer)) -> Result<Answer, Stop> {
        for _ in 0..ATTEMPTS {
            match self.ask(head, &body) {
                Err(Stop::Unknown | Stop::System(_, Errno::ENOBUFS)) => _ = self.read_all(|_| ())?,
                other => return other,
            }
        }
        Err(Stop::System("read nf_tables rules", Errno::ENOBUFS))
    }

    fn ask(&mut self, head: Head, body: impl Fn(&mut Writer)) -> Result<Answer, Stop> {
        let sequence = self.next_sequence();
        let mut writer = Writer::default();
        writer.message(Head { flags: head.flags | NLM_F_REQUEST, sequence, ..head }, body);
        let mut bytes = Vec::new();
        let interrupted = self.exchange(&writer.finish(), sequence, head.flags & NLM_F_DUMP != 0, |datagram| {
            bytes.extend(datagram);
        })?;
        Ok(Answer { bytes, interrupted })
    }

    /// A number for a request that no other has.
    pub(super) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1) | 0x8000_0000;
        self.sequence
    }

    /// Sends a request of this number and hands over the datagrams of the whole answer: one message, or those of a dump. Says
    /// whether what is dumped changed meanwhile.
    pub(super) fn exchange(
        &mut self,
        request: &[u8],
        sequence: u32,
        dump: bool,
        mut each: impl FnMut(&[u8]),
    ) -> Result<bool, Stop> {
        self.send_bytes(request)?;
        let mut interrupted = false;
        loop {
            let length = self.receive(MsgFlags::empty())?;
            let datagram = &self.buffer[..length];
            let mut done = !dump;
            for message in Messages(datagram).filter(|message| message.sequence == sequence) {
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                // Both begin with a number: an error, or how the dump went.
                let code = array(message.body, 0).map_or(0, i32::from_ne_bytes);
                match message.kind {
                    NLMSG_ERROR | NLMSG_DONE if code < 0 => {
                        return Err(Stop::System("read nf_tables rules", Errno::from_raw(code.saturating_neg())));
                    }
                    NLMSG_ERROR | NLMSG_DONE => done = true,
                    _ => {}
                }
            }
            // What is no answer to this request is passed over when it is read.
            if Messages(datagram).any(|message| message.sequence == sequence) {
                each(datagram);
            } else {
                done = false;
            }
            if done {
                return Ok(interrupted);
            }
        }
    }

    /// Sees to it that so many bytes can be sent at once, as far as that is possible.
    fn make_room(&self, bytes: usize) {
        // The kernel doubles what it is given, and keeps some for itself.
        let wanted = bytes.saturating_add(4096);
        if nix::sys::socket::getsockopt(&self.fd, sockopt::SndBuf).is_ok_and(|room| room >= wanted.saturating_add(4096))
        {
            return;
        }
        // Past the system's limit only with CAP_NET_ADMIN outside of all user namespaces.
        if setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
            let _ = setsockopt(&self.fd, sockopt::SndBuf, &wanted);
        }
    }

    pub(super) fn send_bytes(&self, bytes: &[u8]) -> Result<(), Stop> {
        loop {
            return match sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(Errno::EMSGSIZE) => Err(Stop::TooLong(bytes.len())),
                Err(errno) => Err(Stop::System("send to the kernel's nf_tables", errno)),
            };
        }
    }

    /// Reads a datagram into the buffer.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, Stop> {
        loop {
            return match recv(self.fd.as_raw_fd(), &mut self.buffer, flags | MsgFlags::MSG_TRUNC) {
                Ok(length) if length > self.buffer.len() => {
                    Err(Stop::System("read an answer of nf_tables", Errno::EMSGSIZE))
                }
                Ok(length) => Ok(length),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => Err(Stop::Unknown),
                Err(errno) => Err(Stop::System("read an answer of nf_tables", errno)),
            };
        }
    }
}

/// The messages that answer a request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Whether the rules changed during the dump.
    pub(super) interrupted: bool,
}
