//! Removing whatever is installed, by whichever engine.

use super::iptables::Iptables;
use super::netlink::{Netlink, legacy_families};
use super::{Engine as _, EngineName, Report};
use crate::config::Config;
use crate::error::Error;
use crate::model::Note;
use crate::netlink::Namespace;

/// Removes what any version of ours, or kumactl's, has installed in the network namespace of the
/// calling thread or in another one, and nothing else: first by netlink, then what is left by the
/// iptables programs. Of the configuration only what concerns the engines themselves matters, as with
/// [`Engine::uninstall`](super::Engine::uninstall).
///
/// One report for each engine. Where an engine cannot be used, its report says why: on a host without
/// iptables programs or without nf_tables, there is usually nothing of theirs. If there is something in
/// tables of iptables-legacy that nothing here can remove, that is a warning.
///
/// # Errors
/// If something could not be removed, or neither engine can be used.
pub fn uninstall_all(config: &Config, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    match namespace {
        None => uninstall_here(config),
        Some(namespace) => namespace.run(|| uninstall_here(config))?,
    }
}

fn uninstall_here(config: &Config) -> Result<Vec<Report>, Error> {
    let (mut netlink, unusable) = match Netlink::default().uninstall(config) {
        Ok(report) => (report, false),
        Err(error @ Error::Unsupported { .. }) => (unused(EngineName::Netlink, &error, Note::info), true),
        Err(error) => return Err(error),
    };
    let iptables = match Iptables::default().uninstall(config) {
        Ok(mut report) => {
            // Where nothing is changed, both have seen the same.
            report.steps.retain(|step| !netlink.steps.contains(step));
            // What only the iptables engine can remove, it has.
            netlink.notes.retain(|note| note.about != "iptables");
            report
        }
        // iptables wants to be run by root, netlink does not.
        Err(error @ (Error::Unsupported { .. } | Error::Permission { .. })) if !unusable => {
            let found = legacy_families(&mut Vec::new());
            unused(EngineName::Iptables, &error, if found.is_empty() { Note::info } else { Note::warning })
        }
        Err(error) => return Err(error),
    };
    #[cfg(feature = "ebpf")]
    let reports = {
        let programs = super::ebpf::Ebpf::default().uninstall(config);
        let mut programs = match programs {
            // Who may not look has not installed any.
            Err(Error::Permission { .. }) => Report::new(EngineName::Ebpf),
            other => other?,
        };
        // Where nothing is changed, the address is still there.
        programs.steps.retain(|step| !netlink.steps.contains(step));
        // Most hosts have none, and nothing is to be said of them then.
        let found = !(programs.steps.is_empty() && programs.notes.is_empty());
        [netlink, iptables].into_iter().chain(found.then_some(programs)).collect()
    };
    #[cfg(not(feature = "ebpf"))]
    let reports = vec![netlink, iptables];
    Ok(reports)
}

fn unused(engine: EngineName, error: &Error, note: fn(String, String) -> Note) -> Report {
    let mut report = Report::new(engine);
    report.notes.push(note(engine.to_string(), format!("not looked into: {error}")));
    report
}
