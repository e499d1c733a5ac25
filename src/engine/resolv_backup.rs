//! `/etc/resolv.conf` as it was before old versions of Kuma changed it.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::libc::O_NOFOLLOW;

use super::record_store::replace_file;
use super::report::Report;
use crate::error::Error;
use crate::files;
use crate::model::Note;

/// The longest file that is put back, in bytes.
const LIMIT: u64 = 1 << 20;

/// Puts `resolv.conf.kuma-backup` of a directory, usually `/etc`, back over its `resolv.conf` and
/// removes it. Does nothing where there is no backup.
///
/// Links are not followed: where either is one, both stay as they are and a note says so.
///
/// # Errors
/// [`Error::Os`] if a file cannot be read or written; the backup stays then.
pub fn restore(etc: &Path, report: &mut Report) -> Result<(), Error> {
    let backup = etc.join("resolv.conf.kuma-backup");
    let target = etc.join("resolv.conf");
    let cannot = |action: &str, path: &Path| {
        let action = format!("{action} {}", path.display());
        move |error: std::io::Error| Error::io(action.clone(), &error)
    };
    for path in [&backup, &target] {
        match std::fs::symlink_metadata(path) {
            Ok(meta) if meta.is_file() => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if path == &backup {
                    return Ok(());
                }
            }
            Ok(_) => {
                let text = format!("{} is no ordinary file, so {} was not put back", path.display(), backup.display());
                report.notes.push(Note::warning("resolv.conf", text));
                return Ok(());
            }
            Err(error) => return Err(cannot("look at", path)(error)),
        }
    }
    let file = open(&backup).map_err(cannot("read", &backup))?;
    let mut content = Vec::new();
    let mode = file.metadata().map_err(cannot("read", &backup))?.mode() & 0o777;
    file.take(LIMIT + 1).read_to_end(&mut content).map_err(cannot("read", &backup))?;
    if content.len() as u64 > LIMIT {
        let error = std::io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {LIMIT} bytes"));
        return Err(cannot("put back", &backup)(error));
    }
    match replace_file(&target, &content, mode) {
        Ok(()) => {}
        // In a container the file is a mount of its own, which can only be written into.
        Err(error) if matches!(error.kind(), ErrorKind::ResourceBusy | ErrorKind::CrossesDevices) => {
            overwrite(&target, &content).map_err(cannot("write", &target))?;
        }
        Err(error) => return Err(cannot("write", &target)(error)),
    }
    std::fs::remove_file(&backup).map_err(cannot("remove", &backup))?;
    report.step(format!("put {} back over {}", backup.display(), target.display()));
    Ok(())
}

fn open(path: &Path) -> std::io::Result<File> {
    files::open(path, O_NOFOLLOW)
}

fn overwrite(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).custom_flags(O_NOFOLLOW).open(path)?;
    file.write_all(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::EngineName;

    fn etc(test: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("kumatp-resolv-{test}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    #[test]
    fn put_back_once() {
        let etc = etc("once");
        let mut report = Report::new(EngineName::Iptables);
        restore(&etc, &mut report).unwrap();
        assert!(!report.changed);
        std::fs::write(etc.join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
        std::fs::write(etc.join("resolv.conf.kuma-backup"), "nameserver 203.0.113.53\n").unwrap();
        restore(&etc, &mut report).unwrap();
        assert!(report.changed);
        assert_eq!(std::fs::read_to_string(etc.join("resolv.conf")).unwrap(), "nameserver 203.0.113.53\n");
        assert_eq!(std::fs::read_dir(&etc).unwrap().count(), 1);
        std::fs::remove_dir_all(&etc).unwrap();
    }

    #[test]
    fn links_are_left_alone() {
        let etc = etc("links");
        let elsewhere = etc.join("elsewhere");
        std::fs::write(&elsewhere, "kept").unwrap();
        std::os::unix::fs::symlink(&elsewhere, etc.join("resolv.conf")).unwrap();
        std::fs::write(etc.join("resolv.conf.kuma-backup"), "new").unwrap();
        let mut report = Report::new(EngineName::Iptables);
        restore(&etc, &mut report).unwrap();
        assert!(!report.changed && report.notes.len() == 1);
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "kept");
        assert!(etc.join("resolv.conf.kuma-backup").exists());
        std::fs::remove_dir_all(&etc).unwrap();
    }
}
