//! A configuration in the form that Kuma's programs read.

use std::collections::HashSet;

use crate::config::{Config, Ebpf, UidExclusion};
use crate::model::{IpFamilyMode, Note};
use crate::net::{AnyCidr, Port, PortRange, PortSet};

/// The most uids that kumactl knows.
const LAST_UID: u32 = 65_535;
/// The most ports of an exclusion, where a range is two.
const MOST_PORTS: usize = 15;

impl Config {
    /// The same configuration, as far as Kuma 3's own programs can read it: what [`to_json`](Self::to_json) and
    /// [`to_yaml`](Self::to_yaml) write of it, `kuma-dp` and `kumactl` take, and take for the same. A warning names each
    /// setting that is left out or changed because they have nothing like it.
    ///
    /// Ranges of ports are written port by port, and exclusions for uids in as many items as it takes; that is no loss.
    ///
    /// ```
    /// use kumatp::config::{Config, Format, KumaDifference};
    /// use kumatp::model::IpFamilyMode;
    ///
    /// let text = r#"{"ipFamilyMode": "required", "redirect": {"inbound": {"port": "15106", "excludePorts": "22,80-82"}}}"#;
    /// let (config, notes) = Config::parse(text, Format::Json)?.for_kuma();
    /// assert_eq!(config.redirect.inbound.exclude_ports.to_string(), "22,80,81,82");
    /// assert_eq!(config.ip_family_mode, IpFamilyMode::DualStack);
    /// assert_eq!(notes.len(), 1);
    /// assert!(KumaDifference::find(&config.to_json(), Format::Json)?.is_empty());
    /// # Ok::<(), kumatp::Error>(())
    /// ```
    pub fn for_kuma(&self) -> (Self, Vec<Note>) {
        let mut config = self.clone();
        let mut notes = Vec::new();
        let mut leave_out = |key: &str, what: String| {
            notes.push(Note::warning(key, format!("{what}: Kuma's programs have nothing like it")));
        };
        if config.ip_family_mode == IpFamilyMode::Required {
            config.ip_family_mode = IpFamilyMode::DualStack;
            leave_out("ipFamilyMode", "'required' is written as 'dualstack'".into());
        }
        let (inbound, outbound) = (&mut config.redirect.inbound, &mut config.redirect.outbound);
        for ports in [
            &mut inbound.include_ports,
            &mut inbound.exclude_ports,
            &mut outbound.include_ports,
            &mut outbound.exclude_ports,
        ] {
            *ports = one_by_one(ports);
        }
        for address in std::mem::take(&mut outbound.include_ips) {
            leave_out("redirect.outbound.includeIPs", format!("'{address}' is left out"));
        }
        for exclusion in std::mem::take(&mut outbound.exclude_ports_for_gids) {
            leave_out("redirect.outbound.excludePortsForGIDs", format!("'{exclusion}' is left out"));
        }
        for exclusion in std::mem::take(&mut outbound.exclude_ports_for_uids) {
            if exclusion.uids.last().number() > LAST_UID {
                leave_out("redirect.outbound.excludePortsForUIDs", format!("'{exclusion}' is left out"));
                continue;
            }
            let parts = exclusion.ports.split(MOST_PORTS);
            outbound.exclude_ports_for_uids.extend(parts.map(|ports| UidExclusion { ports, ..exclusion.clone() }));
        }
        for (switch, key) in [(&mut config.harden, "harden"), (&mut config.ebpf.enabled, "ebpf.enabled")] {
            if std::mem::take(switch) {
                leave_out(key, "it is left out".into());
            }
        }
        // Without the switch, the places mean nothing.
        config.ebpf = Ebpf::default();
        let mut seen = HashSet::new();
        let mut networks = std::mem::take(&mut config.redirect.vnet);
        // The last of an interface and a family is the one that kumactl uses.
        networks.reverse();
        networks.retain(|network| {
            let is_new = seen.insert((network.interface.to_string(), matches!(network.network, AnyCidr::V4(_))));
            if !is_new {
                leave_out("redirect.vnet.networks", format!("'{network}' is left out beside another of its interface"));
            }
            is_new
        });
        networks.reverse();
        config.redirect.vnet = networks;
        (config, notes)
    }
}

/// The same ports without a range.
fn one_by_one(ports: &PortSet) -> PortSet {
    if ports.ranges().iter().all(|range| range.is_single()) {
        return ports.clone();
    }
    // Merged, so that no list is longer than there are ports.
    let merged = ports.merged();
    let numbers = merged.ranges().iter().flat_map(|range| range.first().number()..=range.last().number());
    numbers.filter_map(Port::new).map(PortRange::from).collect()
}
