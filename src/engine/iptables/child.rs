//! A program that runs, and how it ended, also where the embedder ignores SIGCHLD.
//!
//! Where that signal is ignored, the kernel reaps every child itself, and nobody learns how it ended. The signal belongs to
//! the embedder, so it stays as it is: another process stands between us and the program then. The signal has its default
//! there; it waits for the program and tells by a pipe how that ended.
//!
//! A program does not outlive the thread that waits for it. The lock of the rules goes with our process, so whoever comes next would
//! not wait for a program that goes on, and its rules would come on top of theirs. What the kernel is doing for it goes on even so, and
//! therefore the program has the lock as well.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::ptr;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, setpgid};

/// What is run, and in which environment; standard input is a file.
#[derive(Debug)]
pub(super) struct Call<'a> {
    pub(super) program: &'a Path,
    pub(super) args: Vec<OsString>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) input: File,
    /// What it keeps open until it ends.
    pub(super) lock: Option<Arc<OwnedFd>>,
}

/// A program that was started, in a process group of its own.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) stdout: Option<OwnedFd>,
    pub(super) stderr: Option<OwnedFd>,
    group: Pid,
    end: End,
}

/// Where it is told how the program ended.
#[derive(Debug)]
enum End {
    Child(Child),
    Watched(File),
}

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    With(ExitStatus),
    /// It was never started.
    NotStarted(io::Error),
    /// Somebody else was told.
    Unknown,
}

impl Running {
    pub(super) fn start(call: Call<'_>) -> io::Result<Self> {
        match kernel_reaps_children()? {
            true => Self::watched(call),
            false => Self::child(call),
        }
    }

    fn child(call: Call<'_>) -> io::Result<Self> {
        let mut command = Command::new(call.program);
        command
            .args(call.args)
            .env_clear()
            .envs(call.environment)
            .stdin(call.input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // So that what the program starts can be stopped with it.
            .process_group(0);
        #[expect(unsafe_code, reason = "the new process runs our code before the program")]
        // SAFETY: these system calls are safe after a fork of one thread of many, and nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                let kept = call.lock.as_ref().map_or(0, |lock| libc::fcntl(lock.as_raw_fd(), libc::F_SETFD, 0));
                match (kept, libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL)) {
                    (0, 0) => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        let mut child = command.spawn()?;
        Ok(Self {
            stdout: child.stdout.take().map(Into::into),
            stderr: child.stderr.take().map(Into::into),
            group: Pid::from_raw(child.id().try_into().map_err(io::Error::other)?),
            end: End::Child(child),
        })
    }

    fn watched(call: Call<'_>) -> io::Result<Self> {
        let text = |text: OsString| CString::new(text.into_vec()).map_err(io::Error::from);
        let program = CString::new(call.program.as_os_str().as_bytes())?;
        let mut args = vec![program.clone()];
        for arg in call.args {
            args.push(text(arg)?);
        }
        let mut environment = Vec::new();
        for (mut name, value) in call.environment {
            name.push("=");
            name.push(value);
            environment.push(text(name)?);
        }
        let pipe = || pipe2(OFlag::O_CLOEXEC);
        let ((out, to_out), (err, to_err), (told, tell)) = (pipe()?, pipe()?, pipe()?);
        let plan = Plan {
            program: &program,
            args: pointers(&args),
            environment: pointers(&environment),
            standard: [above(call.input.as_fd())?, above(to_out.as_fd())?, above(to_err.as_fd())?],
            tell: above(tell.as_fd())?,
            told: told.as_raw_fd(),
        };
        let group = plan.start()?;
        // Whoever of the two comes first.
        let _ = setpgid(group, group);
        drop((plan, tell));
        let mut told = File::from(told);
        // From then on it ends with this thread. If it has ended already, what comes next from the pipe says so.
        let _ = told.read_exact(&mut [READY]);
        Ok(Self { stdout: Some(out), stderr: Some(err), group, end: End::Watched(told) })
    }

    /// How it ended; none if it has not within that time. What is told by the pipe is told once.
    pub(super) fn ended(&mut self, within: PollTimeout) -> Option<Ended> {
        match &mut self.end {
            End::Child(child) => match child.try_wait() {
                Ok(status) => status.map(Ended::With),
                Err(_) => Some(Ended::Unknown),
            },
            End::Watched(told) => {
                let mut wanted = [PollFd::new(told.as_fd(), PollFlags::POLLIN)];
                if poll(&mut wanted, within).is_ok_and(|ready| ready == 0) {
                    return None;
                }
                let mut numbers = [0; 8];
                let ended = match told.read_exact(&mut numbers) {
                    Ok(()) => Ended::of(numbers),
                    Err(_) => Ended::Unknown,
                };
                let _ = waitpid(self.group, None);
                Some(ended)
            }
        }
    }

    /// Stops it, with all that it started.
    pub(super) fn stop(&mut self) {
        let _ = killpg(self.group, Signal::SIGKILL);
        match &mut self.end {
            End::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            End::Watched(_) => drop(waitpid(self.group, None)),
        }
    }
}

impl Ended {
    /// What [`watch`] tells: an error number, or else a status.
    fn of(numbers: [u8; 8]) -> Self {
        let [a, b, c, d, status @ ..] = numbers;
        match i32::from_ne_bytes([a, b, c, d]) {
            0 => Self::With(ExitStatus::from_raw(i32::from_ne_bytes(status))),
            errno => Self::NotStarted(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// A copy of a file descriptor that is none of the three standard ones, which the new process replaces.
fn above(file: impl AsFd) -> io::Result<OwnedFd> {
    let number = fcntl(file, FcntlArg::F_DUPFD_CLOEXEC(3))?;
    #[expect(unsafe_code, reason = "fcntl(2) gives a number")]
    // SAFETY: the file descriptor was made just now, and nothing else has its number.
    Ok(unsafe { std::os::fd::FromRawFd::from_raw_fd(number) })
}

fn pointers(texts: &[CString]) -> Vec<*mut libc::c_char> {
    texts.iter().map(|text| text.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect()
}

fn kernel_reaps_children() -> io::Result<bool> {
    #[expect(unsafe_code, reason = "nix reads a disposition only by setting it")]
    // SAFETY: nothing is set; the kernel fills in `now`, of which all zeros is a valid value.
    let now = unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(libc::SIGCHLD, ptr::null(), &raw mut now) != 0 {
            return Err(io::Error::last_os_error());
        }
        now
    };
    Ok(now.sa_sigaction == libc::SIG_IGN || now.sa_flags & libc::SA_NOCLDWAIT != 0)
}

/// What the process between us and the program tells first.
static READY: u8 = 0;

/// All that the process between us and the program needs, made beforehand: it may not allocate.
struct Plan<'a> {
    program: &'a CString,
    /// They end with a null pointer, and point to texts that outlive the plan.
    args: Vec<*mut libc::c_char>,
    environment: Vec<*mut libc::c_char>,
    standard: [OwnedFd; 3],
    tell: OwnedFd,
    /// Our end of what it tells by.
    told: RawFd,
}

impl Plan<'_> {
    /// Makes the process, which leads a process group.
    fn start(&self) -> io::Result<Pid> {
        #[expect(unsafe_code, reason = "the new process runs our code, not another program")]
        // SAFETY: `watch` calls nothing but functions that are safe after a fork of one thread of many, and does not return.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the new process.
            0 => unsafe { self.watch() },
            child => Ok(Pid::from_raw(child)),
        }
    }

    /// Runs the program, waits for it, and tells how it ended.
    ///
    /// # Safety
    /// Only for a process that was forked just now. Nothing here allocates, takes a lock or can panic.
    #[expect(unsafe_code, reason = "these are system calls between fork(2) and _exit(2)")]
    unsafe fn watch(&self) -> ! {
        // SAFETY: all pointers are those of values on this stack or of `self`, which the fork has copied.
        unsafe {
            libc::setpgid(0, 0);
            let mut stop: libc::sigaction = std::mem::zeroed();
            stop.sa_sigaction = stop_group as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(libc::SIGTERM, &raw const stop, ptr::null_mut());
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
            let mut default: libc::sigaction = std::mem::zeroed();
            default.sa_sigaction = libc::SIG_DFL;
            for signal in [libc::SIGCHLD, libc::SIGPIPE] {
                libc::sigaction(signal, &raw const default, ptr::null_mut());
            }
            libc::sigprocmask(libc::SIG_SETMASK, &raw const default.sa_mask, ptr::null_mut());
            let tell = self.tell.as_raw_fd();
            // Where nobody is left to read it, this is the end.
            libc::close(self.told);
            libc::write(tell, (&raw const READY).cast(), 1);
            let [input, output, errors] = &self.standard;
            libc::dup2(input.as_raw_fd(), 0);
            libc::dup2(output.as_raw_fd(), 1);
            libc::dup2(errors.as_raw_fd(), 2);
            // The embedder's other files must not stay open here. Kernels before 5.9 cannot, and the program ends soon.
            libc::syscall(libc::SYS_close_range, 3, tell - 1, 0);
            libc::syscall(libc::SYS_close_range, tell + 1, libc::c_int::MAX, 0);

            let (mut child, mut status) = (0, 0);
            let (args, environment) = (self.args.as_ptr(), self.environment.as_ptr());
            let errno =
                libc::posix_spawn(&raw mut child, self.program.as_ptr(), ptr::null(), ptr::null(), args, environment);
            if errno == 0 {
                while libc::waitpid(child, &raw mut status, 0) == -1 && *libc::__errno_location() == libc::EINTR {}
            }
            let told = [errno, status];
            libc::write(tell, (&raw const told).cast(), size_of_val(&told));
            libc::_exit(0)
        }
    }
}

/// Stops the process between and the program, when whoever waits for them is gone.
extern "C" fn stop_group(_: libc::c_int) {
    #[expect(unsafe_code, reason = "nix's kill may do more than the system call")]
    // SAFETY: kill(2) is safe in a signal handler. The process leads a group of its own.
    unsafe {
        libc::kill(0, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call<'a>(program: &'a str, args: &[&str]) -> Call<'a> {
        Call {
            program: Path::new(program),
            args: args.iter().map(Into::into).collect(),
            environment: vec![("GREETING".into(), "hello".into())],
            input: File::open("/dev/null").unwrap(),
            lock: None,
        }
    }

    fn watched(program: &str, args: &[&str]) -> Running {
        Running::watched(call(program, args)).unwrap()
    }

    fn text(output: Option<OwnedFd>) -> String {
        let mut text = String::new();
        File::from(output.unwrap()).read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_process_between_tells_how_the_program_ended() {
        let script = r#"echo "$GREETING $1"; echo oops >&2; cat; exit 7"#;
        let mut running = watched("/bin/sh", &["-c", script, "sh", "world"]);
        assert_eq!(text(running.stdout.take()), "hello world\n");
        assert_eq!(text(running.stderr.take()), "oops\n");
        let Some(Ended::With(status)) = running.ended(PollTimeout::NONE) else { panic!("it has ended") };
        assert_eq!(status.code(), Some(7));

        let mut running = watched("/bin/sh", &["-c", "kill -9 $$"]);
        let Some(Ended::With(status)) = running.ended(PollTimeout::NONE) else { panic!("it has ended") };
        assert_eq!(status.signal(), Some(9));

        let mut running = watched("/no/such/program", &[]);
        let Some(Ended::NotStarted(error)) = running.ended(PollTimeout::NONE) else { panic!("there is none") };
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn it_is_stopped_with_all_that_it_started() {
        let mut running = watched("/bin/sh", &["-c", "sleep 1000 & sleep 1000"]);
        assert!(running.ended(PollTimeout::ZERO).is_none());
        running.stop();
        // Whoever is left would hold it open.
        assert_eq!(text(running.stdout.take()), "");
        assert!(matches!(running.ended(PollTimeout::NONE), Some(Ended::Unknown)));
    }

    #[test]
    fn it_ends_with_whoever_waits_for_it() {
        for start in [Running::child, Running::watched] {
            // The thread is gone before the program has an end.
            let script = "exec sleep 1000";
            let started = std::thread::spawn(move || start(call("/bin/sh", &["-c", script]))).join();
            let mut running = started.unwrap().unwrap();
            assert_eq!(text(running.stdout.take()), "");
            running.stop();
        }
    }

    #[test]
    fn it_has_the_lock_until_it_ends() {
        let (there, lock) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut call = call("/bin/sh", &["-c", "exec sleep 1000"]);
        call.lock = Some(Arc::new(lock));
        // Nothing of the lock is left here.
        let mut running = Running::child(call).unwrap();
        let mut wanted = [PollFd::new(there.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wanted, PollTimeout::ZERO), Ok(0));
        running.stop();
        assert_eq!(poll(&mut wanted, PollTimeout::NONE), Ok(1));
    }

    #[test]
    fn files_of_the_embedder_do_not_stay_open_in_between() {
        let (theirs, other) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut running = watched("/bin/sh", &["-c", "read line </proc/self/stat; sleep 1000"]);
        drop(other);
        // The other end is gone as soon as the embedder closes its own.
        assert_eq!(text(Some(theirs)), "");
        running.stop();
    }
}
