//! The C ABI from outside: C, C++, Python and Go programs against the library that cargo has just built.
#![cfg(all(feature = "capi", feature = "yaml", feature = "host", target_os = "linux"))]

#[path = "../common/netns.rs"]
#[expect(unsafe_code, reason = "network namespaces are made between fork and exec")]
mod netns;

mod abi;
mod c;
mod capabilities;
mod go;
mod library;
mod python;
mod readme;
