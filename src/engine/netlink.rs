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
mod change;
mod check;
mod older;
mod problem;

use self::change::install;
use self::older::unmarked;
use super::compare::{Wanted, differences};
use super::record::Place;
use super::words::{WOULD_REMOVE_ADDRESS, legacy, legacy_conflict, legacy_problem, stays};
use super::{Engine, EngineName, Report, Status, left_open};
use crate::config::Config;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{Note, Plan};
use crate::netlink::{Content, Dump, Integrity, Namespace, Socket};
use crate::nftables::{Marker, Native, SCHEMA};

pub(super) use self::address::Address;
pub(super) use self::change::{removal, remove_tables};
pub(super) use self::older::legacy_families;

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
    without_record: bool,
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

    /// Notes nothing down outside of the network namespace, for one that goes with its workload. `::6` on the loopback
    /// interface then counts as ours where there are IPv6 rules of ours.
    #[cfg(feature = "cni")]
    pub(crate) fn without_record(mut self) -> Self {
        self.without_record = true;
        self
    }

    /// What older installations left that only the iptables programs can remove, one item each, for
    /// people: rules in tables of iptables-legacy, and rules without a comment that were noted down.
    /// What the kernel does not let us look at is not in it; [`apply`](Engine::apply) has a note then.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn left_to_iptables(&self) -> Result<Vec<String>, Error> {
        self.run(|| {
            let mut list: Vec<_> = legacy_families(&mut Vec::new()).into_iter().map(legacy).collect();
            let record = Place::of_this_namespace().and_then(|place| place.load()).unwrap_or_default();
            if !record.rules.is_empty() {
                list.push(unmarked(&record));
            }
            Ok(list)
        })
    }

    /// How what is installed compares with a plan. Everything in our tables is compared, not only what
    /// they say of themselves.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        self.run(|| {
            let (found, _) = Socket::open().and_then(|mut socket| socket.dump()).map_err(Error::from)?;
            Ok(status(plan, &found))
        })
    }

    /// What an installation says of itself; none if there is none, or one without a marker.
    ///
    /// # Errors
    /// If the rules cannot be read.
    pub fn marker(&self) -> Result<Option<Marker>, Error> {
        self.run(|| {
            let (found, _) = Socket::open().and_then(|mut socket| socket.dump()).map_err(Error::from)?;
            Ok(found.v4.as_ref().or(found.v6.as_ref()).and_then(Content::marker))
        })
    }

    /// Rules that netlink cannot remove are a conflict, unless the caller will remove them. Whether there are any.
    fn check_legacy(&self, report: &mut Report) -> Result<bool, Error> {
        let families = legacy_families(&mut report.notes);
        let Some(problem) = legacy_problem(&families) else { return Ok(false) };
        if self.legacy_leftovers_allowed {
            report.notes.push(Note::info("iptables", problem));
            return Ok(true);
        }
        Err(legacy_conflict(problem))
    }

    fn address(&self, report: &mut Report) -> Address {
        match self.without_record {
            true => Address::unrecorded(),
            false => Address::recall(report),
        }
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        match &self.namespace {
            None => work(),
            Some(namespace) => namespace.run(work)?,
        }
    }
}

impl Engine for Netlink {
    fn name(&self) -> EngineName {
        EngineName::Netlink
    }

    /// Rehearses rules of every kind that a plan can have: the kernel looks whether it could make them,
    /// and does not. That may load modules of the kernel.
    fn abilities(&self, config: &Config) -> Result<HostAbilities, Error> {
        self.run(|| abilities::look(config))
    }

    /// One batch for both families. If exactly these rules are there, nothing is sent.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let mut address = self.address(&mut report);
            let redirected = self.check_legacy(&mut report)?;
            let native = Native::of(plan);
            let mut socket = Socket::open()?;
            // The rules send connections to ::6, so it has to be there before they are.
            let added = native.v6.is_some() && address.add(plan.config.ip_family_mode, &mut report)?;
            if let Err(error) = install(&mut socket, &native, redirected, &mut report) {
                if added {
                    let _ = address.remove(&mut report);
                }
                return Err(error);
            }
            #[cfg(feature = "ebpf")]
            super::ebpf::remove_programs(&plan.config, &mut report)?;
            if native.v6.is_none() {
                address.remove(&mut report)?;
            }
            left_open::note(plan, &mut report);
            if !address.record.rules.is_empty() {
                report.notes.push(Note::warning("comments.disabled", unmarked(&address.record)));
            }
            Ok(report)
        })
    }

    /// Removes our tables and what iptables-nft installations left. What is in tables of
    /// iptables-legacy stays, and a note says so.
    fn uninstall(&self, config: &Config) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Netlink);
            let mut address = self.address(&mut report);
            let mut socket = Socket::open()?;
            if self.without_record {
                address.record.loopback_address = socket.dump()?.0.v6.is_some();
            }
            for what in removal(&mut socket, config.dry_run, &mut report)? {
                match config.dry_run {
                    true => report.steps.push(format!("would remove {what}")),
                    false => report.step(format!("removed {what}")),
                }
            }
            if !config.dry_run {
                address.remove(&mut report)?;
            } else if address.record.loopback_address {
                report.steps.push(WOULD_REMOVE_ADDRESS.to_owned());
            }
            let legacy = legacy_families(&mut report.notes).into_iter().map(legacy);
            let rules = (!address.record.rules.is_empty()).then(|| unmarked(&address.record));
            report
                .notes
                .extend(legacy.chain(rules).map(|what| Note::warning("iptables", stays(&what))).collect::<Vec<_>>());
            Ok(report)
        })
    }
}

/// How what was found compares with a plan.
pub(super) fn status(plan: &Plan, found: &Dump) -> Status {
    match found {
        Dump { v4: None, v6: None, .. } => Status::Absent,
        _ => Status::of(differences(&Wanted::of(&Native::of(plan)), found)),
    }
}

/// How what was found compares with what was installed.
pub(super) fn status_as_installed(found: &Dump) -> Status {
    match (found, found.integrity()) {
        (Dump { v4: None, v6: None, .. }, _) => Status::Absent,
        (_, Integrity::Intact) => Status::Current,
        (_, Integrity::Changed(differences)) => Status::Drifted { differences },
        (_, Integrity::OtherSchema(schema)) => {
            let text = format!("another version installed it, whose rules have the form {schema}, not {SCHEMA}");
            Status::Uncompared { reason: text }
        }
    }
}
