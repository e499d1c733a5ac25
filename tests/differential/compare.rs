//! Whether a packet was seen where the simulator says that it ends.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kumatp::simulate::{Arrival, Direction, Explanation, Tracking, Verdict};

use crate::edges::{Interface, is_own};
use crate::flight::Sightings;
use crate::shot::Shot;
use crate::wire;

/// All that is wrong, if anything.
pub(crate) fn complaints(shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings) -> Vec<String> {
    let outcome = &explanation.request;
    if let Some(why) = &seen.failed {
        return vec![format!("it could not be sent: {why}")];
    }
    let mut wrong = Vec::new();
    let destination = shot.flow.destination;
    let (mut arrived, mut left) = (BTreeSet::new(), BTreeSet::new());
    let mut goes_to = Some(destination);
    match &outcome.verdict {
        Verdict::Delivered if is_own(destination.ip()) => drop(arrived.insert(destination)),
        Verdict::Delivered => drop(left.insert((Interface::towards(destination.ip()).name, destination))),
        Verdict::Redirected { port } => {
            let addrs = redirected_to(shot);
            let possible = addrs.iter().map(|addr| SocketAddr::new(*addr, port.number()));
            goes_to = possible.clone().find(|to| seen.arrived.contains(to)).or(possible.clone().next());
            arrived.extend(goes_to);
            wrong.extend(heard_wrong(shot, port.number(), seen));
        }
        Verdict::Dropped => goes_to = None,
        other => wrong.push(format!("a verdict that nothing here can show: {other}")),
    }
    if seen.arrived != arrived {
        wrong.push(format!("delivered on the host to {:?}", seen.arrived));
    }
    if seen.left != left {
        wrong.push(format!("gone to {:?}", seen.left));
    }
    if outcome.verdict == Verdict::Dropped && !seen.heard.is_empty() {
        wrong.push(format!("heard: {:?}", seen.heard));
    }
    let has_ports = matches!(shot.flow.protocol, wire::TCP | wire::UDP);
    match (&seen.tracked, goes_to) {
        (Some(entry), _) if entry.zone != outcome.zone => {
            wrong.push(format!("tracked in zone {} instead of {}", entry.zone, outcome.zone));
        }
        (Some(entry), Some(to)) if entry.reply.source != to => {
            wrong.push(format!("tracked as going to {}", entry.reply.source));
        }
        (Some(entry), None) => wrong.push(format!("tracked: {entry:?}")),
        (None, Some(_)) if has_ports && shot.tracking != Tracking::Invalid => {
            let translated = matches!(outcome.verdict, Verdict::Redirected { .. });
            if translated || outcome.zone != 0 {
                wrong.push(format!("not tracked, in zone {} or any other", outcome.zone));
            }
        }
        _ => {}
    }
    wrong.extend(answer_wrong(shot, explanation, seen));
    wrong
}

/// Whether the answer to a query does not come, or comes, as it should. That of a connection is part of opening it.
fn answer_wrong(shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings) -> Option<String> {
    if shot.flow.protocol != wire::UDP {
        return None;
    }
    let redirected = matches!(explanation.request.verdict, Verdict::Redirected { .. });
    let elsewhere = shot.direction == Direction::Outbound && !is_own(shot.flow.destination.ip());
    if !redirected && !elsewhere {
        // Nobody is there to answer.
        return None;
    }
    let Some(reply) = &explanation.reply else { return Some("no word of an answer".into()) };
    let arrives = !matches!(reply.arrival, Arrival::Lost { .. });
    match (arrives, seen.answered) {
        (true, Some(true)) | (false, None | Some(false)) => None,
        (_, seen) => Some(format!("the answer: {:?}, as {seen:?}, instead of {:?}", reply.packet, reply.arrival)),
    }
}

/// Where redirection leads: to the loopback address for what was made on the host, to one of the interface's for what arrives
/// (linux net/netfilter/nf_nat_redirect.c; which one, depends on the order in which they were added).
fn redirected_to(shot: &Shot) -> Vec<IpAddr> {
    let is_v4 = shot.flow.source.is_ipv4();
    match (shot.direction, &shot.interface) {
        (Direction::Inbound | Direction::Forwarded, Some(interface)) => {
            let addrs = Interface::named(interface).addrs.iter().filter_map(|addr| addr.parse::<IpAddr>().ok());
            addrs.filter(|addr| addr.is_ipv4() == is_v4).collect()
        }
        _ if is_v4 => vec![Ipv4Addr::LOCALHOST.into()],
        _ => vec![Ipv6Addr::LOCALHOST.into()],
    }
}

/// Whether the listener has not what it should have.
fn heard_wrong(shot: &Shot, port: u16, seen: &Sightings) -> Option<String> {
    let original = match shot.flow.protocol {
        wire::TCP if shot.tracking == Tracking::New => Some(shot.flow.destination),
        wire::UDP => None,
        // No connection is made of these.
        _ => return None,
    };
    let right = matches!(seen.heard[..], [heard] if heard.port == port && heard.original == original);
    (!right).then(|| format!("the listener at {port} should have heard of it once, but: {:?}", seen.heard))
}
