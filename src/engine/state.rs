//! What is installed, by which engine, and whether it is as it should be.

use serde::Serialize;

use super::asked::{Asked, Question};
use super::backend::{Doubt, Look, Unknown};
use super::earlier::{self, EarlierChain};
use super::installation::{Installation, overall};
use super::location::Location;
use super::operations::Here;
use super::passthrough::{self, Ground as _};
use super::status::Status;
use crate::error::Error;
use crate::model::{EngineName, IptablesMode, Note, Options, Plan};
use crate::net::FamilyName;
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

/// What is installed in a network namespace.
///
/// Its JSON form has `status`, `installations` and, if there is something to say, `earlier` (see [`EarlierChain`]) and `notes`:
///
/// ```json
/// {
///   "status": { "state": "drifted", "differences": ["ip kuma-mesh: it has 37 rules, expected 38"] },
///   "installations": [
///     { "engine": "netlink", "families": ["ipv4", "ipv6"],
///       "status": { "state": "drifted", "differences": ["ip kuma-mesh: it has 37 rules, expected 38"] } }
///   ]
/// }
/// ```
///
/// An installation by `iptables` also has `mode`, `nft` or `legacy`. The states are those of
/// [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct State {
    /// Of everything: that of the only installation, `absent` if there is none, `drifted` if there
    /// are several, and `uncompared` where there may be another that cannot be seen.
    pub status: Status,
    /// What was found. More than one if one engine's rules were not removed when another's came.
    pub installations: Vec<Installation>,
    /// The nat chains of other programs that the kernel calls before those of the installations. They do not make one drift.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierChain>,
    /// What could not be looked at, and what else should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// Looks at what is installed in the network namespace of the calling thread, or in another one.
///
/// Installations of all engines are compared with the plan if there is one. Without a plan, one by
/// netlink is compared with what was installed, which its marker tells, and of one by ebpf it is looked
/// whether its programs are attached; one by iptables is
/// [`Uncompared`](Status::Uncompared). Comparing one by iptables needs its programs; nothing else does.
///
/// # Errors
/// [`Error::Permission`] if the caller may not look, [`Error::Os`] if something cannot be read.
pub fn state(plan: Option<&Plan>, namespace: Option<&Namespace>) -> Result<State, Error> {
    match plan {
        None => state_with(&Options::default(), None, namespace),
        Some(plan) => state_with(&plan.options, Some(plan), namespace),
    }
}

/// The same, with what a configuration says of the engines themselves where there is no plan to say it: where the engine ebpf
/// has its programs pinned (`ebpf.bpffsPath`).
///
/// # Errors
/// As [`state`].
pub fn state_with(config: &Options, plan: Option<&Plan>, namespace: Option<&Namespace>) -> Result<State, Error> {
    netns::run(namespace, || state_here(config, plan))
}

/// The engine of the first installation that [`state_with`] would name; none if there is none. It is told by names alone: nothing
/// is compared, and no set is read.
///
/// # Errors
/// As [`state`].
pub fn engine_there(config: &Options, namespace: Option<&Namespace>) -> Result<Option<EngineName>, Error> {
    netns::run(namespace, || engine_here(config))
}

fn engine_here(config: &Options) -> Result<Option<EngineName>, Error> {
    let (here, mut kernel) = (Here::new(), Kernel::default());
    let record = kernel.record().unwrap_or_default();
    for location in Location::ALL {
        match here.backends().look(&mut kernel, Question { config, record: &record }, [location])?.pop() {
            Some((_, Look::Present(_))) => return Ok(Some(location.engine())),
            // Who may not look at nf_tables at all cannot tell.
            Some((Location::Tables | Location::IptablesNft, Look::Unknown(unknown))) => return Err(unknown.reason),
            _ => {}
        }
    }
    Ok(None)
}

fn state_here(config: &Options, plan: Option<&Plan>) -> Result<State, Error> {
    let (here, mut kernel) = (Here::new(), Kernel::default());
    let kernel = &mut kernel;
    let record = kernel.record().unwrap_or_default();
    let asked = Asked::new(config, &record, plan);
    let (mut installations, mut unknown, mut said) = (Vec::new(), Vec::new(), Vec::new());
    for one in here.backends().all() {
        let mut notes = Vec::new();
        let compared = one.compare(kernel, &asked, &mut notes)?;
        installations.extend(compared.installations);
        notes.extend(compared.unknown.as_ref().map(|unknown| unknown.note.clone()));
        unknown.extend(compared.unknown);
        said.push((one.engine(), notes));
    }
    let mut earlier = Vec::new();
    let mut before = Vec::new();
    if let Some((dump, _)) = kernel.take_overview() {
        earlier = earlier::look(kernel, &dump, &by_iptables(&installations), &mut before)?;
        // Otherwise that has been said.
        if unknown.iter().any(|one: &Unknown| one.note.about == "iptables") {
            before.clear();
        }
        before.extend(earlier::note(&earlier));
    }
    let mut notes = in_order(said, before);
    for one in &mut installations {
        let status = std::mem::replace(&mut one.status, Status::Absent);
        one.status = status.and(passthrough::missing(kernel, &one.families)?);
    }
    notes.extend(back_to_kumactl(&installations));
    let status = beside(overall(&installations), &unknown);
    Ok(State { status, installations, earlier, notes })
}

/// The notes of the back ends: what the kernel does not show of iptables first, and what comes before ours in the rules behind
/// netlink's.
fn in_order(said: Vec<(EngineName, Vec<Note>)>, before: Vec<Note>) -> Vec<Note> {
    let of = |name: EngineName| said.iter().filter(move |(engine, _)| *engine == name).flat_map(|(_, notes)| notes);
    let rules = of(EngineName::Iptables).chain(of(EngineName::Netlink)).cloned();
    rules.chain(before).chain(of(EngineName::Ebpf).cloned()).collect()
}

/// The families that installations by iptables have rules for, by the mode of the programs.
fn by_iptables(installations: &[Installation]) -> Vec<(IptablesMode, Vec<FamilyName>)> {
    installations.iter().filter_map(|one| Some((one.mode?, one.families.clone()))).collect()
}

/// What to do before kumactl is used again, which sees rules of iptables only.
fn back_to_kumactl(installations: &[Installation]) -> Option<Note> {
    let (by_iptables, others): (Vec<_>, Vec<_>) =
        installations.iter().partition(|one| one.engine == EngineName::Iptables);
    let names: Vec<_> = others.iter().map(|one| one.engine.to_string()).collect();
    let names = names.join(" and ");
    match (others.is_empty(), by_iptables.is_empty()) {
        (true, _) => None,
        (false, true) => Some(Note::info(
            KUMACTL,
            format!(
                "it does not see what the engine {names} installed: run 'kumatp uninstall' before going back to it"
            ),
        )),
        (false, false) => Some(Note::warning(
            KUMACTL,
            format!(
                "rules of iptables are beside what the engine {names} installed, which kumactl neither sees nor removes: to go back to kumactl, run 'kumatp uninstall' and then kumactl; to stay, install again"
            ),
        )),
    }
}

/// What a note about other programs of Kuma is about.
const KUMACTL: &str = "kumactl";

/// The state where there may be something else that cannot be seen. What speaks for it says more than that nobody could look.
fn beside(status: Status, unknown: &[Unknown]) -> Status {
    let why = |doubt: Doubt| unknown.iter().find(|unknown| unknown.doubt == doubt).map(|one| one.note.text.clone());
    match (status, why(Doubt::Suspected), why(Doubt::Unseen)) {
        (Status::Absent | Status::Current, Some(reason), _) | (Status::Absent, None, Some(reason)) => {
            Status::Uncompared { reason }
        }
        (status, ..) => status,
    }
}
