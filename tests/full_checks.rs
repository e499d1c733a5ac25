//! What `.ci/run` has no time for was run not long ago: `.ci/full --check`, and that this check can fail.
#![cfg(target_os = "linux")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

#[path = "common/skip.rs"]
mod skip;
use skip::skipped;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_part_has_passed_on_what_is_here_or_was_here_days_ago() {
    // A packaged crate has neither the checks nor a history, a machine may lack git, and git opens no checkout of another user.
    let history = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(root()).output();
    if !root().join(".ci/full").exists() || !history.is_ok_and(|output| output.status.success()) {
        return skipped("there is no history of a checkout that git opens");
    }
    let check = Command::new("bash").args([".ci/full", "--check"]).current_dir(root()).output().unwrap();
    assert!(check.status.success(), "{}", text(&check));
}

/// A repository with one part, `kernels`, that covers the folder `src`.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Option<Self> {
        let place = std::env::temp_dir().join(format!("kumatp-full-{name}-{}", std::process::id()));
        std::fs::create_dir_all(place.join(".ci")).unwrap();
        std::fs::create_dir_all(place.join("src")).unwrap();
        let repository = Self(place);
        let full = std::fs::read(root().join(".ci/full")).ok()?;
        std::fs::write(repository.0.join(".ci/full"), full).unwrap();
        std::fs::write(repository.0.join(".ci/parts"), "# part, and what it covers\nkernels src\n").unwrap();
        repository.git("2026-01-01", &["init", "-q"])?;
        repository.change("2026-01-01", "one")?;
        Some(repository)
    }

    fn git(&self, day: &str, arguments: &[&str]) -> Option<()> {
        let date = format!("{day}T12:00:00Z");
        let identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"];
        let mut git = Command::new("git");
        git.args(identity).args(arguments).current_dir(&self.0);
        git.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date).env_remove("GIT_DIR");
        let output = git.output().ok()?;
        assert!(output.status.success(), "{}", text(&output));
        Some(())
    }

    /// Commits another content of what is covered.
    fn change(&self, day: &str, content: &str) -> Option<()> {
        std::fs::write(self.0.join("src/lib.rs"), content).unwrap();
        self.git(day, &["add", "."])?;
        self.git(day, &["commit", "-qm", content])
    }

    /// Notes that the part ended so on a day, on what is committed.
    fn note(&self, day: &str, result: &str) {
        let digest = Command::new("bash")
            .args(["-c", "git ls-tree -r HEAD -- src | sha256sum | cut -c 1-16"])
            .current_dir(&self.0)
            .output()
            .unwrap();
        let line = format!("kernels {day} {result} {}", String::from_utf8_lossy(&digest.stdout));
        std::fs::write(self.0.join(".ci/full.results"), line).unwrap();
    }

    fn check(&self, more: &[&str]) -> (bool, String) {
        let check =
            Command::new("bash").args([".ci/full", "--check"]).args(more).current_dir(&self.0).output().unwrap();
        (check.status.success(), text(&check))
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_part_that_was_never_run_or_has_failed_is_told() {
    let Some(repository) = Repository::new("failed") else { return skipped("git or .ci/full is not there") };
    let (passed, said) = repository.check(&[]);
    assert!(!passed && said.contains("kernels: was never run"), "{said}");
    repository.note("2026-01-02", "failed");
    let (passed, said) = repository.check(&[]);
    assert!(!passed && said.contains("kernels: failed on 2026-01-02"), "{said}");
}

#[test]
fn a_change_makes_a_result_old_after_seven_days() {
    let Some(repository) = Repository::new("old") else { return skipped("git or .ci/full is not there") };
    repository.note("2026-01-02", "passed");
    for more in [&[][..], &["--strict"]] {
        let (passed, said) = repository.check(more);
        assert!(passed && said.contains("passed on 2026-01-02, on what is here"), "{said}");
    }
    repository.change("2026-01-09", "two").unwrap();
    let (passed, said) = repository.check(&[]);
    assert!(passed && said.contains("changed later, on 2026-01-09"), "{said}");
    let (passed, said) = repository.check(&["--strict"]);
    assert!(!passed && said.contains("changed on 2026-01-09"), "{said}");
    repository.change("2026-01-10", "three").unwrap();
    let (passed, said) = repository.check(&[]);
    assert!(!passed && said.contains("changed on 2026-01-10; run .ci/full kernels"), "{said}");
    // What is as it was needs no other run.
    repository.change("2026-03-01", "one").unwrap();
    assert!(repository.check(&["--strict"]).0);
}
