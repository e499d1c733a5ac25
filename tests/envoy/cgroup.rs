//! A cgroup for a test of its own process, since a process is in one.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::skip;

/// Set in the process that runs the body.
const MARK: &str = "KUMATP_TEST_CGROUP";

/// Where the engine pins, in the workload's own `/run`.
pub(crate) const BPFFS: &str = "/run/bpf";

/// The cgroup of this process, if it runs the body of [`in_a_cgroup`].
pub(crate) fn current() -> String {
    std::env::var(MARK).expect("this is called within in_a_cgroup")
}

/// Runs the body in another process, which is in a new cgroup.
pub(crate) fn in_a_cgroup(test: &str, body: impl FnOnce()) {
    if std::env::var_os(MARK).is_some() {
        let _place = Place::enter();
        return body();
    }
    if !nix::unistd::geteuid().is_root() {
        return skip::skipped("cgroups need root");
    }
    let kinds = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !kinds.lines().any(|line| line.ends_with("\tcgroup2")) {
        return skip::skipped("this kernel has no cgroup2");
    }
    let root = std::env::temp_dir().join(format!("kumatp-test-cgroups-{}", std::process::id()));
    fs::create_dir(&root).expect("a directory for temporary files");
    let cgroup = root.join(format!("kumatp-test-envoy-{}", std::process::id()));
    let exe = std::env::current_exe().expect("this program has a path");
    let status = Command::new(exe)
        .args([test, "--exact", "--nocapture"])
        .env(MARK, &cgroup)
        .env(skip::run::RUN, skip::run::run())
        .status();
    let _ = fs::remove_dir(&root);
    assert!(status.expect("it starts").success(), "{test} failed in its cgroup");
}

/// This process is in the cgroup while this lives.
struct Place {
    cgroup: PathBuf,
    root: PathBuf,
}

impl Place {
    fn enter() -> Self {
        let cgroup = PathBuf::from(current());
        let root = cgroup.parent().expect("it is in the root").to_owned();
        // The mount is seen by this thread and by those that it starts.
        unshare(CloneFlags::CLONE_NEWNS).expect("root may");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).expect("root may");
        mount(Some("none"), &root, Some("cgroup2"), MsFlags::empty(), None::<&str>).expect("there is cgroup2");
        fs::create_dir(&cgroup).expect("root makes cgroups");
        fs::write(cgroup.join("cgroup.procs"), "0").expect("a process can be moved into an empty cgroup");
        Self { cgroup, root }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::write(self.root.join("cgroup.procs"), "0");
        let _ = fs::remove_dir(&self.cgroup);
        let _ = umount2(&self.root, MntFlags::MNT_DETACH);
    }
}
