use super::constants::*;
use super::elements::Key;
use super::kernel_table::{ChainContent, KernelTable, SetContent};
use super::wire::{Head, Writer};
use crate::net::FamilyName;
use crate::nftables::TABLE;

/// The longest list of elements that is written into one message, in bytes. The length of an
/// attribute has 16 bits.
const PIECE: usize = 48 * 1024;

/// Room for the rules of a usual plan, in bytes, so that encoding them allocates once.
const ROOM: usize = 64 * 1024;

/// Messages that the kernel carries out all together or not at all.
///
/// ```
/// use kumatp::netlink::{Batch, KernelTable};
/// use kumatp::nftables::Native;
/// # let facts = kumatp::facts::Facts::capable_host(kumatp::net::Uid::SIDECAR);
/// # let plan = kumatp::policy::plan(&Default::default(), &facts)?;
/// let native = Native::of(&plan);
/// let mut batch = Batch::new(None);
/// for table in native.tables() {
///     batch.remove(table.family);
///     batch.add(table.family, &KernelTable::of(table));
/// }
/// assert!(batch.commit().bytes().len() > 4_000);
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    writer: Writer,
    table: &'static str,
    /// What each message is about; the number of a message is its place here plus 1.
    objects: Vec<Object>,
    /// Where each message begins.
    starts: Vec<usize>,
    sets: u32,
}

/// What a message of a batch is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Object {
    /// The batch as a whole.
    Batch,
    /// The table of a family.
    Table {
        /// The family.
        family: FamilyName,
    },
    /// A chain.
    Chain {
        /// The family of its table.
        family: FamilyName,
        /// Its name.
        chain: String,
    },
    /// A set, or elements of it.
    Set {
        /// The family of its table.
        family: FamilyName,
        /// Its name.
        set: String,
    },
    /// A chain that an older installation left in a table of iptables, or rules of ours in it.
    Leftover {
        /// The family of the table.
        family: FamilyName,
        /// The name of the table.
        table: &'static str,
        /// The name of the chain.
        chain: String,
    },
    /// A rule.
    Rule {
        /// The family of its table.
        family: FamilyName,
        /// The name of its chain.
        chain: String,
        /// Its place in the chain, counted from 0.
        index: usize,
    },
}

impl Batch {
    /// A batch with nothing in it. With a generation, the kernel carries it out only if the rules of
    /// the network namespace have not changed since they had that generation.
    pub fn new(generation: Option<u32>) -> Self {
        Self::of_table(TABLE, generation)
    }

    pub(crate) fn of_table(table: &'static str, generation: Option<u32>) -> Self {
        let mut batch =
            Self { writer: Writer::with_room(ROOM), table, objects: Vec::new(), starts: Vec::new(), sets: 0 };
        let head = Head { kind: NFNL_MSG_BATCH_BEGIN, resource: NFNL_SUBSYS_NFTABLES, ..Head::default() };
        batch.push(head, Object::Batch, |writer| {
            if let Some(generation) = generation {
                writer.number(NFNL_BATCH_GENID, generation);
            }
        });
        batch
    }

    /// Removes the table of a family with all that is in it, if it is there.
    pub fn remove(&mut self, family: FamilyName) {
        // A table cannot be deleted if it is not there, so it is added first.
        self.add_table(family);
        let table = self.table;
        let head = Head { kind: message::DELTABLE, family: number(family), ..Head::default() };
        self.push(head, Object::Table { family }, |writer| writer.text(NFTA_TABLE_NAME, table));
    }

    /// Adds a table, which must not be there or have been removed before in the same batch.
    pub fn add(&mut self, family: FamilyName, content: &KernelTable) {
        self.add_table(family);
        for chain in &content.chains {
            self.add_chain(family, chain);
        }
        let first_id = self.sets + 1;
        for set in &content.sets {
            self.add_set(family, set);
        }
        let table = self.table;
        let ids = |name: &str| {
            let index = content.sets.iter().position(|set| set.name == name)?;
            u32::try_from(index).ok().map(|index| first_id + index)
        };
        for chain in &content.chains {
            for (index, rule) in chain.rules.iter().enumerate() {
                let head = Head {
                    kind: message::NEWRULE,
                    flags: NLM_F_CREATE | NLM_F_APPEND,
                    family: number(family),
                    ..Head::default()
                };
                self.push(head, Object::Rule { family, chain: chain.name.clone(), index }, |writer| {
                    writer.text(NFTA_RULE_TABLE, table);
                    writer.text(NFTA_RULE_CHAIN, &chain.name);
                    writer.nest(NFTA_RULE_EXPRESSIONS, |writer| {
                        for expression in &rule.expressions {
                            expression.write(writer, ids);
                        }
                    });
                    if !rule.userdata.is_empty() {
                        writer.bytes(NFTA_RULE_USERDATA, &rule.userdata);
                    }
                });
            }
        }
    }

    fn add_table(&mut self, family: FamilyName) {
        let table = self.table;
        let head = Head { kind: message::NEWTABLE, flags: NLM_F_CREATE, family: number(family), ..Head::default() };
        self.push(head, Object::Table { family }, |writer| {
            writer.text(NFTA_TABLE_NAME, table);
            writer.number(NFTA_TABLE_FLAGS, 0);
        });
    }

    fn add_chain(&mut self, family: FamilyName, chain: &ChainContent) {
        let table = self.table;
        let head = Head { kind: message::NEWCHAIN, flags: NLM_F_CREATE, family: number(family), ..Head::default() };
        self.push(head, Object::Chain { family, chain: chain.name.clone() }, |writer| {
            writer.text(NFTA_CHAIN_TABLE, table);
            writer.text(NFTA_CHAIN_NAME, &chain.name);
            if let Some(base) = &chain.base {
                writer.nest(NFTA_CHAIN_HOOK, |writer| {
                    writer.number(NFTA_HOOK_HOOKNUM, base.hook);
                    writer.bytes(NFTA_HOOK_PRIORITY, &base.priority.to_be_bytes());
                });
                writer.number(NFTA_CHAIN_POLICY, base.policy);
                writer.text(NFTA_CHAIN_TYPE, &base.kind);
            }
        });
    }

    fn add_set(&mut self, family: FamilyName, set: &SetContent) {
        self.sets += 1;
        let (table, id) = (self.table, self.sets);
        let object = || Object::Set { family, set: set.name.clone() };
        let head = Head { kind: message::NEWSET, flags: NLM_F_CREATE, family: number(family), ..Head::default() };
        self.push(head, object(), |writer| {
            writer.text(NFTA_SET_TABLE, table);
            writer.text(NFTA_SET_NAME, &set.name);
            writer.number(NFTA_SET_FLAGS, set.flags);
            writer.number(NFTA_SET_KEY_TYPE, set.key_type);
            writer.number(NFTA_SET_KEY_LEN, set.key_len);
            writer.number(NFTA_SET_ID, id);
            writer.bytes(NFTA_SET_USERDATA, &set.userdata());
        });
        // The end at 0 is what nft begins such a list with, unless an interval begins there.
        let width = set.key_len as usize;
        let zero = (Key::Number([0; 16], width), NFT_SET_ELEM_INTERVAL_END);
        let begins_at_0 =
            set.elements.iter(width).next().is_some_and(|(key, _)| key.bytes().iter().all(|byte| *byte == 0));
        let mut elements = (!begins_at_0).then_some(zero).into_iter().chain(set.elements.iter(width)).peekable();
        // The most that an element takes, with its interval flag or userdata, and all headers.
        let size = 4 + 4 + 4 + width.next_multiple_of(4) + 12;
        while elements.peek().is_some() {
            let head =
                Head { kind: message::NEWSETELEM, flags: NLM_F_CREATE, family: number(family), ..Head::default() };
            self.push(head, object(), |writer| {
                writer.text(NFTA_SET_ELEM_LIST_TABLE, table);
                writer.text(NFTA_SET_ELEM_LIST_SET, &set.name);
                writer.number(NFTA_SET_ELEM_LIST_SET_ID, id);
                writer.nest(NFTA_SET_ELEM_LIST_ELEMENTS, |writer| {
                    for _ in 0..PIECE / size {
                        let Some((key, flags)) = elements.next() else { break };
                        write_element(writer, key.bytes(), flags, flags == 0 && elements.peek().is_none());
                    }
                });
            });
        }
    }

    pub(super) fn push(&mut self, head: Head, object: Object, body: impl FnOnce(&mut Writer)) {
        self.objects.push(object);
        // A batch of 4 thousand million messages would not fit any buffer.
        let sequence = self.objects.len() as u32;
        self.starts.push(self.writer.len());
        self.writer.message(Head { flags: head.flags | NLM_F_REQUEST, sequence, ..head }, body);
    }

    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.objects.len() < 2
    }

    /// The finished batch, which the kernel carries out.
    pub fn commit(self) -> Finished {
        self.finish(true)
    }

    /// The batch without its end: the kernel looks whether it could carry it out, and does not.
    pub fn rehearse(self) -> Finished {
        self.finish(false)
    }

    fn finish(mut self, commit: bool) -> Finished {
        // One acknowledgement, on the last message that does something: acknowledging each would
        // overflow the receive buffer, and the end of a batch is not acknowledged by all kernels.
        if let Some(start) = self.starts.last() {
            self.writer.add_flags(*start, NLM_F_ACK);
        }
        let last = self.objects.len() as u32;
        if commit {
            let head = Head { kind: NFNL_MSG_BATCH_END, resource: NFNL_SUBSYS_NFTABLES, ..Head::default() };
            self.push(head, Object::Batch, |_| {});
        }
        Finished { bytes: self.writer.finish(), objects: self.objects, starts: self.starts, last }
    }
}

/// A batch that can be sent.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished {
    pub(super) bytes: Vec<u8>,
    pub(super) objects: Vec<Object>,
    pub(super) starts: Vec<usize>,
    /// The number of the message that is acknowledged.
    pub(super) last: u32,
}

impl Finished {
    /// The messages, to be sent in one piece.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn write_element(writer: &mut Writer, key: &[u8], flags: u32, open: bool) {
    writer.nest(NFTA_LIST_ELEM, |writer| {
        if flags != 0 {
            writer.number(NFTA_SET_ELEM_FLAGS, flags);
        }
        writer.nest(NFTA_SET_ELEM_KEY, |writer| writer.bytes(NFTA_DATA_VALUE, key));
        if open {
            let flags = userdata::ELEMENT_INTERVAL_OPEN.to_ne_bytes();
            writer.bytes(NFTA_SET_ELEM_USERDATA, &[&[userdata::ELEMENT_FLAGS, 4], &flags[..]].concat());
        }
    });
}

/// The number of a family in messages.
pub(super) fn number(family: FamilyName) -> u8 {
    match family {
        FamilyName::V4 => NFPROTO_IPV4,
        FamilyName::V6 => NFPROTO_IPV6,
    }
}
