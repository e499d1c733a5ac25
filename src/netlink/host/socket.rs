//! Requests to the kernel, and its answers.

use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::ask::{Present, READ};
use super::receive::receive;
use crate::netlink::batch::Finished;
use crate::netlink::constants::*;
use crate::netlink::wire::{Head, Messages, Writer, array};
use crate::netlink::{BatchReply, InvalidDump};
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
    pub(super) sequence: u32,
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
    pub(super) fn stream(
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
