//! The command as a user meets it: what it prints where, and its exit status.
#![cfg(feature = "cli")]

#[path = "common/command.rs"]
mod command;

use self::command::{in_a_namespace, kumatp, refused, text, with_variables};

/// A dry run for IPv4 and root as the sidecar, of which nothing depends on this machine.
fn rules(args: &[&str], stdin: &str) -> String {
    let mut all = vec!["install", "transparent-proxy", "--dry-run", "--ip-family-mode=ipv4", "--kuma-dp-user=0"];
    all.extend(args);
    let output = kumatp(&all, stdin);
    assert_eq!(text(&output.stderr), "", "a clean run writes nothing to standard error");
    assert_eq!(output.status.code(), Some(0));
    text(&output.stdout)
}

#[test]
fn the_dry_run_of_the_readme() {
    let readme = include_str!("../README.md");
    let line = readme.lines().find(|line| line.starts_with("cargo run --features cli -- install ")).unwrap();
    let args: Vec<_> = line.split(" -- ").nth(1).unwrap().split(' ').collect();
    let output = kumatp(&args, "");
    assert_eq!(output.status.code(), Some(0));
    let stdout = text(&output.stdout);
    for rule in ["-p tcp --dport 22 -j RETURN", "-p udp --dport 53 -j REDIRECT --to-ports 15053", "-j CT --zone 2"] {
        assert!(stdout.contains(rule), "{stdout}");
    }
}

#[test]
fn cargo_run_knows_which_program() {
    let manifest = include_str!("../Cargo.toml");
    assert!(manifest.matches("[[bin]]").count() > 1 && manifest.contains("\ndefault-run = \"kumatp\"\n"));
}

#[test]
fn the_word_transparent_proxy_may_be_left_out() {
    let with = rules(&[], "");
    let without = kumatp(&["install", "--dry-run", "--ip-family-mode=ipv4", "--kuma-dp-user=0"], "");
    assert_eq!(with, text(&without.stdout));
}

#[test]
fn flags_override_variables_which_override_files() {
    let file = "redirect: {inbound: {port: 1003}, outbound: {port: 1001}, dns: {port: 1053}}\nverbose: false\n";
    let output = with_variables(
        &[
            "install",
            "--dry-run",
            "--ip-family-mode=ipv4",
            "--kuma-dp-user=0",
            "--config=-",
            "--redirect-inbound-port=3003",
            "--redirect-all-dns-traffic",
        ],
        file,
        &[
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT", "2003"),
            ("KUMA_TRANSPARENT_PROXY_REDIRECT_OUTBOUND_PORT", "2001"),
        ],
    );
    let stdout = text(&output.stdout);
    for port in ["--to-ports 3003", "--to-ports 2001", "--to-ports 1053"] {
        assert!(stdout.contains(port), "{port}: {stdout}");
    }
}

#[test]
fn several_files_in_one_value() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-files");
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    std::fs::write(path("a.yaml"), "redirect: {outbound: {excludePorts: [1]}}").unwrap();
    std::fs::write(path("b.json"), r#"{"redirect": {"inbound": {"excludePorts": "2,3-4"}}}"#).unwrap();
    let both = rules(&["--config", &format!("{},{}", path("a.yaml"), path("b.json"))], "");
    assert!(both.contains("--dport 1 ") && both.contains("--dport 2 ") && both.contains("--dport 3:4 "), "{both}");
    // A file that has a comma in its name is one file.
    std::fs::write(path("a.yaml,b.json"), "redirect: {outbound: {excludePorts: [9]}}").unwrap();
    let one = rules(&["--config", &format!("{},b.json", path("a.yaml"))], "");
    assert!(one.contains("--dport 9 ") && !one.contains("--dport 2 "), "{one}");
}

#[test]
fn switches() {
    assert!(rules(&["--redirect-inbound=false"], "").contains("-A KUMA_MESH_INBOUND -m comment"));
    assert!(!rules(&["--redirect-dns", "--redirect-dns=false"], "").contains("--dport 53"));
    // To stop capturing everything is not to stop redirecting DNS.
    let file = "redirect: {dns: {enabled: true, captureAll: true}}";
    assert!(rules(&["--config=-", "--redirect-all-dns-traffic"], file).contains("--to-ports 15053"));
    refused(
        2,
        &["install", "--dry-run", "--redirect-dns", "--redirect-all-dns-traffic"],
        "",
        &["--redirect-dns", "--redirect-all-dns-traffic"],
    );
    refused(2, &["install", "--redirect-inbound", "false"], "", &["false", "--redirect-inbound=false"]);
    refused(2, &["install", "--dry-run", "--verbose=maybe"], "", &["--verbose", "maybe"]);
}

#[test]
fn wrong_usage() {
    refused(2, &["install", "--dry-run", "--redirect-dsn"], "", &["--redirect-dsn"]);
    refused(2, &["install", "transparent-proxies"], "", &["transparent-proxies"]);
    refused(2, &["uninstall", "everything"], "", &["everything"]);
    refused(2, &["install", "--engine", "magic"], "", &["--engine", "magic", "netlink", "iptables"]);
    refused(2, &["install", "--dry-run", "--config", "/nowhere/tp.yaml"], "", &["/nowhere/tp.yaml"]);
    refused(2, &["install", "--engine", "netlink", "--ebpf-enabled"], "", &["--engine netlink", "--ebpf-enabled"]);
    refused(
        2,
        &["install", "--engine", "ebpf", "--ebpf-enabled=false"],
        "",
        &["--engine ebpf", "--ebpf-enabled=false"],
    );
    refused(2, &["uninstall", "--engine", "iptables", "--ebpf-enabled"], "", &["--engine iptables", "--ebpf-enabled"]);
    refused(2, &["install", "--dry-run", "--ebpf-enabled=perhaps"], "", &["--ebpf-enabled", "perhaps"]);
    refused(2, &["install", "--dry-run", "--kuma-dp-user", "no-such-user"], "", &["no-such-user"]);
}

#[test]
fn every_problem_is_named_at_once() {
    refused(
        2,
        &["install", "--dry-run", "--config=-", "--wait=soon", "--vnet=docker0"],
        "redirect: {inbound: {port: 70000, excludePorts: [1, x]}}\n",
        &[
            "redirect.inbound.port",
            "70000",
            "redirect.inbound.excludePorts[1]",
            "'x'",
            "--wait",
            "soon",
            "--vnet",
            "docker0",
        ],
    );
}

#[test]
fn flags_of_older_versions() {
    let output = kumatp(
        &[
            "install",
            "--dry-run",
            "--ip-family-mode=ipv4",
            "--kuma-dp-uid",
            "0",
            "--experimental-transparent-proxy-engine",
            "--config-file",
            "-",
        ],
        "redirect: {outbound: {port: 15101}}",
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("--uid-owner 0 ") && text(&output.stdout).contains("--to-ports 15101"));
}

/// Scripts have flags of kumactl itself, about the control plane.
#[test]
fn flags_of_every_command_of_kumactl() {
    let install = ["install", "transparent-proxy", "--dry-run", "--kuma-dp-user=0", "--ip-family-mode=ipv4"];
    let plain = kumatp(&install, "");
    assert_eq!(plain.status.code(), Some(0), "{}", text(&plain.stderr));
    for more in
        [&["--no-config"][..], &["--no-config=true", "--log-level", "off"], &["--context", "a", "--api-timeout=1m"]]
    {
        let output = kumatp(&[&install[..], more].concat(), "");
        assert_eq!(
            (output.status.code(), &output.stdout),
            (Some(0), &plain.stdout),
            "{more:?}: {}",
            text(&output.stderr)
        );
    }
    // For those commands only.
    refused(2, &["status", "--no-config"], "", &["--no-config"]);
}

#[test]
fn files_without_end_are_refused_and_pipes_not_waited_for() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-endless");
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    std::fs::File::create(path("holes")).unwrap().set_len(5 << 30).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    let install = ["install", "--dry-run", "--kuma-dp-user=0", "--ip-family-mode=ipv4"];
    for (file, word, of_the_library) in [
        ("/dev/zero", "64 MiB", "regular file"),
        (&path("holes"), "64 MiB", "67108864 bytes"),
        (&path("pipe"), "named pipe", "regular file"),
    ] {
        refused(2, &["validate", file], "", &[file, word]);
        refused(2, &[&install[..], &["--config", file]].concat(), "", &[file, word]);
        refused(2, &[&install[..], &["--facts", file]].concat(), "", &[file, word]);
        refused(2, &["explain", "tcp", "10.0.0.1:1", "--rules", file], "", &[file, word]);
        refused(2, &["install", "--pod", file], "", &[file, word]);
        refused(2, &["dataplane", "validate", file], "", &[file, word]);
        let variable = ("KUMA_TRANSPARENT_PROXY_REDIRECT_DNS_RESOLV_CONFIG_PATH", file);
        let output = with_variables(&[&install[..], &["--redirect-dns"]].concat(), "", &[variable]);
        let stderr = text(&output.stderr);
        assert!(
            output.status.code() == Some(1) && stderr.contains(file) && stderr.contains(of_the_library),
            "{stderr}"
        );
    }
    // What the shell puts in place of <(command) has no name.
    let script = format!("{} validate <(echo wait: 3)", env!("CARGO_BIN_EXE_kumatp"));
    let output = std::process::Command::new("bash").args(["-c", &script]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
}

#[test]
fn unknown_keys_are_warned_of() {
    let output = kumatp(
        &["install", "--dry-run", "--ip-family-mode=ipv4", "--kuma-dp-user=0", "--config=-"],
        "redirect: {inbound: {excludePort: [22]}}",
    );
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        stderr.starts_with("warning: ") && stderr.contains("excludePort") && stderr.contains("excludePorts"),
        "{stderr}"
    );
}

#[test]
fn validate_reports_by_file() {
    let output = kumatp(&["validate", "-"], "wait: 3\n");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "-: valid\n".to_owned()));
    refused(2, &["validate", "-"], "wait: x\nlog: {level: 9}\n", &["wait", "'x'", "log.level", "'9'"]);
    refused(2, &["validate", "/nowhere"], "", &["/nowhere"]);
}

#[test]
fn validate_names_each_file_once() {
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-validate");
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("it.yaml").display().to_string();
    for text in [
        "wait: x\n",
        "redirect:\n\tinbound: {}\n",
        "wait: 1\n---\nwait: 2\n",
        "[1, 2]",
        "wait: [",
        "wait: 1\nwait: 2\n",
    ] {
        std::fs::write(&path, text).unwrap();
        let stderr = text_of_error(&kumatp(&["validate", &path], ""));
        assert_eq!(stderr.matches(&path).count(), 1, "{text:?}: {stderr}");
    }
    // The others are looked at all the same.
    let output = kumatp(&["validate", "/nowhere", &path, "-"], "");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), "-: valid\n".to_owned()));
    assert!(text_of_error(&output).contains("/nowhere") && text_of_error(&output).contains(&path));
}

fn text_of_error(output: &std::process::Output) -> String {
    text(&output.stderr)
}

#[test]
fn validate_strictly_and_for_programs() {
    let (right, typo) = ("wait: 3\n", "outbond: {}\n");
    for (args, document, status) in [
        (&["validate", "-"][..], typo, 0),
        (&["validate", "-", "--strict"], typo, 1),
        (&["validate", "-", "--strict"], right, 0),
        (&["validate", "-", "--strict", "--json"], typo, 1),
        (&["validate", "-", "--strict"], "outbond: {}\nwait: x\n", 2),
    ] {
        assert_eq!(kumatp(args, document).status.code(), Some(status), "{args:?}, {document}");
    }
    let json = |document: &str| -> serde_json::Value {
        serde_json::from_slice(&kumatp(&["validate", "-", "--json"], document).stdout).unwrap()
    };
    assert_eq!(json(right)["valid"], true);
    let warned = json(typo);
    assert!(warned["valid"] == true && warned["files"][0]["warnings"][0]["text"].as_str().unwrap().contains("outbond"));
    let wrong = json("wait: x\n");
    assert_eq!((&wrong["valid"], &wrong["files"][0]["valid"]), (&false.into(), &false.into()));
    let problem = &wrong["files"][0]["problems"][0];
    assert_eq!((&problem["path"], &problem["value"]), (&"-: wait".into(), &"x".into()));
}

#[test]
fn render_knows_every_syntax() {
    let render = |format: &str| {
        let output = kumatp(&["render", "--format", format, "--ip-family-mode=ipv4", "--kuma-dp-user=0"], "");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
        text(&output.stdout)
    };
    assert_eq!(render("iptables"), rules(&[], ""));
    assert!(render("nft").contains("table ip kuma-mesh {"));
    assert!(render("firewalld").contains("<direct>"));
    let picture = render("mermaid");
    assert!(picture.starts_with("flowchart TD\n") && picture.contains("is made on this host<br/>(IPv4)"), "{picture}");
    assert!(render("dot").starts_with("digraph kumatp {\n"));
    let json: serde_json::Value = serde_json::from_str(&render("json")).unwrap();
    assert!(json.get("ipv4").is_some() && json.get("ipv6").is_none());
    refused(2, &["render", "--format", "xml"], "", &["xml"]);
}

#[test]
fn render_for_one_family() {
    let facts = r#"{"sidecarUid": "4242", "ipv6": {"state": "usable"}}"#;
    let render = |args: &[&str]| text(&kumatp(&[&["render", "--facts=-"], args].concat(), facts).stdout);
    let (four, six) = (render(&["--family=ipv4"]), render(&["--family=ipv6"]));
    assert!(four.starts_with("* nat\n") && four.ends_with("COMMIT\n") && four.contains("-s 127.0.0.6/32"), "{four}");
    assert!(six.starts_with("* nat\n") && six.ends_with("COMMIT\n") && six.contains("-s ::6/128"), "{six}");
    assert_eq!(render(&[]), format!("### IPv4 ###\n\n{four}\n### IPv6 ###\n\n{six}"));
    let picture = render(&["--family=ipv6", "--format=mermaid"]);
    assert!(picture.contains("(IPv6)") && !picture.contains("(IPv4)"), "{picture}");
    refused(2, &["render", "--facts=-", "--family=ipv6", "--format=nft"], facts, &["--family", "nft"]);
    refused(2, &["render", "--facts=-", "--family=ipv6", "--ip-family-mode=ipv4"], facts, &["no rules for IPv6"]);
}

#[test]
fn a_uid_is_an_answer_and_nothing_to_warn_of() {
    let uid = ("KUMA_TRANSPARENT_PROXY_KUMA_DP_USER", "4294967000");
    let base = ["install", "--dry-run", "--ip-family-mode=ipv4"];
    for (args, stdin, variables) in [
        (&["--kuma-dp-user=4294967000"][..], "", &[][..]),
        (&["--config=-"], "kumaDPUser: '4294967000'", &[]),
        (&[], "", &[uid]),
    ] {
        let output = with_variables(&[&base[..], args].concat(), stdin, variables);
        assert!(text(&output.stdout).contains("--uid-owner 4294967000"), "{output:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
    }
}

#[test]
fn what_only_shows_rules_needs_no_user_for_the_sidecar() {
    // Without a user database there is neither of the usual ones.
    let script = r#"
        mount --bind /dev/null /etc/passwd
        for command in "install --dry-run" render "explain tcp 10.0.0.1:1"; do
            $KUMATP $command --ip-family-mode ipv4 2>said >told || exit 1
            grep -q '^note: kumaDPUser: .*5678' said && echo noted
        done
        code $KUMATP install --ip-family-mode ipv4
    "#;
    let Some(output) = in_a_namespace(&format!("cd /run\n{script}")) else { return };
    assert_eq!(text(&output.stdout).split_whitespace().collect::<Vec<_>>(), ["noted", "noted", "noted", "2"]);
    let help = text(&kumatp(&["install", "--help"], "").stdout);
    let example = help.lines().find_map(|line| line.trim().strip_prefix("kumatp ")).unwrap();
    assert!(example.contains("--dry-run"), "{example}");
}

#[test]
fn a_pause_as_kumactl_takes_it() {
    for pause in ["2s", "\"2s\"", "2000000000"] {
        assert!(!rules(&["--sleep-between-retries", pause], "").is_empty());
    }
    refused(2, &["install", "--dry-run", "--sleep-between-retries=2x"], "", &["nanoseconds"]);
}

#[test]
fn render_for_a_host_that_is_not_there() {
    let facts = r#"{"sidecarUid": "4242", "ipv6": {"state": "usable"}, "resolvers": {"servers": ["192.0.2.53"]}}"#;
    let output = kumatp(&["render", "--facts=-", "--redirect-dns"], facts);
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(
        stdout.contains("--uid-owner 4242") && stdout.contains("### IPv6 ###") && stdout.contains("-d 192.0.2.53 ")
    );
    assert!(text(&output.stderr).contains("IPv6 DNS is not redirected"));
    refused(2, &["render", "--facts=-"], "{\"sidecarUid\": -1}", &["--facts"]);
}

#[test]
fn translate_from_standard_input() {
    let rules =
        "* nat\n-N MINE\n-A OUTPUT -p tcp --dport 80 -j MINE\n-A MINE -p tcp -j REDIRECT --to-ports 8080\nCOMMIT\n";
    for (to, word) in [("firewalld", "<chain"), ("nft", "redirect to :8080"), ("json", "\"spec\"")] {
        let output = kumatp(&["translate", "--to", to], rules);
        assert_eq!(output.status.code(), Some(0), "{to}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(word), "{to}: {}", text(&output.stdout));
    }
    let foreign = "* nat\n-A OUTPUT -m set --match-set allow dst -j RETURN\nCOMMIT\n";
    refused(2, &["translate", "--to", "nft"], foreign, &["-m set"]);
    assert!(text(&kumatp(&["translate", "--to", "firewalld"], foreign).stdout).contains("--match-set allow dst"));
    refused(2, &["translate", "--to", "nft"], "* filter\n:INPUT DROP [0:0]\nCOMMIT\n", &["INPUT", "DROP"]);
    refused(2, &["translate", "--to", "firewalld"], "hello\n", &["hello"]);
}

#[test]
fn completion_scripts() {
    for shell in ["bash", "zsh", "fish"] {
        let script = text(&kumatp(&["completion", shell], "").stdout);
        assert!(script.contains("redirect-all-dns-traffic"), "{shell}");
        for value in ["netlink", "dualstack", "established", "false", "transparent-proxy", "forwarded"] {
            assert!(script.contains(value), "{shell} offers no {value}");
        }
    }
}

/// What bash offers behind these words, the last of which is being typed. As readline does, an equals sign is a word.
fn offered(words: &[&str]) -> Option<Vec<String>> {
    let script = text(&kumatp(&["completion", "bash"], "").stdout);
    let (last, previous) = (words[words.len() - 1], words[words.len() - 2]);
    let current = if last == "=" { "" } else { last };
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let asked = format!(
        "compopt() {{ :; }}\n{script}\nCOMP_WORDS=({}); COMP_CWORD={}\n_kumatp kumatp '{current}' '{previous}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        quoted.join(" "),
        words.len() - 1,
    );
    let output = std::process::Command::new("bash").args(["--norc", "-c", &asked]).output();
    let Ok(output) = output else {
        command::skip::skipped("bash is not installed");
        return None;
    };
    let list = text(&output.stdout).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert!(output.stderr.is_empty(), "{}", text(&output.stderr));
    Some(list)
}

#[test]
fn completion_offers_the_values_of_flags() {
    for (words, expected) in [
        (&["kumatp", "install", "--engine", ""][..], &["netlink", "iptables", "ebpf"][..]),
        (&["kumatp", "install", "--engine", "="], &["netlink", "iptables", "ebpf"]),
        (&["kumatp", "install", "--engine", "=", "ip"], &["iptables"]),
        (&["kumatp", "install", "--ip-family-mode", ""], &["dualstack", "ipv4", "required"]),
        (&["kumatp", "render", "--family", ""], &["ipv4", "ipv6"]),
        (&["kumatp", "render", "--format", "m"], &["mermaid"]),
        (&["kumatp", "explain", "--expect", "d"], &["delivered", "dropped"]),
        (&["kumatp", "install", "--redirect-inbound", "="], &["true", "false"]),
        (&["kumatp", "uninstall", "--dry-run", "=", "f"], &["false"]),
        // A port is no file, and a switch takes nothing behind a space.
        (&["kumatp", "install", "--redirect-inbound-port", "15"], &["15"]),
        (&["kumatp", "install", "--redirect-inbound", "t"], &["transparent-proxy"]),
        (&["kumatp", "h"], &[]),
        (&["kumatp", "config", "h"], &[]),
        (&["kumatp", "install", "--config-f"], &[]),
    ] {
        let Some(offered) = offered(words) else { return };
        let offered: Vec<&str> = offered.iter().map(String::as_str).collect();
        assert_eq!(offered, expected, "{words:?}");
    }
}

#[test]
fn what_completion_offers_is_accepted() {
    for engine in ["netlink", "iptables", "ebpf"] {
        assert!(engine.parse::<kumatp::model::EngineName>().is_ok(), "{engine}");
    }
    for mode in ["dualstack", "ipv4", "required"] {
        let text = format!("ipFamilyMode: {mode}");
        assert!(kumatp::Config::parse(&text, kumatp::config::Format::Yaml).is_ok(), "{mode}");
    }
}

#[test]
fn an_unknown_flag_is_not_proposed_as_a_value() {
    for flags in [&["install", "--live"][..], &["status", "-x"], &["validate", "--config", "x"]] {
        let output = kumatp(flags, "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("unexpected argument") && !said.contains("tip:") && !said.contains("\n\n\n"), "{said}");
    }
    // Nor is a flag that has nothing to do with it.
    for flags in [["install", "--port=3"], ["status", "--netlink"], ["render", "--to=nft"], ["uninstall", "--config=x"]]
    {
        let said = text(&kumatp(&flags, "").stderr);
        assert!(said.contains("unexpected argument") && !said.contains("tip:"), "{said}");
    }
    refused(2, &["install", "--exclude-inbound-port", "22"], "", &["tip:", "'--exclude-inbound-ports'"]);
    refused(2, &["install", "--exclude-ports=22"], "", &["tip:", "'--exclude-inbound-ports'"]);
}

#[test]
fn help_says_what_everything_is_for() {
    for command in
        ["install", "uninstall", "status", "explain", "diff", "render", "translate", "validate", "demo", "completion"]
    {
        let output = kumatp(&[command, "--help"], "");
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("Usage: kumatp"), "{command}");
    }
    // Every flag that sets a key is there, and none that is not needed.
    let help = text(&kumatp(&["install", "--help"], "").stdout);
    let unneeded = ["--ebpf-instance-ip", "--ebpf-programs-source-path", "--ebpf-tc-attach-iface"];
    for flag in kumatp::config::Key::all().filter_map(kumatp::config::Key::flag) {
        assert_eq!(help.contains(flag), !unneeded.contains(&flag), "{flag}");
    }
    // Where nothing is put in force, nothing is said of how; it is taken all the same.
    for command in ["status", "explain", "diff", "uninstall"] {
        let help = text(&kumatp(&[command, "--help"], "").stdout);
        for flag in
            ["--wait", "--wait-interval", "--max-retries", "--sleep-between-retries", "--store-firewalld", "--dry-run"]
        {
            let shown = command == "uninstall" && flag == "--dry-run";
            assert_eq!(help.contains(flag), shown, "{command} {flag}");
        }
        assert!(help.contains("--ebpf-enabled") && !help.contains("Redirect sockets by eBPF programs"), "{help}");
    }
    let asked =
        ["explain", "tcp", "10.1.2.3:443", "--dry-run", "--wait=5", "--max-retries=1", "--sleep-between-retries=1s"];
    assert_eq!(kumatp(&asked, "").status.code(), Some(0));
    // The rules of iptables-nft are in nf_tables, too.
    assert!(text(&kumatp(&["uninstall", "--help"], "").stdout).contains("netlink (and what iptables-nft installed"));
}

#[test]
fn installed_looked_at_and_removed() {
    let script = r#"
        rules="--kuma-dp-user=0 --ip-family-mode=ipv4"
        code $KUMATP status
        $KUMATP install $rules
        code $KUMATP status
        $KUMATP install $rules
        echo | $KUMATP status --config=- $rules --json
        code $KUMATP status --config=/dev/null $rules --redirect-outbound-port=1
        $KUMATP uninstall --dry-run
        code $KUMATP status
        $KUMATP uninstall
        $KUMATP uninstall
        code $KUMATP status
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(
        &lines[..4],
        ["4", "transparent proxy installed for IPv4", "0", "unchanged: these rules for IPv4 were already active"]
    );
    assert!(stdout.contains(r#""state": "current""#) && stdout.contains(r#""engine": "netlink""#), "{stdout}");
    let end: Vec<_> = lines.iter().skip_while(|line| **line != "}").skip(1).copied().collect();
    let [drifted, would, unchanged, still, removed, nothing, absent] = end[..] else { panic!("{stdout}") };
    assert_eq!((drifted, unchanged, still), ("3", "nothing was changed", "0"));
    assert!(would.starts_with("would remove") && would.contains("ip kuma-mesh"), "{would}");
    // In a user namespace, the kernel does not tell whether there are eBPF programs.
    assert_eq!((removed, nothing, absent), ("transparent proxy removed", "found nothing to remove", "4"));
    assert_eq!(text(&output.stderr), "", "a clean run writes nothing to standard error");
}

#[test]
fn status_compares_with_whatever_is_configured() {
    let script = r#"
        rules="--kuma-dp-user=0 --ip-family-mode=ipv4"
        $KUMATP install $rules >/dev/null
        for flag in "" --verbose --wait=3 "$rules" "$rules --exclude-inbound-ports=22" "$rules --redirect-inbound=false" \
            "$rules --exclude-inbound-ports=abc" "$rules --ebpf-enabled"; do
            code $KUMATP status $flag
        done
        for variable in VERBOSE=true REDIRECT_INBOUND_PORT= REDIRECT_INBOUND_PORT=1; do
            code env KUMA_TRANSPARENT_PROXY_KUMA_DP_USER= "KUMA_TRANSPARENT_PROXY_$variable" $KUMATP status
        done
        code env KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT=1 $KUMATP status $rules
        code env KUMA_TRANSPARENT_PROXY_REDIRECT_INBOUND_PORT=15006 $KUMATP status $rules
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let codes: Vec<_> = stdout.lines().collect();
    assert_eq!(codes[..8], ["0", "0", "0", "0", "3", "3", "2", "3"]);
    // Without a user for the sidecar there is nothing to compare with, which is an error.
    assert!(codes[8..10] == ["0", "0"] && ["2", "3"].contains(&codes[10]), "{codes:?}");
    assert_eq!(codes[11..], ["3", "0"]);
}

#[test]
fn what_is_not_known_is_said_with_the_answer() {
    let script =
        "for command in status 'explain --live tcp 10.1.2.3:80'; do $KUMATP $command 2>&1 >/dev/null || true; done";
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    assert_eq!(
        stdout.matches("note: ebpf: no eBPF programs are pinned here; others may be active").count(),
        2,
        "{stdout}"
    );
}

#[test]
fn another_namespace_by_its_path() {
    let script = r#"
        unshare -n sleep 600 &
        pod=/proc/$!/ns/net
        # Until it is there.
        while [ "$(readlink $pod)" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.05; done
        $KUMATP install --netns $pod --kuma-dp-user=0 --ip-family-mode=ipv4
        code $KUMATP status
        code $KUMATP status --netns $pod
        $KUMATP uninstall --netns $pod
        code $KUMATP status --netns $pod
        code $KUMATP status --netns /nowhere
        kill %1 2>/dev/null || kill $!
    "#;
    let Some(output) = in_a_namespace(script) else { return };
    let stdout = text(&output.stdout);
    let lines: Vec<_> = stdout.lines().collect();
    assert_eq!(lines, ["transparent proxy installed for IPv4", "4", "0", "transparent proxy removed", "4", "1"]);
}

#[test]
fn a_dry_run_for_netlink_is_an_nft_script_that_the_kernel_checks() {
    let flags = "--dry-run --engine=netlink --kuma-dp-user=0 --ip-family-mode=ipv4 --wait=3";
    let Some(output) = in_a_namespace(&format!("$KUMATP install {flags}; code $KUMATP status")) else { return };
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(stdout.contains("table ip kuma-mesh {") && stdout.ends_with("\n4\n"), "{stdout}");
    assert!(stderr.contains("--wait: not needed") && stderr.contains("checked: the kernel"), "{stderr}");
}

#[test]
fn firewalld_stores_rules_of_iptables_only() {
    refused(2, &["install", "--store-firewalld", "--engine=netlink"], "", &["--store-firewalld", "--engine iptables"]);
}
