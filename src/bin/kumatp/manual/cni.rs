//! The page kumatp-cni(8).

use super::page::{Block, Page, Section, items};

const KEYS: &[(&str, &str)] = &[
    (
        "capabilities",
        "`{\"io.kubernetes.cri.pod-annotations\": true, \"dns\": true}` makes the runtime hand over the annotations and the name servers of pods.",
    ),
    ("kubernetes.exclude_namespaces", "Namespaces whose pods are not redirected."),
    (
        "podFile",
        "The path of a file with the Pod or its annotations, used instead of what the runtime hands over. `{containerID}`, `{namespace}`, `{name}` and `{uid}` are replaced.",
    ),
    (
        "configMapFile",
        "The path of the ConfigMap that a pod names, or of its `config.yaml`. `{namespace}` and `{configMap}` are replaced.",
    ),
    (
        "systemConfigMapFile",
        "The path of the operator's ConfigMap. A setting of a pod that only repeats it is not refused.",
    ),
    ("profile", "The Kuma generation of the annotations: `kuma-3`, the default, or `kuma-2.9`."),
    ("dns.nameservers", "The name servers of pods."),
];

const OPERATIONS: &[(&str, &str)] = &[
    (
        "ADD",
        "Installs the rules by netlink in the pod's network namespace, compares them, and passes the previous result on.",
    ),
    ("CHECK", "Compares the rules, and fails if one differs."),
    ("DEL", "Removes the rules. A namespace that is gone is a success."),
    ("GC", "Does nothing: all rules are in the namespaces of pods."),
    ("STATUS", "Installs rules in a network namespace of its own. Fails with code 50 if the kernel refuses them."),
    ("VERSION", "Lists the versions of the specification: 0.3.0 to 1.1.0."),
];

pub(super) fn page() -> Page {
    Page {
        name: "kumatp-cni".into(),
        title: "kumatp-cni".into(),
        section: 8,
        about: "CNI plugin that redirects the traffic of pods to their Kuma sidecars".into(),
        sections: vec![
            Section::new(
                "SYNOPSIS",
                vec![Block::Code("CNI_COMMAND=VERSION kumatp-cni <network-configuration.json".into())],
            ),
            Section::new(
                "DESCRIPTION",
                vec![
                    Block::Text(
                        "A container runtime runs the plugin before a pod starts, after the plugin that makes the pod's interface. The \
                         plugin runs no other program and does not call the Kubernetes API. It redirects a pod whose annotation \
                         `kuma.io/sidecar-injected` is `true`, as the annotation `traffic.kuma.io/transparent-proxy-config` says."
                            .into(),
                    ),
                    Block::Text(
                        "A pod that should be redirected and cannot be does not start. The runtime shows the error: the annotation, its \
                         value, and what would be right."
                            .into(),
                    ),
                    Block::Text("CAP_NET_ADMIN is needed, and CAP_SYS_ADMIN to enter network namespaces.".into()),
                ],
            ),
            Section::new("CONFIGURATION", vec![items(KEYS)]),
            Section::new("OPERATIONS", vec![items(OPERATIONS)]),
            Section::new(
                "EXIT STATUS",
                vec![Block::Text(
                    "0 success, 1 failure. A failure is a JSON document on standard output, with the codes of the CNI specification; 11 \
                     asks the runtime to try again. Warnings go to standard error."
                        .into(),
                )],
            ),
            Section::text("SEE ALSO", "`kumatp`(1), `kumatp.yaml`(5)"),
        ],
    }
}

/// The library's table has the same keys and operations.
#[test]
fn the_keys_are_those_of_the_plugin() {
    let documentation = std::fs::read_to_string(super::root().join("src/cni/mod.rs")).unwrap();
    let rows = documentation.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let keys: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
    assert_eq!(keys, KEYS.iter().map(|(key, _)| *key).collect::<Vec<_>>());
    assert!(OPERATIONS.iter().all(|(name, _)| documentation.contains(&format!("//! - **{name}** "))));
}
