//! Saying that a test cannot run here.

use std::io::Write as _;

/// Says why a test cannot run here, which is a failure where everything has to run: if the
/// environment variable `KUMATP_REQUIRE_ALL` is 1.
pub(crate) fn skipped(why: &str) {
    assert!(std::env::var("KUMATP_REQUIRE_ALL").as_deref() != Ok("1"), "skipped: {why}");
    // Not by a macro, whose words the test runner would keep to itself.
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}
