//! What the guide says about the plugin under Kuma's chart and with Multus.

use std::path::Path;

use serde_json::{Value, json};

use crate::common::world::possible;
use crate::decisions::{namespace, tables};
use crate::runtime::{ANNOTATIONS, Network, Pod, plugin, result};

/// The blocks of a language in the section about the chart, in their order.
fn blocks(language: &str) -> Vec<&'static str> {
    let page = include_str!("../../docs/pages/reference/kubernetes.md");
    let section = page.split_once("\n## kumatp-cni under Kuma's chart\n").unwrap().1.split_once("\n## ").unwrap().0;
    section.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix(language)).collect()
}

fn document(index: usize) -> Value {
    serde_json::from_str(blocks("json")[index]).unwrap()
}

/// A list as Kuma's installer makes of it, and the program under the name that the page gives it.
fn network(name: &str, own: Value) -> Network {
    let programs = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni-guide").join(name);
    let _ = std::fs::remove_dir_all(&programs);
    std::fs::create_dir_all(&programs).unwrap();
    std::os::unix::fs::symlink(plugin(), programs.join(own["type"].as_str().unwrap())).unwrap();
    let list = json!({"cniVersion": own["cniVersion"], "name": "k8s-pod-network", "plugins": [own]});
    Network { list, programs }
}

const DNS: &str = "{kumaDPUser: '5678', redirect: {dns: {enabled: true}, outbound: {excludePorts: [5432]}}}";

#[test]
fn the_config_map_of_the_chart() {
    if !possible() {
        return;
    }
    // The installer puts the path of a file in its place.
    let text = blocks("json")[0];
    assert!(text.contains("__KUBECONFIG_FILEPATH__"));
    let own: Value = serde_json::from_str(&text.replace("__KUBECONFIG_FILEPATH__", "/etc/cni/net.d/kuma")).unwrap();
    let version = own["cniVersion"].as_str().unwrap().to_owned();
    let netns = namespace();
    let mut pod = Pod::injected(netns.path(), DNS);
    pod.capabilities.insert("dns".into(), json!({"servers": ["10.96.0.10"]}));
    let with = network("chart", own.clone());
    with.add(&pod, Some(result(&version))).done();
    let rules = tables(&netns);
    for word in ["table ip kuma-mesh", "10.96.0.10", "5432"] {
        assert!(rules.contains(word), "{word}: {rules}");
    }
    // This version of the specification has no CHECK.
    with.del(&pod, &result(&version)).done();
    assert_eq!(tables(&netns), "");

    // As the chart has it, the line is missing, and the error names it.
    let mut chart = own;
    chart.as_object_mut().unwrap().remove("capabilities").unwrap();
    let without = network("chart-without", chart);
    let (code, text) = without.add(&pod, Some(result(&version))).error(&version);
    assert!(code == 7 && text.contains("capabilities") && text.contains(ANNOTATIONS), "{code} {text}");
    assert_eq!(tables(&netns), "");
    // Of excluded namespaces nothing need be known.
    let mut system = pod;
    system.args = "K8S_POD_NAMESPACE=kube-system".into();
    for network in [&with, &without] {
        network.add(&system, Some(result(&version))).done();
    }
    assert_eq!(tables(&netns), "");
}

#[test]
fn with_multus_a_file_takes_the_place_of_annotations() {
    if !possible() {
        return;
    }
    let mut own = document(1);
    let version = own["cniVersion"].as_str().unwrap().to_owned();
    let template = own["podFile"].as_str().unwrap().to_owned();
    let (root, below) = template.split_once("/{namespace}").unwrap();
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni-guide-pods");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(dir.join("shop")).unwrap();
    assert!(root.starts_with('/'));
    own["podFile"] = format!("{}/{{namespace}}{below}", dir.display()).into();
    let network = network("multus", own);
    let netns = namespace();
    // Nothing is handed over but who it is, and there is no result of another plugin.
    let mut pod = Pod::new(netns.path(), &[]);
    pod.capabilities.clear();
    let add = || network.add(&pod, None);
    let (code, text) = add().error(&version);
    assert!(code == 11 && text.contains("web-0.yaml"), "{code} {text}");
    std::fs::write(dir.join("shop/web-0.yaml"), blocks("yaml")[0]).unwrap();
    add().done();
    let rules = tables(&netns);
    for word in ["table ip kuma-mesh", "10.96.0.10", "5432"] {
        assert!(rules.contains(word), "{word}: {rules}");
    }
    network.del(&pod, &result(&version)).done();
    assert_eq!(tables(&netns), "");
}
