//! Any text is refused or makes rules that print and read back as themselves.
#![no_main]

use kumatp::net::{V4, V6};
use kumatp::iptables_save;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(ruleset) = iptables_save::parse::<V4>(text).and_then(|saved| saved.ruleset()) {
        let again = iptables_save::parse::<V4>(&iptables_save::write(&ruleset)).expect("our own text");
        assert_eq!(again.ruleset().expect("our own rules").canonical(), ruleset.canonical());
    }
    let _ = iptables_save::parse::<V6>(text);
});
