//! Real connections steered by the programs of the eBPF engine: in network namespaces, a cgroup and a bpffs of their own.
//! Each test is a process, since a process is in one cgroup.
#![cfg(all(feature = "ebpf", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

#[cfg(feature = "capi")]
mod c_abi;
#[path = "../traffic/cases.rs"]
#[expect(dead_code, reason = "some of them are about rules")]
mod cases;
#[path = "../traffic/check.rs"]
#[expect(dead_code, reason = "it is about rules, too")]
mod check;
mod clients;
#[expect(dead_code, reason = "it is for the other engines, too")]
mod common;
mod faults;
mod ground;
mod intruder;
mod life;
mod listeners;
mod load;
#[path = "../common/netns.rs"]
mod netns;
mod objects;
mod place;
mod sidecar;
mod sockets;
mod source;
mod traps;

use common::world::Backend;
use objects::Objects;
use place::Place;

/// The cases of the other engines, as far as they are not about packets that meet no socket, or rules of others.
macro_rules! matrix {
    ($($case:ident)*) => {$(
        #[test]
        fn $case() {
            netns::isolated(|| {
                let Some(_place) = Place::new() else { return };
                let before = Objects::count();
                check::run(Backend::Ebpf, cases::$case());
                assert_eq!(Objects::count(), before, "something is left after the removal");
            });
        }
    )*};
}

matrix! {
    defaults
    dns_to_any_server
    dns_to_named_servers
    inbound_exclusions
    outbound_exclusions
    excluded_users_and_groups
    included_ports
    included_destinations
    included_destinations_and_ports
    gateway
    outbound_disabled
    inserted_with_dns
}

#[test]
fn ipv4_only() {
    netns::isolated(|| {
        let Some(_place) = Place::new() else { return };
        for case in cases::ipv4_only() {
            check::run(Backend::Ebpf, case);
        }
    });
}
