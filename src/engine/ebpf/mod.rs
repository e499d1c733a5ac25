//! The engine that steers sockets by programs in the kernel, for one host or network namespace and one cgroup.
//!
//! No packet is translated and no connection tracked: what the workload connects to is replaced when it calls `connect`, and
//! what arrives is given to the sidecar's inbound listener when a socket is looked for. The programs are attached by links that
//! are pinned in a bpffs, in `kumatp/<cookie of the network namespace>/`, and one store puts all of them in force; a new
//! installation takes the place of an older one by the same store, and both know the connections under way.
//!
//! Linux 5.10 or later with cgroup2. The workload and the sidecar are in the cgroup, or below it, from the start of the sidecar
//! on: what a sidecar outside of it asks for is not answered, so it resets every connection. An installation beside one that
//! listens there is refused, and the state has a note. The sidecar's outbound listener is bound to 0.0.0.0, as Kuma's is: connections are sent to addresses of 127.128.0.0/16. It takes `CAP_BPF`,
//! `CAP_NET_ADMIN` and `CAP_PERFMON` (or `CAP_SYS_ADMIN`, which the other engines do not need).
//!
//! What is different from rules for packets:
//!
//! - `redirect.vnet.networks`, `log.enabled`, `dropInvalidPackets`, `storeFirewalld` and `cniMode` are refused.
//! - Forwarded packets and raw sockets are not redirected, nor are processes outside the cgroup.
//! - A client that speaks multipath TCP is redirected, and `getpeername` tells it the listener.
//! - The addresses of this host are those that it had at the installation, those of IPv6 included that were still checked for
//!   another owner.
//! - A UDP socket that asks several DNS servers without connecting sees the last one as the sender of all answers.
//! - Redirected IPv6 connections all go to `::1`: there are at most as many at a time as ephemeral ports, and only one from a
//!   port that the workload has chosen itself. Those of IPv4 go to many addresses.
//! - A socket for which the kernel has no memory to note down where it wants to go is refused: `connect` fails with `EPERM`.
//! - Users and groups are those of the process that connects, not of its socket.

mod preview;

use std::path::PathBuf;

use super::asked::{Asked, Question};
use super::backend::{Backend, Compared, Doubt, Look, Present, Stopped, Taken, Unknown, Work};
use super::failures::Failures;
use super::installation::Installation;
use super::location::Location;
use super::passthrough::Ground as _;
use super::reader::Reader;
use super::status::Status;
use super::{ebpf_unsupported, loopback, messages};
use crate::ebpf::{self, Change, FoundPrograms, Paths, Sight};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::in_force::Installed;
use crate::model::{EngineName, Note, Options, Plan};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

pub use super::attached::{Attached, Programs};
pub use preview::preview;

/// Programs that steer the sockets of a cgroup, in the caller's network namespace or another one.
///
/// ```no_run
/// use kumatp::engine::Engine;
/// use kumatp::engine::ebpf::Ebpf;
/// # let plan: kumatp::Plan = todo!();
///
/// let report = Ebpf::default().cgroup("/sys/fs/cgroup/workload").apply(&plan)?;
/// println!("{}", report.steps.join("\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// Where it pins and which cgroup it deals with is said here or, where it is not, by the configuration (`ebpf.bpffsPath`,
/// `ebpf.cgroupPath`).
#[derive(Debug, Default)]
pub struct Ebpf {
    namespace: Option<Namespace>,
    bpffs: Option<PathBuf>,
    cgroup: Option<PathBuf>,
    pub(super) legacy_leftovers_allowed: bool,
}

impl Ebpf {
    /// Works in another network namespace. The caller's thread stays where it is; bpffs and cgroup are those that it sees.
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Pins in this bpffs, and not in `/sys/fs/bpf`. Where there is none, one is mounted, in the caller's mount namespace;
    /// uninstalling removes it if nothing else is in it.
    pub fn bpffs(mut self, path: impl Into<PathBuf>) -> Self {
        self.bpffs = Some(path.into());
        self
    }

    /// Deals with the processes of this cgroup, and not with all that are in the network namespace.
    pub fn cgroup(mut self, path: impl Into<PathBuf>) -> Self {
        self.cgroup = Some(path.into());
        self
    }

    /// Installs even where an older installation, ours or kumactl's, has rules in tables of iptables-legacy. They are in force
    /// until the caller removes them with [`Iptables::remove_leftovers`](super::iptables::Iptables::remove_leftovers): this engine
    /// runs no other program.
    pub fn allow_legacy_leftovers(mut self) -> Self {
        self.legacy_leftovers_allowed = true;
        self
    }

    /// How what is installed compares with a plan: programs, links and all that the programs are told, this host's addresses
    /// included.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        Ok(self
            .run(|| ebpf::look(&self.paths_of_recorded(&plan.options), Some(&plan.sockets)))?
            .map_or(Status::Absent, |found| status(&found)))
    }

    /// The programs that are installed, and what they have counted; none if nothing is installed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn programs(&self) -> Result<Option<Programs>, Error> {
        Ok(self.run(|| ebpf::look(&self.paths_of_recorded(&Options::default()), None))?.map(Programs::from))
    }

    /// Has the kernel check the programs for a plan, and changes nothing.
    ///
    /// # Errors
    /// What an installation would fail with, except for what the programs are to be attached to and pinned in.
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        ebpf_unsupported::refuse(plan)?;
        self.run(|| ebpf::probe(&self.paths(&plan.options), Some(&plan.sockets)))
    }

    /// Where things are by a configuration, unless they were said to be elsewhere.
    fn paths(&self, config: &Options) -> Paths {
        let mut paths = Paths::default();
        if let Some(bpffs) = self.bpffs.as_ref().or(config.bpffs.as_ref()) {
            paths.bpffs.clone_from(bpffs);
        }
        paths.cgroup = self.cgroup.clone().or_else(|| config.cgroup.clone());
        paths
    }

    /// The same for an installation that is there already: where nobody says where it is pinned, its record does.
    fn paths_of_installed(&self, Question { config, record }: Question<'_>) -> Paths {
        let mut paths = self.paths(config);
        if self.bpffs.is_none() && config.bpffs.is_none() {
            // What the record does not tell, the kernel does: see `ebpf::sight`.
            paths.bpffs = record.bpffs.clone().unwrap_or(paths.bpffs);
        }
        paths
    }

    /// The same for one in the network namespace of the calling thread.
    fn paths_of_recorded(&self, config: &Options) -> Paths {
        let record = Kernel::default().record().unwrap_or_default();
        self.paths_of_installed(Question { config, record: &record })
    }

    /// The abilities that the engine has in the network namespace of the calling thread. Loads the programs, and lets them go again.
    pub(super) fn abilities_in(&self, config: &Options) -> Result<HostAbilities, Error> {
        let mut abilities = HostAbilities::default();
        if config.dry_run {
            return Ok(abilities);
        }
        match ebpf::probe(&self.paths(config), None) {
            Err(error @ Error::Permission { .. }) => {
                abilities
                    .remarks
                    .push(Note::info("ebpf", format!("the kernel is taken to have all that is needed: {error}")));
            }
            other => other?,
        }
        Ok(abilities)
    }

    fn sight(&self, kernel: &mut Kernel, question: Question<'_>) -> Result<Sight, Error> {
        ebpf::sight(kernel, &self.paths_of_installed(question))
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_ref(), work)
    }
}

impl Backend<Kernel> for Ebpf {
    fn engine(&self) -> EngineName {
        EngineName::Ebpf
    }

    fn presumed(&self, _: &mut Kernel, config: &Options) -> Result<HostAbilities, Error> {
        self.abilities_in(config)
    }

    fn look(&self, kernel: &mut Kernel, question: Question<'_>, _: Location) -> Result<Look, Error> {
        Ok(match self.sight(kernel, question)? {
            Sight::Absent => Look::Absent,
            Sight::Pinned => match ebpf::look(&self.paths_of_installed(question), None) {
                Ok(None) => Look::Absent,
                Ok(Some(found)) => Look::Present(Present { families: found.families, ..Present::default() }),
                // Whoever may not read them does not know which families they deal with.
                Err(_) => Look::Present(Present::default()),
            },
            Sight::OutOfReach(error) => Look::Present(Present { stuck: Some(error), ..Present::default() }),
            unseen => unknown(unseen).map_or(Look::Absent, Look::Unknown),
        })
    }

    fn check(&self, _: &mut Kernel, _: &Options, plan: Option<&Plan>) -> Result<(), Error> {
        plan.map_or(Ok(()), ebpf_unsupported::refuse)
    }

    fn put(&self, work: &mut Work<'_, Kernel>, plan: &Plan, _: bool) -> Result<Failures, Stopped> {
        // `::6` is an address of this host, of which the programs are to know.
        loopback::settle(work.ground);
        let paths = self.paths(work.config);
        let done = ebpf::install(&paths, &plan.sockets)?;
        work.passthrough.record.bpffs = (paths.bpffs != Paths::default().bpffs).then_some(paths.bpffs);
        work.report.notes.extend(done.notes);
        let text = format!("the programs deal with the cgroup {}", done.cgroup.display());
        work.report.notes.push(Note::info("ebpf.cgroupPath", text));
        match done.change {
            Change::Installed => work.report.step(messages::INSTALLED_PROGRAMS),
            Change::Replaced => work.report.step(messages::REPLACED_PROGRAMS),
            Change::Unchanged => {}
        }
        Ok(Failures::default())
    }

    fn take_away(&self, work: &mut Work<'_, Kernel>, _: &[Location]) -> Result<Taken, Error> {
        let mut taken = Taken::default();
        if let Some(found) = taken.failures.take(self.remove(work)) {
            taken.gone.extend(found.then_some(Location::Programs));
            if !work.dry_run {
                work.passthrough.record.bpffs = None;
            }
        }
        Ok(taken)
    }

    fn compare(&self, kernel: &mut Kernel, asked: &Asked<'_>, notes: &mut Vec<Note>) -> Result<Compared, Error> {
        let installed = |families, status| Installation::new(EngineName::Ebpf, None, families, status);
        let unread = |error: &Error| {
            let status = Status::Uncompared { reason: error.to_string() };
            Compared::of(installed(Vec::new(), status))
        };
        match self.sight(kernel, asked.question)? {
            Sight::Absent => Ok(Compared::default()),
            Sight::Pinned => {
                match ebpf::look(&self.paths_of_installed(asked.question), asked.plan.map(|plan| &plan.sockets)) {
                    Ok(None) => Ok(Compared::default()),
                    Ok(Some(found)) => {
                        notes.extend(found.notes.iter().cloned());
                        let seen = installed(found.families.clone(), status(&found));
                        Ok(Compared::of(Installation { programs: Some(Programs::from(found)), ..seen }))
                    }
                    Err(error @ Error::Permission { .. }) => Ok(unread(&error)),
                    Err(error) => Err(error),
                }
            }
            Sight::OutOfReach(error) => Ok(unread(&error)),
            unseen => Ok(Compared { unknown: unknown(unseen), ..Compared::default() }),
        }
    }
}

impl Reader for Ebpf {
    fn read(&self, kernel: &mut Kernel, question: Question<'_>, found: &mut Installed) -> Result<(), Error> {
        match self.sight(kernel, question)? {
            Sight::Absent => {}
            Sight::Pinned | Sight::OutOfReach(_) => found.programs = true,
            unseen => {
                let unknown = unknown(unseen);
                found.programs_suspected = unknown.as_ref().is_some_and(|one| one.doubt == Doubt::Suspected);
                found.notes.extend(unknown.map(|one| one.note));
            }
        }
        Ok(())
    }
}

impl Ebpf {
    /// Whether there were some to remove.
    fn remove(&self, work: &mut Work<'_, Kernel>) -> Result<bool, Error> {
        let question = Question { config: work.config, record: &work.passthrough.record };
        let found = ebpf::uninstall(&self.paths_of_installed(question), work.dry_run)?;
        match (found, work.dry_run) {
            (true, true) => work.report.steps.push(format!("would remove {}", messages::PROGRAMS)),
            (true, false) => work.report.step(format!("removed {}", messages::PROGRAMS)),
            (false, _) => match self.sight(work.ground, question)? {
                Sight::OutOfReach(error) => return Err(error),
                unseen => work.report.notes.extend(unknown(unseen).map(|unknown| unknown.note)),
            },
        }
        Ok(found)
    }
}

/// Why it is not known whether there are programs, if it is not.
fn unknown(sight: Sight) -> Option<Unknown> {
    let (doubt, reason) = match sight {
        Sight::Absent | Sight::Pinned | Sight::OutOfReach(_) => return None,
        Sight::Suspected(reason) => (Doubt::Suspected, reason),
        Sight::Unknown(reason) => (Doubt::Unseen, reason),
        Sight::Unasked(reason) => (Doubt::Unasked, reason),
    };
    let note = match doubt {
        Doubt::Unasked => {
            Note::info("ebpf", format!("no eBPF programs are pinned here; others may be active: {reason}"))
        }
        _ => Note::warning("ebpf", format!("eBPF programs may be active that cannot be seen: {reason}")),
    };
    // Where nothing speaks for some, there are none.
    let of_ipv6 = (doubt != Doubt::Unasked).then(|| reason.to_string());
    Some(Unknown { doubt, reason, of_ipv6, note })
}

fn status(found: &FoundPrograms) -> Status {
    Status::of(found.differences.clone())
}
