//! What the command says of a set of configurations is what it said when that was recorded: every dry run, each form of `render`,
//! `explain --json` of packets from the edges of the rules, errors and notes, and `status --json`.
//!
//! A change that should change no behaviour leaves `recorded/` as it is. `KUMATP_BLESS=1` writes it again, for sentences that were
//! improved on purpose. `KUMATP_CORPUS_COMMAND` names another kumatp, an older one, whose answers are compared instead of the recorded
//! ones and in full (with `KUMATP_BLESS=1`, are recorded).
#![cfg(all(feature = "cli", target_os = "linux"))]

mod answers;
mod boundary;
#[path = "../common/isolated.rs"]
mod isolated;
mod questions;
mod status;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use self::answers::{Answer, Length, difference, parse, text};
use self::isolated::isolated;
use self::questions::{Question, about_configuration, beside_configurations, configurations};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/corpus");

/// The command under test.
const COMMAND: &str = env!("CARGO_BIN_EXE_kumatp");

/// The command whose answers are compared with those of this one, if it is not the recorded ones.
fn other_command() -> Option<String> {
    std::env::var("KUMATP_CORPUS_COMMAND").ok()
}

/// Compares answers with those that are recorded under a name; says what is different.
fn compare(name: &str, ask: impl Fn(&str, Length) -> Vec<Answer>) -> Option<String> {
    let path = Path::new(HERE).join("recorded").join(name).with_extension("txt");
    let other = other_command();
    if std::env::var_os("KUMATP_BLESS").is_some() {
        let answers = ask(other.as_deref().unwrap_or(COMMAND), Length::Short);
        std::fs::write(&path, text(&answers)).unwrap();
        return None;
    }
    let (recorded, now) = match other {
        Some(other) => (ask(&other, Length::Whole), ask(COMMAND, Length::Whole)),
        None => {
            let recorded = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (parse(&recorded), ask(COMMAND, Length::Short))
        }
    };
    assert!(!now.is_empty(), "{name}: nothing was asked");
    difference(&recorded, &now).map(|difference| format!("{name}:\n{difference}"))
}

/// Asks every question of a list.
fn ask_all(questions: &[Question], command: &str, length: Length) -> Vec<Answer> {
    questions.iter().map(|question| question.ask(command, length)).collect()
}

fn nothing_differs(differences: &[String]) {
    assert!(
        differences.is_empty(),
        "answers differ from tests/corpus/recorded (-); KUMATP_CORPUS_COMMAND=AN-OLDER-KUMATP compares whole answers, \
         KUMATP_BLESS=1 records these:\n{}",
        differences.join("\n")
    );
}

#[test]
fn what_is_said_of_configurations_is_as_recorded() {
    let configurations = configurations();
    assert!(configurations.len() >= 20, "{configurations:?}");
    let next = AtomicUsize::new(0);
    let work = || {
        let mut differences = Vec::new();
        while let Some(name) = configurations.get(next.fetch_add(1, Ordering::Relaxed)) {
            let questions = about_configuration(name);
            differences.extend(compare(name, |command, length| ask_all(&questions, command, length)));
        }
        differences
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut differences: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    differences.sort();
    nothing_differs(&differences);
}

/// Of every packet that the rules tell apart, by the library: it takes no process each.
#[test]
fn what_is_said_of_boundary_packets_is_as_recorded() {
    nothing_differs(&Vec::from_iter(compare("boundary", |_, _| boundary::ask())));
}

#[test]
fn what_is_said_beside_configurations_is_as_recorded() {
    let questions = beside_configurations();
    let differences = compare("others", |command, length| ask_all(&questions, command, length));
    nothing_differs(&Vec::from_iter(differences));
}

#[test]
fn every_recorded_file_is_compared() {
    // They are being written.
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return;
    }
    let mut names = configurations();
    names.extend(["boundary", "others", "status"].map(str::to_owned));
    names.sort();
    let mut recorded = questions::names(&Path::new(HERE).join("recorded"));
    recorded.sort();
    assert_eq!(recorded, names);
}

#[test]
fn what_is_said_of_installations_is_as_recorded() {
    isolated(|| {
        if let Err(why) = status::prepare() {
            return isolated::skipped(why);
        }
        nothing_differs(&Vec::from_iter(compare("status", status::ask)));
    });
}
