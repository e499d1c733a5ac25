//! Plans, and their text in other syntaxes.

use super::arguments::known_flags;
use super::boundary::{ErrorSlot, Handle, Out, free, guard, quietly};
use super::config::kumatp_config;
use super::facts::kumatp_facts;
use super::host;
use super::status::{kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::model::{Plan, Ruleset};
use crate::net::{FamilyName, V6};
use crate::nftables::Native;
use crate::render::iptables::{self, Style};
use crate::render::{dot, firewalld, json, mermaid, nft};
use crate::{error::Error, policy};

/// Text for iptables-restore and ip6tables-restore, both with --noflush. Since 0.1.
pub const KUMATP_SYNTAX_IPTABLES: u32 = 1;
/// A script for "nft -f". Since 0.1.
pub const KUMATP_SYNTAX_NFT: u32 = 2;
/// firewalld's direct.xml. Since 0.1.
pub const KUMATP_SYNTAX_FIREWALLD: u32 = 3;
/// A JSON document for programs: the rules with their parts, and the configuration key that asked for each. Since 0.1.
pub const KUMATP_SYNTAX_JSON: u32 = 4;
/// The native nf_tables form as a JSON document: tables, chains with their hooks and priorities, rules, sets. Since 0.1.
pub const KUMATP_SYNTAX_NATIVE: u32 = 5;
/// A picture: a Mermaid flowchart, as Markdown viewers show it. Since 0.1.
pub const KUMATP_SYNTAX_MERMAID: u32 = 6;
/// The same picture in Graphviz's language DOT. Since 0.1.
pub const KUMATP_SYNTAX_DOT: u32 = 7;
/// What the engine ebpf would attach, and what its programs would be told, as text. Since 0.1.
pub const KUMATP_SYNTAX_EBPF: u32 = 8;

/// Both address families, as far as the plan has them. Since 0.1.
pub const KUMATP_FAMILY_ALL: u32 = 0;
/// IPv4 only. Since 0.1.
pub const KUMATP_FAMILY_IPV4: u32 = 4;
/// IPv6 only. Since 0.1.
pub const KUMATP_FAMILY_IPV6: u32 = 6;

/// A flag of kumatp_plan_render(): long option names and headings in KUMATP_SYNTAX_IPTABLES, as the configuration's
/// "verbose" asks for. Since 0.1.
pub const KUMATP_RENDER_LONG: u32 = 1;

/// The rules of both families that a configuration asks for on a host. Never changed; free it with kumatp_plan_free().
#[derive(Debug)]
pub struct kumatp_plan {
    pub(super) plan: Plan,
}

/// Makes the rules that a configuration asks for on a host with these facts. Pure: the same inputs give the same plan,
/// and nothing is read or changed.
///
/// @param config  lent; the plan keeps a copy
/// @param facts  lent; the plan keeps what it needs
/// @param[out] out  the plan; the caller's, for kumatp_plan_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if the facts make what was asked for impossible: name servers are
///         needed and unknown, IPv6 is required and not usable, or it is in use and refused
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_build(
    config: *const kumatp_config,
    facts: *const kumatp_facts,
    out: *mut *mut kumatp_plan,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, facts) = unsafe { (Handle::new("config", config), Handle::new("facts", facts)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, config, facts) = (out.check()?, config.get()?, facts.get()?);
        out.give(kumatp_plan { plan: policy::plan(config.config(), &facts.facts)? });
        Ok(())
    })
}

/// Writes a plan's rules as text. The same plan gives the same text.
///
/// With KUMATP_FAMILY_ALL, KUMATP_SYNTAX_IPTABLES has the headings "### IPv4 ###" and "### IPv6 ###", which only
/// kumatp_save_translate() reads: give the restore programs one family each.
///
/// KUMATP_SYNTAX_JSON has the members "ipv4" and, unless IPv6 is left out, "ipv6", each with "tables": objects with
/// "name" and "chains", those with "name" and "rules"; a rule has "placement" ("append" or "insert"), "matches", "target"
/// and, where there is one, "comment" and "origin", the configuration key that asked for it; "notes" as
/// kumatp_plan_notes() has them. Later versions may add members.
///
/// KUMATP_SYNTAX_MERMAID, _DOT and _EBPF are for readers and not for programs: what is drawn or told, and in which words, may change.
///
/// @param plan  lent
/// @param syntax  one of KUMATP_SYNTAX_*
/// @param family  one of KUMATP_FAMILY_*; KUMATP_SYNTAX_FIREWALLD, _JSON, _NATIVE and _EBPF have KUMATP_FAMILY_ALL only
/// @param flags  0 or KUMATP_RENDER_LONG
/// @param[out] out  the text; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT, also for IPv6 where the plan leaves it out; KUMATP_E_UNSUPPORTED for a syntax that
///         has no text for one family, and for KUMATP_SYNTAX_EBPF of a plan that the engine refuses, or in a library without it
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_render(
    plan: *const kumatp_plan,
    syntax: u32,
    family: u32,
    flags: u32,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan) = (out.check()?, &plan.get()?.plan);
        let family = family_of(family)?;
        known_flags(flags, KUMATP_RENDER_LONG)?;
        let long = flags & KUMATP_RENDER_LONG != 0;
        out.give(kumatp_text::new(render(plan, syntax, family, long)?));
        Ok(())
    })
}

fn render(plan: &Plan, syntax: u32, family: Option<FamilyName>, long: bool) -> Result<String, kumatp_error> {
    let style = if long || plan.options.verbose { Style::Long } else { Style::Short };
    Ok(match (syntax, family) {
        (KUMATP_SYNTAX_IPTABLES, None) if long && !plan.options.verbose => {
            let mut plan = plan.clone();
            plan.options.verbose = true;
            iptables::plan(&plan)
        }
        (KUMATP_SYNTAX_IPTABLES, None) => iptables::plan(plan),
        (KUMATP_SYNTAX_IPTABLES, Some(FamilyName::V4)) => iptables::ruleset(plan.iptables_v4(), style),
        (KUMATP_SYNTAX_IPTABLES, Some(FamilyName::V6)) => {
            let usual = v6(plan)?;
            iptables::ruleset(plan.iptables_v6().unwrap_or(usual), style)
        }
        (KUMATP_SYNTAX_NFT, None) => nft::plan(plan),
        (KUMATP_SYNTAX_NFT, Some(FamilyName::V4)) => nft::ruleset(&plan.v4),
        (KUMATP_SYNTAX_NFT, Some(FamilyName::V6)) => nft::ruleset(v6(plan)?),
        (KUMATP_SYNTAX_MERMAID, None) => mermaid::plan(plan),
        (KUMATP_SYNTAX_MERMAID, Some(FamilyName::V4)) => mermaid::ruleset(&plan.v4),
        (KUMATP_SYNTAX_MERMAID, Some(FamilyName::V6)) => mermaid::ruleset(v6(plan)?),
        (KUMATP_SYNTAX_DOT, None) => dot::plan(plan),
        (KUMATP_SYNTAX_DOT, Some(FamilyName::V4)) => dot::ruleset(&plan.v4),
        (KUMATP_SYNTAX_DOT, Some(FamilyName::V6)) => dot::ruleset(v6(plan)?),
        (KUMATP_SYNTAX_FIREWALLD, None) => firewalld::plan(plan),
        (KUMATP_SYNTAX_JSON, None) => json::plan(plan),
        (KUMATP_SYNTAX_NATIVE, None) => return Ok(native_json(plan)),
        (KUMATP_SYNTAX_EBPF, None) => host::preview(plan)?,
        (KUMATP_SYNTAX_FIREWALLD | KUMATP_SYNTAX_JSON | KUMATP_SYNTAX_NATIVE | KUMATP_SYNTAX_EBPF, Some(_)) => {
            let what = "one family in this syntax".to_owned();
            return Err(Error::Unsupported { what, remedy: "ask for KUMATP_FAMILY_ALL".into() }.into());
        }
        _ => return Err(unknown_syntax(syntax)),
    })
}

fn native_json(plan: &Plan) -> String {
    let mut text = serde_json::to_string_pretty(&Native::of(plan)).expect("the native form has string keys only");
    text.push('\n');
    text
}

fn v6(plan: &Plan) -> Result<&Ruleset<V6>, kumatp_error> {
    plan.v6.as_ref().ok_or_else(|| {
        kumatp_error::argument(
            "family",
            "the plan has no IPv6 rules; kumatp_plan_notes() says why, unless ipFamilyMode is 'ipv4'",
        )
    })
}

fn family_of(number: u32) -> Result<Option<FamilyName>, kumatp_error> {
    match number {
        KUMATP_FAMILY_ALL => Ok(None),
        KUMATP_FAMILY_IPV4 => Ok(Some(FamilyName::V4)),
        KUMATP_FAMILY_IPV6 => Ok(Some(FamilyName::V6)),
        _ => Err(kumatp_error::argument("family", &format!("expected one of KUMATP_FAMILY_*, and was given {number}"))),
    }
}

pub(super) fn unknown_syntax(number: u32) -> kumatp_error {
    kumatp_error::argument("syntax", &format!("expected one of KUMATP_SYNTAX_*, and was given {number}"))
}

/// Writes what an operator should know about a plan, as a JSON document: protections left out, settings without effect.
///
/// It is a list of notes, as kumatp_config_notes() has them.
///
/// @param plan  lent
/// @param[out] out  the list; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_notes(
    plan: *const kumatp_plan,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::json(&plan.get()?.plan.notes));
        Ok(())
    })
}

/// Writes a script for "nft -f" that removes every installation in nf_tables of our own; those in iptables stay.
///
/// @param[out] out  the script; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_nft_removal(out: *mut *mut kumatp_text, err: *mut *mut kumatp_error) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        out.check()?.give(kumatp_text::new(nft::removal()));
        Ok(())
    })
}

/// Frees a plan. NULL is fine.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_plan_free(plan: *mut kumatp_plan) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(plan) });
}
