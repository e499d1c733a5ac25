//! The modules use each other only as the architecture says, so that the picture in the crate's
//! documentation cannot rot.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "layers/engine.rs"]
mod engine;
#[path = "layers/imports.rs"]
mod imports;

/// Each module, and the modules that it may use.
const TABLE: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("sorted", &[]),
    // A macro.
    ("named", &["error"]),
    // Opening files and finding room on the stack: what several modules ask of the system.
    ("files", &["error"]),
    ("room", &["error"]),
    ("socket_options", &[]),
    ("netns", &["error", "files", "room", "socket_options"]),
    ("net", &["error", "named"]),
    ("model", &["error", "named", "sorted", "net"]),
    ("config", &["error", "named", "sorted", "files", "room", "net", "model"]),
    // `facts::probe` reads the host through netlink.
    ("facts", &["error", "files", "room", "netns", "net", "model", "netlink"]),
    ("policy", &["error", "sorted", "net", "model", "config", "facts"]),
    ("nftables", &["error", "sorted", "net", "model"]),
    ("iptables_save", &["error", "sorted", "net", "model"]),
    ("in_force", &["net", "model", "nftables", "iptables_save"]),
    ("render", &["error", "sorted", "net", "model", "nftables", "iptables_save"]),
    ("firewalld", &["error", "files", "room", "net", "model", "iptables_save", "render"]),
    ("simulate", &["error", "sorted", "room", "net", "model", "nftables", "iptables_save", "in_force", "render"]),
    ("netlink", &["error", "sorted", "files", "socket_options", "netns", "net", "model", "nftables"]),
    ("ebpf", &["error", "sorted", "net", "model", "files", "netns", "netlink"]),
    (
        "engine",
        &[
            "error",
            "sorted",
            "files",
            "netns",
            "net",
            "model",
            "facts",
            "iptables_save",
            "in_force",
            "render",
            "nftables",
            "netlink",
            "ebpf",
        ],
    ),
    ("cni", &["error", "named", "files", "netns", "net", "model", "config", "facts", "policy", "engine"]),
    (
        "ffi",
        &[
            "error",
            "sorted",
            "files",
            "room",
            "netns",
            "net",
            "model",
            "config",
            "facts",
            "policy",
            "nftables",
            "iptables_save",
            "render",
            "firewalld",
            "engine",
            "simulate",
        ],
    ),
];

#[test]
fn modules_use_only_what_the_table_allows() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    visit(&source, &mut |path| {
        let relative = path.strip_prefix(&source).unwrap();
        let first = relative.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = first.strip_suffix(".rs").unwrap_or(first);
        if matches!(module, "lib" | "bin" | "guide") {
            return;
        }
        let Some((module, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!("{} is in no row of the table", relative.display()));
            return;
        };
        seen.insert(*module);
        // Unit tests may use anything.
        if relative.file_name().is_some_and(|name| name == "tests.rs") {
            return;
        }
        let text = fs::read_to_string(path).unwrap();
        for used in used(&text) {
            let is_module = TABLE.iter().any(|(name, _)| *name == used);
            if is_module && used != *module && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", relative.display()));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen.contains("policy") && seen.contains("model"), "the walk found nothing");
}

/// The modules of the crate that a file names, outside of its comments and its tests.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let code: Vec<_> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let word = |text: &str| text.trim_start().chars().take_while(|c| is_word(*c)).collect::<String>();
    let mut used = BTreeSet::new();
    for (at, path) in code.match_indices("crate::") {
        let behind = &code[at + path.len()..];
        match behind.strip_prefix('{') {
            _ if code[..at].ends_with(is_word) => {}
            None => drop(used.insert(word(behind))),
            Some(group) => used.extend(items(group).map(word).filter(|word| !word.is_empty())),
        }
    }
    used
}

/// The items of a group, from behind its brace on: those of groups in it are not told apart.
fn items(group: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    let mut end = None;
    let mut commas = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                end = Some(at);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => commas.push(at + 1),
            _ => {}
        }
    }
    let ends = commas.clone().into_iter().chain(end);
    std::iter::once(0).chain(commas).zip(ends).map(move |(from, to)| &group[from..to])
}

#[test]
fn imports_of_every_form_are_read() {
    let text = "use crate::{\n    alpha, beta::{One, inner::Two},\n    gamma::self,\n};\nuse crate::delta::Three;\n\
                // crate::not_this\nfn f() -> crate::epsilon::Four { mycrate::not_this_either() }\n\
                use crate::{zeta};\n#[cfg(test)]\nmod tests {\n    use crate::only_here;\n}\n";
    let expected = ["alpha", "beta", "delta", "epsilon", "gamma", "zeta"].map(str::to_owned);
    assert_eq!(used(text), BTreeSet::from(expected));
}

fn visit(directory: &Path, each: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            visit(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path);
        }
    }
}

/// ARCHITECTURE.md has the table and the picture of the crate's documentation. `KUMATP_BLESS=1` writes the picture and what each module
/// uses; what a module is, a person writes.
#[test]
fn the_architecture_is_as_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("ARCHITECTURE.md");
    let written = fs::read_to_string(&path).unwrap();
    let library = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    let picture = library.split("//! ```text\n").nth(1).unwrap().split("//! ```\n").next().unwrap();
    let bare = |line: &str| format!("{}\n", line.strip_prefix("//! ").unwrap_or_default());
    let picture: String = picture.lines().map(bare).collect();

    let (head, rest) = written.split_once("```text\n").unwrap();
    let (_, rest) = rest.split_once("```\n").unwrap();
    let (middle, rest) = rest.split_once("|---|---|---|\n").unwrap();
    let (rows, tail) = rest.split_once("\n\n").unwrap();
    let described = |name: &str| {
        let row = rows.lines().find(|row| row.starts_with(&format!("| `{name}` | ")));
        row.and_then(|row| row.split(" | ").nth(1)).unwrap_or_else(|| panic!("ARCHITECTURE.md has no row for {name}"))
    };
    let row = |(name, uses): &(&str, &[&str])| {
        let uses = if uses.is_empty() { "nothing".to_owned() } else { uses.join(", ") };
        format!("| `{name}` | {} | {uses} |", described(name))
    };
    let table: Vec<String> = TABLE.iter().map(row).collect();
    let expected = format!("{head}```text\n{picture}```\n{middle}|---|---|---|\n{}\n\n{tail}", table.join("\n"));
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return fs::write(&path, expected).unwrap();
    }
    assert!(written == expected, "ARCHITECTURE.md is stale: run KUMATP_BLESS=1 cargo test --test layers");
}
