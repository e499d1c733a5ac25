//! What the commands cost as whole processes, side by side in one run with the programs that do the same: `nft -f`, both restore
//! programs of iptables, kumactl, and with what no program can do without: a process that does nothing, and a bare `sendmsg`.
//!
//! `cargo bench --features cli --bench processes`, as root, with `KUMATP_BENCH_KUMACTL` the path of kumactl if there is one, and
//! `KUMATP_BENCH_PROGRAMS` the folder of a released kumatp. Everything happens in network namespaces that are made for it, which are
//! entered before.

#[path = "../common/mod.rs"]
mod common;
mod counts;
mod sets;

use std::cell::Cell;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use common::Bench;
use common::host::{
    bare, batches, enter, located, namespace, place, plan, run, sidecar_user, skipped, two_configs, two_lists_of_flags,
};
use common::timing::{settle, time, turns};
use kumatp::render::iptables::Style;
use kumatp::{Plan, render};

static KUMATP: LazyLock<PathBuf> = LazyLock::new(|| common::program("kumatp", env!("CARGO_BIN_EXE_kumatp")));
const FLOOR: &str = "`true` and a bare `sendmsg`";

fn main() {
    if counts::is_helper() {
        return counts::help();
    }
    let mut bench = Bench::new("processes");
    if let Err(error) = place().and_then(|()| sidecar_user()) {
        return skipped(&error);
    }
    let programs = Programs::new();
    installing(&mut bench, &programs);
    asking(&mut bench, &programs);
    counts::counts(&mut bench, &programs);
    sets::sets(&mut bench);
    bench.finish("cli");
}

/// The programs, and what each of them is given to install one of two configurations.
pub(crate) struct Programs {
    flags: [Vec<String>; 2],
    texts: [Texts; 2],
    batches: [Vec<u8>; 2],
    nothing: PathBuf,
    nft: PathBuf,
    restore_nft: [PathBuf; 2],
    restore_legacy: [PathBuf; 2],
    pub(crate) kumactl: Option<PathBuf>,
}

/// The rules of a configuration, in files.
struct Texts {
    nft: PathBuf,
    v4: PathBuf,
    v6: PathBuf,
}

/// Who installs.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Who {
    Kumatp,
    KumatpIptables,
    TrueAndSend,
    Nft,
    RestoreNft,
    RestoreLegacy,
    Kumactl,
}

impl Programs {
    fn new() -> Self {
        let plans = two_configs().map(|config| plan(&config));
        Self {
            flags: two_lists_of_flags(),
            texts: plans.each_ref().map(Texts::of),
            batches: batches(&plans, true),
            nothing: located("true"),
            nft: located("nft"),
            restore_nft: ["iptables-nft-restore", "ip6tables-nft-restore"].map(located),
            restore_legacy: ["iptables-legacy-restore", "ip6tables-legacy-restore"].map(located),
            kumactl: std::env::var_os("KUMATP_BENCH_KUMACTL").map(PathBuf::from),
        }
    }

    /// Everybody who is here, kumatp first.
    fn contenders(&self) -> Vec<Who> {
        let mut all =
            vec![Who::Kumatp, Who::KumatpIptables, Who::TrueAndSend, Who::Nft, Who::RestoreNft, Who::RestoreLegacy];
        all.extend(self.kumactl.as_ref().map(|_| Who::Kumactl));
        all
    }

    /// The command of kumatp or kumactl that does something with one of the configurations.
    pub(crate) fn command(&self, program: &Path, words: &[&str], which: usize) -> Command {
        let mut command = Command::new(program);
        command.args(words).args(&self.flags[which]);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("KUMA_")) {
            command.env_remove(name);
        }
        command
    }

    /// Installs a configuration, in the namespace of this thread.
    fn install(&self, who: Who, which: usize) {
        let texts = &self.texts[which];
        match who {
            Who::Kumatp => run(&mut self.command(&KUMATP, &INSTALL, which)),
            Who::KumatpIptables => {
                run(self.command(&KUMATP, &INSTALL, which).args(["--engine", "iptables"]));
            }
            Who::TrueAndSend => {
                run(&mut Command::new(&self.nothing));
                bare(&self.batches[which]);
            }
            Who::Nft => run(Command::new(&self.nft).arg("-f").arg(&texts.nft)),
            Who::RestoreNft => restore(&self.restore_nft, texts),
            Who::RestoreLegacy => restore(&self.restore_legacy, texts),
            Who::Kumactl => run(&mut self.command(self.kumactl.as_deref().expect("it is here"), &INSTALL, which)),
        }
    }
}

pub(crate) const INSTALL: [&str; 2] = ["install", "transparent-proxy"];

/// Loads the text of each family with the programs of a mode.
fn restore(programs: &[PathBuf; 2], texts: &Texts) {
    for (program, path) in programs.iter().zip([&texts.v4, &texts.v6]) {
        run(Command::new(program).arg("--noflush").stdin(File::open(path).expect("a file")));
    }
}

impl Texts {
    fn of(plan: &Plan) -> Self {
        // `/run` is empty, and nobody else's.
        let file = |suffix: &str, text: String| {
            let path = Path::new("/run").join(format!("{}.{suffix}", plan.sockets.listeners.outbound));
            std::fs::write(&path, text).expect("a file");
            path
        };
        Self {
            nft: file("nft", render::nft::plan(plan)),
            v4: file("v4", flushed(&render::iptables::ruleset(&plan.v4, Style::Short))),
            v6: file("v6", flushed(&render::iptables::ruleset(plan.v6.as_ref().expect("IPv6"), Style::Short))),
        }
    }
}

/// The text for a host that may have the same rules: built-in chains and ours are emptied first.
fn flushed(text: &str) -> String {
    let mut flushed = String::new();
    for line in text.lines() {
        match line.strip_prefix("-N ") {
            Some(chain) => flushed.push_str(&format!(":{chain} - [0:0]\n")),
            None => flushed.push_str(&format!("{line}\n")),
        }
        if line.starts_with("* ") {
            flushed.push_str("-F PREROUTING\n-F OUTPUT\n");
        }
    }
    flushed
}

fn installing(bench: &mut Bench, programs: &Programs) {
    bench.part("Installing: whole processes, both families");
    // They stay until the end: taking a namespace apart disturbs whoever comes next.
    let mut used = Vec::new();
    let all = programs.contenders();
    let mut fresh = |who: Who| {
        used.push(namespace());
        settle();
        time(|| programs.install(who, 0))
    };
    rows(bench, programs, "in a new network namespace", 41, &all, &mut fresh);

    let places: Vec<_> = all.iter().map(|_| namespace()).collect();
    let there: Vec<_> = all.iter().map(|_| Cell::new(0)).collect();
    let mut again = |who: Who| {
        let at = all.iter().position(|one| *one == who).expect("it is one of them");
        enter(&places[at]);
        if there[at].get() == 0 {
            programs.install(who, 0);
        }
        there[at].set(1 + there[at].get());
        settle();
        time(|| programs.install(who, there[at].get() % 2))
    };
    rows(bench, programs, "over another configuration", 41, &all, &mut again);
}

/// The figures of one kind of installation.
fn rows(
    bench: &mut Bench,
    programs: &Programs,
    name: &str,
    count: usize,
    all: &[Who],
    install: &mut dyn FnMut(Who) -> Duration,
) {
    let install = std::cell::RefCell::new(install);
    let contender = |at: usize| {
        let who = all.get(at).copied();
        let install = &install;
        move || who.map_or(Duration::ZERO, |who| install.borrow_mut()(who))
    };
    let [mut a, mut b, mut c, mut d, mut e, mut f, mut g] = [0, 1, 2, 3, 4, 5, 6].map(contender);
    let took = turns(bench.turns(count), [&mut a, &mut b, &mut c, &mut d, &mut e, &mut f, &mut g]);
    bench.ratio(name, "kumatp", FLOOR, took.ratio(0, 2));
    bench.ratio(name, "`nft -f`", "kumatp", took.ratio(3, 0));
    bench.ratio(name, "`--engine iptables`", "both iptables-nft-restore", took.ratio(1, 4));
    bench.ratio(name, "both iptables-nft-restore", "kumatp", took.ratio(4, 0));
    bench.ratio(name, "both iptables-legacy-restore", "kumatp", took.ratio(5, 0));
    for (at, against) in [(0, "kumatp"), (1, "`--engine iptables`")] {
        match programs.kumactl {
            Some(_) => bench.ratio(name, "kumactl", against, took.ratio(6, at)),
            None => bench.no_ratio(name, "kumactl", against, counts::NO_KUMACTL),
        }
    }
}

/// What changes nothing, or has nothing to change.
fn asking(bench: &mut Bench, programs: &Programs) {
    bench.part("Asking: whole processes");
    let place = namespace();
    programs.install(Who::Kumatp, 0);
    let command = |words: &[&str]| {
        let mut command = programs.command(&KUMATP, words, 0);
        move || time(|| run(&mut command))
    };
    enter(&place);
    let (mut unchanged, mut status) = (command(&INSTALL), command(&["status"]));
    let mut dry_run = command(&["install", "transparent-proxy", "--dry-run"]);
    let mut nothing = || time(|| run(&mut Command::new(&programs.nothing)));
    let took = turns(bench.turns(101), [&mut nothing, &mut unchanged, &mut status, &mut dry_run]);
    for (at, name) in [(1, "install, unchanged"), (2, "status"), (3, "install --dry-run")] {
        bench.ratio(name, "kumatp", "`true`", took.ratio(at, 0));
    }
    bench.seconds("`true`", "time", took.seconds(0));
}
