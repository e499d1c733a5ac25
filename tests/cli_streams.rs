//! Output streams that cannot be written: they decide neither about rules nor about what the exit status says of them.
#![cfg(all(feature = "cli", feature = "cni", target_os = "linux"))]

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

#[path = "common/command.rs"]
mod command;

use self::command::{in_a_namespace, kumatp, refused, text};

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").unwrap()
}

/// Something that can be written to and has nobody who reads.
fn nobody() -> Stdio {
    std::os::fd::OwnedFd::from(UnixStream::pair().unwrap().0).into()
}

fn spawn(program: &str, args: &[&str], out: impl Into<Stdio>, err: impl Into<Stdio>) -> Child {
    let mut command = Command::new(program);
    command.args(args).env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(out).stderr(err);
    let mut child = command.spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(br#"{"cniVersion": "1.0.0", "name": "n", "type": "kumatp-cni"}"#);
    child
}

/// The exit status, and what was written to standard error.
fn ends(program: &str, args: &[&str], out: impl Into<Stdio>) -> (Option<i32>, String) {
    let output = spawn(program, args, out, Stdio::piped()).wait_with_output().unwrap();
    (output.status.code(), text(&output.stderr))
}

const KUMATP: &str = env!("CARGO_BIN_EXE_kumatp");
const CNI: &str = env!("CARGO_BIN_EXE_kumatp-cni");

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let results: [&[&str]; 8] = [
        &["--help"],
        &["install", "--help"],
        &["--version"],
        &["completion", "bash"],
        &["completion", "zsh"],
        &["render", "--kuma-dp-user=0", "--ip-family-mode=ipv4"],
        &["validate", "-"],
        &["config", "from-pod", "--help"],
    ];
    let programs = results.iter().map(|args| (KUMATP, *args)).chain([(CNI, &[][..])]);
    for (program, args) in programs {
        assert_eq!(spawn(program, args, Stdio::null(), Stdio::piped()).wait().unwrap().code(), Some(0), "{args:?}");
        let (status, said) = ends(program, args, full());
        assert!(
            status == Some(1) && said.contains("cannot write") && said.contains("No space left"),
            "{args:?}: {said}"
        );
        let (status, said) = ends(program, args, nobody());
        assert!(status == Some(1) && !said.contains("panicked"), "{args:?}: {said}");
        // The standard library takes a write that is not allowed for one that succeeds.
        let (status, said) = ends(program, args, File::open("/dev/null").unwrap());
        assert!(status == Some(1) && said.contains("Bad file descriptor"), "{args:?}: {said}");
    }
}

#[test]
fn a_closed_standard_output_is_known() {
    for (program, args) in [(KUMATP, "--version"), (CNI, "")] {
        let script = format!("{program} {args} </dev/null >&-");
        let output = Command::new("sh").args(["-c", &script]).env_clear().output().unwrap();
        assert!(
            !output.status.success() && text(&output.stderr).contains("Bad file descriptor"),
            "{script}: {output:?}"
        );
    }
}

#[test]
fn errors_that_nobody_reads_keep_their_exit_status() {
    refused(2, &["validate", "/nowhere"], "", &["error: "]);
    for (args, expected) in
        [(&["validate", "/nowhere"][..], 2), (&["--unknown"], 2), (&[], 2), (&["status", "--netns=/nowhere"], 1)]
    {
        assert_eq!(kumatp(args, "").status.code(), Some(expected), "{args:?}");
        for err in [full().into(), nobody()] {
            assert_eq!(spawn(KUMATP, args, Stdio::null(), err).wait().unwrap().code(), Some(expected), "{args:?}");
        }
    }
}

/// A warning comes before the installation: an unknown key.
const INSTALL: &str = r#"
    install() { echo 'redirect: {inbound: {excludePort: [22]}}' | $KUMATP install --config - --kuma-dp-user 0 --ip-family-mode ipv4; }
    installed() { code $KUMATP status; $KUMATP uninstall >/dev/null; }
"#;

#[test]
fn an_installation_does_not_need_anybody_who_listens() {
    let script = r#"
        install >told 2>warned && grep -q '^warning: ' warned && cat told && installed
        install 2>/dev/full >/dev/null && echo full && installed
        install 2>&- >/dev/null && echo closed && installed
        (ulimit -f 0; install 2>small >/dev/null) && echo small && installed
        install 2>/dev/null >/dev/full || echo $? && installed
        install 2>failed >/dev/full || cat failed; installed
        { install; echo $? >status; } 2>&1 >/dev/null | true; cat status; installed
    "#;
    let Some(output) = in_a_namespace(&format!("cd /run\n{INSTALL}{script}")) else { return };
    let stdout = text(&output.stdout);
    let lines: Vec<_> = stdout.lines().filter(|line| !line.starts_with("warning: ")).collect();
    let done = "transparent proxy installed for IPv4";
    let untold = format!("error: {done}, but this cannot be written to standard output: No space left on device");
    assert_eq!(lines, [done, "0", "full", "0", "closed", "0", "small", "0", "1", "0", &untold, "0", "0", "0"]);
}

#[test]
fn a_standard_error_that_is_stuck_holds_nothing_up() {
    // A pipe that is full already, whose reader waits for the end of the installation.
    let script = r#"
        mkfifo stuck && exec 3<>stuck
        dd if=/dev/zero of=stuck bs=65536 count=1 oflag=nonblock status=none
        install 2>stuck >/dev/null &
        until $KUMATP status >/dev/null 2>&1; do kill -0 $! || exit 1; done
        dd if=stuck bs=65536 count=1 status=none | wc -c
        wait $! && echo done
    "#;
    let Some(output) = in_a_namespace(&format!("cd /run\n{INSTALL}{script}")) else { return };
    assert_eq!(text(&output.stdout).split_whitespace().collect::<Vec<_>>(), ["65536", "done"]);
}

#[test]
fn remarks_come_before_the_result() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    let writer = std::os::fd::OwnedFd::from(writer);
    let args = ["render", "--kuma-dp-user=0", "--ip-family-mode=ipv4", "--config=-"];
    let mut command = Command::new(KUMATP);
    command.args(args).env_clear().stdin(Stdio::piped()).stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut child = command.spawn().unwrap();
    drop(command);
    child.stdin.take().unwrap().write_all(b"outbond: {}").unwrap();
    let mut both = String::new();
    reader.read_to_string(&mut both).unwrap();
    assert!(child.wait().unwrap().success() && both.starts_with("warning: ") && both.contains("* nat"), "{both}");
}
