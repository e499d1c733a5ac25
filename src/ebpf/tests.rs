//! What the programs are told against what the simulator says of them: the maps are read as the programs read them (`programs/`),
//! for random plans and the packets at the edges of their rules.

use std::net::IpAddr;

use arbtest::arbtest;

use super::map_contents::MapContents;
use super::table::{
    Address, NETWORK_DNS_SERVER, NETWORK_INBOUND_EXCLUDED, NETWORK_LOCAL, NETWORK_OUTBOUND_EXCLUDED,
    NETWORK_OUTBOUND_INCLUDED, NetworkKey, OWNER_GROUP, OWNER_USER, OwnerKey, OwnerPortKey, SETTING_DNS_ALL,
    SETTING_GROUPS, SETTING_INBOUND, SETTING_NETWORKS_INCLUDED, SETTING_OUTBOUND, SETTING_USERS, SETTING_V4,
    SETTING_V4_DNS, SETTING_V4_DNS_OVER_TCP_PASSES, SETTING_V6, SETTING_V6_DNS, SETTING_V6_DNS_OVER_TCP_PASSES,
};
use crate::model::EngineName;
use crate::net::{Family, FamilyName, Port, Protocol};
use crate::simulate::{AnyPacket, Direction, IpProtocol, Packet, Simulator, Tracking, Verdict};
use crate::{generate, policy};

const LOOPBACK: &str = "lo";

/// The maps, as programs ask them.
struct Told(MapContents);

impl Told {
    fn has(&self, flag: u32) -> bool {
        self.0.settings.flags & flag != 0
    }

    fn network(&self, address: IpAddr) -> u32 {
        let bits = match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        };
        let of_prefix = |prefix: u32| {
            let bits = bits & u128::MAX.checked_shl(128 - prefix).unwrap_or(0);
            let key = NetworkKey { prefix_bits: prefix, address: Address::of(bits) };
            self.0.networks.get(key.to_bytes().as_slice())
        };
        // What the longest prefix has.
        (0..=128).rev().find_map(of_prefix).map_or(0, |value| number(value))
    }

    fn is_excluded(&self, kind: u32, id: u32, protocol: Protocol, port: u16) -> bool {
        let class = (0..=32).rev().find_map(|length: u32| {
            let id = id & u32::MAX.checked_shl(32 - length).unwrap_or(0);
            self.0.owners.get(OwnerKey { prefix_bits: 32 + length, kind, id: id.to_be() }.to_bytes().as_slice())
        });
        class.is_some_and(|class| {
            (0..=16).any(|length: u32| {
                let port = port & u16::MAX.checked_shl(16 - length).unwrap_or(0);
                let (class, protocol) = (number(class), protocol.number().into());
                let key = OwnerPortKey { prefix_bits: 48 + length, class, protocol, port: port.to_be() };
                self.0.owner_ports.contains_key(key.to_bytes().as_slice())
            })
        })
    }

    fn has_port(&self, blocks: impl Fn(&super::table::PortBlock) -> u64, port: u16) -> bool {
        blocks(&self.0.settings.ports[usize::from(port / 64)]) >> (port % 64) & 1 == 1
    }

    /// Where a socket of this host is sent instead, as `outbound.h` decides; none if it goes where it wants to.
    fn outbound<F: Family>(&self, packet: &Packet<F>, protocol: Protocol, to_this_host: bool) -> Option<u16> {
        let settings = &self.0.settings;
        let v6 = F::NAME == FamilyName::V6;
        let by_family = |v4, flag_v6| if v6 { flag_v6 } else { v4 };
        let (to, port) = (Into::<IpAddr>::into(packet.destination), packet.destination_port.number());
        let socket = packet.socket?;
        let excluded = |flag, kind, id| self.has(flag) && self.is_excluded(kind, id, protocol, port);
        let network = self.network(to) | if to_this_host { NETWORK_LOCAL } else { 0 };
        if !self.has(by_family(SETTING_V4, SETTING_V6))
            || excluded(SETTING_USERS, OWNER_USER, socket.uid.number())
            || excluded(SETTING_GROUPS, OWNER_GROUP, socket.gid.number())
            || network & NETWORK_OUTBOUND_EXCLUDED != 0
        {
            return None;
        }
        let by_sidecar = socket.uid.number() == settings.sidecar_uid;
        let to_dns = port == Port::DNS.number() && !by_sidecar;
        if protocol == Protocol::Udp {
            let asked = self.has(SETTING_DNS_ALL) || network & NETWORK_DNS_SERVER != 0;
            return (to_dns && self.has(by_family(SETTING_V4_DNS, SETTING_V6_DNS)) && asked)
                .then_some(settings.dns_port);
        }
        if to_dns && self.has(by_family(SETTING_V4_DNS_OVER_TCP_PASSES, SETTING_V6_DNS_OVER_TCP_PASSES))
            || !self.has(SETTING_OUTBOUND)
            || self.has_port(|block| block.outbound_excluded, port)
        {
            return None;
        }
        if network & NETWORK_LOCAL != 0 {
            let localhost = to.is_unspecified() || to == F::localhost().addr().into();
            let passed_through = packet.source == F::passthrough().addr();
            return (by_sidecar && !localhost && !passed_through).then_some(settings.inbound_port);
        }
        let included = !self.has(SETTING_NETWORKS_INCLUDED) || network & NETWORK_OUTBOUND_INCLUDED != 0;
        (!by_sidecar && included && self.has_port(|block| block.outbound_included, port))
            .then_some(settings.outbound_port)
    }

    /// Which listener a connection from elsewhere gets, as `sk_lookup.c` decides; none if that of its port.
    fn inbound<F: Family>(&self, packet: &Packet<F>) -> Option<u16> {
        let v6 = F::NAME == FamilyName::V6;
        let redirected = self.has(SETTING_INBOUND)
            && self.has_port(|block| block.inbound_redirected, packet.destination_port.number())
            && self.has(if v6 { SETTING_V6 } else { SETTING_V4 })
            && self.network(packet.source.into()) & (NETWORK_LOCAL | NETWORK_INBOUND_EXCLUDED) == 0;
        redirected.then_some(self.0.settings.inbound_port)
    }
}

fn number(value: &[u8]) -> u32 {
    u32::from_ne_bytes(value.try_into().expect("values have four bytes"))
}

/// What the maps say of the first packet of a connection or a query; none where no program is asked.
fn by_maps<F: Family>(told: &Told, packet: &Packet<F>) -> Option<Verdict> {
    let protocol = match packet.protocol {
        IpProtocol::Tcp => Protocol::Tcp,
        IpProtocol::Udp => Protocol::Udp,
        IpProtocol::Other(_) => return None,
    };
    let port = match (packet.direction, protocol) {
        (Direction::Outbound, _) => {
            packet.socket?;
            let to_this_host = packet.out_interface.as_ref().is_some_and(|interface| interface.as_str() == LOOPBACK);
            told.outbound(packet, protocol, to_this_host)
        }
        // The simulator tells what this host sends to itself by interfaces and addresses alike, and the listener's own port is not
        // followed.
        (Direction::Inbound, Protocol::Tcp) => {
            let (from, to): (IpAddr, IpAddr) = (packet.source.into(), packet.destination.into());
            let of_this_host = |address: IpAddr| told.network(address) & NETWORK_LOCAL != 0 || address.is_unspecified();
            let by_loopback = packet.in_interface.as_ref().is_some_and(|interface| interface.as_str() == LOOPBACK);
            let to_listener = packet.destination_port.number() == told.0.settings.inbound_port;
            if by_loopback || to_listener || from == to || of_this_host(from) || of_this_host(to) {
                return None;
            }
            told.inbound(packet)
        }
        _ => return None,
    };
    Some(match port {
        Some(port) => Verdict::Redirected { port: Port::new(port).expect("a listener has a port") },
        None => Verdict::Delivered,
    })
}

#[test]
fn the_maps_say_what_the_simulator_says() {
    let (mut redirected, mut delivered, mut queries) = (0, 0, 0);
    for seed in 0..16_u64 {
        let size = 2_000 + seed * 1_000;
        let property = |u: &mut arbitrary::Unstructured<'_>| {
            let (mut config, mut facts) = (generate::config(u)?, generate::facts(u)?);
            // The engine refuses these.
            config.redirect.vnet.clear();
            facts.loopback = LOOPBACK.parse().unwrap();
            let Ok(plan) = policy::plan(&config, &facts) else { return Ok(()) };
            let told = Told(MapContents::of(&plan.sockets, &[]));
            let simulator = Simulator::of(&plan, EngineName::Ebpf);
            for packet in simulator.edges() {
                let maps = match &packet {
                    AnyPacket::V4(packet) if packet.tracking == Tracking::New => by_maps(&told, packet),
                    AnyPacket::V6(packet) if packet.tracking == Tracking::New => by_maps(&told, packet),
                    _ => None,
                };
                let Some(maps) = maps else { continue };
                assert_eq!(maps, simulator.run(&packet).verdict, "{packet}\n{:#?}\n{config:?}", plan.sockets);
                match maps {
                    Verdict::Redirected { port } if port == config.redirect.dns.port => queries += 1,
                    Verdict::Redirected { .. } => redirected += 1,
                    _ => delivered += 1,
                }
            }
            Ok(())
        };
        arbtest(property).seed(seed << u32::BITS | size).run();
    }
    assert!(redirected > 100 && delivered > 100 && queries > 10, "{redirected}, {delivered}, {queries}");
}
