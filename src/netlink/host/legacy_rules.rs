//! What an installation has in tables of iptables-legacy, as its programs would list it, read from the kernel's own form of the
//! tables (linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, linux/netfilter/x_tables.h and those of the
//! extensions).
//!
//! Only rules of ours that are outside of our chains have to be said; of the others, where they lead and whose comment they have is
//! enough. What cannot be said here is none of the rules that installations have, and takes the programs' listing.

use super::legacy_spec::spec;
use crate::model::{BuiltinChain, ChainPair, Comment, TableName};
use crate::net::FamilyName;
use crate::netlink::wire::{array, text};

/// What is ours in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Marked {
    pub(crate) table: TableName,
    /// Our chains.
    pub(crate) chains: Vec<String>,
    /// The chains of the rules that are in ours, one for each rule.
    pub(crate) inside: Vec<String>,
    /// Our rules in built-in chains: the chain, the place from 1 on, and what iptables-save would say.
    pub(crate) outside: Vec<(String, usize, String)>,
}

/// An extension in an entry: its name, its revision and what it holds.
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) revision: u8,
    pub(super) data: &'a [u8],
}

/// A rule, a policy or the beginning of a chain.
pub(super) struct Entry<'a> {
    pub(super) head: &'a [u8],
    pub(super) matches: Vec<Part<'a>>,
    pub(super) target: Part<'a>,
}

/// The name of the target that begins a chain.
const ERROR: &str = "ERROR";

/// Reads what is ours in a table: its entries, and what the kernel says of it (`struct ipt_getinfo`, from `valid_hooks` on). None if
/// it takes a listing to tell.
pub(super) fn read(family: FamilyName, table: TableName, hooks: &[u8], entries: &[u8]) -> Option<Marked> {
    let entries = all(family, entries)?;
    // A jump leads to what follows the beginning of a chain.
    let begins = |(index, (_, entry)): (usize, &(usize, Entry<'_>))| {
        let name = entry.chain()?;
        Some((entries.get(index + 1)?.0, name.to_owned()))
    };
    let names: Vec<_> = entries.iter().enumerate().filter_map(begins).collect();
    let leads_to = |entry: &Entry<'_>| {
        let at = usize::try_from(entry.verdict()?).ok()?;
        names.iter().find(|(start, _)| *start == at).map(|(_, name)| name.as_str())
    };
    let mut marked = Marked { table, chains: Vec::new(), inside: Vec::new(), outside: Vec::new() };
    for (chain, rules) in chains(hooks, &entries)? {
        if !is_word(&chain) {
            return None;
        }
        let is_ours = ChainPair::owns(&chain);
        if is_ours {
            // Without a comment, others elsewhere may have none, either.
            if !rules.iter().all(|rule| rule.has_our_comment()) {
                return None;
            }
            marked.inside.extend(rules.iter().map(|_| chain.clone()));
            marked.chains.push(chain);
            continue;
        }
        let is_builtin = BuiltinChain::ALL.iter().any(|builtin| builtin.as_str() == chain);
        for (index, rule) in rules.iter().enumerate() {
            let to = leads_to(rule);
            let leads_to_us = to.is_some_and(ChainPair::owns);
            if rule.has_our_comment() || leads_to_us && is_builtin {
                marked.outside.push((chain.clone(), index + 1, spec(family, rule, to)?));
            } else if leads_to_us {
                return None;
            }
        }
    }
    Some(marked)
}

/// Whether a name can stand in a text for a restore program as it is.
pub(super) fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'))
}

/// All entries, each with where it begins.
fn all(family: FamilyName, bytes: &[u8]) -> Option<Vec<(usize, Entry<'_>)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let (entry, length) = Entry::read(family, bytes.get(at..)?)?;
        found.push((at, entry));
        at += length;
    }
    Some(found)
}

/// The chains with their rules, without their policies.
fn chains<'a>(hooks: &[u8], entries: &'a [(usize, Entry<'a>)]) -> Option<Vec<(String, Vec<&'a Entry<'a>>)>> {
    let number = |at: usize| array(hooks, at).map(u32::from_ne_bytes);
    let valid = number(0)?;
    let mut builtin = Vec::new();
    // All of them, in the order of the hooks' numbers.
    for (hook, name) in BuiltinChain::ALL.iter().enumerate().filter(|(hook, _)| valid & 1 << hook != 0) {
        let of = |first: usize| usize::try_from(number(first + 4 * hook)?).ok();
        builtin.push((of(4)?, of(24)?, name.as_str()));
    }
    let mut found: Vec<(String, Vec<&Entry<'_>>)> = Vec::new();
    // What ends a user's chain is its last entry.
    let mut in_builtin = true;
    let mut finish = |open: Option<(String, Vec<&'a Entry<'a>>)>, has_end: bool| {
        if let Some((name, mut rules)) = open {
            if has_end {
                rules.pop();
            }
            found.push((name, rules));
        }
    };
    let mut open: Option<(String, Vec<&Entry<'_>>)> = None;
    for (at, entry) in entries {
        if let Some(name) = entry.chain() {
            finish(open.take(), !in_builtin);
            in_builtin = false;
            open = Some((name.to_owned(), Vec::new()));
            continue;
        }
        if let Some((_, _, name)) = builtin.iter().find(|(start, ..)| start == at) {
            finish(open.take(), !in_builtin);
            in_builtin = true;
            open = Some(((*name).to_owned(), Vec::new()));
        }
        match &mut open {
            Some(_) if in_builtin && builtin.iter().any(|(_, end, _)| end == at) => {}
            Some((_, rules)) => rules.push(entry),
            None => return None,
        }
    }
    // The entry that ends the table looks like the beginning of a chain.
    Some(found)
}

impl<'a> Entry<'a> {
    /// The first entry of some bytes, and its length.
    fn read(family: FamilyName, bytes: &'a [u8]) -> Option<(Self, usize)> {
        // The length of `struct ipt_entry` or `struct ip6t_entry`, and where its `target_offset` is; `next_offset` follows.
        let (length, offsets) = match family {
            FamilyName::V4 => (112, 88),
            FamilyName::V6 => (168, 140),
        };
        let number = |at: usize| array(bytes, at).map(|bytes| usize::from(u16::from_ne_bytes(bytes)));
        let (target, next) = (number(offsets)?, number(offsets + 2)?);
        let mut matches = Vec::new();
        let mut rest = bytes.get(length..target)?;
        while !rest.is_empty() {
            let (part, length) = Part::read(rest)?;
            matches.push(part);
            rest = rest.get(length..)?;
        }
        let (target, _) = Part::read(bytes.get(target..next)?)?;
        Some((Self { head: bytes.get(..length)?, matches, target }, next))
    }

    /// The chain that begins here.
    fn chain(&self) -> Option<&'a str> {
        text(self.target.data).filter(|_| self.target.name == ERROR)
    }

    /// The verdict, or where a jump leads to.
    pub(super) fn verdict(&self) -> Option<i32> {
        array(self.target.data, 0).map(i32::from_ne_bytes).filter(|_| self.target.name.is_empty())
    }

    fn has_our_comment(&self) -> bool {
        let mut comments = self.matches.iter().filter(|part| part.name == "comment");
        comments.any(|part| text(part.data).is_some_and(Comment::is_ours))
    }
}

impl<'a> Part<'a> {
    /// The first match or target of some bytes, and its length: its size, 29 bytes for its name, its revision, and what it holds.
    fn read(bytes: &'a [u8]) -> Option<(Self, usize)> {
        const HEAD: usize = 32;

        let length = usize::from(u16::from_ne_bytes(array(bytes, 0)?));
        let part = Self { name: text(bytes.get(2..31)?)?, revision: *bytes.get(31)?, data: bytes.get(HEAD..length)? };
        Some((part, length))
    }
}

#[cfg(test)]
mod tests {
    use arbtest::arbtest;

    use super::*;

    /// Writes a table of IPv4 as the kernel has it.
    #[derive(Default)]
    struct Table {
        hooks: [u32; 11],
        entries: Vec<u8>,
    }

    fn part(name: &str, revision: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(32 + data.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.resize(31, 0);
        bytes.push(revision);
        bytes.extend(data);
        bytes
    }

    impl Table {
        /// An entry for a protocol; where it begins.
        fn entry(&mut self, protocol: u16, matches: &[Vec<u8>], target: &[u8]) -> i32 {
            let at = self.entries.len();
            let mut bytes = vec![0; 112];
            bytes[80..82].copy_from_slice(&protocol.to_ne_bytes());
            bytes.extend(matches.concat());
            let offset = u16::try_from(bytes.len()).unwrap();
            bytes.extend(target);
            let next = u16::try_from(bytes.len()).unwrap();
            bytes[88..90].copy_from_slice(&offset.to_ne_bytes());
            bytes[90..92].copy_from_slice(&next.to_ne_bytes());
            self.entries.extend(bytes);
            at.try_into().unwrap()
        }

        fn verdict(&mut self, protocol: u16, matches: &[Vec<u8>], verdict: i32) -> i32 {
            self.entry(protocol, matches, &part("", 0, &[verdict.to_ne_bytes(), [0; 4]].concat()))
        }

        fn head(&mut self, name: &str) -> i32 {
            let mut data = name.as_bytes().to_vec();
            data.resize(32, 0);
            self.entry(0, &[], &part(ERROR, 0, &data))
        }

        fn read(&self) -> Option<Marked> {
            let hooks: Vec<_> = self.hooks.iter().flat_map(|number| number.to_ne_bytes()).collect();
            read(FamilyName::V4, TableName::Nat, &hooks, &self.entries)
        }
    }

    fn comment(text: &str) -> Vec<u8> {
        let mut data = text.as_bytes().to_vec();
        data.resize(256, 0);
        part("comment", 0, &data)
    }

    const OURS: &str = "kuma/mesh/transparent/proxy/words";

    /// A chain OUTPUT with a rule of somebody else and one of ours, and two chains; `theirs` says where the other one leads to.
    fn table(theirs: Option<&str>, comments: bool) -> Table {
        let ours = |text: &str| if comments { vec![comment(text)] } else { Vec::new() };
        let mut table = Table::default();
        table.hooks[0] = 1 << 3;
        table.hooks[4] = 0;
        table.verdict(6, &[], -2);
        let jump = table.entries.len();
        table.verdict(17, &[comment(OURS)], 0);
        table.hooks[9] = u32::try_from(table.verdict(0, &[], -2)).unwrap();
        table.head("KUMA_MESH_OUTBOUND");
        let start = table.verdict(0, &ours(OURS), -5);
        table.verdict(0, &[], -5);
        table.head("SOMEBODY");
        let to = if theirs == Some("KUMA_MESH_OUTBOUND") { start } else { -2 };
        table.verdict(0, &[], to);
        table.verdict(0, &[], -5);
        table.head(ERROR);
        let verdict = jump + 112 + 32 + 256 + 32;
        table.entries[verdict..verdict + 4].copy_from_slice(&start.to_ne_bytes());
        table
    }

    #[test]
    fn ours_are_told_from_those_of_others() {
        let found = table(None, true).read().unwrap();
        let spec = format!("-p udp -m comment --comment \"{OURS}\" -j KUMA_MESH_OUTBOUND");
        let chain = || "KUMA_MESH_OUTBOUND".to_owned();
        let outside = vec![("OUTPUT".to_owned(), 2, spec)];
        assert_eq!(found, Marked { table: TableName::Nat, chains: vec![chain()], inside: vec![chain()], outside });
    }

    #[test]
    fn what_is_not_clear_takes_a_listing() {
        // Rules of other programs lead to our chains, or ours have no comments.
        assert_eq!(table(Some("KUMA_MESH_OUTBOUND"), true).read(), None);
        assert_eq!(table(None, false).read(), None);
    }

    #[test]
    fn nothing_can_add_a_line_to_a_text() {
        for name in ["KUMA_MESH_\nCOMMIT", "KUMA_MESH_ X", "KUMA_MESH_\"", "KUMA_MESH_\u{e9}"] {
            assert!(!is_word(name), "{name}");
        }
        let mut table = table(None, true);
        let text = b"words";
        let at = table.entries.windows(text.len()).position(|window| window == text).unwrap();
        for byte in [b'\n', b'"', b'\\'] {
            table.entries[at] = byte;
            assert_eq!(table.read(), None);
        }
    }

    #[test]
    fn hostile_bytes_are_survived() {
        arbtest(|u| {
            let mut table = table(None, true);
            for _ in 0..u.int_in_range(1..=8)? {
                let at = u.choose_index(table.entries.len())?;
                table.entries[at] = u.arbitrary()?;
            }
            let cut = u.choose_index(table.entries.len())?;
            if u.arbitrary()? {
                table.entries.truncate(cut);
            }
            table.read();
            Ok(())
        });
    }
}
