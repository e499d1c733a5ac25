//! What is installed.

use super::arguments::{known_flags, number_of};
use super::boundary::{ErrorSlot, Handle, Out, free, guard, quietly};
use super::host;
use super::plan::kumatp_plan;
use super::state_answer::StateAnswer;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::engine::Status;

/// Nothing is installed. Since 0.1.
pub const KUMATP_STATE_ABSENT: u32 = 0;
/// What is installed is what the plan asks for or, without one, what was installed. Since 0.1.
pub const KUMATP_STATE_CURRENT: u32 = 1;
/// Something else is installed, or it has been changed, or two engines have rules at once. Since 0.1.
pub const KUMATP_STATE_DRIFTED: u32 = 2;
/// Something is installed, and there is nothing to compare it with, or no way to; the document says which. Since 0.1.
pub const KUMATP_STATE_UNCOMPARED: u32 = 3;

/// What is installed in a network namespace, as it was when it was looked at. Free it with kumatp_state_free().
#[derive(Debug)]
pub struct kumatp_state {
    found: StateAnswer,
}

/// Looks at what is installed in a network namespace, by any engine, and how it compares with a plan. Changes nothing.
///
/// Without a plan, what is in nf_tables is compared with what was installed, which is noted there, and eBPF programs are looked for
/// in /sys/fs/bpf, and whether all are attached. Comparing rules of iptables needs a plan and runs the iptables programs; nothing
/// else does.
///
/// @param plan  lent; may be NULL
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param flags  0
/// @param[out] out  the state; the caller's, for kumatp_state_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_PERMISSION if the caller may not look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if
///         this build of the library reads no host
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_read(
    plan: *const kumatp_plan,
    netns_fd: i32,
    flags: u32,
    out: *mut *mut kumatp_state,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan) = (out.check()?, plan.optional().map(|plan| &plan.plan));
        known_flags(flags, 0)?;
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(kumatp_state { found: namespace.run(|| host::state(plan))? });
        Ok(())
    })
}

/// Returns what was found: one of KUMATP_STATE_*; KUMATP_STATE_ABSENT for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_kind(state: *const kumatp_state) -> u32 {
    // SAFETY: as the preamble asks.
    let state = unsafe { Handle::new("state", state) };
    state.optional().map_or(KUMATP_STATE_ABSENT, |state| match state.found.status {
        Status::Absent => KUMATP_STATE_ABSENT,
        Status::Current => KUMATP_STATE_CURRENT,
        Status::Drifted { .. } => KUMATP_STATE_DRIFTED,
        Status::Uncompared { .. } => KUMATP_STATE_UNCOMPARED,
    })
}

/// Returns the engines whose rules were found: the sum of their KUMATP_ENGINE_*, which is one of them unless two have rules
/// at once; 0 if there are none, and for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_engines(state: *const kumatp_state) -> u32 {
    // SAFETY: as the preamble asks.
    let state = unsafe { Handle::new("state", state) };
    state.optional().map_or(0, |state| state.found.engines.iter().fold(0, |sum, name| sum | number_of(*name)))
}

/// Writes what was found as a JSON document.
///
/// Its members: "status", with "state" ("absent", "current", "drifted" or "uncompared") and, where it is drifted,
/// "differences", a list of text, or where it is uncompared, "reason"; "installations", a list of objects with "engine"
/// ("netlink", "iptables" or "ebpf"), for iptables "mode" ("nft" or "legacy"), "families" (a list of "ipv4" and "ipv6"), "status"
/// as above, and for ebpf "programs": "dir" (where they are pinned), "generation", "attached" (a list of objects with "hook" and the
/// numbers "program", "link" and "target" of the kernel) and "counters" (an object of numbers); "earlier" where nat chains of other programs are called before those that are installed, a list of
/// objects with "family", "table", "chain", "hook", "priority" and "certain"; and "notes" where something could not be looked at, as kumatp_config_notes() has them.
///
/// @param state  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_to_json(
    state: *const kumatp_state,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (state, out, err) = unsafe { (Handle::new("state", state), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::json(&state.get()?.found.json));
        Ok(())
    })
}

/// Frees a state. NULL is fine.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_free(state: *mut kumatp_state) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(state) });
}
