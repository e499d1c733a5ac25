//! Runs the body of a test in a network namespace of its own, as an ordinary user too.

use std::io::Write as _;
use std::process::{Command, Stdio};

#[path = "skip.rs"]
mod skip;
use self::skip::run;
pub(crate) use self::skip::skipped;

/// Set in the process that runs the body of a test.
const MARK: &str = "KUMATP_TEST_ISOLATED";

/// Runs `body` in a new network namespace with an empty `/run`, in a process of its own. An ordinary
/// user's is in a user namespace, in which it is root.
///
/// Where it is not possible, prints `skipped: <why>`, which is a failure if the environment variable
/// `KUMATP_REQUIRE_ALL` is 1.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    if std::env::var_os(MARK).is_some() {
        return body();
    }
    // The path of the closure: crate::test::{{closure}}.
    let path = std::any::type_name::<F>().trim_end_matches("::{{closure}}");
    let name = path.split_once("::").map_or(path, |(_, name)| name);
    let mut unshare = Command::new("unshare");
    unshare.args(["--net", "--mount"]);
    if !nix::unistd::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let prepare = "mount -t tmpfs tmpfs /run && ip link set lo up && nft list ruleset";
    let possible = Command::new(unshare.get_program()).args(unshare.get_args()).args(["sh", "-c", prepare]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        return skipped(&format!("no network namespace can be made here, or nft or ip is missing: {possible:?}"));
    }
    let exe = std::env::current_exe().unwrap();
    let status = unshare
        .args(["sh", "-c", &format!("{prepare} && exec \"$@\""), "sh"])
        .arg(exe)
        .args([name, "--exact", "--nocapture"])
        .env(MARK, "1")
        .env(run::RUN, run::run())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{name} failed in its namespace");
}

/// Runs a program that has to succeed, with something to read, and returns what it prints.
pub(crate) fn run(program: &str, args: &[&str], input: &str) -> String {
    let mut child = Command::new(program).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {args:?}");
    String::from_utf8(output.stdout).unwrap()
}
