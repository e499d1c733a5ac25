//! What the exported functions do on a host, in safe terms.

use std::os::fd::BorrowedFd;
use std::path::Path;

use serde_json::json;

use super::state_answer::StateAnswer;
use super::status::kumatp_error;
use super::text::kumatp_text;
use crate::config::Config;
#[cfg(feature = "ebpf")]
use crate::engine::ebpf::Ebpf;
use crate::engine::netlink::Netlink;
use crate::engine::{self, Engine, Report, replace_all_by, resolv_backup, uninstall_all};
use crate::error::Error;
use crate::facts::{self, Facts};
use crate::model::{EngineName, Note, Options, Plan};
use crate::simulate::{Packets, Planned, Simulator};
use crate::{netns, policy};

/// The network namespace that a call is about.
#[derive(Debug)]
pub(super) struct Namespace(Option<netns::Namespace>);

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
    Ok(Namespace(Some(netns::Namespace::from_fd(own))))
}

impl Namespace {
    /// Does the work there; the calling thread stays where it is.
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        netns::run(self.0.as_ref(), work)
    }
}

/// The engine of this name, where it is part of the build.
fn by_name(name: EngineName) -> Result<Box<dyn Engine>, Error> {
    match name {
        #[cfg(not(feature = "ebpf"))]
        EngineName::Ebpf => Err(super::arguments::not_built_in("the engine ebpf", "ebpf")),
        name => engine::by_name(name, None),
    }
}

pub(super) fn probe(config: &Config, name: EngineName) -> Result<Facts, Error> {
    facts::probe(&policy::facts_needed(config), by_name(name)?.abilities(&config.options())?)
}

/// Whether the engine could carry the plan out.
pub(super) fn check(plan: &Plan, name: EngineName) -> Result<(), Error> {
    match name {
        EngineName::Netlink => Netlink::default().check(plan),
        #[cfg(feature = "ebpf")]
        EngineName::Ebpf => Ebpf::default().check(plan),
        other => Err(Error::Unsupported {
            what: format!("checking a plan with the engine {other}"),
            remedy: "ask for the engine netlink, or apply the plan: the engine iptables tests all of it first".into(),
        }),
    }
}

/// What the engine ebpf would do.
pub(super) fn preview(plan: &Plan) -> Result<String, Error> {
    #[cfg(feature = "ebpf")]
    return engine::ebpf::preview(plan);
    #[cfg(not(feature = "ebpf"))]
    {
        let _ = plan;
        Err(super::arguments::not_built_in("the engine ebpf", "ebpf"))
    }
}

/// Carries the plan out; `replace_legacy` has the iptables programs remove what the engine cannot.
pub(super) fn apply(plan: &Plan, name: EngineName, replace_legacy: bool) -> Result<Vec<Report>, Error> {
    let engine = by_name(name)?;
    match replace_legacy {
        true => replace_all_by(name, plan, None),
        false => Ok(vec![engine.apply(plan)?]),
    }
}

/// Uninstalls with one engine, or whatever is installed.
pub(super) fn uninstall(options: &Options, name: Option<EngineName>) -> Result<Vec<Report>, Error> {
    match name {
        Some(name) => Ok(vec![by_name(name)?.uninstall(options)?]),
        None => uninstall_all(options, None),
    }
}

pub(super) fn state(plan: Option<&Plan>) -> Result<StateAnswer, Error> {
    let found = engine::state(plan, None)?;
    let json = serde_json::to_value(&found).expect("a state has string keys only");
    Ok(StateAnswer { status: found.status, engines: found.installations.iter().map(|one| one.engine).collect(), json })
}

/// The packets explained by everything that is installed.
pub(super) fn explain(packets: &Packets) -> Result<kumatp_text, Error> {
    #[derive(serde::Serialize)]
    struct Document<A> {
        notes: Vec<Note>,
        answers: A,
    }
    let installed = engine::installed(None)?;
    let simulator = Simulator::of_installed(&installed)?;
    let answers = packets.answers(|packet| simulator.explain(packet));
    Ok(kumatp_text::json(&Document { notes: installed.unknown(), answers }))
}

/// What the plan would change of what is installed, in the form of what is installed.
pub(super) fn diff(plan: &Plan) -> Result<kumatp_text, Error> {
    let installed = engine::installed(None)?;
    let engine = installed.engine().unwrap_or(EngineName::Netlink);
    let planned = Planned::by(engine, plan.clone());
    let before = Simulator::of_installed_ours(&installed)?;
    let diff = before.diff(&planned.simulator());
    let notes: Vec<_> = installed.notes.iter().cloned().chain(installed.earlier_note()).collect();
    Ok(kumatp_text::json(&json!({"notes": notes, "engine": engine, "earlier": installed.earlier(), "diff": diff})))
}

pub(super) fn restore_resolv_conf(etc: &Path) -> Result<Report, Error> {
    let mut report = Report::new(EngineName::Iptables);
    resolv_backup::restore(etc, &mut report)?;
    Ok(report)
}
