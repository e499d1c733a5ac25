//! The engine that talks to the kernel's nf_tables, without any program.
//!
//! It has tables of its own, `ip kuma-mesh` and `ip6 kuma-mesh`, and replaces both in one batch: an
//! installation over an older one leaves no moment without redirection, and one that fails changes
//! nothing. What an installation by iptables-nft left goes in the same batch. It needs
//! `CAP_NET_ADMIN`, and nothing else.
//!
//! A table of that name is ours if it has the chain that every version of us puts its marker into
//! ([`Marker::CHAIN`]), empty or changed as it may be, or a rule whose comment begins with
//! [`Comment::PREFIX`](crate::model::Comment::PREFIX). Then it may be replaced and removed, whatever else
//! was done to it. Any other table `kuma-mesh`, an empty one too, is somebody else's: installing and
//! uninstalling answer a conflict that names it, and the state of the host has a warning.

mod abilities;
mod apart;
mod change;
mod problem;

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::asked::{Asked, Question};
use super::backend::{Backend, Compared, Doubt, Look, Present, Stopped, Taken, Unknown, Work};
use super::compare::{ExpectedTables, differences};
use super::failures::Failures;
use super::installation::Installation;
use super::location::Location;
use super::loopback;
use super::messages::not_installed_by_us;
use super::passthrough;
use super::reader::Reader;
use super::status::Status;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::in_force::Installed;
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::FamilyName;
use crate::netlink::{Around, Batch, Dump, Integrity, Kernel, KernelTable, Socket, Stop};
use crate::netns::{self, Namespace};
use crate::nftables::{Marker, Native, OtherTable, SCHEMA};

/// The kernel's nf_tables, in the caller's network namespace or another one.
///
/// ```no_run
/// use kumatp::engine::Engine;
/// use kumatp::engine::netlink::Netlink;
/// # let plan: kumatp::Plan = todo!();
///
/// let report = Netlink::default().apply(&plan)?;
/// println!("{}", report.steps.join("\n"));
/// # Ok::<(), kumatp::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Netlink {
    namespace: Option<Namespace>,
    pub(super) legacy_leftovers_allowed: bool,
}

impl Netlink {
    /// Works in another network namespace. The caller's thread stays where it is.
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(namespace);
        self
    }

    /// Installs even where an older installation, ours or kumactl's, has rules in tables of
    /// iptables-legacy. Both sets of rules are then in force until the caller removes the old ones
    /// with [`Iptables::remove_leftovers`](super::iptables::Iptables::remove_leftovers); the kernel
    /// gives no other way to them.
    pub fn allow_legacy_leftovers(mut self) -> Self {
        self.legacy_leftovers_allowed = true;
        self
    }

    /// How what is installed compares with a plan. Everything in our tables is compared, not only what
    /// they say of themselves, and whether `::6` is on the loopback interface.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        self.run(|| Self::status_in(&mut Kernel::default(), plan))
    }

    /// Has the kernel check the plan's rules, in full and in place of those that are there, and changes
    /// nothing: it gets the batch of an installation without its end, and gives it up.
    ///
    /// # Errors
    /// What an installation would fail with; [`Error::Permission`] without `CAP_NET_ADMIN`.
    pub fn check(&self, plan: &Plan) -> Result<(), Error> {
        self.run(|| rehearse(plan))
    }

    /// What an installation says of itself; none if there is none, or one without a marker.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn marker(&self) -> Result<Option<Marker>, Error> {
        self.run(|| {
            let found = Socket::open().and_then(|mut socket| socket.rules()).map_err(Error::from)?;
            Ok(found.v4.as_ref().or(found.v6.as_ref()).and_then(KernelTable::marker))
        })
    }

    /// The abilities that the engine has in the network namespace of the calling thread.
    pub(super) fn abilities_in(config: &Options) -> Result<HostAbilities, Error> {
        abilities::look(config)
    }

    /// As [`status`](Self::status), in the middle of an operation in the network namespace of the calling thread.
    pub(super) fn status_in(kernel: &mut Kernel, plan: &Plan) -> Result<Status, Error> {
        let expected = ExpectedTables::of(&Native::of(plan));
        let (found, _) = kernel.netfilter()?.dump(&|family| expected.of_family(family))?;
        Ok(status(&expected, &found).and(passthrough::missing(kernel, &found.families())?))
    }

    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_ref(), work)
    }
}

impl Backend<Kernel> for Netlink {
    fn engine(&self) -> EngineName {
        EngineName::Netlink
    }

    fn has_marker(&self) -> bool {
        true
    }

    /// The kernel that carries a plan out is the one that would be asked, and the question takes longer than the installation.
    fn presumed(&self, kernel: &mut Kernel, config: &Options) -> Result<HostAbilities, Error> {
        abilities::presumed(kernel, config)
    }

    fn look(&self, kernel: &mut Kernel, _: Question<'_>, _: Location) -> Result<Look, Error> {
        Ok(match kernel.netfilter().and_then(Socket::tables) {
            Ok(tables) if tables.ours.is_empty() => Look::Absent,
            Ok(tables) => Look::Present(Present { families: tables.ours, ..Present::default() }),
            // There is nothing in what the kernel does not have.
            Err(Stop::Missing | Stop::System(_, Errno::EOPNOTSUPP | Errno::EINVAL)) => Look::Absent,
            Err(stop) => {
                let reason = Error::from(stop);
                let (of_ipv6, note) = (Some(reason.to_string()), Note::warning("netlink", reason.to_string()));
                Look::Unknown(Unknown { doubt: Doubt::Unseen, reason, of_ipv6, note })
            }
        })
    }

    fn check(&self, kernel: &mut Kernel, _: &Options, _: Option<&Plan>) -> Result<(), Error> {
        kernel.netfilter()?;
        Ok(())
    }

    /// One batch for both families. If exactly these rules are there, nothing is sent.
    fn put(&self, work: &mut Work<'_, Kernel>, plan: &Plan, redirected: bool) -> Result<Failures, Stopped> {
        let mut native = Native::of(plan);
        if work.passthrough.has_to_be_noted() {
            native = native.with_address();
        }
        let record = &work.passthrough.record;
        change::install(work.ground, &native, &plan.listeners(), redirected, record, work.report)?;
        loopback::settle(work.ground);
        Ok(Failures::default())
    }

    /// Removes our tables and what installations by iptables-nft have, ours or kumactl's: both are in nf_tables.
    fn take_away(&self, work: &mut Work<'_, Kernel>, spared: &[Location]) -> Result<Taken, Error> {
        if spared.contains(&Location::IptablesNft) {
            change::remove_tables(work.ground, work.report)?;
            return Ok(Taken { gone: vec![Location::Tables], ..Taken::default() });
        }
        let (socket, record) = (work.ground.netfilter()?, &work.passthrough.record);
        let mut taken = Taken { gone: Location::of(EngineName::Netlink).to_vec(), ..Taken::default() };
        let removed = match change::removal(socket, work.dry_run, record, work.report) {
            Ok(removed) => removed,
            Err(error @ Error::Permission { .. }) => return Err(error),
            Err(error) if work.dry_run => return Err(error),
            Err(error) => {
                let (removed, failed) = apart::remove(socket, record, error, work.report);
                taken.failures.add(failed);
                // Some may have stayed.
                taken.gone.clear();
                removed
            }
        };
        for what in removed {
            match work.dry_run {
                true => work.report.steps.push(format!("would remove {what}")),
                false => work.report.step(format!("removed {what}")),
            }
        }
        Ok(taken)
    }

    fn compare(&self, kernel: &mut Kernel, asked: &Asked<'_>, notes: &mut Vec<Note>) -> Result<Compared, Error> {
        let dump = match kernel.overview(&|family| asked.expected()?.of_family(family)) {
            Ok((dump, _)) => dump,
            Err(Stop::Missing) => {
                notes.push(Note::info("netlink", format!("not looked into: {}", Error::from(Stop::Missing))));
                return Ok(Compared::default());
            }
            Err(stop) => return Err(stop.into()),
        };
        if !dump.taken.is_empty() {
            notes.push(Note::warning("netlink", not_installed_by_us(&dump.taken)));
        }
        let families = dump.families();
        let status = match asked.expected() {
            _ if families.is_empty() => return Ok(Compared::default()),
            Some(expected) => status(expected, dump),
            None => status_as_installed(dump),
        };
        Ok(Compared::of(Installation::new(EngineName::Netlink, None, families, status)))
    }
}

impl Reader for Netlink {
    fn read(&self, kernel: &mut Kernel, _: Question<'_>, found: &mut Installed) -> Result<(), Error> {
        let Around { ours, others, .. } = match kernel.around(interfaces) {
            Ok(around) => around,
            Err(Stop::Missing) => {
                found.notes.push(Note::info("netlink", format!("not looked into: {}", Error::from(Stop::Missing))));
                return Ok(());
            }
            Err(stop) => return Err(stop.into()),
        };
        let lift = |family: FamilyName| Some(ours.of(family)?.lift_live(family));
        found.native.extend(FamilyName::ALL.into_iter().filter_map(lift));
        let of_ip = |table: &OtherTable| FamilyName::ALL.into_iter().any(|family| table.family.meets(family));
        for table in others {
            match of_ip(table) {
                true => found.foreign.push(table.clone()),
                false => found.others.extend(table.has_a_say().then(|| table.title.clone())),
            }
        }
        Ok(())
    }
}

/// The network interfaces by their numbers; none if they cannot be listed.
fn interfaces() -> Option<BTreeMap<u32, String>> {
    let list = nix::net::if_::if_nameindex().ok()?;
    Some(crate::sorted::map(list.iter().map(|one| (one.index(), one.name().to_string_lossy().into_owned()))))
}

/// Has the kernel check a plan and change nothing.
fn rehearse(plan: &Plan) -> Result<(), Error> {
    let native = Native::of(plan);
    let expected = ExpectedTables::of(&native);
    let mut batch = Batch::new(None);
    for family in FamilyName::ALL {
        if let Some(table) = expected.of_family(family) {
            batch.remove(family);
            batch.add(family, table);
        }
    }
    let failures = Socket::open()?.send(&batch.rehearse())?.failures;
    match failures.first() {
        None => Ok(()),
        Some(first) => Err(problem::explain(first, failures.len() - 1, Some(&native))),
    }
}

/// How what was found compares with a plan.
fn status(wanted: &ExpectedTables, found: &Dump) -> Status {
    match found {
        Dump { v4: None, v6: None, .. } => Status::Absent,
        _ => Status::of(differences(wanted, found)),
    }
}

/// How what was found compares with what was installed.
fn status_as_installed(found: &Dump) -> Status {
    match (found, found.integrity()) {
        (Dump { v4: None, v6: None, .. }, _) => Status::Absent,
        (_, Integrity::Intact) => Status::Current,
        (_, Integrity::Changed(differences)) => Status::Drifted { differences },
        (_, Integrity::OtherSchema(schema)) => {
            let text = format!("installed by another kumatp version (rule schema {schema}, this one has {SCHEMA})");
            Status::Uncompared { reason: text }
        }
    }
}
