//! Which matches and targets of iptables the kernel has, and what is in the tables of its nft variant: what programs would
//! otherwise have to be run for.

use nix::errno::Errno;

use super::legacy;
use super::socket::{Socket, Stop};
use crate::model::TableName;
use crate::net::FamilyName;
use crate::netlink::batch::number;
use crate::netlink::constants::*;
use crate::netlink::wire::{Attributes, Head, Messages};

/// `NFNL_MSG_COMPAT_GET` of the subsystem `NFNL_SUBSYS_NFT_COMPAT` (linux/netfilter/nf_tables_compat.h).
const COMPAT_GET: u16 = 11 << 8;
const NFTA_COMPAT_NAME: u16 = 1;
const NFTA_COMPAT_REV: u16 = 2;
const NFTA_COMPAT_TYPE: u16 = 3;

/// A part of the kernel that rules of iptables use, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extension {
    Match(&'static str),
    Target(&'static str),
}

impl Extension {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Match(name) | Self::Target(name) => name,
        }
    }
}

/// The expressions that every iptables-nft can list; a table with others it may not.
const LISTED: [&str; 8] = ["match", "target", "payload", "meta", "cmp", "bitwise", "counter", "immediate"];

impl Socket {
    /// Whether the kernel has an extension for rules of iptables-nft, of whatever revision. It loads the module that has it.
    ///
    /// # Errors
    /// If the kernel does not say, or has no extensions at all for these rules.
    pub(crate) fn has_extension(&mut self, family: FamilyName, extension: Extension) -> Result<bool, Stop> {
        let head = Head { kind: COMPAT_GET, family: number(family), ..Head::default() };
        let found = self.send_request(head, |w| {
            w.text(NFTA_COMPAT_NAME, extension.name());
            w.number(NFTA_COMPAT_REV, 0);
            w.number(NFTA_COMPAT_TYPE, matches!(extension, Extension::Target(_)).into());
        });
        match found {
            // It is there, in another revision than the one that was asked for.
            Ok(_) | Err(Stop::System(_, Errno::EPROTONOSUPPORT)) => Ok(true),
            Err(Stop::System(_, Errno::ENOENT)) => Ok(false),
            Err(stop) => Err(stop),
        }
    }

    /// Whether iptables-nft has rules, or chains that are not built in, in the tables that it shares with installations. None if its
    /// programs would list something else.
    pub(crate) fn iptables_has_rules(&mut self, family: FamilyName) -> Result<Option<bool>, Stop> {
        Ok(self.steadily(|socket, _| socket.iptables_has_rules_once(family))?.0)
    }

    /// `None` if it was interrupted.
    #[expect(clippy::option_option, reason = "interrupted, and not to be told, are two things")]
    fn iptables_has_rules_once(&mut self, family: FamilyName) -> Result<Option<Option<bool>>, Stop> {
        let (mut any, mut listed) = (false, true);
        for kind in [message::GETCHAIN, message::GETSET, message::GETRULE] {
            let head = Head { kind, flags: NLM_F_DUMP, family: number(family), ..Head::default() };
            let answer = self.send_request(head, |_| {})?;
            if answer.interrupted {
                return Ok(None);
            }
            for (message, attributes) in Messages(&answer.bytes).filter_map(|m| Some((m, m.generic()?.1))) {
                // The table's name is attribute 1 of all of them.
                let table = attributes.text(NFTA_RULE_TABLE).unwrap_or_default();
                if !TableName::OURS.into_iter().any(|name| name.as_str() == table) {
                    continue;
                }
                match message.kind {
                    // Its programs list every built-in chain, whether it is there or not.
                    message::NEWCHAIN => any |= attributes.get(NFTA_CHAIN_HOOK).is_none(),
                    message::NEWSET => listed = false,
                    message::NEWRULE => {
                        any = true;
                        listed &= is_listed(&attributes);
                    }
                    _ => {}
                }
            }
        }
        Ok(Some(listed.then_some(any)))
    }
}

fn is_listed(rule: &Attributes<'_>) -> bool {
    let expressions = rule.nest(NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    let mut names = expressions.into_iter().map(|(_, one)| Attributes::of(one).text(NFTA_EXPR_NAME).map(str::to_owned));
    names.all(|name| name.is_some_and(|name| LISTED.contains(&name.as_str())))
}

/// Whether the kernel has an extension for rules of iptables-legacy, of whatever revision. It loads the module that has it.
///
/// # Errors
/// If the kernel does not say.
pub(crate) fn legacy_has_extension(family: FamilyName, extension: Extension) -> std::io::Result<bool> {
    /// `IPT_SO_GET_REVISION_MATCH` and the same of ip6_tables; those for targets follow.
    const REVISION: [libc::c_int; 2] = [66, 68];
    /// The room for a name in `struct xt_get_revision`; one byte for the revision follows.
    const NAME: usize = 29;

    let [four, six] = REVISION;
    let of_match = if family == FamilyName::V4 { four } else { six };
    let question = of_match + libc::c_int::from(matches!(extension, Extension::Target(_)));
    let mut bytes = [0; NAME + 1];
    bytes[..extension.name().len()].copy_from_slice(extension.name().as_bytes());
    match legacy::ask(family, question, &mut bytes) {
        Ok(()) => Ok(true),
        Err(error) => match error.raw_os_error() {
            Some(libc::EPROTONOSUPPORT) => Ok(true),
            Some(libc::ENOENT) => Ok(false),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel says, to those who may ask.
    #[test]
    fn what_is_not_there_is_told_from_what_is_not_said() {
        for family in FamilyName::ALL {
            for (extension, there) in [
                (Extension::Match("tcp"), true),
                (Extension::Match("kumatp"), false),
                (Extension::Target("KUMATP"), false),
            ] {
                let nft = Socket::open().and_then(|mut socket| socket.has_extension(family, extension));
                assert!(nft.as_ref().map_or(true, |found| *found == there), "{family} {extension:?}: {nft:?}");
                let legacy = legacy_has_extension(family, extension);
                assert!(legacy.as_ref().map_or(true, |found| *found == there), "{family} {extension:?}: {legacy:?}");
            }
        }
    }
}
