//! The guides and the README say what the code does. `KUMATP_BLESS=1` rewrites the tables,
//! the picture and the quoted files.

use std::fmt::Write as _;
use std::path::Path;

use kumatp::Config;
use kumatp::config::kubernetes::{Annotation, Variable};
use kumatp::config::{Key, Profile};

/// The value that a key has in the default configuration, as JSON.
fn default_of(path: &str) -> String {
    let mut config = Config::default();
    // Keys that are left out where they have their defaults.
    config.log.enabled = true;
    let json: serde_json::Value = serde_json::from_str(&config.to_json()).unwrap();
    let value = json.pointer(&format!("/{}", path.replace('.', "/")));
    match (path, value) {
        ("log.enabled", _) => "`false`".into(),
        (_, Some(serde_json::Value::String(text))) if !text.is_empty() => format!("`{text}`"),
        (_, Some(serde_json::Value::String(_)) | None) => String::new(),
        (_, Some(value)) => format!("`{value}`"),
    }
}

fn table() -> String {
    let code = |name: Option<String>| name.map(|name| format!("`{name}`")).unwrap_or_default();
    let mut table = String::new();
    // The page says so of these: nothing needs them.
    let unneeded = ["ebpf.instanceIP", "ebpf.instanceIPEnvVarName", "ebpf.programsSourcePath", "ebpf.tcAttachIface"];
    for key in Key::all().filter(|key| !unneeded.contains(&key.path())) {
        let path = if key.in_documents() { format!("`{}`", key.path()) } else { String::new() };
        let variable = key.environment().map(|name| name.replace("KUMA_TRANSPARENT_PROXY_", ""));
        writeln!(
            table,
            "| {path} | {} | {} | {} |",
            code(variable),
            code(key.flag().map(str::to_owned)),
            default_of(key.path())
        )
        .unwrap();
    }
    table
}

#[test]
fn the_table_of_keys_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pages/reference/configuration.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("|---|---|---|---|\n").unwrap();
    let tail = &rest[rest.find("\n## Values").unwrap()..];
    let expected = format!("{head}|---|---|---|---|\n{}{tail}", table());
    if std::env::var_os("KUMATP_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "the table of keys is stale: run KUMATP_BLESS=1 cargo test --test guide");
    assert!(written.contains("`--exclude-outbound-ports-for-gids`"));
}

#[test]
fn the_tables_of_kubernetes_are_complete() {
    let key = |key: Option<&str>| key.map(|key| format!("`{key}`")).unwrap_or_default();
    let mut annotations = String::new();
    for annotation in Annotation::all() {
        let profile = if annotation.is_read_in(Profile::Kuma3) { "" } else { "2.9" };
        // No links.
        let (name, expected) = (annotation.name(), annotation.expected().replace('[', "\\["));
        writeln!(annotations, "| `{name}` | {profile} | {} | {expected} |", key(annotation.key())).unwrap();
    }
    let mut variables = String::new();
    for variable in Variable::all() {
        let default = Some(variable.default_value()).filter(|default| !default.is_empty());
        writeln!(variables, "| `{}` | {} | {} |", variable.name(), key(variable.key()), key(default)).unwrap();
    }

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pages/reference/kubernetes.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut expected = text.clone();
    for (heading, table) in [("|---|---|---|---|\n", &annotations), ("|---|---|---|\n", &variables)] {
        let heading = format!("|\n{heading}");
        let (head, rest) = expected.split_once(&heading).unwrap();
        let tail = &rest[rest.find("\n## ").unwrap()..];
        expected = format!("{head}{heading}{table}{tail}");
    }
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return std::fs::write(&path, expected).unwrap();
    }
    assert!(text == expected, "the tables are stale: run KUMATP_BLESS=1 cargo test --test guide");
}

#[test]
fn the_page_shows_the_default_rules() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/pages/how-to/explain.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = text.split_once("```mermaid\n").unwrap();
    let (shown, tail) = rest.split_once("```\n").unwrap();
    let plan =
        kumatp::policy::plan(&Config::default(), &kumatp::Facts::capable_host(kumatp::net::Uid::SIDECAR)).unwrap();
    let drawn = kumatp::render::mermaid::plan(&plan);
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return std::fs::write(&path, format!("{head}```mermaid\n{drawn}```\n{tail}")).unwrap();
    }
    assert!(shown == drawn, "the picture is stale: run KUMATP_BLESS=1 cargo test --test guide");
}

/// Replaces the text between two marks.
fn put(text: &mut String, begin: &str, end: &str, inside: &str) {
    let from = text.find(begin).unwrap_or_else(|| panic!("no {begin:?}")) + begin.len();
    let to = from + text[from..].find(end).unwrap_or_else(|| panic!("no {end:?} behind {begin:?}"));
    text.replace_range(from..to, inside);
}

/// What the failed expectation of the page says.
fn failure() -> String {
    let mut config = Config::default();
    config.redirect.inbound.exclude_ports = "22".parse().unwrap();
    config.redirect.outbound.exclude_ports = "9000-9100".parse().unwrap();
    let plan = kumatp::policy::plan(&config, &kumatp::Facts::capable_host(kumatp::net::Uid::SIDECAR)).unwrap();
    let rules = kumatp::simulate::Simulator::of(&plan, kumatp::model::EngineName::Netlink);
    let expected = std::panic::AssertUnwindSafe(|| rules.expect("tcp 10.1.2.3:9042").redirected_to(15001));
    let said = std::panic::catch_unwind(expected).unwrap_err();
    format!("{}\n", said.downcast_ref::<String>().unwrap())
}

#[test]
fn the_page_on_testing_quotes_the_examples_and_a_failure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("docs/pages/how-to/testing.md");
    let written = std::fs::read_to_string(&path).unwrap();
    let mut expected = written.clone();
    for (begin, file) in [("\n```go\n", "examples/go/rules_test.go"), ("\n```c\n", "examples/c/rules_test.c")] {
        assert!(written.contains(&format!("`{file}`")), "{file}");
        put(&mut expected, begin, "```", &std::fs::read_to_string(root.join(file)).unwrap());
    }
    put(&mut expected, "\n```text\n", "```", &failure());
    if std::env::var_os("KUMATP_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert!(written == expected, "docs/pages/how-to/testing.md is stale: run KUMATP_BLESS=1 cargo test --test guide");
    assert!(written.contains("\n> nat KUMA_MESH_OUTBOUND 1: ") && written.contains("EXPECT_REDIRECTED(plan, "));
}
