//! The connections that are tried, what is expected of each, and the rule that decides.

use std::net::SocketAddr;

use kumatp::Plan;
use kumatp::model::Ruleset;
use kumatp::net::Family;

use crate::stage::Stage;
use crate::traffic::{Outcome, Protocol, visit};
use crate::world::{APP, APP_SSH, APP_V6, DATABASE, DNS, DNS_PORT, INBOUND_PORT, LEGACY, OUTBOUND_PORT, WEB, WEB_V6};

/// A connection to make.
pub(crate) struct Case {
    name: &'static str,
    from: Place,
    to: &'static str,
    target: SocketAddr,
    protocol: Protocol,
    expected: Outcome,
    /// The rule that decides: the configuration key that it comes from, and a part of its comment.
    rule: (&'static str, &'static str),
}

/// Where a connection is made.
#[derive(Clone, Copy)]
enum Place {
    Client,
    Sidecar,
    Workload,
}

#[rustfmt::skip]
/// Every connection, in the order in which they are made.
pub(crate) fn all() -> [Case; 9] {
    use Outcome::{Direct, Relayed};
    use Place::{Client, Sidecar, Workload};
    use Protocol::{Tcp, Udp};
    let case = |name, from, to, target, protocol, expected, rule| {
        Case { name, from, to, target, protocol, expected, rule }
    };
    [
        case("inbound", Client, "workload:8080", APP, Tcp, Relayed(INBOUND_PORT),
            ("redirect.inbound.enabled", "all other")),
        case("inbound, excluded port", Client, "workload:22", APP_SSH, Tcp, Direct,
            ("redirect.inbound.excludePorts[0]", "to this port")),
        case("outbound", Workload, "web:80", WEB, Tcp, Relayed(OUTBOUND_PORT),
            ("redirect.outbound.enabled", "all other")),
        case("outbound, excluded port", Workload, "database:5432", DATABASE, Tcp, Direct,
            ("redirect.outbound.excludePorts[0]", "to this port")),
        case("outbound, excluded address", Workload, "legacy:80", LEGACY, Tcp, Direct,
            ("redirect.outbound.excludePortsForIPs[0]", "to this destination")),
        case("the sidecar's own", Sidecar, "web:80", WEB, Tcp, Direct,
            ("redirect.outbound.enabled", "of the sidecar leave")),
        case("DNS over UDP", Workload, "dns:53", DNS, Udp, Relayed(DNS_PORT),
            ("redirect.dns.captureAll", "every DNS query")),
        case("inbound, IPv6", Client, "workload:8080", APP_V6, Tcp, Relayed(INBOUND_PORT),
            ("redirect.inbound.enabled", "all other")),
        case("outbound, IPv6", Workload, "web:80", WEB_V6, Tcp, Relayed(OUTBOUND_PORT),
            ("redirect.outbound.enabled", "all other")),
    ]
}

impl Case {
    /// Makes the connection, and prints what happened and why. True if that is as expected.
    pub(crate) fn show(&self, plan: &Plan, stage: &mut Stage) -> bool {
        let place = match self.from {
            Place::Client => "client",
            Place::Sidecar => "sidecar",
            Place::Workload => "workload",
        };
        let way = format!("{place} → {}", self.to);
        let outcome = match self.target.is_ipv6() && plan.v6.is_none() {
            true => Outcome::Skipped("this kernel has no IPv6"),
            false => self.make(stage),
        };
        let (well, why) = match (&outcome, self.deciding_rule(plan)) {
            (Outcome::Skipped(_), _) => (true, None),
            (_, None) => (false, Some(format!("WRONG: no rule of the plan comes from {}", self.rule.0))),
            (_, Some(words)) if outcome == self.expected => (true, Some(format!("{}: {words}", self.rule.0))),
            (_, Some(_)) => (false, Some(format!("WRONG: expected {}, for {}", self.expected, self.rule.0))),
        };
        println!("{:<27} {way:<26} {outcome}", self.name);
        if let Some(why) = why {
            println!("    {why}");
        }
        well
    }

    fn make(&self, stage: &mut Stage) -> Outcome {
        let made = match self.from {
            Place::Client => stage.outside.run(|| Ok(visit(self.target, self.protocol))).map_err(Into::into),
            Place::Sidecar if !stage.second_uid => Ok(Outcome::Skipped("needs a second uid")),
            Place::Sidecar => {
                stage.sidecar.ask(&self.target.to_string()).map(|said| match said == Outcome::Direct.to_string() {
                    true => Outcome::Direct,
                    false => Outcome::Other(said),
                })
            }
            Place::Workload => Ok(visit(self.target, self.protocol)),
        };
        made.unwrap_or_else(|error| Outcome::Other(format!("failed: {error}")))
    }

    /// What the rule that decides is for, in the words of its comment.
    fn deciding_rule<'a>(&self, plan: &'a Plan) -> Option<&'a str> {
        match (self.target.is_ipv4(), &plan.v6) {
            (true, _) => self.find(&plan.v4),
            (false, Some(v6)) => self.find(v6),
            (false, None) => None,
        }
    }

    fn find<'a, F: Family>(&self, ruleset: &'a Ruleset<F>) -> Option<&'a str> {
        let (key, part) = self.rule;
        ruleset
            .rules()
            .filter(|(_, _, rule)| rule.origin.is_some_and(|origin| origin.to_string() == key))
            .filter_map(|(_, _, rule)| rule.comment.as_ref()?.words())
            .find(|words| words.contains(part))
    }
}
