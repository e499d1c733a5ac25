//! The man pages as groff shows them.

#[path = "common/skip.rs"]
mod skip;

use std::path::Path;
use std::process::Command;

use self::skip::skipped;

/// What groff prints of a page on lines of so many letters. It warns of nothing.
fn shown(page: &Path, width: usize) -> Option<String> {
    let width = format!("-rLL={width}n");
    let output = Command::new("groff").args(["-man", "-Tutf8", "-ww", &width]).arg(page).output().ok()?;
    assert!(output.status.success(), "{}", page.display());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", page.display());
    Some(plain(&String::from_utf8_lossy(&output.stdout)))
}

/// The text without what makes letters bold (colours of a terminal, or a letter over itself), and with each space once.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut in_colour = false;
    for c in text.chars() {
        match c {
            '\u{1b}' => in_colour = true,
            'm' if in_colour => in_colour = false,
            _ if in_colour => {}
            '\u{8}' => drop(plain.pop()),
            c => plain.push(c),
        }
    }
    squeeze(&plain)
}

fn squeeze(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// groff warns of nothing, and each paragraph and table row of the book's page of commands is seen in a man page.
#[test]
fn what_the_book_says_is_shown() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
    let mut pages = 0;
    for entry in std::fs::read_dir(root.join("docs/man")).unwrap() {
        let page = entry.unwrap().path();
        // On long lines no word is broken.
        let (Some(_), Some(text)) = (shown(&page, 78), shown(&page, 400)) else {
            return skipped("groff is not installed");
        };
        all.push_str(&text);
        pages += 1;
    }
    assert!(pages > 10);
    let book = include_str!("../docs/pages/reference/commands.md");
    let (_, commands) = book.split_once("\n## kumatp\n").unwrap();
    let mut lines = 0;
    for line in commands.lines().filter(|line| line.len() > 20 && !line.starts_with('#')) {
        let cells = line.trim_matches('|').split(" | ").map(|cell| squeeze(&cell.replace(['`', '\\'], "")));
        for cell in cells {
            assert!(all.contains(cell.trim_end_matches('.')), "not shown: {cell}");
            lines += 1;
        }
    }
    assert!(lines > 300, "{lines}");
}
