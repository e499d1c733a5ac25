//! Names the shared library after the number of its ABI, so that a program finds the one that it was linked to.

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
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkumatp.so.{number}");
    }
}
