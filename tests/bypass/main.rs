//! Ways past the redirection, tried with real packets: what a neighbour can send that no ordinary client would, and what becomes of
//! connections whose entries in connection tracking are lost, borrowed or older than the rules. Judged by the listeners, and by a
//! capture of all that leaves the host.
//!
//! The same packets reach the application, and leave the host, where there are no rules; so each test can fail. It takes root, since
//! servers and clients of several users are needed.
#![cfg(all(feature = "host", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]

mod before;
mod borrowed;
mod cases;
#[expect(dead_code, reason = "it is for the other tests, too")]
#[path = "../ebpf/common.rs"]
mod common;
mod conntrack;
mod first;
mod lab;
mod link;
mod lost;
#[cfg_attr(not(feature = "ebpf"), expect(dead_code, reason = "it is for programs"))]
#[path = "../common/netns.rs"]
mod netns;
mod pair;
#[cfg(feature = "ebpf")]
#[path = "../ebpf/place.rs"]
mod place;
mod places;
mod range;
mod segment;

use common::world::Backend;
use lab::Rules;

macro_rules! matrix {
    ($($module:ident: $rules:expr;)*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn first_packets() {
                first::packets($rules);
            }

            #[test]
            fn lost_entries() {
                lost::entries($rules);
            }

            #[test]
            fn lost_entries_that_do_not_come_back() {
                lost::entries_that_do_not_come_back($rules);
            }

            #[test]
            fn borrowed_tuples() {
                borrowed::tuples($rules);
            }

            #[test]
            fn borrowed_tuples_of_queries() {
                borrowed::queries($rules);
            }

            #[test]
            fn entries_from_before() {
                before::entries($rules);
            }

            #[test]
            fn interfaces() {
                places::interfaces($rules);
            }

            #[test]
            fn an_interface_without_an_address() {
                places::no_address($rules);
            }

            #[test]
            fn connections_that_a_helper_expects() {
                places::expected_by_a_helper($rules);
            }
        }
    )*};
}

matrix! {
    iptables_nft: Rules::of(Backend::IptablesNft);
    iptables_nft_hardened: Rules::hardened(Backend::IptablesNft);
    iptables_legacy: Rules::of(Backend::IptablesLegacy);
    iptables_legacy_hardened: Rules::hardened(Backend::IptablesLegacy);
    nft_script: Rules::of(Backend::NftScript);
    netlink: Rules::of(Backend::Netlink);
}

#[test]
fn the_hole_is_found() {
    first::the_hole_is_found();
}

/// Programs do not translate, so there is nothing to borrow or lose: only what a peer begins with.
#[cfg(feature = "ebpf")]
#[test]
fn first_packets_and_programs() {
    netns::isolated(|| {
        let Some(_place) = place::Place::new() else { return };
        first::packets(Rules::of(Backend::Ebpf));
    });
}
