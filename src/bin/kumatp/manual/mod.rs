//! The manual: man pages, the book's page of commands and the JSON Schema of configurations, written from the parser's commands and the
//! table of keys. It is not in the program; tests compare what is committed, and `KUMATP_BLESS=1` writes it again.

mod cni;
mod commands;
mod keys;
mod markdown;
mod page;
mod roff;
mod schema;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::page::Page;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every man page.
fn pages() -> Vec<Page> {
    let mut pages = commands::pages(crate::command(crate::now));
    pages.extend([keys::page(), cni::page()]);
    pages
}

/// Compares a file with what it should be, or writes it.
fn held(path: &Path, expected: &str) {
    if std::env::var_os("KUMATP_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        return std::fs::write(path, expected).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == expected,
        "{} is stale: run KUMATP_BLESS=1 cargo test --all-features --bin kumatp manual",
        path.display()
    );
}

#[test]
fn man_pages() {
    let directory = root().join("docs/man");
    let mut names = BTreeSet::new();
    for page in pages() {
        let name = page.file();
        held(&directory.join(&name), &roff::write(&page));
        names.insert(PathBuf::from(name));
    }
    let there: BTreeSet<PathBuf> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into()).collect();
    assert_eq!(there, names, "docs/man has other files");
}

#[test]
fn the_page_of_commands() {
    held(
        &root().join("docs/pages/reference/commands.md"),
        &markdown::commands(&commands::pages(crate::command(crate::now))),
    );
}

#[test]
fn what_each_key_does() {
    let path = root().join("docs/pages/reference/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once(keys::BEGIN).unwrap();
    let (_, tail) = rest.split_once("\n## ").unwrap();
    held(&path, &format!("{head}{}{}\n## {tail}", keys::BEGIN, keys::table()));
}

#[test]
fn the_json_schema() {
    held(&root().join("docs/pages/reference/kumatp.schema.json"), &schema::write());
}

#[test]
fn the_readme_has_every_exit_status() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for exit in commands::EXIT {
        assert!(readme.contains(&format!("| {} | {} |", exit.status, exit.meaning())), "{}", exit.status);
    }
}

#[test]
fn every_flag_of_every_command_is_in_its_page() {
    let pages = commands::pages(crate::command(crate::now));
    let install = pages.iter().find(|page| page.name == "kumatp-install").unwrap();
    let words = install.words().join("\n");
    for key in kumatp::config::Key::all() {
        let unneeded = keys::is_unneeded(key.path());
        assert!(key.flag().is_none_or(|flag| unneeded || words.contains(flag)), "{}", key.path());
    }
    for name in ["kumatp", "kumatp-config-from-pod", "kumatp-dataplane-validate", "kumatp-uninstall"] {
        assert!(pages.iter().any(|page| page.name == name), "{name}");
    }
}
