//! Packets from the edges of every constant of a configuration: the value, one below, one above, within, beyond.
//!
//! They come from and go to a host whose interfaces and addresses are fixed: [`INTERFACES`].

use std::collections::BTreeSet;
use std::net::IpAddr;

use arbitrary::{Result, Unstructured};
use kumatp::config::Config;
use kumatp::facts::Facts;
use kumatp::net::{AnyCidr, Cidr, Family, Gid, InterfaceName, Port, PortRange, PortSet, Protocol, Uid, V4, V6};
use kumatp::simulate::{AnyPacket, IpProtocol, Packet, Tracking};

/// An interface of the host.
pub(crate) struct Interface {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its addresses; the first of a family is the primary one.
    pub(crate) addrs: &'static [&'static str],
    /// What is reached by it.
    pub(crate) networks: &'static [&'static str],
}

/// The interfaces of the host. Their names are such that patterns match some of them.
pub(crate) const INTERFACES: [Interface; 5] = [
    Interface { name: "lo", addrs: &["127.0.0.1", "127.0.0.6", "::1", "::6"], networks: &["127.0.0.0/8"] },
    Interface {
        name: "eth0",
        addrs: &["10.77.0.1", "10.77.0.11", "fd77::1", "fd77::11"],
        networks: &["0.0.0.0/0", "::/0"],
    },
    Interface { name: "br0", addrs: &["172.20.0.1", "fd20::1"], networks: &["172.20.0.0/16", "fd20::/64"] },
    Interface { name: "br-1", addrs: &["172.21.0.1", "fd21::1"], networks: &["172.21.0.0/16", "fd21::/64"] },
    Interface { name: "docker0", addrs: &["172.17.0.1", "fd17::1"], networks: &["172.17.0.0/16", "fd17::/64"] },
];

impl Interface {
    /// The one with this name.
    pub(crate) fn named(name: &str) -> &'static Self {
        INTERFACES.iter().find(|interface| interface.name == name).expect("the host has it")
    }

    /// The one that the host sends to this address by.
    pub(crate) fn towards(addr: IpAddr) -> &'static Self {
        if is_own(addr) {
            return &INTERFACES[0];
        }
        let reaches = |interface: &&Self| interface.networks.iter().any(|network| within(network, addr));
        INTERFACES[2..].iter().find(reaches).unwrap_or(&INTERFACES[1])
    }

    fn of_family<F: Family>(&self) -> impl Iterator<Item = F::Addr> {
        self.addrs.iter().filter_map(|addr| F::from_ip(addr.parse().expect("a literal address is valid")))
    }
}

/// Whether it is an address of the host itself.
pub(crate) fn is_own(addr: IpAddr) -> bool {
    let own = |text: &&str| text.parse::<IpAddr>().is_ok_and(|own| own == addr);
    addr.is_loopback() || INTERFACES.iter().any(|interface| interface.addrs.iter().any(own))
}

fn within(network: &str, addr: IpAddr) -> bool {
    fn contains<F: Family>(cidr: &Cidr<F>, addr: IpAddr) -> bool {
        F::from_ip(addr).is_some_and(|addr| cidr.contains(addr))
    }
    match network.parse().expect("a literal network is valid") {
        AnyCidr::V4(cidr) => contains(&cidr, addr),
        AnyCidr::V6(cidr) => contains(&cidr, addr),
    }
}

/// Packets for a configuration and facts, of both families. The same bytes give the same packets.
pub(crate) fn packets(
    config: &Config,
    facts: &Facts,
    u: &mut Unstructured<'_>,
    count: usize,
) -> Result<Vec<AnyPacket>> {
    let edges = Edges::of(config, facts);
    (0..count).map(|_| edges.packet(u)).collect()
}

/// The edges of the constants of a configuration and facts.
pub(crate) struct Edges {
    sidecar: Uid,
    ports: Vec<Port>,
    /// Source ports that rules tell from others.
    source_ports: Vec<Port>,
    uids: Vec<Uid>,
    gids: Vec<Gid>,
    v4: Vec<Vec<<V4 as Family>::Addr>>,
    v6: Vec<Vec<<V6 as Family>::Addr>>,
    exclusions: Vec<Exclusion>,
}

/// What one owner exclusion is for, so that packets meet several of its conditions.
struct Exclusion {
    protocols: Vec<Protocol>,
    ports: Vec<Port>,
    uids: Vec<Uid>,
    gids: Vec<Gid>,
}

impl Edges {
    /// Those of this configuration and these facts.
    pub(crate) fn of(config: &Config, facts: &Facts) -> Self {
        let (inbound, outbound) = (&config.redirect.inbound, &config.redirect.outbound);
        let dns = config.redirect.dns.port;
        let listeners = [inbound.port, outbound.port, dns, Port::DNS];
        let listed = [&inbound.include_ports, &inbound.exclude_ports, &outbound.include_ports, &outbound.exclude_ports];
        let mut ports: Vec<Port> =
            listeners.into_iter().flat_map(|port| around_ports(&PortRange::from(port).into())).collect();
        ports.extend(listed.into_iter().flat_map(around_ports));
        let by_uids = outbound.exclude_ports_for_uids.iter().map(|exclusion| Exclusion {
            protocols: exclusion.protocols.clone(),
            ports: around_ports(&exclusion.ports),
            uids: around_uids(exclusion.uids.first(), exclusion.uids.last()),
            gids: Vec::new(),
        });
        let by_gids = outbound.exclude_ports_for_gids.iter().map(|exclusion| Exclusion {
            protocols: exclusion.protocols.clone(),
            ports: around_ports(&exclusion.ports),
            uids: Vec::new(),
            gids: around_gids(exclusion.gids.first(), exclusion.gids.last()),
        });
        let sidecar = facts.sidecar_uid;
        let mut uids = around_uids(sidecar, sidecar);
        uids.extend(["0", "1000"].map(|uid| uid.parse::<Uid>().expect("a literal uid is valid")));
        // The number of the sidecar's user is nothing special for a group.
        let gids = uids.iter().filter_map(|uid| Gid::new(uid.number())).collect();
        Self {
            sidecar,
            ports,
            source_ports: [dns, Port::DNS]
                .into_iter()
                .flat_map(|port| around_ports(&PortRange::from(port).into()))
                .collect(),
            uids,
            gids,
            v4: addresses::<V4>(config, facts),
            v6: addresses::<V6>(config, facts),
            exclusions: by_uids.chain(by_gids).collect(),
        }
    }

    /// A packet of either family.
    pub(crate) fn packet(&self, u: &mut Unstructured<'_>) -> Result<AnyPacket> {
        Ok(match u.arbitrary()? {
            true => self.of_family::<V4>(&self.v4, u)?.into(),
            false => self.of_family::<V6>(&self.v6, u)?.into(),
        })
    }

    fn of_family<F: Family>(&self, addrs: &[Vec<F::Addr>], u: &mut Unstructured<'_>) -> Result<Packet<F>>
    where
        Packet<F>: Into<AnyPacket>,
    {
        let source_port = match u.ratio(1, 3)? {
            true => *u.choose(&self.source_ports)?,
            // From this one, packets come that care for no port.
            false => Port::new(49152).expect("a port"),
        };
        let protocol = self.protocol::<F>(u)?;
        let port = self.port(protocol, u)?;
        let mut packet = match u.int_in_range(0..=3)? {
            0 | 1 => self.outbound::<F>(protocol, port, addrs, u)?,
            2 => {
                let interface = u.choose(&INTERFACES[1..])?;
                Packet::inbound(protocol, own::<F>(&INTERFACES[1..], u)?, port).on(name(interface))
            }
            _ => {
                let interface = u.choose(&INTERFACES[1..])?;
                let destination = address::<F>(addrs, u)?;
                match is_own(destination.into()) {
                    true => Packet::inbound(protocol, destination, port).on(name(interface)),
                    false => Packet::forwarded(protocol, destination, port, name(interface))
                        .out(name(Interface::towards(destination.into()))),
                }
            }
        };
        if packet.in_interface.is_some() {
            packet.source = address::<F>(addrs, u)?;
        }
        packet.source_port = source_port;
        packet.tracking = match (packet.protocol, u.int_in_range(0..=9)?) {
            (IpProtocol::Tcp, 0) => Tracking::Invalid,
            (IpProtocol::Tcp, 1) => Tracking::MidStream,
            _ => Tracking::New,
        };
        Ok(packet)
    }

    fn protocol<F: Family>(&self, u: &mut Unstructured<'_>) -> Result<IpProtocol> {
        Ok(match u.int_in_range(0..=15)? {
            0..=8 => IpProtocol::Tcp,
            9..=14 => IpProtocol::Udp,
            _ if u.arbitrary()? => IpProtocol::Other(if F::BITS == 32 { 1 } else { 58 }),
            // For experiments (RFC 3692).
            _ => IpProtocol::Other(253),
        })
    }

    fn port(&self, protocol: IpProtocol, u: &mut Unstructured<'_>) -> Result<Port> {
        // Most rules for UDP are for DNS.
        let dns = if protocol == IpProtocol::Udp { u.arbitrary()? } else { false };
        Ok(match (dns, u.ratio(1, 8)?) {
            (true, _) => Port::DNS,
            (_, true) => any_port(u)?,
            _ => *u.choose(&self.ports)?,
        })
    }

    fn outbound<F: Family>(
        &self,
        protocol: IpProtocol,
        port: Port,
        addrs: &[Vec<F::Addr>],
        u: &mut Unstructured<'_>,
    ) -> Result<Packet<F>> {
        let destination = if u.ratio(1, 6)? { own::<F>(&INTERFACES, u)? } else { address::<F>(addrs, u)? };
        // From a loopback address, the kernel lets nothing go elsewhere.
        let interfaces = if is_own(destination.into()) { &INTERFACES[..] } else { &INTERFACES[1..] };
        let mut packet = Packet::<F>::outbound(protocol, destination, port).from(own::<F>(interfaces, u)?, port);
        packet.out_interface = Some(name(Interface::towards(destination.into())));
        let (mut uid, mut gid) = match u.ratio(1, 6)? {
            true => (self.sidecar, *u.choose(&self.gids)?),
            false => (*u.choose(&self.uids)?, *u.choose(&self.gids)?),
        };
        if !self.exclusions.is_empty() && u.arbitrary()? {
            let exclusion = u.choose(&self.exclusions)?;
            if !exclusion.uids.is_empty() {
                uid = *u.choose(&exclusion.uids)?;
            }
            if !exclusion.gids.is_empty() {
                gid = *u.choose(&exclusion.gids)?;
            }
            if u.ratio(3, 4)? {
                packet.protocol = (*u.choose(&exclusion.protocols)?).into();
                let is_dns = packet.protocol == IpProtocol::Udp && u.arbitrary()?;
                packet.destination_port = if is_dns { Port::DNS } else { *u.choose(&exclusion.ports)? };
            }
        }
        Ok(packet.by(uid, gid))
    }
}

/// The edges of every prefix and address of a family, by constant.
fn addresses<F: Family>(config: &Config, facts: &Facts) -> Vec<Vec<F::Addr>> {
    let redirect = &config.redirect;
    let (inbound, outbound) = (&redirect.inbound, &redirect.outbound);
    let lists = [&inbound.exclude_ips, &outbound.include_ips, &outbound.exclude_ips];
    let networks = redirect.vnet.iter().map(|network| &network.network);
    let constants = lists.into_iter().flatten().chain(networks).filter_map(|cidr| F::pick(cidr).cloned());
    let servers = facts.resolvers.iter().flat_map(|resolvers| resolvers.of::<F>()).map(Cidr::host);
    let always = [F::localhost(), F::passthrough()];
    let mut addrs: Vec<_> = constants.chain(servers).chain(always).map(|cidr| around_prefix(&cidr)).collect();
    let hosts =
        ["10.77.0.2", "172.17.0.2", "172.20.0.2", "203.0.113.9", "fd77::2", "fd17::2", "fd20::2", "2001:db8::9"];
    let hosts: Vec<_> =
        hosts.iter().filter_map(|addr| F::from_ip(addr.parse().expect("a literal address is valid"))).collect();
    // As often as all that was named above.
    let ordinary = vec![hosts; addrs.len()];
    addrs.extend(ordinary);
    addrs
}

fn address<F: Family>(addrs: &[Vec<F::Addr>], u: &mut Unstructured<'_>) -> Result<F::Addr> {
    // Each constant counts the same.
    let edges = u.choose(addrs)?;
    Ok(*u.choose(edges)?)
}

fn own<F: Family>(interfaces: &[Interface], u: &mut Unstructured<'_>) -> Result<F::Addr> {
    let all: Vec<F::Addr> = interfaces.iter().flat_map(Interface::of_family::<F>).collect();
    Ok(*u.choose(&all)?)
}

fn name(interface: &Interface) -> InterfaceName {
    interface.name.parse().expect("a literal name is valid")
}

fn any_port(u: &mut Unstructured<'_>) -> Result<Port> {
    Ok(Port::new(u.int_in_range(1..=u16::MAX)?).expect("it is not 0"))
}

/// First, last, one below, one above, and one in the middle; each once.
fn around(first: u128, last: u128) -> BTreeSet<u128> {
    let beyond = [first.checked_sub(1), last.checked_add(1)];
    [first, first + (last - first) / 2, last].into_iter().chain(beyond.into_iter().flatten()).collect()
}

fn around_ports(ports: &PortSet) -> Vec<Port> {
    let numbers = |range: &PortRange| around(range.first().number().into(), range.last().number().into());
    ports.ranges().iter().flat_map(numbers).filter_map(|number| Port::new(u16::try_from(number).ok()?)).collect()
}

fn around_uids(first: Uid, last: Uid) -> Vec<Uid> {
    let id = |number| Uid::new(u32::try_from(number).ok()?);
    around(first.number().into(), last.number().into()).into_iter().filter_map(id).collect()
}

fn around_gids(first: Gid, last: Gid) -> Vec<Gid> {
    let id = |number| Gid::new(u32::try_from(number).ok()?);
    around(first.number().into(), last.number().into()).into_iter().filter_map(id).collect()
}

fn around_prefix<F: Family>(cidr: &Cidr<F>) -> Vec<F::Addr> {
    let top = u128::MAX >> (128 - u32::from(F::BITS));
    around(F::to_bits(cidr.first()), F::to_bits(cidr.last()))
        .into_iter()
        .filter(|bits| *bits <= top)
        .map(F::from_bits)
        .collect()
}
