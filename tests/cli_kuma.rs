//! Configurations for Kuma's own programs, by the command.
#![cfg(feature = "cli")]

#[path = "common/command.rs"]
#[expect(dead_code, reason = "other tests run the command in a namespace")]
mod command;

use self::command::{kumatp, refused, text};

const MIXED: &str =
    "ipFamilyMode: required\nharden: true\nredirect: {inbound: {port: '15106', excludePorts: [80-82]}}\n";

/// Exit status, standard output, standard error.
fn run(args: &[&str], stdin: &str) -> (Option<i32>, String, String) {
    let output = kumatp(args, stdin);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn what_kuma_refuses_is_a_note_or_a_problem() {
    let (status, out, notes) = run(&["validate", "-", "--strict"], MIXED);
    assert_eq!((status, out.as_str()), (Some(0), "-: valid\n"), "{notes}");
    let lines: Vec<_> = notes.lines().collect();
    assert_eq!(
        lines,
        [
            "note: -: ipFamilyMode: 'required' is refused by kuma-dp and kumactl: expected 'dualstack' or 'ipv4'; 'required' is \
             kumatp's own",
            "note: -: redirect.inbound.port: '15106' is refused by kuma-dp and kumactl: expected a number without quotes",
            "note: -: redirect.inbound.excludePorts[0]: '80-82' is refused by kumactl: expected single ports, one by one",
        ]
    );

    let paths = ["-: ipFamilyMode: 'required'", "-: redirect.inbound.port: '15106'"];
    refused(2, &["validate", "-", "--for", "kuma-dp"], MIXED, &paths);
    let (_, _, told) = run(&["validate", "-", "--for", "kuma-dp"], MIXED);
    assert!(!told.contains("80-82") && !told.contains("harden"), "{told}");
    for program in ["kuma", "kumactl"] {
        refused(2, &["validate", "-", "--for", program], MIXED, &[paths[0], paths[1], "excludePorts[0]: '80-82'"]);
        let (_, _, told) = run(&["validate", "-", "--for", program], MIXED);
        assert!(told.contains("warning: -: harden: 'true' is read differently by kumactl"), "{told}");
    }

    // What is passed over is no reason to refuse, but one to warn.
    let passed_over = "harden: true\n";
    assert_eq!(run(&["validate", "-"], passed_over), (Some(0), "-: valid\n".into(), String::new()));
    assert_eq!(run(&["validate", "-", "--for=kuma"], passed_over).0, Some(0));
    assert_eq!(run(&["validate", "-", "--for=kuma", "--strict"], passed_over).0, Some(1));
    assert_eq!(run(&["validate", "-", "--for=kuma-dp", "--strict"], passed_over).0, Some(0));
    // What the sidecar takes for something else is worth a note: rules for IPv4, and a sidecar for both.
    let (status, _, notes) = run(&["validate", "-"], "ipFamilyMode: IPv4\n");
    assert!(
        status == Some(0) && notes.starts_with("note: -: ipFamilyMode: 'IPv4' is read differently by kuma-dp"),
        "{notes}"
    );
    // Neither where all is well, nor for a document that is wrong anyway.
    assert_eq!(
        run(&["validate", "-", "--for=kuma", "--strict"], "wait: 3\n"),
        (Some(0), "-: valid\n".into(), String::new())
    );
    let (status, _, told) = run(&["validate", "-", "--for=kuma"], "wait: x\nipFamilyMode: required\n");
    assert!(status == Some(2) && told.contains("'x'") && !told.contains("kuma-dp"), "{told}");
    refused(2, &["validate", "-", "--for=istio"], "", &["kuma-dp", "kumactl"]);
}

#[test]
fn the_same_as_json() {
    let (status, out, said) = run(&["validate", "-", "--json"], MIXED);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["valid"], true);
    let notes = json["files"][0]["notes"].as_array().unwrap();
    assert_eq!((notes.len(), notes[1]["about"].as_str()), (3, Some("-: redirect.inbound.port")));

    let (status, out, _) = run(&["validate", "-", "--json", "--for=kuma"], MIXED);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    let problems = json["files"][0]["problems"].as_array().unwrap();
    assert!(status == Some(2) && json["valid"] == false && problems.len() == 3, "{json}");
    assert_eq!(
        (problems[1]["path"].as_str(), problems[1]["value"].as_str()),
        (Some("-: redirect.inbound.port"), Some("15106"))
    );
    assert_eq!(json["files"][0]["warnings"].as_array().unwrap().len(), 1);
}

#[test]
fn the_form_that_kuma_reads_is_written() {
    let (status, written, warnings) = run(&["config", "print", "--config=-", "--redirect-dns", "--for=kuma"], MIXED);
    assert_eq!(status, Some(0), "{warnings}");
    let lines: Vec<_> = warnings.lines().map(|line| line.split(':').nth(1).unwrap().trim()).collect();
    assert_eq!(lines, ["ipFamilyMode", "harden"], "{warnings}");
    assert!(written.contains("port: 15106\n") && written.contains("- 80\n    - 81\n    - 82\n"), "{written}");
    let all_is_well = (Some(0), "-: valid\n".into(), String::new());
    assert_eq!(run(&["validate", "-", "--for=kuma", "--strict"], &written), all_is_well);
    let (_, json, _) = run(&["config", "print", "--config=-", "--redirect-dns", "--for=kuma", "-o", "json"], MIXED);
    assert_eq!(run(&["validate", "-", "--for=kuma", "--strict"], &json), all_is_well);

    // Without it, everything that was said.
    let (status, written, said) = run(&["config", "print", "--config=-"], MIXED);
    assert_eq!((status, said.as_str()), (Some(0), ""));
    assert!(written.contains("ipFamilyMode: required\n") && written.contains("harden: true\n"), "{written}");

    // Of a pod and of a Dataplane as well.
    let pod = "metadata: {annotations: {traffic.kuma.io/exclude-inbound-ports: 8000-8002}}";
    let (_, plain, _) = run(&["config", "from-pod", "-"], pod);
    assert_eq!(run(&["validate", "-", "--for=kuma"], &plain).0, Some(2), "{plain}");
    let (_, for_kuma, _) = run(&["config", "from-pod", "-", "--for=kuma"], pod);
    assert_eq!(run(&["validate", "-", "--for=kuma", "--strict"], &for_kuma), all_is_well, "{for_kuma}");
    let dataplane = "{type: Dataplane, mesh: default, name: a, networking: {address: 192.0.2.1, inbound: [{port: 80, tags: {kuma.io/service: a}}],
        transparentProxying: {redirectPortInbound: 15106, redirectPortOutbound: 15101}}}";
    let (status, for_kuma, said) = run(&["config", "from-dataplane", "-", "--for=kuma"], dataplane);
    assert_eq!(status, Some(0), "{said}");
    assert_eq!(run(&["validate", "-", "--for=kuma", "--strict"], &for_kuma), all_is_well, "{for_kuma}");
}
