//! Rules that are text: iptables-save and iptables-restore text, whoever wrote it.

use std::ffi::c_char;

use super::boundary::{ErrorSlot, Handle, Out, Text, guard};
use super::firewalld::documents;
use super::plan::{KUMATP_SYNTAX_FIREWALLD, KUMATP_SYNTAX_JSON, KUMATP_SYNTAX_NFT, kumatp_plan, unknown_syntax};
use super::simulate;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::error::InvalidValue;
use crate::iptables_save::SavedFamilies;
use crate::model::EngineName;
use crate::net::FamilyName;
use crate::simulate::{AnyPacket, Simulator};
use crate::{iptables_save, render};

/// Translates iptables-save or iptables-restore text, whoever wrote it, into another syntax.
///
/// The text may have the headings "### IPv4 ###" and "### IPv6 ###", or the lines that iptables-save and ip6tables-save begin
/// with; without them, it is all IPv4.
///
/// KUMATP_SYNTAX_NFT is a script for "nft -f" that puts the rules into our own tables; KUMATP_SYNTAX_FIREWALLD is a whole
/// direct.xml; KUMATP_SYNTAX_JSON has the members "ipv4" and "ipv6", as far as the text has them, each with "tables":
/// objects with "name", "chains" and "rules". A rule has "chain", "placement" ("append", or an object whose member "insert" is a
/// place from 1), "spec" (its text), and either "rule" or "unknown" (what is not known here) and "parts": "matches", the conditions,
/// of which those with the "match" "unknown" have "text"; "target", such as "drop", "jump", "goto" (both with "chain"), "unknown" (with
/// "name" and "text") or "none"; and "goesOn", whether it is certain that the packet goes on to the next rule unchanged.
///
/// @param text  the rules, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  their length in bytes, or KUMATP_NUL_TERMINATED
/// @param syntax  one of KUMATP_SYNTAX_NFT, KUMATP_SYNTAX_FIREWALLD and KUMATP_SYNTAX_JSON
/// @param[out] out  the text; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax, or says what the other syntax
///         cannot; KUMATP_E_UNSUPPORTED if this build of the library knows no firewalld
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_save_translate(
    text: *const c_char,
    len: usize,
    syntax: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, out, err) = unsafe { (Text::new("text", text, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text) = (out.check()?, text.utf8()?);
        out.give(kumatp_text::new(match syntax {
            KUMATP_SYNTAX_NFT => render::nft::translate(text)?,
            KUMATP_SYNTAX_FIREWALLD => documents::translate(text)?,
            KUMATP_SYNTAX_JSON => iptables_save::to_json(text)?,
            _ => return Err(unknown_syntax(syntax)),
        }));
        Ok(())
    })
}

/// Explains connections and queries by the rules of iptables-save text, whoever wrote them, without
/// a kernel: of their first packet, and of the answer to it.
///
/// A rule with a part that is not known here is judged by what is known of it; where that is not enough, the "end" of a
/// "verdict" is "undecided".
///
/// @param text  the rules, as kumatp_save_translate() takes them, lent; at most KUMATP_MAX_TEXT bytes
/// @param text_len  their length in bytes, or KUMATP_NUL_TERMINATED
/// @param packets  the document, as kumatp_plan_simulate() takes it, lent; at most KUMATP_MAX_TEXT bytes
/// @param packets_len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the explanations, as kumatp_plan_explain() has them; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax, or if packets are not valid or of
///         a family that the text has nothing of
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_save_explain(
    text: *const c_char,
    text_len: usize,
    packets: *const c_char,
    packets_len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (text, packets) = unsafe { (Text::new("text", text, text_len), Text::new("packets", packets, packets_len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, text, packets) = (out.check()?, text.utf8()?, simulate::read(packets)?);
        let saved = SavedFamilies::parse(text)?;
        let simulator = Simulator::of_saved(saved.v4.as_ref(), saved.v6.as_ref())?;
        packets.check(|packet| known(&saved, packet))?;
        out.give(kumatp_text::json(&packets.answers(|packet| simulator.explain(packet))));
        Ok(())
    })
}

/// Without any rules of a family, all that can be said is that nobody has given them.
fn known(saved: &SavedFamilies, packet: &AnyPacket) -> Result<(), InvalidValue> {
    let (other, program) = match packet.family() {
        family if saved.has(family) => return Ok(()),
        FamilyName::V4 => (FamilyName::V6, "iptables-save"),
        FamilyName::V6 => (FamilyName::V4, "ip6tables-save"),
    };
    let expected = format!("a packet of {other}, or in the text what {program} prints as well");
    Err(InvalidValue::new(packet.to_string(), expected))
}

/// Says what would be different if a plan's rules were active in place of those in iptables-save text, and whose
/// traffic it concerns.
///
/// The rules of the text that count are those of any version of this library, of kumatp and of kumactl; the rules of other programs are
/// not compared. A family that the text has nothing of has no rules, so give what iptables-save and ip6tables-save print.
///
/// @param plan  the plan, with its rules as KUMATP_ENGINE_IPTABLES installs them, lent
/// @param text  the rules, as kumatp_save_translate() takes them, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  their length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the difference, as kumatp_plan_diff() has it from the text to the plan; the caller's, for
///         kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_CONFIG if the text is not of the syntax
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_save_diff(
    plan: *const kumatp_plan,
    text: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, text) = unsafe { (Handle::new("plan", plan), Text::new("text", text, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, saved) = (out.check()?, &plan.get()?.plan, SavedFamilies::parse(text.utf8()?)?);
        let before = Simulator::of_saved_ours(saved.v4.as_ref(), saved.v6.as_ref())?;
        out.give(kumatp_text::json(&before.diff(&Simulator::of(plan, EngineName::Iptables))));
        Ok(())
    })
}
