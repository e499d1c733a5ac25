//! The engine that steers sockets by programs in the kernel, for one host or network namespace and one cgroup.
//!
//! No packet is translated and no connection tracked: what the workload connects to is replaced when it calls `connect`, and
//! what arrives is given to the sidecar's inbound listener when a socket is looked for. The programs are attached by links that
//! are pinned in a bpffs, in `kumatp/<cookie of the network namespace>/`, and one store puts all of them in force; a new
//! installation takes the place of an older one by the same store, and both know the connections under way.
//!
//! Linux 5.10 or later with cgroup2. The workload and the sidecar are in the cgroup, or below it, and the sidecar's outbound
//! listener is bound to 0.0.0.0, as Kuma's is: connections are sent to addresses of 127.128.0.0/16. It takes `CAP_BPF`,
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

use super::iptables::Iptables;
use super::netlink::{self, Address, Netlink};
use super::words::{self, WOULD_REMOVE_ADDRESS, not_removed};
use super::{Engine, EngineName, Installation, Report, Status, left_open, limits};
use crate::config::Config;
use crate::ebpf::{self, Change, Found, Options};
use crate::error::Error;
use crate::facts::{HostAbilities, Remark};
use crate::model::{Note, Plan};
use crate::netlink::{Namespace, Socket};

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

    /// How what is installed compares with a plan: programs, links and all that the programs are told, this host's addresses
    /// included.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        Ok(self
            .run(|| ebpf::look(&self.options(&plan.config), Some(plan)))?
            .map_or(Status::Absent, |found| status(&found)))
    }

    /// The programs that are installed, and what they have counted; none if nothing is installed.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn programs(&self) -> Result<Option<Programs>, Error> {
        Ok(self.run(|| ebpf::look(&self.options(&Config::default()), None))?.map(Programs::from))
    }

    /// Has the kernel check the programs for a plan, and changes nothing.
    ///
    /// # Errors
    /// What an installation would fail with, except for what the programs are to be attached to and pinned in.
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        limits::refuse(plan)?;
        self.run(|| ebpf::probe(&self.options(&plan.config), Some(plan)))
    }

    /// Where things are by a configuration, unless they were said to be elsewhere.
    fn options(&self, config: &Config) -> Options {
        let mut options = Options::default();
        if let Some(bpffs) = self.bpffs.as_ref().or(config.ebpf.bpffs.as_ref()) {
            options.bpffs.clone_from(bpffs);
        }
        options.cgroup = self.cgroup.clone().or_else(|| config.ebpf.cgroup.clone());
        options
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        match &self.namespace {
            None => work(),
            Some(namespace) => namespace.run(work)?,
        }
    }

    fn remove(&self, config: &Config, dry_run: bool, report: &mut Report) -> Result<(), Error> {
        match (ebpf::uninstall(&self.options(config), dry_run)?, dry_run) {
            (true, true) => report.steps.push(format!("would remove {}", words::PROGRAMS)),
            (true, false) => report.step(format!("removed {}", words::PROGRAMS)),
            (false, _) => {}
        }
        Ok(())
    }
}

impl Engine for Ebpf {
    fn name(&self) -> EngineName {
        EngineName::Ebpf
    }

    /// Loads the programs, and lets them go again.
    fn abilities(&self, config: &Config) -> Result<HostAbilities, Error> {
        let mut abilities = HostAbilities::default();
        if config.dry_run {
            return Ok(abilities);
        }
        match self.run(|| ebpf::probe(&self.options(config), None)) {
            Err(error @ Error::Permission { .. }) => {
                abilities
                    .remarks
                    .push(Remark::info("ebpf", format!("the kernel is taken to have all that is needed: {error}")));
            }
            other => other?,
        }
        Ok(abilities)
    }

    /// What another engine has installed is removed once the programs are in force.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        limits::refuse(plan)?;
        self.run(|| {
            let mut report = Report::new(EngineName::Ebpf);
            let mut address = Address::recall(&mut report);
            // It is an address of this host, of which the programs are to know.
            let added = plan.v6.is_some() && address.add(plan.config.ip_family_mode, &mut report)?;
            let done = match ebpf::install(&self.options(&plan.config), plan) {
                Ok(done) => done,
                Err(error) => {
                    if added {
                        let _ = address.remove(&mut report);
                    }
                    return Err(error);
                }
            };
            if plan.v6.is_none() {
                address.remove(&mut report)?;
            }
            left_open::note(plan, &mut report);
            report.notes.extend(done.notes);
            let text = format!("the programs deal with the cgroup {}", done.cgroup.display());
            report.notes.push(Note::info("ebpf.cgroupPath", text));
            match done.change {
                Change::Installed => report.step(words::INSTALLED_PROGRAMS),
                Change::Replaced => report.step(words::REPLACED_PROGRAMS),
                Change::Unchanged => {}
            }
            remove_rules(&plan.config, &mut report).map_err(|error| not_removed(&error))?;
            Ok(report)
        })
    }

    fn uninstall(&self, config: &Config) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Ebpf);
            let mut address = Address::recall(&mut report);
            self.remove(config, config.dry_run, &mut report)?;
            if !config.dry_run {
                address.remove(&mut report)?;
            } else if address.record.loopback_address {
                report.steps.push(WOULD_REMOVE_ADDRESS.to_owned());
            }
            Ok(report)
        })
    }
}

/// Removes the rules of the other engines, whose place the programs have taken.
fn remove_rules(config: &Config, report: &mut Report) -> Result<(), Error> {
    match Socket::open() {
        Ok(mut socket) => {
            for what in netlink::removal(&mut socket, false, report)? {
                report.step(format!("removed {what}"));
            }
        }
        // There is nothing in what the kernel does not have.
        Err(stop) => match Error::from(stop) {
            Error::Unsupported { .. } => {}
            error => return Err(error),
        },
    }
    if !Netlink::default().left_to_iptables()?.is_empty() {
        let removed = Iptables::default().remove_leftovers(config)?;
        removed.steps.into_iter().for_each(|step| report.step(step));
        report.notes.extend(removed.notes);
    }
    Ok(())
}

/// Removes the programs from the network namespace of the calling thread: for an engine whose rules have taken their place.
pub(super) fn remove_programs(config: &Config, report: &mut Report) -> Result<(), Error> {
    match Ebpf::default().remove(config, false, report) {
        // Who may not look has not installed any.
        Err(Error::Permission { .. }) => Ok(()),
        other => other.map_err(|error| not_removed(&error)),
    }
}

/// Whether programs are installed in the network namespace of the calling thread.
pub(super) fn has_programs(config: &Config) -> Result<bool, Error> {
    match ebpf::uninstall(&Ebpf::default().options(config), true) {
        // Who may not look has not installed any.
        Err(Error::Permission { .. }) => Ok(false),
        other => other,
    }
}

/// What is installed in the network namespace of the calling thread, compared with a plan or with itself.
pub(super) fn found(config: &Config, plan: Option<&Plan>, notes: &mut Vec<Note>) -> Option<Installation> {
    match ebpf::look(&Ebpf::default().options(config), plan) {
        Ok(found) => found.map(|found| Installation {
            programs: Some(Programs::from(found.clone())),
            ..Installation::new(EngineName::Ebpf, None, found.families.clone(), status(&found))
        }),
        Err(Error::Permission { .. }) => None,
        Err(error) => {
            notes.push(Note::info("ebpf", format!("not looked into: {error}")));
            None
        }
    }
}

fn status(found: &Found) -> Status {
    Status::of(found.differences.clone())
}

fn object<S: serde::Serializer>(counters: &[(String, u64)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(counters.iter().map(|(name, count)| (name, count)))
}

impl From<Found> for Programs {
    fn from(found: Found) -> Self {
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
