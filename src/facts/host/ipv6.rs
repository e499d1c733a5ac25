//! Which IPv6 addresses a host has, and what that comes to.

use std::io::ErrorKind;
use std::net::Ipv6Addr;
use std::path::Path;

use crate::facts::Ipv6;
use crate::files;
use crate::model::Note;
use crate::net::{Family, V6};
use crate::netlink::{Interfaces, Kernel};

/// Where the kernel lists the IPv6 addresses of the network namespace of the calling thread.
/// `/proc/net` would show those of the process's first thread.
const IF_INET6: &str = "/proc/thread-self/net/if_inet6";

impl Ipv6 {
    /// What it comes to for an engine: one that cannot make rules for IPv6, and why, or one that makes them only where there is an
    /// address.
    pub(super) fn by_engine(self, refused: Option<(String, String)>, only_with_address: bool) -> Self {
        match (self, refused) {
            (Self::Usable, Some((reason, remedy))) => Self::Refused { reason, remedy },
            (found @ (Self::LinkLocal | Self::Unaddressed), Some((reason, _))) => {
                Self::Unusable { reason: format!("{}, and {reason}", found.lacking()) }
            }
            (Self::Unaddressed, None) if only_with_address => {
                Self::Unusable { reason: Self::Unaddressed.lacking().to_owned() }
            }
            (found, _) => found,
        }
    }

    /// What is open by the addresses of this host where there are no rules for IPv6, as text.
    pub(crate) fn left_open(&self) -> Option<&'static str> {
        match self {
            Self::Usable | Self::Refused { .. } => {
                Some("this host has IPv6 addresses, and connections by them go past the sidecar")
            }
            Self::LinkLocal => {
                Some("neighbours on the link reach this host by its link-local IPv6 addresses, past the sidecar")
            }
            Self::Unaddressed | Self::Unusable { .. } => None,
        }
    }
}

/// Looks at the network namespace of the calling thread.
pub(crate) fn look(kernel: &mut Kernel, remarks: &mut Vec<Note>) -> Ipv6 {
    // What has not been seen there is asked for where it is told apart from what there is not.
    if let Ok(Interfaces { addresses: Ok(addresses), has_ipv6: true, .. }) = kernel.interfaces() {
        return of_addresses(addresses.iter().map(|address| address.addr));
    }
    match files::read_short(Path::new(IF_INET6)) {
        Ok(list) => of_list(&list),
        Err(error) if error.kind() == ErrorKind::NotFound && Path::new("/proc/thread-self/net/dev").exists() => {
            Ipv6::Unusable { reason: "the kernel has no IPv6, or it is switched off there".into() }
        }
        Err(error) => {
            remarks.push(Note::info(
                "ipv6",
                format!("IPv6 is taken to be usable, as {IF_INET6} cannot be read: {}", error.kind()),
            ));
            Ipv6::Usable
        }
    }
}

/// What a list of addresses, as the kernel writes it, comes to.
fn of_list(list: &str) -> Ipv6 {
    let number = |line: &str| u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok();
    of_addresses(list.lines().filter_map(number).map(Ipv6Addr::from))
}

/// What addresses come to.
fn of_addresses(addresses: impl Iterator<Item = Ipv6Addr>) -> Ipv6 {
    // The last one is what an installation itself adds.
    let others = addresses.filter(|addr| !addr.is_loopback() && *addr != V6::passthrough().addr());
    others.fold(Ipv6::Unaddressed, |found, addr| match (found, addr.is_unicast_link_local()) {
        (_, false) | (Ipv6::Usable, _) => Ipv6::Usable,
        (_, true) => Ipv6::LinkLocal,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_addresses_come_to() {
        let lo = "00000000000000000000000000000001 01 80 10 80       lo\n";
        let ours = "00000000000000000000000000000006 01 80 00 80       lo\n";
        let link_local = "fe8000000000000042010afffe000001 02 40 20 80     eth0\n";
        let global = "fd770000000000000000000000000001 02 40 00 80     eth0\n";
        assert_eq!(of_list(""), Ipv6::Unaddressed);
        assert_eq!(of_list("garbage\n\n"), Ipv6::Unaddressed);
        assert_eq!(of_list(&format!("{lo}{ours}")), Ipv6::Unaddressed);
        assert_eq!(of_list(&format!("{lo}{ours}{link_local}")), Ipv6::LinkLocal);
        assert_eq!(of_list(&format!("{lo}{global}")), Ipv6::Usable);
        assert_eq!(of_list(&format!("{global}{link_local}")), Ipv6::Usable);
    }

    #[test]
    fn what_an_engine_makes_of_it() {
        let refusal = || Some(("the kernel cannot".to_owned(), "load it".to_owned()));
        for found in [Ipv6::Usable, Ipv6::LinkLocal, Ipv6::Unaddressed] {
            assert_eq!(found.clone().by_engine(None, false), found);
        }
        assert_eq!(Ipv6::LinkLocal.by_engine(None, true), Ipv6::LinkLocal);
        assert!(
            matches!(Ipv6::Unaddressed.by_engine(None, true), Ipv6::Unusable { reason } if reason.contains("but loopback"))
        );
        // A refusal is an error only where hosts beyond the link could come by.
        assert!(
            matches!(Ipv6::Usable.by_engine(refusal(), false), Ipv6::Refused { remedy, .. } if remedy == "load it")
        );
        for found in [Ipv6::LinkLocal, Ipv6::Unaddressed] {
            assert!(
                matches!(found.by_engine(refusal(), false), Ipv6::Unusable { reason } if reason.contains("the kernel cannot"))
            );
        }
        let none = Ipv6::Unusable { reason: "no IPv6".into() };
        assert_eq!(none.clone().by_engine(refusal(), true), none);
    }
}
