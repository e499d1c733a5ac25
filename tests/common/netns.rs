//! Runs the body of a test in a network namespace of its own.

use std::ffi::c_int;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

#[path = "skip.rs"]
mod skip;
use self::skip::run;
pub(crate) use self::skip::skipped;

/// Set in the process that runs the body.
const MARK: &str = "KUMATP_TEST_ISOLATED";

/// Runs `body` in a new network namespace with a private, empty `/run`, in a process of its own, so
/// that tests can run side by side. Needs root: rules that name the sidecar's uid cannot be made in
/// a user namespace in which that uid does not exist.
///
/// Where it is not possible, prints `skipped: <why>`, which is a failure if the environment variable
/// `KUMATP_REQUIRE_ALL` is 1.
pub(crate) fn isolated<F: FnOnce()>(body: F) {
    if std::env::var_os(MARK).is_some() {
        run("ip", &["link", "set", "lo", "up"]);
        return body();
    }
    // The path of the closure: crate::module::test::{{closure}}.
    let path = std::any::type_name::<F>();
    let name = path.trim_end_matches("::{{closure}}").split_once("::").map_or(path, |(_, name)| name);
    if !nix::unistd::geteuid().is_root() {
        return skipped("root is needed");
    }
    let exe = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(exe);
    command.args([name, "--exact", "--nocapture", "--include-ignored"]).env(MARK, "1").env(run::RUN, run::run());
    // SAFETY: between fork and exec only system calls are made, with constant arguments: nothing is
    // allocated and no lock is taken.
    unsafe { command.pre_exec(unshare) };
    match command.status() {
        Ok(status) => assert!(status.success(), "{name} failed in its namespace"),
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => skipped("namespaces cannot be made here"),
        Err(error) => panic!("{error}"),
    }
}

/// Runs a program that has to succeed, and returns what it prints.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {args:?}: {stderr}");
    String::from_utf8(output.stdout).expect("programs print UTF-8")
}

fn unshare() -> io::Result<()> {
    // SAFETY: system calls with constant arguments that outlive them.
    unsafe {
        check(libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS))?;
        let none: *const libc::c_void = std::ptr::null();
        check(libc::mount(none.cast(), c"/".as_ptr(), none.cast(), libc::MS_REC | libc::MS_PRIVATE, none))?;
        check(libc::mount(c"tmpfs".as_ptr(), c"/run".as_ptr(), c"tmpfs".as_ptr(), 0, none))
    }
}

fn check(result: c_int) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
