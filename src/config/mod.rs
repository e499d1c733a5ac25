//! What the operator wants: the typed configuration of a transparent proxy.
//!
//! A [`Config`] is always valid: each field is a type that can hold nothing else. Text in Kuma's
//! format becomes a `Config` through [`Config::parse`] or [`Layers`], which report every problem at once; on Kubernetes,
//! what there is becomes one through [`kubernetes::Sources`].

pub mod dataplane;
mod exclusion;
pub mod kubernetes;
mod profile;
mod variables;
mod wire;

use std::path::PathBuf;

pub use exclusion::{GidExclusion, UidExclusion, VirtualNetwork};
pub use profile::Profile;
pub use variables::variables;
pub use wire::{Format, Key, KumaDifference, KumaProgram, Layered, Layers};

use crate::model::{ChainPair, Executables, IpFamilyMode, LogLevel, Options, Retry, Wait};
use crate::net::{AnyCidr, Port, PortSet};

/// The whole configuration. `Default` has Kuma's defaults.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Config {
    /// Who the sidecar runs as: `kumaDPUser`. If unset, uid 5678 or the user `kuma-dp`.
    pub kuma_dp_user: Option<String>,
    /// Which address families: `ipFamilyMode`.
    pub ip_family_mode: IpFamilyMode,
    /// What is redirected where: `redirect`.
    pub redirect: Redirect,
    /// Drop packets that connection tracking finds invalid: `dropInvalidPackets`. They would pass
    /// by the redirection and reset connections.
    pub drop_invalid_packets: bool,
    /// Add to the rules of iptables what iptables can say of netlink's closing rules, which drop what the redirection missed:
    /// `harden`. Not in kumactl. The netlink engine always has its closing rules, the eBPF engine translates no packets.
    pub harden: bool,
    /// Also write the rules to firewalld's `direct.xml`: `storeFirewalld`.
    pub store_firewalld: bool,
    /// Long option names and section headings in rendered text, and informational notes: `verbose`.
    pub verbose: bool,
    /// Print the rules and change nothing: `dryRun`.
    pub dry_run: bool,
    /// Run as a CNI plugin, whose mount namespace is the host's: the sidecar's user is taken as it is given and
    /// never looked up: `cniMode`.
    pub cni_mode: bool,
    /// Packet logging: `log`.
    pub log: Log,
    /// How iptables waits for the lock of its legacy variant.
    pub wait: Wait,
    /// What to do when iptables fails for a reason that may pass: `retry`.
    pub retry: Retry,
    /// Rule comments: `comments`.
    pub comments: Comments,
    /// Programs to use instead of those found: `iptablesExecutables`.
    pub iptables_executables: Executables,
    /// Redirection by eBPF programs: `ebpf`.
    pub ebpf: Ebpf,
}

impl Config {
    /// What the engines are told besides the rules.
    pub fn options(&self) -> Options {
        let dns = &self.redirect.dns;
        Options {
            dry_run: self.dry_run,
            verbose: self.verbose,
            ip_family_mode: self.ip_family_mode,
            harden: self.harden,
            store_firewalld: self.store_firewalld,
            cni_mode: self.cni_mode,
            wait: self.wait,
            retry: self.retry,
            iptables_executables: self.iptables_executables.clone(),
            bpffs: self.ebpf.bpffs.clone(),
            cgroup: self.ebpf.cgroup.clone(),
            comments: !self.comments.disabled,
            dns: dns.enabled,
            conntrack_zones: dns.enabled && !dns.skip_conntrack_zone_split,
            drop_invalid_packets: self.drop_invalid_packets,
        }
    }
}

/// Redirection by eBPF programs instead of rules, as a mode of Kuma 2.9 was called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Ebpf {
    /// Whether it is asked for: `enabled`. Which engine carries a plan out is said when it is applied; the command goes by this
    /// where no engine is named.
    pub enabled: bool,
    /// The bpffs where the programs are pinned: `bpffsPath`. If unset, `/sys/fs/bpf`.
    pub bpffs: Option<PathBuf>,
    /// The cgroup (version 2) whose processes are dealt with: `cgroupPath`. If unset, the one that all processes are in.
    pub cgroup: Option<PathBuf>,
}

/// What is redirected where.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Redirect {
    /// Connections to the workload: `redirect.inbound`.
    pub inbound: Inbound,
    /// Connections from the workload: `redirect.outbound`.
    pub outbound: Outbound,
    /// DNS queries of the workload: `redirect.dns`.
    pub dns: Dns,
    /// Networks of virtual machines or containers on this host whose traffic is treated as outbound: `redirect.vnet.networks`.
    pub vnet: Vec<VirtualNetwork>,
}

/// Redirection of connections to the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inbound {
    /// Whether they are redirected at all: `enabled`. False for gateways.
    pub enabled: bool,
    /// The sidecar's inbound listener: `port`.
    pub port: Port,
    /// If not empty, only these destination ports are redirected, and `exclude_ports` has no effect: `includePorts`.
    pub include_ports: PortSet,
    /// Destination ports that are not redirected: `excludePorts`.
    pub exclude_ports: PortSet,
    /// Clients that are not redirected: `excludePortsForIPs`.
    pub exclude_ips: Vec<AnyCidr>,
    /// Put the jump before the rules that are there: `insertRedirectInsteadOfAppend`.
    pub insert: bool,
    /// The chains; settable by environment variables only.
    pub chains: ChainPair,
}

/// Redirection of connections from the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outbound {
    /// Whether they are redirected at all: `enabled`.
    pub enabled: bool,
    /// The sidecar's outbound listener: `port`.
    pub port: Port,
    /// If not empty, only these destination ports are redirected, and `exclude_ports` has no effect: `includePorts`.
    pub include_ports: PortSet,
    /// If not empty, only these destinations are redirected; with `include_ports`, both must hold: `includeIPs`. Not in kumactl.
    pub include_ips: Vec<AnyCidr>,
    /// Destination ports that are not redirected: `excludePorts`.
    pub exclude_ports: PortSet,
    /// Users whose connections to some ports are not redirected: `excludePortsForUIDs`.
    pub exclude_ports_for_uids: Vec<UidExclusion>,
    /// Groups whose connections to some ports are not redirected: `excludePortsForGIDs`. Not in kumactl.
    pub exclude_ports_for_gids: Vec<GidExclusion>,
    /// Destinations that are not redirected, DNS servers included: `excludePortsForIPs`.
    pub exclude_ips: Vec<AnyCidr>,
    /// Put the jump before the rules that are there: `insertRedirectInsteadOfAppend`.
    pub insert: bool,
    /// The chains; settable by environment variables only.
    pub chains: ChainPair,
}

/// Redirection of DNS queries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dns {
    /// Whether queries to the servers of `resolv_conf` are redirected: `enabled`.
    pub enabled: bool,
    /// Whether queries to any server are, where `enabled` holds: `captureAll`.
    pub capture_all: bool,
    /// The sidecar's DNS listener: `port`.
    pub port: Port,
    /// Whether to do without separate connection-tracking zones for the queries of the workload and of the sidecar:
    /// `skipConntrackZoneSplit`.
    pub skip_conntrack_zone_split: bool,
    /// Where the servers are listed: `resolvConfigPath`.
    pub resolv_conf: PathBuf,
}

/// Logging of packets that reach our rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Log {
    /// Whether packets are logged: `log.enabled`.
    pub enabled: bool,
    /// At which severity: `log.level`.
    pub level: LogLevel,
}

/// Comments on rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Comments {
    /// Whether to leave them out: `comments.disabled`.
    pub disabled: bool,
}

impl Default for Inbound {
    fn default() -> Self {
        Self {
            enabled: true,
            port: Port::constant(15006),
            include_ports: PortSet::default(),
            exclude_ports: PortSet::default(),
            exclude_ips: Vec::new(),
            insert: false,
            chains: ChainPair::kuma("INBOUND"),
        }
    }
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            enabled: true,
            port: Port::constant(15001),
            include_ports: PortSet::default(),
            include_ips: Vec::new(),
            exclude_ports: PortSet::default(),
            exclude_ports_for_uids: Vec::new(),
            exclude_ports_for_gids: Vec::new(),
            exclude_ips: Vec::new(),
            insert: false,
            chains: ChainPair::kuma("OUTBOUND"),
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            enabled: false,
            capture_all: false,
            port: Port::constant(15053),
            skip_conntrack_zone_split: false,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { enabled: false, level: LogLevel::DEBUG }
    }
}
