//! Files and streams that the command reads: up to a limit, and without waiting for somebody to write.
//!
//! The library reads regular files only. To the command, a shell may give a pipe in place of one.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The longest text that is read, in bytes: 64 MiB, as of the C functions.
pub(crate) const LIMIT: u64 = 64 << 20;

/// The content of a file.
///
/// # Errors
/// If it cannot be read, has more than [`LIMIT`] bytes, or is a pipe with a name, for whose writer it would have to wait.
pub(crate) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    // Long files are mostly holes or mistakes, and need not be read to be refused.
    match file.metadata()? {
        meta if meta.is_file() && meta.len() > LIMIT => Err(too_long()),
        _ => bounded(file),
    }
}

/// All that there is to read.
///
/// # Errors
/// If it cannot be read, or has more than [`LIMIT`] bytes.
pub(crate) fn bounded(input: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LIMIT { Err(too_long()) } else { Ok(bytes) }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("it has more than the limit of {} MiB", LIMIT >> 20))
}

#[cfg(target_os = "linux")]
fn open(path: &Path) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    let without_waiting = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(without_waiting.bits()).open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        // A pipe without a name is one that the shell made (`<(command)`), and has its writer.
        let link = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if !link.is_ok_and(|link| link.as_os_str().as_encoded_bytes().starts_with(b"pipe:")) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a named pipe, which is not waited for"));
        }
        fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    }
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsRawFd as _;

    use nix::sys::stat::Mode;

    use super::*;

    fn refused(path: &str) -> String {
        read(Path::new(path)).expect_err(path).to_string()
    }

    #[test]
    fn what_never_ends_is_refused() {
        assert!(refused("/dev/zero").contains("more than the limit of 64 MiB"));
        assert!(bounded(io::repeat(b' ')).unwrap_err().to_string().contains("64 MiB"));
        assert_eq!(bounded(io::repeat(b' ').take(LIMIT)).unwrap().len() as u64, LIMIT);
        assert_eq!(read(Path::new("/dev/null")).unwrap(), b"");
    }

    #[test]
    fn holes_are_refused_unread_and_pipes_are_not_waited_for() {
        let dir = std::env::temp_dir().join(format!("kumatp-command-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (holes, pipe) = (dir.join("holes"), dir.join("pipe"));
        File::create(&holes).unwrap().set_len(5 << 30).unwrap();
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        assert!(refused(holes.to_str().unwrap()).contains("64 MiB"));
        assert!(refused(pipe.to_str().unwrap()).contains("named pipe"));
        assert_eq!(read(&dir).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_pipe_of_the_shell_is_read_to_its_end() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let thread = std::thread::spawn(move || read(Path::new(&path)));
        nix::unistd::write(&writer, b"wait: 1").unwrap();
        drop(writer);
        assert_eq!(thread.join().unwrap().unwrap(), b"wait: 1");
    }
}
