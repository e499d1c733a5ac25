//! What `cargo package` ships.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[path = "common/skip.rs"]
mod skip;

#[test]
fn the_crate_has_what_it_is_built_from() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(env!("CARGO"))
        .args(["package", "--list", "--allow-dirty", "--offline", "--manifest-path"])
        .arg(root.join("Cargo.toml"))
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    if problem.contains("--offline") {
        return skip::skipped("the index of the registry is not here");
    }
    assert!(output.status.success(), "{problem}");
    let list = String::from_utf8(output.stdout).unwrap();
    let shipped: BTreeSet<&str> = list.lines().collect();
    let guide = std::fs::read_to_string(root.join("src/guide/mod.rs")).unwrap();
    let pages: Vec<&str> =
        guide.split("include_str!(\"../../").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(pages.len() >= 8, "{pages:?}");
    let others = [
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "build.rs",
        "include/kumatp.h",
        "docs/man/kumatp.1",
        "docs/pages/reference/kumatp.schema.json",
        "tests/fixtures/save/ours-v4-nft.txt",
    ];
    for path in pages.iter().chain(&others) {
        assert!(shipped.contains(path), "{path} is not shipped");
    }
    // Cargo adds Cargo.toml.orig and its own note of the commit.
    let is_litter = |path: &str| path.ends_with(".rs.orig") || path.ends_with(".rej") || path.starts_with(".ci/");
    let strange: Vec<_> = shipped.iter().filter(|path| is_litter(path)).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
