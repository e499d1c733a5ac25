//! Real connections through the rules, in network namespaces of their own: who answers, and what the server knows of the client
//! and of where it wanted to go. The expected outcomes are Kuma's documented behaviour, written by hand.
//!
//! It takes root, since clients and servers of several users are needed.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "../common/mod.rs"]
mod common;

mod cases;
mod check;
mod invalid;
mod live;
mod names;

use common::world::Backend;

/// The same matrix for every backend.
macro_rules! matrix {
    ($($module:ident: $backend:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn defaults() {
                check::run($backend, cases::defaults());
            }

            #[test]
            fn ipv4_only() {
                for case in cases::ipv4_only() {
                    check::run($backend, case);
                }
            }

            #[test]
            fn logs_and_no_comments() {
                check::run($backend, cases::logs_and_no_comments());
            }

            #[test]
            fn dns_to_any_server() {
                check::run($backend, cases::dns_to_any_server());
            }

            #[test]
            fn dns_to_named_servers() {
                check::run($backend, cases::dns_to_named_servers());
            }

            #[test]
            fn dns_behind_a_firewall() {
                for case in cases::dns_behind_a_firewall() {
                    check::run($backend, case);
                }
            }

            #[test]
            fn dns_without_zones() {
                check::run($backend, cases::dns_without_zones());
            }

            #[test]
            fn dns_of_docker() {
                check::run($backend, cases::dns_of_docker());
            }

            #[test]
            fn dns_to_any_server_beside_docker() {
                check::run($backend, cases::dns_to_any_server_beside_docker());
            }

            #[test]
            fn inbound_exclusions() {
                check::run($backend, cases::inbound_exclusions());
            }

            #[test]
            fn outbound_exclusions() {
                check::run($backend, cases::outbound_exclusions());
            }

            #[test]
            fn excluded_users_and_groups() {
                check::run($backend, cases::excluded_users_and_groups());
            }

            #[test]
            fn included_ports() {
                check::run($backend, cases::included_ports());
            }

            #[test]
            fn included_destinations() {
                check::run($backend, cases::included_destinations());
            }

            #[test]
            fn included_destinations_and_ports() {
                check::run($backend, cases::included_destinations_and_ports());
            }

            #[test]
            fn gateway() {
                check::run($backend, cases::gateway());
            }

            #[test]
            fn outbound_disabled() {
                check::run($backend, cases::outbound_disabled());
            }

            #[test]
            fn virtual_network() {
                check::run($backend, cases::virtual_network());
            }

            #[test]
            fn virtual_networks_of_one_interface_with_dns() {
                check::run($backend, cases::virtual_networks_of_one_interface_with_dns());
            }

            #[test]
            fn virtual_network_with_named_servers() {
                check::run($backend, cases::virtual_network_with_named_servers());
            }

            #[test]
            fn appended_behind_foreign_rules() {
                check::run($backend, cases::appended_behind_foreign_rules());
            }

            #[test]
            fn inserted_before_foreign_rules() {
                check::run($backend, cases::inserted_before_foreign_rules());
            }

            #[test]
            fn inserted_with_dns() {
                check::run($backend, cases::inserted_with_dns());
            }

            #[test]
            fn invalid_packets() {
                invalid::run($backend);
            }

            #[test]
            fn names_of_the_mesh() {
                names::run($backend);
            }

            #[test]
            fn processes_of_users() {
                live::processes_of_users($backend);
            }

            #[test]
            fn connections_survive_a_replacement() {
                live::connections_survive_a_replacement($backend);
            }

            #[test]
            fn nothing_is_left_after_removal() {
                live::nothing_is_left_after_removal($backend);
            }

            #[test]
            fn connections_from_before() {
                live::connections_from_before($backend);
            }
        }
    )*};
}

/// What only native rules promise.
macro_rules! native {
    ($($module:ident: $backend:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn appended_behind_later_rules() {
                check::run($backend, cases::appended_behind_foreign_rules().with_late_and_legacy_rules());
            }

            #[test]
            fn inserted_before_later_rules() {
                check::run($backend, cases::inserted_before_foreign_rules().with_late_and_legacy_rules());
            }

            #[test]
            fn dns_of_a_later_docker() {
                check::run($backend, cases::dns_of_docker().with_late_and_legacy_rules());
            }

            #[test]
            fn no_connection_slips_through_a_replacement() {
                live::no_connection_slips_through_a_replacement($backend);
            }
        }
    )*};
}

matrix! {
    iptables_nft: Backend::IptablesNft;
    iptables_legacy: Backend::IptablesLegacy;
    nft_script: Backend::NftScript;
    netlink: Backend::Netlink;
}

native! {
    nft_script_only: Backend::NftScript;
    netlink_only: Backend::Netlink;
}
