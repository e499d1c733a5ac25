//! Whether a packet was seen where the simulator says that it ends.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use kumatp::simulate::{Arrival, Direction, Explanation, Tracking, Verdict};

use nix::errno::Errno;

use crate::edges::{Interface, is_own};
use crate::flight::Sightings;
use crate::shot::Shot;
use crate::wire;

/// What is wrong with where a packet ends. What connection tracking knows of it, and whether a connection is made of it, depends
/// here on more than on the packet.
pub(crate) fn ends_wrong(shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings) -> Vec<String> {
    let mut wrong = Vec::new();
    match &seen.failed {
        Some(why) if !is_refusal(why, explanation) => wrong.push(format!("it could not be sent: {why}")),
        _ => drop(places(shot, explanation, seen, &mut wrong)),
    }
    wrong
}

/// Whether it could not be sent because a rule drops it: whoever sends what is dropped in OUTPUT is told.
fn is_refusal(why: &str, explanation: &Explanation<'_>) -> bool {
    explanation.request.verdict == Verdict::Dropped && why == io::Error::from(Errno::EPERM).to_string()
}

/// Where the packet goes; adds to the complaints if it was seen elsewhere.
fn places(shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings, wrong: &mut Vec<String>) -> Option<SocketAddr> {
    let destination = shot.flow.destination;
    let (mut arrived, mut left) = (BTreeSet::new(), BTreeSet::new());
    let mut goes_to = Some(destination);
    match &explanation.request.verdict {
        Verdict::Delivered if is_own(destination.ip()) => drop(arrived.insert(destination)),
        Verdict::Delivered => drop(left.insert((Interface::towards(destination.ip()).name, destination))),
        Verdict::Redirected { port } => {
            let addrs = redirected_to(shot);
            let possible = addrs.iter().map(|addr| SocketAddr::new(*addr, port.number()));
            goes_to = possible.clone().find(|to| seen.arrived.contains(to)).or(possible.clone().next());
            arrived.extend(goes_to);
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
    goes_to
}

/// All that is wrong, if anything.
pub(crate) fn complaints(shot: &Shot, explanation: &Explanation<'_>, seen: &Sightings) -> Vec<String> {
    let outcome = &explanation.request;
    if let Some(why) = seen.failed.as_ref().filter(|why| !is_refusal(why, explanation)) {
        return vec![format!("it could not be sent: {why}")];
    }
    let mut wrong = Vec::new();
    let goes_to = places(shot, explanation, seen, &mut wrong);
    if let Verdict::Redirected { port } = &outcome.verdict {
        wrong.extend(heard_wrong(shot, port.number(), seen));
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
        // What this host sends to itself has its entry before it comes back, and may be dropped then.
        (Some(entry), None) if shot.direction != Direction::Outbound || !is_own(shot.flow.destination.ip()) => {
            wrong.push(format!("tracked: {entry:?}"));
        }
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
    if shot.flow.protocol != wire::UDP || explanation.request.verdict == Verdict::Dropped {
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
/// (linux net/netfilter/nf_nat_redirect.c; which one, depends on the order in which they were added); by native rules also to
/// the address of the host that the packet has.
fn redirected_to(shot: &Shot) -> Vec<IpAddr> {
    let is_v4 = shot.flow.source.is_ipv4();
    match (shot.direction, &shot.interface) {
        (Direction::Inbound | Direction::Forwarded, Some(interface)) => {
            let addrs = Interface::named(interface).addrs.iter().filter_map(|addr| addr.parse::<IpAddr>().ok());
            let own = Some(shot.flow.destination.ip()).filter(|addr| is_own(*addr));
            addrs.filter(|addr| addr.is_ipv4() == is_v4).chain(own).collect()
        }
        _ if is_v4 => vec![Ipv4Addr::LOCALHOST.into(), shot.flow.source.ip()],
        _ => vec![Ipv6Addr::LOCALHOST.into(), shot.flow.source.ip()],
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
