//! The outcome of packets, without a kernel.

use std::ffi::c_char;

use serde::Serialize;

use super::arguments::one_engine;
use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::plan::kumatp_plan;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::simulate::{AnyPacket, Packets, Simulator};

/// Simulates packets with a plan's rules, without a kernel: where each ends, and which
/// rules it meets.
///
/// The packets are a document: one packet as text, or JSON, which is an object or a text for one packet, or a list of
/// both. What is not said of a packet has an ordinary value.
///
/// As text, a packet is "outbound" (which may be left out), "inbound" or "forwarded"; the protocol; the destination, an
/// address with a port; and as wanted, in any order: "from" and the source, with or without a port; "uid N"; "gid N"; "no-socket"
/// (made by the kernel itself); "in" and "out", each with an interface; "new" (by default), "midstream" (begins in the middle),
/// "lost" and "lostanswer" (of a connection whose entry was lost, from who opened it or to them), "reused" (an older entry has its
/// addresses and ports, and is not translated), "established" or "invalid", its state in connection tracking. Such as
/// "tcp 10.1.2.3:443 uid 1000", and "inbound tcp [fd00::5]:8080".
///
/// As an object, its members are "direction", "protocol", "destination", "destinationPort", "source", "sourcePort", "uid",
/// "gid", "noSocket", "inInterface", "outInterface" and "tracking", with the same words: ports and ids are numbers, "noSocket" is
/// true or false, all else is text.
///
/// The result is a JSON document: an object for one packet, and for a list a list of objects in the same order. The
/// members of an object: "verdict", an object whose member "end" is "delivered", "redirected" (with the number "port"),
/// "dropped", "established" (it goes where its connection goes) or "undecided" (with "reason"); "zone", the number of the
/// conntrack zone; "log", its lines in the kernel log, each with "prefix" and "level"; "trace", the rules that matched, in
/// order, each with "table", "chain", "effect" and, where there are any, "number" (in its chain, from 1), "rule" (its text),
/// "purpose" and "key" (the configuration key that asked for it); and, where a rule decided, "decidedBy", its
/// index in "trace".
///
/// @param plan  lent
/// @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
///         KUMATP_ENGINE_EBPF
/// @param packets  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the explanations; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if a packet is not valid, with each that is not: the field is
///         "packet", or "packets[2]" for the third of a list, and of an object its member ("packets[2].uid")
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_simulate(
    plan: *const kumatp_plan,
    engine: u32,
    packets: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, packets) = unsafe { (Handle::new("plan", plan), Text::new("packets", packets, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, engine) = (out.check()?, &plan.get()?.plan, one_engine(engine)?);
        let simulator = Simulator::of(plan, engine);
        out.give(answers(packets, |packet| simulator.run(packet))?);
        Ok(())
    })
}

/// Explains connections and queries by a plan's rules, without a kernel: of their first
/// packet, and of the answer to it.
///
/// The result is a JSON document: an object for one packet, and for a list a list of objects in the same order. The
/// members of an object: "summary", a paragraph of text; "packet", the packet as an object; "request", its outcome,
/// as kumatp_plan_simulate() has it; and, where an answer is to be expected, "reply": an object with "packet" and "outcome"
/// of the answer, and "arrival", which is "asSent", "translatedBack" (it seems to come from where the request was sent),
/// "lost" or "undecided" (both with "reason").
///
/// @param plan  lent
/// @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
///         KUMATP_ENGINE_EBPF
/// @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the explanations; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return as kumatp_plan_simulate()
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_explain(
    plan: *const kumatp_plan,
    engine: u32,
    packets: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, packets) = unsafe { (Handle::new("plan", plan), Text::new("packets", packets, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, engine) = (out.check()?, &plan.get()?.plan, one_engine(engine)?);
        let simulator = Simulator::of(plan, engine);
        out.give(answers(packets, |packet| simulator.explain(packet))?);
        Ok(())
    })
}

/// What is said of each packet of a document.
fn answers<T: Serialize>(packets: Text<'_>, say: impl Fn(&AnyPacket) -> T) -> Result<kumatp_text, kumatp_error> {
    Ok(kumatp_text::json(&read(packets)?.answers(say)))
}

/// A document of packets.
pub(super) fn read(packets: Text<'_>) -> Result<Packets, kumatp_error> {
    Ok(packets.utf8()?.parse()?)
}

/// Writes the packets that a plan's rules tell apart, as a JSON document: for each rule packets that it is for, and
/// packets that differ from those in one thing so that it is not.
///
/// It is a list of texts that kumatp_plan_simulate() takes as it is. The same plan gives the same list.
///
/// @param plan  lent
/// @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
///         KUMATP_ENGINE_EBPF
/// @param[out] out  the list; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_edges(
    plan: *const kumatp_plan,
    engine: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, engine) = (out.check()?, &plan.get()?.plan, one_engine(engine)?);
        let edges = Simulator::of(plan, engine).edges();
        let edges: Vec<String> = edges.iter().map(ToString::to_string).collect();
        out.give(kumatp_text::json(&edges));
        Ok(())
    })
}

/// Says what is different between the rules of two plans, and whose traffic it concerns, as a JSON document.
///
/// Its members: "removed" and "added", the rules that only the first and only the second plan has: objects with
/// "family" ("ipv4" or "ipv6"), "table", "chain", "rule" and, where there is one, "key"; "reordered", the chains whose common
/// rules come in another order; "traffic", the classes of packets that are treated in another way: objects with "example" (a
/// packet as an object), "tried" (how many of the packets that were tried are of this class), "before" and "after",
/// each with "verdict" and "zone" as kumatp_plan_simulate() has them, "log" (a number of lines) and, where there is one, "key".
/// The packets that are tried are those of kumatp_plan_edges() of both.
///
/// @param before  the first plan, lent
/// @param after  the second plan, lent
/// @param engine  the engine whose rules are meant: KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES or, whatever the library was built with,
///         KUMATP_ENGINE_EBPF
/// @param[out] out  the difference; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_diff(
    before: *const kumatp_plan,
    after: *const kumatp_plan,
    engine: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (before, after) = unsafe { (Handle::new("before", before), Handle::new("after", after)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, before, after) = (out.check()?, &before.get()?.plan, &after.get()?.plan);
        let engine = one_engine(engine)?;
        let diff = Simulator::of(before, engine).diff(&Simulator::of(after, engine));
        out.give(kumatp_text::json(&diff));
        Ok(())
    })
}
