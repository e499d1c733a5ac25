//! What the exported functions do on a host, in safe terms.

use std::os::fd::BorrowedFd;
use std::path::Path;

use super::error::kumatp_error;
use super::state::Found;
use crate::config::Config;
use crate::engine::iptables::Iptables;
use crate::engine::netlink::Netlink;
use crate::engine::{Engine, EngineName, Report, resolv_backup};
use crate::error::Error;
use crate::facts::{self, Facts};
use crate::model::{Note, Plan};
use crate::policy;

/// The network namespace that a call is about.
#[derive(Debug)]
pub(super) struct Namespace(Option<crate::netlink::Namespace>);

/// The namespace behind a number from C: -1 is that of the calling thread.
///
/// # Safety
/// If `netns_fd` is open, it stays so during the call.
pub(super) unsafe fn namespace(netns_fd: i32) -> Result<Namespace, kumatp_error> {
    if netns_fd == -1 {
        return Ok(Namespace(None));
    }
    let wrong = |problem: &str| kumatp_error::argument("netns_fd", &format!("{problem}, and was given {netns_fd}"));
    if netns_fd < 0 {
        return Err(wrong("expected a file descriptor or -1"));
    }
    // SAFETY: at worst the number is not open, which the system call says; while it is, it stays open.
    let fd = unsafe { BorrowedFd::borrow_raw(netns_fd) };
    let own = fd.try_clone_to_owned().map_err(|error| match error.raw_os_error() {
        Some(nix::libc::EBADF) => wrong("expected an open file descriptor"),
        _ => Error::io("keep the file descriptor of the network namespace", &error).into(),
    })?;
    Ok(Namespace(Some(crate::netlink::Namespace::from_fd(own))))
}

impl Namespace {
    /// Does the work there; the calling thread stays where it is.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        match &self.0 {
            None => work(),
            Some(namespace) => namespace.run(work)?,
        }
    }
}

fn engine(name: EngineName) -> Box<dyn Engine> {
    match name {
        EngineName::Iptables => Box::new(Iptables::default()),
        EngineName::Netlink => Box::new(Netlink::default()),
    }
}

pub(super) fn probe(config: &Config, name: EngineName) -> Result<Facts, Error> {
    facts::probe(&policy::facts_needed(config), engine(name).abilities(config)?)
}

pub(super) fn apply(plan: &Plan, name: EngineName) -> Result<Report, Error> {
    engine(name).apply(plan)
}

/// Uninstalls with each engine. One that cannot work here has nothing installed, if another one works.
pub(super) fn uninstall(config: &Config, names: &[EngineName]) -> Result<Vec<Report>, Error> {
    let (mut reports, mut worked, mut absent, mut failed) = (Vec::new(), false, None, None);
    for name in names {
        match engine(*name).uninstall(config) {
            Ok(report) => {
                worked = true;
                reports.push(report);
            }
            Err(error @ Error::Unsupported { .. }) => {
                let mut report = Report::new(*name);
                report.notes.push(Note::info(name.to_string(), format!("passed over: {error}")));
                reports.push(report);
                absent.get_or_insert(error);
            }
            // The others are removed all the same.
            Err(error) => _ = failed.get_or_insert(error),
        }
    }
    match (failed, absent) {
        (Some(error), _) => Err(error),
        (None, Some(error)) if !worked => Err(error),
        _ => Ok(reports),
    }
}

/// What an engine has installed; `plan` is what is to be compared with, where the engine can.
pub(super) fn look(plan: &Plan, name: EngineName) -> Result<Found, Error> {
    match name {
        EngineName::Netlink => {
            let engine = Netlink::default();
            Ok(Found::Compared(engine.status(plan)?, engine.marker()?))
        }
        EngineName::Iptables => Iptables::default().installed(&plan.config).map(Found::Listed),
    }
}

pub(super) fn restore_resolv_conf(etc: &Path) -> Result<Report, Error> {
    let mut report = Report::new(EngineName::Iptables);
    resolv_backup::restore(etc, &mut report)?;
    Ok(report)
}
