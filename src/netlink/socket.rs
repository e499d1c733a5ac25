use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::ask::{Present, READ};
use super::batch::{Finished, number};
use super::constants::*;
use super::decode::Decoder;
use super::receive::receive;
use super::wire::{Head, Messages, Writer, array};
use super::{BatchReply, Dump, InvalidDump, KernelTable, Leftovers, leftovers};
use crate::model::TableName;
use crate::net::FamilyName;
use crate::nftables::{Marker, TABLE};
use crate::socket_options;

/// How many times a dump is begun again because the rules changed meanwhile.
pub(super) const ATTEMPTS: usize = 64;

/// How long the kernel may take for an answer, in seconds. It answers at once; this is so that a
/// defect cannot make anybody wait for ever.
const PATIENCE: i64 = 30;

/// More datagrams than can wait to be read, unless somebody keeps sending them.
const QUEUE: usize = 10_000;

/// How many answers are read at once where none is long: 4 KiB for each.
const AT_ONCE: usize = 16;

/// How many pieces of a dump are read at once, each into its part of the buffer. The kernel cuts them to at most 32 KiB.
const DUMPED_AT_ONCE: usize = 2;

/// Room for all that is read at once.
const BUFFER: usize = 64 * 1024;

/// A socket to the kernel's netfilter, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    /// Whether the kernel knows how long it may take.
    patient: bool,
    /// What the next look begins with.
    pub(super) ahead: Option<Present>,
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

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
        let socket = Self::open_for(SockProtocol::NetlinkNetFilter, BUFFER)?;
        // Kernels from before 4.12 know neither; errors are then without details.
        for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK] {
            let _ = socket_options::set(socket.fd.as_fd(), libc::SOL_NETLINK, option, 1);
        }
        Ok(socket)
    }

    /// The same to another part of the kernel, which gives it a name with the first message.
    pub(super) fn open_for(protocol: SockProtocol, room: usize) -> Result<Self, Stop> {
        let fd = match socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol) {
            Err(Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT) => return Err(Stop::Missing),
            other => other.map_err(|errno| Stop::System("open a netlink socket", errno))?,
        };
        Ok(Self { fd, sequence: 0x8000_0000, buffer: vec![0; room], patient: false, ahead: None })
    }

    /// Sends a batch and reads what the kernel says to it. It has been carried out if the outcome is
    /// an acknowledgement without failures and the batch was to be committed.
    pub(crate) fn send(&mut self, batch: &Finished) -> Result<BatchReply, Stop> {
        match self.send_bytes(&batch.bytes) {
            Err(Stop::TooLong(bytes)) => {
                self.make_room(bytes);
                self.send_bytes(&batch.bytes)?;
            }
            sent => sent?,
        }
        // The kernel has answered everything when sending returns.
        let mut outcome = BatchReply::default();
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
            match self.receive_all() {
                Ok(datagrams) => {
                    let all = datagrams.len() < AT_ONCE;
                    datagrams.into_iter().for_each(|place| datagram(&self.buffer[place]));
                    if all {
                        return Ok(lost);
                    }
                }
                // One that was too long is gone as well.
                Err(Errno::ENOBUFS | Errno::EMSGSIZE) => lost = true,
                Err(Errno::EAGAIN) => return Ok(lost),
                Err(errno) => return Err(Stop::System("read an answer of nf_tables", errno)),
            }
        }
        Ok(true)
    }

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
            let content = decoder.so_far().of(family);
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

    /// Sends one request that changes nothing and reads the whole answer: one message, or those of a
    /// dump. Asks again if it was lost.
    pub(super) fn send_request(&mut self, head: Head, body: impl Fn(&mut Writer)) -> Result<Answer, Stop> {
        let mut bytes = Vec::new();
        let interrupted = self.stream(head, body, |piece| match piece {
            None => bytes.clear(),
            Some(datagram) => bytes.extend(datagram),
        })?;
        Ok(Answer { bytes, interrupted })
    }

    /// The same, and hands the answer over datagram by datagram; before the first of them, `None`, which may come again: then the
    /// answer begins anew. Says whether what is dumped changed meanwhile.
    fn stream(
        &mut self,
        head: Head,
        body: impl Fn(&mut Writer),
        mut each: impl FnMut(Option<&[u8]>),
    ) -> Result<bool, Stop> {
        for _ in 0..ATTEMPTS {
            let sequence = self.next_sequence();
            let mut writer = Writer::default();
            writer.message(Head { flags: head.flags | NLM_F_REQUEST, sequence, ..head }, &body);
            each(None);
            let dump = head.flags & NLM_F_DUMP != 0;
            match self.exchange(&writer.finish(), sequence, dump, |datagram| each(Some(datagram))) {
                Err(Stop::Unknown | Stop::System(_, Errno::ENOBUFS)) => _ = self.read_all(|_| ())?,
                other => return other,
            }
        }
        Err(Stop::System(READ, Errno::ENOBUFS))
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
        let (mut interrupted, mut end) = (false, None);
        while end.is_none() {
            for place in self.receive()? {
                let datagram = &self.buffer[place];
                let mut answers = false;
                // What is no answer to this request is passed over.
                for message in Messages(datagram).filter(|message| message.sequence == sequence) {
                    answers = true;
                    interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                    // Both begin with a number: an error, or how the dump went.
                    let code = array(message.body, 0).map_or(0, i32::from_ne_bytes);
                    match message.kind {
                        NLMSG_ERROR | NLMSG_DONE if code < 0 => {
                            end = Some(Err(Errno::from_raw(code.saturating_neg())));
                        }
                        NLMSG_ERROR | NLMSG_DONE => end = Some(Ok(())),
                        _ if !dump => end = Some(Ok(())),
                        _ => {}
                    }
                }
                if answers {
                    each(datagram);
                }
            }
        }
        end.unwrap_or(Ok(())).map(|()| interrupted).map_err(|errno| Stop::System(READ, errno))
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

    /// Reads what is there of a dump, or waits for it.
    fn receive(&mut self) -> Result<Vec<Range<usize>>, Stop> {
        // Nearly always it is there already.
        let mut flags = MsgFlags::MSG_DONTWAIT;
        loop {
            return match receive(self.fd.as_fd(), &mut self.buffer, DUMPED_AT_ONCE, flags) {
                Err(Errno::EAGAIN) if !flags.is_empty() => {
                    if !self.patient {
                        let limit = setsockopt(&self.fd, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE));
                        limit.map_err(|errno| Stop::System("set up a netlink socket", errno))?;
                        self.patient = true;
                    }
                    flags = MsgFlags::empty();
                    continue;
                }
                Err(Errno::ENOBUFS) => Err(Stop::Unknown),
                other => other.map_err(|errno| Stop::System("read an answer of nf_tables", errno)),
            };
        }
    }

    /// Reads several datagrams, if they are short, without waiting for any.
    fn receive_all(&mut self) -> Result<Vec<Range<usize>>, Errno> {
        receive(self.fd.as_fd(), &mut self.buffer, AT_ONCE, MsgFlags::MSG_DONTWAIT)
    }
}

/// The messages that answer a request.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) bytes: Vec<u8>,
    /// Whether the rules changed during the dump.
    pub(super) interrupted: bool,
}
