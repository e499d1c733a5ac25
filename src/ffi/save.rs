//! Rules of others: iptables-save and iptables-restore text.

use std::ffi::c_char;

use super::boundary::{ErrorSlot, Out, Text, guard};
use super::error::{kumatp_error, kumatp_status};
use super::firewalld::documents;
use super::plan::{KUMATP_SYNTAX_FIREWALLD, KUMATP_SYNTAX_JSON, KUMATP_SYNTAX_NFT, unknown_syntax};
use super::text::kumatp_text;
use crate::error::Error;
use crate::net::{Family, V4, V6};
use crate::{render, save};

/// Translates iptables-save or iptables-restore text, whoever wrote it, into another syntax.
///
/// The text may have the headings "### IPv4 ###" and "### IPv6 ###", or the lines that iptables-save and ip6tables-save begin
/// with; without them, it is all IPv4.
///
/// KUMATP_SYNTAX_NFT is a script for "nft -f" that puts the rules into our own tables; KUMATP_SYNTAX_FIREWALLD is a whole
/// direct.xml; KUMATP_SYNTAX_JSON has the members "ipv4" and "ipv6", as far as the text has them, each with "tables":
/// objects with "name", "chains" and "rules".
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
            KUMATP_SYNTAX_NFT => nft(text)?,
            KUMATP_SYNTAX_FIREWALLD => documents::translate(text)?,
            KUMATP_SYNTAX_JSON => save::to_json(text)?,
            _ => return Err(unknown_syntax(syntax)),
        }));
        Ok(())
    })
}

fn nft(text: &str) -> Result<String, Error> {
    fn script<F: Family>(text: &str) -> Result<String, Error> {
        Ok(render::nft::ruleset(&save::parse::<F>(text)?.ruleset()?))
    }
    let texts = save::families(text);
    let v4 = texts.v4.as_deref().map(script::<V4>).transpose()?;
    let v6 = texts.v6.as_deref().map(script::<V6>).transpose()?;
    Ok([v4, v6].into_iter().flatten().collect::<Vec<_>>().join("\n"))
}
