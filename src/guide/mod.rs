//! Guides: what the rules are for, ways past the sidecar that were closed, redirection by eBPF, what is read on Kubernetes, what is
//! checked of a Dataplane, how names of the mesh are resolved, every configuration key, and how rules are tested.
//!
//! They are pages of the book in `docs/`, which has tutorials and how-to guides as well. Of two definitions of a link the first counts: those
//! here are for rustdoc, those at a page's end for whoever reads the page as a file.

/// Ways past the sidecar that were found and closed.
pub mod advisories {
    #![doc = include_str!("../../docs/pages/explanation/advisories.md")]
}

/// Every configuration key, with its variable and its flag.
pub mod configuration {
    #![doc = include_str!("../../docs/pages/reference/configuration.md")]
}

/// What is checked of a `Dataplane`.
pub mod dataplanes {
    #![doc = include_str!("../../docs/pages/reference/dataplanes.md")]
}

/// Redirection without translation of packets: the ebpf engine.
pub mod ebpf {
    #![doc = include_str!("../../docs/pages/explanation/ebpf.md")]
}

/// Annotations, ConfigMaps and variables of the control plane.
///
/// [configuration]: crate::guide::configuration
pub mod kubernetes {
    #![doc = include_str!("../../docs/pages/reference/kubernetes.md")]
}

/// Names of the mesh: from a query to the sidecar.
pub mod names {
    #![doc = include_str!("../../docs/pages/explanation/names.md")]
}

/// The rules, and why each is there.
///
/// [advisories]: crate::guide::advisories
pub mod rules {
    #![doc = include_str!("../../docs/pages/explanation/rules.md")]
}

/// Unit tests of rules in Rust, Go and C.
pub mod testing {
    // Its examples read YAML.
    #![cfg_attr(any(feature = "yaml", not(doctest)), doc = include_str!("../../docs/pages/how-to/testing.md"))]
}
