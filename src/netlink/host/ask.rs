//! Several questions to nf_tables by one system call, and their answers by another.

use nix::errno::Errno;

use super::socket::{ATTEMPTS, Socket, Stop};
use crate::model::TableName;
use crate::net::FamilyName;
use crate::netlink::batch::number;
use crate::netlink::constants::*;
use crate::netlink::wire::{Head, Message, Messages, Writer, array};
use crate::nftables::TABLE;

impl Socket {
    /// Asks in one go which of the tables of ours and of iptables there are.
    pub(super) fn present(&mut self) -> Result<Present, Stop> {
        let names = || [TABLE].into_iter().chain(TableName::OURS.map(TableName::as_str));
        let asked: Vec<_> =
            FamilyName::ALL.into_iter().flat_map(|family| names().map(move |name| (family, name))).collect();
        let mut requests = vec![Request::generation()];
        requests.extend(asked.iter().map(|(family, name)| Request::table(*family, name)));
        requests.extend(FamilyName::ALL.map(|family| Request::chain(family, TableName::Nat.as_str(), DOCKER_OUTPUT)));
        requests.push(Request::generation());
        let mut answers = self.ask_all(&requests)?;
        let after = generation(answers.pop().unwrap_or(Err(Errno::EPROTO)))?;
        let mut answers = answers.into_iter();
        let before = generation(answers.next().unwrap_or(Err(Errno::EPROTO)))?;
        let mut tables = Vec::new();
        for ((family, name), answer) in asked.into_iter().zip(answers.by_ref()) {
            tables.extend(if_there(answer)?.map(|table| (family, name, table)));
        }
        let mut docker = Vec::new();
        for (family, answer) in FamilyName::ALL.into_iter().zip(answers) {
            docker.extend(if_there(answer)?.map(|_| family));
        }
        Ok(Present { before, tables, docker, after })
    }

    /// The families in which Docker translates queries to its DNS server.
    pub(crate) fn docker(&mut self) -> Result<Vec<FamilyName>, Stop> {
        Ok(self.present()?.docker)
    }

    /// The same where a look follows, which begins with what is known by now.
    pub(crate) fn docker_ahead(&mut self) -> Result<Vec<FamilyName>, Stop> {
        let present = self.present()?;
        Ok(self.ahead.insert(present).docker.clone())
    }

    /// Whether a table of anybody has a chain of this name.
    pub(crate) fn chain_exists(&mut self, family: FamilyName, table: &str, chain: &str) -> Result<bool, Stop> {
        let answer = self.ask_all(&[Request::chain(family, table, chain)])?.pop();
        Ok(if_there(answer.unwrap_or(Err(Errno::EPROTO)))?.is_some())
    }

    /// The generation of the rules, which each change counts up.
    pub(super) fn generation(&mut self) -> Result<u32, Stop> {
        generation(self.ask_all(&[Request::generation()])?.pop().unwrap_or(Err(Errno::EPROTO)))
    }

    /// Sends requests that are answered by a message each in one piece, and returns the answers. Asks again if some were lost.
    fn ask_all(&mut self, requests: &[Request]) -> Result<Vec<Result<Vec<u8>, Errno>>, Stop> {
        for _ in 0..ATTEMPTS {
            let mut first = None;
            let mut writer = Writer::default();
            for Request { kind, family, body } in requests {
                let sequence = self.next_sequence();
                first.get_or_insert(sequence);
                let head = Head { kind: *kind, flags: NLM_F_REQUEST, sequence, family: *family, resource: 0 };
                writer.message(head, |w| w.raw(body));
            }
            self.send_bytes(&writer.finish())?;
            let mut answers: Vec<_> = requests.iter().map(|_| None).collect();
            // The kernel has answered everything when sending returns.
            self.read_all(|datagram| {
                for message in Messages(datagram) {
                    if let Some(answer) =
                        answers.get_mut(message.sequence.wrapping_sub(first.unwrap_or_default()) as usize)
                    {
                        *answer = Some(refusal(&message).map_or_else(|| Ok(datagram.to_vec()), Err));
                    }
                }
            })?;
            // Whoever may not ask at all is told so once.
            if let [Some(Err(errno @ (Errno::EPERM | Errno::EACCES))), None, ..] = answers[..] {
                return Err(Stop::System(READ, errno));
            }
            if let Some(answers) = answers.into_iter().collect() {
                return Ok(answers);
            }
        }
        Err(Stop::System(READ, Errno::ENOBUFS))
    }
}

/// The chain in which Docker translates queries to its DNS server.
pub(crate) const DOCKER_OUTPUT: &str = "DOCKER_OUTPUT";

/// What is done when something is read.
pub(super) const READ: &str = "read nf_tables rules";

/// A request that is answered by one message.
struct Request {
    kind: u16,
    family: u8,
    body: Vec<u8>,
}

impl Request {
    fn new(kind: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Self {
        let mut writer = Writer::default();
        body(&mut writer);
        Self { kind, family, body: writer.finish() }
    }

    fn generation() -> Self {
        Self::new(message::GETGEN, 0, |_| {})
    }

    fn table(family: FamilyName, name: &str) -> Self {
        Self::new(message::GETTABLE, number(family), |w| w.text(NFTA_TABLE_NAME, name))
    }

    fn chain(family: FamilyName, table: &str, chain: &str) -> Self {
        Self::new(message::GETCHAIN, number(family), |w| {
            w.text(NFTA_CHAIN_TABLE, table);
            w.text(NFTA_CHAIN_NAME, chain);
        })
    }
}

/// Which of the tables of ours and of iptables there are, and the generations of the rules before and after they were looked for.
#[derive(Debug)]
pub(super) struct Present {
    pub(super) before: u32,
    /// With what the kernel says of each.
    tables: Vec<(FamilyName, &'static str, Vec<u8>)>,
    /// The families in which Docker translates queries to its DNS server.
    pub(super) docker: Vec<FamilyName>,
    pub(super) after: u32,
}

impl Present {
    pub(super) fn table(&self, family: FamilyName, name: &str) -> Option<&[u8]> {
        let found = self.tables.iter().find(|table| (table.0, table.1) == (family, name))?;
        Some(&found.2)
    }
}

/// What there is, if it is there. A family that the kernel does not have has nothing.
fn if_there(answer: Result<Vec<u8>, Errno>) -> Result<Option<Vec<u8>>, Stop> {
    match answer {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Errno::ENOENT | Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT) => Ok(None),
        Err(errno) => Err(Stop::System(READ, errno)),
    }
}

/// The error that a message is, if it is one.
fn refusal(message: &Message<'_>) -> Option<Errno> {
    let code = array(message.body, 0).map_or(0, i32::from_ne_bytes);
    (message.kind == NLMSG_ERROR && code < 0).then(|| Errno::from_raw(code.saturating_neg()))
}

/// The generation of the rules in an answer.
fn generation(answer: Result<Vec<u8>, Errno>) -> Result<u32, Stop> {
    let bytes = match answer {
        // There is nothing in this request that could be invalid, so nobody is there to read it.
        Err(Errno::EINVAL) => return Err(Stop::Missing),
        other => other.map_err(|errno| Stop::System(READ, errno))?,
    };
    Messages(&bytes)
        .filter(|message| message.kind == message::NEWGEN)
        .find_map(|message| message.generic()?.1.number(NFTA_GEN_ID))
        .ok_or(Stop::System("read the generation of the rules", Errno::EPROTO))
}
