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
    let Some(tracked) = tracked(root) else { return skip::skipped("there is no checkout that git opens") };
    // Cargo writes these itself.
    let of_cargo = ["Cargo.toml.orig", "Cargo.lock", ".cargo_vcs_info.json"];
    let strange: Vec<_> = shipped.iter().filter(|path| !of_cargo.contains(path) && !tracked.contains(**path)).collect();
    assert!(strange.is_empty(), "not in the repository, and shipped: {strange:?}");
    let is_of_the_checkout =
        |path: &str| OF_THE_CHECKOUT.iter().any(|one| path == *one || path.starts_with(&format!("{one}/")));
    let missing: Vec<_> =
        tracked.iter().filter(|path| !shipped.contains(path.as_str()) && !is_of_the_checkout(path)).collect();
    assert!(missing.is_empty(), "neither in the list `include` of Cargo.toml nor in OF_THE_CHECKOUT: {missing:?}");
    let both: Vec<_> = shipped.iter().filter(|path| is_of_the_checkout(path)).collect();
    assert!(both.is_empty(), "{both:?}");
}

/// What only a checkout has.
const OF_THE_CHECKOUT: [&str; 5] = [".cargo/config.toml", ".ci", ".gitignore", "rustfmt.toml", FUZZ];

/// A crate of its own, which cargo leaves out.
const FUZZ: &str = "tests/fuzz";

/// The files that are committed, or are going to be.
fn tracked(root: &Path) -> Option<BTreeSet<String>> {
    let files = |more: &[&str]| {
        let output = Command::new("git").arg("ls-files").args(more).current_dir(root).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (committed, new) = (files(&[])?, files(&["--others", "--exclude-standard"])?);
    let there = committed.lines().chain(new.lines()).filter(|path| root.join(path).exists());
    Some(there.map(str::to_owned).collect())
}
