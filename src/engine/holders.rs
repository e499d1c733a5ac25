//! Who needs `::6` on the loopback interface: whatever installation has rules for IPv6, of any engine. An engine that takes away what
//! it has installed leaves the address where another one's is in force.

#[cfg(all(feature = "host", target_os = "linux"))]
use crate::model::{EngineName, Note, Options};
#[cfg(all(feature = "host", target_os = "linux"))]
use crate::net::FamilyName;
#[cfg(all(feature = "host", target_os = "linux"))]
use crate::netlink::{Kernel, Socket, Stop};

/// What an installation for IPv6 is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// Tables of our own.
    Tables,
    /// Tables of iptables-nft.
    IptablesNft,
    /// Tables of iptables-legacy.
    IptablesLegacy,
    /// eBPF programs.
    Programs,
}

impl Holder {
    pub(super) const ALL: &[Self] = &[Self::Tables, Self::IptablesNft, Self::IptablesLegacy, Self::Programs];

    /// What an uninstallation by an engine alone removes, if it can.
    pub(super) fn removed_by(engine: EngineName) -> &'static [Self] {
        match engine {
            EngineName::Netlink => &[Self::Tables, Self::IptablesNft],
            EngineName::Iptables => &[Self::IptablesNft, Self::IptablesLegacy],
            EngineName::Ebpf => &[Self::Programs],
        }
    }

    fn engine(self) -> EngineName {
        match self {
            Self::Tables => EngineName::Netlink,
            Self::IptablesNft | Self::IptablesLegacy => EngineName::Iptables,
            Self::Programs => EngineName::Ebpf,
        }
    }

    /// That the address stays for it.
    pub(super) fn keeps(self) -> Note {
        Note::info(ABOUT, format!("{STAYS}: what the engine {} has installed needs it", self.engine()))
    }
}

/// What a note on this is about.
pub(super) const ABOUT: &str = "loopback";

const STAYS: &str = "::6/128 stays on the loopback interface";

/// Why the address has to stay in the network namespace of the calling thread; none if nothing needs it. What is `gone`, or will be, is
/// not looked at. What cannot be looked at may be there.
#[cfg(all(feature = "host", target_os = "linux"))]
pub(super) fn look(kernel: &mut Kernel, config: &Options, gone: &[Holder]) -> Option<Note> {
    let mut unknown = Vec::new();
    for holder in Holder::ALL.iter().filter(|holder| !gone.contains(holder)) {
        match is_there(*holder, kernel, config) {
            Ok(true) => return Some(holder.keeps()),
            Ok(false) => {}
            Err(why) => unknown.push(why),
        }
    }
    let why = unknown.first()?;
    Some(Note::warning(ABOUT, format!("{STAYS}, as what may be installed besides may need it: {why}")))
}

#[cfg(all(feature = "host", target_os = "linux"))]
fn is_there(holder: Holder, kernel: &mut Kernel, config: &Options) -> Result<bool, String> {
    let of_v6 = |families: &[FamilyName]| families.contains(&FamilyName::V6);
    match holder {
        Holder::Tables | Holder::IptablesNft => {
            match kernel.netfilter().and_then(Socket::look_for_removal) {
                Ok((tables, ..)) if holder == Holder::Tables => Ok(of_v6(&tables.ours)),
                Ok((_, leftovers, _)) => Ok(of_v6(&leftovers.families())),
                // There is nothing in what the kernel does not have.
                Err(Stop::Missing) => Ok(false),
                Err(stop) => Err(crate::error::Error::from(stop).to_string()),
            }
        }
        Holder::IptablesLegacy => kernel
            .legacy
            .has_installation(FamilyName::V6)
            .map_err(|error| format!("cannot look into the IPv6 tables of iptables-legacy: {error}")),
        Holder::Programs => programs(kernel, config),
    }
}

/// Programs can be there without a trace of them that everybody sees. Where nothing speaks for some, there are none.
#[cfg(all(feature = "ebpf", target_os = "linux"))]
fn programs(kernel: &mut Kernel, config: &Options) -> Result<bool, String> {
    use super::ebpf;
    use crate::ebpf::Sight;

    match ebpf::sight(kernel, config).map_err(|error| error.to_string())? {
        Sight::Absent | Sight::Unasked(_) => Ok(false),
        Sight::OutOfReach(_) => Ok(true),
        Sight::Suspected(error) | Sight::Unknown(error) => Err(error.to_string()),
        Sight::Pinned => match ebpf::found(kernel, config, None, &mut Vec::new()) {
            // Whoever may not read them does not know whether they deal with IPv6.
            Ok(Some(found)) => Ok(found.families.is_empty() || found.families.contains(&FamilyName::V6)),
            Ok(None) => Ok(false),
            Err(error) => Err(error.to_string()),
        },
    }
}

#[cfg(all(feature = "host", not(feature = "ebpf"), target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "builds with the engine cannot always tell")]
fn programs(_: &mut Kernel, _: &Options) -> Result<bool, String> {
    Ok(false)
}
