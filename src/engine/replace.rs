//! Installing over whatever is installed, by whichever engine.

#[cfg(feature = "ebpf")]
use super::ebpf::Ebpf;
use super::iptables::Iptables;
use super::netlink::Netlink;
use super::turn::Turn;
use super::{EngineName, Report};
use crate::error::Error;
use crate::model::Plan;
use crate::netlink::{Kernel, Namespace};

/// [`replace_all_by`] netlink.
///
/// # Errors
/// As [`replace_all_by`].
pub fn replace_all(plan: &Plan, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    replace_all_by(EngineName::Netlink, plan, namespace)
}

/// Installs by an engine in the network namespace of the calling thread or in another one, and then has
/// the iptables programs remove what the engine cannot: an older installation, ours or kumactl's, in the
/// tables of iptables-legacy, and rules without comments that were noted down. Engines other than
/// [`Iptables`] run programs only if there is something to remove so.
///
/// One report for each engine that was at work.
///
/// # Errors
/// As the engine's [`apply`](super::Engine::apply). [`Error::Conflict`] if the new rules are in force
/// and the older ones could not be removed.
pub fn replace_all_by(engine: EngineName, plan: &Plan, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    match namespace {
        None => replace_here(engine, plan),
        Some(namespace) => namespace.run(|| replace_here(engine, plan))?,
    }
}

fn replace_here(engine: EngineName, plan: &Plan) -> Result<Vec<Report>, Error> {
    let mut report = Report::new(engine);
    // Until the old rules are gone: whoever comes in between would lose what it has installed.
    let turn = Turn::take(&mut report)?;
    let (netlink, kernel) = (Netlink::default(), &mut Kernel::default());
    let left = Netlink::left_to_iptables_by(kernel);
    let report = match engine {
        EngineName::Iptables => return Ok(vec![Iptables::default().apply_in(&turn, plan, report)?]),
        EngineName::Netlink if left.is_empty() => netlink.apply_in(&turn, kernel, plan, report),
        EngineName::Netlink => netlink.allow_legacy_leftovers().apply_in(&turn, kernel, plan, report),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf if left.is_empty() => Ebpf::default().apply_in(&turn, kernel, plan, report),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf => Ebpf::default().allow_legacy_leftovers().apply_in(&turn, kernel, plan, report),
        #[cfg(not(feature = "ebpf"))]
        EngineName::Ebpf => Err(Error::Unsupported {
            what: "the engine ebpf in this build".to_owned(),
            remedy: "use one with the feature ebpf".to_owned(),
        }),
    }?;
    if left.is_empty() {
        return Ok(vec![report]);
    }
    let cleared = Report::new(EngineName::Iptables);
    let removed = Iptables::default().remove_leftovers_in(&turn, &plan.config, cleared).map_err(|error| {
        let conflict = Error::Conflict {
            problem: format!("the new rules are active, and so is an older installation ({})", left.join(", ")),
            remedy: "uninstall it with the iptables engine".into(),
        };
        Error::Several(vec![conflict, error])
    })?;
    Ok(vec![report, removed])
}
