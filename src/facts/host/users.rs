//! Who a user is.
//!
//! `/etc/passwd` is read first. The name service (nsswitch.conf(5)) is asked only for what is not there: with systemd or a
//! directory behind it, each question costs a dozen files and sockets. It has the same answer for what is there, since it reads
//! that file itself, and before all others wherever a machine can start without its network. A uid is never asked for: a number
//! is an answer.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};

use nix::unistd::User;

use crate::net::Uid;

/// The users of this host alone.
const FILE: &str = "/etc/passwd";

/// How much of the file is read. What is behind is left to the name service.
const LIMIT: u64 = 4 << 20;

/// The user with this uid or, if there is none, the one with this name.
///
/// # Errors
/// If there seems to be neither, and the file could not be read.
pub(super) fn by_uid_or_name(uid: Uid, name: &str) -> io::Result<Option<Uid>> {
    let file = PasswdScan::open_if_there(FILE, Some(uid), name);
    first_known(
        file,
        |found| found.has_uid.then_some(uid).or(found.named),
        || {
            // A failing question is treated as no such user: many databases report one as an error.
            let known = User::from_uid(uid.number().into()).ok().flatten().map(|_| uid);
            known.or_else(|| ask(name))
        },
    )
}

/// The user with this name.
///
/// # Errors
/// If there seems to be none, and the file could not be read.
pub(super) fn by_name(name: &str) -> io::Result<Option<Uid>> {
    first_known(PasswdScan::open_if_there(FILE, None, name), |found| found.named, || ask(name))
}

/// The answer of the file or, without one, that of the name service.
fn first_known(
    file: io::Result<PasswdScan>,
    answer: impl FnOnce(&PasswdScan) -> Option<Uid>,
    ask: impl FnOnce() -> Option<Uid>,
) -> io::Result<Option<Uid>> {
    match file.as_ref().ok().and_then(answer).or_else(ask) {
        Some(uid) => Ok(Some(uid)),
        None => file.map(|_| None),
    }
}

/// What the file says of a number, which may be a name as well.
///
/// # Errors
/// If the file cannot be read.
pub(super) fn by_number(uid: Uid, text: &str) -> io::Result<PasswdScan> {
    PasswdScan::open(FILE, Some(uid), text)
}

fn ask(name: &str) -> Option<Uid> {
    Uid::new(User::from_name(name).ok().flatten()?.uid.as_raw())
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PasswdScan {
    /// Whether there is a user with the uid.
    pub(super) has_uid: bool,
    /// The uid of the user with the name.
    pub(super) named: Option<Uid>,
}

impl PasswdScan {
    /// As [`open`](Self::open). Where there is no file, it has no users.
    fn open_if_there(path: &str, uid: Option<Uid>, name: &str) -> io::Result<Self> {
        match Self::open(path, uid, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            done => done,
        }
    }

    fn open(path: &str, uid: Option<Uid>, name: &str) -> io::Result<Self> {
        Self::read(BufReader::with_capacity(4096, File::open(path)?), uid, name)
    }

    /// Reads no further than to the user with the uid or, if none is asked for, to the one with the name.
    fn read(mut file: impl BufRead, uid: Option<Uid>, name: &str) -> io::Result<Self> {
        let mut found = Self::default();
        let mut line = Vec::new();
        let mut left = LIMIT;
        loop {
            let read = file.by_ref().take(left).read_until(b'\n', &mut line)? as u64;
            left -= read;
            // A line may be cut there.
            if read == 0 || left == 0 {
                break;
            }
            if let Some((its_name, its_uid)) = entry(&line) {
                found.has_uid = uid == Some(its_uid);
                if found.named.is_none() && its_name == name.as_bytes() {
                    found.named = Some(its_uid);
                }
                if found.has_uid || uid.is_none() && found.named.is_some() {
                    break;
                }
            }
            line.clear();
        }
        Ok(found)
    }
}

/// The name and the uid of a line. Others than users of this host have a sign before their names (passwd(5), "compat"), and a line
/// without the number of a group is no user to the name service either.
fn entry(line: &[u8]) -> Option<(&[u8], Uid)> {
    let mut fields = line.split(|byte| *byte == b':');
    let name = fields.next().filter(|name| !matches!(name, [] | [b'+' | b'-' | b'#', ..]))?;
    let mut number = |skipped| std::str::from_utf8(fields.nth(skipped)?).ok();
    let (uid, group) = (number(1)?.parse().ok()?, number(0)?);
    group.parse::<u32>().is_ok().then_some((name, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USERS: &str = "root:x:0:0:root:/root:/bin/sh\n\n#kuma-dp:x:1:1::/:\n+kuma-dp:x:2:2::/:\nbroken:x:\nbad:x:-3:3::/:\n\
                         kuma-dp:x:98\nkuma-dp:x:99:a::/:\n\
                         kuma-dp:x:101:101::/:\nkuma-dp:x:102:102::/:\n1234:x:99:99::/:\nother:x:5678:1::/:/bin/false";

    fn read(uid: Option<u32>, name: &str) -> (bool, Option<u32>) {
        let found = PasswdScan::read(USERS.as_bytes(), uid.and_then(Uid::new), name).unwrap();
        (found.has_uid, found.named.map(Uid::number))
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_one_without_the_user() {
        let unread = || Err(io::Error::from_raw_os_error(24));
        let named = |found: &PasswdScan| found.named;
        let uid = Uid::new(7);
        assert_eq!(first_known(unread(), named, || None).unwrap_err().raw_os_error(), Some(24));
        assert_eq!(first_known(unread(), named, || uid).unwrap(), uid);
        assert_eq!(first_known(Ok(PasswdScan::default()), named, || None).unwrap(), None);
        assert_eq!(PasswdScan::open_if_there("/nobody/passwd", None, "a").unwrap(), PasswdScan::default());
        // A folder is no list of users.
        assert!(PasswdScan::open_if_there("/", None, "a").is_err());
    }

    #[test]
    fn the_first_line_of_a_user_counts() {
        assert_eq!(read(None, "kuma-dp"), (false, Some(101)));
        assert_eq!(read(None, "root"), (false, Some(0)));
        for name in ["nobody", "", "#kuma-dp", "+kuma-dp", "broken", "bad", "kuma", "KUMA-DP"] {
            assert_eq!(read(None, name), (false, None), "{name}");
        }
        assert_eq!(read(Some(5678), "kuma-dp"), (true, Some(101)));
        assert_eq!(read(Some(5679), "kuma-dp"), (false, Some(101)));
        assert_eq!(read(Some(1234), "1234"), (false, Some(99)));
        assert_eq!(read(Some(4), "4"), (false, None));
    }

    #[test]
    fn a_line_that_the_limit_may_have_cut_does_not_count() {
        let last = "kuma-dp:x:10123:10123::/:\n";
        for behind in 0..=last.len() {
            // The limit falls before, into and behind the last line.
            let mut users = "#".repeat(usize::try_from(LIMIT).unwrap() - behind - 1) + "\n";
            users.push_str(last);
            let found = PasswdScan::read(users.as_bytes(), None, "kuma-dp").unwrap();
            assert!(matches!(found.named.map(Uid::number), None | Some(10_123)), "{behind}: {found:?}");
        }
        assert_eq!(PasswdScan::read(last.as_bytes(), None, "kuma-dp").unwrap().named.map(Uid::number), Some(10_123));
    }

    #[test]
    fn who_is_in_the_file_is_who_the_name_service_says() {
        let users = std::fs::read(FILE).unwrap();
        for (name, uid) in users.split(|byte| *byte == b'\n').filter_map(entry) {
            let name = std::str::from_utf8(name).unwrap();
            assert_eq!(by_name(name).unwrap(), ask(name), "{name}");
            assert!(User::from_uid(uid.number().into()).unwrap().is_some(), "{uid}");
        }
        assert_eq!(by_name("no-such-user").unwrap(), None);
    }
}
