//! What iptables can say of the closing rules that the netlink engine always has (see [`nftables`](crate::nftables)): `harden`.
//!
//! Translation is decided by the first packet of a connection and kept in an entry of connection tracking, which can be older than
//! the rules, borrowed, or gone. So the table mangle, whose INPUT, FORWARD and POSTROUTING come after the decisions of nat, gets
//! a copy of these decisions in which every redirection is a drop, for TCP that opens a connection and was not translated. The
//! copy is made from the rules themselves, so it cannot differ from them.

use std::collections::BTreeSet;

use crate::model::{
    BuiltinChain, Chain, ChainName, ChainPair, CtState, End, Match, PortMatch, Rule, Ruleset, Table, TableName, Target,
    Transport,
};
use crate::net::{Cidr, Family, FamilyName, InterfacePattern, Port, Protocol};

const KEY: &str = "harden";

/// The same rules with what closes the ways past them.
pub(super) fn hardened<F: Family>(ruleset: &Ruleset<F>, loopback: &InterfacePattern) -> Ruleset<F> {
    let nat = ruleset.table(TableName::Nat).cloned().unwrap_or_else(|| Table::new(TableName::Nat, []));
    let comments = ruleset.rules().any(|(_, _, rule)| rule.comment.is_some());
    let mut harden = Harden { nat, loopback, comments };
    harden.keep_local();
    let mut tables = ruleset.tables.clone();
    for name in TableName::OURS.into_iter().filter(|name| ruleset.table(*name).is_none()) {
        tables.push(Table::new(name, []));
    }
    for table in &mut tables {
        match table.name {
            TableName::Raw => harden.raw(table),
            TableName::Nat => *table = harden.nat.clone(),
            TableName::Mangle => harden.mangle(table),
            TableName::Filter | TableName::Security => {}
        }
    }
    Ruleset::new(tables)
}

struct Harden<'a, F: Family> {
    nat: Table<F>,
    loopback: &'a InterfacePattern,
    comments: bool,
}

/// One of the two sides on which nat decides.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Inbound,
    Outbound,
}

impl Side {
    fn decided_in(self) -> ChainName {
        match self {
            Self::Inbound => BuiltinChain::Prerouting.into(),
            Self::Outbound => BuiltinChain::Output.into(),
        }
    }

    fn closing_chain(self) -> ChainName {
        let side = if self == Self::Inbound { "INBOUND" } else { "OUTBOUND" };
        format!("{}CLOSING_{side}", ChainPair::PREFIX).parse().expect("a literal chain name is valid")
    }
}

impl<F: Family> Harden<'_, F> {
    /// A rule that lets what leaves by loopback pass is about what this host sends to itself: a socket that is bound to loopback
    /// sends there whatever it likes, and its entry would let a later connection pass.
    fn keep_local(&mut self) {
        let by_loopback = Match::out(self.loopback.clone());
        for rule in self.nat.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
            let passes = matches!(rule.target, Target::Accept | Target::Return);
            if passes && rule.matches.contains(&by_loopback) {
                rule.matches.push(Match::Local { end: End::Destination });
            }
        }
    }

    /// Routing drops what arrives from elsewhere for loopback, but translation comes first. And queries that are not redirected
    /// are tracked where their answers are.
    fn raw(&self, table: &mut Table<F>) {
        let mut martians = loopback_networks::<F>(true).into_iter().map(|net| {
            let rule = Rule::new(Target::Drop).with(self.not_by_loopback(true)).with(Match::to(net));
            self.ours(rule, "drop what arrives from elsewhere for a loopback address").inserted()
        });
        let mut own: Vec<_> = martians.by_ref().collect();
        let prerouting = chain(table, BuiltinChain::Prerouting);
        own.append(&mut prerouting.rules);
        prerouting.rules = own;
        let output = chain(table, BuiltinChain::Output);
        let direct = self.direct_queries(output);
        output.rules.splice(..0, direct);
    }

    /// The DNS queries to servers that are excluded, in the zone of the answers.
    fn direct_queries(&self, output: &Chain<F>) -> Vec<Rule<F>> {
        let queries = |rule: &&Rule<F>| transport(rule).is_some_and(is_query) && owner(rule).is_none();
        let excluded = self.nat.chain(&Side::Outbound.decided_in()).into_iter().flat_map(Chain::in_effect);
        // Rules behind the one that redirects queries let none pass.
        let excluded: Vec<_> = excluded
            .take_while(|rule| !matches!(rule.target, Target::Redirect { .. }))
            .filter(|rule| rule.target == Target::Return && transport(rule).is_none_or(may_be_query))
            .filter(|rule| destination(rule).is_some() || owner(rule).is_some())
            .collect();
        let mut direct = Vec::new();
        for query in output.in_effect().filter(queries) {
            for rule in &excluded {
                let to = match (destination(query), destination(rule)) {
                    (None, to) => to,
                    (to, None) => to,
                    (Some(server), Some(net)) if contains(net, server) => Some(server),
                    _ => continue,
                };
                let mut copy = Rule::new(super::raw::UPSTREAM).inserted();
                copy.matches.extend(to.cloned().map(Match::to));
                copy.matches.push(Transport::udp().to_port(Port::DNS).into());
                copy.matches.extend(owner(rule).cloned());
                let is_there = |known: &Rule<F>| (&known.matches, &known.target) == (&copy.matches, &copy.target);
                if output.rules.iter().any(is_there) {
                    continue;
                }
                direct.push(self.ours(copy, "track DNS queries that are not redirected in zone 1"));
            }
        }
        direct
    }

    fn mangle(&self, table: &mut Table<F>) {
        let mut copies = Copies { harden: self, reached: BTreeSet::new() };
        let inbound = self.closing(Side::Inbound, &mut copies);
        let outbound = self.closing(Side::Outbound, &mut copies);
        let copied = copies.chains();
        if let Some(closing) = &inbound {
            for hook in [BuiltinChain::Input, BuiltinChain::Forward] {
                let jump =
                    Rule::new(Target::jump(&closing.name)).with(Transport::tcp()).with(self.not_by_loopback(true));
                chain(table, hook)
                    .push(self.ours(jump, "close what translation of inbound connections leaves open").inserted());
            }
        }
        let redirects = inbound.is_some() || outbound.is_some();
        for net in loopback_networks::<F>(false).into_iter().filter(|_| redirects) {
            let rule = Rule::new(Target::Drop).with(self.not_by_loopback(false)).with(Match::to(net));
            let words = "drop what was redirected and would leave this host";
            chain(table, BuiltinChain::Postrouting).push(self.ours(rule, words).inserted());
        }
        if let Some(closing) = &outbound {
            let jump = Rule::new(Target::jump(&closing.name))
                .with(Transport::tcp())
                // Not what is passed on for others, of which PREROUTING has decided.
                .with(Match::Local { end: End::Source });
            let words = "close what translation of outbound connections leaves open";
            chain(table, BuiltinChain::Postrouting).push(self.ours(jump, words).inserted());
        }
        table.chains.extend(inbound.into_iter().chain(outbound).chain(copied));
        crate::sorted::by_key(&mut table.chains, |chain| !chain.is_builtin());
    }

    /// The chain that asks for what was decided on a side; none if nothing is redirected there.
    fn closing(&self, side: Side, copies: &mut Copies<'_, F>) -> Option<Chain<F>> {
        let decided: Vec<_> = self.nat.chain(&side.decided_in())?.in_effect().cloned().collect();
        let decided = copies.of(decided.iter());
        if !decided.iter().any(leads_on) {
            return None;
        }
        let mut closing = Chain::new(side.closing_chain());
        let mut pass = |matches: Vec<Match<F>>, words| {
            let rule = Rule { matches, ..Rule::new(Target::Return) };
            closing.push(self.ours(rule, words));
        };
        let mid_stream = Match::Transport(Transport::tcp().mid_stream());
        match side {
            Side::Inbound => pass(vec![mid_stream], "let pass what opens no connection"),
            Side::Outbound => {
                // What is not tracked as part of any connection is not translated, but would leave.
                let tracked = Match::CtState { state: CtState::Invalid, negated: true };
                pass(vec![mid_stream, tracked], "let pass what belongs to a connection and opens none");
            }
        }
        pass(vec![Match::Translated], "let pass what was redirected, or translated by others");
        for range in self.excluded_inbound().into_iter().filter(|_| side == Side::Outbound) {
            let answers = Transport::tcp().from_port(range).mid_stream();
            pass(vec![answers.into()], "let answers of inbound connections to excluded ports pass");
        }
        decided.into_iter().for_each(|rule| closing.push(rule));
        Some(closing)
    }

    /// The ports that inbound connections reach without the sidecar.
    fn excluded_inbound(&self) -> Vec<crate::net::PortRange> {
        let outbound = self.reached(Side::Outbound);
        let inbound = self.reached(Side::Inbound);
        let only =
            self.nat.chains.iter().filter(|chain| inbound.contains(&chain.name) && !outbound.contains(&chain.name));
        let port = |rule: &Rule<F>| match (&rule.target, &rule.matches[..]) {
            (Target::Return | Target::Accept, [Match::Transport(transport)]) => match &transport.destination {
                Some(PortMatch::Range { range, negated: false }) if transport.protocol == Protocol::Tcp => Some(*range),
                _ => None,
            },
            _ => None,
        };
        only.flat_map(Chain::in_effect).filter_map(port).collect()
    }

    /// The chains that a side comes through.
    fn reached(&self, side: Side) -> BTreeSet<ChainName> {
        let mut found = BTreeSet::new();
        let mut waiting = vec![side.decided_in()];
        while let Some(name) = waiting.pop() {
            let Some(chain) = self.nat.chain(&name) else { continue };
            if found.insert(name) {
                waiting.extend(chain.rules.iter().filter_map(|rule| rule.target.chain().cloned()));
            }
        }
        found
    }

    /// In or out by another interface than loopback.
    fn not_by_loopback(&self, inward: bool) -> Match<F> {
        let interface = self.loopback.clone();
        match inward {
            true => Match::InInterface { interface, negated: true },
            false => Match::OutInterface { interface, negated: true },
        }
    }

    fn ours(&self, rule: Rule<F>, words: &str) -> Rule<F> {
        let rule = rule.because(KEY);
        if self.comments { rule.comment(words) } else { rule }
    }
}

/// Copies of chains of nat in the table mangle, under the same names.
struct Copies<'a, F: Family> {
    harden: &'a Harden<'a, F>,
    reached: BTreeSet<ChainName>,
}

impl<'a, F: Family> Copies<'a, F> {
    /// What stands for some rules of nat.
    fn of<'r>(&mut self, rules: impl Iterator<Item = &'r Rule<F>>) -> Vec<Rule<F>> {
        let rules: Vec<_> = rules.collect();
        let copies: Vec<_> = rules.into_iter().flat_map(|rule| self.of_rule(rule)).collect();
        // What stands behind the last one that leads to a drop decides nothing.
        let last = copies.iter().rposition(leads_on).map_or(0, |at| at + 1);
        copies.into_iter().take(last).collect()
    }

    fn of_rule(&mut self, rule: &Rule<F>) -> Vec<Rule<F>> {
        if transport(rule).is_some_and(|transport| transport.protocol != Protocol::Tcp) {
            return Vec::new();
        }
        let mut copy = rule.clone();
        copy.placement = crate::model::Placement::Append;
        match &rule.target {
            Target::Log { .. } | Target::Zone { .. } => return Vec::new(),
            Target::Redirect { port } => {
                copy.target = Target::Drop;
                let words = "drop what should have been redirected and was not";
                let copy = self.harden.ours(copy, words);
                // Who connects to the very port that is redirected to need not be translated, and is not.
                let mut there = rule.clone();
                there.placement = crate::model::Placement::Append;
                there.matches.retain(|condition| !matches!(condition, Match::Transport(_)));
                there.matches.push(Transport::tcp().to_port(*port).into());
                there.matches.push(Match::Local { end: End::Destination });
                there.target = Target::Accept;
                let there = self.harden.ours(there, "let pass what is for the listener itself");
                return vec![there, copy];
            }
            Target::Jump { chain } => {
                if !self.drops(chain) {
                    return Vec::new();
                }
                self.reached.insert(chain.clone());
            }
            Target::Accept | Target::Drop | Target::Return => {}
        }
        vec![copy]
    }

    /// Whether a chain of nat leads to a redirection of TCP.
    fn drops(&self, name: &ChainName) -> bool {
        let Some(chain) = self.harden.nat.chain(name) else { return false };
        chain.rules.iter().any(|rule| {
            let tcp = transport(rule).is_none_or(|transport| transport.protocol == Protocol::Tcp);
            tcp && match &rule.target {
                Target::Redirect { .. } => true,
                Target::Jump { chain } => self.drops(chain),
                _ => false,
            }
        })
    }

    /// The copies of all chains that copied rules lead to, in the order of nat.
    fn chains(mut self) -> Vec<Chain<F>> {
        let nat = self.harden.nat.clone();
        let mut done = Vec::<Chain<F>>::new();
        loop {
            let next = nat
                .chains
                .iter()
                .find(|chain| self.reached.contains(&chain.name) && done.iter().all(|known| known.name != chain.name));
            let Some(chain) = next else { break };
            let mut copy = Chain::new(chain.name.clone());
            copy.rules = self.of(chain.in_effect());
            done.push(copy);
        }
        crate::sorted::by_key(&mut done, |copy| nat.chains.iter().position(|chain| chain.name == copy.name));
        done
    }
}

fn leads_on<F: Family>(rule: &Rule<F>) -> bool {
    matches!(rule.target, Target::Drop | Target::Jump { .. })
}

fn chain<F: Family>(table: &mut Table<F>, hook: BuiltinChain) -> &mut Chain<F> {
    let at = table.chains.iter().position(|chain| chain.name == hook.into()).unwrap_or_else(|| {
        let builtin = table.chains.iter().filter(|chain| chain.is_builtin()).count();
        table.chains.insert(builtin, Chain::builtin(hook));
        builtin
    });
    &mut table.chains[at]
}

/// The addresses of loopback; with those without a meaning on a link, if they are to be kept out.
fn loopback_networks<F: Family>(all: bool) -> Vec<Cidr<F>> {
    let networks: &[&str] = match (F::NAME, all) {
        (FamilyName::V4, true) => &["0.0.0.0/8", "127.0.0.0/8"],
        (FamilyName::V4, false) => &["127.0.0.0/8"],
        (FamilyName::V6, true) => &["::/127", "::6/128"],
        (FamilyName::V6, false) => &["::1/128", "::6/128"],
    };
    networks.iter().map(|net| net.parse().unwrap_or_else(|_| unreachable!("a literal prefix is valid"))).collect()
}

fn transport<F: Family>(rule: &Rule<F>) -> Option<&Transport> {
    rule.matches.iter().find_map(|condition| match condition {
        Match::Transport(transport) => Some(transport),
        _ => None,
    })
}

fn destination<F: Family>(rule: &Rule<F>) -> Option<&Cidr<F>> {
    rule.matches.iter().find_map(|condition| match condition {
        Match::Destination { net, negated: false } => Some(net),
        _ => None,
    })
}

fn owner<F: Family>(rule: &Rule<F>) -> Option<&Match<F>> {
    rule.matches.iter().find(|condition| matches!(condition, Match::Owner { .. }))
}

fn is_query(transport: &Transport) -> bool {
    transport.protocol == Protocol::Udp
        && transport.source.is_none()
        && transport.destination.as_ref().is_some_and(|ports| !ports.negated() && ports.ports().contains(Port::DNS))
}

fn may_be_query(transport: &Transport) -> bool {
    let port = |ports: &PortMatch| ports.negated() != ports.ports().contains(Port::DNS);
    transport.protocol == Protocol::Udp && transport.source.is_none() && transport.destination.as_ref().is_none_or(port)
}

fn contains<F: Family>(net: &Cidr<F>, other: &Cidr<F>) -> bool {
    F::to_bits(net.first()) <= F::to_bits(other.first()) && F::to_bits(other.last()) <= F::to_bits(net.last())
}

#[cfg(test)]
mod tests;
