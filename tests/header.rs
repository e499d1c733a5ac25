//! `include/kumatp.h` is what the sources say. `KUMATP_BLESS=1` rewrites it.
#![cfg(feature = "capi")]

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml")).unwrap();
    let mut generated = Vec::new();
    cbindgen::Builder::new()
        .with_config(config)
        .with_src(root.join("src/ffi/mod.rs"))
        .generate()
        .unwrap()
        .write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    let path = root.join("include/kumatp.h");
    if std::env::var_os("KUMATP_BLESS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert!(generated == committed, "include/kumatp.h is stale: run KUMATP_BLESS=1 cargo test --test header");
    for function in ["kumatp_abi_version", "kumatp_version"] {
        assert!(committed.contains(function));
    }
}
