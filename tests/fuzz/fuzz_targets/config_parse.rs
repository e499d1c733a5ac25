//! Any text is refused or makes a configuration that prints and reads back as itself.
#![no_main]

use kumatp::Config;
use kumatp::config::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, Format::Yaml) {
        assert_eq!(Config::parse(&config.to_json(), Format::Json).expect("our own JSON"), config);
    }
});
