//! What is shipped is as small as the book says.
//!
//! The figures are measured, and with `KUMATP_BLESS=1` written, after the release builds, which an ordinary `cargo test`
//! does not make; the library is built last, as building the commands makes a larger one beside them:
//!
//! ```sh
//! cargo build --release --features cli,cni
//! cargo rustc --release --lib --crate-type cdylib,staticlib
//! KUMATP_BLESS=1 cargo test --all-features --test sizes -- --ignored
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

#[path = "common/skip.rs"]
mod skip;

/// What is shipped: the file, the beginning of its row in the book, and the most bytes that it may have.
const SHIPPED: [(&str, &str, u64); 4] = [
    ("libkumatp.so", "| `libkumatp.so`, default features | ", 2_900_000),
    (AGENT, "| the agent of `examples/c` with the library in it | ", 2_900_000),
    ("kumatp", "| the command `kumatp` | ", 3_800_000),
    ("kumatp-cni", "| the plugin `kumatp-cni` | ", 2_200_000),
];

/// It is made of `libkumatp.a`.
const AGENT: &str = "agent";

/// The unit of the book's figures, in bytes.
const UNIT: u64 = 100_000;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn page() -> PathBuf {
    root().join("docs/pages/reference/performance.md")
}

/// The figure in the row that begins so, in [`UNIT`]s, and where it stands.
fn figure(text: &str, row: &str) -> (u64, std::ops::Range<usize>) {
    let begins = text.find(row).unwrap_or_else(|| panic!("the book has no row {row}")) + row.len();
    let length = text[begins..].find(" MB").unwrap_or_else(|| panic!("the row has no figure: {row}"));
    let written = &text[begins..begins + length];
    let tenths = written.split_once('.').filter(|(_, part)| part.len() == 1).and_then(|(whole, part)| {
        let (whole, part): (u64, u64) = (whole.parse().ok()?, part.parse().ok()?);
        Some(10 * whole + part)
    });
    let tenths = tenths.unwrap_or_else(|| panic!("no figure such as 1.5: {written}"));
    (tenths, begins..begins + length)
}

#[test]
fn the_figures_keep_to_the_limits() {
    let text = std::fs::read_to_string(page()).unwrap();
    for (file, row, limit) in SHIPPED {
        let (tenths, _) = figure(&text, row);
        assert!(
            tenths * UNIT <= limit + UNIT / 2,
            "the book says {tenths} tenths of a MB of {file}; the limit is {limit}"
        );
    }
}

#[test]
#[ignore = "needs the release builds"]
fn what_is_shipped_is_as_small_as_the_book_says() {
    let Some(sizes) = sizes() else { return };
    let bless = std::env::var_os("KUMATP_BLESS").is_some();
    let mut text = std::fs::read_to_string(page()).unwrap();
    for ((file, row, limit), size) in SHIPPED.into_iter().zip(sizes) {
        assert!(size <= limit, "{file} has {size} bytes; the limit is {limit}");
        let (tenths, at) = figure(&text, row);
        if bless {
            let rounded = (size + UNIT / 2) / UNIT;
            text.replace_range(at, &format!("{}.{}", rounded / 10, rounded % 10));
            continue;
        }
        // Half a unit is lost by rounding; as much is left to the next version of the compiler.
        let differs = size.abs_diff(tenths * UNIT);
        assert!(
            differs <= UNIT,
            "{file} has {size} bytes, and the book says another figure: see the head of tests/sizes.rs"
        );
    }
    if bless {
        std::fs::write(page(), text).unwrap();
    }
}

/// The sizes of the files, if they are there and none is older than what it is made of.
fn sizes() -> Option<[u64; SHIPPED.len()]> {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release");
    let (source, changed) = newest();
    let mut sizes = [0; SHIPPED.len()];
    for ((file, ..), size) in SHIPPED.iter().zip(&mut sizes) {
        let made = built.join(if *file == AGENT { "libkumatp.a" } else { file });
        let found = made.metadata().ok().filter(|found| found.modified().unwrap() >= changed);
        let Some(found) = found else {
            let (made, source) = (made.display(), source.display());
            skip::skipped(&format!("{made} is not there, or older than {source}: see the head of tests/sizes.rs"));
            return None;
        };
        *size = if *file == AGENT { agent(&built) } else { found.len() };
    }
    Some(sizes)
}

/// The size of the agent, made as its Makefile makes it, without symbols.
fn agent(libraries: &Path) -> u64 {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sizes");
    let mut make = Command::new("make");
    make.arg("-C").arg(root().join("examples/c")).args(["-s", "-B", "STATIC=1", "LDFLAGS=-s"]);
    make.arg(format!("OUT={}", out.display())).arg(format!("KUMATP_LIB={}", libraries.display()));
    assert!(make.arg(out.join(AGENT)).status().is_ok_and(|status| status.success()), "{make:?}");
    out.join(AGENT).metadata().unwrap().len()
}

/// The file that was changed last of those that decide on sizes.
fn newest() -> (PathBuf, SystemTime) {
    let mut waiting: Vec<_> =
        [".cargo", "Cargo.lock", "Cargo.toml", "build.rs", "src"].map(|name| root().join(name)).to_vec();
    let mut newest = (PathBuf::new(), SystemTime::UNIX_EPOCH);
    while let Some(path) = waiting.pop() {
        if let Ok(inside) = path.read_dir() {
            waiting.extend(inside.map(|entry| entry.unwrap().path()));
        } else if let Ok(changed) = path.metadata().and_then(|found| found.modified()) {
            if changed > newest.1 {
                newest = (path, changed);
            }
        }
    }
    newest
}
