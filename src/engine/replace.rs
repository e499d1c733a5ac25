//! Installing over whatever is installed, by whichever engine.

use super::iptables::Iptables;
use super::netlink::Netlink;
use super::{Engine as _, Report};
use crate::error::Error;
use crate::model::Plan;
use crate::netlink::Namespace;

/// Installs by netlink in the network namespace of the calling thread or in another one, and then has
/// the iptables programs remove what netlink cannot: an older installation, ours or kumactl's, in the
/// tables of iptables-legacy, and rules without comments that were noted down. Runs programs only if
/// there is something to remove so.
///
/// One report for each engine that was at work.
///
/// # Errors
/// As [`Netlink`]'s [`apply`](super::Engine::apply). [`Error::Conflict`] if the new rules are in force
/// and the older ones could not be removed.
pub fn replace_all(plan: &Plan, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    match namespace {
        None => replace_here(plan),
        Some(namespace) => namespace.run(|| replace_here(plan))?,
    }
}

fn replace_here(plan: &Plan) -> Result<Vec<Report>, Error> {
    let netlink = Netlink::default();
    let left = netlink.left_to_iptables()?;
    if left.is_empty() {
        return Ok(vec![netlink.apply(plan)?]);
    }
    let report = netlink.allow_legacy_leftovers().apply(plan)?;
    let removed = Iptables::default().remove_leftovers(&plan.config).map_err(|error| {
        let conflict = Error::Conflict {
            problem: format!("the new rules are active, and so is an older installation ({})", left.join(", ")),
            remedy: "uninstall it with the iptables engine".into(),
        };
        Error::Several(vec![conflict, error])
    })?;
    Ok(vec![report, removed])
}
