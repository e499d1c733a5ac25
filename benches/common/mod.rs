//! What the benches share: turns, namespaces, and the file of figures.
//!
//! A bench that runs to its end replaces its own section of `benches/figures.json`; `KUMATP_BLESS=1 cargo test --test figures` puts
//! it into docs/pages/reference/performance.md. With `-- --test`, and by `cargo test --benches`, each part runs once and nothing is written.
#![expect(dead_code, reason = "each bench uses some of it")]

mod about;
mod figures;
#[cfg(target_os = "linux")]
pub(crate) mod host;
pub(crate) mod timing;

use std::path::{Path, PathBuf};

use self::figures::{Figure, Figures, Outcome, Part, Section, Unit};
use self::timing::Sample;

/// A bench that is running.
pub(crate) struct Bench {
    name: &'static str,
    once: bool,
    parts: Vec<Part>,
}

impl Bench {
    pub(crate) fn new(name: &'static str) -> Self {
        let given = |wanted: &str| std::env::args().any(|arg| arg == wanted);
        Self { name, once: given("--test") || !given("--bench"), parts: Vec::new() }
    }

    /// Whether this run only shows that everything works.
    pub(crate) fn once(&self) -> bool {
        self.once
    }

    /// As many turns, or only one.
    pub(crate) fn turns(&self, count: usize) -> usize {
        if self.once { 1 } else { count }
    }

    /// Begins a table.
    pub(crate) fn part(&mut self, title: &str) {
        println!("\n{title}");
        self.parts.push(Part { title: title.into(), figures: Vec::new() });
    }

    /// How many times as much `of` has or takes as `against`.
    pub(crate) fn ratio(&mut self, name: &str, of: &str, against: &str, sample: Sample) {
        self.put(name, of, Some(against), Unit::Ratio, Ok(sample));
    }

    pub(crate) fn seconds(&mut self, name: &str, of: &str, sample: Sample) {
        self.put(name, of, None, Unit::Seconds, Ok(sample));
    }

    /// A number of things; or the reason why nobody has counted them.
    pub(crate) fn count(&mut self, name: &str, of: &str, sample: Result<Sample, String>) {
        self.put(name, of, None, Unit::Count, sample);
    }

    pub(crate) fn bytes(&mut self, name: &str, of: &str, sample: Result<Sample, String>) {
        self.put(name, of, None, Unit::Bytes, sample);
    }

    /// A ratio that could not be measured here.
    pub(crate) fn no_ratio(&mut self, name: &str, of: &str, against: &str, why: &str) {
        self.put(name, of, Some(against), Unit::Ratio, Err(why.into()));
    }

    fn put(&mut self, name: &str, of: &str, against: Option<&str>, unit: Unit, sample: Result<Sample, String>) {
        let to = against.map(|against| format!(" : {against}")).unwrap_or_default();
        match &sample {
            Ok(Sample { median, quartiles: [low, high], turns }) => {
                println!("  {name}, {of}{to}: {median:.4e} ({low:.4e} to {high:.4e}; {turns} turns) {unit:?}");
            }
            Err(why) => println!("  {name}, {of}{to}: not measured, {why}"),
        }
        let outcome = match sample {
            Ok(Sample { median, quartiles, turns }) => {
                Outcome::Measured { value: rounded(median), quartiles: quartiles.map(rounded), turns }
            }
            Err(why) => Outcome::NotMeasured { why },
        };
        let figure = Figure { name: name.into(), of: of.into(), against: against.map(Into::into), unit, outcome };
        self.parts.last_mut().expect("a part has begun").figures.push(figure);
    }

    /// Writes what was measured, in place of what was measured before.
    pub(crate) fn finish(self, features: &str) {
        if self.once {
            return;
        }
        let features = if features.is_empty() { String::new() } else { format!("--features {features} ") };
        let programs = std::env::var(PROGRAMS).map(|folder| format!("{PROGRAMS}={folder} ")).unwrap_or_default();
        let section = Section {
            command: format!("{programs}cargo bench {features}--bench {}", self.name),
            date: about::date(),
            kernel: about::kernel(),
            machine: about::machine(),
            parts: self.parts,
        };
        let mut figures = Figures::read();
        figures.0.insert(self.name.into(), section);
        std::fs::write(Figures::path(), figures.to_text()).expect("the file of figures can be written");
    }
}

/// The folder of the programs that are measured, where it is given: `target/release` has what is shipped. Those that are built for a bench are
/// built faster, and are larger.
const PROGRAMS: &str = "KUMATP_BENCH_PROGRAMS";

/// The program of this name to measure: the one in the folder that is given, or the one that was built for the bench.
pub(crate) fn program(name: &str, built: &str) -> PathBuf {
    let given = std::env::var_os(PROGRAMS).map(|folder| Path::new(&folder).join(name));
    let program = given.unwrap_or_else(|| built.into());
    // It is run from other folders.
    program.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}

/// A number with commas, as people read it.
pub(crate) fn grouped(number: usize) -> String {
    match number {
        0..1_000 => number.to_string(),
        _ => format!("{},{:03}", grouped(number / 1_000), number % 1_000),
    }
}

/// Four digits: more than any of these is worth.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().expect("it was a number")
}
