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
mod address;
mod apart;
mod change;
mod check;
mod older;
mod problem;
#[cfg(feature = "cni")]
mod verified;

use self::change::install;
use super::compare::{ExpectedTables, differences};
use super::failures::Failures;
use super::holders::Holder;
use super::loopback::{self, Presence};
#[cfg(feature = "ebpf")]
use super::messages::not_removed;
use super::messages::{MISSING_ADDRESS, legacy, stays};
use super::record::Record;
use super::turn::Turn;
use super::{Engine, Report, Status, left_open};
use crate::error::Error;
use crate::facts::{self, HostAbilities};
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::FamilyName;
use crate::netlink::{Dump, Integrity, Kernel, KernelTable, Socket};
use crate::netns::{self, Namespace};
use crate::nftables::{Marker, Native, SCHEMA};

pub(super) use self::abilities::presumed;
pub(super) use self::address::{Address, address_is_ours};
pub(super) use self::change::{removal, remove_tables};
pub(super) use self::older::{Legacy, unmarked};

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
    legacy_leftovers_allowed: bool,
}

impl Netlink {
    /// Works in another network namespace. The caller's thread stays where it is.
    pub fn in_namespace(namespace: Namespace) -> Self {
        Self { namespace: Some(namespace), ..Self::default() }
    }

    /// Installs even where an older installation, ours or kumactl's, has rules in tables of
    /// iptables-legacy. Both sets of rules are then in force until the caller removes the old ones
    /// with [`Iptables::remove_leftovers`](super::iptables::Iptables::remove_leftovers); the kernel
    /// gives no other way to them.
    pub fn allow_legacy_leftovers(mut self) -> Self {
        self.legacy_leftovers_allowed = true;
        self
    }

    /// What older installations left that only the iptables programs can remove, one item each, for
    /// people: rules in tables of iptables-legacy, and rules without a comment that were noted down.
    /// What cannot be looked at is not in it; [`apply`](Engine::apply) has a warning then.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn left_to_iptables(&self) -> Result<Vec<String>, Error> {
        self.run(|| Ok(Self::left_to_iptables_by(&mut Kernel::default())))
    }

    /// How what is installed compares with a plan. Everything in our tables is compared, not only what
    /// they say of themselves, and whether `::6` is on the loopback interface.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        self.run(|| {
            let wanted = ExpectedTables::of(&Native::of(plan));
            let mut kernel = Kernel::default();
            let (found, _) = kernel.netfilter()?.dump(&|family| wanted.of_family(family))?;
            Ok(status(&wanted, &found).and(missing_address(&mut kernel, &found.families())?))
        })
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

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_ref(), work)
    }
}

impl Engine for Netlink {
    fn name(&self) -> EngineName {
        EngineName::Netlink
    }

    /// Rehearses rules of every kind that a plan can have: the kernel looks whether it could make them,
    /// and does not. That may load modules of the kernel.
    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| abilities::look(config))
    }

    /// The kernel that carries a plan out is the one that would be asked, and the question takes longer than the installation.
    fn presumed(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| abilities::presumed(&mut Kernel::default(), config))
    }

    /// One batch for both families. If exactly these rules are there, nothing is sent.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let turn = Turn::take(&mut report)?;
            self.apply_in(&turn, &mut Kernel::default(), plan, report)
        })
    }

    /// Removes our tables and what installations by iptables-nft have, ours or kumactl's: both are in nf_tables. What is in tables of
    /// iptables-legacy stays, and a note says so; `::6` stays where an installation of another engine needs it. Where a part cannot be removed, the others are, and
    /// the error has all that stays.
    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let turn = Turn::take_unless(config.dry_run, &mut report)?;
            Self::uninstall_in(&turn, &mut Kernel::default(), config, &[], report)
        })
    }
}

/// The operations, in the network namespace of the calling thread and in its turn there.
impl Netlink {
    /// What is left to the programs of iptables, for people.
    pub(super) fn left_to_iptables_by(kernel: &mut Kernel) -> Vec<String> {
        let mut list: Vec<_> = Legacy::look(kernel).families.into_iter().map(legacy).collect();
        if let Ok(record) = Record::recall(kernel) {
            list.extend((!record.rules.is_empty()).then(|| unmarked(&record)));
        }
        list
    }

    pub(super) fn apply_in(
        &self,
        turn: &Turn,
        kernel: &mut Kernel,
        plan: &Plan,
        report: Report,
    ) -> Result<Report, Error> {
        self.apply_native_in(turn, kernel, plan, Native::of(plan), report)
    }

    /// The same by the native form of the plan.
    fn apply_native_in(
        &self,
        _turn: &Turn,
        kernel: &mut Kernel,
        plan: &Plan,
        mut native: Native,
        mut report: Report,
    ) -> Result<Report, Error> {
        let redirected = Legacy::look(kernel).refuse(self.legacy_leftovers_allowed, &mut report)?;
        #[cfg(feature = "ebpf")]
        let programs = super::ebpf::are_to_be_removed(kernel, &plan.options, &mut report)?;
        kernel.netfilter()?;
        let mut address = Address::recall(kernel, &mut report)?;
        // The rules send connections to ::6, so it has to be there before they are.
        let added = native.v6.is_some() && address.add(kernel, plan.options.ip_family_mode, &mut report)?;
        if address.has_to_be_noted() {
            native = native.with_address();
        }
        if let Err(error) = install(kernel, &native, &plan.listeners(), redirected, &address.record, &mut report) {
            return Err(if added { address.take_back(kernel, error, &mut report) } else { error });
        }
        loopback::settle(kernel);
        #[cfg(feature = "ebpf")]
        if programs {
            super::ebpf::remove_programs(kernel, &plan.options, &mut report).map_err(|error| not_removed(&error))?;
        }
        match native.v6 {
            Some(_) => address.forget(kernel, &mut report),
            None => address.remove(kernel, &mut report)?,
        }
        left_open::note(plan, &mut report);
        if !address.record.rules.is_empty() {
            report.notes.push(Note::warning("comments.disabled", unmarked(&address.record)));
        }
        Ok(report)
    }

    /// Of what others have installed, what is `going` in the same errand.
    pub(super) fn uninstall_in(
        _turn: &Turn,
        kernel: &mut Kernel,
        config: &Options,
        going: &[Holder],
        mut report: Report,
    ) -> Result<Report, Error> {
        let mut failures = Failures::default();
        kernel.netfilter()?;
        let mut address = Address::recall(kernel, &mut report)?;
        let mut gone = [Holder::removed_by(EngineName::Netlink), going].concat();
        let removed = match removal(kernel.netfilter()?, config.dry_run, &address.record, &mut report) {
            Ok(removed) => removed,
            Err(error @ Error::Permission { .. }) => return Err(error),
            Err(error) if config.dry_run => return Err(error),
            Err(error) => {
                let (removed, failed) = apart::remove(kernel.netfilter()?, &address.record, error, &mut report);
                failures.add(failed);
                // Some may have stayed.
                gone = going.to_vec();
                removed
            }
        };
        for what in removed {
            match config.dry_run {
                true => report.steps.push(format!("would remove {what}")),
                false => report.step(format!("removed {what}")),
            }
        }
        failures.take(address.release(kernel, config, &gone, &mut report));
        let older = Legacy::look(kernel);
        older.note(&mut report.notes);
        let rules = (!address.record.rules.is_empty()).then(|| unmarked(&address.record));
        let left = older.families.into_iter().map(legacy).chain(rules);
        report.notes.extend(left.map(|what| Note::warning("iptables", stays(&what))));
        failures.or(report)
    }
}

/// That `::6` is not on the loopback interface, if it is needed: not where there is no IPv6.
pub(super) fn missing_address(kernel: &mut Kernel, families: &[FamilyName]) -> Result<Option<String>, Error> {
    let missing = families.contains(&FamilyName::V6)
        && loopback::look(kernel)? == Presence::Absent
        && !facts::ipv6_is_off(kernel);
    Ok(missing.then(|| MISSING_ADDRESS.to_owned()))
}

/// How what was found compares with a plan.
pub(super) fn status(wanted: &ExpectedTables, found: &Dump) -> Status {
    match found {
        Dump { v4: None, v6: None, .. } => Status::Absent,
        _ => Status::of(differences(wanted, found)),
    }
}

/// How what was found compares with what was installed.
pub(super) fn status_as_installed(found: &Dump) -> Status {
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
