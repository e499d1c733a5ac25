use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};

/// A network namespace. It goes when nothing is in it and this is dropped.
pub(crate) struct Netns {
    file: File,
    /// The cgroup that threads move into with it.
    cgroup: Option<PathBuf>,
}

impl Netns {
    /// A new one, with a loopback interface that is down.
    pub(crate) fn new() -> io::Result<Self> {
        // Namespaces belong to threads, so the caller's stays as it is.
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Ok(Self { file: File::open("/proc/thread-self/ns/net")?, cgroup: None })
        });
        made.join().expect("the thread does not panic")
    }

    /// That whoever enters it enters this cgroup, too, which is one of threads.
    #[cfg(feature = "ebpf")]
    pub(super) fn in_cgroup(self, cgroup: PathBuf) -> Self {
        Self { cgroup: Some(cgroup), ..self }
    }

    /// A path by which other processes find the namespace while this one lives.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd())
    }

    /// Runs `work` on a thread of its own in the namespace. What the thread starts is in it too.
    pub(crate) fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                if let Some(cgroup) = &self.cgroup {
                    std::fs::write(cgroup.join("cgroup.threads"), "0").expect("root may enter its own cgroup");
                }
                setns(&self.file, CloneFlags::CLONE_NEWNET).expect("root may enter its own namespace");
                work()
            });
            thread.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// Runs `work` in the namespace as another user; see [`User::become_it`].
    pub(crate) fn enter_as<R: Send>(&self, user: User, work: impl FnOnce() -> R + Send) -> R {
        self.enter(|| {
            user.become_it();
            work()
        })
    }
}

impl AsRef<Netns> for Netns {
    fn as_ref(&self) -> &Netns {
        self
    }
}

/// A user and a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl User {
    pub(crate) const ROOT: Self = Self { uid: 0, gid: 0 };

    /// Makes sockets of the calling thread belong to this user.
    ///
    /// The owner of a socket is the file-system user of its maker (linux net/netfilter/xt_owner.c, nft_meta.c), which is a
    /// thread's own: so one process can be many users.
    pub(crate) fn become_it(self) {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        self.really_become_it();
        setfsgid(gid);
        setfsuid(uid);
        // These calls never fail; they answer with what was before.
        assert_eq!((setfsuid(uid), setfsgid(gid)), (uid, gid), "root may become any user");
    }

    /// Makes the calling thread itself belong to this user, as eBPF programs see it. It keeps what it may do, since its
    /// effective user stays root.
    #[expect(unsafe_code, reason = "the C library would change all threads of the process")]
    fn really_become_it(self) {
        const SAME: u32 = u32::MAX;
        // SAFETY: numbers only.
        let results = unsafe {
            [
                nix::libc::syscall(nix::libc::SYS_setresgid, self.gid, SAME, SAME),
                nix::libc::syscall(nix::libc::SYS_setresuid, self.uid, SAME, SAME),
            ]
        };
        assert_eq!(results, [0, 0], "root may become any user");
    }
}

/// Runs a program with `input`; an error has what the program said.
pub(crate) fn feed(command: &mut Command, input: &str) -> io::Result<()> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().expect("stdin is piped").write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)))),
    }
}

/// Sets a parameter of the network namespace that the thread is in.
pub(crate) fn sysctl(name: &str, value: &str) -> io::Result<()> {
    std::fs::write(format!("/proc/sys/{name}"), value)
}
