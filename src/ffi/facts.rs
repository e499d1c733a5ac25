//! Facts.

use std::ffi::c_char;
use std::path::Path;

use super::arguments::{one_engine, text_path};
use super::boundary::{ErrorSlot, Handle, Out, Text, free, guard, quietly};
use super::config::kumatp_config;
use super::host;
use super::status::{KUMATP_E_FACTS, kumatp_error, kumatp_status};
use super::text::kumatp_text;
use crate::facts::{Facts, Resolvers};
use crate::net::Uid;
use crate::room::with_room;

/// What is known of a host: all that rules depend on besides the configuration. Never changed; free it with
/// kumatp_facts_free().
#[derive(Debug)]
pub struct kumatp_facts {
    pub(super) facts: Facts,
}

/// Looks at the host for the facts that a plan for a configuration needs. Reads, and changes nothing.
///
/// Network interfaces and what the engine can do are those of the network namespace; users and resolv.conf are
/// those that the calling process sees.
///
/// @param config  lent
/// @param engine  one of KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES and KUMATP_ENGINE_EBPF; what it can do is part of the facts
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param[out] out  the facts; the caller's, for kumatp_facts_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if the sidecar's user cannot be told; KUMATP_E_UNSUPPORTED if
///         the engine cannot work there; KUMATP_E_CONFIG if "ebpf.cgroupPath" is no cgroup2 (eBPF); KUMATP_E_PERMISSION;
///         KUMATP_E_OS; KUMATP_E_PROGRAM (iptables)
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_facts_probe(
    config: *const kumatp_config,
    engine: u32,
    netns_fd: i32,
    out: *mut *mut kumatp_facts,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (config, out, err) = unsafe { (Handle::new("config", config), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, config, engine) = (out.check()?, config.get()?.config(), one_engine(engine)?);
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(kumatp_facts { facts: namespace.run(|| host::probe(config, engine))? });
        Ok(())
    })
}

/// Makes the facts of a host that can do everything, with usable IPv6, without Docker, whose name servers nobody
/// looked for. For tests, and for rules that are to be shown only.
///
/// @param sidecar_uid  the uid that the sidecar runs as, 0 to 4294967294
/// @param[out] out  the facts; the caller's, for kumatp_facts_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_facts_capable_host(
    sidecar_uid: u32,
    out: *mut *mut kumatp_facts,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        let uid = Uid::new(sidecar_uid).ok_or_else(|| {
            let problem = format!("expected a uid from 0 to 4294967294, and was given {sidecar_uid}");
            kumatp_error::argument("sidecar_uid", &problem)
        })?;
        out.give(kumatp_facts { facts: Facts::capable_host(uid) });
        Ok(())
    })
}

/// Reads facts from a JSON document, as kumatp_facts_to_json() writes it.
///
/// Its members: "sidecarUid" (a uid as text, the only one that must be there); "loopback" (name of the interface, "lo");
/// "resolvers", the name servers, which matter only if DNS queries to them are to be redirected: "path" (text),
/// "servers" (list of addresses, a link-local one perhaps with its interface, as "fe80::1%eth0"), "skipped" (list of text);
/// "ipv6": "state", which is "usable", "linkLocal", "unaddressed", "unusable" with "reason", or "refused" with "reason" and "remedy"; "ipv4Abilities" and "ipv6Abilities": "comments",
/// "conntrackZones", "mangle" (all true if not given) and "dockerOutput" (false), whether the host has them;
/// "remarks", a list of objects with "about", "text" and "warning" (true or false).
///
/// @param json  the document, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the facts; the caller's, for kumatp_facts_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_FACTS if `json` is not such a document
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_facts_parse(
    json: *const c_char,
    len: usize,
    out: *mut *mut kumatp_facts,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (json, out, err) = unsafe { (Text::new("json", json, len), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, json) = (out.check()?, json.utf8()?);
        let facts = with_room(json, || serde_json::from_str(json))
            .map_err(|error| kumatp_error::new(KUMATP_E_FACTS, None, &format!("facts: {error}")))?;
        out.give(kumatp_facts { facts });
        Ok(())
    })
}

/// Writes facts as a JSON document that kumatp_facts_parse() reads back.
///
/// @param facts  lent
/// @param[out] out  the document; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_facts_to_json(
    facts: *const kumatp_facts,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (facts, out, err) = unsafe { (Handle::new("facts", facts), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let out = out.check()?;
        out.give(kumatp_text::json(&facts.get()?.facts));
        Ok(())
    })
}

/// Reads the name servers from the text of a resolv.conf, as the member "resolvers" of kumatp_facts_parse().
///
/// @param path  what the file is called in messages, lent; may be empty
/// @param path_len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param text  the text, lent; at most KUMATP_MAX_TEXT bytes
/// @param len  its length in bytes, or KUMATP_NUL_TERMINATED
/// @param[out] out  the member's value, JSON; the caller's, for kumatp_text_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK or KUMATP_E_ARGUMENT
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_resolvers_parse(
    path: *const c_char,
    path_len: usize,
    text: *const c_char,
    len: usize,
    out: *mut *mut kumatp_text,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (path, text) = unsafe { (Text::new("path", path, path_len), Text::new("text", text, len)) };
    // SAFETY: as the preamble asks.
    let (out, err) = unsafe { (Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, path) = (out.check()?, text_path(path, "")?);
        out.give(kumatp_text::json(&Resolvers::parse(Path::new(path), text.utf8()?)));
        Ok(())
    })
}

/// Frees facts. NULL is fine.
///
/// Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_facts_free(facts: *mut kumatp_facts) {
    // SAFETY: as the preamble asks.
    quietly(|| unsafe { free(facts) });
}
