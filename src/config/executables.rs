use std::path::PathBuf;

/// Programs to use instead of those found on the host. A family counts only if all of its three
/// are given.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Executables {
    /// `iptables`, `iptables-save`, `iptables-restore`.
    pub v4: FamilyExecutables,
    /// `ip6tables`, `ip6tables-save`, `ip6tables-restore`.
    pub v6: FamilyExecutables,
}

/// The programs of one family.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FamilyExecutables {
    /// The program that changes single rules; used to ask for its version and matches.
    pub tables: Option<PathBuf>,
    /// The program that prints all rules.
    pub save: Option<PathBuf>,
    /// The program that loads rules.
    pub restore: Option<PathBuf>,
}
