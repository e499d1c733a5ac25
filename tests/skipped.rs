//! The summary of the tests that could not run here. It is no test, but the last program that `cargo test` runs before the examples
//! of the documentation, as programs run in the order of their names.

#[path = "common/run.rs"]
mod run;

use std::collections::BTreeSet;
use std::path::Path;

fn main() {
    // Others than cargo ask which tests there are.
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    check();
    print!("{}", summary(run::place(), &run::run()));
    tidy(run::place());
}

/// How many tests a run has skipped, and why. What was written about it is removed.
fn summary(place: &Path, run: &str) -> String {
    let file = place.join(run);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    let lines: BTreeSet<&str> = text.lines().collect();
    let tests: BTreeSet<_> = lines.iter().map(|line| line.splitn(3, ": ").take(2).collect::<Vec<_>>()).collect();
    let number = match tests.len() {
        0 => return "\nno tests skipped\n\n".to_owned(),
        1 => "1 test".to_owned(),
        number => format!("{number} tests"),
    };
    let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
    format!("\n{number} skipped, in whole or in part:\n{lines}\n")
}

/// Removes what runs have left that ended before their summary.
fn tidy(place: &Path) {
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.split('-').next().and_then(|process| process.parse().ok());
        if process.and_then(run::of_process).is_none_or(|run| run != name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// The summary is checked here, since this program has no tests.
fn check() {
    let place = std::env::temp_dir().join(format!("kumatp-skipped-{}", std::process::id()));
    std::fs::create_dir(&place).unwrap();
    let own = run::of_process(std::process::id()).unwrap();
    let lines = "a: one: no root\na: two: no root\nb: one: no root\na: one: no tool: x\na: one: no root\n";
    for run in [own.as_str(), "1-0", "x"] {
        std::fs::write(place.join(run), lines).unwrap();
    }
    assert_eq!(summary(&place, "none"), "\nno tests skipped\n\n");
    let said = summary(&place, "1-0");
    assert!(said.starts_with("\n3 tests skipped, in whole or in part:\n    a: one: no root\n"), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("    ")).count(), 4, "{said}");
    assert_eq!(summary(&place, "1-0"), "\nno tests skipped\n\n");
    // Of those that are left, only the one of a process that is there stays.
    tidy(&place);
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 1);
    assert!(summary(&place, &own).contains("3 tests"));
    std::fs::remove_dir_all(&place).unwrap();
}
