use std::path::PathBuf;
use std::time::Duration;

use crate::named::named;

/// What the engines are told besides the rules: how to work, and what the rules may need of the host. Whatever is said here, the
/// rules are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// Say what would be done, and change nothing.
    pub dry_run: bool,
    /// Long option names and section headings in rendered text, and informational notes.
    pub verbose: bool,
    /// Which address families are set up.
    pub ip_family_mode: IpFamilyMode,
    /// Whether the rules for iptables close what translation leaves open.
    pub harden: bool,
    /// Also write the rules to firewalld's `direct.xml`.
    pub store_firewalld: bool,
    /// Run for a pod from outside, as a CNI plugin is.
    pub cni_mode: bool,
    /// How iptables waits for the lock of its legacy variant.
    pub wait: Wait,
    /// What to do when iptables fails for a reason that may pass.
    pub retry: Retry,
    /// Programs to use instead of those found.
    pub iptables_executables: Executables,
    /// The bpffs where eBPF programs are pinned. If unset, `/sys/fs/bpf`.
    pub bpffs: Option<PathBuf>,
    /// The cgroup (version 2) whose processes eBPF programs deal with. If unset, the one that all processes are in.
    pub cgroup: Option<PathBuf>,
    /// Whether rules are to have comments.
    pub comments: bool,
    /// Whether DNS queries are redirected.
    pub dns: bool,
    /// Whether these are to be tracked in zones of their own.
    pub conntrack_zones: bool,
    /// Whether packets are dropped that connection tracking finds invalid.
    pub drop_invalid_packets: bool,
}

impl Default for Options {
    /// Those of a configuration in which nothing is set.
    fn default() -> Self {
        Self {
            dry_run: false,
            verbose: false,
            ip_family_mode: IpFamilyMode::default(),
            harden: false,
            store_firewalld: false,
            cni_mode: false,
            wait: Wait::default(),
            retry: Retry::default(),
            iptables_executables: Executables::default(),
            bpffs: None,
            cgroup: None,
            comments: true,
            dns: false,
            conntrack_zones: false,
            drop_invalid_packets: false,
        }
    }
}

/// Which address families are set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IpFamilyMode {
    /// IPv4, and IPv6 where the kernel has it, whether or not there is an address yet.
    #[default]
    DualStack,
    /// IPv4 only.
    Ipv4,
    /// IPv4 and IPv6; it is an error if there cannot be rules for IPv6, or the sidecar's own address `::6` cannot be added. Not in
    /// kumactl.
    Required,
}

named! {
    /// Every mode.
    IpFamilyMode { DualStack = "dualstack", Ipv4 = "ipv4", Required = "required" }
}

/// How iptables waits for the lock that its legacy variant takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Wait {
    /// How long, in whole seconds: `wait`. With 0, no waiting is asked for.
    pub seconds: u32,
    /// How often to try meanwhile, in microseconds: `waitInterval`. 0 leaves it to iptables.
    pub interval_micros: u32,
}

/// Retries after a failure that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retry {
    /// How many more times after the first: `retry.maxRetries`.
    pub max_retries: u32,
    /// The pause between two: `retry.sleepBetweenRetries`.
    pub sleep: Duration,
}

impl Default for Wait {
    fn default() -> Self {
        Self { seconds: 5, interval_micros: 0 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { max_retries: 4, sleep: Duration::from_secs(2) }
    }
}

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
