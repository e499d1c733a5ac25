//! The command as a process.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

#[path = "skip.rs"]
pub(crate) mod skip;

/// Runs the command without this process's `KUMA_*` variables.
pub(crate) fn kumatp(args: &[&str], stdin: &str) -> Output {
    with_variables(args, stdin, &[])
}

pub(crate) fn with_variables(args: &[&str], stdin: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kumatp"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KUMA") {
            command.env_remove(name);
        }
    }
    command.envs(variables.iter().copied());
    let mut child = command.spawn().unwrap();
    // A command that reads nothing may be gone by now.
    let _ = child.stdin.take().unwrap().write_all(stdin.as_bytes());
    child.wait_with_output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Refused: the exit status, nothing on standard output, and these words on standard error.
pub(crate) fn refused(status: i32, args: &[&str], stdin: &str, words: &[&str]) {
    let output = kumatp(args, stdin);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {stderr}");
    assert_eq!(text(&output.stdout), "", "{args:?}");
    for word in words {
        assert!(stderr.contains(word), "{args:?} does not say {word}: {stderr}");
    }
}

/// Runs a script in a network namespace of its own, with `$KUMATP` for the command; `None` where that
/// is not possible here, or the script's output begins with `skipped: `.
pub(crate) fn in_a_namespace(script: &str) -> Option<Output> {
    let possible = Command::new("unshare").args(["-rnm", "mount", "-t", "tmpfs", "run", "/run"]).output();
    if !possible.as_ref().is_ok_and(|output| output.status.success()) {
        skip::skipped(&format!("user namespaces and the program unshare are needed: {possible:?}"));
        return None;
    }
    let prepare = "set -eu; mount -t tmpfs run /run; code() { set +e; \"$@\" >/dev/null 2>&1; echo $?; set -e; }\n";
    let output = Command::new("unshare")
        .args(["-rnm", "sh", "-c", &format!("{prepare}{script}")])
        .env("KUMATP", env!("CARGO_BIN_EXE_kumatp"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    if let Some(why) = text(&output.stdout).strip_prefix("skipped: ") {
        skip::skipped(why);
        return None;
    }
    Some(output)
}
