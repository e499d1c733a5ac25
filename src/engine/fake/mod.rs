//! An engine in memory, for the tests of programs that install rules: no kernel, no privilege, any
//! operating system.
//!
//! A [`Fake`] stands for one of the real engines on a host of its own. It reports what that engine would
//! report, in the same words, and fails as it would: tests of this crate run the same operations by the
//! real engines on a kernel, and compare.
//!
//! ```
//! use kumatp::engine::fake::{Call, Fake, Operation, Tables};
//! use kumatp::engine::{Engine, Status};
//! use kumatp::model::EngineName;
//! use kumatp::net::Uid;
//! use kumatp::{Config, Error, Facts, policy};
//!
//! /// What is to be tested: true if something had to be changed. The program gets the facts from
//! /// `facts::probe`.
//! fn ensure(engine: &dyn Engine, config: &Config, facts: &Facts) -> Result<bool, Error> {
//!     let report = engine.apply(&policy::plan(config, facts)?)?;
//!     Ok(report.changed)
//! }
//!
//! let fake = Fake::new(EngineName::Netlink);
//! let facts = fake.facts(Uid::SIDECAR);
//! let mut config = Config::default();
//!
//! // Installed, once; then replaced.
//! assert!(ensure(&fake, &config, &facts)?);
//! assert!(!ensure(&fake, &config, &facts)?);
//! config.redirect.inbound.exclude_ports = "22".parse()?;
//! assert!(ensure(&fake, &config, &facts)?);
//! assert!(fake.rules().contains("tcp dport 22 return"));
//!
//! // A failure leaves what was there.
//! let installed = fake.installed();
//! let error = Error::Conflict { problem: "somebody is faster".into(), remedy: "try again".into() };
//! fake.fail_next(Operation::Apply, error.clone());
//! config.redirect.inbound.exclude_ports = "22,80".parse()?;
//! assert_eq!(ensure(&fake, &config, &facts), Err(error));
//! assert_eq!(fake.installed(), installed);
//!
//! // Somebody changes the rules.
//! let plan = installed.unwrap();
//! assert_eq!(fake.status(&plan)?, Status::Current);
//! fake.flush_chain(kumatp::net::FamilyName::V4, "KUMA_MESH_OUTBOUND")?;
//! assert!(matches!(fake.status(&plan)?, Status::Drifted { .. }));
//!
//! // Removed, once.
//! assert!(fake.uninstall(&config.options())?.changed);
//! assert!(!fake.uninstall(&config.options())?.changed);
//! assert_eq!(fake.status(&plan)?, Status::Absent);
//!
//! // An installation that this engine cannot remove is in the way.
//! fake.leave_behind(Tables::IptablesLegacy, &plan);
//! assert!(matches!(ensure(&fake, &config, &facts), Err(Error::Conflict { .. })));
//! assert!(matches!(fake.calls().last(), Some(Call::Apply(_))));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod by_ebpf;
mod by_iptables;
mod by_netlink;
mod calls;
mod host;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::by_ebpf::ByEbpf;
use self::by_iptables::ByIptables;
use self::by_netlink::ByNetlink;
use self::host::Host;
use super::asked::Asked;
use super::contract::Engine;
use super::installation::overall;
use super::passthrough;
use super::record::Record;
use super::report::Report;
use super::status::Status;
use super::takeover::{Backends, Programs};
use crate::error::{Error, InvalidValue};
use crate::facts::{Facts, HostAbilities, Ipv6};
use crate::model::{EngineName, Options, Plan};
use crate::net::{FamilyName, Uid};

pub use self::calls::{Call, Operation};

/// An engine on a host in memory.
///
/// A clone works on the same host, as does the engine that [`beside`](Self::beside) gives; operations
/// happen one at a time, whatever thread asks for them.
///
/// What it does not know of: rules without comments are told from those of other programs, which the real
/// engines cannot always do; and a plan is not refused for want of an ability, except for IPv6.
#[derive(Debug, Clone)]
pub struct Fake {
    name: EngineName,
    legacy_leftovers_allowed: bool,
    host: Arc<Mutex<Host>>,
}

/// Where the rules of an installation are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tables {
    /// In nf_tables' tables of our own, where the netlink engine puts them.
    KumaMesh,
    /// In the tables of iptables-nft.
    IptablesNft,
    /// In the tables of iptables-legacy.
    IptablesLegacy,
}

/// The engine, and what a test can learn of it.
impl Fake {
    /// An engine that behaves as the real one of this name, on a capable host of its own where nothing
    /// is installed and everything is allowed.
    pub fn new(name: EngineName) -> Self {
        Self { name, legacy_leftovers_allowed: false, host: Arc::default() }
    }

    /// An engine of this name on the same host, which has its own calls and failures to come.
    pub fn beside(&self, name: EngineName) -> Self {
        Self { name, legacy_leftovers_allowed: false, host: self.host.clone() }
    }

    /// Installs even where an older installation has rules in tables of iptables-legacy, as `Netlink`
    /// does after its `allow_legacy_leftovers`. The iptables engine removes them anyway.
    pub fn allow_legacy_leftovers(mut self) -> Self {
        self.legacy_leftovers_allowed = true;
        self
    }

    /// What older installations left that only the iptables engine can remove, one item each, as
    /// `Netlink::left_to_iptables` lists it.
    pub fn left_to_iptables(&self) -> Vec<String> {
        BACKENDS.left_to_iptables(&mut *self.host())
    }

    /// The facts of the host, as far as it has any: a host with IPv6 and these abilities, whose name
    /// servers nobody looked for.
    pub fn facts(&self, sidecar: Uid) -> Facts {
        let HostAbilities { v4, v6, v6_refused, remarks, .. } = self.host().abilities.clone();
        let mut facts = Facts::capable_host(sidecar);
        if let Some((reason, remedy)) = v6_refused {
            facts.ipv6 = Ipv6::Refused { reason, remedy };
        }
        (facts.v4, facts.v6, facts.remarks) = (v4, v6, remarks);
        facts
    }

    /// How what this engine has installed compares with a plan, as `Netlink::status` says it of the
    /// tables of netlink; of those of iptables, as `engine::state` does where nothing else is installed.
    ///
    /// # Errors
    /// Without the privilege to look, and those of [`fail_next`](Self::fail_next).
    pub fn status(&self, plan: &Plan) -> Result<Status, Error> {
        let host = &mut *self.called(Call::Status(plan.clone()))?;
        let one = BACKENDS.of(self.name)?;
        one.check(host, &plan.options, None)?;
        let record = Record::default();
        let asked = Asked::new(&plan.options, &record, Some(plan));
        let mut installations = one.compare(host, &asked, &mut Vec::new())?.installations;
        for one in &mut installations {
            let status = std::mem::replace(&mut one.status, Status::Absent);
            one.status = status.and(passthrough::missing(host, &one.families)?);
        }
        Ok(overall(&installations))
    }

    /// The plan that was last put into the tables of this engine and is still there, whatever happened
    /// to its rules since. Of installations by iptables in both kinds of tables, that of iptables-nft.
    pub fn installed(&self) -> Option<Plan> {
        match self.name {
            EngineName::Iptables => {
                self.installed_in(Tables::IptablesNft).or_else(|| self.installed_in(Tables::IptablesLegacy))
            }
            EngineName::Netlink => self.installed_in(Tables::KumaMesh),
            EngineName::Ebpf => self.host().programs.clone(),
        }
    }

    /// The plan that is in these tables, whichever engine put it there.
    pub fn installed_in(&self, tables: Tables) -> Option<Plan> {
        let host = self.host();
        match tables {
            Tables::KumaMesh => host.own.plan(),
            Tables::IptablesNft => host.nft.plan(),
            Tables::IptablesLegacy => host.legacy.plan(),
        }
        .cloned()
    }

    /// The rules that are in force in the tables of this engine, as text: tables in nft's language of
    /// the netlink engine, nothing of the eBPF engine, otherwise text for iptables-restore under a heading for each family.
    pub fn rules(&self) -> String {
        let host = self.host();
        match self.name {
            EngineName::Iptables => {
                let texts = [host.nft.text(), host.legacy.text()];
                texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n")
            }
            EngineName::Netlink => host.own.text(),
            EngineName::Ebpf => String::new(),
        }
    }

    /// Whether `::6` is on the loopback interface of the host.
    pub fn has_loopback_address(&self) -> bool {
        self.host().address
    }

    /// What this engine was asked for, in order, whether or not it succeeded.
    pub fn calls(&self) -> Vec<Call> {
        let host = self.host();
        host.calls.iter().filter(|(engine, _)| *engine == self.name).map(|(_, call)| call.clone()).collect()
    }
}

/// What a test can make happen.
impl Fake {
    /// Makes the next operation of this kind fail with this error, and change nothing. Of several, each
    /// is for one operation more.
    pub fn fail_next(&self, operation: Operation, error: Error) {
        self.host().failures.push((self.name, operation, error));
    }

    /// What the engines on this host find out it can do. With `v6_refused`, they also refuse plans with
    /// IPv6 rules.
    pub fn set_abilities(&self, abilities: HostAbilities) {
        self.host().abilities = abilities;
    }

    /// Refuses IPv6: a kernel or programs without it, on a host that has it. `reason` and `remedy` are
    /// those of [`HostAbilities::v6_refused`].
    pub fn refuse_ipv6(&self, reason: impl Into<String>, remedy: impl Into<String>) {
        self.host().abilities.v6_refused = Some((reason.into(), remedy.into()));
    }

    /// Takes or gives the privilege to look at rules and change them. Without it, operations fail with
    /// [`Error::Permission`], except that the netlink engine takes a kernel that it may not look at for a
    /// capable one.
    pub fn set_privileged(&self, privileged: bool) {
        self.host().unprivileged = !privileged;
    }

    /// Puts an older installation, ours or kumactl's, into tables of the host, in the place of what is
    /// there.
    pub fn leave_behind(&self, tables: Tables, plan: &Plan) {
        let mut host = self.host();
        match tables {
            Tables::KumaMesh => host.own.put(plan),
            Tables::IptablesNft => host.nft.put(plan),
            Tables::IptablesLegacy => host.legacy.put(plan),
        }
    }

    /// Somebody removes all rules of a chain in the tables of this engine, as `nft flush chain` and
    /// `iptables -F` do it.
    ///
    /// # Errors
    /// If there is no such chain, with the names of those that there are.
    pub fn flush_chain(&self, family: FamilyName, chain: &str) -> Result<(), InvalidValue> {
        let mut host = self.host();
        match self.name {
            EngineName::Iptables => host.flush_by_iptables(family, chain),
            EngineName::Netlink => host.own.flush(family, chain),
            EngineName::Ebpf => Err(host::no_chain(family, chain, [])),
        }
    }

    /// Somebody removes all that is installed for a family in the tables of this engine.
    pub fn remove_family(&self, family: FamilyName) {
        let mut host = self.host();
        match self.name {
            EngineName::Iptables => {
                host.nft.remove(family);
                host.legacy.remove(family);
            }
            EngineName::Netlink => host.own.remove(family),
            // The programs deal with both.
            EngineName::Ebpf => host.programs = None,
        }
    }

    /// Somebody adds a rule in a chain of theirs, in the nat table of iptables, that leads to a chain of
    /// an installation by iptables. Whatever would remove that chain is then a conflict, until
    /// [`remove_others_jumps`](Self::remove_others_jumps).
    ///
    /// # Errors
    /// If there is no such chain, with the names of those that there are: to the tables of netlink, nothing leads.
    pub fn add_others_jump(&self, family: FamilyName, chain: &str) -> Result<(), InvalidValue> {
        let mut host = self.host();
        let tables = if host.nft.has_chain(family, chain) { &mut host.nft } else { &mut host.legacy };
        tables.add_jump(family, chain)
    }

    /// They remove their rules again.
    pub fn remove_others_jumps(&self) {
        let mut host = self.host();
        host.nft.jumps.clear();
        host.legacy.jumps.clear();
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        // Every change of the host is whole, so it is right even if a test has panicked meanwhile.
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host, once it is noted what is asked for and nothing is to fail.
    fn called(&self, call: Call) -> Result<MutexGuard<'_, Host>, Error> {
        let mut host = self.host();
        let operation = call.operation();
        host.calls.push((self.name, call));
        let failing = host.failures.iter().position(|(engine, of, _)| (*engine, *of) == (self.name, operation));
        match failing {
            Some(at) => Err(host.failures.remove(at).2),
            None => Ok(host),
        }
    }
}

impl Engine for Fake {
    fn name(&self) -> EngineName {
        self.name
    }

    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        let mut host = self.called(Call::Abilities(config.clone()))?;
        BACKENDS.of(self.name)?.presumed(&mut host, config)
    }

    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        let mut host = self.called(Call::Apply(plan.clone()))?;
        let programs = if self.legacy_leftovers_allowed { Programs::Spared } else { Programs::Refused };
        Ok(BACKENDS.install(&mut *host, self.name, plan, programs, Report::new(self.name))?.0)
    }

    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        let mut host = self.called(Call::Uninstall(config.clone()))?;
        BACKENDS.uninstall(&mut *host, self.name, config, Report::new(self.name))
    }
}

/// Those of every host in memory.
const BACKENDS: Backends<'static, Host> = Backends { netlink: &ByNetlink, iptables: &ByIptables, ebpf: Some(&ByEbpf) };

#[cfg(test)]
mod tests;
