//! Removing whatever is installed, by whichever engine.

use super::Report;
use super::failures::Failures;
use super::holders::{self, Holder};
use super::iptables::Iptables;
use super::messages::legacy_stays;
use super::netlink::{Legacy, Netlink};
use super::turn::Turn;

use crate::error::Error;
use crate::model::{EngineName, Note, Options};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

/// Removes what any version of ours, or kumactl's, has installed in the network namespace of the
/// calling thread or in another one, and nothing else: first the eBPF programs (in builds with them), then the rules, by
/// netlink and, what is left, by the iptables programs. Of the configuration only what concerns the engines themselves matters, as with
/// [`Engine::uninstall`](super::Engine::uninstall).
///
/// One report for each engine. Where an engine cannot be used, its report says why: on a host without
/// iptables programs or without nf_tables, there is usually nothing of theirs.
///
/// # Errors
/// If something could not be removed, or no engine can be used. What can be removed has been then; the error has all that is left,
/// and why.
pub fn uninstall_all(config: &Options, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    netns::run(namespace, || uninstall_here(config))
}

fn uninstall_here(config: &Options) -> Result<Vec<Report>, Error> {
    let mut failures = Failures::default();
    let mut waited = Report::new(EngineName::Netlink);
    // For all parts: whoever installs in between would lose some of what it has installed, and not all.
    let turn = Turn::take_unless(config.dry_run, &mut waited)?;
    let kernel = &mut Kernel::default();
    // In a dry run, nothing is gone when the next part looks.
    let going = if config.dry_run { Holder::ALL } else { &[] };
    let (mut programs, unseen) = failures.take(programs(kernel, config, going, &turn)).unwrap_or_default();
    let (mut netlink, unusable) = match Netlink::uninstall_in(&turn, kernel, config, going, waited.clone()) {
        Err(error @ Error::Unsupported { .. }) => (unused(EngineName::Netlink, &error), true),
        // Programs need the same privilege, and would say so once for each thing that they cannot look at.
        Err(error @ Error::Permission { .. }) => {
            failures.add(error);
            return failures.or(Vec::new());
        }
        other => (failures.take(other).unwrap_or(waited), false),
    };
    if let Some(programs) = &programs {
        // Where nothing is changed, all have seen the same.
        netlink.steps.retain(|step| !programs.steps.contains(step));
    }
    let seen = [Some(&netlink), programs.as_ref()].into_iter().flatten().flat_map(|report| report.steps.clone());
    let seen: Vec<_> = seen.collect();
    let removed_programs = programs.as_ref().is_some_and(|report| !report.steps.is_empty());
    // Whether the address stays, the last part says that has looked.
    if let Some(programs) = programs.as_mut().filter(|_| !unusable) {
        programs.notes.retain(|note| note.about != holders::ABOUT);
    }
    let iptables = match Iptables::default().uninstall_in(&turn, config, going, Report::new(EngineName::Iptables)) {
        Ok(mut report) => {
            report.steps.retain(|step| !seen.contains(step));
            let earlier = [Some(&mut netlink), programs.as_mut()].into_iter().flatten();
            earlier.for_each(|report| report.notes.retain(|note| note.about != holders::ABOUT));
            // What only the iptables engine can remove, it has.
            netlink.notes.retain(|note| note.about != "iptables");
            report
        }
        // iptables wants to be run by root, netlink does not.
        Err(error @ (Error::Unsupported { .. } | Error::Permission { .. })) if !unusable || removed_programs => {
            let legacy = Legacy::look(&mut Kernel::default());
            let left = match legacy.families.is_empty() {
                true => legacy.unseen(),
                false => Some(legacy_stays(&legacy.families)),
            };
            if let Some(left) = left {
                failures.add(left);
                failures.add(error.clone());
            }
            unused(EngineName::Iptables, &error)
        }
        Err(error) => {
            failures.add(error);
            Report::new(EngineName::Iptables)
        }
    };
    failures.add_to_others(unseen);
    failures.or([netlink, iptables].into_iter().chain(programs).collect())
}

/// Removes the programs of the engine ebpf. Most hosts have none, and nothing is to be said of them then. Where there may be some
/// that cannot be seen, why not.
fn programs(
    kernel: &mut Kernel,
    config: &Options,
    going: &[Holder],
    turn: &Turn,
) -> Result<(Option<Report>, Option<Error>), Error> {
    #[cfg(feature = "ebpf")]
    {
        use super::ebpf::{self, Ebpf};
        use crate::ebpf::Sight;

        let (note, unseen) = match ebpf::sight(kernel, config)? {
            Sight::Absent => return Ok((None, None)),
            Sight::Pinned => {
                let report = Report::new(EngineName::Ebpf);
                return Ok((Some(Ebpf::default().uninstall_in(turn, kernel, config, going, report)?), None));
            }
            Sight::OutOfReach(error) => return Err(error),
            Sight::Suspected(error) | Sight::Unknown(error) => (ebpf::unseen(&error), Some(error)),
            Sight::Unasked(error) => (ebpf::unasked(&error), None),
        };
        let mut report = Report::new(EngineName::Ebpf);
        report.notes.push(note);
        Ok((Some(report), unseen))
    }
    #[cfg(not(feature = "ebpf"))]
    {
        let _ = (kernel, config, going, turn);
        Ok((None, None))
    }
}

fn unused(engine: EngineName, error: &Error) -> Report {
    let mut report = Report::new(engine);
    report.notes.push(Note::info(engine.to_string(), format!("not looked into: {error}")));
    report
}
