//! What scripts that were written for kumactl look for on standard output.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "common/command.rs"]
#[expect(dead_code, reason = "other tests run the command without a namespace")]
mod command;

use self::command::{in_a_namespace, text};

const SETUP: &str = "# transparent proxy setup completed successfully. You can now run kuma-dp with the transparent-proxy \
                     feature enabled";
const CLEANUP: &str = "# transparent proxy cleanup completed successfully";

/// Every case with the line that its output ends with, and how often a line of kumactl's is in it.
const CASES: &[(&str, &str, usize)] = &[
    ("$KUMATP install transparent-proxy $rules", SETUP, 1),
    // That nothing was to be done is success.
    ("$KUMATP install transparent-proxy $rules", SETUP, 1),
    ("$KUMATP install $rules transparent-proxy --verbose --redirect-dns-port=15054", SETUP, 1),
    ("/run/kumactl install transparent-proxy $rules", SETUP, 1),
    ("/run/kumactl install $rules", SETUP, 1),
    ("(cd /run; PATH=/run:$PATH; kumactl install transparent-proxy $rules)", SETUP, 1),
    ("$KUMATP install transparent-proxy --engine=netlink $rules", SETUP, 1),
    ("$KUMATP install $rules", "unchanged: these rules for IPv4 were already active", 0),
    // Nothing is said of what was not done.
    ("$KUMATP uninstall transparent-proxy --dry-run", "nothing was changed", 0),
    ("/run/kumactl uninstall transparent-proxy --dry-run", "nothing was changed", 0),
    ("/run/kumactl install transparent-proxy --dry-run $rules", "COMMIT", 0),
    ("/run/kumactl install transparent-proxy --dry-run --engine=netlink $rules", "}", 0),
    ("/run/kumactl install transparent-proxy --redirect-inbound-port=0 $rules || true", "", 0),
    ("/run/kumactl install transparent-proxy --engine=netlink --store-firewalld $rules || true", "", 0),
    ("/run/kumactl install transparent-proxy --engine=netlink --netns=/nowhere $rules || true", "", 0),
    ("/run/kumactl uninstall transparent-proxy --netns=/nowhere || true", "", 0),
    ("/run/kumactl status $rules || true", "current: installed by netlink for IPv4", 0),
    ("$KUMATP uninstall transparent-proxy --verbose", CLEANUP, 1),
    ("$KUMATP uninstall transparent-proxy", CLEANUP, 1),
    ("/run/kumactl uninstall", CLEANUP, 1),
    ("$KUMATP uninstall | grep -c ^# || true", "0", 0),
];

#[test]
fn the_last_line_is_what_scripts_look_for() {
    let mut script = String::from(
        "ln -s \"$KUMATP\" /run/kumactl; rules='--kuma-dp-user=0 --ip-family-mode=ipv4'\n\
         case_() { echo \"=#= $1\"; eval \"$1\" 2>/dev/null; }\n",
    );
    for (case, _, _) in CASES {
        script.push_str(&format!("case_ '{case}'\n"));
    }
    let Some(output) = in_a_namespace(&script) else { return };
    let stdout = text(&output.stdout);
    let told: Vec<_> = stdout.split("=#= ").skip(1).collect();
    assert_eq!(told.len(), CASES.len(), "{stdout}");
    for ((case, last, count), told) in CASES.iter().zip(told) {
        let lines: Vec<_> = told.lines().skip(1).collect();
        assert_eq!(lines.iter().rfind(|line| !line.is_empty()).copied().unwrap_or_default(), *last, "{case}: {told}");
        assert_eq!(told.matches("completed successfully").count(), *count, "{case}: {told}");
        // Beside what kumatp itself says.
        assert!(*count == 0 || lines.len() > 1, "{case}: {told}");
    }
}

#[test]
fn a_line_that_nobody_got_is_a_failure_after_the_work() {
    let script = r#"
        rules='--kuma-dp-user=0 --ip-family-mode=ipv4'
        ln -s "$KUMATP" /run/kumactl
        /run/kumactl install transparent-proxy $rules >/dev/full 2>/run/said || echo $?
        cat /run/said; code $KUMATP status
        /run/kumactl uninstall transparent-proxy >/dev/full 2>/run/said || echo $?
        cat /run/said; code $KUMATP status
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let untold =
        |done: &str| format!("error: {done}, but this cannot be written to standard output: No space left on device");
    let lines: Vec<_> = stdout.lines().filter(|line| !line.starts_with("warning: ")).collect();
    let (installed, removed) = (untold("transparent proxy installed for IPv4"), untold("transparent proxy removed"));
    assert_eq!(lines, ["1", &installed, "0", "1", &removed, "4"]);
}

#[test]
fn going_back_to_kumactl_is_a_note_of_status() {
    let script = r#"
        command -v iptables-nft-restore >/dev/null || { echo "skipped: the program iptables-nft-restore is needed"; exit; }
        rules='--kuma-dp-user=0 --ip-family-mode=ipv4'
        $KUMATP install $rules >/dev/null
        $KUMATP status 2>&1 | grep -v '^note: ebpf'; echo =
        $KUMATP status --verbose 2>&1 | grep kumactl; echo =
        $KUMATP status --json | grep -B1 -A2 '"about": "kumactl"'; echo =
        $KUMATP render --family ipv4 $rules | iptables-nft-restore --noflush
        $KUMATP status 2>&1 >/dev/null | grep kumactl; echo =
        $KUMATP uninstall >/dev/null
        $KUMATP install --engine iptables $rules >/dev/null
        $KUMATP status --verbose 2>&1 | grep kumactl || echo none
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let told: Vec<_> = stdout.split("=\n").collect();
    let [plain, verbose, json, both, of_iptables] = told[..] else { panic!("{stdout}") };
    assert_eq!(plain, "current: installed by netlink for IPv4\n", "what is no news is not said each time");
    assert!(verbose.starts_with("note: kumactl: ") && verbose.contains("engine netlink"), "{verbose}");
    assert!(verbose.contains("'kumatp uninstall' before"), "{verbose}");
    assert!(json.contains("\"info\"") && json.contains("kumatp uninstall"), "{json}");
    assert!(both.starts_with("warning: kumactl: ") && both.contains("'kumatp uninstall' and then kumactl"), "{both}");
    assert_eq!(of_iptables, "none\n", "kumactl removes these itself");
}

/// One line says what to do; no other says it again in other words.
#[test]
fn who_may_not_is_told_how_to() {
    let script =
        "for what in uninstall status; do unshare --user $KUMATP $what 2>&1 && exit 3 || echo \"status $?\"; done";
    let Some(output) = in_a_namespace(script) else { return };
    let said = "error: cannot read or change the network namespace's nf_tables rules: permission denied; run it as root, or with \
                CAP_NET_ADMIN in the user namespace that owns the network namespace\nstatus 1\n";
    assert_eq!(text(&output.stdout), said.repeat(2));
}

/// Without a configuration, nothing says what the rules of iptables should be.
#[test]
fn status_asks_for_what_it_would_compare_with() {
    let script = "command -v iptables-nft-restore >/dev/null || { echo 'skipped: the program iptables-nft-restore is needed'; exit; }\n\
                  $KUMATP install --engine iptables --kuma-dp-user=0 --ip-family-mode=ipv4 2>/dev/null >&2\n\
                  $KUMATP status 2>/dev/null || echo \"status $?\"";
    let Some(output) = in_a_namespace(script) else { return };
    let said = text(&output.stdout);
    assert_eq!(
        said,
        "installed: installed by iptables (nft) for IPv4; not compared: give the configuration (--config)\nstatus 5\n"
    );
}
