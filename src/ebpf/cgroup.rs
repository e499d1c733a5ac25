//! The cgroup whose processes are dealt with.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::libc::O_DIRECTORY;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::pin_directory::is_nothing;
use crate::error::{Error, InvalidValue};

/// The mounts of the mount namespace of the calling thread.
const MOUNTS: &str = "/proc/thread-self/mountinfo";

/// A cgroup of version 2.
#[derive(Debug)]
pub(super) struct Cgroup {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Its number, which is the inode of its directory.
    pub(super) id: u64,
}

impl Cgroup {
    /// That at a path, or the one that all processes are in.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let path = match path {
            Some(path) => path.to_owned(),
            None => mounted().ok_or_else(|| Error::Unsupported {
                what: "the engine ebpf without cgroup2, of which no mount is seen here,".into(),
                remedy: "mount it ('mount -t cgroup2 none DIRECTORY'), name the cgroup (--ebpf-cgroup-path), name the network namespace with --netns instead of running in 'ip netns exec', which hides it, or use the engine netlink".into(),
            })?,
        };
        let cannot = |error: &std::io::Error| Error::io(format!("open the cgroup {}", path.display()), error);
        let wrong = || {
            let here = mounted().map(|path| format!("; cgroup2 is at {}", path.display())).unwrap_or_default();
            let expected = format!("a directory of a cgroup2 hierarchy (--ebpf-cgroup-path){here}");
            Error::from(InvalidValue::new(path.to_string_lossy(), expected).at("ebpf.cgroupPath"))
        };
        let file = match OpenOptions::new().read(true).custom_flags(O_DIRECTORY).open(&path) {
            Err(error) if is_nothing(&error) => return Err(wrong()),
            other => other.map_err(|error| cannot(&error))?,
        };
        if fstatfs(&file).map_err(|errno| cannot(&errno.into()))?.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(wrong());
        }
        let id = file.metadata().map_err(|error| cannot(&error))?.ino();
        Ok(Self { file, path, id })
    }

    /// The cgroup and those that it is in, as far as they can be seen.
    pub(super) fn and_around(&self) -> Vec<Self> {
        let paths = self.path.ancestors().filter(|path| !path.as_os_str().is_empty());
        paths.map_while(|path| Self::open(Some(path)).ok()).collect()
    }

    /// A thread in it that is in another network namespace than the one with this inode.
    ///
    /// # Errors
    /// If that of a thread cannot be told.
    pub(super) fn stranger(&self, netns: u64) -> Result<Option<String>, Error> {
        let mut dirs = vec![self.path.clone()];
        while let Some(dir) = dirs.pop() {
            let cannot = |what: &Path, error: &std::io::Error| Error::io(format!("look at {}", what.display()), error);
            let list = dir.join("cgroup.threads");
            let threads = unless_gone(std::fs::read_to_string(&list)).map_err(|error| cannot(&list, &error))?;
            for thread in threads.unwrap_or_default().lines() {
                let path = PathBuf::from(format!("/proc/{thread}/ns/net"));
                let other = unless_gone(std::fs::metadata(&path)).map_err(|error| cannot(&path, &error))?;
                if other.is_some_and(|meta| meta.ino() != netns) {
                    return Ok(Some(thread.to_owned()));
                }
            }
            let entries = unless_gone(std::fs::read_dir(&dir)).map_err(|error| cannot(&dir, &error))?;
            let entries = entries.into_iter().flatten().flatten();
            dirs.extend(entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|e| e.path()));
        }
        Ok(None)
    }
}

/// None for what was there a moment ago: threads and cgroups come and go.
pub(super) fn unless_gone<T>(looked: std::io::Result<T>) -> std::io::Result<Option<T>> {
    match looked {
        Err(error) if is_nothing(&error) => Ok(None),
        Err(error) if [Errno::ESRCH, Errno::ENODEV].map(|errno| Some(errno as i32)).contains(&error.raw_os_error()) => {
            Ok(None)
        }
        other => other.map(Some),
    }
}

/// Where the hierarchy of cgroup2 is mounted.
fn mounted() -> Option<PathBuf> {
    mounted_in(&std::fs::read_to_string(MOUNTS).unwrap_or_default())
}

/// One mount a line (proc_pid_mountinfo(5)): the place is the fifth field, the kind follows a lone `-`.
fn mounted_in(text: &str) -> Option<PathBuf> {
    let place = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        (after.split(' ').next()? == "cgroup2").then_some(())?;
        Some(unescaped(before.split(' ').nth(4)?).into())
    };
    text.lines().find_map(place)
}

/// Blanks and the like stand as `\040`.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..3).and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(code) => {
                all.push(code.into());
                all.push_str(&part[3..]);
            }
            None => {
                all.push('\\');
                all.push_str(part);
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_read() {
        let text = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - tmpfs tmpfs rw\n\
                    30 29 0:27 / /sys/fs/cgroup/a\\040b rw,nosuid shared:10 - cgroup2 none rw,nsdelegate\n\
                    31 29 0:28 / /sys/fs/bpf rw - bpf kumatp rw\n";
        assert_eq!(mounted_in(text), Some("/sys/fs/cgroup/a b".into()));
        assert_eq!(mounted_in(&text.replace("cgroup2 none", "cgroup none")), None);
    }

    #[test]
    fn other_places_are_refused() {
        for path in ["/proc", "/proc/self/status", "/nowhere"] {
            let error = Cgroup::open(Some(Path::new(path))).unwrap_err();
            let [problem] = error.problems() else { panic!("{error}") };
            assert_eq!((problem.path.as_str(), problem.value.as_str()), ("ebpf.cgroupPath", path));
        }
    }
}
