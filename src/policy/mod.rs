//! Kuma's policy: from a configuration and facts to the rules. Everything that this crate knows
//! about what Kuma wants is here, written once for both address families.
//!
//! The rules, their order and their spelling follow kumactl 3.

mod harden;
mod mangle;
mod nat;
mod raw;
mod sockets;

use crate::config::{Config, Dns};
use crate::error::{Error, visible};
use crate::facts::{Abilities, Facts, Ipv6, Request};
use crate::model::{Guards, Hardened, IpFamilyMode, Match, Note, Plan, Rule, Ruleset};
use crate::net::{Cidr, Family, FamilyName, InterfacePattern, V4, V6};

/// Makes the rules that a configuration asks for on a host with these facts.
///
/// Pure: the same inputs give the same plan.
///
/// ```
/// use kumatp::config::Config;
/// use kumatp::facts::Facts;
/// use kumatp::net::Uid;
/// use kumatp::policy::plan;
///
/// let plan = plan(&Config::default(), &Facts::capable_host(Uid::SIDECAR))?;
/// assert!(plan.v6.is_some() && plan.notes.is_empty());
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// [`Error::Facts`] if the facts make what was asked for impossible: name servers are needed and
/// unknown, IPv6 is required and not usable, or it is in use and refused.
pub fn plan(config: &Config, facts: &Facts) -> Result<Plan, Error> {
    let mut notes = settings_without_effect(config);
    notes.extend_from_slice(&facts.remarks);
    note_servers(config, facts, &mut notes);
    let v4 = ruleset::<V4>(config, facts, &mut notes)?;
    let v6 = match ipv6(config, facts, &mut notes)? {
        true => Some(ruleset::<V6>(config, facts, &mut notes)?),
        false => None,
    };
    let loopback = facts.loopback.clone();
    let sockets = sockets::plan(config, facts, v6.is_some());
    let guards = guards(facts, v6.is_some(), &mut notes);
    let hardened = config.harden.then(|| Hardened {
        v4: harden::hardened(&v4, &loopback),
        v6: v6.as_ref().map(|v6| harden::hardened(v6, &loopback)),
    });
    let options = config.options();
    Ok(Plan { v4, v6, hardened, notes, sockets, options, loopback, guards })
}

/// What the kernel can do of the guards in every family that has rules, and what it means if it cannot.
fn guards(facts: &Facts, v6: bool, notes: &mut Vec<Note>) -> Guards {
    let can = |ability: fn(&Abilities) -> bool| ability(&facts.v4) && (!v6 || ability(&facts.v6));
    let mut guards = Guards::default();
    guards.address_types = can(|abilities| abilities.address_types);
    guards.sockets = can(|abilities| abilities.sockets);
    if !guards.address_types {
        let text = "the kernel cannot tell its own addresses in rules (CONFIG_NFT_FIB_IPV4, CONFIG_NFT_FIB_IPV6): sockets that \
                    are bound to an interface do not reach the sidecar, and one that is bound to loopback can reserve a way \
                    past it";
        notes.push(Note::warning("engine", text));
    }
    if !guards.sockets {
        let text = "the kernel cannot look for sockets in rules (CONFIG_NFT_SOCKET): a connection that is not redirected ends \
                    if connection tracking loses it and the other side speaks first";
        notes.push(Note::warning("engine", text));
    }
    guards
}

/// The facts that a plan for this configuration depends on, to be probed.
pub fn facts_needed(config: &Config) -> Request {
    let dns = &config.redirect.dns;
    let mut request = Request::default();
    request.user.clone_from(&config.kuma_dp_user);
    request.cni = config.cni_mode;
    request.resolv_conf = (dns.enabled && !dns.capture_all).then(|| dns.resolv_conf.clone());
    request.ipv6 = config.ip_family_mode != IpFamilyMode::Ipv4;
    request
}

/// Whether rules for IPv6 are made: wherever the kernel has it, as a link-local address is a way in for every neighbour, and other
/// addresses come later.
fn ipv6(config: &Config, facts: &Facts, notes: &mut Vec<Note>) -> Result<bool, Error> {
    let refused = |problem: &str, remedy: &str| {
        Err(Error::Facts { fact: "ipv6".into(), problem: problem.into(), remedy: remedy.into() })
    };
    match (config.ip_family_mode, &facts.ipv6) {
        // What that leaves open on a host, an installation there says.
        (IpFamilyMode::Ipv4, _) => {
            notes.push(Note::info("ipFamilyMode", "IPv6 is left alone: connections by it go past the sidecar"));
            Ok(false)
        }
        (IpFamilyMode::DualStack | IpFamilyMode::Required, Ipv6::Usable) => Ok(true),
        (IpFamilyMode::DualStack | IpFamilyMode::Required, found @ (Ipv6::LinkLocal | Ipv6::Unaddressed)) => {
            notes.push(Note::info("ipv6", format!("{}; the rules for IPv6 are for those that come", found.lacking())));
            Ok(true)
        }
        (IpFamilyMode::DualStack, Ipv6::Unusable { reason }) => {
            notes.push(Note::warning("ipFamilyMode", format!("IPv6 left out: {reason}")));
            Ok(false)
        }
        (IpFamilyMode::Required, Ipv6::Unusable { reason }) => refused(
            &format!("IPv6 is required, but {reason}"),
            "give the host IPv6, or set ipFamilyMode to 'dualstack' or 'ipv4'",
        ),
        // IPv6 traffic would go past the sidecar unseen, so this is never passed over.
        (_, Ipv6::Refused { reason, remedy }) => refused(reason, &format!("{remedy}, or set ipFamilyMode to 'ipv4'")),
    }
}

fn ruleset<F: Family>(config: &Config, facts: &Facts, notes: &mut Vec<Note>) -> Result<Ruleset<F>, Error> {
    let dns = DnsCapture::<F>::decide(&config.redirect.dns, facts, notes)?;
    let context = Context { config, facts, dns };
    let mut ruleset = Ruleset::new([raw::table(&context), nat::table(&context), mangle::table(&context, notes)]);
    if config.comments.disabled || !facts.abilities::<F>().comments {
        for table in &mut ruleset.tables {
            for rule in table.chains.iter_mut().flat_map(|chain| &mut chain.rules) {
                rule.comment = None;
            }
        }
    }
    Ok(ruleset)
}

/// What the tables of one family are made from.
struct Context<'a, F: Family> {
    config: &'a Config,
    facts: &'a Facts,
    dns: DnsCapture<F>,
}

/// Which DNS queries of one family go to the sidecar.
struct DnsCapture<F: Family> {
    queries: Queries<F>,
    /// Whether the queries of the workload and of the sidecar are tracked in zones of their own.
    zones: bool,
}

enum Queries<F: Family> {
    /// None.
    None,
    /// Those to any server.
    All,
    /// Those to the servers of resolv.conf.
    To(Vec<Server<F>>),
}

/// A server of resolv.conf.
struct Server<F: Family> {
    addr: Cidr<F>,
    /// The interface by which it is asked, if it has to be that one.
    interface: Option<InterfacePattern>,
}

impl<F: Family> Server<F> {
    /// The rule for what is sent to the server.
    fn asked(&self, rule: Rule<F>) -> Rule<F> {
        let rule = self.interface.iter().cloned().fold(rule, |rule, interface| rule.with(Match::out(interface)));
        rule.with(Match::to(self.addr.clone()))
    }

    /// The rule for what comes from the server.
    fn answering(&self, rule: Rule<F>) -> Rule<F> {
        let rule = self.interface.iter().cloned().fold(rule, |rule, interface| rule.with(Match::on(interface)));
        rule.with(Match::from(self.addr.clone()))
    }
}

impl<F: Family> DnsCapture<F> {
    fn decide(dns: &Dns, facts: &Facts, notes: &mut Vec<Note>) -> Result<Self, Error> {
        let off = Self { queries: Queries::None, zones: false };
        if !dns.enabled {
            return Ok(off);
        }
        let queries = if dns.capture_all {
            Queries::All
        } else {
            let resolvers = facts.resolvers.as_ref().ok_or_else(|| Error::Facts {
                fact: "resolvers".into(),
                problem: "the name servers are not known, and redirect.dns.enabled needs them".into(),
                remedy: "probe the host, give the servers, or set redirect.dns.captureAll".into(),
            })?;
            let servers = resolvers.by_interface::<F>();
            let servers: Vec<_> = servers
                .map(|(addr, interface)| Server {
                    addr: Cidr::bare(addr),
                    interface: interface.cloned().map(Into::into),
                })
                .collect();
            if servers.is_empty() {
                let why = match resolvers.path.as_os_str().is_empty() {
                    true => format!("no {} server was given", F::NAME),
                    false => format!("{} names no {} server", resolvers.path.display(), F::NAME),
                };
                let text = format!("{} DNS is not redirected: {why}", F::NAME);
                // Who has no address of the family asks no server by it, for now.
                let none = F::NAME == FamilyName::V6 && matches!(facts.ipv6, Ipv6::LinkLocal | Ipv6::Unaddressed);
                notes.push(match none {
                    true => Note::info("redirect.dns.enabled", text),
                    false => Note::warning("redirect.dns.enabled", text),
                });
                return Ok(off);
            }
            Queries::To(servers)
        };
        let zones = !dns.skip_conntrack_zone_split && Self::zones_possible(dns, facts, notes);
        Ok(Self { queries, zones })
    }

    fn zones_possible(dns: &Dns, facts: &Facts, notes: &mut Vec<Note>) -> bool {
        let abilities = facts.abilities::<F>();
        let reason = if !abilities.conntrack_zones {
            "the host lacks the raw table, its CT target or a match that it needs"
        } else if abilities.docker_output && dns.capture_all {
            // Docker's own server answers from another port, so its replies would not be found.
            "queries to Docker's DNS server would get no answer with it"
        } else {
            return true;
        };
        notes.push(Note::warning(
            "redirect.dns.skipConntrackZoneSplit",
            format!("conntrack zone split for DNS left out for {}: {reason}", F::NAME),
        ));
        false
    }
}

/// Names what is asked for and has no effect, or another one than its words say.
fn settings_without_effect(config: &Config) -> Vec<Note> {
    let (inbound, outbound, dns) = (&config.redirect.inbound, &config.redirect.outbound, &config.redirect.dns);
    let mut notes = Vec::new();
    let mut shadowed = |direction: &str, include: bool, exclude: bool| {
        if include && exclude {
            notes.push(Note::warning(
                format!("redirect.{direction}.excludePorts"),
                format!("has no effect, since redirect.{direction}.includePorts is set"),
            ));
        }
    };
    shadowed("inbound", !inbound.include_ports.is_empty(), !inbound.exclude_ports.is_empty());
    shadowed("outbound", !outbound.include_ports.is_empty(), !outbound.exclude_ports.is_empty());
    if dns.capture_all && !dns.enabled {
        notes.push(Note::warning("redirect.dns.captureAll", "has no effect, since redirect.dns.enabled is false"));
    }
    for (index, network) in config.redirect.vnet.iter().enumerate().filter(|(_, network)| network.network.prefix() == 0)
    {
        notes.push(Note::warning(
            format!("redirect.vnet.networks[{index}]"),
            format!(
                "{} is all addresses, so no connection of {} leaves it to be redirected",
                network.network, network.interface
            ),
        ));
    }
    if dns.enabled && outbound.insert {
        notes.push(Note::warning(
            "redirect.outbound.insertRedirectInsteadOfAppend",
            "DNS over TCP goes to the outbound listener, since the inserted jump comes before the rule that would let it pass",
        ));
    }
    notes
}

fn note_servers(config: &Config, facts: &Facts, notes: &mut Vec<Note>) {
    if !config.redirect.dns.enabled || config.redirect.dns.capture_all {
        return;
    }
    if let Some(resolvers) = &facts.resolvers {
        let servers: Vec<_> = resolvers.servers.iter().map(ToString::to_string).collect();
        notes.push(Note::info(
            "redirect.dns.resolvConfigPath",
            match resolvers.path.as_os_str().is_empty() {
                true => format!("the name servers were given: {}", servers.join(", ")),
                false => format!("the name servers are those of {}: {}", resolvers.path.display(), servers.join(", ")),
            },
        ));
        notes.extend(resolvers.skipped.iter().map(|server| {
            Note::warning(
                "redirect.dns.enabled",
                format!(
                    "queries to the name server '{}' of {} are not redirected, since it is no IP address",
                    visible(server),
                    resolvers.path.display()
                ),
            )
        }));
    }
}

#[cfg(test)]
mod tests;
