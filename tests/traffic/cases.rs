//! The configurations, and what Kuma's documentation and the meaning of their keys lead to.

use std::net::{IpAddr, SocketAddr};

use kumatp::Config;
use kumatp::facts::Resolvers;
use kumatp::model::IpFamilyMode;
use kumatp::net::FamilyName;

use Expect::{Direct, Dns, Inbound, Outbound, Refused, Silence, Translated};
use Place::{
    Bridge, BridgeSecond, LocalResolver, Localhost, Machine, OtherResolver, Outside, OutsideSecond, Own, OwnSecond,
    Passthrough, PrefixBeyond, PrefixLast, Resolver,
};
use Who::{App, Gid, Remote, Sidecar, Uid, Vm};

use crate::check::{Case, Check, Expect, Foreign, Who, tcp, udp};
use crate::common::world::Place;

/// Everything inbound and outbound by TCP, and nothing else.
pub(crate) fn defaults() -> Case {
    Case::new(Config::default(), defaults_checks())
}

fn defaults_checks() -> Vec<Check> {
    vec![
        // Inbound.
        tcp(Remote, Own, 8080, Inbound),
        tcp(Remote, OwnSecond, 8080, Inbound),
        tcp(Remote, Own, 7777, Inbound), // nobody serves there
        tcp(Remote, Own, 53, Inbound),
        tcp(Remote, Own, 15001, Inbound),
        tcp(Remote, Own, 15006, Inbound),
        // The answer goes to a port of the number of the listener's.
        tcp(Remote, Own, 8080, Inbound).by_port(15006),
        tcp(Remote, OwnSecond, 8080, Inbound).by_port(15001),
        tcp(Vm, Bridge, 8080, Inbound),
        tcp(Vm, Outside, 9000, Inbound).by_programs(Direct), // also what is only passing, as long as it is no virtual network
        udp(Remote, Own, 9000, Direct),
        udp(Remote, Own, 53, Direct),
        // Outbound.
        tcp(App, Outside, 9000, Outbound),
        tcp(App, Outside, 7777, Outbound), // nobody serves there
        tcp(App, Outside, 9000, Outbound).from(OwnSecond),
        tcp(App, PrefixLast, 9000, Outbound),
        tcp(App, Machine, 9000, Outbound),
        tcp(App, Resolver, 53, Outbound),
        tcp(Uid(0), Outside, 9000, Outbound),
        tcp(Uid(5677), Outside, 9000, Outbound),
        tcp(Uid(5679), Outside, 9000, Outbound),
        tcp(Gid(5678), Outside, 9000, Outbound),
        udp(App, Outside, 9000, Direct),
        udp(App, Resolver, 53, Direct),
        udp(Vm, Resolver, 53, Direct),
        // The workload and itself.
        tcp(App, Own, 8080, Direct),
        tcp(App, OwnSecond, 8080, Direct),
        tcp(App, Localhost, 8080, Direct),
        tcp(App, Passthrough, 8080, Direct),
        tcp(App, Localhost, 7777, Refused),
        udp(App, Localhost, 9000, Direct),
        // The sidecar.
        tcp(Sidecar, Outside, 9000, Direct),
        tcp(Sidecar, Outside, 7777, Refused),
        tcp(Sidecar, Machine, 9000, Refused),
        tcp(Sidecar, Localhost, 8080, Direct),
        tcp(Sidecar, Own, 8080, Direct).from(Passthrough),
        tcp(Sidecar, Localhost, 8080, Direct).from(Passthrough),
        // To an address of this host: the call is for this very workload, so it is inbound.
        tcp(Sidecar, Own, 8080, Inbound),
        tcp(Sidecar, Own, 7777, Inbound),
        tcp(Sidecar, Passthrough, 8080, Inbound).from(Localhost),
        udp(Sidecar, Resolver, 53, Direct),
    ]
}

/// IPv4 only: IPv6 is as if nothing was installed.
pub(crate) fn ipv4_only() -> [Case; 2] {
    let mut config = Config::default();
    config.ip_family_mode = IpFamilyMode::Ipv4;
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    let mut four = Case::new(config.clone(), dns_to_any_server_checks());
    four.families = &[FamilyName::V4];
    let mut six = Case::new(
        config,
        [
            tcp(Remote, Own, 8080, Direct),
            tcp(App, Outside, 9000, Direct),
            tcp(Sidecar, Own, 8080, Direct),
            udp(App, Resolver, 53, Direct),
        ],
    );
    six.families = &[FamilyName::V6];
    [four, six]
}

/// Neither logs nor missing comments change what rules do.
pub(crate) fn logs_and_no_comments() -> Case {
    let mut config = Config::default();
    config.log.enabled = true;
    config.comments.disabled = true;
    config.verbose = true;
    config.drop_invalid_packets = true;
    Case::new(config, defaults_checks())
}

/// Queries of the workload to any server go to the sidecar.
pub(crate) fn dns_to_any_server() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    Case::new(config, dns_to_any_server_checks()).and([
        // The workload and the sidecar ask the same server from the same port, in either order.
        udp(App, Resolver, 53, Dns).by_port(30000),
        udp(Sidecar, Resolver, 53, Direct).by_port(30000),
        udp(App, Resolver, 53, Dns).by_port(30000),
        udp(Sidecar, OtherResolver, 53, Direct).by_port(30001),
        udp(App, OtherResolver, 53, Dns).by_port(30001),
        udp(Sidecar, OtherResolver, 53, Direct).by_port(30001),
        udp(App, LocalResolver, 53, Dns).by_port(30002),
        udp(Sidecar, LocalResolver, 53, Direct).by_port(30002),
    ])
}

fn dns_to_any_server_checks() -> Vec<Check> {
    vec![
        udp(App, Resolver, 53, Dns),
        udp(App, OtherResolver, 53, Dns),
        udp(App, LocalResolver, 53, Dns),
        udp(App, Own, 53, Dns),
        udp(Uid(0), Resolver, 53, Dns),
        udp(Uid(5679), Resolver, 53, Dns),
        udp(Sidecar, Resolver, 53, Direct),
        udp(Sidecar, LocalResolver, 53, Direct),
        // The sidecar's listener speaks UDP only.
        tcp(App, Resolver, 53, Direct),
        tcp(Sidecar, Resolver, 53, Direct),
        tcp(Sidecar, Own, 53, Inbound),
        tcp(App, Localhost, 53, Direct),
        tcp(App, Own, 53, Direct),
        // What is not a query of the workload.
        udp(App, Outside, 9000, Direct),
        udp(Remote, Own, 53, Direct),
        udp(Vm, Resolver, 53, Direct),
        tcp(App, Outside, 9000, Outbound),
        tcp(Remote, Own, 8080, Inbound),
        tcp(Remote, Own, 53, Inbound),
    ]
}

/// Queries to the servers of resolv.conf go to the sidecar, those to others do not.
pub(crate) fn dns_to_named_servers() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    let mut case = Case::new(
        config,
        [
            udp(App, Resolver, 53, Dns),
            udp(App, LocalResolver, 53, Dns),
            udp(App, OtherResolver, 53, Direct),
            udp(App, Own, 53, Direct),
            udp(Sidecar, Resolver, 53, Direct),
            udp(Sidecar, LocalResolver, 53, Direct),
            udp(Sidecar, OtherResolver, 53, Direct),
            tcp(App, Resolver, 53, Direct),
            tcp(App, OtherResolver, 53, Direct),
            udp(App, Resolver, 9000, Direct),
            udp(Vm, Resolver, 53, Direct),
            tcp(App, Outside, 9000, Outbound),
            tcp(Remote, Own, 8080, Inbound),
            // The same server from the same port.
            udp(App, Resolver, 53, Dns).by_port(30000),
            udp(Sidecar, Resolver, 53, Direct).by_port(30000),
            udp(App, Resolver, 53, Dns).by_port(30000),
            udp(Sidecar, LocalResolver, 53, Direct).by_port(30001),
            udp(App, LocalResolver, 53, Dns).by_port(30001),
            udp(Sidecar, LocalResolver, 53, Direct).by_port(30001),
        ],
    );
    let servers = [Resolver, LocalResolver].into_iter().flat_map(|place| FamilyName::ALL.map(|f| place.addr(f)));
    case.facts.resolvers = Some(Resolvers::new(servers));
    case
}

/// A firewall that lets in only what belongs to a connection.
fn firewall(_: FamilyName) -> String {
    "*filter\n-A INPUT -i eth0 -p udp -m conntrack ! --ctstate ESTABLISHED -j DROP\nCOMMIT\n".to_owned()
}

/// The sidecar's queries and their answers are one connection, or such a firewall would drop the answers: in its zone
/// too, queries and answers are tracked together.
pub(crate) fn dns_behind_a_firewall() -> [Case; 2] {
    let mut cases = [dns_to_any_server(), dns_to_named_servers()];
    for case in &mut cases {
        case.foreign = Some(Foreign::before(firewall));
        case.checks = vec![
            udp(Sidecar, Resolver, 53, Direct),
            udp(Sidecar, Resolver, 53, Direct).by_port(30000),
            udp(App, Resolver, 53, Dns).by_port(30000),
            udp(App, Outside, 9000, Direct),
            udp(Remote, Own, 9000, Silence), // the firewall is there
        ];
    }
    cases
}

/// What the zones are for: without them, the sidecar's query is taken for the workload's, and meets the sidecar.
pub(crate) fn dns_without_zones() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.dns.skip_conntrack_zone_split = true;
    Case::new(config, dns_to_any_server_checks()).and([
        udp(App, Resolver, 53, Dns).by_port(30000),
        udp(Sidecar, Resolver, 53, Dns).by_port(30000),
        udp(Sidecar, Resolver, 53, Direct).by_port(30001),
    ])
}

/// Docker's embedded DNS server: queries to port 53 of it are translated to the port that it serves.
fn docker(_: FamilyName) -> String {
    "*nat\n:DOCKER_OUTPUT - [0:0]\n-A OUTPUT -d 127.0.0.11/32 -j DOCKER_OUTPUT\n\
     -A DOCKER_OUTPUT -d 127.0.0.11/32 -p udp --dport 53 -j DNAT --to-destination 127.0.0.11:45353\nCOMMIT\n"
        .to_owned()
}

/// The sidecar asks Docker's server through Docker's own rules.
pub(crate) fn dns_of_docker() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    let mut case = Case::new(
        config,
        [
            udp(App, LocalResolver, 53, Dns),
            udp(Sidecar, LocalResolver, 53, Translated(LocalResolver, 45353)),
            udp(App, LocalResolver, 53, Dns).by_port(30000),
            udp(Sidecar, LocalResolver, 53, Translated(LocalResolver, 45353)).by_port(30000),
            udp(App, LocalResolver, 53, Dns).by_port(30000),
            udp(App, Resolver, 53, Direct),
            tcp(App, LocalResolver, 53, Direct),
            tcp(App, Outside, 9000, Outbound),
        ],
    );
    case.facts.resolvers = Some(Resolvers::new([LocalResolver.addr(FamilyName::V4)]));
    case.facts.v4.docker_output = true;
    case.foreign = Some(Foreign::before(docker));
    case.families = &[FamilyName::V4];
    case
}

/// With Docker's server and queries to any server, there are no zones.
pub(crate) fn dns_to_any_server_beside_docker() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    let mut case = Case::new(
        config,
        [
            udp(App, LocalResolver, 53, Dns),
            udp(App, Resolver, 53, Dns),
            udp(Sidecar, LocalResolver, 53, Translated(LocalResolver, 45353)),
            // In iptables as kumactl has it, a query that Docker's chain leaves alone comes back and meets the rule for
            // the workload's queries, so the sidecar is asked by itself. Native rules have let it pass by then.
            udp(Sidecar, Resolver, 53, Dns).natively(Direct),
            tcp(App, Resolver, 53, Direct),
        ],
    );
    case.facts.v4.docker_output = true;
    case.foreign = Some(Foreign::before(docker));
    case.families = &[FamilyName::V4];
    case
}

/// Ports of the workload, and clients, that do without the sidecar.
pub(crate) fn inbound_exclusions() -> Case {
    let mut config = Config::default();
    config.redirect.inbound.exclude_ports = "22,8081-8082".parse().expect("ports");
    config.redirect.inbound.exclude_ips =
        both(OutsideSecond).iter().map(|addr| addr.to_string().parse().expect("an address")).collect();
    Case::new(
        config,
        [
            tcp(Remote, Own, 22, Direct),
            tcp(Remote, Own, 8080, Inbound),
            tcp(Remote, Own, 8081, Direct),
            tcp(Remote, Own, 8082, Direct),
            tcp(Remote, Own, 8083, Inbound),
            tcp(Remote, OwnSecond, 22, Direct),
            tcp(Remote, Own, 8080, Direct).from(OutsideSecond),
            tcp(Remote, Own, 7777, Refused).from(OutsideSecond),
            tcp(Remote, Own, 8080, Inbound).from(Outside),
            tcp(App, Outside, 22, Outbound),
            tcp(App, OutsideSecond, 8081, Outbound),
            // What the sidecar sends to its own host goes to the listener without looking at exclusions.
            tcp(Sidecar, Own, 22, Inbound),
        ],
    )
}

/// Ports and destinations that the workload reaches without the sidecar.
pub(crate) fn outbound_exclusions() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    config.redirect.outbound.exclude_ports = "22,9001-9002".parse().expect("ports");
    let hosts = [OutsideSecond, OtherResolver].into_iter().flat_map(both).map(|addr| addr.to_string());
    config.redirect.outbound.exclude_ips = hosts
        .chain(Place::PREFIXES.map(str::to_owned))
        .map(|text| text.parse().expect("an address or a prefix"))
        .collect();
    Case::new(
        config,
        [
            tcp(App, Outside, 22, Direct),
            tcp(App, Outside, 9000, Outbound),
            tcp(App, Outside, 9001, Direct),
            tcp(App, Outside, 9002, Direct),
            tcp(App, Outside, 9003, Outbound),
            tcp(App, OutsideSecond, 9000, Direct),
            tcp(App, OutsideSecond, 7777, Refused),
            tcp(App, PrefixLast, 9000, Direct),
            tcp(App, PrefixBeyond, 9000, Outbound),
            udp(App, OutsideSecond, 9000, Direct),
            // An excluded destination is no server whose queries are redirected.
            udp(App, OtherResolver, 53, Direct),
            udp(App, PrefixLast, 53, Direct),
            udp(App, Resolver, 53, Dns),
            udp(App, PrefixBeyond, 53, Dns),
            tcp(Remote, Own, 22, Inbound),
            tcp(Remote, Own, 9001, Inbound),
            tcp(Remote, Own, 8080, Inbound).from(OutsideSecond),
            // Excluded ports come before what the sidecar sends to its own host.
            tcp(Sidecar, Own, 9000, Inbound),
            tcp(Sidecar, Own, 9001, Direct),
            tcp(Sidecar, Outside, 9000, Direct),
        ],
    )
}

/// Users and groups that reach some ports without the sidecar; the edges of ranges.
pub(crate) fn excluded_users_and_groups() -> Case {
    let mut config = Config::default();
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    let many: Vec<String> = (7000..7020).map(|port| (port * 2).to_string()).collect();
    config.redirect.outbound.exclude_ports_for_uids = vec![
        "tcp:9000-9001:106-108".parse().expect("an exclusion"),
        "udp:53:1053".parse().expect("an exclusion"),
        "9003:4000000000".parse().expect("an exclusion"),
        // More than iptables takes in one rule.
        format!("tcp:{},9002:1100", many.join(",")).parse().expect("an exclusion"),
        "1200".parse().expect("an exclusion"),
    ];
    config.redirect.outbound.exclude_ports_for_gids = vec!["tcp:9000:3000-3001".parse().expect("an exclusion")];
    Case::new(
        config,
        [
            tcp(Uid(105), Outside, 9000, Outbound),
            tcp(Uid(106), Outside, 9000, Direct),
            tcp(Uid(107), Outside, 9001, Direct),
            tcp(Uid(108), Outside, 9000, Direct),
            tcp(Uid(109), Outside, 9000, Outbound),
            tcp(Uid(107), Outside, 9002, Outbound),
            tcp(Uid(107), Outside, 7777, Outbound),
            udp(Uid(107), Resolver, 53, Dns),
            udp(Uid(1053), Resolver, 53, Direct),
            udp(Uid(1054), Resolver, 53, Dns),
            tcp(Uid(1053), Outside, 9000, Outbound),
            tcp(Uid(4_000_000_000), Outside, 9003, Direct),
            tcp(Uid(4_000_000_001), Outside, 9003, Outbound),
            tcp(Uid(1100), Outside, 14000, Refused),
            tcp(Uid(1100), Outside, 14038, Refused),
            tcp(Uid(1100), Outside, 14001, Outbound),
            tcp(Uid(1100), Outside, 9002, Direct),
            tcp(Uid(1200), Outside, 9000, Direct),
            tcp(Uid(1200), Outside, 22, Direct),
            udp(Uid(1200), Resolver, 53, Direct),
            tcp(Gid(2999), Outside, 9000, Outbound),
            tcp(Gid(3000), Outside, 9000, Direct),
            tcp(Gid(3001), Outside, 9000, Direct),
            tcp(Gid(3002), Outside, 9000, Outbound),
            tcp(Gid(3000), Outside, 9001, Outbound),
            tcp(App, Outside, 9000, Outbound),
            tcp(Sidecar, Outside, 9000, Direct),
        ],
    )
}

/// Only named ports, which leaves excluded ones without effect.
pub(crate) fn included_ports() -> Case {
    let mut config = Config::default();
    config.redirect.inbound.include_ports = "8080,9000-9001".parse().expect("ports");
    config.redirect.inbound.exclude_ports = "8080".parse().expect("ports");
    config.redirect.outbound.include_ports = "9000,9002".parse().expect("ports");
    config.redirect.outbound.exclude_ports = "9000".parse().expect("ports");
    Case::new(
        config,
        [
            tcp(Remote, Own, 8080, Inbound),
            tcp(Remote, Own, 8081, Direct),
            tcp(Remote, Own, 9000, Inbound),
            tcp(Remote, Own, 9001, Inbound),
            tcp(Remote, Own, 9002, Direct),
            tcp(App, Outside, 9000, Outbound),
            tcp(App, Outside, 9001, Direct),
            tcp(App, Outside, 9002, Outbound),
            tcp(App, Outside, 7777, Refused),
            tcp(App, Own, 9000, Direct),
            tcp(App, Localhost, 9000, Direct),
            tcp(Sidecar, Outside, 9000, Direct),
            tcp(Sidecar, Own, 8081, Inbound),
            tcp(Sidecar, Own, 8080, Direct).from(Passthrough),
        ],
    )
}

/// Only named destinations.
pub(crate) fn included_destinations() -> Case {
    let mut config = Config::default();
    config.redirect.outbound.include_ips = included();
    config.redirect.outbound.exclude_ports = "9001".parse().expect("ports");
    Case::new(
        config,
        [
            tcp(App, OutsideSecond, 9000, Outbound),
            tcp(App, OutsideSecond, 9001, Direct),
            tcp(App, Outside, 9000, Direct),
            tcp(App, PrefixLast, 9000, Outbound),
            tcp(App, PrefixBeyond, 9000, Direct),
            udp(App, OutsideSecond, 9000, Direct),
            tcp(App, Own, 8080, Direct),
            tcp(Sidecar, OutsideSecond, 9000, Direct),
            tcp(Sidecar, Own, 8080, Inbound),
            tcp(Remote, Own, 8080, Inbound),
        ],
    )
}

/// Only named ports at named destinations.
pub(crate) fn included_destinations_and_ports() -> Case {
    let mut config = Config::default();
    config.redirect.outbound.include_ips = included();
    config.redirect.outbound.include_ports = "9000,9002-9003".parse().expect("ports");
    Case::new(
        config,
        [
            tcp(App, OutsideSecond, 9000, Outbound),
            tcp(App, OutsideSecond, 9001, Direct),
            tcp(App, OutsideSecond, 9003, Outbound),
            tcp(App, Outside, 9000, Direct),
            tcp(App, PrefixLast, 9002, Outbound),
            tcp(App, PrefixLast, 9001, Direct),
            tcp(App, PrefixBeyond, 9002, Direct),
            tcp(Sidecar, OutsideSecond, 9000, Direct),
        ],
    )
}

fn included() -> Vec<kumatp::net::AnyCidr> {
    both(OutsideSecond)
        .iter()
        .map(IpAddr::to_string)
        .chain(Place::PREFIXES.map(str::to_owned))
        .map(|text| text.parse().expect("an address or a prefix"))
        .collect()
}

/// A gateway serves its own clients: nothing inbound is redirected.
pub(crate) fn gateway() -> Case {
    let mut config = Config::default();
    config.redirect.inbound.enabled = false;
    Case::new(
        config,
        [
            tcp(Remote, Own, 8080, Direct),
            tcp(Remote, Own, 7777, Refused),
            tcp(App, Outside, 9000, Outbound),
            tcp(App, Own, 8080, Direct),
            tcp(Sidecar, Outside, 9000, Direct),
            // Still to the listener, whose rule is not part of the inbound decision.
            tcp(Sidecar, Own, 8080, Inbound),
        ],
    )
}

/// Nothing outbound is redirected.
pub(crate) fn outbound_disabled() -> Case {
    let mut config = Config::default();
    config.redirect.outbound.enabled = false;
    Case::new(
        config,
        [
            tcp(Remote, Own, 8080, Inbound),
            tcp(App, Outside, 9000, Direct),
            tcp(App, Own, 8080, Direct),
            tcp(Sidecar, Outside, 9000, Direct),
            tcp(Sidecar, Own, 8080, Direct),
        ],
    )
}

/// What leaves a virtual network is outbound, what stays in it is for this host and so inbound. Its queries go to the
/// sidecar even where those of the workload do not.
pub(crate) fn virtual_network() -> Case {
    let mut config = Config::default();
    config.redirect.vnet = networks("br+", 1);
    Case::new(
        config,
        [
            tcp(Vm, Outside, 9000, Outbound),
            tcp(Vm, Outside, 7777, Outbound),
            tcp(Vm, Own, 8080, Outbound),
            tcp(Vm, Bridge, 8080, Inbound),
            tcp(Vm, BridgeSecond, 8080, Outbound), // that network is not named
            udp(Vm, Outside, 9000, Direct),
            udp(Vm, Bridge, 9000, Direct),
            udp(Vm, Resolver, 53, Dns),
            udp(Vm, OtherResolver, 53, Dns),
            udp(Vm, Bridge, 53, Dns),
            udp(Remote, Own, 53, Direct),
            udp(App, Resolver, 53, Direct),
            tcp(Remote, Own, 8080, Inbound),
            tcp(App, Machine, 9000, Outbound),
            tcp(App, Outside, 9000, Outbound),
            tcp(Sidecar, Outside, 9000, Direct),
        ],
    )
}

/// Two networks on one interface; and the one intended difference in DNS: kumactl's rules put the sidecar's answer into
/// another zone than the machine's query, so that it is not translated back and the machine hears nothing.
pub(crate) fn virtual_networks_of_one_interface_with_dns() -> Case {
    let mut config = Config::default();
    config.redirect.vnet = networks("br0", 2);
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    Case::new(
        config,
        [
            tcp(Vm, Outside, 9000, Outbound),
            tcp(Vm, Own, 8080, Outbound),
            tcp(Vm, Bridge, 8080, Inbound),
            tcp(Vm, BridgeSecond, 8080, Inbound),
            tcp(Vm, Bridge, 8080, Inbound).from(Machine),
            udp(Vm, Outside, 9000, Direct),
            udp(Vm, Resolver, 53, Silence).natively(Dns),
            udp(Vm, Bridge, 53, Silence).natively(Dns),
            udp(App, Resolver, 53, Dns),
            udp(Sidecar, Resolver, 53, Direct),
            tcp(App, Resolver, 53, Direct),
            tcp(Remote, Own, 8080, Inbound),
            tcp(App, Outside, 9000, Outbound),
        ],
    )
}

/// The same with servers of resolv.conf: any query of the machine is the sidecar's, whatever server it names.
pub(crate) fn virtual_network_with_named_servers() -> Case {
    let mut config = Config::default();
    config.redirect.vnet = networks("br+", 1);
    config.redirect.dns.enabled = true;
    let mut case = Case::new(
        config,
        [
            udp(Vm, Resolver, 53, Silence).natively(Dns),
            udp(Vm, OtherResolver, 53, Silence).natively(Dns),
            udp(App, Resolver, 53, Dns),
            udp(App, OtherResolver, 53, Direct),
            udp(Sidecar, Resolver, 53, Direct),
            tcp(Vm, Outside, 9000, Outbound),
        ],
    );
    case.facts.resolvers = Some(Resolvers::new(both(Resolver)));
    case
}

/// Somebody else's address translation, as kube-proxy makes it: for ports 9100 and 9002 outbound, 8100 inbound. Ports
/// 9003 outbound and 8082 inbound they leave alone explicitly.
fn foreign(family: FamilyName) -> String {
    let target = SocketAddr::new(OutsideSecond.addr(family), 9000);
    let own = SocketAddr::new(Own.addr(family), 8080);
    format!(
        "*nat\n\
         -A OUTPUT -p tcp --dport 9100 -j DNAT --to-destination {target}\n\
         -A OUTPUT -p tcp --dport 9002 -j DNAT --to-destination {target}\n\
         -A OUTPUT -p tcp --dport 9003 -j ACCEPT\n\
         -A PREROUTING -p tcp --dport 8100 -j DNAT --to-destination {own}\n\
         -A PREROUTING -p tcp --dport 8082 -j ACCEPT\n\
         COMMIT\n"
    )
}

/// Appended rules come after those of others.
pub(crate) fn appended_behind_foreign_rules() -> Case {
    let mut config = Config::default();
    config.redirect.outbound.exclude_ips =
        both(Resolver).iter().map(|addr| addr.to_string().parse().expect("an address")).collect();
    let mut case = Case::new(
        config,
        [
            tcp(App, Outside, 9000, Outbound),
            tcp(App, Outside, 9100, Translated(OutsideSecond, 9000)),
            tcp(Sidecar, Outside, 9100, Translated(OutsideSecond, 9000)),
            tcp(Remote, Own, 8100, Translated(Own, 8080)),
            tcp(Remote, Own, 8080, Inbound),
            // A verdict of somebody else's ends one table of iptables, but not ours.
            tcp(App, Outside, 9003, Direct).natively(Outbound),
            tcp(Remote, Own, 8082, Direct).natively(Inbound),
            // An exclusion at the top of iptables' chain also skips the rules of others, ours does not.
            tcp(App, Resolver, 9002, Direct).natively(Translated(OutsideSecond, 9000)),
            tcp(App, Resolver, 9000, Direct),
        ],
    );
    case.foreign = Some(Foreign::before(foreign));
    case
}

/// Inserted rules come before those of others.
pub(crate) fn inserted_before_foreign_rules() -> Case {
    let mut config = Config::default();
    config.redirect.inbound.insert = true;
    config.redirect.outbound.insert = true;
    let mut case = Case::new(
        config,
        [
            tcp(App, Outside, 9000, Outbound),
            tcp(App, Outside, 9100, Outbound),
            tcp(App, Outside, 9003, Outbound),
            // What ours leave alone is then for the others.
            tcp(Sidecar, Outside, 9100, Translated(OutsideSecond, 9000)),
            tcp(Sidecar, Outside, 9000, Direct),
            tcp(Remote, Own, 8100, Inbound),
            tcp(Remote, Own, 8082, Inbound),
            tcp(Remote, Own, 8080, Inbound),
        ],
    );
    case.foreign = Some(Foreign::before(foreign));
    case
}

/// An inserted jump comes before the appended rule that lets DNS over TCP pass.
pub(crate) fn inserted_with_dns() -> Case {
    let mut config = Config::default();
    config.redirect.outbound.insert = true;
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
    Case::new(
        config,
        [
            tcp(App, Resolver, 53, Outbound),
            tcp(Sidecar, Resolver, 53, Direct),
            tcp(App, Localhost, 53, Direct),
            udp(App, Resolver, 53, Dns),
            udp(Sidecar, Resolver, 53, Direct),
            tcp(App, Outside, 9000, Outbound),
            tcp(Remote, Own, 8080, Inbound),
        ],
    )
}

/// The machine's networks behind an interface: its first, or both.
fn networks(interface: &str, count: usize) -> Vec<kumatp::config::VirtualNetwork> {
    Place::NETWORKS[..count]
        .iter()
        .flatten()
        .map(|network| format!("{interface}:{network}").parse().expect("a virtual network"))
        .collect()
}

fn both(place: Place) -> [IpAddr; 2] {
    FamilyName::ALL.map(|family| place.addr(family))
}
