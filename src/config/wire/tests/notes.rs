//! What is passed over with a remark, and texts that are none of ours.

use super::*;

#[test]
fn unknown_variables_are_noted() {
    let (_, notes) = env(&[("REDIRECT_INBOUND_EXCLUDE_PORT", "1"), ("SOMETHING_ELSE", "1")]).unwrap();
    let notes = texts(&notes);
    assert_eq!(
        notes[0],
        "KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORT: unknown environment variable; \
         did you mean `KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_EXCLUDE_PORTS`?"
    );
    assert_eq!(notes[1], "KUMA_TRANSPARENT_PROXY_SOMETHING_ELSE: unknown environment variable");
}

#[test]
fn the_old_ebpf_mode() {
    let config =
        json(r#"{"ebpf": {"enabled": true, "bpffsPath": "/mnt/bpf", "cgroupPath": "/sys/fs/cgroup/workload"}}"#);
    assert!(config.ebpf.enabled);
    assert_eq!(config.ebpf.bpffs.as_deref(), Some("/mnt/bpf".as_ref()));
    assert_eq!(config.ebpf.cgroup.as_deref(), Some("/sys/fs/cgroup/workload".as_ref()));
    assert_eq!(Config::parse(&config.to_json(), Format::Json).unwrap(), config);
    let (config, notes_of_env) =
        env(&[("EBPF_ENABLED", "true"), ("EBPF_BPFFS_PATH", "/a"), ("EBPF_CGROUP_PATH", " ")]).unwrap();
    assert!(
        config.ebpf.enabled && config.ebpf.bpffs.is_some() && config.ebpf.cgroup.is_none() && notes_of_env.is_empty()
    );
    assert!(flags(&[("--ebpf-enabled", "true")]).unwrap().0.ebpf.enabled);
    assert_eq!(problem(r#"{"ebpf": {"enabled": "maybe"}}"#), ("ebpf.enabled".into(), "maybe".into()));
    assert_eq!(problem(r#"{"ebpf": {"cgroupPath": ["/a"]}}"#).0, "ebpf.cgroupPath");
}

#[test]
fn what_other_programs_need_for_ebpf_is_noted_once_each() {
    let document = r#"{"ebpf": {"enabled": true, "instanceIP": "10.0.0.1", "instanceIPEnvVarName": "IP",
        "programsSourcePath": "/tmp/kuma-ebpf", "tcAttachIface": "eth0"}}"#;
    let notes_of_document = notes(document);
    assert_eq!(notes_of_document.len(), 4, "{notes_of_document:?}");
    for (note, key) in
        notes_of_document.iter().zip(["instanceIP", "instanceIPEnvVarName", "programsSourcePath", "tcAttachIface"])
    {
        assert!(note.starts_with(&format!("ebpf.{key}: not needed, since ")), "{note}");
    }
    // Said by the source that counts.
    let mut layers = Layers::new();
    layers.document("", document, Format::Json);
    layers.environment([(format!("{PREFIX}EBPF_INSTANCE_IP"), "10.0.0.2".to_owned())]);
    layers.flag("--ebpf-tc-attach-iface", "eth1");
    let said = texts(&layers.finish().unwrap().1);
    assert_eq!(said.len(), 4, "{said:?}");
    assert!(said[0].starts_with("KUMA_TRANSPARENT_PROXY_EBPF_INSTANCE_IP: "), "{said:?}");
    assert!(said[3].starts_with("--ebpf-tc-attach-iface: "), "{said:?}");
    // Nothing to say where the mode is off, or nothing is said.
    for quiet in [
        r#"{"ebpf": {"enabled": false, "instanceIP": "1.1.1.1", "tcAttachIface": "eth0", "cgroupPath": "/a"}}"#,
        r#"{"ebpf": {"enabled": true, "instanceIP": "", "tcAttachIface": [], "programsSourcePath": null}}"#,
    ] {
        assert!(notes(quiet).is_empty(), "{quiet}");
    }
}

#[test]
fn unknown_keys_are_noted_with_the_nearest_known_one() {
    let notes = notes(
        r#"{"redirect": {"inbound": {"excludePort": [1], "Port": 7}, "vnets": {"networks": []}, "skipConntrackZoneSplit": true},
            "somethingNew": {"a": [1]}, "exclude-inbound-ports": 1, "a\nb": 2}"#,
    );
    assert_eq!(
        notes,
        [
            "tp.json: unknown key `redirect.inbound.excludePort`; did you mean `excludePorts`?",
            "tp.json: the key `redirect.inbound.Port` is read as `redirect.inbound.port`",
            "tp.json: unknown key `redirect.vnets`; did you mean `vnet`?",
            "tp.json: unknown key `redirect.skipConntrackZoneSplit`; did you mean `redirect.dns.skipConntrackZoneSplit`?",
            "tp.json: unknown key `somethingNew`",
            "tp.json: unknown key `exclude-inbound-ports`; did you mean `redirect.inbound.excludePorts`?",
            "tp.json: unknown key `a\\nb`",
        ]
    );
    assert_eq!(json(r#"{"redirect": {"inbound": {"Port": 7}}}"#).redirect.inbound.port.number(), 7);
}

#[test]
fn very_many_unknown_keys_are_summed_up() {
    let keys: Vec<_> = (0..1000).map(|number| format!(r#""key{number}": 1"#)).collect();
    let notes = notes(&format!("{{{}}}", keys.join(",")));
    assert_eq!(notes.len(), 101);
    assert!(notes[100].contains("900 more"), "{}", notes[100]);
}

#[test]
fn a_key_twice() {
    assert_eq!(problem(r#"{"wait": 1, "wait": 2, "wait": 3}"#), ("wait".into(), "2".into()));
    assert_eq!(problem(r#"{"redirect": {}, "Redirect": {}}"#).0, "redirect");
}

#[test]
fn syntax_errors_say_where() {
    let mut layers = Layers::new();
    layers.document("tp.json", "{\n \"wait\": 1,\n \"verbose\": x\n}", Format::Json);
    let error = layers.finish().unwrap_err();
    let [problem] = error.problems() else { panic!("{error}") };
    assert_eq!((problem.path.as_str(), problem.value.as_str()), ("tp.json: line 3 column 13", "\"verbose\": x"));
    assert!(problem.expected.starts_with("valid JSON: expected value"), "{problem}");
    assert!(Config::parse("{} {}", Format::Json).is_err());
}

#[test]
fn hostile_json_ends_soon() {
    for text in ["[".repeat(10 << 20), "{\"a\":".repeat(2 << 20), format!("\"{}\"", "x".repeat(10 << 20))] {
        assert!(Config::parse(&text, Format::Json).is_err());
    }
}
