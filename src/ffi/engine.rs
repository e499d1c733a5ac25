//! Installing and uninstalling.

use std::ffi::c_char;
use std::path::Path;

use serde_json::json;

use super::arguments::{known_flags, one_engine, one_or_all, text_path};
use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::config::kumatp_config;
use super::host;
use super::plan::kumatp_plan;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::engine::Report;
use crate::error::{Error, InvalidValue};
use crate::model::Options;

/// A flag of kumatp_plan_apply() with KUMATP_ENGINE_NETLINK and KUMATP_ENGINE_EBPF, which run no program otherwise: rules of an older installation that only the iptables programs can
/// remove, such as those in tables of iptables-legacy, are removed by them once the new ones are active. Without it, tables
/// of iptables-legacy are a KUMATP_E_CONFLICT. Since 0.1.
pub const KUMATP_APPLY_REPLACE_LEGACY: u32 = 1;

/// A flag of kumatp_uninstall(): say what would be removed, and change nothing. Since 0.1.
pub const KUMATP_UNINSTALL_DRY_RUN: u32 = 1;

fn reports(reports: &[Report]) -> kumatp_text {
    kumatp_text::json(&json!({"changed": reports.iter().any(|report| report.changed), "reports": reports}))
}

/// Asks whether an engine could carry a plan out in a network namespace. Nothing changes; the kernel may load modules.
///
/// @param plan  lent
/// @param engine  KUMATP_ENGINE_NETLINK: the kernel is shown every rule, and asked whether it would take it; KUMATP_ENGINE_EBPF: the
///         kernel checks the programs, which are not attached
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param flags  0
/// @param[out] err  may be NULL
/// @return KUMATP_OK if it could; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if the kernel lacks something, and for
///         KUMATP_ENGINE_IPTABLES; KUMATP_E_CONFIG if "ebpf.cgroupPath" is no cgroup2 (eBPF); KUMATP_E_PERMISSION;
///         KUMATP_E_CONFLICT; KUMATP_E_OS
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_check(
    plan: *const kumatp_plan,
    engine: u32,
    netns_fd: i32,
    flags: u32,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, err) = unsafe { (Handle::new("plan", plan), ErrorSlot::new(err)) };
    guard(err, || {
        let (plan, engine) = (&plan.get()?.plan, one_engine(engine)?);
        known_flags(flags, 0)?;
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        Ok(namespace.run(|| host::check(plan, engine))?)
    })
}

/// Makes a plan's rules the active ones in a network namespace, in place of an older installation.
///
/// If exactly these rules are active, nothing changes. If it fails, the rules are those from before, unless the message
/// says otherwise. The configuration's "storeFirewalld" is up to the caller: see kumatp_firewalld_store().
///
/// The report is a JSON document: "changed" (true or false) and "reports", a list with one object for each engine
/// that was at work: "engine" ("netlink", "iptables" or "ebpf"), "changed", "steps" (what was done, a list of text) and "notes"
/// (see kumatp_config_notes()).
///
/// @param plan  lent; its configuration must not say "dryRun"
/// @param engine  one of KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES and KUMATP_ENGINE_EBPF, which takes the place of the others'
///         installations, as they do of its
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param flags  0 or KUMATP_APPLY_REPLACE_LEGACY
/// @param[out] out  the report; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG for a plan that is to be shown only ("dryRun"), and if "ebpf.cgroupPath" is no
///         cgroup2 or "ebpf.bpffsPath" no place for a bpffs (eBPF); KUMATP_E_UNSUPPORTED if the kernel or the host lacks something,
///         or the engine cannot do what a key asks for; KUMATP_E_PERMISSION; KUMATP_E_CONFLICT; KUMATP_E_OS; KUMATP_E_PROGRAM
///         (iptables)
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_apply(
    plan: *const kumatp_plan,
    engine: u32,
    netns_fd: i32,
    flags: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, engine) = (out.check()?, &plan.get()?.plan, one_engine(engine)?);
        known_flags(flags, KUMATP_APPLY_REPLACE_LEGACY)?;
        if plan.options.dry_run {
            let problem = InvalidValue::new("true", "false, since the plan is to be applied").at("dryRun");
            return Err(Error::from(problem).into());
        }
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        let replace_legacy = flags & KUMATP_APPLY_REPLACE_LEGACY != 0;
        out.give(reports(&namespace.run(|| host::apply(plan, engine, replace_legacy))?));
        Ok(())
    })
}

/// Removes what any version of this library, of kumatp or of kumactl has installed in a network namespace, and nothing
/// else. Nothing being installed is success.
///
/// With KUMATP_ENGINE_ALL, an engine that cannot be used there has a note that says why in its report. Entries in firewalld's
/// file are removed by kumatp_firewalld_unstore().
///
/// @param config  lent; only the programs of the iptables engine, the waiting for them, "ebpf.bpffsPath" and "dryRun" matter. May
///         be NULL for the defaults
/// @param engines  KUMATP_ENGINE_ALL, or one of KUMATP_ENGINE_*
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param flags  0 or KUMATP_UNINSTALL_DRY_RUN
/// @param[out] out  the report, as kumatp_plan_apply() has it; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if no engine can work there; KUMATP_E_PERMISSION;
///         KUMATP_E_CONFLICT if something that is not ours uses what is; KUMATP_E_OS; KUMATP_E_PROGRAM (iptables)
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_uninstall(
    config: *const kumatp_config,
    engines: u32,
    netns_fd: i32,
    flags: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, name) = (out.check()?, one_or_all(engines)?);
        known_flags(flags, KUMATP_UNINSTALL_DRY_RUN)?;
        let mut options = config.optional().map_or_else(Options::default, |config| config.config().options());
        options.dry_run |= flags & KUMATP_UNINSTALL_DRY_RUN != 0;
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(reports(&namespace.run(|| host::uninstall(&options, name))?));
        Ok(())
    })
}

/// Puts the resolv.conf back that old versions of Kuma have changed, if they left a copy: resolv.conf.kuma-backup of
/// the directory. Nothing being there is success.
///
/// @param etc  the directory, lent; empty for "/etc"
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the report, as kumatp_plan_apply() has it; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if this build of the library changes no host
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_resolv_conf_restore(
    etc: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (etc, out, err) = unsafe { (Text::new("etc", etc, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, etc) = (out.check()?, text_path(etc, "/etc")?);
        out.give(reports(&[host::restore_resolv_conf(Path::new(etc))?]));
        Ok(())
    })
}
