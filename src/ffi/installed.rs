//! Explanation of packets by installed rules.

use std::ffi::c_char;

use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::host;
use super::plan::kumatp_plan;
use super::simulate;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;

/// Explains connections and queries by all the rules that are active in a network namespace, ours and those of
/// other programs: of their first packet, and of the answer to it. Nothing is sent, and nothing changes.
///
/// Tables of nf_tables, ours and those of other programs, are read from the kernel; what is in tables of iptables, its programs list, which
/// are run only if there are some. Tables of bridges and ARP are not followed, which the notes say. Where the answer depends on
/// rules that are there and could not be read, or on a part of a rule that is not known here, the "end" of a "verdict" is
/// "undecided".
///
/// The result is a JSON document: "answers", which is for one packet an object, and for a list a list of objects in the
/// same order, each as kumatp_plan_explain() has it; and "notes", what is not known of the rules, as kumatp_config_notes() has
/// them.
///
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the explanations; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if a packet is not valid; KUMATP_E_PERMISSION if the caller may not
///         look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if this build of the library reads no host
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_installed_explain(
    netns_fd: i32,
    packets: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (packets, out) = unsafe { (Text::new("packets", packets, len), Out::new("out", out)) };
    // SAFETY: as the preamble asks.
    let err = unsafe { ErrorSlot::new(err) };
    guard(err, || {
        let (out, packets) = (out.check()?, simulate::read(packets)?);
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(namespace.run(|| host::explain(&packets))?);
        Ok(())
    })
}

/// Says what applying a plan in a network namespace would change: between the rules that are installed there, by any version of
/// this library, of kumatp or of kumactl, and those of the plan. Nothing changes.
///
/// The rules of other programs are not compared.
///
/// The result is a JSON document: "diff", as kumatp_plan_diff() has it from what is installed to the plan; "engine", which has
/// installed what there is ("netlink" or "iptables"; "netlink" if there is nothing), and as which the rules of the plan are
/// written; "earlier", the nat chains of other programs that the kernel calls before ours, as kumatp_state_to_json() has them; and "notes",
/// what could not be read, as kumatp_config_notes() has them.
///
/// @param plan  lent
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param[out] out  the difference; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_PERMISSION if the caller may not look; KUMATP_E_OS; KUMATP_E_UNSUPPORTED if
///         this build of the library reads no host
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_installed_diff(
    plan: *const kumatp_plan,
    netns_fd: i32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan) = (out.check()?, &plan.get()?.plan);
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(namespace.run(|| host::diff(plan))?);
        Ok(())
    })
}
