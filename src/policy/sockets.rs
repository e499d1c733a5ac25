//! How programs steer sockets, in place of rules for packets.
//!
//! It is the policy of the chains OUTPUT, KUMA_MESH_OUTBOUND and KUMA_MESH_INBOUND (see `nat`), once for a socket instead of for
//! each packet. A socket has a family when it is used, so the lists are of both.

use crate::config::{Config, Dns};
use crate::facts::Facts;
use crate::model::{
    DnsServers, DnsSockets, Listeners, NeedsPackets, Owner, OwnerExclusion, RedirectedPorts, SocketPlan,
};
use crate::net::PortSet;

/// What steers sockets, of which those of IPv6 only with `ipv6`.
pub(super) fn plan(config: &Config, facts: &Facts, ipv6: bool) -> SocketPlan {
    let redirect = &config.redirect;
    let (inbound, outbound, dns) = (&redirect.inbound, &redirect.outbound, &redirect.dns);
    let users = outbound.exclude_ports_for_uids.iter().map(|one| OwnerExclusion {
        owner: Owner::Uid(one.uids),
        protocols: one.protocols.clone(),
        ports: one.ports.clone(),
    });
    let groups = outbound.exclude_ports_for_gids.iter().map(|one| OwnerExclusion {
        owner: Owner::Gid(one.gids),
        protocols: one.protocols.clone(),
        ports: one.ports.clone(),
    });
    SocketPlan {
        ipv6,
        sidecar: facts.sidecar_uid,
        listeners: Listeners { inbound: inbound.port, outbound: outbound.port, dns: dns.port },
        excluded_owners: users.chain(groups).collect(),
        excluded_destinations: outbound.exclude_ips.clone(),
        dns: dns.enabled.then(|| DnsSockets {
            servers: servers(dns, facts),
            // With the inserted jump, the rule that lets DNS over TCP pass comes too late, so it does not here either.
            tcp_passes: !outbound.insert,
        }),
        outbound: outbound.enabled.then(|| ports(&outbound.include_ports, &outbound.exclude_ports)),
        included_destinations: outbound.include_ips.clone(),
        excluded_sources: inbound.exclude_ips.clone(),
        inbound: inbound.enabled.then(|| ports(&inbound.include_ports, &inbound.exclude_ports)),
        beyond: beyond(config),
    }
}

fn servers(dns: &Dns, facts: &Facts) -> DnsServers {
    match dns.capture_all {
        true => DnsServers::All,
        // Without the servers, there is no plan.
        false => {
            let known = facts.resolvers.iter().flat_map(|resolvers| &resolvers.servers);
            DnsServers::These(known.map(|server| server.addr).collect())
        }
    }
}

/// What is to be included leaves what is to be excluded without effect.
fn ports(include: &PortSet, exclude: &PortSet) -> RedirectedPorts {
    match include.is_empty() {
        true => RedirectedPorts::AllBut(exclude.clone()),
        false => RedirectedPorts::Only(include.clone()),
    }
}

fn beyond(config: &Config) -> Vec<NeedsPackets> {
    let asked = [
        (!config.redirect.vnet.is_empty(), NeedsPackets::VirtualNetworks),
        (config.log.enabled, NeedsPackets::Log),
        (config.drop_invalid_packets, NeedsPackets::InvalidPackets),
    ];
    asked.into_iter().filter(|(asked, _)| *asked).map(|(_, what)| what).collect()
}
