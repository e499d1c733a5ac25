//! Which tables of iptables-legacy are in use.

use std::path::Path;

use super::locate::Toolset;
use crate::error::Error;
use crate::model::IptablesMode;
use crate::net::FamilyName;

/// The legacy tables that are in use in the network namespace of the calling thread.
pub(super) enum LegacyTables {
    Known(Vec<String>),
    /// Not to be found out.
    Unknown,
}

impl LegacyTables {
    pub(super) fn of(family: FamilyName) -> Self {
        let name = match family {
            FamilyName::V4 => "ip_tables_names",
            FamilyName::V6 => "ip6_tables_names",
        };
        let dir = Path::new("/proc/thread-self/net");
        match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => Self::Known(text.lines().map(str::to_owned).collect()),
            // The module is not loaded.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && dir.join("dev").exists() => {
                Self::Known(Vec::new())
            }
            Err(_) => Self::Unknown,
        }
    }

    pub(super) fn none(&self) -> bool {
        matches!(self, Self::Known(names) if names.is_empty())
    }

    pub(super) fn has(&self, table: &str) -> bool {
        matches!(self, Self::Known(names) if names.iter().any(|name| name == table))
    }
}

impl Toolset {
    /// Whether the kernel does not say which of the tables of these programs are in use.
    pub(super) fn is_hidden(&self) -> bool {
        self.mode == IptablesMode::Legacy && matches!(LegacyTables::of(self.family), LegacyTables::Unknown)
    }

    /// That it does not.
    pub(super) fn hidden(&self) -> Error {
        Error::Permission {
            action: format!("see which {} tables of iptables-legacy are in use", self.family),
            needed: "root of the first user namespace".to_owned(),
        }
    }
}
