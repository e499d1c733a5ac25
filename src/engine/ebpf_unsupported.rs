//! What the programs of the engine ebpf cannot do.

use crate::error::Error;
use crate::model::{NeedsPackets, Plan};

/// Refuses a plan that asks for what only rules for packets can do.
///
/// # Errors
/// [`Error::Unsupported`], with the configuration key and the engines that can.
pub(super) fn refuse(plan: &Plan) -> Result<(), Error> {
    let beyond = |what| plan.sockets.beyond.contains(&what);
    let problems = [
        (
            beyond(NeedsPackets::VirtualNetworks),
            "redirect.vnet.networks",
            "packets of other machines and containers never meet a socket of this host",
            "netlink or iptables",
        ),
        (beyond(NeedsPackets::Log), "log.enabled", "there are no packets to log", "netlink or iptables"),
        (
            beyond(NeedsPackets::InvalidPackets),
            "dropInvalidPackets",
            "connections are not tracked, so no packet is found invalid",
            "netlink or iptables",
        ),
        (plan.options.store_firewalld, "storeFirewalld", "firewalld stores rules of iptables only", "iptables"),
        (
            plan.options.cni_mode,
            "cniMode",
            "the pods of a node would need an agent that knows their cgroups, which is not part of this version",
            "netlink or iptables",
        ),
    ];
    match problems.into_iter().find(|(asked, ..)| *asked) {
        None => Ok(()),
        Some((_, key, why, engines)) => Err(Error::Unsupported {
            what: format!("{key} by the engine ebpf ({why})"),
            remedy: format!("leave it out, or use the engine {engines}"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::facts::Facts;
    use crate::net::Uid;

    fn said(change: fn(&mut Config)) -> Result<(), String> {
        let mut config = Config::default();
        change(&mut config);
        let plan = crate::policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).unwrap();
        refuse(&plan).map_err(|error| error.to_string())
    }

    #[test]
    fn refusals_name_the_key_and_the_engine_that_can() {
        type Case = (fn(&mut Config), &'static str);
        let cases: [Case; 5] = [
            (|c| c.redirect.vnet = vec!["docker0:172.17.0.0/16".parse().unwrap()], "redirect.vnet.networks"),
            (|c| c.log.enabled = true, "log.enabled"),
            (|c| c.drop_invalid_packets = true, "dropInvalidPackets"),
            (|c| c.store_firewalld = true, "storeFirewalld"),
            (|c| c.cni_mode = true, "cniMode"),
        ];
        for (change, key) in cases {
            let text = said(change).unwrap_err();
            assert!(text.starts_with(key) && text.contains("iptables"), "{text}");
        }
        assert_eq!(said(|_| {}), Ok(()));
    }
}
