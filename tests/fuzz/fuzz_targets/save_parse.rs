//! Any text is refused or makes rules that print and read back as themselves.
#![no_main]

use kumatp::net::{V4, V6};
use kumatp::save;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(ruleset) = save::parse::<V4>(text).and_then(|saved| saved.ruleset()) {
        let again = save::parse::<V4>(&save::write(&ruleset)).expect("our own text");
        assert_eq!(again.ruleset().expect("our own rules").canonical(), ruleset.canonical());
    }
    let _ = save::parse::<V6>(text);
});
