//! The CNI plugin as a runtime meets it: the program itself, with the environment and the input that the specification
//! describes, and real traffic of the pods that it was called for.
#![cfg(all(feature = "cni", target_os = "linux"))]

#[path = "../common/mod.rs"]
#[expect(dead_code, reason = "other engines, virtual machines and long connections are for other tests")]
mod common;

mod chain;
mod cnitool;
mod decisions;
mod guide;
mod pods;
mod protocol;
mod readme;

mod runtime;
