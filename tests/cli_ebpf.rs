//! The command with the engine ebpf: what it prints, and in namespaces of their own what it does.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![expect(unsafe_code, reason = "namespaces are entered between fork and exec")]
#![expect(clippy::duplicate_mod, reason = "both of the common modules skip tests")]

#[path = "common/command.rs"]
#[expect(dead_code, reason = "not all of it is about this engine")]
mod command;
#[path = "common/netns.rs"]
mod netns;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use kumatp::engine::Engine as _;
use kumatp::engine::ebpf::Ebpf;
use kumatp::{Error, facts, policy};

use self::command::{kumatp, refused, text, with_variables};
use self::netns::{isolated, run, skipped};

/// A dry run for IPv4, of which nothing depends on this machine, whatever becomes of the check.
fn preview(args: &[&str], stdin: &str) -> (String, String) {
    let mut all = vec!["install", "transparent-proxy", "--dry-run", "--ip-family-mode=ipv4", "--kuma-dp-user=5678"];
    all.extend(args);
    let output = kumatp(&all, stdin);
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_dry_run_prints_what_would_be_attached_and_told() {
    let (stdout, _) =
        preview(&["--ebpf-enabled", "--ebpf-bpffs-path=/mnt/bpf", "--ebpf-cgroup-path=/sys/fs/cgroup/a"], "");
    for part in ["/mnt/bpf/kumatp/", "at the cgroup /sys/fs/cgroup/a: ", "cgroup/connect4", "sk_lookup", "port 15001"] {
        assert!(stdout.contains(part), "{part}: {stdout}");
    }
    let same = "ebpf: {enabled: true, bpffsPath: /mnt/bpf, cgroupPath: /sys/fs/cgroup/a}";
    assert_eq!(preview(&["--config=-"], same).0, stdout);
    let engine = ["--engine=ebpf", "--ebpf-bpffs-path=/mnt/bpf", "--ebpf-cgroup-path=/sys/fs/cgroup/a"];
    assert_eq!(preview(&engine, "").0, stdout);
    // What is asked for by name counts more than a file.
    assert!(preview(&["--config=-", "--engine=iptables"], same).0.contains("-j REDIRECT --to-ports 15001"));
    let args = ["render", "--format=ebpf", "--ip-family-mode=ipv4", "--kuma-dp-user=5678", "--config=-"];
    assert_eq!(text(&kumatp(&args, same).stdout), stdout);
}

#[test]
fn what_only_kumactl_needs_is_noted() {
    let (_, said) = preview(
        &[
            "--ebpf-enabled",
            "--ebpf-instance-ip=10.0.0.1",
            "--ebpf-tc-attach-iface=eth0",
            "--ebpf-programs-source-path=/tmp/kuma-ebpf",
            "--experimental-transparent-proxy-engine",
        ],
        "",
    );
    for flag in ["--ebpf-instance-ip", "--ebpf-tc-attach-iface", "--ebpf-programs-source-path"] {
        assert_eq!(said.matches(&format!("warning: {flag}: not needed, since ")).count(), 1, "{flag}: {said}");
    }
    assert_eq!(said.matches("--experimental-transparent-proxy-engine: not needed").count(), 1, "{said}");
    // Without the engine, they have no effect; with the mode switched off, that is no news.
    let (rules, said) = preview(&["--ebpf-cgroup-path=/x", "--ebpf-instance-ip=10.0.0.1"], "");
    assert!(rules.contains("-j REDIRECT --to-ports 15001"), "{rules}");
    for flag in ["--ebpf-cgroup-path", "--ebpf-instance-ip"] {
        assert!(said.contains(&format!("note: {flag}: has no effect without --ebpf-enabled")), "{said}");
    }
    let (_, said) = preview(&["--ebpf-enabled=false", "--ebpf-instance-ip=10.0.0.1"], "");
    assert!(!said.contains("ebpf"), "{said}");
}

#[test]
fn what_the_engine_cannot_do_is_refused_by_the_key() {
    for (flag, key) in [
        ("--vnet=docker0:172.17.0.0/16", "redirect.vnet.networks"),
        ("--iptables-logs", "log.enabled"),
        ("--drop-invalid-packets", "dropInvalidPackets"),
        ("--store-firewalld", "storeFirewalld"),
    ] {
        let args = ["install", "--dry-run", "--ebpf-enabled", "--kuma-dp-user=0", "--ip-family-mode=ipv4", flag];
        refused(1, &args, "", &[key, "by the engine ebpf", "iptables"]);
    }
}

#[test]
fn packets_are_explained_by_sockets() {
    let args = |packet: &'static str| {
        let mut all = vec!["explain"];
        all.extend(packet.split(' '));
        all.extend(["--engine=ebpf", "--kuma-dp-user=5678"]);
        let output = kumatp(&all, "");
        (output.status.code(), text(&output.stdout).replace('\n', " ") + &text(&output.stderr))
    };
    let (status, said) = args("tcp 10.1.2.3:443 --uid 1000 --expect redirected:15001");
    assert!(status == Some(0) && said.contains("Nothing is translated"), "{said}");
    let (_, said) = args("forwarded tcp 10.1.2.3:443 --in-interface docker0");
    assert!(said.contains("what is forwarded meets no socket of this host"), "{said}");
    // Two files, each with its own engine.
    let dir = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cli-ebpf");
    fs::create_dir_all(&dir).unwrap();
    let path = |name: &str| dir.join(name).display().to_string();
    fs::write(path("rules.yaml"), "kumaDPUser: '5678'\n").unwrap();
    fs::write(path("programs.yaml"), "kumaDPUser: '5678'\nebpf: {enabled: true}\n").unwrap();
    let output = kumatp(&["diff", &path("rules.yaml"), &path("programs.yaml"), "--engine=ebpf"], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    let output = kumatp(&["diff", &path("rules.yaml"), &path("programs.yaml")], "");
    let said = text(&output.stdout);
    assert!(output.status.code() == Some(3) && said.contains("forwarded tcp 10.1.2.3:"), "{said}");
}

/// A cgroup and an empty directory for a bpffs, and the variables that say so to each command.
struct Ground {
    cgroup: String,
    variables: Vec<(&'static str, String)>,
}

impl Ground {
    fn new() -> Option<Self> {
        let (all, bpffs) = ("/run/kumatp-cgroups", "/run/kumatp-bpffs");
        for dir in [all, bpffs] {
            fs::create_dir(dir).unwrap();
        }
        let mounted = std::process::Command::new("mount").args(["-t", "cgroup2", "none", all]).output();
        if !mounted.as_ref().is_ok_and(|output| output.status.success()) {
            skipped(&format!("cgroup2 cannot be mounted: {mounted:?}"));
            return None;
        }
        let cgroup = format!("{all}/kumatp-cli-{}", std::process::id());
        fs::create_dir(&cgroup).unwrap();
        let name = |end: &str| -> &'static str { Box::leak(format!("KUMA_TRANSPARENT_PROXY_{end}").into_boxed_str()) };
        let variables = vec![
            (name("EBPF_BPFFS_PATH"), bpffs.to_owned()),
            (name("EBPF_CGROUP_PATH"), cgroup.clone()),
            (name("KUMA_DP_USER"), "5678".to_owned()),
        ];
        Some(Self { cgroup, variables })
    }

    fn kumatp(&self, line: &str, stdin: &str) -> (Option<i32>, String, String) {
        let args: Vec<_> = line.split(' ').collect();
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let output = with_variables(&args, stdin, &variables);
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// One that succeeds; what it prints.
    fn done(&self, line: &str) -> String {
        let (status, stdout, stderr) = self.kumatp(line, "");
        assert_eq!(status, Some(0), "{line}: {stdout}{stderr}");
        stdout
    }

    /// The engines that the state names.
    fn engines(&self) -> Vec<String> {
        let (_, stdout, _) = self.kumatp("status --json", "");
        let state: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        let list = state["installations"].as_array().unwrap();
        list.iter().map(|one| one["engine"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.cgroup);
    }
}

#[test]
fn installed_looked_at_and_removed() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        assert_eq!(ground.kumatp("status", "").0, Some(4));
        let said = ground.done("install transparent-proxy --ebpf-enabled --verbose");
        assert!(said.contains("installed the eBPF programs\n"), "{said}");
        assert!(ground.done("install --engine ebpf").contains("unchanged: these programs for "));
        let said = ground.done("status");
        assert!(said.starts_with("current: installed by ebpf for IPv4"), "{said}");
        for part in ["generation 1 in /run/kumatp-bpffs/kumatp/", "cgroup/connect4: program ", "outbound redirected: 0"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        let state: serde_json::Value = serde_json::from_str(&ground.done("status --json")).unwrap();
        let programs = &state["installations"][0]["programs"];
        assert_eq!(programs["attached"].as_array().unwrap().len(), 11, "{programs}");
        assert!(programs["attached"].as_array().unwrap().iter().all(|one| one["program"].as_u64() > Some(0)));
        assert_eq!(programs["counters"]["inbound_redirected"], 0, "{programs}");
        // Compared with a configuration.
        assert_eq!(ground.kumatp("status --config=-", "ebpf: {enabled: true}").0, Some(0));
        let other = "{ebpf: {enabled: true}, redirect: {inbound: {excludePorts: [22]}}}";
        let (status, said, _) = ground.kumatp("status --config=-", other);
        assert!(status == Some(3) && said.contains("a different configuration"), "{said}");
        let said = ground.done("uninstall --dry-run");
        assert!(said.contains("would remove the eBPF programs\n") && said.contains("nothing was changed"), "{said}");
        assert_eq!(ground.engines(), ["ebpf"]);
        assert!(ground.done("uninstall --ebpf-enabled").contains("transparent proxy removed"));
        assert_eq!(ground.kumatp("status", "").0, Some(4));
        assert!(fs::read_dir("/run/kumatp-bpffs").unwrap().next().is_none(), "the bpffs is gone");
        assert!(ground.done("uninstall").contains("no transparent proxy is installed"));
    });
}

#[test]
fn engines_take_each_others_place() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let address = || run("ip", &["-6", "addr", "show", "dev", "lo"]).contains("inet6 ::6/128");
        run("ip", &["link", "add", "eth0", "type", "veth", "peer", "name", "eth1"]);
        run("ip", &["link", "set", "eth0", "up"]);
        run("ip", &["link", "set", "eth1", "up"]);
        run("ip", &["addr", "add", "2001:db8::1/64", "dev", "eth0", "nodad"]);
        for engine in ["netlink", "ebpf", "iptables", "ebpf", "netlink"] {
            assert!(ground.done(&format!("install --engine {engine}")).contains("installed for IPv4 and IPv6"));
            assert_eq!(ground.engines(), [engine]);
            assert!(address(), "{engine}");
        }
        // One that has nothing there takes nothing from the other.
        for uninstall in ["uninstall --ebpf-enabled", "uninstall --engine ebpf", "uninstall --engine iptables"] {
            assert_eq!(ground.done(uninstall), "found nothing to remove\n");
            assert!(address(), "{uninstall}");
        }
        assert_eq!(ground.kumatp("status", "").0, Some(0));
        ground.done("install --ebpf-enabled");
        assert_eq!(ground.done("uninstall --engine netlink"), "found nothing to remove\n");
        assert!(address());
        // Without an engine, everything goes.
        assert!(ground.done("uninstall").contains("transparent proxy removed"));
        assert!(ground.engines().is_empty() && !address());
    });
}

#[test]
fn a_sidecar_outside_of_the_cgroup_is_said() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        run("ip", &["link", "set", "lo", "up"]);
        let process = format!("process {} (", std::process::id());
        // This process is in another cgroup.
        let sidecar = std::net::TcpListener::bind("0.0.0.0:15006").unwrap();
        let (status, stdout, said) = ground.kumatp("install transparent-proxy --ebpf-enabled", "");
        assert_eq!((status, stdout.as_str()), (Some(1), ""), "{said}");
        for part in [process.as_str(), "port 15006", &ground.cgroup, "reset", "--ebpf-cgroup-path"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(ground.engines().is_empty());
        drop(sidecar);
        ground.done("install --ebpf-enabled");
        let (_, _, said) = ground.kumatp("status", "");
        assert_eq!(said, "", "nothing runs yet, which is no reason to warn");
        let _later = std::net::TcpListener::bind("0.0.0.0:15006").unwrap();
        for config in ["", "ebpf: {enabled: true}"] {
            let (status, stdout, said) = ground.kumatp("status --config=-", config);
            assert!(!stdout.is_empty() && said.starts_with("warning: ebpf.cgroupPath: "), "{status:?} {stdout}{said}");
            assert!(said.contains(&process) && said.contains("port 15006") && said.contains("reset"), "{said}");
        }
        let (_, stdout, _) = ground.kumatp("status --json", "");
        let state: serde_json::Value = serde_json::from_str(&stdout).unwrap();
        assert_eq!(state["notes"][0]["about"], "ebpf.cgroupPath", "{state}");
        ground.done("uninstall");
    });
}

#[test]
fn what_is_in_the_way_is_said() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let (status, _, said) = ground.kumatp("install --ebpf-enabled --ebpf-cgroup-path=/proc", "");
        assert!(status == Some(2) && said.contains("'/proc'") && said.contains("--ebpf-cgroup-path"), "{said}");
        let (status, _, said) = ground.kumatp("install --ebpf-enabled --ebpf-bpffs-path=/proc", "");
        assert!(status == Some(2) && said.contains("'/proc'") && said.contains("--ebpf-bpffs-path"), "{said}");
        assert!(ground.engines().is_empty());
    });
}

/// Runs the command as an ordinary user who has CAP_NET_ADMIN and nothing else.
fn with_net_admin_only(line: &str) -> (Option<i32>, String, String) {
    // Where every user may run it.
    if fs::create_dir("/run/program").is_ok() {
        fs::copy(env!("CARGO_BIN_EXE_kumatp"), "/run/program/kumatp").unwrap();
    }
    let drop =
        ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+net_admin", "--ambient-caps=+net_admin"];
    let mut command = std::process::Command::new("setpriv");
    command.args(drop).arg("/run/program/kumatp").args(line.split(' '));
    let output = command.output().unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// Whoever may not see whose programs are attached does not know: none of the answers is that all is well.
#[test]
fn programs_that_may_not_be_seen_are_told_of() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let install = "install --kuma-dp-user 5678 --ip-family-mode ipv4";
        // Nothing is attached, which the kernel tells.
        let (status, _, said) = with_net_admin_only(install);
        assert!(status == Some(0) && !said.contains("bpf"), "{said}");
        let (status, stdout, _) = with_net_admin_only("status");
        assert!(status == Some(0) && stdout.starts_with("current: installed by netlink"), "{stdout}");
        let (status, stdout, said) = with_net_admin_only("explain --live tcp 192.0.2.9:80 --uid 1000");
        assert!(status == Some(0) && stdout.contains("15001"), "{stdout}{said}");

        ground.done("install --engine ebpf --ip-family-mode ipv4");
        let (status, stdout, said) = with_net_admin_only("status");
        assert!(status == Some(5) && stdout.starts_with("unknown: ") && said.contains("eBPF"), "{stdout}{said}");
        let (status, stdout, said) = with_net_admin_only("explain --live tcp 192.0.2.9:80 --uid 1000");
        assert!(status == Some(6) && stdout.contains("eBPF") && said.contains("eBPF"), "{stdout}{said}");
        let (status, _, said) = with_net_admin_only(install);
        assert!(status == Some(0) && said.contains("eBPF programs may be active"), "{said}");
        let (status, stdout, _) = with_net_admin_only("status");
        assert!(status == Some(5) && stdout.contains("current: ") && stdout.contains("unknown: "), "{stdout}");
        let (_, stdout, said) = with_net_admin_only("uninstall");
        assert!(said.contains("eBPF") && !stdout.contains("no transparent proxy"), "{stdout}{said}");
        // Nothing of it was touched.
        assert_eq!(ground.engines(), ["ebpf"]);
    });
}

/// Where nobody says in which bpffs an installation is pinned, its record does; without that, the kernel tells that it is there.
#[test]
fn an_installation_in_another_bpffs_is_found() {
    isolated(|| {
        let Some(ground) = Ground::new() else { return };
        let plainly = |line: &str| {
            let output = kumatp(&line.split(' ').collect::<Vec<_>>(), "");
            (output.status.code(), text(&output.stdout), text(&output.stderr))
        };
        let record = || fs::read_dir("/run/kumatp").unwrap().next().unwrap().unwrap().path();
        ground.done("install --engine ebpf --ip-family-mode ipv4");
        let (status, stdout, _) = plainly("status");
        assert!(status == Some(0) && stdout.contains("/run/kumatp-bpffs/kumatp/"), "{stdout}");
        let (status, stdout, said) = plainly("uninstall");
        assert!(status == Some(0) && stdout.contains("transparent proxy removed"), "{stdout}{said}");
        assert!(ground.engines().is_empty() && !std::path::Path::new("/run/kumatp").exists());

        ground.done("install --engine ebpf --ip-family-mode ipv4");
        fs::remove_file(record()).unwrap();
        let (status, stdout, _) = plainly("status");
        assert!(status == Some(5) && stdout.contains("installed by ebpf; not compared: "), "{stdout}");
        for line in ["install --kuma-dp-user 5678 --ip-family-mode ipv4", "uninstall"] {
            let (status, _, said) = plainly(line);
            assert!(status == Some(1) && said.contains("--ebpf-bpffs-path"), "{line}: {said}");
        }
        assert_eq!(run("nft", &["list", "tables"]), "");
        ground.done("uninstall");
        assert_eq!(plainly("status").0, Some(4));

        // Root may take programs away; for rules, it takes a privilege. What is gone is not noted down any longer.
        ground.done("install --engine ebpf --ip-family-mode ipv4");
        assert!(record().exists());
        let without = ["--bounding-set=-net_admin", "--inh-caps=-net_admin", env!("CARGO_BIN_EXE_kumatp"), "uninstall"];
        let output = std::process::Command::new("setpriv").args(without).output().unwrap();
        assert!(output.status.code() == Some(1) && text(&output.stderr).contains("CAP_NET_ADMIN"), "{output:?}");
        assert!(ground.engines().is_empty() && !std::path::Path::new("/run/kumatp").exists());
    });
}

/// Programs that note that they were run, before those of the host.
fn watched_programs() -> String {
    let dir = "/run/kumatp-programs";
    fs::create_dir(dir).unwrap();
    for family in ["iptables", "ip6tables"] {
        for mode in ["-nft", "-legacy"] {
            for suffix in ["", "-save", "-restore"] {
                let name = format!("{family}{mode}{suffix}");
                let text = format!("#!/bin/sh\necho {name} >>/run/ran\nexec /usr/sbin/{name} \"$@\"\n");
                fs::write(format!("{dir}/{name}"), text).unwrap();
                fs::set_permissions(format!("{dir}/{name}"), fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
    }
    format!("{dir}:{}", std::env::var("PATH").unwrap())
}

#[test]
fn programs_of_iptables_are_run_only_where_they_are_needed_and_that_is_said() {
    isolated(|| {
        let Some(mut ground) = Ground::new() else { return };
        let Ok(legacy) = std::process::Command::new("iptables-legacy").arg("--version").output() else {
            return skipped("iptables-legacy is needed");
        };
        assert!(legacy.status.success());
        let path = watched_programs();
        ground.variables.push(("PATH", path));
        let install = "install --engine ebpf --ip-family-mode ipv4 --wait 7";
        let ran = || fs::read_to_string("/run/ran").unwrap_or_default();

        let (status, _, said) = ground.kumatp(install, "");
        assert_eq!((status, ran().as_str()), (Some(0), ""), "{said}");
        assert!(said.contains("--wait: not needed, since no iptables program was run"), "{said}");
        ground.done("uninstall");

        run("iptables-legacy", &["-t", "nat", "-N", "KUMA_MESH_OUTBOUND"]);
        run("iptables-legacy", &["-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "KUMA_MESH_OUTBOUND"]);
        let _ = fs::remove_file("/run/ran");
        let (status, _, said) = ground.kumatp(install, "");
        assert_eq!(status, Some(0), "{said}");
        assert!(ran().contains("iptables-legacy-restore"), "{}", ran());
        assert!(said.contains("the iptables programs were run") && !said.contains("not needed"), "{said}");
        assert!(!run("iptables-legacy-save", &[]).contains("KUMA_MESH_"));

        // Rules without comments are looked for; those of iptables-nft, the engine has removed itself.
        ground.done("install --engine iptables --ip-family-mode ipv4 --disable-comments");
        let (status, _, said) = ground.kumatp(install, "");
        assert!(
            status == Some(0)
                && said.contains(
                    "the iptables programs were run to look for rules that only they can remove; none are left"
                ),
            "{said}"
        );

        // The library runs none unless it is told to.
        run("iptables-legacy", &["-t", "nat", "-N", "KUMA_MESH_OUTBOUND"]);
        let mut config = kumatp::Config::default();
        config.kuma_dp_user = Some("5678".to_owned());
        config.ip_family_mode = kumatp::model::IpFamilyMode::Ipv4;
        let (bpffs, cgroup) = ("/run/kumatp-bpffs", ground.cgroup.clone());
        let engine = || Ebpf::default().bpffs(bpffs).cgroup(&cgroup);
        let facts =
            facts::probe(&policy::facts_needed(&config), engine().abilities(&config.options()).unwrap()).unwrap();
        let plan = policy::plan(&config, &facts).unwrap();
        let error = engine().apply(&plan).unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error}");
        let report = engine().allow_legacy_leftovers().apply(&plan).unwrap();
        assert!(report.notes.iter().any(|note| note.text.contains("only the iptables programs")), "{report:?}");
        assert!(run("iptables-legacy-save", &[]).contains("KUMA_MESH_"));
        ground.done("uninstall");
    });
}
