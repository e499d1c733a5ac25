//! The C ABI of `libkumatp.so`. `include/kumatp.h` is generated from this module and is its reference.
//!
//! Opaque, immutable handles in the middle, UTF-8 documents at the edges, a status number as the
//! result, and an optional error object as the last parameter. The rules that hold for every
//! function are written once, in the header's preamble (`cbindgen.toml`).
//!
//! This is the only module with `unsafe` code beside a few system calls: an exported function turns
//! its raw pointers into the checked types of `boundary` in one block, and all else is safe code
//! behind one panic boundary.
#![expect(unsafe_code, reason = "C callers give raw pointers, and exported functions have unmangled names")]
#![expect(non_camel_case_types, reason = "the types have the names that C knows them by")]
#![cfg_attr(doc, expect(rustdoc::broken_intra_doc_links, reason = "@param[out] is for the header's readers"))]
#![expect(clippy::missing_safety_doc, reason = "the header's preamble says what every pointer must be")]

mod boundary;
mod embedded;
#[cfg(all(feature = "host", target_os = "linux"))]
mod host;
#[cfg(not(all(feature = "host", target_os = "linux")))]
#[path = "no_host.rs"]
mod host;
mod state_answer;

// In the order of the header.
mod status;

mod error;
mod text;

mod config;
mod kubernetes;

mod dataplane;

mod facts;

mod plan;
mod simulate;

mod arguments;
mod engine;
mod installed;
mod state;

mod firewalld;
mod save;

pub use self::arguments::*;
pub use self::config::*;
pub use self::dataplane::*;
pub use self::engine::*;
pub use self::error::*;
pub use self::facts::*;
pub use self::firewalld::*;
pub use self::installed::*;
pub use self::kubernetes::*;
pub use self::plan::*;
pub use self::save::*;
pub use self::simulate::*;
pub use self::state::*;
pub use self::status::*;
pub use self::text::*;

use std::ffi::{CStr, c_char};

/// The number of the ABI that this header describes. It changes only with an incompatible change, and the
/// soname with it; compare it with kumatp_abi_version(). Since 0.1.
pub const KUMATP_ABI_VERSION: u32 = 1;

/// The longest text that is read, in bytes (64 MiB); a longer one is refused before it is looked at. Since 0.1.
pub const KUMATP_MAX_TEXT: usize = 67_108_864;

/// Returns the number of the ABI that the library has: KUMATP_ABI_VERSION of the header that it was built with.
///
/// Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kumatp_abi_version() -> u32 {
    KUMATP_ABI_VERSION
}

/// Returns the version of the library, such as "0.1.0".
///
/// The text is NUL-terminated and static: never free it. Never fails. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kumatp_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };
    VERSION.as_ptr()
}

/// Handles are shared between threads.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<kumatp_config>();
    shared::<kumatp_dataplane>();
    shared::<kumatp_error>();
    shared::<kumatp_facts>();
    shared::<kumatp_plan>();
    shared::<kumatp_state>();
    shared::<kumatp_text>();
};

#[cfg(all(test, feature = "yaml"))]
mod tests;
