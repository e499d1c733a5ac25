//! The table of keys. A new key is a new row here.

use super::value::Wire;
use crate::config::Config;

/// What the names of all environment variables begin with.
pub(super) const ENV_PREFIX: &str = "KUMA_TRANSPARENT_PROXY_";

/// The flag that also switches the redirection of DNS on.
pub(super) const ALL_DNS: &str = "--redirect-all-dns-traffic";

/// A key of the configuration, and the environment variable and the flag that set it too.
///
/// ```
/// use kumatp::config::Key;
///
/// let key = Key::all().find(|key| key.path() == "redirect.dns.port").unwrap();
/// assert_eq!(key.environment().as_deref(), Some("KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_PORT"));
/// assert_eq!(key.flag(), Some("--redirect-dns-port"));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Key(&'static Row);

impl Key {
    /// Every key, in the order of the reference: those of documents, and those that only the environment or a flag
    /// can set.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(Self)
    }

    /// The path in a document, such as `redirect.dns.port`; of a key that no document can hold, a name for it.
    pub fn path(self) -> &'static str {
        self.0.path
    }

    /// Whether documents can hold the key.
    pub fn in_documents(self) -> bool {
        self.0.in_documents()
    }

    /// The environment variable, if there is one.
    pub fn environment(self) -> Option<String> {
        self.0.env.map(|suffix| format!("{ENV_PREFIX}{suffix}"))
    }

    /// The flag with its dashes, if there is one.
    pub fn flag(self) -> Option<&'static str> {
        self.0.flag
    }
}

#[derive(Debug)]
pub(in crate::config) struct Row {
    pub(in crate::config) path: &'static str,
    pub(super) env: Option<&'static str>,
    pub(super) flag: Option<&'static str>,
    show: Show,
    pub(in crate::config) field: Field,
}

/// When a written document has the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Show {
    Always,
    /// If its value is not the default.
    Changed,
    /// If any value of its group is not the default.
    GroupChanged,
    /// Never, and no document is read for it.
    Hidden,
}

/// What a key sets.
#[derive(Debug, Clone, Copy)]
pub(in crate::config) enum Field {
    /// The value that the function leads to.
    Value(fn(&mut Config) -> &mut dyn Wire),
    /// A port of the sidecar, which may be 0 where the second function finds that nothing is redirected to it.
    Port(fn(&mut Config) -> &mut dyn Wire, fn(&Config) -> bool),
    /// Nothing: a list that must be empty, for this reason.
    EmptyList(&'static str),
    /// Nothing: other programs need it for redirection by eBPF, and here it is not needed, for this reason.
    Unneeded(&'static str),
}

impl Row {
    pub(in crate::config) fn in_documents(&self) -> bool {
        self.show != Show::Hidden
    }

    /// Whether it is about redirection by eBPF, which is for hosts and single network namespaces, and not for pods.
    pub(in crate::config) fn is_of_ebpf(&self) -> bool {
        self.path.starts_with("ebpf.")
    }

    /// The value as a document has it, unless it is left out.
    pub(super) fn shown(&self, config: &mut Config, default: &mut Config) -> Option<serde_json::Value> {
        let (Field::Value(at) | Field::Port(at, _)) = self.field else { return None };
        let shown = match self.show {
            Show::Always => true,
            Show::Hidden => false,
            Show::Changed => at(config).write() != at(default).write(),
            Show::GroupChanged => {
                let group = self.path.rsplit_once('.').map_or("", |(group, _)| group);
                ROWS.iter()
                    .filter(|row| row.path.rsplit_once('.').is_some_and(|(other, _)| other == group))
                    .any(|row| matches!(row.field, Field::Value(at) if at(config).write() != at(default).write()))
            }
        };
        shown.then(|| at(config).write())
    }
}

macro_rules! rows {
    ($($path:literal $env:tt $flag:tt $show:ident $kind:ident($($of:tt)+);)+) => {
        /// Every key.
        pub(in crate::config) const ROWS: &[Row] = &[$(Row {
            path: $path,
            env: rows!(@name $env),
            flag: rows!(@name $flag),
            show: Show::$show,
            field: rows!(@field $kind $($of)+),
        }),+];
    };
    (@name -) => { None };
    (@name $name:literal) => { Some($name) };
    (@field Value $($path:ident).+) => { Field::Value(|config| &mut config.$($path).+) };
    (@field Port $($path:ident).+, $used:expr) => { Field::Port(|config| &mut config.$($path).+, $used) };
    (@field EmptyList $reason:expr) => { Field::EmptyList($reason) };
    (@field Unneeded $reason:expr) => { Field::Unneeded($reason) };
}

const NO_UIDS: &str = "no value, since the uid of the sender of an inbound packet is not known; \
                       leave the key out, or use excludePorts or excludePortsForIPs";
const NO_ADDRESS: &str = "inbound connections are found as sockets, whatever address they are for";
const NO_SOURCE: &str = "the programs are part of kumatp";
const NO_INTERFACE: &str = "inbound connections are found as sockets, whatever interface they come in by";

// Path; environment variable without its prefix; flag; when it is written; what it sets.
rows! {
    "kumaDPUser" "KUMA_DP_USER" "--kuma-dp-user" Always Value(kuma_dp_user);
    "ipFamilyMode" "IP_FAMILY_MODE" "--ip-family-mode" Always Value(ip_family_mode);

    "redirect.inbound.enabled" "REDIRECT_INBOUND_ENABLED" "--redirect-inbound" Always Value(redirect.inbound.enabled);
    "redirect.inbound.port" "REDIRECT_INBOUND_PORT" "--redirect-inbound-port" Always Port(redirect.inbound.port, inbound_used);
    "redirect.inbound.includePorts" "REDIRECT_INBOUND_INCLUDE_PORTS" - Changed Value(redirect.inbound.include_ports);
    "redirect.inbound.excludePorts" "REDIRECT_INBOUND_EXCLUDE_PORTS" "--exclude-inbound-ports" Changed Value(redirect.inbound.exclude_ports);
    "redirect.inbound.excludePortsForIPs" "REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_IPS" "--exclude-inbound-ips" Changed Value(redirect.inbound.exclude_ips);
    "redirect.inbound.excludePortsForUIDs" "REDIRECT_INBOUND_EXCLUDE_PORTS_FOR_UIDS" - Changed EmptyList(NO_UIDS);
    "redirect.inbound.insertRedirectInsteadOfAppend" "REDIRECT_INBOUND_INSERT_REDIRECT_INSTEAD_OF_APPEND" "--redirect-inbound-insert-instead-of-append" Changed Value(redirect.inbound.insert);
    "redirect.inbound.chainName" "REDIRECT_INBOUND_CHAIN_NAME" - Hidden Value(redirect.inbound.chains.decide);
    "redirect.inbound.redirectChainName" "REDIRECT_INBOUND_REDIRECT_CHAIN_NAME" - Hidden Value(redirect.inbound.chains.redirect);

    "redirect.outbound.enabled" "REDIRECT_OUTBOUND_ENABLED" - Always Value(redirect.outbound.enabled);
    "redirect.outbound.port" "REDIRECT_OUTBOUND_PORT" "--redirect-outbound-port" Always Port(redirect.outbound.port, outbound_used);
    "redirect.outbound.includePorts" "REDIRECT_OUTBOUND_INCLUDE_PORTS" - Changed Value(redirect.outbound.include_ports);
    "redirect.outbound.includeIPs" "REDIRECT_OUTBOUND_INCLUDE_IPS" "--include-outbound-ips" Changed Value(redirect.outbound.include_ips);
    "redirect.outbound.excludePorts" "REDIRECT_OUTBOUND_EXCLUDE_PORTS" "--exclude-outbound-ports" Changed Value(redirect.outbound.exclude_ports);
    "redirect.outbound.excludePortsForIPs" "REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_IPS" "--exclude-outbound-ips" Changed Value(redirect.outbound.exclude_ips);
    "redirect.outbound.excludePortsForUIDs" "REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_UIDS" "--exclude-outbound-ports-for-uids" Changed Value(redirect.outbound.exclude_ports_for_uids);
    "redirect.outbound.excludePortsForGIDs" "REDIRECT_OUTBOUND_EXCLUDE_PORTS_FOR_GIDS" "--exclude-outbound-ports-for-gids" Changed Value(redirect.outbound.exclude_ports_for_gids);
    "redirect.outbound.insertRedirectInsteadOfAppend" "REDIRECT_OUTBOUND_INSERT_REDIRECT_INSTEAD_OF_APPEND" "--redirect-outbound-insert-instead-of-append" Changed Value(redirect.outbound.insert);
    "redirect.outbound.chainName" "REDIRECT_OUTBOUND_CHAIN_NAME" - Hidden Value(redirect.outbound.chains.decide);
    "redirect.outbound.redirectChainName" "REDIRECT_OUTBOUND_REDIRECT_CHAIN_NAME" - Hidden Value(redirect.outbound.chains.redirect);

    "redirect.dns.enabled" "REDIRECT_DNS_ENABLED" "--redirect-dns" Always Value(redirect.dns.enabled);
    "redirect.dns.captureAll" "REDIRECT_DNS_CAPTURE_ALL" "--redirect-all-dns-traffic" Always Value(redirect.dns.capture_all);
    "redirect.dns.port" "REDIRECT_DNS_PORT" "--redirect-dns-port" Always Port(redirect.dns.port, dns_used);
    "redirect.dns.skipConntrackZoneSplit" "REDIRECT_DNS_SKIP_CONNTRACK_ZONE_SPLIT" "--skip-dns-conntrack-zone-split" Always Value(redirect.dns.skip_conntrack_zone_split);
    "redirect.dns.resolvConfigPath" "REDIRECT_DNS_RESOLV_CONFIG_PATH" - Always Value(redirect.dns.resolv_conf);
    "redirect.vnet.networks" "REDIRECT_VNET_NETWORKS" "--vnet" Changed Value(redirect.vnet);

    "dropInvalidPackets" "DROP_INVALID_PACKETS" "--drop-invalid-packets" Changed Value(drop_invalid_packets);
    "harden" "HARDEN" "--harden" Changed Value(harden);
    "storeFirewalld" "STORE_FIREWALLD" "--store-firewalld" Changed Value(store_firewalld);
    "verbose" "VERBOSE" "--verbose" Changed Value(verbose);
    "dryRun" "DRY_RUN" "--dry-run" Changed Value(dry_run);
    "cniMode" "CNI_MODE" - Changed Value(cni_mode);
    "log.enabled" "LOG_ENABLED" "--iptables-logs" GroupChanged Value(log.enabled);
    "log.level" "LOG_LEVEL" - GroupChanged Value(log.level);
    "wait" "WAIT" "--wait" Always Value(wait.seconds);
    "waitInterval" "WAIT_INTERVAL" "--wait-interval" Always Value(wait.interval_micros);
    "retry.maxRetries" "RETRY_MAX_RETRIES" "--max-retries" Always Value(retry.max_retries);
    "retry.sleepBetweenRetries" "RETRY_SLEEP_BETWEEN_RETRIES" "--sleep-between-retries" Always Value(retry.sleep);
    "comments.disabled" "COMMENTS_DISABLED" "--disable-comments" Changed Value(comments.disabled);

    "iptablesExecutables" "IPTABLES_EXECUTABLES" "--iptables-executables" Hidden Value(iptables_executables);
    "iptablesExecutables.iptables" - - Changed Value(iptables_executables.v4.tables);
    "iptablesExecutables.iptables-save" - - Changed Value(iptables_executables.v4.save);
    "iptablesExecutables.iptables-restore" - - Changed Value(iptables_executables.v4.restore);
    "iptablesExecutables.ip6tables" - - Changed Value(iptables_executables.v6.tables);
    "iptablesExecutables.ip6tables-save" - - Changed Value(iptables_executables.v6.save);
    "iptablesExecutables.ip6tables-restore" - - Changed Value(iptables_executables.v6.restore);

    // Of kumactl 2.9; its successors have dropped them.
    "ebpf.enabled" "EBPF_ENABLED" "--ebpf-enabled" Changed Value(ebpf.enabled);
    "ebpf.bpffsPath" "EBPF_BPFFS_PATH" "--ebpf-bpffs-path" Changed Value(ebpf.bpffs);
    "ebpf.cgroupPath" "EBPF_CGROUP_PATH" "--ebpf-cgroup-path" Changed Value(ebpf.cgroup);
    "ebpf.instanceIP" "EBPF_INSTANCE_IP" "--ebpf-instance-ip" Changed Unneeded(NO_ADDRESS);
    "ebpf.instanceIPEnvVarName" "EBPF_INSTANCE_IP_ENV_VAR_NAME" - Changed Unneeded(NO_ADDRESS);
    "ebpf.programsSourcePath" "EBPF_PROGRAMS_SOURCE_PATH" "--ebpf-programs-source-path" Changed Unneeded(NO_SOURCE);
    "ebpf.tcAttachIface" "EBPF_TC_ATTACH_IFACE" "--ebpf-tc-attach-iface" Changed Unneeded(NO_INTERFACE);
}

fn inbound_used(config: &Config) -> bool {
    config.redirect.inbound.enabled
}

/// Connections from virtual networks go to the outbound port, and their queries to the DNS port, whatever else is on.
fn outbound_used(config: &Config) -> bool {
    config.redirect.outbound.enabled || !config.redirect.vnet.is_empty()
}

fn dns_used(config: &Config) -> bool {
    config.redirect.dns.enabled || !config.redirect.vnet.is_empty()
}

/// The rows whose paths in documents begin with `group` (empty for the whole document), by the name that follows.
pub(super) fn children(group: &str) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = Vec::new();
    for row in ROWS.iter().filter(|row| row.in_documents()) {
        let rest = match group {
            "" => Some(row.path),
            group => row.path.strip_prefix(group).and_then(|rest| rest.strip_prefix('.')),
        };
        let name = rest.map(|rest| rest.split('.').next().unwrap_or(rest));
        if let Some(name) = name.filter(|name| !names.contains(name)) {
            names.push(name);
        }
    }
    names
}

/// The row of this path, if documents can hold it.
pub(super) fn in_document(path: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.in_documents() && row.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `excludePortsForUIDs` → `EXCLUDE_PORTS_FOR_UIDS`.
    fn by_the_usual_rule(path: &str) -> String {
        let mut name = String::new();
        let mut previous = '.';
        for (index, c) in path.char_indices() {
            let rest = &path[index + c.len_utf8()..];
            // The plural of an abbreviation is no word of its own.
            let next_is_lower = rest.starts_with(|c: char| c.is_ascii_lowercase()) && rest != "s";
            if c == '.' {
                name.push('_');
            } else {
                if c.is_ascii_uppercase()
                    && (previous.is_ascii_lowercase() || (previous.is_ascii_uppercase() && next_is_lower))
                {
                    name.push('_');
                }
                name.push(c.to_ascii_uppercase());
            }
            previous = c;
        }
        name
    }

    #[test]
    fn environment_names_follow_from_paths() {
        for row in ROWS {
            if let Some(env) = row.env {
                assert_eq!(env, by_the_usual_rule(row.path), "{}", row.path);
            }
        }
    }

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = ROWS.iter().flat_map(|row| [Some(row.path), row.env, row.flag]).flatten().collect();
        crate::sorted::by(&mut names, Ord::cmp);
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn no_key_of_a_document_is_also_a_group() {
        for row in ROWS.iter().filter(|row| row.in_documents()) {
            assert!(children(row.path).is_empty(), "{}", row.path);
        }
        assert_eq!(children("redirect.vnet"), ["networks"]);
        assert!(children("").contains(&"redirect") && children("redirect.").is_empty());
    }
}
