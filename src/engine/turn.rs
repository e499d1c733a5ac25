//! One operation at a time: a lock for each network namespace.
//!
//! The lock is an abstract Unix socket. Such a name belongs to the network namespace of the process that binds it, needs no file
//! system and no privilege, and goes with its process however that ends. Every user of the namespace can bind the name, so the
//! lock only orders those who cooperate: a holder who may not change rules is not waited for long, and then passed over.

use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen, shutdown, socket,
};
use nix::unistd::{Pid, geteuid};

use super::report::Report;
use crate::error::Error;
use crate::error::visible;
use crate::model::Note;

/// The name of the lock.
const NAME: &[u8] = b"kumatp/rules";

/// How long to wait for an operation of somebody who may change rules.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to wait for anybody else.
const PATIENCE_WITH_STRANGERS: Duration = Duration::from_secs(3);

/// The pause before the name is tried again.
const PAUSE: Duration = Duration::from_millis(5);

/// The right to change rules in a network namespace, until it is dropped. All engines share it: each takes the place of what the
/// others have installed, so two of them at once could leave the rules of both, or of neither.
#[derive(Debug)]
pub(super) struct Turn {
    name: Option<Arc<OwnedFd>>,
}

impl Drop for Turn {
    /// A process that another thread of the embedder has forked meanwhile may keep a copy of the socket, and with it the name. Nobody
    /// is to wait for that one.
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            let _ = shutdown(name.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// Who has bound the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    /// 0 for a process that cannot be seen from here.
    pid: i32,
    uid: u32,
}

impl Turn {
    /// Waits until no other operation is under way in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Conflict`] with the holder if that takes more than a minute.
    pub(super) fn take(report: &mut Report) -> Result<Self, Error> {
        Self::of_name(NAME, PATIENCE, PATIENCE_WITH_STRANGERS, report)
    }

    /// The same for an operation that is to change something. One that only says what it would do waits for nobody.
    pub(super) fn take_unless(dry_run: bool, report: &mut Report) -> Result<Self, Error> {
        if dry_run { Ok(Self { name: None }) } else { Self::take(report) }
    }

    /// What holds the name. A program that has it keeps others waiting until it has ended, also where this process has before.
    pub(super) fn lock(&self) -> Option<Arc<OwnedFd>> {
        self.name.clone()
    }

    fn of_name(name: &[u8], patience: Duration, with_strangers: Duration, report: &mut Report) -> Result<Self, Error> {
        let address = UnixAddr::new_abstract(name).map_err(failed)?;
        let mut patience = Patience::new(patience, with_strangers.min(patience));
        loop {
            match bound(&address) {
                Ok(name) => return Ok(Self { name: Some(Arc::new(name)) }),
                Err(Errno::EADDRINUSE) => {}
                // A sandbox without Unix sockets.
                Err(errno @ (Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT | Errno::ENOSYS)) => {
                    return Ok(Self::without(report, &failed(errno).to_string()));
                }
                Err(errno) => return Err(failed(errno)),
            }
            let (holder, queue) = match queue(&address) {
                Ok((holder, queue)) => (Some(holder), Some(queue)),
                Err(_) => (None, None),
            };
            let kin = holder.is_some_and(|holder| holder.may_change_rules());
            let left = patience.left(kin, Instant::now());
            if left.is_zero() {
                let who = holder.map_or_else(|| "a process that cannot be named".to_owned(), Holder::describe);
                return match kin {
                    true => Err(Error::Conflict {
                        problem: format!("another operation is under way in this network namespace: {who}"),
                        remedy: "wait until that process ends, or end it".to_owned(),
                    }),
                    false => {
                        let text = format!("the lock is held by {who}, who may not change rules");
                        Ok(Self::without(report, &text))
                    }
                };
            }
            if let Some(mut queue) = queue {
                // Nobody says anything there: this ends with the holder, or with our patience.
                let _ = queue.set_read_timeout(Some(left)).and_then(|()| queue.read(&mut [0]));
            }
            sleep(PAUSE);
        }
    }

    /// Not being able to wait for others is no reason to leave traffic unredirected.
    fn without(report: &mut Report, why: &str) -> Self {
        let text = format!("other installations at the same time are not waited for: {why}");
        report.notes.push(Note::warning("lock", text));
        Self { name: None }
    }
}

/// How long it is still waited.
#[derive(Debug)]
struct Patience {
    in_all: Duration,
    with_strangers: Duration,
    begun: Instant,
    /// Since when the holder is a stranger. Between two holders, nobody knows for a moment who it is.
    strange: Option<Instant>,
}

impl Patience {
    fn new(in_all: Duration, with_strangers: Duration) -> Self {
        Self { in_all, with_strangers, begun: Instant::now(), strange: None }
    }

    fn left(&mut self, kin: bool, now: Instant) -> Duration {
        let (patience, begun) = match kin {
            true => {
                self.strange = None;
                (self.in_all, self.begun)
            }
            false => (self.with_strangers, *self.strange.get_or_insert(now)),
        };
        patience.saturating_sub(now.saturating_duration_since(begun))
    }
}

/// Binds the name, and lets others queue up, who by that learn who we are.
fn bound(address: &UnixAddr) -> Result<OwnedFd, Errno> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(socket.as_raw_fd(), address)?;
    listen(&socket, Backlog::MAXALLOWABLE)?;
    Ok(socket)
}

/// Queues up behind the holder.
fn queue(address: &UnixAddr) -> Result<(Holder, UnixStream), Errno> {
    // A full queue must not make us wait without end.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(socket.as_raw_fd(), address)?;
    let peer = getsockopt(&socket, PeerCredentials)?;
    let queue = UnixStream::from(socket);
    queue.set_nonblocking(false).map_err(|_| Errno::last())?;
    Ok((Holder { pid: peer.pid(), uid: peer.uid() }, queue))
}

impl Holder {
    /// Whether it is root, or whoever we are. In a user namespace, those who have no number there are from outside, so they may.
    /// Not who is seen to have no `CAP_NET_ADMIN`, as root in an ordinary container, where we have it.
    /// Nor whoever is gone, and has left a copy of the name to another process.
    fn may_change_rules(self) -> bool {
        if self.is_gone() {
            return false;
        }
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let is_kin = self.uid == 0 || self.uid == geteuid().as_raw() || !has_number(&map, self.uid);
        let (its, ours) = (may_change_networks(&self.pid.to_string()), may_change_networks("thread-self"));
        is_kin && !(its == Some(false) && ours == Some(true))
    }

    /// Whether the process has ended. One of another process namespace cannot be asked about.
    fn is_gone(self) -> bool {
        self.pid != 0 && kill(Pid::from_raw(self.pid), None) == Err(Errno::ESRCH)
    }

    /// The process, with its command, as text.
    fn describe(self) -> String {
        match self.pid {
            pid if self.is_gone() => format!("what process {pid} of the user {} has left behind", self.uid),
            0 => "a process outside of this process namespace".to_owned(),
            pid => match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(command) => format!("process {pid} ({}) of the user {}", visible(command.trim()), self.uid),
                Err(_) => format!("process {pid} of the user {}", self.uid),
            },
        }
    }
}

/// Whether a process or thread has the effective capability `CAP_NET_ADMIN`; none if `/proc` does not tell (man 5 proc_pid_status).
fn may_change_networks(who: &str) -> Option<bool> {
    const NET_ADMIN: u32 = 12;
    let status = std::fs::read_to_string(format!("/proc/{who}/status")).ok()?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    Some(u64::from_str_radix(effective.trim(), 16).ok()? >> NET_ADMIN & 1 == 1)
}

/// Whether a user has a number of its own by a map of user ids, as the kernel writes it. Without a map all have.
fn has_number(map: &str, uid: u32) -> bool {
    let covers = |line: &str| {
        let mut numbers = line.split_ascii_whitespace().map(|number| number.parse::<u64>().ok());
        let (first, _, count) = (numbers.next()??, numbers.next()??, numbers.next()??);
        Some((first..first + count).contains(&u64::from(uid)))
    };
    map.trim().is_empty() || map.lines().any(|line| covers(line).unwrap_or(false))
}

fn failed(errno: Errno) -> Error {
    Error::io("lock the rules of the network namespace", &errno.into())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::EngineName;

    fn name(test: &str) -> Vec<u8> {
        format!("kumatp/test/{test}/{}", std::process::id()).into_bytes()
    }

    fn report() -> Report {
        Report::new(EngineName::Iptables)
    }

    #[test]
    fn one_at_a_time() {
        let name = name("one");
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let long = Duration::from_secs(600);
                    let turn = Turn::of_name(&name, long, long, &mut report()).unwrap();
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    drop(turn);
                });
            }
        });
    }

    #[test]
    fn the_holder_is_named() {
        let name = name("holder");
        let mut said = report();
        let held = Turn::of_name(&name, PATIENCE, PATIENCE, &mut said).unwrap();
        let error = Turn::of_name(&name, Duration::ZERO, Duration::ZERO, &mut said).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(held);
        Turn::of_name(&name, Duration::ZERO, Duration::ZERO, &mut said).unwrap();
        assert!(said.notes.is_empty(), "{said:?}");
    }

    #[test]
    fn a_name_without_a_queue_is_passed_over_with_a_warning() {
        let name = name("queue");
        let address = UnixAddr::new_abstract(&name).unwrap();
        let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        bind(socket.as_raw_fd(), &address).unwrap();
        let mut said = report();
        Turn::of_name(&name, PATIENCE, Duration::ZERO, &mut said).unwrap();
        assert!(said.notes[0].text.contains("cannot be named"), "{said:?}");
    }

    #[test]
    fn a_moment_between_two_holders_is_no_stranger() {
        let seconds = Duration::from_secs;
        let mut patience = Patience::new(seconds(60), seconds(3));
        let at = |second| patience.begun + seconds(second);
        let [ten, eleven, twelve, fifteen, sixty] = [10, 11, 12, 15, 60].map(at);
        assert_eq!(patience.left(true, ten), seconds(50));
        assert_eq!(patience.left(false, eleven), seconds(3));
        assert_eq!(patience.left(true, twelve), seconds(48));
        assert_eq!(patience.left(false, twelve), seconds(3));
        assert_eq!(patience.left(false, fifteen), Duration::ZERO);
        assert_eq!(patience.left(true, sixty), Duration::ZERO);
    }

    #[test]
    fn a_copy_of_the_lock_in_another_process_is_nobodys_turn() {
        let name = name("copy");
        let mut said = report();
        let held = Turn::of_name(&name, PATIENCE, PATIENCE, &mut said).unwrap();
        let copy = held.lock().unwrap().try_clone().unwrap();
        drop(held);
        Turn::of_name(&name, PATIENCE, Duration::ZERO, &mut said).unwrap();
        assert!(said.notes[0].text.contains("cannot be named"), "{said:?}");
        drop(copy);
    }

    #[test]
    fn who_is_gone_changes_nothing() {
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let holder = Holder { pid: child.id().try_into().unwrap(), uid: geteuid().as_raw() };
        // Until it is waited for, nobody else can get its number.
        assert!(!holder.is_gone());
        child.wait().unwrap();
        assert!(!holder.may_change_rules() && holder.describe().contains("left behind"), "{}", holder.describe());
        assert!(!Holder { pid: 0, uid: 0 }.is_gone());
    }

    #[test]
    fn who_has_no_number_is_from_outside() {
        let whole = "         0          0 4294967295\n";
        let root_only = "         0       1000          1\n";
        assert!(has_number(whole, 65534) && has_number("", 65534) && has_number(root_only, 0));
        assert!(!has_number(root_only, 65534));
    }
}
