//! The table of instructions is what its sources give.

use std::process::Command;

use crate::common::skip::skipped;

#[test]
fn the_table_is_what_the_compiler_makes() {
    if Command::new("clang-14").arg("--version").output().is_err() {
        return skipped("clang-14 is not there");
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ebpf/programs/build");
    let output = Command::new(script).arg("--check").output().expect("the script runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
