use std::fmt::Display;

use serde_json::json;

use super::Version;
use crate::error::{Error, Problem};

/// Why a request could not be fulfilled, as the specification has it: the runtime then lets the pod fail.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {details}")]
#[non_exhaustive]
pub struct Failure {
    /// What kind of failure.
    pub code: Code,
    /// The failure in a few words.
    pub message: String,
    /// Fields, offending values, and what would be right, one problem a line.
    pub details: String,
    /// The version of the request, in which the failure is told.
    pub version: Version,
}

/// The kinds of failures. Those below 100 are the specification's, the others the plugin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// 1: the plugin does not speak the version of the network configuration, or that version lacks the operation.
    IncompatibleVersion = 1,
    /// 2: a key of the network configuration that is not known, and was probably meant for one that is.
    UnsupportedField = 2,
    /// 4: environment variables are missing or not valid.
    Environment = 4,
    /// 5: the network configuration cannot be read.
    Input = 5,
    /// 6: it is no JSON object.
    Decoding = 6,
    /// 7: it is not valid, or incomplete.
    Network = 7,
    /// 11: the file about the pod is not there yet.
    TryAgain = 11,
    /// 50: answer to STATUS: no pod could be redirected here.
    NotAvailable = 50,
    /// 100: the annotations of the pod, or the file about it, are not valid, or cannot be fulfilled in its namespace.
    Pod = 100,
    /// 101: the kernel lacks something that is needed.
    Unsupported = 101,
    /// 102: the plugin lacks a privilege.
    Permission = 102,
    /// 103: other rules stand in the way.
    Conflict = 103,
    /// 104: the operating system refused.
    System = 104,
    /// 105: the rules in force are not those that the pod needs.
    NotInForce = 105,
}

impl Code {
    /// The number, as it is told.
    pub fn number(self) -> u32 {
        self as u32
    }
}

impl Failure {
    /// A failure of a request of the newest version.
    pub(super) fn new(code: Code, message: impl Into<String>, details: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: details.into(), version: Version::NEWEST }
    }

    /// All problems of one kind.
    pub(super) fn of_problems<P: Display>(code: Code, message: &str, problems: &[P]) -> Self {
        let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Self::new(code, message, lines.join("\n"))
    }

    /// What the library says about a pod.
    pub(super) fn about_the_pod(error: &Error) -> Self {
        let (code, message) = match error.decisive() {
            Error::Config(_) => (Code::Pod, "the configuration of the pod's transparent proxy is not valid"),
            Error::Facts { .. } => (Code::Pod, "the pod cannot be redirected as it asks"),
            Error::Unsupported { .. } => (Code::Unsupported, "the kernel lacks something"),
            Error::Permission { .. } => (Code::Permission, "a privilege is missing"),
            Error::Conflict { .. } => (Code::Conflict, "other rules stand in the way"),
            _ => (Code::System, "the transparent proxy could not be set up"),
        };
        Self::new(code, message, error.to_string())
    }

    /// The failure of a request of this version.
    pub(super) fn in_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// The error object, for standard output.
    pub fn to_json(&self) -> String {
        let object = json!({
            "cniVersion": self.version.as_str(),
            "code": self.code.number(),
            "msg": self.message,
            "details": self.details,
        });
        object.to_string()
    }
}

/// The problems of a network configuration.
pub(super) fn network(problems: &[Problem]) -> Failure {
    Failure::of_problems(Code::Network, "the network configuration is not valid", problems)
}
