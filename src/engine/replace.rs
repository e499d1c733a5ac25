//! Installing over whatever is installed, by whichever engine.

#[cfg(feature = "ebpf")]
use super::ebpf::Ebpf;
use super::install::first_presuming;
use super::iptables::Iptables;
use super::netlink::{Netlink, presumed};
use super::turn::Turn;
use super::{Engine, Report};
use crate::error::Error;
use crate::facts::{self, Facts, Request};
use crate::model::{EngineName, Options, Plan};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

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
    netns::run(namespace, || replace_here(engine, plan))
}

/// Looks at the host, plans and installs: what [`presuming`](super::presuming), [`facts::probe`] and [`replace_all_by`] do one
/// after the other, in one turn and with one look at each fact. Nobody installs in between, and nothing is read twice.
///
/// `needed` is which facts the plan needs, and `plan` makes it from them. It is called once, and once more where the host refuses what it was presumed to have.
///
/// ```no_run
/// use kumatp::engine::install_all;
/// use kumatp::model::EngineName;
/// use kumatp::{Config, policy};
///
/// let config = Config::default();
/// let needed = policy::facts_needed(&config);
/// let (plan, reports) = install_all(EngineName::Netlink, &config.options(), &needed, None, |facts| policy::plan(&config, facts))?;
/// println!("{:?}: {}", plan.notes, reports.iter().any(|report| report.changed));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// Those of `plan`, of [`facts::probe`] and of [`replace_all_by`].
pub fn install_all(
    engine: EngineName,
    config: &Options,
    needed: &Request,
    namespace: Option<&Namespace>,
    plan: impl FnMut(&Facts) -> Result<Plan, Error> + Send,
) -> Result<(Plan, Vec<Report>), Error> {
    netns::run(namespace, || install_here(engine, config, needed, plan))
}

fn install_here(
    name: EngineName,
    config: &Options,
    needed: &Request,
    mut plan: impl FnMut(&Facts) -> Result<Plan, Error>,
) -> Result<(Plan, Vec<Report>), Error> {
    let mut report = Report::new(name);
    let turn = Turn::take(&mut report)?;
    let (engine, kernel) = (engine(name)?, &mut Kernel::default());
    let presumed = match name {
        EngineName::Netlink => presumed(kernel, config)?,
        _ => engine.presumed(config)?,
    };
    first_presuming(
        presumed,
        || engine.abilities(config),
        |abilities| {
            let plan = plan(&facts::probe_by(kernel, needed, abilities)?)?;
            Ok((replace_in(&turn, kernel, name, &plan, report.clone())?, plan))
        },
    )
    .map(|(reports, plan)| (plan, reports))
}

fn engine(name: EngineName) -> Result<Box<dyn Engine>, Error> {
    match name {
        EngineName::Iptables => Ok(Box::new(Iptables::default())),
        EngineName::Netlink => Ok(Box::new(Netlink::default())),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf => Ok(Box::new(Ebpf::default())),
        #[cfg(not(feature = "ebpf"))]
        EngineName::Ebpf => Err(without_ebpf()),
    }
}

#[cfg(not(feature = "ebpf"))]
fn without_ebpf() -> Error {
    Error::Unsupported {
        what: "the engine ebpf in this build".to_owned(),
        remedy: "use one with the feature ebpf".to_owned(),
    }
}

fn replace_here(engine: EngineName, plan: &Plan) -> Result<Vec<Report>, Error> {
    let mut report = Report::new(engine);
    // Until the old rules are gone: whoever comes in between would lose what it has installed.
    let turn = Turn::take(&mut report)?;
    replace_in(&turn, &mut Kernel::default(), engine, plan, report)
}

fn replace_in(
    turn: &Turn,
    kernel: &mut Kernel,
    engine: EngineName,
    plan: &Plan,
    report: Report,
) -> Result<Vec<Report>, Error> {
    let netlink = Netlink::default();
    let left = Netlink::left_to_iptables_by(kernel);
    let report = match engine {
        EngineName::Iptables => return Ok(vec![Iptables::default().apply_in(turn, plan, report)?]),
        EngineName::Netlink if left.is_empty() => netlink.apply_in(turn, kernel, plan, report),
        EngineName::Netlink => netlink.allow_legacy_leftovers().apply_in(turn, kernel, plan, report),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf if left.is_empty() => Ebpf::default().apply_in(turn, kernel, plan, report),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf => Ebpf::default().allow_legacy_leftovers().apply_in(turn, kernel, plan, report),
        #[cfg(not(feature = "ebpf"))]
        EngineName::Ebpf => Err(without_ebpf()),
    }?;
    if left.is_empty() {
        return Ok(vec![report]);
    }
    let cleared = Report::new(EngineName::Iptables);
    let removed = Iptables::default().remove_leftovers_in(turn, &plan.options, cleared).map_err(|error| {
        // Of one family, it may have been removed.
        let left = Netlink::left_to_iptables_by(&mut Kernel::default());
        let conflict = Error::Conflict {
            problem: format!("the new rules are active, and so is an older installation ({})", left.join(", ")),
            remedy: "uninstall it with the iptables engine".into(),
        };
        Error::Several(vec![conflict, error])
    })?;
    Ok(vec![report, removed])
}
