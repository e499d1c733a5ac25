//! What is asked about tables of iptables-legacy, which netlink does not show.

use std::io;
use std::os::fd::AsFd as _;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use super::legacy_rules::{self, Marked};
use crate::model::{BuiltinChain, ChainPair, Comment, TableName};
use crate::net::FamilyName;
use crate::netlink::wire::array;
use crate::{files, socket_options};

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES` (linux/netfilter_ipv4/ip_tables.h); those of ip6_tables
/// have the same numbers.
const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;

/// `XT_TABLE_MAXNAMELEN`.
const NAME: usize = 32;

/// The length of `struct ipt_getinfo`; its last member is the size of the entries.
const INFO: usize = 84;

/// Where the entries begin in `struct ipt_get_entries`.
const ENTRIES: usize = 40;

/// The tables of iptables-legacy in the network namespace of the calling thread. Which there are, the kernel is asked once.
#[derive(Debug, Default)]
pub(crate) struct LegacyView {
    v4: Option<String>,
    v6: Option<String>,
}

impl LegacyView {
    /// Whether a table has a chain of this name. A table that is not there yet is not made by asking.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub(crate) fn chain_exists(&mut self, family: FamilyName, table: &str, chain: &str) -> io::Result<bool> {
        Ok(self.entries(family, table)?.is_some_and(|entries| contains(&entries, &chain_head(chain, true))))
    }

    /// Whether an installation, ours or kumactl's, has chains or rules in tables of a family.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub(crate) fn has_installation(&mut self, family: FamilyName) -> io::Result<bool> {
        let marks = [chain_head(ChainPair::PREFIX, false), comment_head(Comment::PREFIX)];
        for table in TableName::OURS {
            if let Some(entries) = self.entries(family, table.as_str())? {
                if marks.iter().any(|mark| contains(&entries, mark)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// The chains that decide where connections go and have rules in the nat table.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub(crate) fn nat_chains(&mut self, family: FamilyName) -> io::Result<Vec<BuiltinChain>> {
        let Some(info) = self.info(family, TableName::Nat.as_str())? else { return Ok(Vec::new()) };
        // `hook_entry` and `underflow` of `struct ipt_getinfo`: where the chain of a hook begins, and where its policy is.
        let number = |first: usize, hook: BuiltinChain| array(&info, first + 4 * hook as usize).map(u32::from_ne_bytes);
        let has_rules = |hook: &BuiltinChain| number(NAME + 4, *hook) != number(NAME + 24, *hook);
        Ok([BuiltinChain::Prerouting, BuiltinChain::Output].into_iter().filter(has_rules).collect())
    }

    /// Whether a family has rules or chains in a table. A table that is not there yet is not made by asking.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub(crate) fn has_rules(&mut self, family: FamilyName, table: TableName) -> io::Result<bool> {
        let Some(info) = self.info(family, table.as_str())? else { return Ok(false) };
        let number = |at| array(&info, at).map_or(0, u32::from_ne_bytes);
        // Each built-in chain has an entry for its policy, and the table has one for its end.
        Ok(number(INFO - 8) > number(NAME).count_ones() + 1)
    }

    /// What an installation whose rules have comments has in each table of a family; none if it takes the programs' listing to tell.
    ///
    /// # Errors
    /// If the kernel does not let us look.
    pub(crate) fn marked(&mut self, family: FamilyName) -> io::Result<Option<Vec<Marked>>> {
        // Elsewhere the kernel's form of the tables is another.
        if !cfg!(target_pointer_width = "64") {
            return Ok(None);
        }
        let mut all = Vec::new();
        for table in TableName::OURS {
            let Some((info, entries)) = self.table(family, table.as_str())? else { continue };
            match legacy_rules::read(family, table, &info[NAME..], &entries) {
                Some(marked) => all.push(marked),
                None => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    /// The entries of a table; none if it is not in use.
    fn entries(&mut self, family: FamilyName, table: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.table(family, table)?.map(|(_, entries)| entries))
    }

    /// The same with what the kernel says of it.
    fn table(&mut self, family: FamilyName, table: &str) -> io::Result<Option<([u8; INFO], Vec<u8>)>> {
        // The table may grow between the two calls, which the kernel then says by EAGAIN.
        for _ in 0..8 {
            let Some(info) = self.info(family, table)? else { return Ok(None) };
            let Some(size) = array(&info, INFO - 4).map(u32::from_ne_bytes) else { break };
            let mut entries = vec![0; ENTRIES + size as usize];
            entries[..NAME].copy_from_slice(&info[..NAME]);
            entries[NAME..NAME + 4].copy_from_slice(&size.to_ne_bytes());
            match ask(family, GET_ENTRIES, &mut entries) {
                Ok(()) => return Ok(Some((info, entries.split_off(ENTRIES)))),
                Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// What the kernel says of a table (`struct ipt_getinfo`); none if it is not in use.
    fn info(&mut self, family: FamilyName, table: &str) -> io::Result<Option<[u8; INFO]>> {
        match self.names(family)?.lines().any(|name| name == table) {
            true => info_of(family, table).map(Some),
            false => Ok(None),
        }
    }

    /// The names of the tables of a family that are in use, a line each.
    fn names(&mut self, family: FamilyName) -> io::Result<&str> {
        let (names, list) = match family {
            FamilyName::V4 => (&mut self.v4, "ip_tables_names"),
            FamilyName::V6 => (&mut self.v6, "ip6_tables_names"),
        };
        match names {
            Some(names) => Ok(names),
            None => Ok(names.insert(in_use(list)?)),
        }
    }
}

/// Whether the kernel has a table of iptables-legacy. Asking makes one that it can make.
///
/// # Errors
/// If the kernel does not say.
pub(crate) fn legacy_table_exists(family: FamilyName, table: TableName) -> io::Result<bool> {
    match info_of(family, table.as_str()) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the kernel says of a table, which is made if it is not in use.
fn info_of(family: FamilyName, table: &str) -> io::Result<[u8; INFO]> {
    let mut info = [0; INFO];
    let length = table.len().min(NAME - 1);
    info[..length].copy_from_slice(&table.as_bytes()[..length]);
    ask(family, GET_INFO, &mut info)?;
    Ok(info)
}

fn in_use(list: &str) -> io::Result<String> {
    let lists = Path::new("/proc/thread-self/net");
    match files::read_short(&lists.join(list)) {
        // The kernel has no such tables, if this is where it would list them.
        Err(error) if error.kind() == io::ErrorKind::NotFound && lists.join("dev").exists() => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(io::Error::new(error.kind(), format!("{} is not there", lists.display())))
        }
        other => other,
    }
}

/// Has the kernel write what it says to a question into the bytes that ask it.
pub(super) fn ask(family: FamilyName, question: i32, bytes: &mut [u8]) -> io::Result<()> {
    let (domain, level) = match family {
        FamilyName::V4 => (AddressFamily::Inet, libc::SOL_IP),
        FamilyName::V6 => (AddressFamily::Inet6, libc::SOL_IPV6),
    };
    // Any socket of the family will do.
    let socket = socket(domain, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    socket_options::get(socket.as_fd(), level, question, bytes).map(drop)
}

/// A chain begins with an entry of the target `ERROR` that holds the chain's name: 29 bytes for the
/// target's name, one for its revision, then the chain's name (`struct xt_error_target`).
fn chain_head(name: &str, whole: bool) -> Vec<u8> {
    let mut bytes = extension("ERROR");
    bytes.extend(name.as_bytes());
    bytes.extend(whole.then_some(0));
    bytes
}

/// A comment is a match of its own: its name and revision, then the text (`struct xt_comment_info`).
fn comment_head(text: &str) -> Vec<u8> {
    let mut bytes = extension("comment");
    bytes.extend(text.as_bytes());
    bytes
}

/// The name of a match or target, and its revision, which is 0 for both of these.
fn extension(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(30, 0);
    bytes
}

fn contains(entries: &[u8], wanted: &[u8]) -> bool {
    entries.windows(wanted.len()).any(|window| window == wanted)
}
