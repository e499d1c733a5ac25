//! The engine on nf_tables, against the kernel, in network namespaces of their own. An ordinary user
//! will do.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;
#[path = "common/plans.rs"]
mod plans;

use std::cell::Cell;
use std::io::Write as _;
use std::process::{Command, Stdio};

use kumatp::config::Config;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report, Status, engine_there, presuming, state};
use kumatp::facts::{self, HostAbilities};
use kumatp::model::{EngineName, IpFamilyMode, Options, Plan};
use kumatp::netns::Namespace;
use kumatp::render::nft;
use kumatp::{Error, Facts, policy};

use self::isolated::{isolated, run, skipped};
use self::plans::{plan, plans};

fn nft_command(command: &str) -> String {
    run("nft", &[command], "")
}

/// Everything that nft lists, without what differs from one installation to the next.
fn ruleset() -> serde_json::Value {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(members) => {
                members.remove("handle");
                members.values_mut().for_each(strip);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut list = serde_json::from_str(&run("nft", &["-j", "list", "ruleset"], "")).unwrap();
    strip(&mut list);
    list
}

fn default_plan() -> Plan {
    plan(&Config::default(), &[], false)
}

fn of(wanted: &str) -> Plan {
    plans().into_iter().find(|(name, _)| *name == wanted).unwrap().1
}

/// Has nft load a script; whether the message was not too long for its socket.
fn loaded(script: &str) -> bool {
    let mut nft = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    nft.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = nft.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.contains("Message too long"), "{said}");
    output.status.success()
}

#[test]
fn the_kernel_has_what_the_script_would_have_given_it() {
    isolated(|| {
        let engine = Netlink::default();
        for (name, plan) in plans() {
            let report = engine.apply(&plan).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(report.changed, "{name}");
            assert_eq!(engine.status(&plan).unwrap(), Status::Current, "{name}");
            let ours = ruleset();
            // Nothing is sent a second time: handles stay.
            let handles = run("nft", &["-a", "list", "ruleset"], "");
            assert!(!engine.apply(&plan).unwrap().changed, "{name}");
            assert_eq!(run("nft", &["-a", "list", "ruleset"], ""), handles, "{name}");
            // Over the older one, as the script does it.
            if !loaded(&nft::plan(&plan)) {
                skipped(&format!(
                    "{name}: nft can send a script of this length for root outside of user namespaces only"
                ));
                continue;
            }
            assert_eq!(ours, ruleset(), "{name}");
            // What nft made of the script is what we would have made.
            assert_eq!(engine.status(&plan).unwrap(), Status::Current, "{name}");
            assert!(!engine.apply(&plan).unwrap().changed, "{name}");
        }
    });
}

#[test]
fn each_installation_replaces_the_one_before() {
    isolated(|| {
        let engine = Netlink::default();
        let mut fresh = Vec::new();
        for (_, plan) in plans() {
            engine.apply(&plan).unwrap();
            fresh.push(ruleset());
            assert!(engine.uninstall(&plan.options).unwrap().changed);
            assert_eq!(nft_command("list tables"), "");
        }
        // In another order, over each other.
        for (index, (name, plan)) in plans().into_iter().enumerate().rev() {
            engine.apply(&plan).unwrap();
            assert_eq!(ruleset(), fresh[index], "{name}");
        }
    });
}

#[test]
fn reports_say_what_was_done() {
    isolated(|| {
        let engine = Netlink::default();
        let steps = |report: kumatp::engine::Report| report.steps.join("; ");
        assert_eq!(
            steps(engine.apply(&default_plan()).unwrap()),
            "added ::6/128 to the loopback interface; installed the tables ip kuma-mesh and ip6 kuma-mesh"
        );
        assert_eq!(steps(engine.apply(&default_plan()).unwrap()), "");
        assert_eq!(
            steps(engine.apply(&of("everything")).unwrap()),
            "replaced the tables ip kuma-mesh and ip6 kuma-mesh"
        );
        assert_eq!(
            steps(engine.apply(&of("IPv4 only")).unwrap()),
            "replaced the table ip kuma-mesh; removed the table ip6 kuma-mesh; removed ::6/128 from the loopback interface"
        );
        assert_eq!(steps(engine.uninstall(&Options::default()).unwrap()), "removed the table ip kuma-mesh");
        assert!(!engine.uninstall(&Options::default()).unwrap().changed);
    });
}

#[test]
fn drift_is_seen_and_repaired() {
    isolated(|| {
        let engine = Netlink::default();
        let plan = of("all DNS");
        assert_eq!(engine.status(&plan).unwrap(), Status::Absent);
        assert_eq!(engine_there(&plan.options, None).unwrap(), None);
        for (change, said) in [
            ("delete table ip6 kuma-mesh", "the table ip6 kuma-mesh is missing"),
            ("flush chain ip kuma-mesh KUMA_MESH_OUTBOUND", "the chain KUMA_MESH_OUTBOUND has 0 rules, expected 6"),
            ("insert rule ip kuma-mesh nat_output_last accept", "the chain nat_output_last has 5 rules, expected 4"),
            ("add chain ip kuma-mesh foreign", "the chain foreign was added"),
            ("add set ip kuma-mesh foreign { type mark; }", "the set foreign was added"),
            ("add table ip kuma-mesh { flags dormant; }", "the table is switched off (flags dormant)"),
        ] {
            engine.apply(&plan).unwrap();
            nft_command(change);
            assert_eq!(engine_there(&plan.options, None).unwrap(), Some(EngineName::Netlink), "{change}");
            let Status::Drifted { differences } = engine.status(&plan).unwrap() else { panic!("{change}") };
            assert!(differences.iter().any(|difference| difference.contains(said)), "{change}: {differences:?}");
            assert!(engine.apply(&plan).unwrap().changed, "{change}");
            assert_eq!(engine.status(&plan).unwrap(), Status::Current, "{change}");
        }
        // Another plan, by its marker.
        let Status::Drifted { differences } = engine.status(&default_plan()).unwrap() else { panic!() };
        assert!(differences[0].contains("a different configuration"), "{differences:?}");
    });
}

#[test]
fn nobody_elses_rules_are_touched() {
    isolated(|| {
        let engine = Netlink::default();
        nft_command(
            "add table ip nat { chain DOCKER_OUTPUT { return; }; chain OUTPUT { type nat hook output priority -100; counter accept; }; }",
        );
        nft_command("add table inet kuma-mesh { chain c { drop; }; }");
        let before = run("nft", &["-a", "list", "ruleset"], "");
        engine.apply(&of("everything")).unwrap();
        assert!(engine.uninstall(&Options::default()).unwrap().changed);
        assert_eq!(run("nft", &["-a", "list", "ruleset"], ""), before);
    });
}

#[test]
fn abilities_come_from_the_kernel() {
    isolated(|| {
        let engine = Netlink::default();
        let config = Config::default();
        let found = engine.abilities(&config.options()).unwrap();
        assert_eq!((&found.v4, &found.v6_refused), (&Facts::capable_host(kumatp::net::Uid::SIDECAR).v4, &None));
        assert_eq!(nft_command("list tables"), "");
        nft_command("add table ip nat { chain DOCKER_OUTPUT { }; }");
        let found = engine.abilities(&config.options()).unwrap();
        assert!(found.v4.docker_output && !found.v6.docker_output);
        nft_command("delete table ip nat");
        // Needs the kernel's legacy tables, which not every machine has.
        let legacy = Command::new("iptables-legacy").args(["-t", "nat", "-N", "DOCKER_OUTPUT"]).output();
        if legacy.is_ok_and(|output| output.status.success()) {
            let found = engine.abilities(&config.options()).unwrap();
            // The list of those tables may belong to root outside of the user namespace.
            let unknown = found.remarks.iter().any(|remark| remark.about == "docker");
            assert!(found.v4.docker_output != unknown, "{found:?}");
            assert!(!unknown || std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").is_err());
        }
    });
}

/// The netlink engine, and how often it was asked what the kernel can do.
struct Asked(Netlink, Cell<usize>);

impl Engine for Asked {
    fn name(&self) -> EngineName {
        self.0.name()
    }

    fn abilities(&self, options: &Options) -> Result<HostAbilities, Error> {
        self.1.set(self.1.get() + 1);
        self.0.abilities(options)
    }

    fn presumed(&self, options: &Options) -> Result<HostAbilities, Error> {
        self.0.presumed(options)
    }

    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        self.0.apply(plan)
    }

    fn uninstall(&self, options: &Options) -> Result<Report, Error> {
        self.0.uninstall(options)
    }
}

/// Older kernels cannot do all that is presumed, and get what they can do.
#[test]
fn the_kernel_is_asked_only_if_it_refuses() {
    isolated(|| {
        let mut config = Config::default();
        (config.kuma_dp_user, config.drop_invalid_packets) = (Some("5678".into()), true);
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        let engine = Asked(Netlink::default(), Cell::new(0));
        let plan = presuming(&engine, &config.options(), |abilities| {
            let plan = policy::plan(&config, &facts::probe(&policy::facts_needed(&config), abilities)?)?;
            engine.apply(&plan).map(|_| plan)
        })
        .unwrap();
        assert_eq!(engine.0.status(&plan).unwrap(), Status::Current);
        let asked = engine.1.get();
        engine.uninstall(&config.options()).unwrap();
        let (can, presumed) =
            (engine.0.abilities(&config.options()).unwrap(), engine.0.presumed(&config.options()).unwrap());
        assert_eq!(asked, usize::from(can != presumed), "{can:?}");
    });
}

#[test]
fn another_namespace_is_reached_without_going_there() {
    isolated(|| {
        let here = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let mut other = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.take().unwrap()), &mut line).unwrap();
        let path = format!("/proc/{}/ns/net", other.id());
        let engine = Netlink::default().in_namespace(Namespace::open(&path).unwrap());
        engine.apply(&of("all DNS")).unwrap();
        assert_eq!(engine.status(&of("all DNS")).unwrap(), Status::Current);
        assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), here);
        assert_eq!(Netlink::default().status(&of("all DNS")).unwrap(), Status::Absent);
        other.kill().unwrap();
        other.wait().unwrap();
        // Something that is no namespace.
        let error = Namespace::open("/dev/null").unwrap_err().to_string();
        assert!(error.contains("/dev/null") && error.contains("no network namespace"), "{error}");
    });
}

#[test]
fn whoever_installs_at_the_same_time_one_of_them_wins() {
    isolated(|| {
        let plans = [default_plan(), of("all DNS"), of("everything")];
        std::thread::scope(|scope| {
            for (index, plan) in plans.iter().enumerate() {
                scope.spawn(move || {
                    let engine = Netlink::default();
                    for round in 0..40 {
                        // Others may be faster many times over; nothing else may go wrong.
                        let done = match (index, round % 4) {
                            (0, 3) => engine.uninstall(&plan.options),
                            _ => engine.apply(plan),
                        };
                        if let Err(error) = done {
                            assert!(matches!(error, Error::Conflict { .. }), "{error}");
                        }
                    }
                });
            }
        });
        let engine = Netlink::default();
        let now: Vec<_> = plans.iter().map(|plan| engine.status(plan).unwrap()).collect();
        assert!(now.contains(&Status::Current) || now.iter().all(|status| *status == Status::Absent), "{now:?}");
    });
}

#[test]
fn others_may_change_their_own_rules_all_the_time() {
    isolated(|| {
        let mut other = Command::new("sh")
            .args(["-c", "echo; while nft 'add table ip other; delete table ip other'; do :; done"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(other.stdout.take().unwrap()), &mut line).unwrap();
        let engine = Netlink::default();
        let plan = of("all DNS");
        let outcome = (0..50).try_for_each(|_| {
            engine.apply(&plan)?;
            assert_eq!(engine.status(&plan)?, Status::Current);
            engine.uninstall(&plan.options)?;
            Ok::<_, Error>(())
        });
        other.kill().unwrap();
        other.wait().unwrap();
        outcome.unwrap();
    });
}

#[test]
fn what_is_missing_is_named() {
    isolated(|| {
        // Without the capability, in a user namespace that does not own the network namespace.
        if std::env::var_os("KUMATP_TEST_POWERLESS").is_some() {
            let engine = Netlink::default();
            let error = engine.apply(&default_plan()).unwrap_err();
            assert!(matches!(&error, Error::Permission { needed, .. } if needed.contains("CAP_NET_ADMIN")), "{error}");
            assert!(matches!(engine.status(&default_plan()).unwrap_err(), Error::Permission { .. }));
            let found = engine.abilities(&Options::default()).unwrap();
            assert_eq!(found.remarks.len(), 1);
            assert!(found.remarks[0].text.contains("CAP_NET_ADMIN"), "{found:?}");
            return;
        }
        let status = Command::new("unshare")
            .arg("--map-root-user")
            .arg(std::env::current_exe().unwrap())
            .args(["what_is_missing_is_named", "--exact", "--nocapture"])
            .env("KUMATP_TEST_POWERLESS", "1")
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(nft_command("list tables"), "");
    });
}

#[test]
fn long_lists_are_taken_or_refused_with_a_remedy() {
    isolated(|| {
        let mut config = Config::default();
        config.ip_family_mode = IpFamilyMode::Ipv4;
        config.redirect.outbound.exclude_ips = (0..20_000_u32)
            .map(|n| format!("10.{}.{}.{}", n >> 14, n >> 6 & 255, n << 2 & 255).parse().unwrap())
            .collect();
        let plan = plan(&config, &[], false);
        let engine = Netlink::default();
        match engine.apply(&plan) {
            Ok(_) => assert_eq!(engine.status(&plan).unwrap(), Status::Current),
            // An ordinary user cannot have a larger buffer than the system's limit.
            Err(error) => {
                assert!(error.to_string().contains("net.core.wmem_max"), "{error}");
                assert_eq!(engine.status(&plan).unwrap(), Status::Absent);
            }
        }
    });
}

/// One interval among 20,000 that is not as it should be, against a plan and against what was installed.
#[test]
fn one_changed_interval_of_many_is_drift() {
    isolated(|| {
        let mut config = Config::default();
        config.ip_family_mode = IpFamilyMode::Ipv4;
        // Every second /28, so that none can be merged.
        let prefix = |n: u32| format!("{}/28", std::net::Ipv4Addr::from((10 << 24) + (n << 5))).parse().unwrap();
        config.redirect.outbound.exclude_ips = (0..20_000).map(prefix).collect();
        let plan = plan(&config, &[], false);
        let engine = Netlink::default();
        if let Err(error) = engine.apply(&plan) {
            // An ordinary user cannot have a larger buffer than the system's limit.
            assert!(error.to_string().contains("net.core.wmem_max"), "{error}");
            return skipped("20,000 intervals do not fit the largest buffer for an ordinary user");
        }
        assert!(!engine.apply(&plan).unwrap().changed);
        assert_eq!(state(None, None).unwrap().status, Status::Current);
        let set = "ip kuma-mesh outbound_exclude_ports_for_ips";
        let of_a_set = "the set outbound_exclude_ports_for_ips has been changed";
        let counted = |there| format!("its sets have {there} intervals, expected 20002");
        let unlike = "set outbound_exclude_ports_for_ips is not one that kumatp makes".to_owned();
        let replaced = "a rule or an interval of a set differs in ip kuma-mesh".to_owned();
        for (change, as_installed) in [
            (format!("add element {set} {{ 11.0.0.0/28 }}"), counted(20_003)),
            (format!("delete element {set} {{ 10.4.0.0/28 }}"), counted(20_001)),
            (format!("delete element {set} {{ 10.4.0.0/28 }}; add element {set} {{ 10.4.0.0/29 }}"), replaced.clone()),
            (format!("delete element {set} {{ 10.0.0.0/28 }}; add element {set} {{ 11.0.0.0/28 }}"), replaced),
            // It touches the next.
            (format!("delete element {set} {{ 10.0.0.0/28 }}; add element {set} {{ 10.0.0.16/28 }}"), unlike),
        ] {
            nft_command(&change);
            let Status::Drifted { differences } = engine.status(&plan).unwrap() else { panic!("{change}") };
            assert_eq!(differences, [format!("the table ip kuma-mesh: {of_a_set}")], "{change}");
            let Status::Drifted { differences } = state(None, None).unwrap().status else { panic!("{change}") };
            assert!(differences[0].contains(&as_installed), "{change}: {differences:?}");
            assert!(engine.apply(&plan).unwrap().changed, "{change}");
            assert_eq!(engine.status(&plan).unwrap(), Status::Current, "{change}");
        }
    });
}

// ---- ::6 on the loopback interface ----

const NO_ADDRESS: &str = "::6/128 is missing from the loopback interface";

fn six() -> Option<String> {
    let addresses = run("ip", &["-6", "addr", "show", "dev", "lo"], "");
    addresses.lines().find(|line| line.contains("::6/128")).map(str::to_owned)
}

#[test]
fn an_address_that_is_gone_is_a_difference_and_comes_back() {
    isolated(|| {
        let (engine, plan) = (Netlink::default(), default_plan());
        engine.apply(&plan).unwrap();
        run("ip", &["link", "set", "lo", "down"], "");
        run("ip", &["link", "set", "lo", "up"], "");
        run("ip", &["addr", "flush", "dev", "lo", "to", "::6/128"], "");
        assert_eq!(six(), None);
        let named = |status: Status| match status {
            Status::Drifted { differences } => differences.iter().any(|one| one.starts_with(NO_ADDRESS)),
            _ => false,
        };
        assert!(named(engine.status(&plan).unwrap()));
        assert!(named(kumatp::engine::state(Some(&plan), None).unwrap().status));
        assert!(named(kumatp::engine::state(None, None).unwrap().status));
        let installed = kumatp::engine::installed(None).unwrap();
        assert!(installed.missing[0].starts_with(NO_ADDRESS));
        assert!(installed.notes.iter().any(|note| note.text.starts_with(NO_ADDRESS)), "{:?}", installed.notes);
        assert_eq!(engine.apply(&plan).unwrap().steps, ["added ::6/128 to the loopback interface"]);
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);
        assert_eq!(kumatp::engine::state(None, None).unwrap().status, Status::Current);
        // Without rules for IPv6, it is not needed.
        engine.apply(&of("IPv4 only")).unwrap();
        assert_eq!((six(), engine.status(&of("IPv4 only")).unwrap()), (None, Status::Current));
    });
}

/// Whether the kernel keeps with an address what made it (`IFA_PROTO`, Linux 5.18).
fn kernel_marks_addresses() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(18))
}

#[test]
fn nothing_is_noted_in_files() {
    isolated(|| {
        // In this mount only, which root of a user namespace may too.
        run("mount", &["-o", "remount,bind,ro", "/run"], "");
        let (engine, plan) = (Netlink::default(), default_plan());
        let report = engine.apply(&plan).unwrap();
        assert!(report.notes.iter().all(|note| note.about != "record"), "{report:?}");
        assert!(six().is_some() && !std::path::Path::new("/run/kumatp").exists());
        // What is known of the address outlives the rules, where it is in the kernel.
        if kernel_marks_addresses() {
            nft_command("flush ruleset");
            engine.apply(&plan).unwrap();
        }
        let report = engine.uninstall(&plan.options).unwrap();
        assert!(report.notes.iter().all(|note| note.about != "record"), "{report:?}");
        assert_eq!(six(), None);
    });
}

#[test]
fn an_address_of_somebody_else_stays() {
    isolated(|| {
        let engine = Netlink::default();
        run("ip", &["addr", "add", "::6/128", "dev", "lo"], "");
        engine.apply(&default_plan()).unwrap();
        assert!(six().is_some());
        engine.apply(&of("IPv4 only")).unwrap();
        assert!(six().is_some());
        engine.apply(&default_plan()).unwrap();
        engine.uninstall(&Options::default()).unwrap();
        assert!(six().is_some());
    });
}

/// What older kernels forget of the address, the marker tells: here, on one that does not, an address without the kernel's mark.
#[test]
fn the_marker_tells_whose_the_address_is_where_the_kernel_does_not() {
    if !kernel_marks_addresses() {
        // All other tests show it there.
        return;
    }
    isolated(|| {
        let (engine, plan) = (Netlink::default(), default_plan());
        for says_so in [false, true] {
            engine.apply(&plan).unwrap();
            run("ip", &["addr", "flush", "dev", "lo", "to", "::6/128"], "");
            run("ip", &["addr", "add", "::6/128", "dev", "lo"], "");
            let list = run("nft", &["-a", "list", "chain", "ip6", "kuma-mesh", "kuma_mesh_marker"], "");
            let (comment, handle) = list.split_once("comment \"").unwrap().1.split_once("\" # handle ").unwrap();
            let handle = handle.split_whitespace().next().unwrap();
            assert!(!comment.contains("::6"), "{comment}");
            if says_so {
                let rule = format!("return comment \"{comment} added ::6\"");
                nft_command(&format!("replace rule ip6 kuma-mesh kuma_mesh_marker handle {handle} {rule}"));
            }
            // That is no difference, and it is not forgotten.
            assert_eq!(engine.status(&plan).unwrap(), Status::Current);
            assert_eq!(kumatp::engine::state(None, None).unwrap().status, Status::Current);
            assert!(!engine.apply(&plan).unwrap().changed);
            assert!(engine.apply(&of("everything")).unwrap().changed);
            let marker = nft_command("list chain ip6 kuma-mesh kuma_mesh_marker");
            assert_eq!(marker.contains("added ::6"), says_so, "{marker}");
            engine.uninstall(&plan.options).unwrap();
            assert_eq!(six().is_none(), says_so);
        }
    });
}

#[test]
fn ipv6_that_is_off_on_loopback_alone_is_named() {
    isolated(|| {
        let set = |value: &str| std::fs::write("/proc/sys/net/ipv6/conf/lo/disable_ipv6", value).unwrap();
        run("ip", &["link", "add", "one0", "type", "veth", "peer", "name", "two0"], "");
        run("ip", &["link", "set", "two0", "up"], "");
        run("ip", &["link", "set", "one0", "up"], "");
        run("ip", &["addr", "add", "fd77::1/64", "dev", "one0", "nodad"], "");
        let engine = Netlink::default();
        let plan_for = |mode: IpFamilyMode| {
            let mut config = Config::default();
            config.kuma_dp_user = Some("0".into());
            config.ip_family_mode = mode;
            let abilities = engine.abilities(&config.options())?;
            let facts = kumatp::facts::probe(&kumatp::policy::facts_needed(&config), abilities)?;
            kumatp::policy::plan(&config, &facts)
        };
        assert!(plan_for(IpFamilyMode::DualStack).unwrap().v6.is_some());
        set("1");
        const SYSCTL: &str = "net.ipv6.conf.lo.disable_ipv6";
        let plan = plan_for(IpFamilyMode::DualStack).unwrap();
        assert!(plan.v6.is_none());
        assert!(plan.notes.iter().any(|note| note.text.contains(SYSCTL)), "{:?}", plan.notes);
        let error = plan_for(IpFamilyMode::Required).unwrap_err();
        assert!(matches!(error, Error::Facts { .. }) && error.to_string().contains(SYSCTL), "{error}");
        engine.apply(&plan).unwrap();
        assert_eq!(engine.status(&plan).unwrap(), Status::Current);
        set("0");
        assert!(plan_for(IpFamilyMode::Required).unwrap().v6.is_some());
    });
}
