//! The engine in memory is as the real ones: the same operations by both, and each report, error and
//! status the same. In network namespaces of their own; an ordinary user will do.
#![cfg(all(feature = "host", target_os = "linux"))]

#[path = "common/isolated.rs"]
mod isolated;

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use kumatp::config::Config;
use kumatp::engine::fake::{Call, Fake, Tables};
use kumatp::engine::iptables::Iptables;
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine, Report, Status, state};
use kumatp::facts::HostAbilities;
use kumatp::model::{EngineName, IpFamilyMode, Options, Plan};
use kumatp::net::{FamilyName, Uid};
use kumatp::render::iptables::{Style, ruleset};
use kumatp::{Error, Facts, policy};

use self::isolated::{isolated, run, skipped};

/// Where distributions have the programs of iptables.
const DIR: &str = "/usr/sbin";

/// A plan for the user root, whom every user namespace has.
fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    let facts = Facts::capable_host(Uid::new(0).unwrap());
    policy::plan(&config, &facts).unwrap()
}

fn plain() -> Plan {
    plan(|_| {})
}

/// Rules in every table, at both ends of chains, and lists that iptables needs several rules for.
fn everything() -> Plan {
    plan(|config| {
        config.redirect.dns.enabled = true;
        config.redirect.dns.capture_all = true;
        config.drop_invalid_packets = true;
        config.redirect.outbound.insert = true;
        config.redirect.outbound.exclude_ports = "1,3,5,7,9,11,13,15,17,19,21-30,35,37,39,41,43".parse().unwrap();
        config.redirect.outbound.exclude_ips = vec!["10.99.0.0/16".parse().unwrap(), "fd99::/64".parse().unwrap()];
        config.redirect.outbound.exclude_ports_for_uids = vec!["tcp:22,80-90:0".parse().unwrap()];
    })
}

fn ipv4_only() -> Plan {
    plan(|config| config.ip_family_mode = IpFamilyMode::Ipv4)
}

/// With a chain of its own in the place of `KUMA_MESH_OUTBOUND`.
fn other_chain() -> Plan {
    plan(|config| config.redirect.outbound.chains.decide = "KUMA_MESH_OTHER".parse().unwrap())
}

fn dry() -> Options {
    let mut options = Options::default();
    options.dry_run = true;
    options
}

/// A real engine and the fake of it, to which the same happens.
struct Pair {
    real: Box<dyn Engine>,
    fake: Fake,
    /// What has been done, for messages.
    done: Vec<String>,
}

impl Pair {
    fn of(name: EngineName) -> Self {
        Self { real: real(name), fake: Fake::new(name), done: Vec::new() }
    }

    /// The other pair on the same host.
    fn beside(&self, name: EngineName) -> Self {
        Self { real: real(name), fake: self.fake.beside(name), done: self.done.clone() }
    }

    /// Whether both say the same: true if something has changed.
    fn agree(&mut self, what: &str, real: Result<Report, Error>, fake: Result<Report, Error>) -> Result<bool, Error> {
        self.done.push(what.to_owned());
        let (real, fake) = (real.map(comparable), fake.map(comparable));
        assert_eq!(fake, real, "after {:?}", self.done);
        real.map(|report| report.changed)
    }

    fn apply(&mut self, what: &str, plan: &Plan) -> Result<bool, Error> {
        let (real, fake) = (self.real.apply(plan), self.fake.apply(plan));
        let done = self.agree(&format!("apply {what}"), real, fake);
        if done.is_ok() {
            assert_eq!(self.status(plan), Status::Current, "after {:?}", self.done);
            assert_eq!(self.fake.installed().as_ref(), Some(plan));
        }
        self.address();
        done
    }

    fn uninstall(&mut self, options: &Options) -> Result<bool, Error> {
        let (real, fake) = (self.real.uninstall(options), self.fake.uninstall(options));
        let done = self.agree(&format!("uninstall, dry: {}", options.dry_run), real, fake);
        self.address();
        done
    }

    fn status(&self, plan: &Plan) -> Status {
        let real = match self.real.name() {
            EngineName::Netlink => Netlink::default().status(plan).unwrap(),
            _ => state(Some(plan), None).unwrap().status,
        };
        let fake = self.fake.status(plan).unwrap();
        assert_eq!(fake, real, "after {:?}", self.done);
        real
    }

    fn address(&self) {
        let there = run("ip", &["-6", "addr", "show", "dev", "lo"], "").contains("inet6 ::6/128");
        assert!(self.fake.has_loopback_address() == there || legacy_is_hidden(), "after {:?}", self.done);
    }

    /// Loads what an older installation would have.
    fn leave_behind(&mut self, tables: Tables, plan: &Plan) {
        self.done.push(format!("{tables:?} left behind"));
        let mode = if tables == Tables::IptablesNft { "nft" } else { "legacy" };
        run(&format!("{DIR}/iptables-{mode}-restore"), &["--noflush"], &ruleset(&plan.v4, Style::Short));
        if let Some(v6) = &plan.v6 {
            run(&format!("{DIR}/ip6tables-{mode}-restore"), &["--noflush"], &ruleset(v6, Style::Short));
        }
        self.fake.leave_behind(tables, plan);
    }

    fn flush(&mut self, family: FamilyName, chain: &str) {
        self.done.push(format!("{chain} of {family} flushed"));
        let (ip, iptables) = words(family);
        match self.real.name() {
            EngineName::Netlink => run("nft", &["flush", "chain", ip, "kuma-mesh", chain], ""),
            _ => run(&iptables, &["-t", "nat", "-F", chain], ""),
        };
        self.fake.flush_chain(family, chain).unwrap();
    }

    fn remove_family(&mut self, family: FamilyName) {
        self.done.push(format!("{family} removed"));
        let (ip, iptables) = words(family);
        match self.real.name() {
            EngineName::Netlink => drop(run("nft", &["delete", "table", ip, "kuma-mesh"], "")),
            _ => {
                for (table, option) in ["raw", "mangle", "nat"].into_iter().flat_map(|t| [(t, "-F"), (t, "-X")]) {
                    run(&iptables, &["-t", table, option], "");
                }
            }
        }
        self.fake.remove_family(family);
    }
}

fn words(family: FamilyName) -> (&'static str, String) {
    match family {
        FamilyName::V4 => ("ip", format!("{DIR}/iptables-nft")),
        FamilyName::V6 => ("ip6", format!("{DIR}/ip6tables-nft")),
    }
}

/// A rule of somebody else's that leads to a chain of an installation by iptables-nft.
fn others_jump(there: bool) {
    let commands: &[&[&str]] = match there {
        true => &[&["-N", "SOMEBODY"], &["-A", "SOMEBODY", "-j", "KUMA_MESH_OUTBOUND"]],
        false => &[&["-F", "SOMEBODY"], &["-X", "SOMEBODY"]],
    };
    for command in commands {
        run(&words(FamilyName::V4).1, &[&["-t", "nat"], *command].concat(), "");
    }
}

fn real(name: EngineName) -> Box<dyn Engine> {
    match name {
        EngineName::Iptables => Box::new(Iptables::in_path(DIR)),
        _ => Box::new(Netlink::default()),
    }
}

/// Without what only some users may not look at. Programs list tables in an order of their own.
fn comparable(mut report: Report) -> Report {
    let of_tables = |step: &String| step.contains(" of the table ");
    report.steps.chunk_by_mut(|a, b| of_tables(a) && of_tables(b)).for_each(<[String]>::sort);
    // What a user namespace does not tell: of tables of iptables-legacy, and of eBPF programs.
    let hidden = ["cannot look ", "no eBPF programs are pinned here"];
    report.notes.retain(|note| !hidden.iter().any(|beginning| note.text.starts_with(beginning)));
    if legacy_is_hidden() {
        report.notes.retain(|note| note.about != "loopback");
        report.steps.retain(|step| !step.contains("::6/128"));
    }
    report
}

/// Whether nobody but root may see the tables of iptables-legacy: the address then stays, which the fake knows nothing of.
fn legacy_is_hidden() -> bool {
    std::fs::read(LEGACY_TABLES).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

const LEGACY_TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// Whether the programs of iptables of one kind work here; says so if they do not.
fn usable(mode: &str) -> bool {
    let works = ["iptables", "ip6tables"].iter().all(|family| {
        let list = Command::new(format!("{DIR}/{family}-{mode}")).args(["-t", "nat", "-S"]).output();
        list.is_ok_and(|output| output.status.success())
    });
    if !works {
        skipped(&format!("iptables-{mode} does not work here"));
    }
    works
}

/// Whether the iptables engine can see all rules, those of the programs of both kinds; says so if it cannot.
fn all_in_view() -> bool {
    let hidden = legacy_is_hidden();
    if hidden {
        skipped(&format!("only root outside of user namespaces may read {LEGACY_TABLES}"));
    }
    !hidden && usable("nft")
}

fn come_and_go(name: EngineName) {
    let (plain, everything, ipv4_only) = (plain(), everything(), ipv4_only());
    let mut pair = Pair::of(name);
    assert_eq!(pair.status(&plain), Status::Absent);
    for options in [dry(), Options::default()] {
        assert_eq!(pair.uninstall(&options), Ok(false));
    }
    assert_eq!(pair.apply("plain", &plain), Ok(true));
    assert!(matches!(pair.status(&everything), Status::Drifted { .. }));
    // iptables' rules are written anew whatever is there.
    assert_eq!(pair.apply("plain again", &plain), Ok(name == EngineName::Iptables));
    assert_eq!(pair.uninstall(&dry()), Ok(false));
    assert_eq!(pair.apply("everything", &everything), Ok(true));
    assert!(matches!(pair.status(&plain), Status::Drifted { .. }));
    assert_eq!(pair.apply("IPv4 only", &ipv4_only), Ok(true));
    assert!(matches!(pair.status(&everything), Status::Drifted { .. }));
    assert_eq!(pair.uninstall(&dry()), Ok(false));
    assert_eq!(pair.apply("everything over IPv4", &everything), Ok(true));

    pair.flush(FamilyName::V4, "KUMA_MESH_OUTBOUND");
    assert!(matches!(pair.status(&everything), Status::Drifted { .. }));
    assert!(matches!(pair.status(&plain), Status::Drifted { .. }));
    assert_eq!(pair.apply("everything over a flushed chain", &everything), Ok(true));
    pair.remove_family(FamilyName::V6);
    assert!(matches!(pair.status(&everything), Status::Drifted { .. }));
    assert_eq!(pair.apply("everything without IPv6", &everything), Ok(true));
    pair.remove_family(FamilyName::V6);
    pair.remove_family(FamilyName::V4);
    assert_eq!(pair.status(&everything), Status::Absent);
    assert_eq!(pair.apply("everything after nothing", &everything), Ok(true));

    // A dry run is the caller's affair: what is to be applied is applied.
    let mut dry_plan = plain.clone();
    dry_plan.options.dry_run = true;
    assert_eq!(pair.apply("a dry plan", &dry_plan), Ok(true));
    assert_eq!(pair.uninstall(&dry()), Ok(false));
    assert_eq!(pair.uninstall(&Options::default()), Ok(true));
    assert_eq!(pair.status(&plain), Status::Absent);
    assert_eq!(pair.uninstall(&Options::default()), Ok(false));
    assert!(matches!(pair.fake.calls().last(), Some(Call::Uninstall(config)) if !config.dry_run));
}

#[test]
fn netlink_comes_and_goes() {
    isolated(|| come_and_go(EngineName::Netlink));
}

#[test]
fn iptables_comes_and_goes() {
    isolated(|| {
        if all_in_view() {
            come_and_go(EngineName::Iptables);
        }
    });
}

#[test]
fn engines_take_each_others_place() {
    isolated(|| {
        if !all_in_view() {
            return;
        }
        let (plain, everything) = (plain(), everything());
        let mut netlink = Pair::of(EngineName::Netlink);
        let mut iptables = netlink.beside(EngineName::Iptables);
        netlink.apply("plain", &plain).unwrap();
        assert_eq!(iptables.apply("everything over netlink", &everything), Ok(true));
        assert_eq!(netlink.status(&plain), Status::Absent);
        assert_eq!(netlink.apply("everything over iptables", &everything), Ok(true));
        assert_eq!(iptables.fake.installed(), None);
        // Beside rules that are right.
        netlink.leave_behind(Tables::IptablesNft, &plain);
        assert_eq!(netlink.apply("everything again", &everything), Ok(true));
        assert_eq!(netlink.apply("and again", &everything), Ok(false));

        netlink.leave_behind(Tables::IptablesNft, &everything);
        assert_eq!(netlink.uninstall(&dry()), Ok(false));
        // One removes neither the other's tables nor what both need.
        assert_eq!(iptables.uninstall(&dry()), Ok(false));
        assert_eq!(iptables.uninstall(&Options::default()), Ok(true));
        assert_eq!(netlink.status(&everything), Status::Current);
        netlink.leave_behind(Tables::IptablesNft, &plain);
        assert_eq!(netlink.uninstall(&Options::default()), Ok(true));
        assert_eq!(iptables.status(&plain), Status::Absent);
    });
}

#[test]
fn rules_of_others_are_in_the_way_of_both() {
    isolated(|| {
        if !all_in_view() {
            return;
        }
        let (plain, other_chain) = (plain(), other_chain());
        let mut iptables = Pair::of(EngineName::Iptables);
        let mut netlink = iptables.beside(EngineName::Netlink);
        iptables.apply("plain", &plain).unwrap();
        others_jump(true);
        iptables.fake.add_others_jump(FamilyName::V4, "KUMA_MESH_OUTBOUND").unwrap();
        // The chain stays.
        assert_eq!(iptables.apply("plain again", &plain), Ok(true));
        let conflict = |done: Result<bool, Error>| assert!(matches!(done, Err(Error::Conflict { .. })), "{done:?}");
        conflict(iptables.apply("without the chain", &other_chain));
        conflict(iptables.uninstall(&Options::default()));
        conflict(iptables.uninstall(&dry()));
        conflict(netlink.apply("plain", &plain));
        conflict(netlink.uninstall(&Options::default()));
        assert_eq!(netlink.uninstall(&dry()), Ok(false));
        // What could be removed has been.
        let Status::Drifted { differences } = iptables.status(&plain) else { panic!("the rules for IPv4 stay") };
        assert!(differences.iter().all(|difference| difference.starts_with("IPv6: ")), "{differences:?}");

        others_jump(false);
        iptables.fake.remove_others_jumps();
        assert_eq!(iptables.apply("without the chain", &other_chain), Ok(true));
        assert_eq!(netlink.apply("plain", &plain), Ok(true));
        assert_eq!(netlink.uninstall(&Options::default()), Ok(true));
    });
}

#[test]
fn legacy_leftovers_are_in_the_way_of_netlink_only() {
    isolated(|| {
        if !all_in_view() || !usable("legacy") {
            return;
        }
        let (plain, everything) = (plain(), everything());
        let mut netlink = Pair::of(EngineName::Netlink);
        netlink.leave_behind(Tables::IptablesLegacy, &everything);
        let refused = netlink.apply("plain", &plain);
        assert!(matches!(refused, Err(Error::Conflict { .. })), "{refused:?}");
        assert_eq!(Netlink::default().left_to_iptables().unwrap(), netlink.fake.left_to_iptables());
        netlink.real = Box::new(Netlink::default().allow_legacy_leftovers());
        netlink.fake = netlink.fake.allow_legacy_leftovers();
        assert_eq!(netlink.apply("plain, allowed", &plain), Ok(true));
        assert_eq!(netlink.uninstall(&dry()), Ok(false));
        assert_eq!(netlink.uninstall(&Options::default()), Ok(true));
        assert_eq!(netlink.fake.installed_in(Tables::IptablesLegacy).as_ref(), Some(&everything));

        // Programs are chosen by what is there.
        let mut iptables = netlink.beside(EngineName::Iptables);
        assert_eq!(iptables.apply("plain in the place of legacy rules", &plain), Ok(true));
        assert_eq!(iptables.fake.installed_in(Tables::IptablesLegacy).as_ref(), Some(&plain));
        iptables.leave_behind(Tables::IptablesNft, &plain);
        assert!(matches!(iptables.status(&plain), Status::Drifted { .. }));
        assert_eq!(iptables.uninstall(&dry()), Ok(false));
        assert_eq!(iptables.apply("plain in the place of both", &plain), Ok(true));
        assert_eq!(iptables.fake.installed_in(Tables::IptablesLegacy), None);
        assert_eq!(iptables.uninstall(&Options::default()), Ok(true));
    });
}

/// The kinds of errors; the words are the programs', or the kernel's.
#[test]
fn the_powerless_are_refused_alike() {
    isolated(|| {
        // Without the capability, in a user namespace that does not own the network namespace.
        if std::env::var_os("KUMATP_TEST_POWERLESS").is_some() {
            let plain = plain();
            for name in [EngineName::Netlink, EngineName::Iptables] {
                let (real, fake) = (real(name), Fake::new(name));
                fake.set_privileged(false);
                for options in [Options::default(), dry()] {
                    let found = [real.abilities(&options), fake.abilities(&options)];
                    let seen = found.map(|found| found.map_err(kind).map(|found| (found.v4, found.remarks.len())));
                    assert_eq!(seen[0], seen[1], "{name}");
                    let done = [real.uninstall(&options), fake.uninstall(&options)].map(|done| done.map_err(kind));
                    assert_eq!(done, [Err("permission"), Err("permission")], "{name}");
                }
                let done = [real.apply(&plain), fake.apply(&plain)].map(|done| done.map_err(kind));
                assert_eq!(done, [Err("permission"), Err("permission")], "{name}");
                assert_eq!(fake.status(&plain).map_err(kind), Err("permission"), "{name}");
            }
            return;
        }
        if !usable("nft") {
            return;
        }
        let status = Command::new("unshare")
            .arg("--map-root-user")
            .arg(std::env::current_exe().unwrap())
            .args(["the_powerless_are_refused_alike", "--exact", "--nocapture"])
            .env("KUMATP_TEST_POWERLESS", "1")
            .status()
            .unwrap();
        assert!(status.success());
    });
}

/// On a host with programs for IPv4 only.
#[test]
fn ipv6_is_refused_alike() {
    isolated(|| {
        if !usable("nft") {
            return;
        }
        let dir = Path::new("/run/programs");
        std::fs::create_dir(dir).unwrap();
        for suffix in ["", "-save", "-restore"] {
            let name = format!("iptables-nft{suffix}");
            std::os::unix::fs::symlink(Path::new(DIR).join(&name), dir.join(&name)).unwrap();
        }
        let (real, fake) = (Iptables::in_path(dir), Fake::new(EngineName::Iptables));
        fake.refuse_ipv6("no programs", "install them");
        let refused = |found: HostAbilities| found.v6_refused.is_some();
        let config = Config::default();
        assert!(
            refused(real.abilities(&config.options()).unwrap()) && refused(fake.abilities(&config.options()).unwrap())
        );
        for (plan, expected) in [(plain(), Err("unsupported")), (ipv4_only(), Ok(true))] {
            for engine in [&real as &dyn Engine, &fake] {
                assert_eq!(engine.apply(&plan).map(|report| report.changed).map_err(kind), expected);
            }
        }
        // What facts::probe makes of that, where there is IPv6 to be redirected.
        let error = policy::plan(&config, &fake.facts(Uid::SIDECAR)).unwrap_err();
        assert!(matches!(error, Error::Facts { .. }), "{error}");
    });
}

fn kind(error: Error) -> &'static str {
    match error {
        Error::Permission { .. } => "permission",
        Error::Unsupported { .. } => "unsupported",
        other => panic!("{other}"),
    }
}
