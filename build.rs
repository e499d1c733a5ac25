//! Names the shared library after the number of its ABI, so that a program finds the one that it was linked to.

#[cfg(unix)]
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where the number stands.
const SOURCE: &str = "src/ffi/mod.rs";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={SOURCE}");
    let source = fs::read_to_string(SOURCE).expect("the sources are here");
    let number = source
        .split_once("pub const KUMATP_ABI_VERSION: u32 = ")
        .and_then(|(_, rest)| rest.split_once(';'))
        .and_then(|(number, _)| number.parse::<u32>().ok())
        .expect("src/ffi/mod.rs has the number of the ABI");
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        let name = format!("libkumatp.so.{number}");
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,{name}");
        if let Some(dir) = built_in() {
            link(&dir.join(name));
        }
    }
}

/// The directory in which cargo puts the library, if it is this tree that is built and not a program that depends on it.
fn built_in() -> Option<PathBuf> {
    let tree = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    // OUT_DIR is DIRECTORY/build/kumatp-HASH/out.
    let dir = PathBuf::from(env::var_os("OUT_DIR")?).ancestors().nth(3)?.to_owned();
    let cloned = tree.join(".git").exists() && !tree.join(".cargo-ok").exists();
    (cloned || dir.starts_with(&tree)).then_some(dir)
}

/// A program that is linked to the library asks for its soname, of which cargo makes no file.
#[cfg(unix)]
fn link(path: &Path) {
    match std::os::unix::fs::symlink("libkumatp.so", path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            println!("cargo:warning=cannot link {} to libkumatp.so: {error}", path.display());
        }
        _ => {}
    }
}

#[cfg(not(unix))]
fn link(_: &Path) {}
