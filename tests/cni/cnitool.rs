//! The specification's own runtime, `cnitool`, with the same chain. `tests/cni/install` puts it where it is looked for.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::chain::network;
use crate::common::skip::skipped;
use crate::common::world::{World, possible};
use crate::pods::{is_left_alone, is_redirected, pod};

#[test]
fn the_reference_runtime() {
    if !possible() {
        return;
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cnitool/cnitool");
    if !tool.exists() {
        return skipped("cnitool is not there: bash tests/cni/install");
    }
    let world = World::new().unwrap();
    let (network, pod) = (network("cnitool"), pod(&world));
    let lists = network.programs.join("net.d");
    let state = network.programs.join("state");
    for directory in [&lists, &state] {
        std::fs::create_dir_all(directory).unwrap();
    }
    let list = lists.join("10-dbnet.conflist");
    std::fs::write(&list, network.list.to_string()).unwrap();
    let run = |command: &str| -> Output {
        // It keeps results in /var/lib/cni, for which it gets a directory of its own.
        Command::new("unshare")
            .args(["--mount", "sh", "-c", "mount --bind \"$0\" /var/lib && exec \"$@\""])
            .arg(&state)
            .arg(&tool)
            .args([command, "dbnet", &pod.netns])
            .env("NETCONFPATH", &lists)
            .env("CNI_PATH", &network.programs)
            .env("CNI_ARGS", &pod.args)
            .env("CAP_ARGS", Value::from(pod.capabilities.clone()).to_string())
            .output()
            .unwrap()
    };
    let done = |command: &str| {
        let output = run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let failed = |command: &str| {
        let output = run(command);
        assert!(!output.status.success(), "{command}");
        String::from_utf8(output.stderr).unwrap()
    };

    done("status");
    let result: Value = serde_json::from_str(&done("add")).unwrap();
    assert_eq!((&result["cniVersion"], &result["ips"][0]["address"]), (&"1.1.0".into(), &"10.77.0.12/24".into()));
    is_redirected(&world);
    done("check");
    let flushed = world.workload.enter(|| Command::new("nft").args(["flush", "table", "ip", "kuma-mesh"]).status());
    assert!(flushed.unwrap().success());
    assert!(failed("check").contains("the rules of the pod are not active"));
    done("add");
    done("check");
    done("del");
    is_left_alone(&world);
    done("del");
    // What GC finds stale it takes back by DEL.
    done("add");
    is_redirected(&world);
    done("gc");
    is_left_alone(&world);
    // A pod that may not start.
    let text = network.list.to_string().replace("\"dns\":true", "\"dns\":false");
    std::fs::write(&list, text).unwrap();
    let error = failed("add");
    assert!(error.contains("redirect.dns.enabled") && error.contains("captureAll"), "{error}");
    assert!(!world.has_ours());
}
