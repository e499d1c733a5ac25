//! Packets of one connection after another: what the first leaves in connection tracking decides about the second.

use kumatp::net::{FamilyName, PortSet};
use kumatp::simulate::Tracking;
use kumatp::{Config, Facts};

use crate::shot::Shot;
use crate::trial::{Bench, Tally, Trial};
use crate::wire::{self, Flow};

/// What happens before the packets that are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    /// An ACK from nowhere, with the same addresses and ports.
    Ack,
    /// The same packet, while other rules are in force that let it pass, so that it leaves an entry that is not translated.
    OtherRules,
    /// The same packet, whose entry is then lost.
    Lost,
}

impl Bench<'_> {
    /// Sends the connections of a trial, each once more after something has happened to it.
    pub(crate) fn run_sequences(&mut self, trial: &Trial, tally: &mut Tally) {
        let connections: Vec<Shot> = (trial.shots.iter())
            .filter(|shot| shot.flow.protocol == wire::TCP && shot.tracking == Tracking::New)
            .cloned()
            .collect();
        let open = open(&trial.config, &trial.facts);
        for before in [Before::Ack, Before::OtherRules, Before::Lost] {
            let first = match before {
                Before::Ack => Tracking::MidStream,
                Before::OtherRules | Before::Lost => Tracking::New,
            };
            let then = match before {
                Before::Ack => Tracking::New,
                Before::OtherRules => Tracking::Reused,
                Before::Lost => Tracking::Lost,
            };
            let name = format!("{}, {before:?}", trial.name);
            // To a loopback address from another one, a packet may take another interface, and is dropped there before it has an entry.
            let has_entry = |shot: &&Shot| {
                let Flow { source, destination, .. } = shot.flow;
                before != Before::OtherRules || !destination.ip().is_loopback() || source.ip().is_loopback()
            };
            let with = |(config, facts): (&Config, &Facts), tracking| {
                let shots = connections.iter().filter(has_entry).map(|shot| shot.tracked(tracking)).collect();
                Trial::new(name.clone(), config.clone(), facts.clone(), shots)
            };
            let earlier = if before == Before::OtherRules { (&open.0, &open.1) } else { (&trial.config, &trial.facts) };
            // A reset would end the entry, or the connection.
            let resets = |bench: &Self, command: &str| {
                let text = format!("*raw\n{command} OUTPUT -p tcp -m tcp --tcp-flags RST RST -j DROP\nCOMMIT\n");
                FamilyName::ALL.into_iter().for_each(|family| bench.restore(family, &text));
            };
            resets(self, "-A");
            self.send_unjudged(&with(earlier, first), tally);
            resets(self, "-D");
            if before == Before::Lost {
                self.forget();
            }
            self.send_after(&with((&trial.config, &trial.facts), then), tally);
        }
    }
}

/// The same configuration where every connection passes.
fn open(config: &Config, facts: &Facts) -> (Config, Facts) {
    let all: PortSet = "1-65535".parse().expect("a range of ports");
    let mut config = config.clone();
    for exclude in [&mut config.redirect.inbound.exclude_ports, &mut config.redirect.outbound.exclude_ports] {
        *exclude = all.clone();
    }
    config.redirect.inbound.include_ports = PortSet::default();
    config.redirect.outbound.include_ports = PortSet::default();
    config.redirect.vnet.clear();
    config.drop_invalid_packets = false;
    (config, facts.clone())
}
