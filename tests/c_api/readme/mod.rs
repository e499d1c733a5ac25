//! The integrations that the book shows, each compiled and run.

use std::path::Path;
use std::process::Command;

use crate::go::Go;
use crate::library::{Library, root, succeed, tool};
use crate::netns;

mod rust;

/// The code block of a language in the page on integration.
fn block(language: &str) -> String {
    let text = std::fs::read_to_string(root().join("docs/pages/how-to/embed.md")).unwrap();
    let (_, block) = text.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no {language} there"));
    block.split_once("```").unwrap().0.to_owned()
}

#[test]
fn rust_as_shown() {
    let source = std::fs::read_to_string(root().join("tests/c_api/readme/rust.rs")).unwrap();
    let lines =
        |text: &str| text.lines().map(|line| line.trim().to_owned()).filter(|l| !l.is_empty()).collect::<Vec<_>>();
    let (source, shown) = (lines(&source).join("\n"), lines(&block("rust,no_run")));
    for line in &shown {
        assert!(source.contains(line), "tests/c_api/readme/rust.rs does not have: {line}");
    }
    netns::isolated(|| {
        rust::main().unwrap();
        assert_eq!(kumatp::engine::state(None, None).unwrap().installations.len(), 1);
    });
}

#[test]
fn c_as_shown() {
    let Some(cc) = tool("cc", "--version") else { return };
    netns::isolated(|| {
        let library = Library::new("readme-c");
        let source = library.dir.join("main.c");
        std::fs::write(&source, block("c")).unwrap();
        let program = library.compile(cc, "main", &[&source], &["-std=c99"]);
        assert!(succeed(&mut Command::new(program)).contains("\"changed\": true"));
    });
}

#[test]
fn go_as_shown() {
    if !Go::is_there() {
        return;
    }
    netns::isolated(|| {
        let library = Library::new("readme-go");
        let go = Go::new(&library);
        let dir = library.dir.join("program");
        std::fs::create_dir(&dir).unwrap();
        write_module(&dir);
        let program = dir.join("program");
        succeed(go.command(&dir).args(["build", "-o"]).arg(&program).arg("."));
        let said = succeed(Command::new(program).env("LD_LIBRARY_PATH", &library.dir));
        assert!(said.contains("installed the table"), "{said}");
    });
}

fn write_module(dir: &Path) {
    std::fs::write(dir.join("main.go"), block("go")).unwrap();
    let manifest = format!(
        "module example.com/program\n\ngo 1.24\n\nrequire example.com/kumatp v0.0.0\n\nreplace example.com/kumatp => {}\n",
        root().join("bindings/go").display()
    );
    std::fs::write(dir.join("go.mod"), manifest).unwrap();
}
