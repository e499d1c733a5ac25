use std::fmt;

use super::{Options, Ruleset, SocketPlan};
use crate::net::{InterfacePattern, V4, V6};

/// All that is to be installed: the rules of both families, the same for sockets, what the engines are told besides, and what
/// there is to say about it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Plan {
    /// The IPv4 rules.
    #[serde(rename = "ipv4")]
    pub v4: Ruleset<V4>,
    /// The IPv6 rules; none if IPv6 is switched off or not usable, which a note then says.
    #[serde(rename = "ipv6", skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ruleset<V6>>,
    /// The rules as iptables installs them, if the configuration asks for hardening ([`Options::harden`]): see
    /// [`iptables_v4`](Self::iptables_v4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hardened: Option<Hardened>,
    /// What the operator should know: protections left out, settings without effect.
    pub notes: Vec<Note>,
    /// What steers sockets, for the engine that has no rules.
    #[serde(skip)]
    pub sockets: SocketPlan,
    /// What the engines are told besides the rules.
    #[serde(skip)]
    pub options: Options,
    /// The loopback interface, as the rules name it.
    #[serde(skip)]
    pub loopback: InterfacePattern,
    /// What the kernel can do of what keeps connections from passing unredirected.
    #[serde(skip)]
    pub guards: Guards,
}

impl Plan {
    /// The IPv4 rules for iptables: with `harden`, those of [`v4`](Self::v4) and what closes the ways past them.
    pub fn iptables_v4(&self) -> &Ruleset<V4> {
        self.hardened.as_ref().map_or(&self.v4, |hardened| &hardened.v4)
    }

    /// The same for IPv6.
    pub fn iptables_v6(&self) -> Option<&Ruleset<V6>> {
        match &self.hardened {
            Some(hardened) => hardened.v6.as_ref(),
            None => self.v6.as_ref(),
        }
    }

    /// The ports that connections are redirected to.
    #[cfg(all(feature = "host", target_os = "linux"))]
    pub(crate) fn listeners(&self) -> std::collections::BTreeSet<crate::net::Port> {
        use super::Target;
        use crate::net::{Family, Port};

        fn of<F: Family>(rules: &Ruleset<F>) -> impl Iterator<Item = Port> {
            rules.rules().filter_map(|(_, _, rule)| match rule.target {
                Target::Redirect { port } => Some(port),
                _ => None,
            })
        }
        crate::sorted::set(of(&self.v4).chain(self.v6.iter().flat_map(of)))
    }

    /// The notes that an operator must see even when everything succeeds.
    pub fn warnings(&self) -> impl Iterator<Item = &Note> {
        self.notes.iter().filter(|note| note.severity == Severity::Warning)
    }
}

/// The rules of a plan with what iptables can say of the closing rules that the netlink engine always has.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
#[non_exhaustive]
pub struct Hardened {
    /// The IPv4 rules.
    #[serde(rename = "ipv4")]
    pub v4: Ruleset<V4>,
    /// The IPv6 rules, where the plan has some.
    #[serde(rename = "ipv6", skip_serializing_if = "Option::is_none")]
    pub v6: Option<Ruleset<V6>>,
}

/// What a kernel can do of what keeps connections that should be redirected from passing (see [`nftables`](crate::nftables)).
/// Only the netlink engine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guards {
    /// Rules can ask whether an address belongs to this host (`fib`).
    pub address_types: bool,
    /// Rules can ask whether a packet has a socket on this host (`socket`).
    pub sockets: bool,
}

impl Default for Guards {
    /// Everything.
    fn default() -> Self {
        Self { address_types: true, sockets: true }
    }
}

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Note {
    /// How much it matters.
    pub severity: Severity,
    /// The configuration key, fact or file that it is about.
    pub about: String,
    /// The statement, in one sentence without a full stop.
    pub text: String,
}

impl Note {
    /// Something asked for that will not happen, or a protection left out.
    pub fn warning(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, about: about.into(), text: text.into() }
    }

    /// The same, where what it is about is a part of something else: a file, an annotation.
    pub fn within(mut self, whole: impl fmt::Display) -> Self {
        self.about = format!("{whole}: {}", self.about);
        self
    }

    /// Something worth knowing that needs no action.
    pub fn info(about: impl Into<String>, text: impl Into<String>) -> Self {
        Self { severity: Severity::Info, about: about.into(), text: text.into() }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.text)
    }
}

/// How much a [`Note`] matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "more levels would not help anyone decide")]
pub enum Severity {
    /// Needs no action.
    Info,
    /// Somebody should look at it.
    Warning,
}
