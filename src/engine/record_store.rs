//! Where the record of a network namespace is.
//!
//! One file a network namespace, `/run/kumatp/<boot>-<inode>-<cookie>.json`: the identifier of this
//! start of the machine, the namespace's inode, which the kernel gives to another one once it is gone,
//! and its cookie, which it does not. Files of namespaces that are known to be gone are removed when
//! another is written. Only its owner can read or write a file.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;
use nix::unistd::geteuid;

use super::record::Record;
use crate::error::Error;
use crate::files;
use crate::netlink::Kernel;

/// Where the records are.
const DIR: &str = "/run/kumatp";

/// Identifies this start of the machine.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// The netlink sockets of the network namespace of the calling thread.
const SOCKETS: &str = "/proc/thread-self/net/netlink";

/// The longest record that is read, in bytes.
const LIMIT: u64 = 4 << 20;

/// The record of one network namespace.
#[derive(Debug, Clone)]
pub(crate) struct RecordStore {
    dir: PathBuf,
    name: String,
}

impl RecordStore {
    /// What is noted down about the network namespace of the calling thread. Where nothing is about any, it does not matter which
    /// one that is.
    pub(crate) fn recall(kernel: &mut Kernel) -> Result<Record, Error> {
        let none = || std::fs::symlink_metadata(DIR).is_err_and(|error| error.kind() == ErrorKind::NotFound);
        if !kernel.no_records {
            kernel.no_records = none();
        }
        match kernel.no_records {
            true => Ok(Record::default()),
            false => Self::of(kernel)?.load(),
        }
    }

    /// That of the network namespace of the calling thread.
    pub(crate) fn of(kernel: &mut Kernel) -> Result<Self, Error> {
        let read =
            |path: &str| files::read_short(Path::new(path)).map_err(|error| Error::io(format!("read {path}"), &error));
        let here = kernel.here()?;
        let cookie = match here.cookie {
            Some(cookie) => cookie.to_string(),
            None => substitute(&read(SOCKETS)?).ok_or_else(|| Error::Os {
                action: format!("tell network namespaces apart by {SOCKETS}"),
                message: "it does not list the kernel's own socket".into(),
                errno: None,
            })?,
        };
        Ok(Self { dir: DIR.into(), name: format!("{}-{}-{cookie}.json", read(BOOT)?.trim(), here.inode) })
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.join(&self.name)
    }

    /// Reads the record; an empty one if there is none.
    pub(crate) fn load(&self) -> Result<Record, Error> {
        let cannot = |error: &std::io::Error| Error::io(format!("read {}", self.path().display()), error);
        if !self.dir_is_ours(&self.dir).map_err(|error| cannot(&error))? {
            return Ok(Record::default());
        }
        let file = match files::open(&self.path(), O_NOFOLLOW) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Record::default()),
            Err(error) => return Err(cannot(&error)),
        };
        let mut text = String::new();
        is_ours(&file.metadata().map_err(|error| cannot(&error))?).map_err(|error| cannot(&error))?;
        file.take(LIMIT).read_to_string(&mut text).map_err(|error| cannot(&error))?;
        serde_json::from_str(&text).map_err(|error| cannot(&error.into()))
    }

    /// Writes the record in one step; an empty one is removed.
    pub(crate) fn store(&self, record: &Record) -> Result<(), Error> {
        let cannot = |error: &std::io::Error| Error::io(format!("write {}", self.path().display()), error);
        match *record == Record::default() {
            true => self.remove(),
            false => self.write(record),
        }
        .map_err(|error| cannot(&error))
    }

    fn remove(&self) -> std::io::Result<()> {
        match std::fs::remove_file(self.path()) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Stays where other namespaces have records.
        let _ = std::fs::remove_dir(&self.dir);
        Ok(())
    }

    fn write(&self, record: &Record) -> std::io::Result<()> {
        match DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        self.dir_is_ours(&self.dir)?;
        self.sweep();
        replace_file(&self.path(), serde_json::to_string(record)?.as_bytes(), 0o600)
    }

    /// Removes the records of namespaces that are gone: those of an earlier start of the machine, those
    /// whose inode this one has now, and those of older versions, of which nothing can be told. What
    /// cannot be removed names no namespace that will ever be.
    fn sweep(&self) {
        for entry in std::fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_some_and(|name| is_outlived(name, &self.name)) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }

    /// False if there is no such directory; an error if another user could have put things there.
    fn dir_is_ours(&self, dir: &Path) -> std::io::Result<bool> {
        let meta = match std::fs::symlink_metadata(dir) {
            Ok(meta) => meta,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(error),
        };
        match meta.is_dir() {
            true => is_ours(&meta).map(|()| true),
            false => Err(std::io::Error::new(ErrorKind::NotADirectory, "it is not in a directory")),
        }
    }
}

fn is_ours(meta: &std::fs::Metadata) -> std::io::Result<()> {
    match meta.uid() == geteuid().as_raw() && meta.mode() & 0o022 == 0 {
        true => Ok(()),
        false => Err(std::io::Error::new(
            ErrorKind::PermissionDenied,
            "it belongs to another user, or others can write there",
        )),
    }
}

/// What stands for the cookie before Linux 5.14: the inode of the kernel's own rtnetlink socket, which is
/// made with the namespace from a counter of the whole machine.
fn substitute(sockets: &str) -> Option<String> {
    let inode = |line: &str| {
        // sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        let is_rtnetlink = fields.get(1..3)? == ["0", "0"];
        is_rtnetlink.then(|| fields.get(9).map(|inode| format!("s{inode}"))).flatten()
    };
    sockets.lines().find_map(inode)
}

/// Whether the record of this name is about a namespace that cannot be any more if the one with the
/// record `alive` is.
fn is_outlived(name: &str, alive: &str) -> bool {
    let parts = |name: &str| {
        let mut parts = name.strip_suffix(".json")?.rsplitn(3, '-').map(str::to_owned);
        let (cookie, inode, boot) = (parts.next()?, parts.next()?, parts.next()?);
        Some((boot, inode, cookie))
    };
    match (parts(name), parts(alive)) {
        (Some((boot, inode, cookie)), Some(now)) => boot != now.0 || inode == now.1 && cookie != now.2,
        (None, _) => name.strip_suffix(".json").is_some_and(|inode| inode.bytes().all(|byte| byte.is_ascii_digit())),
        _ => false,
    }
}

/// Puts a file with this content and mode in the place of whatever is at `path`, in one step.
pub(crate) fn replace_file(path: &Path, content: &[u8], mode: u32) -> std::io::Result<()> {
    let random = RandomState::new().build_hasher().finish();
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{random:016x}"));
    let temporary = path.with_file_name(name);
    let written = create(&temporary).and_then(|mut file| {
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(O_NOFOLLOW).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::record::Recorded;
    use crate::model::{IptablesMode, TableName};
    use crate::net::FamilyName;

    fn place(test: &str) -> RecordStore {
        let dir = std::env::temp_dir().join(format!("kumatp-record-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        RecordStore { dir, name: "1.json".into() }
    }

    fn rule(spec: &str) -> Recorded {
        Recorded {
            family: FamilyName::V6,
            mode: IptablesMode::Legacy,
            table: TableName::Nat,
            chain: "OUTPUT".into(),
            spec: spec.into(),
            behind: 0,
        }
    }

    #[test]
    fn written_read_and_removed() {
        let place = place("round");
        assert_eq!(place.load().unwrap(), Record::default());
        let record = Record { loopback_address: true, rules: vec![rule("-j LOG")], ..Record::default() };
        place.store(&record).unwrap();
        assert_eq!(place.load().unwrap(), record);
        assert_eq!(std::fs::metadata(place.path()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&place.dir).unwrap().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(&place.dir).unwrap().count(), 1);
        place.store(&Record::default()).unwrap();
        assert!(!place.dir.exists());
        place.store(&Record::default()).unwrap();
    }

    #[test]
    fn links_and_foreign_places_are_refused() {
        let place = place("links");
        std::fs::create_dir(&place.dir).unwrap();
        std::fs::set_permissions(&place.dir, Permissions::from_mode(0o777)).unwrap();
        let record = Record { loopback_address: true, ..Record::default() };
        assert!(place.store(&record).is_err() && place.load().is_err());
        std::fs::set_permissions(&place.dir, Permissions::from_mode(0o700)).unwrap();
        let elsewhere = place.dir.join("elsewhere");
        std::fs::write(&elsewhere, "{}").unwrap();
        std::os::unix::fs::symlink(&elsewhere, place.path()).unwrap();
        assert!(place.load().is_err());
        place.store(&record).unwrap();
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "{}");
        assert_eq!(place.load().unwrap(), record);
        std::fs::remove_dir_all(&place.dir).unwrap();
    }

    #[test]
    fn what_is_noted_of_namespaces_that_are_gone_is_swept() {
        let mut place = place("sweep");
        let here = "1e57-2f-4026532000-17.json";
        place.name = here.into();
        let others = [
            ("1e57-2f-4026532000-16.json", false),
            ("1e57-2f-4026532001-16.json", true),
            ("0dd-4026532001-16.json", false),
            ("4026532000.json", false),
            ("else.json", true),
        ];
        std::fs::create_dir(&place.dir).unwrap();
        std::fs::set_permissions(&place.dir, Permissions::from_mode(0o700)).unwrap();
        others.iter().for_each(|(name, _)| std::fs::write(place.dir.join(name), "{}").unwrap());
        place.store(&Record { loopback_address: true, ..Record::default() }).unwrap();
        for (name, stays) in others {
            assert_eq!(place.dir.join(name).exists(), stays, "{name}");
        }
        assert!(place.path().exists());
        std::fs::remove_dir_all(&place.dir).unwrap();
    }

    #[test]
    fn namespaces_are_told_apart_without_cookies() {
        let names: Vec<_> = (0..2)
            .filter_map(|_| {
                let print = ["--map-root-user", "--net", "cat", SOCKETS];
                let output = std::process::Command::new("unshare").args(print).output().ok()?;
                Some(substitute(&String::from_utf8(output.stdout).ok()?))
            })
            .collect();
        let here = substitute(&std::fs::read_to_string(SOCKETS).unwrap());
        assert!(here.is_some());
        // Where namespaces can be made.
        if let [Some(a), Some(b)] = &names[..] {
            assert!(a != b && Some(a) != here.as_ref(), "{names:?}");
        }
        assert_eq!(substitute("sk Eth Pid\n"), None);
    }
}
