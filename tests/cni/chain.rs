//! A chain of two plugins: one of the test's own, which gives the pod an address, and `kumatp-cni` behind it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::common::world::{World, possible};
use crate::pods::{is_left_alone, is_redirected, pod};
use crate::runtime::{ANNOTATIONS, Network, plugin};

/// The first plugin: ADD gives the interface one more address, DEL takes it, CHECK looks for it.
const FIRST: &str = r#"#!/bin/sh
set -eu
address=10.77.0.12/24
fail() {
    printf '{"cniVersion": "1.1.0", "code": 100, "msg": "%s", "details": ""}' "$1"
    exit 1
}
inside() { nsenter --net="$CNI_NETNS" ip "$@"; }
input=$(cat)
case $CNI_COMMAND in
ADD)
    case $input in *prevResult*) fail "it is not the first" ;; esac
    inside addr replace $address dev "$CNI_IFNAME" || fail "no address"
    printf '{"cniVersion": "1.1.0", "interfaces": [{"name": "%s", "sandbox": "%s"}], "ips": [{"address": "%s", "interface": 0}]}' \
        "$CNI_IFNAME" "$CNI_NETNS" $address
    ;;
CHECK)
    inside addr show dev "$CNI_IFNAME" | grep -q $address || fail "the address is gone"
    ;;
DEL)
    inside addr del $address dev "$CNI_IFNAME" || true
    ;;
VERSION)
    printf '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}'
    ;;
esac
"#;

/// A directory with both plugins, and a network that has them one behind the other.
pub(crate) fn network(name: &str) -> Network {
    let programs: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("cni").join(name);
    let _ = std::fs::remove_dir_all(&programs);
    std::fs::create_dir_all(&programs).unwrap();
    let first = programs.join("first");
    std::fs::write(&first, FIRST).unwrap();
    std::fs::set_permissions(&first, PermissionsExt::from_mode(0o755)).unwrap();
    symlink(plugin(), programs.join("kumatp-cni")).unwrap();
    let list = json!({
        "cniVersion": "1.1.0",
        "cniVersions": ["0.4.0", "1.0.0", "1.1.0"],
        "name": "dbnet",
        "plugins": [
            {"type": "first", "keyA": ["some more", "plugin specific", "configuration"]},
            {"type": "kumatp-cni", "capabilities": {ANNOTATIONS: true, "dns": true}}
        ]
    });
    Network { list, programs }
}

#[test]
fn behind_another_plugin() {
    if !possible() {
        return;
    }
    let world = World::new().unwrap();
    let (network, pod) = (network("chain"), pod(&world));
    let result: Value = serde_json::from_str(&network.add(&pod, None).done()).unwrap();
    assert_eq!(result["ips"][0]["address"], "10.77.0.12/24", "the result of the first plugin is that of the chain");
    is_redirected(&world);
    network.check(&pod, &result).done();

    // A failure of either is one of the chain.
    let run = |args: &[&str]| {
        assert!(world.workload.enter(|| Command::new(args[0]).args(&args[1..]).status()).unwrap().success())
    };
    run(&["nft", "delete", "table", "ip6", "kuma-mesh"]);
    let (code, text) = network.check(&pod, &result).error("1.1.0");
    assert!(code == 105 && text.contains("ip6 kuma-mesh is missing"), "{code} {text}");
    network.add(&pod, None).done();
    network.check(&pod, &result).done();
    run(&["ip", "addr", "del", "10.77.0.12/24", "dev", "eth0"]);
    assert_eq!(network.check(&pod, &result).error("1.1.0").0, 100);

    for _ in 0..2 {
        network.del(&pod, &result).done();
    }
    is_left_alone(&world);
}
