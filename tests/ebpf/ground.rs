//! The world of the other traffic tests with the programs in force in it, and installers that are processes.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Output, Stdio};

use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::{Engine as _, Status};
use kumatp::model::Options;
use kumatp::net::Uid;
use kumatp::{Config, Error, Facts, Plan, policy};

use crate::common::world::{BPFFS, Netns, SIDECAR, World, cgroup, possible};
use crate::objects::Objects;
use crate::place::Place;

/// One installation.
pub(crate) const INSTALLATION: Objects = Objects { programs: 11, maps: 9, links: 11 };

/// The world, and this process in its cgroup.
pub(crate) struct Ground {
    pub(crate) world: World,
    _place: Place,
}

impl Ground {
    /// With servers; none, having said why, where it cannot be.
    pub(crate) fn new() -> Option<Self> {
        Self::made(World::new)
    }

    /// Without servers.
    pub(crate) fn without_servers() -> Option<Self> {
        Self::made(World::without_servers)
    }

    fn made(world: fn() -> io::Result<World>) -> Option<Self> {
        if !possible() {
            return None;
        }
        let place = Place::new()?;
        assert_eq!(
            Objects::count_until(Objects::NONE),
            Objects::NONE,
            "something of ours is in the kernel before the test"
        );
        Some(Self { world: world().expect("the world can be made"), _place: place })
    }

    /// With servers, and the programs in force.
    pub(crate) fn installed(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let ground = Self::new()?;
        ground.install(change);
        Some(ground)
    }

    /// Puts the programs into force.
    pub(crate) fn install(&self, change: impl FnOnce(&mut Config)) {
        self.try_install(&plan(change)).expect("an installation");
    }

    pub(crate) fn try_install(&self, plan: &Plan) -> Result<(), Error> {
        self.workload().enter(|| engine().apply(plan)).map(drop)
    }

    pub(crate) fn status(&self, plan: &Plan) -> Status {
        self.workload().enter(|| engine().status(plan)).expect("the status can be read")
    }

    /// How often something was counted.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        let programs =
            self.workload().enter(|| engine().programs()).expect("they can be read").expect("they are there");
        let found = programs.counters.iter().find(|(name, _)| name == what);
        found.unwrap_or_else(|| panic!("nothing counts {what}: {:?}", programs.counters)).1
    }

    pub(crate) fn workload(&self) -> &Netns {
        &self.world.workload
    }

    /// Takes the programs out of force.
    pub(crate) fn uninstall(&self) {
        self.workload().enter(|| engine().uninstall(&Options::default())).expect("a removal");
    }

    /// Ends the test: afterwards nothing is left in the kernel or in the bpffs.
    pub(crate) fn end(self) {
        self.uninstall();
        assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE, "something is left after the removal");
        assert_eq!(pins(), 0, "something is pinned after the removal");
    }
}

/// How many files and directories there are in the bpffs.
pub(crate) fn pins() -> usize {
    fn below(dir: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        // What the kernel itself puts into a bpffs (linux kernel/bpf/preload).
        let entries =
            entries.filter(|entry| !["maps.debug", "progs.debug"].iter().any(|name| entry.file_name() == *name));
        entries.map(|entry| 1 + below(&entry.path())).sum()
    }
    below(BPFFS.as_ref())
}

/// The engine with the cgroup and the bpffs of this process.
pub(crate) fn engine() -> Ebpf {
    Ebpf::default().bpffs(BPFFS).cgroup(cgroup())
}

/// A configuration on a capable host.
pub(crate) fn plan(change: impl FnOnce(&mut Config)) -> Plan {
    let mut config = Config::default();
    change(&mut config);
    policy::plan(&config, &Facts::capable_host(Uid::new(SIDECAR.uid).expect("a valid uid"))).expect("a plan")
}

/// With DNS to any server.
pub(crate) fn with_dns(config: &mut Config) {
    config.redirect.dns.enabled = true;
    config.redirect.dns.capture_all = true;
}

/// An installer that is a process: what it does, in a few words of its own.
pub(crate) struct Installer(Command);

/// What the installer does, and where it pins and which cgroup it deals with.
const WHAT: &str = "KUMATP_TEST_INSTALL";
const PLACES: [&str; 2] = ["KUMATP_TEST_BPFFS", "KUMATP_TEST_CGROUP"];

impl Installer {
    /// `install`, `install:<excluded outbound ports>` or `uninstall`.
    pub(crate) fn new(what: &str) -> Self {
        Self::behind(&[], what)
    }

    /// With programs and arguments before its own, such as setpriv.
    pub(crate) fn behind(before: &[&str], what: &str) -> Self {
        let exe = std::env::current_exe().expect("this program has a path");
        let mut command = match before {
            [] => Command::new(exe),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(exe);
                command
            }
        };
        command.args(["ground::installer", "--exact", "--nocapture"]);
        command.env(WHAT, what).env(PLACES[0], BPFFS).env(PLACES[1], cgroup());
        Self(command)
    }

    pub(crate) fn bpffs(mut self, path: &str) -> Self {
        self.0.env(PLACES[0], path);
        self
    }

    /// The cgroup; that of the machine if it is empty.
    pub(crate) fn cgroup(mut self, path: &str) -> Self {
        self.0.env(PLACES[1], path);
        self
    }

    pub(crate) fn start(mut self, netns: &Netns) -> Child {
        netns.enter(|| self.0.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()).expect("the installer starts")
    }

    /// What it says if it fails.
    pub(crate) fn run(self, netns: &Netns) -> Result<(), String> {
        outcome(&self.start(netns).wait_with_output().expect("its end"))
    }
}

/// How an installer ended.
pub(crate) fn outcome(output: &Output) -> Result<(), String> {
    match (output.status.success(), output.status.signal()) {
        (true, _) => Ok(()),
        (false, Some(signal)) => Err(format!("killed by signal {signal}")),
        (false, None) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// What [`Installer`] runs; no test.
#[test]
fn installer() {
    let Ok(what) = std::env::var(WHAT) else { return };
    let [bpffs, cgroup] = PLACES.map(|name| std::env::var(name).unwrap_or_default());
    let mut engine = Ebpf::default().bpffs(bpffs);
    if !cgroup.is_empty() {
        engine = engine.cgroup(cgroup);
    }
    let done = match what.split_once(':') {
        None if what == "uninstall" => engine.uninstall(&Options::default()),
        excluded => {
            let ports = excluded.map_or("", |(_, ports)| ports).parse().expect("ports");
            engine.apply(&plan(|config| config.redirect.outbound.exclude_ports = ports))
        }
    };
    if let Err(error) = done {
        eprintln!("{error}");
        std::process::exit(1);
    }
}
