//! What keeps connections that should be redirected from passing without it.
//!
//! Translation is decided once, by the first packet of a connection, and kept in an entry of connection tracking. An entry can
//! be older than the rules, borrowed from another socket, made by a helper or gone, and then nobody asks the rules. So what the
//! rules decide is checked again behind them: a **closing chain** is a copy of the rules with every redirection turned into a
//! drop, for connections that open and have not been translated.

use std::collections::{BTreeMap, BTreeSet};

use super::Name;
use super::draft::{Draft, value};
use super::effects::Chains;
use super::layout::useful;
use super::native::{Action, Condition, Field, Span};
use super::{merge_rules, owner};
use crate::model::{BuiltinChain, CtState, End, Guards};
use crate::net::{Family, FamilyName, InterfacePattern, Port, Protocol};

/// The ports that clients get from Linux (`net.ipv4.ip_local_port_range` as it is by default).
pub(crate) const CLIENT_PORTS: Span = Span { first: 32768, last: 60999 };

/// How the guards of a plan are made.
#[derive(Debug, Clone)]
pub(crate) struct Guarding {
    /// What of them the kernel can do.
    pub(crate) can: Guards,
    /// The loopback interface.
    pub(crate) loopback: InterfacePattern,
}

impl Default for Guarding {
    /// All that there is, on a host whose loopback interface has its usual name.
    fn default() -> Self {
        let loopback = "lo".parse().expect("a literal interface pattern is valid");
        Self { can: Guards::default(), loopback }
    }
}

impl Guarding {
    fn by_loopback(&self, negated: bool) -> Condition {
        Condition::OutInterface { interface: self.loopback.clone(), negated }
    }

    /// A rule that lets what leaves by loopback pass is about what this host sends to itself. A socket that is bound to
    /// loopback sends there whatever it likes, and its entry would let a later connection pass.
    pub(super) fn keep_local(&self, draft: &mut Draft) {
        let passes = matches!(draft.rule.action, Action::Accept | Action::Return);
        if passes && self.can.address_types && draft.rule.conditions.contains(&self.by_loopback(false)) {
            draft.rule.conditions.push(Condition::Local { end: End::Destination, negated: false });
            crate::sorted::by_key(&mut draft.rule.conditions, Condition::rank);
        }
    }

    /// What does better than a redirection, where it can: it stands before it.
    ///
    /// A redirection in OUTPUT leads to `127.0.0.1` or `::1`, where a socket that is bound to an interface cannot send. The address
    /// that the packet is from does as well, and can be reached so. One in PREROUTING leads to an address of the interface,
    /// which may have none; the address that the packet is for does as well. Both must be addresses of this host.
    pub(super) fn translation(&self, draft: &Draft, hooks: Hooks) -> Option<Draft> {
        let Action::Redirect { port } = draft.rule.action else { return None };
        if !self.can.address_types {
            return None;
        }
        let mut better = draft.clone();
        let to = match hooks.contains(Hooks::PREROUTING) {
            true => {
                // What this host sends to itself goes to the loopback address, where a listener may be alone.
                better.rule.conditions.push(Condition::Local { end: End::Source, negated: true });
                End::Destination
            }
            false => {
                // Who redirects to some servers only may have a listener at the loopback address only.
                if let Some(servers) = destination(draft) {
                    if !servers.iter().all(is_link_local) || !self.can.sockets {
                        return None;
                    }
                    // A socket that is connected to such an address is bound to its interface.
                    better.rule.conditions.push(Condition::BoundSocket);
                }
                // What leaves by loopback reaches the loopback address.
                better.rule.conditions.push(self.by_loopback(true));
                End::Source
            }
        };
        better.rule.conditions.push(Condition::Local { end: to, negated: false });
        crate::sorted::by_key(&mut better.rule.conditions, Condition::rank);
        better.rule.action = Action::Translate { to, port };
        Some(better)
    }

    /// Lets packets of connections that this host has opened pass translation in PREROUTING though their entry was lost.
    ///
    /// Only for ports that clients get: a socket that listens at one address looks like one that is connected. In OUTPUT there is
    /// no such rule: whoever has bound an excluded port would send by it past the sidecar.
    pub(super) fn lost_entries(&self, hook: BuiltinChain, comments: bool) -> Vec<Draft> {
        if hook != BuiltinChain::Prerouting || !self.can.sockets {
            return Vec::new();
        }
        let words = "let connections of this host go on whose tracking entry was lost";
        vec![Draft::own(
            vec![
                Condition::MidStream,
                value(Field::DestinationPort, vec![CLIENT_PORTS], false),
                Condition::BoundSocket,
            ],
            Action::Accept,
            words,
            comments,
        )]
    }

    /// The first rule of raw PREROUTING: nothing that arrives from elsewhere is for a loopback address. Routing would drop it,
    /// but translation comes first.
    pub(super) fn no_martians<F: Family>(&self, comments: bool) -> Draft {
        let spans = loopback(F::NAME, 0);
        Draft::own(
            vec![
                Condition::InInterface { interface: self.loopback.clone(), negated: true },
                value(Field::DestinationAddress, spans, false),
            ],
            Action::Drop,
            "drop what arrives from elsewhere for a loopback address",
            comments,
        )
    }

    /// The rules behind source translation in POSTROUTING: what was redirected stays on this host.
    pub(super) fn stays_here<F: Family>(&self, redirected: &BTreeSet<(Protocol, Port)>, comments: bool) -> Vec<Draft> {
        if redirected.is_empty() {
            return Vec::new();
        }
        let mut drafts = vec![
            Draft::own(vec![self.by_loopback(false)], Action::Accept, "let pass what stays on this host", comments),
            Draft::own(
                vec![value(Field::DestinationAddress, loopback(F::NAME, 1), false)],
                Action::Drop,
                "drop what was redirected and would leave this host",
                comments,
            ),
        ];
        // An IPv4 socket cannot send from an address that is gone; an IPv6 socket can, and its packets would follow the address.
        for protocol in [Protocol::Tcp, Protocol::Udp].into_iter().filter(|_| F::NAME == FamilyName::V6) {
            let span = |port: &Port| Span { first: port.number().into(), last: port.number().into() };
            let ports = redirected.iter().filter(|(of, _)| *of == protocol).map(|(_, port)| span(port));
            let ports = Span::union(ports.collect());
            if !ports.is_empty() {
                drafts.push(Draft::own(
                    vec![
                        Condition::Protocol { protocol, negated: false },
                        // An answer of the listener, to a client whose port has the same number, does leave.
                        value(Field::SourcePort, ports.clone(), true),
                        value(Field::DestinationPort, ports, false),
                        Condition::Translated,
                    ],
                    Action::Drop,
                    "drop what was redirected and would leave this host",
                    comments,
                ));
            }
        }
        drafts
    }

    /// The closing chain behind nat PREROUTING or OUTPUT, whose rules in the order of a packet are `drafts`; empty if they
    /// redirect no TCP.
    pub(super) fn closing<F: Family>(
        &self,
        hook: BuiltinChain,
        drafts: Vec<Draft>,
        mirrored: &[Draft],
        copies: &Copies,
        comments: bool,
    ) -> Vec<Draft> {
        let drafts = useful(copies.copy(&drafts, hook, self.can), &copies.chains);
        if drafts.is_empty() {
            return drafts;
        }
        let pass = |condition, words| Draft::own(vec![condition], Action::Accept, words, comments);
        let translated = pass(Condition::Translated, "let pass what was redirected, or translated by others");
        let other = Condition::Protocol { protocol: Protocol::Tcp, negated: true };
        let other = pass(other, "let pass what is not TCP, as all that follows is for TCP");
        // What most packets are comes first: all of these only let pass, so their order decides nothing else.
        let mut all = match hook {
            BuiltinChain::Prerouting => {
                let here = Condition::InInterface { interface: self.loopback.clone(), negated: false };
                let here = pass(here, "let pass what this host sends to itself, on which OUTPUT has decided");
                vec![here, translated, other, pass(Condition::MidStream, "let pass what opens no connection")]
            }
            _ => {
                // What is not tracked as part of any connection is not translated, but would leave.
                let tracked = Condition::CtState { state: CtState::Invalid, negated: true };
                let words = "let pass what belongs to a connection and opens none";
                let tracked = Draft::own(vec![Condition::MidStream, tracked], Action::Accept, words, comments);
                let mut all = vec![translated, other, tracked];
                all.extend(mirrored.iter().cloned());
                all
            }
        };
        all.extend(merge_rules::fold(drafts, &copies.chains, F::NAME));
        all
    }
}

bitflags::bitflags! {
    /// The hooks that lead to a chain with translation.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) struct Hooks: u8 {
        const PREROUTING = 1;
        const OUTPUT = 2;
    }
}

/// The regular chains that closing chains lead to: copies in which a redirection is a drop.
#[derive(Debug)]
pub(super) struct Copies {
    names: BTreeMap<Name, Name>,
    pub(super) chains: Chains,
}

impl Copies {
    /// Copies of all chains that lead to a redirection of TCP, under names that are free.
    pub(super) fn of(
        chains: &Chains,
        hooks: &BTreeMap<Name, Hooks>,
        can: Guards,
        mut name: impl FnMut(&Name) -> Name,
    ) -> Self {
        let names =
            chains.rules.keys().filter(|chain| hooks.contains_key(*chain)).map(|chain| (chain.clone(), name(chain)));
        let mut copies = Self { names: crate::sorted::map(names), chains: Chains::new(BTreeMap::new()) };
        let hook = |chain: &Name| match hooks.get(chain) {
            Some(hooks) if hooks.contains(Hooks::PREROUTING) => BuiltinChain::Prerouting,
            _ => BuiltinChain::Output,
        };
        let rules = chains.rules.iter().filter_map(|(chain, drafts)| {
            Some((copies.names.get(chain)?.clone(), copies.copy(drafts, hook(chain), can)))
        });
        let rules = crate::sorted::map(rules);
        copies.chains = Chains::new(rules);
        copies
    }

    /// The copies that these rules lead to, in the order of their names.
    pub(super) fn reached_from<'d>(&self, drafts: impl Iterator<Item = &'d Draft>) -> Vec<(Name, Vec<Draft>)> {
        let to = |draft: &Draft| match &draft.rule.action {
            Action::Jump { chain } | Action::Goto { chain } => Some(chain.clone()),
            _ => None,
        };
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<_> = drafts.filter_map(to).collect();
        while let Some(name) = waiting.pop() {
            let Some(rules) = self.chains.rules.get(&name) else { continue };
            if reached.insert(name) {
                waiting.extend(rules.iter().filter_map(to));
            }
        }
        reached.into_iter().map(|name| (name.clone(), self.chains.rules[&name].clone())).collect()
    }

    fn copy(&self, drafts: &[Draft], hook: BuiltinChain, can: Guards) -> Vec<Draft> {
        drafts.iter().flat_map(|draft| self.closed(draft, hook, can)).collect()
    }

    /// What stands for a rule in a copy.
    fn closed(&self, draft: &Draft, hook: BuiltinChain, can: Guards) -> Vec<Draft> {
        let mut copy = draft.clone();
        copy.rule.added = Some("let pass what is not redirected");
        if draft.protocol() == Some(Protocol::Udp) {
            return Vec::new();
        }
        match &draft.rule.action {
            // It only says where to; whether is said by the redirection behind it.
            Action::Translate { .. } | Action::Log { .. } | Action::Zone { .. } => return Vec::new(),
            Action::Redirect { port } => {
                copy.rule.action = Action::Drop;
                let comments = copy.rule.comment.is_some();
                copy = copy.added("drop what should have been redirected and was not", comments);
                if hook == BuiltinChain::Prerouting {
                    return vec![already_there(draft, *port, can), copy];
                }
            }
            Action::Jump { chain } | Action::Goto { chain } => {
                let Some(to) = self.names.get(chain).cloned() else { return Vec::new() };
                copy.rule.action = match &draft.rule.action {
                    Action::Jump { .. } => Action::Jump { chain: to },
                    _ => Action::Goto { chain: to },
                };
            }
            Action::Accept | Action::Drop | Action::Return => {}
        }
        vec![copy]
    }
}

/// Who connects to the very port that is redirected to need not be translated, and is not.
fn already_there(draft: &Draft, port: Port, can: Guards) -> Draft {
    let at = u128::from(port.number());
    let mut more = vec![value(Field::DestinationPort, vec![Span { first: at, last: at }], false)];
    more.extend(can.address_types.then_some(Condition::Local { end: End::Destination, negated: false }));
    let mut pass = draft.clone();
    pass.rule.conditions = owner::with(&draft.rule.conditions, more);
    pass.rule.action = Action::Accept;
    pass.added("let pass what is for the listener itself", draft.rule.comment.is_some())
}

/// The answers to inbound connections that are not redirected, by the ports that rules of a chain exclude.
///
/// Only ports: of an address that is excluded, an answer cannot be told from the middle of a connection to there.
pub(super) fn mirrored(drafts: &[Draft], comments: bool) -> Vec<Draft> {
    let excluded = |draft: &Draft| match (&draft.rule.action, &draft.rule.conditions[..]) {
        (
            Action::Return | Action::Accept,
            [
                Condition::Protocol { protocol: Protocol::Tcp, negated: false },
                Condition::Value { field: Field::DestinationPort, values, negated: false },
            ],
        ) if draft.not_by.is_empty() => Some(values.spans.to_vec()),
        _ => None,
    };
    let (ports, sources): (Vec<_>, Vec<_>) =
        drafts.iter().filter_map(|draft| Some((excluded(draft)?, draft.rule.sources.clone()))).unzip();
    if ports.is_empty() {
        return Vec::new();
    }
    let ports = value(Field::SourcePort, Span::union(ports.concat()), false);
    let words = "let answers of inbound connections to excluded ports pass, whatever became of their tracking entry";
    let mut answers = Draft::own(vec![Condition::MidStream, ports], Action::Accept, words, comments);
    answers.rule.sources = sources.concat();
    vec![answers]
}

/// The addresses of loopback and those without a meaning on a link, from `lowest` on: 0.0.0.0/8 and 127.0.0.0/8; `::`, `::1`
/// and the sidecar's own `::6`.
fn loopback(family: FamilyName, lowest: u128) -> Vec<Span> {
    let span = |first, last| Span { first, last };
    match family {
        FamilyName::V4 if lowest > 0 => vec![span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V4 => vec![span(0, 0x00ff_ffff), span(0x7f00_0000, 0x7fff_ffff)],
        FamilyName::V6 => vec![span(lowest, 1), span(6, 6)],
    }
}

/// The destination addresses that a rule asks for.
fn destination(draft: &Draft) -> Option<&[Span]> {
    draft.rule.conditions.iter().find_map(|condition| match condition {
        Condition::Value { field: Field::DestinationAddress, values, negated: false } => Some(&values.spans[..]),
        _ => None,
    })
}

/// `fe80::/10` (RFC 4291 section 2.5.6); no address of IPv4 is as high.
fn is_link_local(span: &Span) -> bool {
    [span.first, span.last].iter().all(|address| address >> 118 == 0xfe80 >> 6)
}
