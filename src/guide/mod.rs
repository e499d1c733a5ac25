//! Guides: what the rules are for, how names of the mesh are resolved, and every configuration key.

pub mod configuration {
    #![doc = include_str!("configuration.md")]
}

pub mod names {
    #![doc = include_str!("names.md")]
}

pub mod rules {
    #![doc = include_str!("rules.md")]
}
