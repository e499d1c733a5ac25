//! The engine that runs the distribution's iptables programs.
//!
//! Every family gets one text for `iptables-restore --noflush`: it takes our older rules away and
//! puts the new ones in, so each table changes in one step. Rules of others are never written.

mod child;
mod compare;
mod host;
mod kernel;
mod listing;
mod locate;
mod ours;
mod program;
mod questions;
mod removal;
mod transaction;
mod uncommented;

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use self::host::Host;
use self::kernel::Seen;
use self::locate::{Search, Toolset};
use self::removal::{Removal, Where, nothing_redirects};
use self::transaction::Transaction;
use super::failures::Failures;
use super::holders::{self, Holder};
use super::open_connections::OpenConnections;
use super::record::{Record, RecordStore, Recorded};
use super::turn::Turn;
use super::{Engine, Report, left_open, loopback, messages, netlink};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, IpFamilyMode, IptablesMode, Note, Options, Plan, Severity};
use crate::net::FamilyName;
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

pub use self::listing::{Listing, Unread};
pub(super) use self::listing::{NftTables, has_ours};

/// How long an operation may take in all, retries included.
const LIMIT: Duration = Duration::from_secs(300);

/// The distribution's iptables programs, in the network namespace of the calling thread or another
/// one.
#[derive(Debug, Clone)]
pub struct Iptables {
    search: Search,
    namespace: Option<Arc<Namespace>>,
}

impl Default for Iptables {
    /// Looks for the programs in the absolute directories of the environment variable `PATH`, and
    /// then in `/usr/sbin`, `/sbin`, `/usr/bin` and `/bin`.
    fn default() -> Self {
        Self { search: Search::path(&std::env::var_os("PATH").unwrap_or_default()).and_usual(), namespace: None }
    }
}

impl Iptables {
    /// Looks for the programs in these directories only, given in the form of `PATH`. Those that are
    /// not absolute are left out.
    pub fn in_path(path: impl AsRef<OsStr>) -> Self {
        Self { search: Search::path(path.as_ref()), namespace: None }
    }

    /// Works in another network namespace: the programs are started there. They are those of the
    /// caller's file system. The caller's thread stays where it is.
    pub fn in_namespace(mut self, namespace: Namespace) -> Self {
        self.namespace = Some(Arc::new(namespace));
        self
    }

    /// Removes the rules and chains of all installations by iptables, ours or kumactl's, of both
    /// modes, as far as there are programs for them: what another engine has taken the place of. `::6`
    /// on the loopback interface stays, as that engine needs it.
    ///
    /// # Errors
    /// If something could not be removed.
    pub fn remove_leftovers(&self, config: &Options) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Iptables);
            let turn = Turn::take_unless(config.dry_run, &mut report)?;
            self.remove_leftovers_in(&turn, config, report)
        })
    }

    fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.namespace.as_deref(), work)
    }
}

/// What is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope<'a> {
    /// Rules and chains.
    Rules,
    /// Our `::6` on the loopback interface as well, unless an installation needs it that is not going, too.
    Everything(&'a [Holder]),
}

impl Engine for Iptables {
    fn name(&self) -> EngineName {
        EngineName::Iptables
    }

    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| Host::new(&self.search, config, LIMIT).thorough().abilities())
    }

    /// What the kernel says, without a program; the programs are taken to have their part of it.
    fn presumed(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| Host::new(&self.search, config, LIMIT).abilities())
    }

    /// One text for each family. What was put in force before a part is refused, another table or the other family, is put back as
    /// it was. What an older installation left in the other mode, in IPv6 where none is wanted now, or
    /// in the tables of the netlink engine, is removed once the new rules are in force.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Iptables);
            let turn = Turn::take(&mut report)?;
            self.apply_in(&turn, plan, report)
        })
    }

    /// Looks in both families and both modes, as far as there are programs for them. `::6` stays where an installation of another
    /// engine needs it.
    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        self.run(|| {
            let mut report = Report::new(EngineName::Iptables);
            let turn = Turn::take_unless(config.dry_run, &mut report)?;
            self.uninstall_in(&turn, config, &[], report)
        })
    }
}

/// The operations, in the network namespace of the calling thread and in its turn there.
impl Iptables {
    pub(super) fn apply_in(&self, turn: &Turn, plan: &Plan, mut report: Report) -> Result<Report, Error> {
        let host = Host::new(&self.search, &plan.options, LIMIT).in_turn(turn);
        let choice = host.choose()?;
        let v6 = match (plan.iptables_v6(), choice.v6) {
            (Some(rules), Ok(tools)) => Some((tools, rules)),
            (Some(_), Err(problem)) => return Err(messages::no_ip6tables(&problem)),
            (None, _) => None,
        };
        #[cfg(feature = "ebpf")]
        let programs = super::ebpf::are_to_be_removed(&mut Kernel::default(), &plan.options, &mut report)?;
        // A plan that was made with this engine's abilities says so itself.
        let chosen = choice.remarks.into_iter().filter(|note| note.severity == Severity::Warning);
        report.notes.extend(chosen.filter(|note| !plan.notes.contains(note)));

        let mut unmarked = uncommented::unmarked(plan.iptables_v4(), choice.v4.mode);
        unmarked.extend(v6.iter().flat_map(|(tools, rules)| uncommented::unmarked(rules, tools.mode)));
        let mut memory = Memory::recall(&mut report)?;
        let before = memory.record.clone();
        let transaction = Transaction {
            host: &host,
            config: &plan.options,
            old: &before,
            unmarked: &unmarked,
            v4: (&choice.v4, plan.iptables_v4()),
            v6: v6.as_ref().map(|(tools, rules)| (tools, *rules)),
        };
        let used: Vec<_> = [Some(&choice.v4), v6.as_ref().map(|(tools, _)| tools)].into_iter().flatten().collect();
        // Without closing rules, an entry for a connection would be a way past the sidecar.
        let begins = plan.options.harden && nothing_redirects(&host, &plan.options, &before);
        let open = begins.then(|| {
            OpenConnections::keep(
                &mut Kernel::default(),
                used.iter().map(|tools| tools.family).collect(),
                plan.listeners(),
            )
        });
        let unmarked = transaction.run(&mut memory, &mut report).inspect_err(|_| {
            memory.record.rules.clone_from(&before.rules);
            memory.write(&mut report);
        })?;
        if let Some(open) = open {
            open.look_again(&mut Kernel::default(), &mut report);
        }
        // Programs may be of another mode than they say. What they loaded would be taken for a leftover.
        if let Some(tools) = used.iter().find(|tools| matches!(host.kernel.seen(tools), Some(Seen::Nothing))) {
            return Err(elsewhere(tools));
        }

        let mut leftovers = Removal::new(&host, &plan.options, &before, false);
        for tools in host.all() {
            if !used.iter().any(|used| (used.family, used.mode) == (tools.family, tools.mode)) {
                leftovers.look(&tools, &mut report);
            }
        }
        let mut failures = Failures::default();
        failures.take(leftovers.run(&mut report).1);
        failures.take(netlink::remove_tables(&mut report));
        #[cfg(feature = "ebpf")]
        if programs {
            failures.take(super::ebpf::remove_programs(&mut Kernel::default(), &plan.options, &mut report));
        }
        let removed = failures.or(());
        if v6.is_none() {
            memory.remove_address(&mut report)?;
        }
        if removed.is_ok() {
            memory.record.rules = unmarked;
        }
        memory.write(&mut report);
        removed.map_err(|error| messages::not_removed(&error))?;
        left_open::note(plan, &mut report);
        Ok(report)
    }

    /// Of what others have installed, what is `going` in the same errand.
    pub(super) fn uninstall_in(
        &self,
        turn: &Turn,
        config: &Options,
        going: &[Holder],
        report: Report,
    ) -> Result<Report, Error> {
        self.remove(turn, config, Scope::Everything(going), report)
    }

    pub(super) fn remove_leftovers_in(&self, turn: &Turn, config: &Options, report: Report) -> Result<Report, Error> {
        self.remove(turn, config, Scope::Rules, report)
    }

    fn remove(&self, turn: &Turn, config: &Options, scope: Scope<'_>, mut report: Report) -> Result<Report, Error> {
        let host = Host::new(&self.search, config, LIMIT).in_turn(turn);
        let all = host.all();
        if all.is_empty() {
            // Says what was looked for.
            host.choose()?;
        }
        let mut memory = Memory::recall(&mut report)?;
        let mut removal = Removal::new(&host, config, &memory.record, !config.dry_run);
        for tools in &all {
            removal.look(tools, &mut report);
        }
        if let (false, Some(error)) = (removal.looked, removal.blind.take()) {
            return Err(error);
        }
        removal.must_be_allowed()?;
        if config.dry_run {
            removal.describe(&mut report)?;
            if let Scope::Everything(going) = scope {
                memory.release_address(config, &[&looked_into(&all, &[])[..], going].concat(), &mut report)?;
            }
            return Ok(report);
        }
        let mut failures = Failures::default();
        let (left, removed) = removal.run(&mut report);
        failures.take(removed);
        if let Scope::Everything(going) = scope {
            let gone = [&looked_into(&all, &left)[..], going].concat();
            failures.take(memory.release_address(config, &gone, &mut report));
        }
        // Those that stay have to be known later on.
        memory.record.rules.retain(|rule| left.contains(&(rule.family, rule.mode)));
        memory.write(&mut report);
        failures.or(report)
    }
}

/// Where there is nothing of ours for IPv6 any longer, by the programs' word: not where something is `left`, or there are none.
fn looked_into(all: &[Toolset], left: &[Where]) -> Vec<Holder> {
    let holders = [(IptablesMode::Nft, Holder::IptablesNft), (IptablesMode::Legacy, Holder::IptablesLegacy)];
    let looked = |mode: IptablesMode| {
        let place = (FamilyName::V6, mode);
        all.iter().any(|tools| (tools.family, tools.mode) == place) && !left.contains(&place)
    };
    holders.into_iter().filter(|(mode, _)| looked(*mode)).map(|(_, holder)| holder).collect()
}

/// That the rules are not where programs of this mode have theirs.
fn elsewhere(tools: &Toolset) -> Error {
    let (restore, mode) = (tools.restore.display(), tools.mode);
    Error::Conflict {
        problem: format!(
            "{restore} has loaded the rules of {}, and no table of iptables-{mode} has them",
            tools.family
        ),
        remedy: format!("name programs that are of iptables-{mode}, as their names say, and install again"),
    }
}

/// The record of this network namespace.
struct Memory {
    place: Option<RecordStore>,
    record: Record,
}

impl Memory {
    fn recall(report: &mut Report) -> Result<Self, Error> {
        let place = RecordStore::of_this_namespace();
        let record = place.as_ref().map_err(Clone::clone).and_then(RecordStore::load);
        let mut record = record.unwrap_or_else(|error| {
            report.notes.push(Note::warning("record", format!("cannot read the installation record: {error}")));
            Record::default()
        });
        record.loopback_address = netlink::address_is_ours(&mut Kernel::default(), &record)?;
        Ok(Self { place: place.ok(), record })
    }

    /// Notes rules down before they are there, so that they can be told whenever this ends.
    fn expect(&mut self, rules: &[Recorded], report: &mut Report) {
        if !rules.is_empty() {
            self.record.or_rules(rules);
            self.write(report);
        }
    }

    /// Not being able to write is no reason to leave traffic unredirected.
    fn write(&self, report: &mut Report) {
        let Some(place) = &self.place else { return };
        let Err(error) = place.store(&self.record) else { return };
        let text = format!(
            "{error}; a later uninstall will not know the rules without comments, nor whose ::6 on the loopback interface is"
        );
        if !report.notes.iter().any(|note| note.text == text) {
            report.notes.push(Note::warning("record", text));
        }
    }

    /// Adds `::6` to the loopback interface, where that is possible.
    fn add_address(&mut self, mode: IpFamilyMode, report: &mut Report) -> Result<bool, Error> {
        let kernel = &mut Kernel::default();
        let added = loopback::add_where_possible(kernel, mode, report)?.new;
        loopback::settle(kernel);
        if added {
            report.step(messages::ADDED_ADDRESS);
            self.record.loopback_address = true;
            self.write(report);
        }
        Ok(added)
    }

    /// The same for an uninstallation: see [`Address::release`](netlink::Address::release).
    fn release_address(&mut self, config: &Options, gone: &[Holder], report: &mut Report) -> Result<(), Error> {
        if !self.record.loopback_address {
            return Ok(());
        }
        match holders::look(&mut Kernel::default(), config, gone) {
            Some(note) => report.notes.push(note),
            None if config.dry_run => report.steps.push(messages::WOULD_REMOVE_ADDRESS.to_owned()),
            None => self.remove_address(report)?,
        }
        Ok(())
    }

    /// Removes `::6` from the loopback interface, if it was added by us.
    fn remove_address(&mut self, report: &mut Report) -> Result<(), Error> {
        if self.record.loopback_address {
            if loopback::remove()? {
                report.step(messages::REMOVED_ADDRESS);
            }
            self.record.loopback_address = false;
        }
        Ok(())
    }
}
