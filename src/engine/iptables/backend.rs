//! The programs as a back end.

use std::io;

use super::host::Host;
use super::kernel::Seen;
use super::locate::Toolset;
use super::programs::{Choice, Programs};
use super::removal::{Removal, Where, nothing_redirects};
use super::transaction::Transaction;
use super::uncommented;
use crate::engine::asked::{Asked, Question};
use crate::engine::backend::{Backend, Compared, Doubt, Look, Present, Stopped, Taken, Unknown, Work};
use crate::engine::failures::Failures;
use crate::engine::installation::Installation;
use crate::engine::location::Location;
use crate::engine::open_connections::OpenConnections;
use crate::engine::reader::Reader;
use crate::engine::status::Status;
use crate::engine::{loopback, messages};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::in_force::Installed;
use crate::model::{EngineName, IptablesMode, Note, Options, Plan, Ruleset, Severity};
use crate::net::{FamilyName, V6};
use crate::netlink::{Kernel, Socket, Stop};

/// Where the rules of a mode are.
fn location(mode: IptablesMode) -> Location {
    match mode {
        IptablesMode::Nft => Location::IptablesNft,
        IptablesMode::Legacy => Location::IptablesLegacy,
    }
}

impl Backend<Kernel> for Programs {
    fn engine(&self) -> EngineName {
        EngineName::Iptables
    }

    /// What the kernel says, without a program; the programs are taken to have their part of it.
    fn presumed(&self, kernel: &mut Kernel, config: &Options) -> Result<HostAbilities, Error> {
        Host::new(self, config, kernel).abilities()
    }

    /// By the kernel's word, so that no program is run.
    fn look(&self, kernel: &mut Kernel, _: Question<'_>, location: Location) -> Result<Look, Error> {
        Ok(match location {
            Location::IptablesNft => nft(kernel),
            _ => legacy(kernel),
        })
    }

    fn check(&self, kernel: &mut Kernel, config: &Options, plan: Option<&Plan>) -> Result<(), Error> {
        let Some(plan) = plan else { return Ok(()) };
        v6(plan, Host::new(self, config, kernel).chosen()?).map(drop)
    }

    /// One text for each family. What was put in force before a part is refused, another table or the other family, is put back as
    /// it was. What an older installation left in the other mode, or in IPv6 where none is wanted now, is removed once the new rules
    /// are in force.
    fn put(&self, work: &mut Work<'_, Kernel>, plan: &Plan, redirected: bool) -> Result<Failures, Stopped> {
        let host = Host::new(self, work.config, work.ground);
        let choice = host.chosen()?;
        let v6 = v6(plan, choice)?;
        host.kernel.with(loopback::settle);
        // A plan that was made with this engine's abilities says so itself.
        let chosen = choice.remarks.iter().filter(|note| note.severity == Severity::Warning).cloned();
        work.report.notes.extend(chosen.filter(|note| !plan.notes.contains(note)));

        let before = work.passthrough.record.clone();
        let mut unmarked = uncommented::unmarked(plan.iptables_v4(), choice.v4.mode);
        unmarked.extend(v6.iter().flat_map(|(tools, rules)| uncommented::unmarked(rules, tools.mode)));
        let transaction = Transaction {
            host: &host,
            config: work.config,
            old: &before,
            unmarked: &unmarked,
            v4: (&choice.v4, plan.iptables_v4()),
            v6,
        };
        let used: Vec<_> = [Some(&choice.v4), v6.map(|(tools, _)| tools)].into_iter().flatten().collect();
        // Without closing rules, an entry for a connection would be a way past the sidecar.
        let begins = work.config.harden && !redirected && nothing_redirects(&host, work.config, &before);
        let families = || used.iter().map(|tools| tools.family).collect();
        let keep = |kernel: &mut Kernel| OpenConnections::keep(kernel, families(), plan.listeners());
        let open = begins.then(|| host.kernel.with(keep));
        let unmarked = transaction.run(work.passthrough, work.report).inspect_err(|_| {
            work.passthrough.record.rules.clone_from(&before.rules);
        })?;
        if let Some(open) = open {
            host.kernel.with(|kernel| open.look_again(kernel, work.report));
        }
        // Programs may be of another mode than they say. What they loaded would be taken for a leftover.
        if let Some(tools) = used.iter().find(|tools| matches!(host.kernel.seen(tools), Some(Seen::Nothing))) {
            return Err(Stopped { error: elsewhere(tools), undone: false });
        }

        let mut leftovers = Removal::new(&host, work.config, &before, false);
        for tools in host.all() {
            if !used.iter().any(|used| (used.family, used.mode) == (tools.family, tools.mode)) {
                leftovers.look(&tools, work.report);
            }
        }
        let mut failures = Failures::default();
        failures.take(leftovers.run(work.report).1);
        if failures.is_empty() {
            work.passthrough.record.rules = unmarked;
        }
        Ok(failures)
    }

    /// Looks in both families and both modes, as far as there are programs for them.
    fn take_away(&self, work: &mut Work<'_, Kernel>, spared: &[Location]) -> Result<Taken, Error> {
        let host = Host::new(self, work.config, work.ground);
        let all = host.all();
        if all.is_empty() {
            // Says what was looked for.
            host.chosen()?;
        }
        let mut removal = Removal::new(&host, work.config, &work.passthrough.record, !work.dry_run);
        for tools in all.iter().filter(|tools| !spared.contains(&location(tools.mode))) {
            removal.look(tools, work.report);
        }
        if let (false, Some(error)) = (removal.looked, removal.blind.take()) {
            return Err(error);
        }
        removal.must_be_allowed()?;
        if work.dry_run {
            removal.describe(work.report)?;
            return Ok(Taken { gone: looked_into(&all, &[]), ..Taken::default() });
        }
        let mut failures = Failures::default();
        let (left, removed) = removal.run(work.report);
        failures.take(removed);
        // Those that stay have to be known later on.
        work.passthrough.record.rules.retain(|rule| left.contains(&(rule.family, rule.mode)));
        Ok(Taken { gone: looked_into(&all, &left), failures })
    }

    fn compare(&self, kernel: &mut Kernel, asked: &Asked<'_>, _: &mut Vec<Note>) -> Result<Compared, Error> {
        let nft = match kernel.overview(&|_| None) {
            Ok((_, leftovers)) => leftovers.families(),
            // The back end of netlink says so.
            Err(Stop::Missing) => Vec::new(),
            Err(stop) => return Err(stop.into()),
        };
        let (legacy, unknown) = match legacy(kernel) {
            Look::Absent => (Vec::new(), None),
            Look::Present(present) => (present.families, present.unknown),
            Look::Unknown(unknown) => (Vec::new(), Some(unknown)),
        };
        let mut installations = Vec::new();
        for (mode, families) in [(IptablesMode::Nft, nft), (IptablesMode::Legacy, legacy)] {
            if !families.is_empty() {
                let status = self.status(kernel, asked, mode);
                installations.push(Installation::new(EngineName::Iptables, Some(mode), families, status));
            }
        }
        Ok(Compared { installations, unknown })
    }
}

impl Reader for Programs {
    fn read(&self, kernel: &mut Kernel, _: Question<'_>, found: &mut Installed) -> Result<(), Error> {
        self.list_all(kernel, found)
    }
}

impl Programs {
    fn status(&self, kernel: &mut Kernel, asked: &Asked<'_>, mode: IptablesMode) -> Status {
        match asked.plan.map(|plan| self.differences(kernel, plan, mode, asked.question.record)) {
            None => {
                Status::Uncompared { reason: "no configuration to compare the rules of iptables with was given".into() }
            }
            Some(Ok(differences)) => Status::of(differences),
            Some(Err(error)) => Status::Uncompared { reason: error.to_string() },
        }
    }
}

/// The programs for IPv6 and the rules of a plan, if it has some.
fn v6<'a>(plan: &'a Plan, choice: &'a Choice) -> Result<Option<(&'a Toolset, &'a Ruleset<V6>)>, Error> {
    match (plan.iptables_v6(), &choice.v6) {
        (Some(rules), Ok(tools)) => Ok(Some((tools, rules))),
        (Some(_), Err(problem)) => Err(messages::no_ip6tables(problem)),
        (None, _) => Ok(None),
    }
}

/// What is seen in tables of iptables-nft.
fn nft(kernel: &mut Kernel) -> Look {
    match kernel.netfilter().and_then(Socket::leftovers) {
        Ok((leftovers, _)) if leftovers.families().is_empty() => Look::Absent,
        Ok((leftovers, _)) => Look::Present(Present { families: leftovers.families(), ..Present::default() }),
        // There is nothing in what the kernel does not have.
        Err(Stop::Missing) => Look::Absent,
        Err(stop) => {
            let reason = Error::from(stop);
            let (of_ipv6, note) = (Some(reason.to_string()), Note::warning("iptables", reason.to_string()));
            Look::Unknown(Unknown { doubt: Doubt::Unseen, reason, of_ipv6, note })
        }
    }
}

/// What is seen in tables of iptables-legacy.
fn legacy(kernel: &mut Kernel) -> Look {
    let (mut families, mut unseen) = (Vec::new(), Vec::new());
    for family in FamilyName::ALL {
        match kernel.legacy.has_installation(family) {
            Ok(true) => families.push(family),
            Ok(false) => {}
            Err(error) => unseen.push((family, error)),
        }
    }
    match (families.is_empty(), unknown(&unseen)) {
        (true, None) => Look::Absent,
        (true, Some(unknown)) => Look::Unknown(unknown),
        (false, unknown) => Look::Present(Present { families, unknown, ..Present::default() }),
    }
}

/// That tables of iptables-legacy could not be looked into.
fn unknown(unseen: &[(FamilyName, io::Error)]) -> Option<Unknown> {
    let (_, first) = unseen.first()?;
    let families: Vec<_> = unseen.iter().map(|(family, _)| family.to_string()).collect();
    let what = format!("look for an older installation in the {} tables of iptables-legacy", families.join(" and "));
    let reason = Error::io(what, first);
    let v6 = unseen.iter().find(|(family, _)| *family == FamilyName::V6);
    let of_ipv6 = v6.map(|(_, error)| format!("cannot look into the IPv6 tables of iptables-legacy: {error}"));
    Some(Unknown { doubt: Doubt::Unseen, note: Note::warning("iptables", reason.to_string()), reason, of_ipv6 })
}

/// Where there is nothing of ours for IPv6 any longer, by the programs' word: not where something is `left`, or there are none.
fn looked_into(all: &[Toolset], left: &[Where]) -> Vec<Location> {
    let looked = |mode: &IptablesMode| {
        let place = (FamilyName::V6, *mode);
        all.iter().any(|tools| (tools.family, tools.mode) == place) && !left.contains(&place)
    };
    IptablesMode::ALL.into_iter().filter(looked).map(location).collect()
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
