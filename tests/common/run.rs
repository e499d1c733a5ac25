//! Which run of cargo this process belongs to, and where its tests note what they skip.

use std::path::{Path, PathBuf};

/// Tells a process that a test starts for a part of it which run of cargo it belongs to.
pub(crate) const RUN: &str = "KUMATP_TEST_RUN";

/// Where each run of cargo has a file with what its tests skip.
pub(crate) fn place() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/skipped"))
}

/// The run of cargo that this process belongs to: the number of cargo's process, and when that was started, since numbers are
/// used again.
pub(crate) fn run() -> String {
    std::env::var(RUN).unwrap_or_else(|_| of_process(std::os::unix::process::parent_id()).unwrap_or_default())
}

/// The name of a process's run; none if there is no such process.
pub(crate) fn of_process(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(PathBuf::from(format!("/proc/{process}/stat"))).ok()?;
    // What follows the name in parentheses begins with the third field; the start is the 22nd.
    let start = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.to_owned();
    Some(format!("{process}-{start}"))
}
