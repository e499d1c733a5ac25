//! Guides: what the rules are for, ways past the sidecar that were closed, redirection by eBPF, what is read on Kubernetes, what is
//! checked of a Dataplane, how names of the mesh are resolved, every configuration key, and how rules are tested.

pub mod advisories {
    #![doc = include_str!("advisories.md")]
}

pub mod configuration {
    #![doc = include_str!("configuration.md")]
}

pub mod dataplanes {
    #![doc = include_str!("dataplanes.md")]
}

pub mod ebpf {
    #![doc = include_str!("ebpf.md")]
}

pub mod kubernetes {
    #![doc = include_str!("kubernetes.md")]
}

pub mod names {
    #![doc = include_str!("names.md")]
}

pub mod rules {
    #![doc = include_str!("rules.md")]
}

pub mod testing {
    // Its examples read YAML.
    #![cfg_attr(any(feature = "yaml", not(doctest)), doc = include_str!("testing.md"))]
}
