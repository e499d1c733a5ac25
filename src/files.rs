//! Opening files whose paths come from elsewhere: nothing is waited for, and only regular files are opened.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The longest text that is read of a file: the limit of the C ABI.
pub(crate) const LONGEST: u64 = 64 << 20;

/// Opens a regular file for reading, with more flags of open(2).
pub(crate) fn open(path: &Path, flags: libc::c_int) -> io::Result<File> {
    Ok(open_regular(path, flags)?.0)
}

fn open_regular(path: &Path, flags: libc::c_int) -> io::Result<(File, Metadata)> {
    let regular = |meta: Metadata| match meta.is_file() {
        true => Ok(meta),
        false => Err(io::Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
    };
    // Some devices do something when they are opened.
    regular(std::fs::metadata(path)?)?;
    // What is there by now is not waited for.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | flags).open(path)?;
    let meta = regular(file.metadata()?)?;
    Ok((file, meta))
}

/// Reads a regular file that has no more than `limit` bytes.
pub(crate) fn read(path: &Path, flags: libc::c_int, limit: u64) -> io::Result<Vec<u8>> {
    let (mut file, meta) = open_regular(path, flags)?;
    if (1..=limit).contains(&meta.len()) {
        // What has a length ends there. Only if somebody has cut it off meanwhile, it is read anew.
        let mut bytes = vec![0; usize::try_from(meta.len()).map_err(io::Error::other)?];
        match file.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => file.rewind()?,
            done => return done.map(|()| bytes),
        }
    }
    let mut bytes = Vec::new();
    match file.take(limit + 1).read_to_end(&mut bytes)? as u64 > limit {
        true => Err(io::Error::new(ErrorKind::FileTooLarge, format!("it has more than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// Reads what the kernel tells in a file that it makes up, of which nobody knows the length before.
pub(crate) fn read_short(path: &Path) -> io::Result<String> {
    let mut bytes = Vec::new();
    // The standard library asks for the length, which is 0, and begins with a few bytes.
    let mut file = File::open(path)?;
    let mut room = [0; 4096];
    loop {
        match file.read(&mut room) {
            Ok(0) => return String::from_utf8(bytes).map_err(|error| io::Error::new(ErrorKind::InvalidData, error)),
            Ok(read) => bytes.extend(&room[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// As [`read`], for text.
#[cfg(any(test, feature = "cni", feature = "firewalld"))]
pub(crate) fn read_text(path: &Path, flags: libc::c_int, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, flags, limit)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn only_regular_files_within_the_limit_are_read() {
        let dir = std::env::temp_dir().join(format!("kumatp-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        std::fs::write(at("text"), "12345").unwrap();
        mkfifo(&at("pipe"), Mode::S_IRWXU).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink(at("text"), at("link")).unwrap();

        assert_eq!(read_text(&at("text"), 0, 5).unwrap(), "12345");
        assert_eq!(read_text(&at("link"), 0, 5).unwrap(), "12345");
        assert!(read(&at("text"), 0, 4).unwrap_err().to_string().contains("more than 4 bytes"));
        // With a writer that is never there, an ordinary open would wait for ever.
        for name in ["pipe", "socket", "", "/dev/zero"] {
            let error = read(&at(name), 0, LONGEST).unwrap_err();
            assert_eq!(error.to_string(), "it is not a regular file", "{name}");
        }
        assert!(read(&at("link"), libc::O_NOFOLLOW, 5).is_err());
        assert_eq!(read(&at("none"), 0, 5).unwrap_err().kind(), ErrorKind::NotFound);
        drop(socket);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
