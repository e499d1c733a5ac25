//! A sidecar in another cgroup than the programs: it learns nothing of where connections wanted to go.

use std::process::{Child, Command, Stdio};

use kumatp::engine::ebpf::Ebpf;
use kumatp::engine::{Engine as _, Report, State, Status, state_with};
use kumatp::model::{Note, Options, Severity};
use kumatp::net::FamilyName;
use kumatp::{Error, Plan};

use crate::common::skip::skipped;
use crate::common::world::{APP, BPFFS, Place, SIDECAR, Server, of_process};
use crate::ground::{Ground, plan};
use crate::netns::isolated;
use crate::objects::Objects;
use crate::place::tells_namespaces;
use crate::sockets::{Listening, Serving, blocking, greet, greeting, listener, serve};

/// A cgroup below that of this process, which nobody is in.
struct Below(String);

impl Below {
    /// None, having said so, where the tests keep threads apart by cgroups.
    fn new() -> Option<Self> {
        if !tells_namespaces() {
            skipped("before Linux 5.15 the cgroups of the tests are threaded");
            return None;
        }
        let path = format!("{}/workload-only", of_process());
        std::fs::create_dir(&path).expect("root makes cgroups");
        Some(Self(path))
    }

    fn engine(&self) -> Ebpf {
        Ebpf::default().bpffs(BPFFS).cgroup(&self.0)
    }

    fn apply(&self, ground: &Ground, plan: &Plan) -> Result<Report, Error> {
        ground.workload().enter(|| self.engine().apply(plan))
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// A process of the sidecar's user that does nothing, ended when this is dropped.
struct Idle(Child);

impl Drop for Idle {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Idle {
    fn start(ground: &Ground, cgroup: Option<&str>) -> Self {
        let child = ground.workload().enter_as(SIDECAR, || {
            Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().expect("the program is everywhere")
        });
        if let Some(cgroup) = cgroup {
            std::fs::write(format!("{cgroup}/cgroup.procs"), child.id().to_string()).expect("root moves processes");
        }
        Self(child)
    }
}

fn sidecar(ground: &Ground, family: FamilyName, port: u16) -> Serving {
    let listener = listener(ground.workload(), SIDECAR, family, port, Listening::default()).expect("the port is free");
    serve(listener, SIDECAR, |mut stream| drop(greet(&mut stream, Server::OUTBOUND))).expect("a server")
}

/// What is said of the cgroup.
fn about_the_cgroup(notes: &[Note]) -> Vec<(Severity, String)> {
    let about = notes.iter().filter(|note| note.about == "ebpf.cgroupPath");
    about
        .filter(|note| !note.text.starts_with("the programs deal with"))
        .map(|n| (n.severity, n.text.clone()))
        .collect()
}

fn state(ground: &Ground, plan: Option<&Plan>) -> State {
    let mut options = plan.map_or_else(Options::default, |plan| plan.options.clone());
    options.bpffs = Some(BPFFS.into());
    let plan = plan.cloned().map(|mut plan| {
        plan.options = options.clone();
        plan
    });
    ground.workload().enter(|| state_with(&options, plan.as_ref(), None)).expect("the state can be read")
}

/// The number that /proc has for this process and the name of its program.
fn this_process() -> String {
    let name = std::fs::read_to_string("/proc/self/comm").expect("it is there");
    format!("process {} ({})", std::process::id(), name.trim_end())
}

#[test]
fn beside_a_sidecar_that_listens_elsewhere_nothing_is_installed() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let Some(below) = Below::new() else { return };
        let plan = plan(|_| ());
        for family in FamilyName::ALL {
            for port in [15001, 15006] {
                let server = sidecar(&ground, family, port);
                let error = below.apply(&ground, &plan).expect_err("a refusal");
                let Error::Conflict { problem, remedy } = &error else { panic!("{error}") };
                for part in [&below.0, &of_process(), &this_process(), &format!("port {port}"), "reset"] {
                    assert!(problem.contains(part), "{part}: {problem}");
                }
                assert!(remedy.contains("--ebpf-cgroup-path"), "{remedy}");
                assert_eq!(Objects::count_until(Objects::NONE), Objects::NONE, "nothing was made");
                drop(server);
            }
            // Others are nobody's business, nor is a direction that is not redirected.
            let other = sidecar(&ground, family, 15002);
            below.apply(&ground, &plan).expect("an installation");
            below_uninstall(&ground, &below);
            drop(other);
            let inbound = sidecar(&ground, family, 15006);
            let gateway = crate::ground::plan(|config| config.redirect.inbound.enabled = false);
            below.apply(&ground, &gateway).expect("an installation");
            below_uninstall(&ground, &below);
            drop(inbound);
        }
        ground.end();
    });
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().expect("a path has a name")
}

fn below_uninstall(ground: &Ground, below: &Below) {
    ground.workload().enter(|| below.engine().uninstall(&Options::default())).expect("a removal");
}

#[test]
fn one_that_comes_later_is_found_by_the_state() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let Some(below) = Below::new() else { return };
        let mut plan = plan(|config| config.ebpf.enabled = true);
        plan.options.cgroup = Some(below.0.clone().into());
        let report = below.apply(&ground, &plan).expect("an installation");
        let [(Severity::Info, said)] = &about_the_cgroup(&report.notes)[..] else { panic!("{:?}", report.notes) };
        assert!(said.contains(&below.0), "{said}");
        let there = Place::Outside.socket(FamilyName::V4, 9000);
        // The hierarchy may be mounted at several places.
        let own = format!("/{},", name_of(&of_process()));
        let name = format!("{}/{}", name_of(&of_process()), name_of(&below.0));
        let servers = [sidecar(&ground, FamilyName::V4, 15001), sidecar(&ground, FamilyName::V4, 15006)];
        for found in [state(&ground, None), state(&ground, Some(&plan))] {
            assert_eq!(found.status, Status::Current, "{found:?}");
            let [(Severity::Warning, said)] = &about_the_cgroup(&found.notes)[..] else { panic!("{:?}", found.notes) };
            for part in [&name, &own, &this_process(), "port 15001", "port 15006", "reset"] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        // It is what the note says: a client in the cgroup, a sidecar that is told nothing.
        let client = Inside::enter(&below);
        let answer = ground.workload().enter_as(APP, || blocking(there).and_then(|stream| greeting(&stream)));
        assert!(!answer.is_ok_and(|answer| answer.original == Some(there)), "the sidecar knows nothing");
        drop(client);
        drop(servers);
        // The same sidecar from a cgroup that the programs deal with.
        let client = Inside::enter(&below);
        let servers = [sidecar(&ground, FamilyName::V4, 15001), sidecar(&ground, FamilyName::V4, 15006)];
        drop(client);
        assert!(about_the_cgroup(&state(&ground, None).notes).is_empty());
        let report = below.apply(&ground, &plan).expect("an installation");
        assert!(!report.changed && about_the_cgroup(&report.notes).is_empty(), "{report:?}");
        drop(servers);
        below_uninstall(&ground, &below);
        drop(below);
        ground.end();
    });
}

/// This process in the cgroup, as long as this lives.
struct Inside;

impl Inside {
    fn enter(below: &Below) -> Self {
        std::fs::write(format!("{}/cgroup.procs", below.0), "0").expect("root may enter its own cgroup");
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        std::fs::write(format!("{}/cgroup.procs", of_process()), "0").expect("root may enter its own cgroup");
    }
}

#[test]
fn before_it_listens_its_processes_tell() {
    isolated(|| {
        let Some(ground) = Ground::without_servers() else { return };
        let Some(below) = Below::new() else { return };
        let plan = plan(|_| ());
        let idle = Idle::start(&ground, None);
        let report = below.apply(&ground, &plan).expect("an installation");
        let [(Severity::Warning, said)] = &about_the_cgroup(&report.notes)[..] else { panic!("{:?}", report.notes) };
        let name = format!("process {} (sleep)", idle.0.id());
        for part in [&name, name_of(&of_process()), &below.0] {
            assert!(said.contains(part), "{part}: {said}");
        }
        let found = state(&ground, None);
        assert!(about_the_cgroup(&found.notes).iter().any(|(_, said)| said.contains(&name)), "{found:?}");
        drop(idle);
        let idle = Idle::start(&ground, Some(&below.0));
        assert!(about_the_cgroup(&state(&ground, None).notes).is_empty());
        // One of another network namespace is none of this one's.
        drop(idle);
        let elsewhere = ground.world.outside.enter_as(SIDECAR, || Command::new("sleep").arg("1000").spawn());
        let elsewhere = Idle(elsewhere.expect("the program is everywhere"));
        let notes = about_the_cgroup(&state(&ground, None).notes);
        assert!(notes.iter().all(|(severity, _)| *severity == Severity::Info), "{notes:?}");
        drop(elsewhere);
        below_uninstall(&ground, &below);
        drop(below);
        ground.end();
    });
}
