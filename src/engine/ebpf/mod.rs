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

use super::failures::Failures;
use super::holders::Holder;
use super::messages::{self, not_removed};
use super::netlink::{self, Address, Legacy};
use super::record::Record;
use super::turn::Turn;
use super::{Engine, Installation, Report, Status, ebpf_unsupported, left_open, loopback};
use crate::ebpf::{self, Change, FoundPrograms, Paths, Sight};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

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
    legacy_leftovers_allowed: bool,
}

/// The programs of an installation.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Programs {
    /// Where they are pinned.
    pub dir: PathBuf,
    /// The number of the generation in force, counted from 1; 0 if they are switched off.
    pub generation: u64,
    /// Those of the generation in force.
    pub attached: Vec<Attached>,
    /// What was counted since the first installation: a name and how often. As JSON an object.
    #[serde(serialize_with = "object")]
    pub counters: Vec<(String, u64)>,
}

/// A program that is attached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Attached {
    /// What calls it, as the kernel's documentation says: `cgroup/connect4`.
    pub hook: String,
    /// The number of the program in the kernel.
    pub program: u32,
    /// The number of the link in the kernel.
    pub link: u32,
    /// What it is attached to: the number of the cgroup, which is the inode of its directory, or the inode of the network
    /// namespace; 0 if that is gone.
    pub target: u64,
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
            .run(|| ebpf::look(&self.paths_of_installed(&mut Kernel::default(), &plan.options), Some(plan)))?
            .map_or(Status::Absent, |found| status(&found)))
    }

    /// The programs that are installed, and what they have counted; none if nothing is installed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn programs(&self) -> Result<Option<Programs>, Error> {
        Ok(self
            .run(|| ebpf::look(&self.paths_of_installed(&mut Kernel::default(), &Options::default()), None))?
            .map(Programs::from))
    }

    /// Has the kernel check the programs for a plan, and changes nothing.
    ///
    /// # Errors
    /// What an installation would fail with, except for what the programs are to be attached to and pinned in.
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        ebpf_unsupported::refuse(plan)?;
        self.run(|| ebpf::probe(&self.paths(&plan.options), Some(plan)))
    }

    /// Where things are by these options, unless they were said to be elsewhere.
    fn paths(&self, config: &Options) -> Paths {
        let mut paths = Paths::default();
        if let Some(bpffs) = self.bpffs.as_ref().or(config.bpffs.as_ref()) {
            paths.bpffs.clone_from(bpffs);
        }
        paths.cgroup = self.cgroup.clone().or_else(|| config.cgroup.clone());
        paths
    }

    /// The same for an installation that is there already: where nobody says where it is pinned, its record does.
    fn paths_of_installed(&self, kernel: &mut Kernel, config: &Options) -> Paths {
        let mut paths = self.paths(config);
        if self.bpffs.is_none() && config.bpffs.is_none() {
            // What the record does not tell, the kernel does: see `ebpf::sight`.
            let recorded = Record::recall(kernel).ok().and_then(|record| record.bpffs);
            paths.bpffs = recorded.unwrap_or(paths.bpffs);
        }
        paths
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_ref(), work)
    }

    /// Whether there were some to remove.
    fn remove(&self, kernel: &mut Kernel, config: &Options, dry_run: bool, report: &mut Report) -> Result<bool, Error> {
        let paths = self.paths_of_installed(kernel, config);
        let found = ebpf::uninstall(&paths, dry_run)?;
        match (found, dry_run) {
            (true, true) => report.steps.push(format!("would remove {}", messages::PROGRAMS)),
            (true, false) => report.step(format!("removed {}", messages::PROGRAMS)),
            (false, _) => match ebpf::sight(kernel, &paths)? {
                Sight::OutOfReach(error) => return Err(error),
                Sight::Absent | Sight::Pinned => {}
                Sight::Suspected(error) | Sight::Unknown(error) => report.notes.push(unseen(&error)),
                Sight::Unasked(error) => report.notes.push(unasked(&error)),
            },
        }
        Ok(found)
    }
}

impl Engine for Ebpf {
    fn name(&self) -> EngineName {
        EngineName::Ebpf
    }

    /// Loads the programs, and lets them go again.
    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        let mut abilities = HostAbilities::default();
        if config.dry_run {
            return Ok(abilities);
        }
        match self.run(|| ebpf::probe(&self.paths(config), None)) {
            Err(error @ Error::Permission { .. }) => {
                abilities
                    .remarks
                    .push(Note::info("ebpf", format!("the kernel is taken to have all that is needed: {error}")));
            }
            other => other?,
        }
        Ok(abilities)
    }

    /// What another engine has installed is removed once the programs are in force, except for what only the iptables programs can
    /// remove: rules in tables of iptables-legacy are a conflict, and rules without comments that were noted down stay, with a
    /// warning.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Ebpf);
            let turn = Turn::take(&mut report)?;
            self.apply_in(&turn, &mut Kernel::default(), plan, report)
        })
    }

    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Ebpf);
            let turn = Turn::take_unless(config.dry_run, &mut report)?;
            self.uninstall_in(&turn, &mut Kernel::default(), config, &[], report)
        })
    }
}

/// The operations, in the network namespace of the calling thread and in its turn there.
impl Ebpf {
    pub(super) fn apply_in(
        &self,
        _turn: &Turn,
        kernel: &mut Kernel,
        plan: &Plan,
        mut report: Report,
    ) -> Result<Report, Error> {
        ebpf_unsupported::refuse(plan)?;
        Legacy::look(kernel).refuse(self.legacy_leftovers_allowed, &mut report)?;
        let mut address = Address::recall(kernel, &mut report)?;
        // It is an address of this host, of which the programs are to know.
        let added = plan.v6.is_some() && address.add(kernel, plan.options.ip_family_mode, &mut report)?;
        loopback::settle(kernel);
        let paths = self.paths(&plan.options);
        let done = match ebpf::install(&paths, plan) {
            Ok(done) => done,
            Err(error) => return Err(if added { address.take_back(kernel, error, &mut report) } else { error }),
        };
        if plan.v6.is_none() {
            address.remove(kernel, &mut report)?;
        }
        address.note(kernel, (paths.bpffs != Paths::default().bpffs).then_some(paths.bpffs), &mut report);
        left_open::note(plan, &mut report);
        report.notes.extend(done.notes);
        let text = format!("the programs deal with the cgroup {}", done.cgroup.display());
        report.notes.push(Note::info("ebpf.cgroupPath", text));
        match done.change {
            Change::Installed => report.step(messages::INSTALLED_PROGRAMS),
            Change::Replaced => report.step(messages::REPLACED_PROGRAMS),
            Change::Unchanged => {}
        }
        remove_rules(kernel, &mut report).map_err(|error| not_removed(&error))?;
        Ok(report)
    }

    /// Of what others have installed, what is `going` in the same errand.
    pub(super) fn uninstall_in(
        &self,
        _turn: &Turn,
        kernel: &mut Kernel,
        config: &Options,
        going: &[Holder],
        mut report: Report,
    ) -> Result<Report, Error> {
        let mut failures = Failures::default();
        let mut address = Address::recall(kernel, &mut report)?;
        let removed = failures.take(self.remove(kernel, config, config.dry_run, &mut report));
        let own = if removed == Some(true) { Holder::removed_by(EngineName::Ebpf) } else { &[] };
        failures.take(address.release(kernel, config, &[own, going].concat(), &mut report));
        if removed.is_some() && !config.dry_run {
            address.note(kernel, None, &mut report);
        }
        failures.or(report)
    }
}

/// Removes the rules of the other engines, whose place the programs have taken.
fn remove_rules(kernel: &mut Kernel, report: &mut Report) -> Result<(), Error> {
    // One that cannot be read has been noted.
    let record = Record::recall(kernel).unwrap_or_default();
    match kernel.netfilter() {
        Ok(socket) => {
            for what in netlink::removal(socket, false, &record, report)? {
                report.step(format!("removed {what}"));
            }
        }
        // There is nothing in what the kernel does not have.
        Err(stop) => match Error::from(stop) {
            Error::Unsupported { .. } => {}
            error => return Err(error),
        },
    }
    let left = (!record.rules.is_empty()).then(|| netlink::unmarked(&record));
    report.notes.extend(left.map(|text| Note::warning("comments.disabled", text)));
    Ok(())
}

/// Removes the programs from the network namespace of the calling thread: for an engine whose rules have taken their place.
pub(super) fn remove_programs(kernel: &mut Kernel, config: &Options, report: &mut Report) -> Result<(), Error> {
    Ebpf::default().remove(kernel, config, false, report).map(drop)
}

/// Whether an engine whose rules will take the place of programs has to remove some. What cannot be seen is noted.
///
/// # Errors
/// If there are some that cannot be removed.
pub(super) fn are_to_be_removed(kernel: &mut Kernel, config: &Options, report: &mut Report) -> Result<bool, Error> {
    match sight(kernel, config)? {
        Sight::Pinned => return Ok(true),
        Sight::Absent => {}
        Sight::OutOfReach(error) => return Err(error),
        Sight::Suspected(error) | Sight::Unknown(error) => report.notes.push(unseen(&error)),
        Sight::Unasked(error) => report.notes.push(unasked(&error)),
    }
    Ok(false)
}

/// What can be seen of programs in the network namespace of the calling thread.
pub(super) fn sight(kernel: &mut Kernel, config: &Options) -> Result<Sight, Error> {
    let paths = Ebpf::default().paths_of_installed(kernel, config);
    ebpf::sight(kernel, &paths)
}

/// That programs may be in force which cannot be seen.
pub(super) fn unseen(error: &Error) -> Note {
    Note::warning("ebpf", format!("eBPF programs may be active that cannot be seen: {error}"))
}

/// The same where nothing speaks for it.
pub(super) fn unasked(error: &Error) -> Note {
    Note::info("ebpf", format!("no eBPF programs are pinned here; others may be active: {error}"))
}

/// What is installed in the network namespace of the calling thread, compared with a plan or with itself. What else is to be said
/// is noted.
pub(super) fn found(
    kernel: &mut Kernel,
    config: &Options,
    plan: Option<&Plan>,
    notes: &mut Vec<Note>,
) -> Result<Option<Installation>, Error> {
    let installed = |families, status| Installation::new(EngineName::Ebpf, None, families, status);
    let looked = ebpf::look(&Ebpf::default().paths_of_installed(kernel, config), plan);
    Ok(match looked {
        Ok(found) => found.map(|found| {
            notes.extend(found.notes.iter().cloned());
            Installation {
                programs: Some(Programs::from(found.clone())),
                ..installed(found.families.clone(), status(&found))
            }
        }),
        Err(error @ Error::Permission { .. }) => Some(installed(Vec::new(), uncompared(&error))),
        Err(error) => return Err(error),
    })
}

/// An installation of which nothing is known but that it is there.
pub(super) fn out_of_reach(error: &Error) -> Installation {
    Installation::new(EngineName::Ebpf, None, Vec::new(), uncompared(error))
}

fn uncompared(error: &Error) -> Status {
    Status::Uncompared { reason: error.to_string() }
}

fn status(found: &FoundPrograms) -> Status {
    Status::of(found.differences.clone())
}

fn object<S: serde::Serializer>(counters: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().map(|(name, count)| (name, count)))
}

impl From<FoundPrograms> for Programs {
    fn from(found: FoundPrograms) -> Self {
        let attached = found.programs.into_iter().map(|program| Attached {
            hook: program.hook.to_owned(),
            program: program.program,
            link: program.link,
            target: program.target,
        });
        Self {
            dir: found.dir,
            generation: found.generation,
            attached: attached.collect(),
            counters: found.counters.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        }
    }
}
