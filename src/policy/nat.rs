use std::collections::BTreeMap;

use super::{Context, Queries};
use crate::config::VirtualNetwork;
use crate::model::{
    BuiltinChain, Chain, ChainName, ChainPair, Comment, LogPrefix, Match, Origin, Rule, Table, TableName, Target,
    Transport,
};
use crate::net::{Cidr, Family, InterfacePattern, Port, PortSet};

pub(super) fn table<F: Family>(context: &Context<'_, F>) -> Table<F> {
    let redirect = &context.config.redirect;
    let networks = Networks::of(&redirect.vnet);
    let mut chains = vec![
        prerouting(context, &networks),
        output(context),
        inbound(context),
        outbound(context),
        redirection(&redirect.inbound.chains.redirect, redirect.inbound.port, "redirect.inbound.port", "inbound"),
        redirection(&redirect.outbound.chains.redirect, redirect.outbound.port, "redirect.outbound.port", "outbound"),
    ];
    chains.extend(networks.chains(redirect.outbound.port));
    Table::new(TableName::Nat, chains)
}

/// What arrives at this host.
fn prerouting<F: Family>(context: &Context<'_, F>, networks: &Networks<F>) -> Chain<F> {
    let redirect = &context.config.redirect;
    let mut chain = Chain::builtin(BuiltinChain::Prerouting);
    if let Some(rule) = log(context, BuiltinChain::Prerouting) {
        chain.push(rule);
    }
    for interface in &networks.interfaces {
        chain.push(
            Rule::new(Target::redirect(redirect.dns.port))
                .inserted()
                .with(Match::on(interface.pattern.clone()))
                .with(Transport::udp().to_port(Port::DNS).module_first())
                .comment("redirect DNS queries from this virtual network to the sidecar")
                .because(interface.origin()),
        );
        if let Some(rule) = interface.tcp_rule(redirect.outbound.port) {
            chain.push(rule);
        }
    }
    let jump = Rule::new(Target::jump(&redirect.inbound.chains.decide))
        .with(Transport::tcp())
        .comment("decide on inbound connections")
        .because("redirect.inbound.enabled");
    // Behind the rules of virtual networks, which would otherwise never be reached.
    let insert = redirect.inbound.insert || !networks.interfaces.is_empty();
    chain.push(if insert { jump.inserted() } else { jump });
    chain
}

/// What is made on this host.
fn output<F: Family>(context: &Context<'_, F>) -> Chain<F> {
    let redirect = &context.config.redirect;
    let outbound = &redirect.outbound;
    let mut chain = Chain::builtin(BuiltinChain::Output);
    if let Some(rule) = log(context, BuiltinChain::Output) {
        chain.push(rule.inserted());
    }

    let mut exclude = |protocol, ports: &PortSet, owner: Match<F>, words: &str, origin| {
        chain.push(
            Rule::new(Target::Return)
                .inserted()
                .with(Transport::new(protocol).to_ports(ports.clone()))
                .with(owner)
                .comment(words)
                .because(origin),
        );
    };
    for (index, exclusion) in outbound.exclude_ports_for_uids.iter().enumerate() {
        for protocol in &exclusion.protocols {
            let origin = Origin::item("redirect.outbound.excludePortsForUIDs", index);
            exclude(
                *protocol,
                &exclusion.ports,
                Match::by(exclusion.uids),
                "let these users reach these ports without the sidecar",
                origin,
            );
        }
    }
    for (index, exclusion) in outbound.exclude_ports_for_gids.iter().enumerate() {
        for protocol in &exclusion.protocols {
            let origin = Origin::item("redirect.outbound.excludePortsForGIDs", index);
            exclude(
                *protocol,
                &exclusion.ports,
                Match::by(exclusion.gids),
                "let these groups reach these ports without the sidecar",
                origin,
            );
        }
    }
    // There may be many, which share it.
    let comment = Comment::ours("let connections to this destination pass without the sidecar");
    for (index, net) in indexed(&outbound.exclude_ips) {
        let origin = Origin::item("redirect.outbound.excludePortsForIPs", index);
        let mut rule = Rule::new(Target::Return).inserted().with(Match::to(net.clone())).because(origin);
        rule.comment = Some(comment.clone());
        chain.push(rule);
    }
    dns(context, &mut chain);

    let jump = Rule::new(Target::jump(&outbound.chains.decide))
        .with(Transport::tcp())
        .comment("decide on outbound connections")
        .because("redirect.outbound.enabled");
    chain.push(if outbound.insert { jump.inserted() } else { jump });
    chain
}

fn dns<F: Family>(context: &Context<'_, F>, chain: &mut Chain<F>) {
    const KEY: &str = "redirect.dns.enabled";
    let sidecar = context.facts.sidecar_uid;
    let query = || Transport::udp().to_port(Port::DNS);
    let servers = match &context.dns.queries {
        Queries::None => return,
        Queries::All => vec![None],
        Queries::To(servers) => servers.iter().map(Some).collect(),
    };
    // The sidecar asks the real servers. Docker translates queries to its own server, so there they
    // go through Docker's chain, which would no longer be reached after a RETURN.
    let upstream = match context.facts.abilities::<F>().docker_output {
        true => Target::Jump { chain: docker_output() },
        false => Target::Return,
    };
    chain.push(
        Rule::new(upstream)
            .inserted()
            .with(query())
            .with(Match::by(sidecar))
            .comment("let DNS queries of the sidecar reach the real servers")
            .because(KEY),
    );
    // The sidecar's DNS listener speaks UDP only.
    chain.push(
        Rule::new(Target::Return)
            .with(Transport::tcp().to_port(Port::DNS))
            .with(Match::not_by(sidecar))
            .comment("let DNS over TCP pass without the sidecar")
            .because(KEY),
    );
    for server in servers {
        let rule = Rule::new(Target::redirect(context.config.redirect.dns.port)).inserted();
        chain.push(match server {
            None => {
                rule.with(query()).comment("redirect every DNS query to the sidecar").because("redirect.dns.captureAll")
            }
            Some(server) => server
                .asked(rule)
                .with(query())
                .comment("redirect DNS queries to this server to the sidecar")
                .because("redirect.dns.resolvConfigPath"),
        });
    }
}

fn docker_output() -> ChainName {
    "DOCKER_OUTPUT".parse().expect("a literal chain name is valid")
}

/// Decides on connections to the workload.
fn inbound<F: Family>(context: &Context<'_, F>) -> Chain<F> {
    let inbound = &context.config.redirect.inbound;
    let ChainPair { decide, redirect } = &inbound.chains;
    let mut chain = Chain::new(decide.clone());
    if !inbound.enabled {
        chain.push(
            Rule::new(Target::Return)
                .with(Transport::tcp())
                .comment("let every inbound connection pass without the sidecar")
                .because("redirect.inbound.enabled"),
        );
        return chain;
    }
    for (index, net) in indexed(&inbound.exclude_ips) {
        chain.push(
            Rule::new(Target::Return)
                .with(Match::from(net.clone()))
                .comment("let connections from this source pass without the sidecar")
                .because(Origin::item("redirect.inbound.excludePortsForIPs", index)),
        );
    }
    if inbound.include_ports.is_empty() {
        exclude_ports(
            &mut chain,
            &inbound.exclude_ports,
            "redirect.inbound.excludePorts",
            "let inbound connections to this port pass without the sidecar",
        );
        chain.push(
            Rule::new(Target::jump(redirect))
                .with(Transport::tcp())
                .comment("redirect all other inbound connections")
                .because("redirect.inbound.enabled"),
        );
    } else {
        include_ports(
            &mut chain,
            &inbound.include_ports,
            redirect,
            "redirect.inbound.includePorts",
            "redirect inbound connections to this port",
        );
    }
    chain
}

/// Decides on connections from the workload.
fn outbound<F: Family>(context: &Context<'_, F>) -> Chain<F> {
    const KEY: &str = "redirect.outbound.enabled";
    let outbound = &context.config.redirect.outbound;
    let ChainPair { decide, redirect } = &outbound.chains;
    let sidecar = context.facts.sidecar_uid;
    let lo = || Match::out(context.facts.loopback.clone());
    let mut chain = Chain::new(decide.clone());
    if !outbound.enabled {
        chain.push(
            Rule::new(Target::Return)
                .with(Transport::tcp())
                .comment("let every outbound connection pass without the sidecar")
                .because(KEY),
        );
        return chain;
    }
    if outbound.include_ports.is_empty() {
        exclude_ports(
            &mut chain,
            &outbound.exclude_ports,
            "redirect.outbound.excludePorts",
            "let outbound connections to this port pass without the sidecar",
        );
    }
    // The sidecar hands inbound connections that it only passes through to the workload from this
    // address; redirecting them would send them round for ever.
    chain.push(
        Rule::new(Target::Return)
            .with(Match::from(F::passthrough()))
            .with(lo())
            .comment("let inbound connections that the sidecar passes through reach the workload")
            .because(KEY),
    );
    // The sidecar connects to an address of its own host: the call is for this very workload, so
    // it is inbound and must meet the inbound policies.
    chain.push(
        Rule::new(Target::jump(&context.config.redirect.inbound.chains.redirect))
            .with(Transport::tcp())
            .with(lo())
            .with(Match::not_to(F::localhost()))
            .with(Match::by(sidecar))
            .comment("treat connections of the sidecar to this host as inbound")
            .because(KEY),
    );
    chain.push(
        Rule::new(Target::Return)
            .with(Transport::tcp())
            .with(lo())
            .with(Match::not_by(sidecar))
            .comment("let the workload reach itself without the sidecar")
            .because(KEY),
    );
    chain.push(
        Rule::new(Target::Return).with(Match::by(sidecar)).comment("let connections of the sidecar leave").because(KEY),
    );
    chain.push(
        Rule::new(Target::Return)
            .with(Match::to(F::localhost()))
            .comment("let connections to the loopback address pass without the sidecar")
            .because(KEY),
    );
    included(context, &mut chain, redirect);
    chain
}

/// The end of the outbound decision: what is redirected.
fn included<F: Family>(context: &Context<'_, F>, chain: &mut Chain<F>, redirect: &ChainName) {
    const IPS: &str = "redirect.outbound.includeIPs";
    let outbound = &context.config.redirect.outbound;
    if !outbound.include_ips.is_empty() {
        for (index, net) in indexed(&outbound.include_ips) {
            let mut rule = Rule::new(Target::jump(redirect)).with(Match::to(net.clone()));
            if !outbound.include_ports.is_empty() {
                rule = rule.with(Transport::tcp().to_ports(outbound.include_ports.clone()));
            }
            chain.push(
                rule.comment("redirect outbound connections to this destination").because(Origin::item(IPS, index)),
            );
        }
    } else if !outbound.include_ports.is_empty() {
        include_ports(
            chain,
            &outbound.include_ports,
            redirect,
            "redirect.outbound.includePorts",
            "redirect outbound connections to this port",
        );
    } else {
        chain.push(
            Rule::new(Target::jump(redirect))
                .comment("redirect all other outbound connections")
                .because("redirect.outbound.enabled"),
        );
    }
}

fn redirection<F: Family>(name: &ChainName, port: Port, key: &'static str, direction: &str) -> Chain<F> {
    let mut chain = Chain::new(name.clone());
    chain.push(
        Rule::new(Target::redirect(port))
            .with(Transport::tcp())
            .comment(&format!("redirect to the {direction} listener of the sidecar"))
            .because(key),
    );
    chain
}

fn exclude_ports<F: Family>(chain: &mut Chain<F>, ports: &PortSet, key: &'static str, words: &str) {
    for (index, range) in ports.ranges().iter().enumerate() {
        chain.push(
            Rule::new(Target::Return)
                .with(Transport::tcp().to_port(*range))
                .comment(words)
                .because(Origin::item(key, index)),
        );
    }
}

fn include_ports<F: Family>(chain: &mut Chain<F>, ports: &PortSet, to: &ChainName, key: &'static str, words: &str) {
    for (index, range) in ports.ranges().iter().enumerate() {
        chain.push(
            Rule::new(Target::jump(to))
                .with(Transport::tcp().to_port(*range))
                .comment(words)
                .because(Origin::item(key, index)),
        );
    }
}

fn log<F: Family>(context: &Context<'_, F>, chain: BuiltinChain) -> Option<Rule<F>> {
    let log = context.config.log;
    log.enabled.then(|| {
        Rule::new(Target::Log { prefix: LogPrefix::of(chain), level: log.level })
            .comment("log every packet that comes here")
            .because("log.enabled")
    })
}

/// The prefixes of this family, with their places in the list of both.
fn indexed<F: Family>(list: &[crate::net::AnyCidr]) -> impl Iterator<Item = (usize, &Cidr<F>)> {
    list.iter().enumerate().filter_map(|(index, net)| Some((index, F::pick(net)?)))
}

/// The virtual networks of one family, by interface in alphabetical order.
struct Networks<F: Family> {
    interfaces: Vec<Interface<F>>,
}

struct Interface<F: Family> {
    pattern: InterfacePattern,
    networks: Vec<(usize, Cidr<F>)>,
    /// Where it is decided on TCP, if there is more than one network.
    chain: Option<ChainName>,
}

impl<F: Family> Networks<F> {
    fn of(vnet: &[VirtualNetwork]) -> Self {
        let mut by_interface = BTreeMap::<_, Vec<_>>::new();
        for (index, network) in vnet.iter().enumerate() {
            if let Some(net) = F::pick(&network.network) {
                by_interface.entry(&network.interface).or_default().push((index, net.clone()));
            }
        }
        let mut several = 0;
        let interfaces = by_interface
            .into_iter()
            .map(|(pattern, networks)| {
                let chain = (networks.len() > 1).then(|| {
                    several += 1;
                    format!("{}VNET_{several}", ChainPair::PREFIX).parse().expect("a numbered chain name is valid")
                });
                Interface { pattern: pattern.clone(), networks, chain }
            })
            .collect();
        Self { interfaces }
    }

    fn chains(&self, outbound_port: Port) -> impl Iterator<Item = Chain<F>> {
        self.interfaces.iter().filter_map(move |interface| interface.chain(outbound_port))
    }
}

impl<F: Family> Interface<F> {
    const KEY: &'static str = "redirect.vnet.networks";
    const WORDS: &'static str = "redirect connections that leave this virtual network as outbound ones";

    fn origin(&self) -> Origin {
        Origin::item(Self::KEY, self.networks[0].0)
    }

    /// Sends TCP that leaves the network to the outbound listener. One rule can name only one
    /// network that is not meant; several need a chain. Nothing leaves a network of all addresses, and iptables-nft refuses
    /// a rule that says so.
    fn tcp_rule(&self, outbound_port: Port) -> Option<Rule<F>> {
        let rule = match &self.chain {
            None if self.networks[0].1.prefix() == 0 => return None,
            None => Rule::new(Target::redirect(outbound_port)).with(Match::not_to(self.networks[0].1.clone())),
            Some(chain) => Rule::new(Target::jump(chain)),
        };
        let rule = rule
            .inserted()
            .with(Match::on(self.pattern.clone()))
            .with(Transport::tcp())
            .comment(Self::WORDS)
            .because(self.origin());
        Some(rule)
    }

    fn chain(&self, outbound_port: Port) -> Option<Chain<F>> {
        let mut chain = Chain::new(self.chain.clone()?);
        for (index, net) in &self.networks {
            chain.push(
                Rule::new(Target::Return)
                    .with(Match::to(net.clone()))
                    .comment("leave connections within the virtual network alone")
                    .because(Origin::item(Self::KEY, *index)),
            );
        }
        chain.push(
            Rule::new(Target::redirect(outbound_port))
                .with(Transport::tcp())
                .comment(Self::WORDS)
                .because(self.origin()),
        );
        Some(chain)
    }
}
