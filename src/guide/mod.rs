//! Guides: what the rules are for, every configuration key, and what is read on Kubernetes.

pub mod configuration {
    #![doc = include_str!("configuration.md")]
}

pub mod kubernetes {
    #![doc = include_str!("kubernetes.md")]
}

pub mod rules {
    #![doc = include_str!("rules.md")]
}
