//! What the book says about the plugin.

use std::process::Command;

use serde_json::{Value, json};

use crate::common::world::{World, possible};
use crate::pods::{is_left_alone, is_redirected, pod};
use crate::runtime::{Network, plugin, result};

const PAGE: &str = include_str!("../../docs/pages/how-to/cni.md");

/// The text between the fences of the one block in a language that has a word in it.
fn block(language: &str, word: &str) -> &'static str {
    let blocks = PAGE.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)).find(|block| block.contains(word)).unwrap()
}

#[test]
fn the_network_configuration() {
    if !possible() {
        return;
    }
    let list: Value = serde_json::from_str(block("json", "plugins")).unwrap();
    let plugins = list["plugins"].as_array().unwrap();
    let own = plugins.last().unwrap();
    assert!(own["type"] == "kumatp-cni" && plugins.len() == 2);
    let mut network = Network::usual();
    network.list = json!({"cniVersion": "1.1.0", "name": list["name"], "plugins": [own]});
    network.general("STATUS", &json!({})).run().done();
    let world = World::new().unwrap();
    for version in list["cniVersions"].as_array().unwrap() {
        let version = version.as_str().unwrap();
        let (network, pod) = (network.clone().in_version(version), pod(&world));
        network.add(&pod, Some(result(version))).done();
        is_redirected(&world);
        network.check(&pod, &result(version)).done();
        network.del(&pod, &result(version)).done();
        is_left_alone(&world);
        // A namespace that it excludes.
        let mut system = pod;
        system.args = "K8S_POD_NAMESPACE=kuma-system".into();
        network.add(&system, Some(result(version))).done();
        is_left_alone(&world);
    }
}

#[test]
fn the_commands() {
    let build = block("sh", "cargo build").trim().lines().next().unwrap();
    assert_eq!(build, "cargo build --release --features cni --bin kumatp-cni");
    let programs = plugin().parent().unwrap().to_owned();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh").args(["-euc", block("sh", "CNI_COMMAND")]).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let reply: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(reply["supportedVersions"].as_array().unwrap().contains(&"1.1.0".into()));
}
