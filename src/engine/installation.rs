//! What is installed by an engine.

use serde::Serialize;

use super::status::Status;
use crate::model::{EngineName, IptablesMode};
use crate::net::FamilyName;

/// The rules of one engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Installation {
    /// The engine. Installations by iptables can be kumactl's as well as ours: their rules carry the
    /// same marks, and each program can remove the other's.
    pub engine: EngineName,
    /// The mode of the iptables programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<IptablesMode>,
    /// The families that have rules.
    pub families: Vec<FamilyName>,
    /// How it compares with the plan, or with what was installed.
    pub status: Status,
    /// The programs of the engine ebpf.
    #[cfg(all(feature = "ebpf", target_os = "linux"))]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub programs: Option<super::attached::Programs>,
}

/// The state of everything that was found.
pub(super) fn overall(installations: &[Installation]) -> Status {
    match installations {
        [] => Status::Absent,
        [only] => only.status.clone(),
        several => {
            let names: Vec<_> = several.iter().map(Installation::name).collect();
            let mut differences = vec![format!("several engines have rules: {}", names.join(", "))];
            for one in several {
                if let Status::Drifted { differences: own } = &one.status {
                    differences.extend(own.iter().map(|text| format!("{}: {text}", one.name())));
                }
            }
            Status::Drifted { differences }
        }
    }
}

impl Installation {
    pub(super) fn new(
        engine: EngineName,
        mode: Option<IptablesMode>,
        families: Vec<FamilyName>,
        status: Status,
    ) -> Self {
        Self {
            engine,
            mode,
            families,
            status,
            #[cfg(all(feature = "ebpf", target_os = "linux"))]
            programs: None,
        }
    }

    /// The engine, with the mode of its programs, as text: `iptables (legacy)`.
    pub fn name(&self) -> String {
        match self.mode {
            Some(mode) => format!("{} ({mode})", self.engine),
            None => self.engine.to_string(),
        }
    }
}
