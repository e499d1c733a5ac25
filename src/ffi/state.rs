//! What is installed.

use serde::Serialize;

use super::boundary::{ErrorSlot, Handle, Out, free, guard, quietly};
use super::engine::{engines, number_of};
use super::error::{kumatp_error, kumatp_status};
use super::host;
use super::plan::kumatp_plan;
use super::text::kumatp_text;
use crate::engine::{EngineName, Status};
use crate::error::Error;
use crate::model::{Note, Plan};
use crate::nftables::Marker;

/// Nothing is installed. Since 0.1.
pub const KUMATP_STATE_ABSENT: u32 = 0;
/// What is installed is what the plan asks for. Since 0.1.
pub const KUMATP_STATE_CURRENT: u32 = 1;
/// Something else is installed, or it has been changed, or two engines have rules at once. Since 0.1.
pub const KUMATP_STATE_DRIFTED: u32 = 2;
/// Something is installed, by an engine that cannot compare it with a plan (iptables). Since 0.1.
pub const KUMATP_STATE_INSTALLED: u32 = 3;

/// What is installed in a network namespace, as it was when it was looked at. Free it with kumatp_state_free().
#[derive(Debug)]
pub struct kumatp_state {
    kind: u32,
    engine: Option<EngineName>,
    json: Document,
}

/// What one engine has installed.
#[cfg_attr(
    not(all(feature = "host", target_os = "linux")),
    expect(dead_code, reason = "made by looking at a host only")
)]
#[derive(Debug)]
pub(super) enum Found {
    /// Compared with a plan.
    Compared(Status, Option<Marker>),
    /// Rules and chains in words, not compared with a plan; perhaps none.
    Listed(Vec<String>),
}

#[derive(Debug, Serialize)]
struct Document {
    state: &'static str,
    engine: Option<EngineName>,
    differences: Vec<String>,
    installed: Vec<String>,
    schema: Option<u32>,
    digest: Option<String>,
    notes: Vec<Note>,
}

impl kumatp_state {
    fn read(plan: &Plan, names: &[EngineName]) -> Result<Self, Error> {
        let mut state = Self {
            kind: KUMATP_STATE_ABSENT,
            engine: None,
            json: Document {
                state: "absent",
                engine: None,
                differences: Vec::new(),
                installed: Vec::new(),
                schema: None,
                digest: None,
                notes: Vec::new(),
            },
        };
        let (mut looked, mut absent) = (false, None);
        for name in names {
            match host::look(plan, *name) {
                Ok(found) => {
                    looked = true;
                    state.add(*name, found);
                }
                // An engine that cannot work here has nothing installed.
                Err(error @ Error::Unsupported { .. }) => {
                    state.json.notes.push(Note::info(name.to_string(), format!("passed over: {error}")));
                    absent.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        match absent {
            Some(error) if !looked => Err(error),
            _ => Ok(state),
        }
    }

    fn add(&mut self, name: EngineName, found: Found) {
        let kind = match found {
            Found::Compared(status, marker) => {
                self.json.schema = marker.map(|marker| marker.schema);
                self.json.digest = marker.map(|marker| format!("{:032x}", marker.digest));
                match status {
                    Status::Absent => return,
                    Status::Current => KUMATP_STATE_CURRENT,
                    Status::Drifted { differences } => {
                        self.json.differences = differences;
                        KUMATP_STATE_DRIFTED
                    }
                }
            }
            Found::Listed(list) if list.is_empty() => return,
            Found::Listed(list) => {
                self.json.installed = list;
                KUMATP_STATE_INSTALLED
            }
        };
        match self.engine {
            None => (self.kind, self.engine) = (kind, Some(name)),
            Some(other) => {
                self.kind = KUMATP_STATE_DRIFTED;
                self.json.differences.push(format!("the engine {name} has rules here as well as {other}"));
            }
        }
        self.json.engine = self.engine;
        self.json.state = match self.kind {
            KUMATP_STATE_CURRENT => "current",
            KUMATP_STATE_DRIFTED => "drifted",
            _ => "installed",
        };
    }
}

/// Looks at what is installed in a network namespace, and how it compares with a plan. Changes nothing.
///
/// @param plan  lent
/// @param engines  KUMATP_ENGINE_ALL, or a sum of KUMATP_ENGINE_*. The iptables engine runs programs and needs root. Of
///         several engines, one that the host does not have is passed over
/// @param netns_fd  a file descriptor of the network namespace, lent; -1 for that of the calling thread
/// @param flags  0
/// @param[out] out  the state; the caller's, for kumatp_state_free()
/// @param[out] err  may be NULL
/// @return KUMATP_OK; KUMATP_E_ARGUMENT; KUMATP_E_UNSUPPORTED if no engine can work there; KUMATP_E_PERMISSION;
///         KUMATP_E_CONFLICT; KUMATP_E_OS; KUMATP_E_PROGRAM (iptables)
///
/// Since 0.1.
#[must_use]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_read(
    plan: *const kumatp_plan,
    engines: u32,
    netns_fd: i32,
    flags: u32,
    out: *mut *mut kumatp_state,
    err: *mut *mut kumatp_error,
) -> kumatp_status {
    // SAFETY: as the preamble asks.
    let (plan, out, err) = unsafe { (Handle::new("plan", plan), Out::new("out", out), ErrorSlot::new(err)) };
    guard(err, || {
        let (out, plan, names) = (out.check()?, &plan.get()?.plan, self::engines(engines)?);
        super::plan::known_flags(flags, 0)?;
        // SAFETY: the caller keeps the descriptor open, as the preamble asks.
        let namespace = unsafe { host::namespace(netns_fd) }?;
        out.give(namespace.run(|| kumatp_state::read(plan, &names))?);
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
    state.optional().map_or(KUMATP_STATE_ABSENT, |state| state.kind)
}

/// Returns the engine whose rules were found, the first one if there are several: one of KUMATP_ENGINE_*; 0 if there are
/// none, and for NULL.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kumatp_state_engine(state: *const kumatp_state) -> u32 {
    // SAFETY: as the preamble asks.
    let state = unsafe { Handle::new("state", state) };
    state.optional().and_then(|state| state.engine).map_or(0, number_of)
}

/// Writes what was found as a JSON document.
///
/// Its members: "state" ("absent", "current", "drifted" or "installed"); "engine" ("netlink", "iptables" or null);
/// "differences" from the plan, a list of text; "installed", the rules and chains found in iptables, a list of text;
/// "schema" (number) and "digest" (text), what the tables found in nf_tables say of the version and the plan that they
/// were made from, or null; "notes", as kumatp_config_notes() has them.
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
        out.give(kumatp_text::json(&state.get()?.json));
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
