//! The command where something ordinary is missing: threads and processes, the signal SIGCHLD, a real network namespace.

#[path = "common/command.rs"]
#[expect(dead_code, reason = "other tests run the command without a namespace")]
mod command;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use command::{in_a_namespace, skip::skipped, text};

/// An empty directory that every user may enter.
fn directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("kumatp-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir(&directory).unwrap();
    std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
    directory
}

#[test]
fn the_iptables_engine_works_with_sigchld_ignored() {
    let script = r#"
        command -v iptables-save >/dev/null || { echo "skipped: iptables is needed"; exit 0; }
        ip link set lo up
        jumps() { iptables-save | grep -c -- '-j KUMA_MESH_' || true; }
        # Root of the host, once more in a namespace of its own, may not use the lock in its /run.
        export XTABLES_LOCKFILE=/run/xtables.lock
        ignored="--engine iptables --kuma-dp-user=0 --ip-family-mode=ipv4"
        (trap '' CHLD; exec $KUMATP install $ignored)
        jumps
        (trap '' CHLD; exec $KUMATP install $ignored)
        (trap '' CHLD; exec $KUMATP status) | grep -o "installed by iptables"
        (trap '' CHLD; exec $KUMATP uninstall)
        jumps
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    let [installed, there, again, "installed by iptables", removed, none] = lines[..] else { panic!("{stdout}") };
    assert!(installed.contains("installed") && again.contains("IPv4") && removed.contains("removed"), "{stdout}");
    assert!(there.parse::<u32>().unwrap() > 0 && none == "0", "{stdout}");
}

/// Runs a script as a user who may have so many processes and threads, in a network namespace of its own; `$KUMATP` is
/// the command.
fn with_threads(number: u32, script: &str) -> Option<String> {
    let directory = directory(&format!("threads-{number}"));
    let program = directory.join("kumatp");
    std::fs::copy(env!("CARGO_BIN_EXE_kumatp"), &program).unwrap();
    // The limit is not for root.
    let as_user: &[&str] = match nix::unistd::geteuid().is_root() {
        true => &["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"],
        false => &["env"],
    };
    let limited = format!("prlimit --nproc={number} -- $KUMATP");
    let output = Command::new(as_user[0])
        .args(&as_user[1..])
        .args(["unshare", "-rnm", "sh", "-c"])
        .arg(format!("mount -t tmpfs run /run && ip link set lo up || exit 77\n{script}").replace("LIMITED", &limited))
        .env("KUMATP", &program)
        .current_dir("/")
        .output()
        .unwrap();
    std::fs::remove_dir_all(&directory).unwrap();
    match output.status.code() {
        Some(77) => skipped(&format!("user namespaces and the program prlimit are needed: {output:?}")),
        _ => return Some(text(&output.stdout) + &text(&output.stderr)),
    }
    None
}

#[test]
fn no_more_threads_are_an_error() {
    let status = "command -v prlimit >/dev/null || exit 77; LIMITED status --netns /proc/self/ns/net; echo $?";
    let Some(said) = with_threads(1, status) else { return };
    assert!(said.contains("cannot start a thread") && said.starts_with("1\n"), "{said}");
    let install = "LIMITED install --engine iptables --kuma-dp-user=0 --ip-family-mode=ipv4; echo $?";
    for number in 1..=6 {
        let Some(said) = with_threads(number, install) else { return };
        assert!(!said.contains("panicked") && (said.contains("\n0\n") || said.starts_with("1\n")), "{number}: {said}");
    }
}

#[test]
fn what_is_no_network_namespace_is_not_waited_for() {
    let directory = directory("no-namespace");
    let at = |name: &str| directory.join(name).display().to_string();
    nix::unistd::mkfifo(at("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::fs::write(at("file"), "").unwrap();
    let script = format!(
        r#"
        for what in {} {} {} /dev/zero; do
            for command in status uninstall "install --kuma-dp-user=0" "install --kuma-dp-user=0 --engine iptables" "explain --live tcp 192.0.2.1:80"; do
                said=$($KUMATP $command --netns "$what" 2>&1) && echo "$command $what: 0"
                case $said in *"is no network namespace"*) ;; *) echo "$command $what: $said" ;; esac
            done
        done
        mkfifo /run/servers
        echo 'redirect: {{dns: {{enabled: true, resolvConfigPath: /run/servers}}}}' >/run/tp.yaml
        $KUMATP install --kuma-dp-user=0 --config /run/tp.yaml 2>&1 || echo $?
    "#,
        at("pipe"),
        at("file"),
        directory.display()
    );
    let Some(output) = in_a_namespace(&script) else { return };
    let said = text(&output.stdout);
    let lines: Vec<_> = said.lines().collect();
    let [error, "1"] = lines[..] else { panic!("{said}") };
    assert!(error.contains("/run/servers") && error.contains("it is not a regular file"), "{said}");
    std::fs::remove_dir_all(&directory).unwrap();
}
