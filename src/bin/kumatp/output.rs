//! What the command says: results on standard output, remarks on standard error.
//!
//! Remarks are held back until the work is done, so that a standard error that is full, closed or stuck cannot keep any
//! work from being done.

use std::fmt::Display;
use std::io::ErrorKind;
use std::sync::{Mutex, PoisonError};

use kumatp::Error;
use kumatp::model::{Note, Severity};

use crate::{Failure, streams};

/// The remarks that are held back.
static HELD: Mutex<String> = Mutex::new(String::new());

/// Makes a line of standard error.
pub(crate) fn say(line: impl Display) {
    let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
    held.push_str(&format!("{line}\n"));
}

/// The same, unless the line is held back already.
pub(crate) fn say_once(line: String) {
    if !HELD.lock().unwrap_or_else(PoisonError::into_inner).lines().any(|held| held == line) {
        say(line);
    }
}

/// Warnings always, other notes if asked for.
pub(crate) fn warn(notes: &[Note], verbose: bool) {
    for note in notes {
        match note.severity {
            Severity::Warning => say(format_args!("warning: {note}")),
            Severity::Info if verbose => say(format_args!("note: {note}")),
            Severity::Info => {}
        }
    }
}

/// An error in the words of a command, which can be run by somebody else.
pub(crate) fn told(error: &Error) -> String {
    match error {
        Error::Permission { action, needed } => {
            let needed = needed.trim_end_matches(',');
            let root = if needed.starts_with("root") { "" } else { "root, or with " };
            format!("cannot {action}: permission denied; run it as {root}{needed}")
        }
        Error::Because { failure, .. } => told(failure),
        Error::Several(errors) => errors.iter().map(told).collect::<Vec<_>>().join("\n"),
        error => error.to_string(),
    }
}

/// Writes the remarks that are held back.
pub(crate) fn release() {
    let held = std::mem::take(&mut *HELD.lock().unwrap_or_else(PoisonError::into_inner));
    streams::remark(&held);
}

/// Writes a result, for which all work has been done.
///
/// # Errors
/// [`Failure::Untold`] if it cannot be written.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    release();
    streams::result(text).map_err(|error| match error.kind() {
        // The reader has seen enough.
        ErrorKind::BrokenPipe => Failure::Untold(None),
        _ => Failure::Untold(Some(format!("cannot write to standard output: {}", reason(&error)))),
    })
}

pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let json = serde_json::to_string_pretty(value).map_err(|error| Failure::Other(error.to_string()))?;
    print(&format!("{json}\n"))
}

/// Writes what was done, and last what scripts look for, if anything.
///
/// # Errors
/// [`Failure::Other`], which says what was done, if it cannot be written.
pub(crate) fn report(steps: &str, summary: &str, last: Option<&str>) -> Result<(), Failure> {
    release();
    let last = last.map(|line| format!("{line}\n")).unwrap_or_default();
    streams::result(&format!("{steps}{summary}\n{last}")).map_err(|error| {
        Failure::Other(format!("{summary}, but this cannot be written to standard output: {}", reason(&error)))
    })
}

/// The error without the number that the standard library adds.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
