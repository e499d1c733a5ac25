//! The book's figures are those of `benches/figures.json`, which benches write. `KUMATP_BLESS=1` rewrites the tables.

use std::fmt::Write as _;
use std::path::Path;

#[path = "../benches/common/figures.rs"]
mod figures;

use figures::{Figure, Figures, Outcome, Part, Section, Unit};

/// The page of the figures.
const PAGE: &str = "docs/pages/reference/performance.md";
const END: &str = "<!-- end of figures -->\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The benches of the manifest.
fn benches() -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let names = manifest.split("[[bench]]\nname = \"").skip(1).filter_map(|rest| rest.split('"').next());
    names.map(str::to_owned).collect()
}

/// The text with the tables of each bench between its marks.
fn with_tables(text: &str, figures: &Figures) -> String {
    let mut text = text.to_owned();
    for bench in benches() {
        let mark = format!("<!-- figures of {bench} -->\n");
        let from = text.find(&mark).unwrap_or_else(|| panic!("{PAGE} has no {mark}")) + mark.len();
        let to = from + text[from..].find(END).unwrap_or_else(|| panic!("no {END} behind {mark}"));
        let tables = figures.0.get(&bench).map_or_else(|| not_yet(&bench), tables);
        text.replace_range(from..to, &tables);
    }
    text
}

fn not_yet(bench: &str) -> String {
    format!("Not measured yet: `cargo bench --all-features --bench {bench}`.\n")
}

fn tables(section: &Section) -> String {
    let Section { command, date, kernel, machine, parts } = section;
    let mut text = format!("{date}, Linux {kernel}, {machine}, `{command}`:\n");
    for part in parts {
        text.push_str(&table(part));
    }
    text
}

/// A line a name, and a column for everybody of whom there is a figure.
fn table(part: &Part) -> String {
    let column = |figure: &Figure| match &figure.against {
        Some(against) => format!("{} : {against}", figure.of),
        None => figure.of.clone(),
    };
    let (mut names, mut columns) = (Vec::new(), Vec::new());
    for figure in &part.figures {
        if !names.contains(&&figure.name) {
            names.push(&figure.name);
        }
        if !columns.contains(&column(figure)) {
            columns.push(column(figure));
        }
    }
    let mut table = format!("\n| {} | {} |\n|---|{}\n", part.title, columns.join(" | "), "---|".repeat(columns.len()));
    for name in names {
        let cells = columns.iter().map(|wanted| {
            let mut here = part.figures.iter().filter(|figure| figure.name == *name && column(figure) == *wanted);
            let cell = here.next().map(cell).unwrap_or_default();
            assert!(here.next().is_none(), "two figures of {name}, {wanted}");
            cell
        });
        writeln!(table, "| {name} | {} |", cells.collect::<Vec<_>>().join(" | ")).unwrap();
    }
    table
}

/// The median, and where the middle half of the turns is if that is another number.
fn cell(figure: &Figure) -> String {
    let Outcome::Measured { value, quartiles: [low, high], turns: _ } = &figure.outcome else {
        return "not measured".into();
    };
    let [value, low, high] = [value, low, high].map(|value| words(*value, figure.unit));
    if low == high { value } else { format!("{value} ({low} to {high})") }
}

fn words(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => digits(value),
        Unit::Count => format!("{value:.0}"),
        Unit::Bytes if value < 1e6 => format!("{} kB", digits(value / 1e3)),
        Unit::Bytes => format!("{} MB", digits(value / 1e6)),
        Unit::Seconds if value.abs() < 1e-6 => format!("{} ns", digits(value * 1e9)),
        Unit::Seconds if value.abs() < 1e-3 => format!("{} µs", digits(value * 1e6)),
        Unit::Seconds if value.abs() < 1.0 => format!("{} ms", digits(value * 1e3)),
        Unit::Seconds => format!("{} s", digits(value)),
    }
}

/// Two digits that count, or as many as stand before the point.
fn digits(value: f64) -> String {
    match value.abs() {
        0.95.. => match value.abs() {
            9.95.. => format!("{value:.0}"),
            _ => format!("{value:.1}"),
        },
        _ => format!("{value:.2}"),
    }
}

#[test]
fn the_page_has_the_figures_of_the_file() {
    let path = root().join(PAGE);
    let written = std::fs::read_to_string(&path).unwrap();
    let expected = with_tables(&written, &Figures::read());
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return std::fs::write(&path, expected).unwrap();
    }
    assert!(written == expected, "{PAGE}: figures are stale: run KUMATP_BLESS=1 cargo test --test figures");
}

#[test]
fn the_file_is_as_benches_write_it() {
    let figures = Figures::read();
    let written = std::fs::read_to_string(Figures::path()).unwrap();
    assert!(
        written == figures.to_text(),
        "benches/figures.json is not as a bench would write it: edit no figure by hand"
    );
    let benches = benches();
    for (bench, section) in &figures.0 {
        assert!(benches.contains(bench), "{bench} is no bench, so nobody can measure it again");
        assert!(section.command.ends_with(&format!("--bench {bench}")), "{bench}: {}", section.command);
        for figure in section.parts.iter().flat_map(|part| &part.figures) {
            assert_eq!(figure.unit == Unit::Ratio, figure.against.is_some(), "{bench}: {}", figure.name);
            if let Outcome::Measured { value, quartiles: [low, high], turns } = figure.outcome {
                assert!(turns > 0 && low <= value && value <= high, "{bench}: {}", figure.name);
            }
        }
    }
}

/// Beside the tables, the page says of no figure how large it is.
#[test]
fn prose_about_speed_has_no_figures() {
    let page = std::fs::read_to_string(root().join(PAGE)).unwrap();
    let mut prose = String::new();
    for part in page.split(END) {
        prose.push_str(part.split("<!-- figures of ").next().unwrap());
    }
    assert!(prose.len() > 300, "{prose}");
    let words: Vec<_> = prose.split(|char: char| char.is_whitespace() || "()|;:".contains(char)).collect();
    for pair in words.windows(2) {
        let number = pair[0].chars().next().is_some_and(|char| char.is_ascii_digit());
        let unit =
            ["times", "ms", "µs", "ns", "s", "MB", "kB", "%", "percent"].contains(&pair[1].trim_matches([',', '.']));
        assert!(!(number && unit), "{PAGE} says '{} {}' in prose", pair[0], pair[1]);
    }
}

#[test]
fn a_figure_is_shown_with_its_spread() {
    let text = r#"{ "b": { "command": "cargo bench --bench b", "date": "2026-01-31", "kernel": "6.1.0", "machine": "x86_64, 2 processors",
        "parts": [ { "title": "work", "figures": [
            { "name": "one", "of": "kumatp", "against": "`true`", "unit": "ratio", "value": 2.312, "quartiles": [2.2, 2.449], "turns": 41 },
            { "name": "one", "of": "memory", "unit": "bytes", "value": 5910000, "quartiles": [5910000, 5910000], "turns": 5 },
            { "name": "two", "of": "kumactl", "against": "kumatp", "unit": "ratio", "why": "it is not here" },
            { "name": "two", "of": "memory", "unit": "bytes", "value": 600000, "quartiles": [590000, 610000], "turns": 5 },
            { "name": "three", "of": "time", "unit": "seconds", "value": 2.05e-7, "quartiles": [2e-7, 2.1e-7], "turns": 5 }
        ] } ] } }"#;
    let figures: Figures = serde_json::from_str(text).unwrap();
    let expected = "\
2026-01-31, Linux 6.1.0, x86_64, 2 processors, `cargo bench --bench b`:

| work | kumatp : `true` | memory | kumactl : kumatp | time |
|---|---|---|---|---|
| one | 2.3 (2.2 to 2.4) | 5.9 MB |  |  |
| two |  | 600 kB (590 kB to 610 kB) | not measured |  |
| three |  |  |  | 205 ns (200 ns to 210 ns) |
";
    assert_eq!(tables(&figures.0["b"]), expected);
    // What is written is what was read.
    let again: Figures = serde_json::from_str(&figures.to_text()).unwrap();
    assert_eq!(again.to_text(), figures.to_text());
}
