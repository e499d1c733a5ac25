//! The connections that are tried, what is expected of each, and what the simulator says of the rule that decides.

use std::io::Write;
use std::net::SocketAddr;

use kumatp::Plan;
use kumatp::model::EngineName;
use kumatp::simulate::{AnyPacket, Simulator, Verdict};

use super::Result;
use super::stage::Stage;
use super::traffic::{ConnectionResult, Protocol, visit};
use super::world::{APP, APP_SSH, APP_V6, DATABASE, DNS, DNS_PORT, INBOUND_PORT, LEGACY, OUTBOUND_PORT, WEB, WEB_V6};

/// A connection to make.
pub(crate) struct Case {
    name: &'static str,
    from: Side,
    to: &'static str,
    target: SocketAddr,
    protocol: Protocol,
    expected: ConnectionResult,
}

/// Where a connection is made.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Sidecar,
    Workload,
}

#[rustfmt::skip]
/// Every connection, in the order in which they are made.
pub(crate) fn all() -> [Case; 9] {
    use ConnectionResult::{Direct, Relayed};
    use Side::{Client, Sidecar, Workload};
    use Protocol::{Tcp, Udp};
    let case = |name, from, to, target, protocol, expected| Case { name, from, to, target, protocol, expected };
    [
        case("inbound", Client, "workload:8080", APP, Tcp, Relayed(INBOUND_PORT)),
        case("inbound, excluded port", Client, "workload:22", APP_SSH, Tcp, Direct),
        case("outbound", Workload, "web:80", WEB, Tcp, Relayed(OUTBOUND_PORT)),
        case("outbound, excluded port", Workload, "database:5432", DATABASE, Tcp, Direct),
        case("outbound, excluded address", Workload, "legacy:80", LEGACY, Tcp, Direct),
        case("the sidecar's own", Sidecar, "web:80", WEB, Tcp, Direct),
        case("DNS over UDP", Workload, "dns:53", DNS, Udp, Relayed(DNS_PORT)),
        case("inbound, IPv6", Client, "workload:8080", APP_V6, Tcp, Relayed(INBOUND_PORT)),
        case("outbound, IPv6", Workload, "web:80", WEB_V6, Tcp, Relayed(OUTBOUND_PORT)),
    ]
}

impl Case {
    /// Makes the connection, and writes what happened and why. True if that is as expected.
    pub(crate) fn show(&self, plan: &Plan, stage: &mut Stage, out: &mut dyn Write) -> Result<bool> {
        let place = match self.from {
            Side::Client => "client",
            Side::Sidecar => "sidecar",
            Side::Workload => "workload",
        };
        let way = format!("{place} → {}", self.to);
        let outcome = match self.target.is_ipv6() && plan.v6.is_none() {
            true => ConnectionResult::Skipped("this kernel has no IPv6"),
            false => self.make(stage),
        };
        let (predicted, why) = self.predict(plan);
        let (well, why) = match &outcome {
            ConnectionResult::Skipped(_) => (true, None),
            _ if outcome != self.expected => (false, Some(format!("WRONG: expected {}, for {why}", self.expected))),
            _ if outcome != predicted => (false, Some(format!("WRONG: the simulator says {predicted}, for {why}"))),
            _ => (true, Some(why)),
        };
        writeln!(out, "{:<27} {way:<26} {outcome}", self.name)?;
        if let Some(why) = why {
            writeln!(out, "    {why}")?;
        }
        Ok(well)
    }

    fn make(&self, stage: &mut Stage) -> ConnectionResult {
        let made = match self.from {
            Side::Client => stage.outside.run(|| Ok(visit(self.target, self.protocol))).map_err(Into::into),
            Side::Sidecar if !stage.second_uid => Ok(ConnectionResult::Skipped("needs a second uid")),
            Side::Sidecar => stage.sidecar.ask(&self.target.to_string()).map(|said| {
                match said == ConnectionResult::Direct.to_string() {
                    true => ConnectionResult::Direct,
                    false => ConnectionResult::Other(said),
                }
            }),
            Side::Workload => Ok(visit(self.target, self.protocol)),
        };
        made.unwrap_or_else(|error| ConnectionResult::Other(format!("failed: {error}")))
    }

    /// What the rules do with the connection, as far as the simulator knows, and why: the key that the deciding rule comes from,
    /// and what it is for.
    fn predict(&self, plan: &Plan) -> (ConnectionResult, String) {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        let target = self.target;
        let packet = match self.from {
            Side::Client => format!("inbound {protocol} {target}"),
            Side::Sidecar => format!("outbound {protocol} {target} uid {}", plan.sockets.sidecar),
            Side::Workload => format!("outbound {protocol} {target}"),
        };
        let packet: AnyPacket = packet.parse().expect("a protocol and an address make a packet");
        let outcome = Simulator::of(plan, EngineName::Netlink).run(&packet);
        let why = match outcome.deciding().map(|step| (step.key(), step.purpose())) {
            Some((Some(key), Some(words))) => format!("{key}: {words}"),
            _ => "no rule".to_owned(),
        };
        let outcome = match outcome.verdict {
            Verdict::Delivered => ConnectionResult::Direct,
            Verdict::Redirected { port } => ConnectionResult::Relayed(port.number()),
            other => ConnectionResult::Other(other.to_string()),
        };
        (outcome, why)
    }
}
