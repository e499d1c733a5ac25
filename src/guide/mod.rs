//! Guides: what the rules are for, and every configuration key.

pub mod configuration {
    #![doc = include_str!("configuration.md")]
}

pub mod rules {
    #![doc = include_str!("rules.md")]
}
