//! Saying that a test cannot run here, at once and in the summary of `tests/skipped.rs`.

use std::io::Write as _;

#[path = "run.rs"]
pub(crate) mod run;
use self::run::{place, run};

/// Says why a test, or a part of it, cannot run here, which is a failure where everything has to run: if the
/// environment variable `KUMATP_REQUIRE_ALL` is 1.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var("KUMATP_REQUIRE_ALL").as_deref() != Ok("1"), "skipped: {why}");
    // Not by a macro, whose words the test runner would keep to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    let exe = std::env::current_exe().unwrap();
    let program = exe.file_stem().and_then(|stem| stem.to_str()?.rsplit_once('-')).map_or("?", |(name, _)| name);
    let thread = std::thread::current();
    let test = thread.name().filter(|name| *name != "main").map_or_else(argument, str::to_owned);
    let line = format!("{program}: {test}: {}\n", why.lines().next().unwrap_or_default());
    let note = || {
        std::fs::create_dir_all(place())?;
        // One write a line, so that those of several processes do not mix.
        let mut notes = std::fs::OpenOptions::new().create(true).append(true).open(place().join(run()))?;
        notes.write_all(line.as_bytes())
    };
    if let Err(error) = note() {
        let _ = writeln!(std::io::stderr(), "this will be missing in the summary: {}: {error}", place().display());
    }
}

/// The name of a test that runs without a thread of its own.
fn argument() -> String {
    std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_else(|| "?".to_owned())
}
