//! Any rules of iptables-save and any packet give an answer.
#![no_main]

use kumatp::net::{V4, V6};
use kumatp::simulate::{AnyPacket, Simulator};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &str)| {
    let (rules, packet) = input;
    let Ok(packet) = packet.parse::<AnyPacket>() else { return };
    assert_eq!(packet.to_string().parse::<AnyPacket>().as_ref(), Ok(&packet));
    let (v4, v6) = (kumatp::iptables_save::parse::<V4>(rules).ok(), kumatp::iptables_save::parse::<V6>(rules).ok());
    if let Ok(simulator) = Simulator::of_saved(v4.as_ref(), v6.as_ref()) {
        let _ = simulator.explain(&packet).to_string();
    }
});
