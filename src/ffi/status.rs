//! Statuses, and the error object: what every other part of the C ABI ends with.

use std::ffi::{CStr, CString};

use crate::error::{Error, Problem};

/// How a call ended: KUMATP_OK, or one of KUMATP_E_*. Numbers are never used again for something else, and later
/// versions may add some: treat one that you do not know as a failure.
pub type kumatp_status = i32;

/// The call did what it says. Since 0.1.
pub const KUMATP_OK: kumatp_status = 0;
/// An argument is wrong: NULL, not UTF-8, too long, a number or flag that is not known. The error's field is the
/// name of the parameter. Since 0.1.
pub const KUMATP_E_ARGUMENT: kumatp_status = 1;
/// A document is not valid. The error's field is the path of the first problem, such as
/// "redirect.inbound.port"; kumatp_error_to_json() has all of them. Since 0.1.
pub const KUMATP_E_CONFIG: kumatp_status = 2;
/// A fact about the host is missing, wrong, or makes the plan impossible. Since 0.1.
pub const KUMATP_E_FACTS: kumatp_status = 3;
/// The host, the engine or this build of the library lacks something that is needed. Since 0.1.
pub const KUMATP_E_UNSUPPORTED: kumatp_status = 4;
/// A privilege is missing; the message names it. Since 0.1.
pub const KUMATP_E_PERMISSION: kumatp_status = 5;
/// Something else is installed, or changed the rules at the same time. Since 0.1.
pub const KUMATP_E_CONFLICT: kumatp_status = 6;
/// The operating system refused; see kumatp_error_errno(). Since 0.1.
pub const KUMATP_E_OS: kumatp_status = 7;
/// A program that the iptables engine ran has failed; the message has what it said. Since 0.1.
pub const KUMATP_E_PROGRAM: kumatp_status = 8;
/// A bug in the library: every function that returns a status may return it. Since 0.1.
pub const KUMATP_E_INTERNAL: kumatp_status = 99;

/// Every status with its name, in the order of the numbers.
const NAMES: &[(kumatp_status, &CStr)] = &[
    (KUMATP_OK, c"KUMATP_OK"),
    (KUMATP_E_ARGUMENT, c"KUMATP_E_ARGUMENT"),
    (KUMATP_E_CONFIG, c"KUMATP_E_CONFIG"),
    (KUMATP_E_FACTS, c"KUMATP_E_FACTS"),
    (KUMATP_E_UNSUPPORTED, c"KUMATP_E_UNSUPPORTED"),
    (KUMATP_E_PERMISSION, c"KUMATP_E_PERMISSION"),
    (KUMATP_E_CONFLICT, c"KUMATP_E_CONFLICT"),
    (KUMATP_E_OS, c"KUMATP_E_OS"),
    (KUMATP_E_PROGRAM, c"KUMATP_E_PROGRAM"),
    (KUMATP_E_INTERNAL, c"KUMATP_E_INTERNAL"),
];

/// Why a call failed. Made by a failing call whose last argument is not NULL; free it with kumatp_error_free().
#[derive(Debug)]
pub struct kumatp_error {
    status: kumatp_status,
    pub(super) message: CString,
    pub(super) field: Option<CString>,
    pub(super) errno: i32,
    problems: Vec<Problem>,
}

impl kumatp_error {
    pub(super) fn new(status: kumatp_status, field: Option<&str>, message: &str) -> Self {
        let field = field.filter(|field| !field.is_empty()).map(c_text);
        Self { status, message: c_text(message), field, errno: 0, problems: Vec::new() }
    }

    /// A wrong argument; `problem` completes a sentence that begins with its name.
    pub(super) fn argument(name: &str, problem: &str) -> Self {
        Self::new(KUMATP_E_ARGUMENT, Some(name), &format!("{name}: {problem}"))
    }

    pub(super) fn status(&self) -> kumatp_status {
        self.status
    }

    fn name(&self) -> &'static CStr {
        name(self.status)
    }

    pub(super) fn to_json(&self) -> String {
        let value = serde_json::json!({
            "status": self.status,
            "name": self.name().to_string_lossy(),
            "message": self.message.to_string_lossy(),
            "field": self.field.as_ref().map(|field| field.to_string_lossy()),
            "errno": self.errno,
            "problems": self.problems,
        });
        format!("{value:#}\n")
    }
}

impl From<Error> for kumatp_error {
    fn from(error: Error) -> Self {
        let (status, field) = match error.decisive() {
            // Nothing decides in an empty list.
            Error::Several(_) | Error::Because { .. } => (KUMATP_E_INTERNAL, None),
            Error::Config(problems) => (KUMATP_E_CONFIG, problems.first().map(|problem| problem.path.as_str())),
            Error::Facts { fact, .. } => (KUMATP_E_FACTS, Some(fact.as_str())),
            Error::Unsupported { .. } => (KUMATP_E_UNSUPPORTED, None),
            Error::Permission { .. } => (KUMATP_E_PERMISSION, None),
            Error::Conflict { .. } => (KUMATP_E_CONFLICT, None),
            Error::Os { .. } => (KUMATP_E_OS, None),
            Error::Program { .. } => (KUMATP_E_PROGRAM, None),
        };
        let mut made = Self::new(status, field, &error.to_string());
        made.errno = error.errno().unwrap_or(0);
        made.problems = error.problems().to_vec();
        made
    }
}

pub(super) fn name(status: kumatp_status) -> &'static CStr {
    NAMES.iter().find(|(number, _)| *number == status).map_or(c"unknown status", |(_, name)| name)
}

/// The text with every NUL escaped, so that C sees all of it.
fn c_text(text: &str) -> CString {
    CString::new(text.replace('\0', "\\0")).expect("NULs were replaced")
}
