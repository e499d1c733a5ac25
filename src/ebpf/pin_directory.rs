//! Where an installation is pinned: `<bpffs>/kumatp/<cookie of the network namespace>/`, or `ns-<inode>` on kernels that have
//! no cookies, with `state` for what all generations share and `gen-<number>` for each of them.

use std::ffi::OsString;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_DIRECTORY;
use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::geteuid;

use crate::error::{Error, InvalidValue};
use crate::netns::Here;

/// The directory of all our installations in a bpffs.
pub(super) const NAME: &str = "kumatp";

/// A directory in a bpffs that we mounted. Its source would tell, too, but older kernels forget that.
const MOUNTED: &str = "kumatp-mounted";

/// What the kernel itself puts into a bpffs (linux kernel/bpf/preload).
const PRELOADED: [&str; 2] = ["maps.debug", "progs.debug"];

/// How long to wait for another installer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The directory of an installation.
#[derive(Debug)]
pub(super) struct PinDirectory {
    bpffs: PathBuf,
    dir: PathBuf,
}

/// Held while an installation is changed.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "it is held, not read")] Flock<File>);

impl PinDirectory {
    pub(super) fn new(bpffs: &Path, netns: &Here) -> Self {
        Self { bpffs: bpffs.to_owned(), dir: bpffs.join(NAME).join(directory(netns)) }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn generation(&self, number: u64) -> PathBuf {
        self.dir.join(format!("gen-{number}"))
    }

    /// Whether something is pinned for some network namespace, or nobody may look.
    pub(super) fn has_any(bpffs: &Path) -> bool {
        !std::fs::symlink_metadata(bpffs.join(NAME)).is_err_and(|error| is_nothing(&error))
    }

    /// Whether something is pinned there.
    ///
    /// # Errors
    /// If nobody may look.
    pub(super) fn is_there(&self) -> Result<bool, Error> {
        match std::fs::symlink_metadata(&self.dir) {
            Ok(_) => Ok(true),
            Err(error) if is_nothing(&error) => Ok(false),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Error::Permission {
                action: format!("look into {}", self.bpffs.join(NAME).display()),
                needed: "root, who installed it,".into(),
            }),
            Err(error) => Err(Error::io(format!("look at {}", self.dir.display()), &error)),
        }
    }

    /// That an installation is in force whose pins, that of this program among them, are somewhere else.
    pub(super) fn elsewhere(&self, program: u32) -> Error {
        Error::Conflict {
            problem: format!(
                "an eBPF installation is active in this network namespace and not pinned in {} (program {program})",
                self.dir.display()
            ),
            remedy: "uninstall it with the bpffs that it was installed with (--ebpf-bpffs-path)".into(),
        }
    }

    /// The numbers of the generations that are pinned, whether complete or not.
    pub(super) fn generations(&self) -> Result<Vec<u64>, Error> {
        let cannot = |error: std::io::Error| Error::io(format!("list {}", self.dir.display()), &error);
        let mut list = Vec::new();
        for entry in std::fs::read_dir(&self.dir).map_err(cannot)? {
            let name = entry.map_err(cannot)?.file_name();
            list.extend(name.to_str().and_then(|name| name.strip_prefix("gen-")).and_then(|n| n.parse::<u64>().ok()));
        }
        list.sort_unstable();
        Ok(list)
    }

    /// Makes sure that there is a bpffs, in the mount namespace of the calling thread, and waits as [`lock`](Self::lock) does.
    /// True if it was mounted for this.
    pub(super) fn mount_and_lock(&self) -> Result<(Lock, bool), Error> {
        let start = Instant::now();
        loop {
            let mounted = self.ensure_bpffs()?;
            let lock = self.lock();
            // Or somebody who has uninstalled has just unmounted it; what is locked, nobody can unmount.
            if self.is_bpffs()? || start.elapsed() > PATIENCE {
                return Ok((lock?, mounted));
            }
            let _ = std::fs::remove_dir(self.bpffs.join(NAME));
        }
    }

    fn is_bpffs(&self) -> Result<bool, Error> {
        match statfs(&self.bpffs) {
            Ok(found) => Ok(found.filesystem_type() == BPF_FS_MAGIC),
            Err(errno) if is_nothing(&errno.into()) => Err(self.wrong()),
            Err(errno) => Err(Error::io(format!("look at {}", self.bpffs.display()), &errno.into())),
        }
    }

    fn wrong(&self) -> Error {
        let expected = "a bpffs, or an empty directory to mount one at (--ebpf-bpffs-path)";
        InvalidValue::new(self.bpffs.to_string_lossy(), expected).at("ebpf.bpffsPath").into()
    }

    fn ensure_bpffs(&self) -> Result<bool, Error> {
        let path = self.bpffs.display();
        if self.is_bpffs()? {
            return Ok(false);
        }
        // Two mounts, one over the other, would be two places. Who comes later waits, and then sees the first one.
        let below = OpenOptions::new().read(true).custom_flags(O_DIRECTORY).open(&self.bpffs);
        let below = below.map_err(|error| match is_nothing(&error) {
            true => self.wrong(),
            false => Error::io(format!("open {path}"), &error),
        })?;
        let _alone = Flock::lock(below, FlockArg::LockExclusive)
            .map_err(|(_, errno)| Error::io(format!("lock {path}"), &errno.into()))?;
        if self.is_bpffs()? {
            return Ok(false);
        }
        match std::fs::read_dir(&self.bpffs).map(|mut content| content.next().is_some()) {
            Ok(false) => {}
            Ok(true) => return Err(self.wrong()),
            Err(error) if is_nothing(&error) => return Err(self.wrong()),
            Err(error) => return Err(Error::io(format!("list {path}"), &error)),
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match mount(Some(NAME), &self.bpffs, Some("bpf"), flags, Some("mode=0700")) {
            // Without the mark, it stays.
            Ok(()) => {
                let _ = std::fs::create_dir(self.bpffs.join(MOUNTED));
                Ok(true)
            }
            Err(Errno::EPERM) => Err(Error::Permission {
                action: format!("mount a bpffs at {path}"),
                needed: "CAP_SYS_ADMIN, or a bpffs that is there,".into(),
            }),
            Err(Errno::ENODEV) => Err(Error::Unsupported {
                what: "bpffs in this kernel".into(),
                remedy: "use a kernel that has it (CONFIG_BPF_SYSCALL), or the engine netlink".into(),
            }),
            Err(errno) => Err(Error::io(format!("mount a bpffs at {path}"), &errno.into())),
        }
    }

    /// Waits until no other installer is at work in this bpffs, and keeps others away.
    pub(super) fn lock(&self) -> Result<Lock, Error> {
        let all = self.bpffs.join(NAME);
        let cannot = |error: std::io::Error| match error.kind() {
            ErrorKind::PermissionDenied => {
                Error::Permission { action: format!("lock {}", all.display()), needed: "root".into() }
            }
            _ => Error::io(format!("lock {}", all.display()), &error),
        };
        let start = Instant::now();
        loop {
            match DirBuilder::new().mode(0o700).create(&all) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(cannot(error)),
                _ => {}
            }
            let meta = match std::fs::symlink_metadata(&all) {
                // Another one has just removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(cannot)?,
            };
            if !meta.is_dir() || meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
                return Err(Error::Conflict {
                    problem: format!("another user can write to {}", all.display()),
                    remedy: "remove it".into(),
                });
            }
            let file = match File::open(&all) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.map_err(cannot)?,
            };
            let opened = file.metadata().map_err(cannot)?.ino();
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => match std::fs::symlink_metadata(&all) {
                    Ok(meta) if meta.ino() == opened => return Ok(Lock(lock)),
                    // It was removed, and perhaps made again, while we waited.
                    _ => continue,
                },
                Err((_, Errno::EWOULDBLOCK)) if start.elapsed() < PATIENCE => sleep(Duration::from_millis(10)),
                Err((_, Errno::EWOULDBLOCK)) => {
                    return Err(Error::Conflict {
                        problem: format!("another process holds the lock of {}", all.display()),
                        remedy: "wait until it is done".into(),
                    });
                }
                Err((_, errno)) => return Err(cannot(errno.into())),
            }
        }
    }

    /// Makes a directory of the installation, and those around it.
    pub(super) fn make(&self, dir: &Path) -> Result<(), Error> {
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(dir)
            .map_err(|error| Error::io(format!("make {}", dir.display()), &error))
    }

    /// Removes what is pinned in a directory, and the directory.
    pub(super) fn remove(&self, dir: &Path) -> Result<(), Error> {
        match std::fs::remove_dir_all(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Error::io(format!("remove {}", dir.display()), &error))
            }
            _ => Ok(()),
        }
    }

    /// The directories of the other network namespaces in the same bpffs.
    pub(super) fn others(&self) -> Vec<Self> {
        let entries = std::fs::read_dir(self.bpffs.join(NAME)).into_iter().flatten().flatten();
        let others = entries.map(|entry| entry.path()).filter(|dir| *dir != self.dir);
        others.map(|dir| Self { bpffs: self.bpffs.clone(), dir }).collect()
    }

    /// Whether there are installations, of whatever network namespace, or only the directory for them, or a bpffs that was
    /// mounted for them.
    pub(super) fn is_any_there(&self) -> bool {
        [NAME, MOUNTED].iter().any(|name| self.bpffs.join(name).exists())
    }

    /// Removes the directory that all installations are in, unless there are others; and, once nobody is kept away any more, the
    /// bpffs if it was mounted for it.
    pub(super) fn tidy(&self, lock: Lock) {
        let removed = std::fs::remove_dir(self.bpffs.join(NAME)).is_ok();
        drop(lock);
        if !removed {
            return;
        }
        let content: Vec<_> =
            std::fs::read_dir(&self.bpffs).into_iter().flatten().flatten().map(|entry| entry.file_name()).collect();
        let is_known = |name: &OsString| name == MOUNTED || PRELOADED.iter().any(|known| name == known);
        let mark = self.bpffs.join(MOUNTED);
        // Somebody may have come meanwhile; then it stays.
        if content.iter().all(is_known) && std::fs::remove_dir(&mark).is_ok() && umount(&self.bpffs).is_err() {
            let _ = std::fs::create_dir(&mark);
        }
    }
}

/// The name of the directory of a network namespace.
fn directory(netns: &Here) -> String {
    match netns.cookie {
        Some(cookie) => cookie.to_string(),
        None => format!("ns-{}", netns.inode),
    }
}

/// Whether nothing is at a path, or no directory where one has to be.
pub(super) fn is_nothing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
