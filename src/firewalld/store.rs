//! The file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::{merge, remove};
use crate::error::Error;
use crate::files;
use crate::model::Plan;

/// Where firewalld keeps its direct configuration.
pub const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

/// Writes the rules of a plan to firewalld's file, as [`merge`] does; says whether that changed it.
///
/// The file is replaced in one step, so firewalld reads the old one or the new one. Owner and mode
/// stay; a new file is for its owner alone, as kumactl has it. Of a symbolic link, the file that it
/// leads to is replaced.
///
/// # Errors
/// As [`merge`], and [`Error::Os`] if the file cannot be read or written; it is unchanged then.
pub fn store(path: &Path, plan: &Plan) -> Result<bool, Error> {
    let target = Target::of(path)?;
    let existing = target.read()?.unwrap_or_default();
    target.replace(&existing, &merge(&existing, plan)?)
}

/// Takes our entries out of firewalld's file, as [`remove`] does; says whether there were any. No
/// file is as good as one without them.
///
/// # Errors
/// As [`store`].
pub fn unstore(path: &Path) -> Result<bool, Error> {
    let target = Target::of(path)?;
    let Some(existing) = target.read()? else { return Ok(false) };
    match remove(&existing)? {
        Some(without) => target.replace(&existing, &without),
        None => Ok(false),
    }
}

/// The file that a path leads to.
struct Target {
    path: PathBuf,
}

impl Target {
    fn of(path: &Path) -> Result<Self, Error> {
        let path = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            Err(error) => return Err(Error::io(format!("read {}", path.display()), &error)),
            Ok(_) => fs::canonicalize(path)
                .map_err(|error| Error::io(format!("follow the link {}", path.display()), &error))?,
        };
        Ok(Self { path })
    }

    fn action(&self, verb: &str) -> String {
        format!("{verb} {}", self.path.display())
    }

    fn read(&self) -> Result<Option<String>, Error> {
        let failed = |error: &io::Error| Error::io(self.action("read"), error);
        match files::read_text(&self.path, 0, files::LONGEST) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    fn replace(&self, existing: &str, text: &str) -> Result<bool, Error> {
        if text == existing {
            return Ok(false);
        }
        let failed = |error: &io::Error| Error::io(self.action("write"), error);
        let directory = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (mut file, temporary) = temporary(directory, &self.path).map_err(|error| failed(&error))?;
        let result = self.fill(&mut file, text).and_then(|()| fs::rename(&temporary, &self.path));
        if let Err(error) = result {
            // The reason is what matters; a file left behind has a name of its own.
            let _ = fs::remove_file(&temporary);
            return Err(failed(&error));
        }
        // Only a power failure could lose the new name now, and the old file is whole then.
        let _ = File::open(directory).and_then(|directory| directory.sync_all());
        Ok(true)
    }

    fn fill(&self, file: &mut File, text: &str) -> io::Result<()> {
        match fs::metadata(&self.path) {
            Ok(old) => {
                let new = file.metadata()?;
                if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
                    fchown(&*file, Some(old.uid()), Some(old.gid()))?;
                }
                file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

/// A new file beside `target`, which nobody else can read or had made before.
fn temporary(directory: &Path, target: &Path) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..100 {
        let path = directory.join(format!(".{name}.{}.{attempt}", std::process::id()));
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
