//! The C ABI of `libkumatp.so`; `include/kumatp.h` is generated from it and is its reference.
#![expect(unsafe_code, reason = "exported C functions have unmangled names")]

use std::ffi::{CStr, c_char};

/// The number of the ABI that this header describes. It changes only with an incompatible change, and the
/// soname with it; compare it with `kumatp_abi_version()`.
pub const KUMATP_ABI_VERSION: u32 = 1;

/// Returns the number of the ABI that the library has.
///
/// Never fails; may be called from any thread. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kumatp_abi_version() -> u32 {
    KUMATP_ABI_VERSION
}

/// Returns the version of the library, such as "0.1.0".
///
/// The text is NUL-terminated and static: never free it. Never fails; may be called from any thread.
/// Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn kumatp_version() -> *const c_char {
    const VERSION: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
        Ok(version) => version,
        Err(_) => panic!("a version has no NUL"),
    };
    VERSION.as_ptr()
}
