//! Running the programs: bounded in time and output, in a known environment.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use super::child::{Call, Ended, Running};
use crate::engine::turn::Turn;
use crate::error::Error;

/// How much of what a program prints is read: far above the rules of the largest hosts.
const OUTPUT_LIMIT: u64 = 512 << 20;

/// How much of what a program complains about is kept.
const MESSAGE_LIMIT: usize = 2000;

/// What a program left behind.
#[derive(Debug)]
pub(super) struct Output {
    command: String,
    status: ExitStatus,
    pub(super) stdout: String,
    stderr: String,
}

impl Output {
    pub(super) fn success(&self) -> bool {
        self.status.success()
    }

    /// Whether the failure may pass: the lock is held, or the rules changed while they were read.
    pub(super) fn may_pass(&self) -> bool {
        const SIGNS: [&str; 5] = [
            "holding the xtables lock",
            "Resource temporarily unavailable",
            "Device or resource busy",
            "Interrupted system call",
            "should be restarted",
        ];
        !self.success() && SIGNS.iter().any(|sign| self.stderr.contains(sign))
    }

    /// Whether the failure says that rules or chains are not those that the text was written for.
    pub(super) fn outdated(&self) -> bool {
        const SIGNS: [&str; 6] = [
            "does a matching rule exist",
            "No chain/target/match by that name",
            "No such file or directory",
            "Chain already exists",
            "File exists",
            "Directory not empty",
        ];
        // 2 is a text that the program does not understand, which stays what it is.
        !self.success()
            && self.status.code() != Some(2)
            && (SIGNS.iter().any(|sign| self.stderr.contains(sign)) || self.names_a_line_only())
    }

    /// Whether legacy programs say which line failed, and not why: "iptables-restore: line 7 failed".
    fn names_a_line_only(&self) -> bool {
        let number =
            |line: &str| Some(line.trim_end_matches('.').strip_suffix(" failed")?.rsplit_once(": line ")?.1.to_owned());
        self.stderr.lines().filter_map(number).any(|number| number.parse::<u32>().is_ok())
    }

    /// Whether the failure says that the kernel has no such legacy table.
    pub(super) fn no_table(&self) -> bool {
        !self.success() && self.stderr.contains("Table does not exist")
    }

    /// Whether the failure is that legacy programs cannot make the file of their lock.
    pub(super) fn no_lock_file(&self) -> bool {
        !self.success() && self.stderr.contains("can't open lock file")
    }

    /// Whether a rule of this text that names a user or group may be what the kernel refused. Legacy programs do not say why
    /// they failed, nft programs do.
    pub(super) fn owner_refused(&self, text: &str) -> bool {
        let of_line = |line: &str| -> Option<usize> { line.strip_prefix("line ")?.split_once(": ")?.0.parse().ok() };
        let names_owner =
            |number: usize| text.lines().nth(number.wrapping_sub(1)).is_some_and(|rule| rule.contains("-m owner "));
        let invalid = self.stderr.lines().filter(|line| line.contains("(Invalid argument)"));
        let refused = invalid.filter_map(of_line).any(names_owner);
        !self.success() && (refused || self.names_a_line_only() && text.contains("-m owner "))
    }

    /// Whether the failure is for want of a privilege.
    pub(super) fn denied(&self) -> bool {
        !self.success()
            && ["Permission denied", "you must be root", "Operation not permitted"]
                .iter()
                .any(|s| self.stderr.contains(s))
    }

    /// What the program complained about, in one line.
    pub(super) fn message(&self) -> String {
        let lines: Vec<_> =
            self.stderr.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("Try `")).collect();
        match lines.is_empty() {
            true => "it said nothing".into(),
            false => lines.join("; "),
        }
    }

    pub(super) fn error(&self) -> Error {
        let status = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".into(),
        };
        Error::Program { program: self.command.clone(), status, message: self.message() }
    }
}

/// What bounds and surrounds the programs.
#[derive(Debug, Clone)]
pub(super) struct Runner {
    /// The directories in which programs are looked for, given on as `PATH`.
    path: OsString,
    deadline: Instant,
    /// What the programs hold on to.
    lock: Option<Arc<OwnedFd>>,
}

impl Runner {
    pub(super) fn new(path: OsString, limit: Duration) -> Self {
        Self { path, deadline: Instant::now() + limit, lock: None }
    }

    /// The same in this turn, which lasts as long as any of the programs.
    pub(super) fn in_turn(mut self, turn: &Turn) -> Self {
        self.lock = turn.lock();
        self
    }

    /// How much time is left for everything.
    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Runs a program that reads `input` and ends within `limit`.
    ///
    /// The text is given by a file without a name, so nothing can be left behind or got at.
    pub(super) fn run<S: AsRef<OsStr>>(
        &self,
        program: &Path,
        args: &[S],
        input: &str,
        limit: Duration,
    ) -> Result<Output, Error> {
        let command_line = describe(program, args);
        let cannot = |error: &std::io::Error| Error::io(format!("run {command_line}"), error);
        let input = match input {
            "" => File::open("/dev/null"),
            text => file_of(text),
        };
        let call = Call {
            program,
            args: args.iter().map(|arg| arg.as_ref().to_owned()).collect(),
            environment: self.environment(),
            input: input.map_err(|error| cannot(&error))?,
            lock: self.lock.clone(),
        };
        let mut running = Running::start(call).map_err(|error| cannot(&error))?;
        let failed = |status: &str, message: String| Error::Program {
            program: command_line.clone(),
            status: status.into(),
            message,
        };
        match collect(&mut running, self.deadline.min(Instant::now() + limit)) {
            Ok((status, stdout, stderr)) => Ok(Output {
                status,
                stdout: String::from_utf8_lossy(&stdout).into_owned(),
                stderr: shortened(&String::from_utf8_lossy(&stderr)),
                command: command_line,
            }),
            Err(why) => {
                running.stop();
                Err(match why {
                    Unfinished::Late => failed("stopped", format!("it did not end within {} s", limit.as_secs())),
                    Unfinished::TooMuch => failed("stopped", format!("it printed more than {OUTPUT_LIMIT} bytes")),
                    Unfinished::Unknown => failed("unknown status", STATUS_TAKEN.into()),
                    Unfinished::System(error) => cannot(&error),
                })
            }
        }
    }

    fn environment(&self) -> Vec<(OsString, OsString)> {
        // Where iptables keeps its lock and its extensions.
        let kept = ["XTABLES_LOCKFILE", "XTABLES_LIBDIR", "IPTABLES_LIB_DIR", "IP6TABLES_LIB_DIR"];
        let kept = kept.into_iter().filter_map(|name| Some((name.into(), std::env::var_os(name)?)));
        [("PATH".into(), self.path.clone()), ("LC_ALL".into(), "C".into())].into_iter().chain(kept).collect()
    }
}

const STATUS_TAKEN: &str = "how it ended was told to another part of this process: while the iptables engine runs, a program must \
                            not wait for children that are not its own, nor begin to ignore SIGCHLD";

/// Why there is no result of a program.
enum Unfinished {
    Late,
    TooMuch,
    Unknown,
    System(io::Error),
}

impl From<Errno> for Unfinished {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

/// Reads what a program prints until it ends, on this thread: another one may not be had.
fn collect(running: &mut Running, deadline: Instant) -> Result<(ExitStatus, Vec<u8>, Vec<u8>), Unfinished> {
    let left = || {
        let left = deadline.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(Unfinished::Late),
            // Not shorter than it is, which would be a busy loop.
            false => Ok(PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)),
        }
    };
    let mut outputs = [running.stdout.take(), running.stderr.take()].map(|output| output.map(File::from));
    let mut texts = [Vec::new(), Vec::new()];
    let mut buffer = vec![0; 64 << 10];
    while outputs.iter().any(Option::is_some) {
        let mut wanted: Vec<_> =
            outputs.iter().flatten().map(|output| PollFd::new(output.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut wanted, left()?) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let mut ready = wanted.iter().map(|one| one.any().unwrap_or_default()).collect::<Vec<_>>().into_iter();
        for (output, text) in outputs.iter_mut().zip(&mut texts) {
            let Some(file) = output.as_mut().filter(|_| ready.next() == Some(true)) else { continue };
            match file.read(&mut buffer) {
                Ok(0) => *output = None,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What was read before an error is as good as it gets.
                Err(_) => *output = None,
            }
            if text.len() as u64 > OUTPUT_LIMIT {
                return Err(Unfinished::TooMuch);
            }
        }
    }
    let [stdout, stderr] = texts;
    loop {
        match running.ended(left()?) {
            Some(Ended::With(status)) => return Ok((status, stdout, stderr)),
            Some(Ended::NotStarted(error)) => return Err(Unfinished::System(error)),
            Some(Ended::Unknown) => return Err(Unfinished::Unknown),
            // Both outputs are closed, so it is about to end.
            None => thread::sleep(Duration::from_micros(200)),
        }
    }
}

fn file_of(text: &str) -> std::io::Result<File> {
    let mut file = File::from(memfd_create(c"rules", MFdFlags::MFD_CLOEXEC)?);
    file.write_all(text.as_bytes())?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn describe<S: AsRef<OsStr>>(program: &Path, args: &[S]) -> String {
    let mut text = program.display().to_string();
    for arg in args {
        text.push(' ');
        text.push_str(&arg.as_ref().to_string_lossy());
    }
    text
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MESSAGE_LIMIT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runner() -> Runner {
        Runner::new("/usr/bin:/bin".into(), Duration::from_secs(600))
    }

    fn sh(script: &str, input: &str, limit: Duration) -> Result<Output, Error> {
        runner().run(Path::new("/bin/sh"), &["-c", script], input, limit)
    }

    const LIMIT: Duration = Duration::from_secs(300);

    #[test]
    fn text_goes_in_and_comes_out() {
        let text = "x".repeat(1 << 20);
        assert_eq!(sh("cat", &text, LIMIT).unwrap().stdout, text);
        assert_eq!(sh("echo $LC_ALL $HOME", "", LIMIT).unwrap().stdout, "C\n");
    }

    #[test]
    fn failures_carry_status_and_message() {
        let output = sh("echo oops >&2; exit 3", "", LIMIT).unwrap();
        assert!(!output.success() && !output.may_pass());
        let error = output.error().to_string();
        assert!(error.contains("exit status 3") && error.contains("oops") && error.contains("/bin/sh"), "{error}");
    }

    #[test]
    fn a_hanging_program_is_stopped_with_all_that_it_started() {
        let error = sh("sleep 10000 & sleep 10000", "", Duration::from_millis(200)).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error}");
    }

    #[test]
    fn only_what_can_pass_is_worth_a_retry() {
        assert!(
            sh("echo 'Another app is currently holding the xtables lock.' >&2; exit 4", "", LIMIT).unwrap().may_pass()
        );
        let invalid = sh("echo 'too many ports specified' >&2; exit 2", "", LIMIT).unwrap();
        assert!(!invalid.may_pass() && !invalid.outdated());
        assert!(sh("echo 'iptables-restore: line 7 failed' >&2; exit 1", "", LIMIT).unwrap().outdated());
        assert!(!sh("echo 'iptables-restore: line 7 failed: why' >&2; exit 1", "", LIMIT).unwrap().outdated());
    }

    #[test]
    fn a_refused_owner_is_told_from_other_refusals() {
        let said = |text: &str| sh(&format!("echo '{text}' >&2; exit 4"), "", LIMIT).unwrap();
        let rules = "*nat\n-A OUTPUT -p tcp -m owner --uid-owner 5678 -j RETURN\n-A OUTPUT -p tcp -j X\nCOMMIT\n";
        let of_line =
            |line: u32| said(&format!("line {line}: RULE_APPEND failed (Invalid argument): rule in chain OUTPUT"));
        assert!(
            of_line(2).owner_refused(rules) && !of_line(3).owner_refused(rules) && !of_line(0).owner_refused(rules)
        );
        let line_only = said("iptables-restore: line 4 failed");
        assert!(line_only.owner_refused(rules) && !line_only.owner_refused("*nat\nCOMMIT\n"));
    }
}
