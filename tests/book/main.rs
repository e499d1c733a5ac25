//! The pages of the book and the README: what they show is run, what they name exists, and what readers ask for is found.
//! `KUMATP_BLESS=1` writes what the commands print into the pages.
#![cfg(all(feature = "cli", target_os = "linux"))]

#[path = "../common/isolated.rs"]
mod isolated;
mod sessions;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use self::isolated::isolated;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages, in the order of their paths.
fn pages() -> Vec<PathBuf> {
    fn visit(directory: &Path, pages: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => visit(&path, pages),
                false if path.extension().is_some_and(|extension| extension == "md") => pages.push(path),
                false => {}
            }
        }
    }
    let mut pages = Vec::new();
    visit(&root().join("docs/pages"), &mut pages);
    pages.sort();
    pages
}

/// The blocks of a language in a text, each with its place.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<(usize, &'a str)> {
    let fence = format!("```{language}\n");
    let begins: Vec<usize> = text.match_indices(&fence).map(|(at, _)| at + fence.len()).collect();
    begins.into_iter().map(|at| (at, &text[at..at + text[at..].find("```").unwrap()])).collect()
}

#[test]
fn sessions_print_what_is_shown() {
    isolated(|| {
        let mut commands = 0;
        for page in pages().into_iter().chain([root().join("README.md")]) {
            commands += sessions::follow(&page);
        }
        assert!(commands >= 40, "{commands}");
    });
}

/// The subcommands of a line, and its flags.
fn words(line: &str) -> (Vec<&str>, Vec<&str>) {
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    let command = words.iter().take_while(is_name).filter(|word| **word != "transparent-proxy").copied().collect();
    let flags = words.iter().filter(|word| word.starts_with("--") && word.len() > 2);
    (command, flags.map(|flag| flag.split('=').next().unwrap()).collect())
}

/// Commands that cannot be run here name subcommands and flags that there are.
#[test]
fn commands_exist() {
    let mut checked = 0;
    for page in pages().into_iter().chain([root().join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        for block in ["sh", "ini", "yaml", "console"].into_iter().flat_map(|language| blocks(&text, language)) {
            let joined = block.1.replace("\\\n", " ");
            let parts = joined.lines().flat_map(|line| line.split(['|', ';', '&', '#']));
            for line in parts.filter_map(|part| part.find("kumatp ").map(|at| &part[at..])) {
                let (command, flags) = words(line);
                if command.is_empty() {
                    continue;
                }
                // What follows the subcommand may be words of its own.
                let named = match command[0] {
                    "config" | "dataplane" => &command[..command.len().min(2)],
                    _ => &command[..1],
                };
                let output = Command::new(env!("CARGO_BIN_EXE_kumatp")).args(named).arg("--help").output().unwrap();
                assert!(output.status.success(), "{}: {line}", page.display());
                let help = String::from_utf8(output.stdout).unwrap();
                for flag in flags {
                    assert!(help.contains(flag), "{}: {flag} of {line}", page.display());
                    checked += 1;
                }
            }
        }
    }
    assert!(checked >= 30, "{checked}");
}

/// The files that a text links to, from where it is.
fn links(page: &Path) -> BTreeSet<PathBuf> {
    let text = std::fs::read_to_string(page).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    let files = targets.filter(|target| !target.is_empty() && !target.contains(':'));
    files.map(|target| page.parent().unwrap().join(target)).collect()
}

/// The headings of a page.
fn headings(page: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(page).unwrap();
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| line.trim_start_matches(['#', ' ']).replace('`', "").to_lowercase()).collect()
}

/// Who reads pages as files sees all of an example, and links that lead to files.
#[test]
fn pages_are_readable_without_being_built() {
    for page in pages().into_iter().chain([root().join("README.md")]) {
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(!text.contains("](crate::"), "{}: a link that only rustdoc follows", page.display());
        for (_, block) in ["rust", "rust,no_run"].into_iter().flat_map(|language| blocks(&text, language)) {
            let hidden = block.lines().find(|line| *line == "#" || line.starts_with("# "));
            assert_eq!(hidden, None, "{}: a line that only rustdoc hides", page.display());
        }
        for link in links(&page) {
            assert!(link.exists(), "{}: {}", page.display(), link.display());
        }
    }
}

/// Where a link of a text leads: to a page, or to a heading of it.
struct Click {
    page: PathBuf,
    anchor: Option<String>,
}

/// The links of a page to pages, itself among them.
fn clicks(page: &Path) -> Vec<Click> {
    let text = std::fs::read_to_string(page).unwrap();
    let targets =
        text.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| !target.contains(':'));
    let click = |target: &str| {
        let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
        let to = if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
        let is_page = to.extension().is_some_and(|extension| extension == "md");
        is_page.then(|| Click { page: to.canonicalize().unwrap(), anchor: anchor.map(str::to_owned) })
    };
    targets.filter_map(click).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().split_whitespace().collect::<Vec<_>>().join("-")
}

/// Whether a click ends where a heading says the words: at the heading itself, or at the page that it is on.
fn shows(click: &Click, words: &str) -> bool {
    let said = |heading: &String| heading.contains(words);
    let mut headings = headings(&click.page).into_iter().filter(said);
    headings.any(|heading| click.anchor.as_ref().is_none_or(|to| *to == anchor(&heading)))
}

/// How many clicks from a page it takes to a heading that says the words; none if more than two do not do.
fn distance(from: &Path, words: &str) -> Option<usize> {
    let first = clicks(from);
    if first.iter().any(|click| shows(click, words)) {
        return Some(1);
    }
    let second = |click: &Click| clicks(&click.page).iter().any(|next| shows(next, words));
    first.iter().any(second).then_some(2)
}

/// What readers ask for is a heading, two clicks from the README and one from the book's first page.
#[test]
fn questions_are_two_clicks_away() {
    let (readme, index) = (root().join("README.md"), root().join("docs/pages/index.md"));
    for question in ["exclude a port", "ssh lock-out", "docker dns", "what is ::6"] {
        assert!(distance(&readme, question).is_some(), "README.md leads to no heading: {question}");
        assert_eq!(distance(&index, question), Some(1), "index.md leads to no heading: {question}");
    }
    for question in ["init containers", "exit status", "threat model", "errors and notes", "flags of kumactl 2.9"] {
        assert!(distance(&readme, question).is_some(), "README.md leads to no heading: {question}");
    }
    assert_eq!(distance(&readme, "how to knit"), None);
}

/// An anchor of a link is that of a heading.
#[test]
fn links_lead_to_headings() {
    for page in pages().into_iter().chain([root().join("README.md")]) {
        for click in clicks(&page) {
            let Some(to) = &click.anchor else { continue };
            let found = headings(&click.page).iter().any(|heading| anchor(heading) == *to);
            assert!(found, "{}: {}#{to}", page.display(), click.page.display());
        }
    }
}

/// What the page on messages quotes is what the sources say; `…` stands for what differs.
#[test]
fn messages_are_those_of_the_program() {
    fn read(directory: &Path, text: &mut String) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => read(&path, text),
                false => text.push_str(&std::fs::read_to_string(&path).unwrap_or_default()),
            }
        }
    }
    let mut sources = String::new();
    read(&root().join("src"), &mut sources);
    // A text may go on in the next line of its source, behind a backslash.
    let joined: String =
        sources.split("\\\n").enumerate().map(|(i, part)| if i == 0 { part } else { part.trim_start() }).collect();
    let page = std::fs::read_to_string(root().join("docs/pages/reference/errors.md")).unwrap();
    let (_, tables) = page.split_once("\n## The command line\n").unwrap();
    let mut checked = 0;
    for row in tables.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (message, _) = row.split_once("` | ").unwrap_or_else(|| panic!("{row}"));
        for part in message.split('…').map(str::trim).filter(|part| part.len() > 3) {
            assert!(joined.contains(part), "no source says: {part}");
            checked += 1;
        }
    }
    assert!(checked > 70, "{checked}");
}
