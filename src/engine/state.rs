//! What is installed, by which engine, and whether it is as it should be.

use std::cell::OnceCell;

use serde::Serialize;

use super::compare::ExpectedTables;
use super::iptables::Iptables;
use super::messages::not_installed_by_us;
use super::{EarlierChain, Status, earlier, netlink};
use crate::error::Error;
use crate::model::{EngineName, IptablesMode, Note, Options, Plan};
use crate::net::FamilyName;
use crate::netlink::{Dump, Kernel, Socket, Stop};
use crate::netns::{self, Namespace};
use crate::nftables::Native;

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
    /// The nat chains of others that the kernel calls before those of the installations. They do not make one drift.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<EarlierChain>,
    /// What could not be looked at, and what else should be known.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Note>,
}

/// The rules of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Installation {
    /// The engine. Installations by iptables can be kumactl's as well as ours: their rules carry the
    /// same marks, and each program can remove the other's.
    pub engine: EngineName,
    /// The mode of the iptables programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<IptablesMode>,
    /// The families that have rules.
    pub families: Vec<FamilyName>,
    /// How it compares with the plan, or with what was installed.
    pub status: Status,
    /// The programs of the engine ebpf.
    #[cfg(feature = "ebpf")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<super::ebpf::Programs>,
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

#[cfg_attr(not(feature = "ebpf"), expect(unused_variables, reason = "only the engine ebpf has a place that is chosen"))]
fn engine_here(config: &Options) -> Result<Option<EngineName>, Error> {
    let mut kernel = Kernel::default();
    match kernel.netfilter().and_then(Socket::look_for_removal) {
        Ok((tables, ..)) if !tables.ours.is_empty() => return Ok(Some(EngineName::Netlink)),
        Ok((_, leftovers, _)) if !leftovers.families().is_empty() => return Ok(Some(EngineName::Iptables)),
        Ok(_) | Err(Stop::Missing) => {}
        Err(stop) => return Err(stop.into()),
    }
    if !netlink::Legacy::look(&mut kernel).families.is_empty() {
        return Ok(Some(EngineName::Iptables));
    }
    #[cfg(feature = "ebpf")]
    match super::ebpf::sight(&mut kernel, config)? {
        crate::ebpf::Sight::Pinned | crate::ebpf::Sight::OutOfReach(_) => return Ok(Some(EngineName::Ebpf)),
        _ => {}
    }
    Ok(None)
}

#[cfg_attr(not(feature = "ebpf"), expect(unused_variables, reason = "only the engine ebpf has a place that is chosen"))]
fn state_here(config: &Options, plan: Option<&Plan>) -> Result<State, Error> {
    let mut notes = Vec::new();
    let mut installations = Vec::new();
    let mut earlier = Vec::new();
    let mut kernel = Kernel::default();
    let kernel = &mut kernel;
    let legacy = netlink::Legacy::look(kernel);
    legacy.note(&mut notes);
    // Only needed if there is something of ours.
    let wanted = OnceCell::new();
    let wanted = |plan| wanted.get_or_init(|| ExpectedTables::of(&Native::of(plan)));
    let expected = |family| plan.and_then(|plan| wanted(plan).of_family(family));
    match kernel.netfilter().and_then(|socket| socket.look(&expected)) {
        Ok((dump, leftovers, _)) => {
            if !dump.taken.is_empty() {
                notes.push(Note::warning("netlink", not_installed_by_us(&dump.taken)));
            }
            installations.extend(by_netlink(plan.map(|plan| || wanted(plan)), &dump));
            installations.extend(by_iptables(plan, IptablesMode::Nft, leftovers.families()));
            let of_iptables =
                [(IptablesMode::Nft, leftovers.families()), (IptablesMode::Legacy, legacy.families.clone())];
            let mut unseen = Vec::new();
            earlier = earlier::look(kernel, &dump, &of_iptables, &mut unseen)?;
            // Otherwise that has been said.
            if legacy.unseen().is_none() {
                notes.extend(unseen);
            }
            notes.extend(earlier::note(&earlier));
        }
        Err(Stop::Missing) => {
            notes.push(Note::info("netlink", format!("not looked into: {}", Error::from(Stop::Missing))));
        }
        Err(stop) => return Err(stop.into()),
    }
    installations.extend(by_iptables(plan, IptablesMode::Legacy, legacy.families));
    #[cfg(feature = "ebpf")]
    let suspected = by_ebpf(kernel, config, plan, &mut installations, &mut notes)?;
    #[cfg(not(feature = "ebpf"))]
    let suspected = None;
    for one in &mut installations {
        let status = std::mem::replace(&mut one.status, Status::Absent);
        one.status = status.and(netlink::missing_address(kernel, &one.families)?);
    }
    notes.extend(back_to_kumactl(&installations));
    let status = match (overall(&installations), suspected) {
        (Status::Absent | Status::Current, Some(reason)) => Status::Uncompared { reason },
        (status, _) => status,
    };
    Ok(State { status, installations, earlier, notes })
}

/// Adds what there is of eBPF programs, and says why it is not known whether there are others, where something speaks for that.
#[cfg(feature = "ebpf")]
fn by_ebpf(
    kernel: &mut Kernel,
    config: &Options,
    plan: Option<&Plan>,
    installations: &mut Vec<Installation>,
    notes: &mut Vec<Note>,
) -> Result<Option<String>, Error> {
    use super::ebpf;
    use crate::ebpf::Sight;

    match ebpf::sight(kernel, config)? {
        Sight::Absent => {}
        Sight::Pinned => installations.extend(ebpf::found(kernel, config, plan, notes)?),
        Sight::OutOfReach(error) => installations.push(ebpf::out_of_reach(&error)),
        Sight::Suspected(error) => {
            let note = ebpf::unseen(&error);
            notes.push(note.clone());
            return Ok(Some(note.text));
        }
        Sight::Unknown(error) => notes.push(ebpf::unseen(&error)),
        Sight::Unasked(error) => notes.push(ebpf::unasked(&error)),
    }
    Ok(None)
}

fn by_netlink<'a>(wanted: Option<impl FnOnce() -> &'a ExpectedTables>, dump: &Dump) -> Option<Installation> {
    let families = dump.families();
    let status = match wanted {
        _ if families.is_empty() => return None,
        Some(wanted) => netlink::status(wanted(), dump),
        None => netlink::status_as_installed(dump),
    };
    Some(Installation::new(EngineName::Netlink, None, families, status))
}

fn by_iptables(plan: Option<&Plan>, mode: IptablesMode, families: Vec<FamilyName>) -> Option<Installation> {
    if families.is_empty() {
        return None;
    }
    let status = match plan.map(|plan| Iptables::default().differences(plan, mode)) {
        None => {
            Status::Uncompared { reason: "no configuration to compare the rules of iptables with was given".into() }
        }
        Some(Ok(differences)) => Status::of(differences),
        Some(Err(error)) => Status::Uncompared { reason: error.to_string() },
    };
    Some(Installation::new(EngineName::Iptables, Some(mode), families, status))
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

fn overall(installations: &[Installation]) -> Status {
    match installations {
        [] => Status::Absent,
        [only] => only.status.clone(),
        several => {
            let names: Vec<_> = several.iter().map(Installation::name).collect();
            let mut differences = vec![format!("several engines have rules: {}", names.join(", "))];
            for one in several {
                if let Status::Drifted { differences: own } = &one.status {
                    differences.extend(own.iter().map(|text| format!("{}: {text}", one.name())));
                }
            }
            Status::Drifted { differences }
        }
    }
}

impl Installation {
    pub(super) fn new(
        engine: EngineName,
        mode: Option<IptablesMode>,
        families: Vec<FamilyName>,
        status: Status,
    ) -> Self {
        Self {
            engine,
            mode,
            families,
            status,
            #[cfg(feature = "ebpf")]
            programs: None,
        }
    }

    /// The engine, with the mode of its programs, for people: `iptables (legacy)`.
    pub fn name(&self) -> String {
        match self.mode {
            Some(mode) => format!("{} ({mode})", self.engine),
            None => self.engine.to_string(),
        }
    }
}
