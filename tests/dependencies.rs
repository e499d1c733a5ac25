//! Dependencies have licences that `.cargo/deny.toml` allows, and come from one registry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[path = "common/skip.rs"]
mod skip;
use skip::skipped;

/// What `.cargo/deny.toml` allows: licences for all, and pairs of a crate and a licence.
struct Allowed {
    licences: BTreeSet<String>,
    exceptions: BTreeSet<(String, String)>,
}

impl Allowed {
    fn read() -> Self {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(".cargo/deny.toml")).unwrap();
        let (_, rest) = text.split_once("\nallow = [\n").expect("a list of licences");
        let (list, rest) = rest.split_once("\n]").unwrap();
        let licences = quoted(list);
        let exceptions =
            rest.lines().find_map(|line| line.strip_prefix("exceptions = ")).expect("a list of exceptions");
        let pairs = exceptions.split('{').skip(1).map(|one| {
            let mut words = quoted(one).into_iter();
            (words.next().unwrap(), words.collect::<Vec<_>>())
        });
        let exceptions =
            pairs.flat_map(|(name, licences)| licences.into_iter().map(move |licence| (name.clone(), licence)));
        Self { licences: licences.into_iter().collect(), exceptions: exceptions.collect() }
    }

    fn one(&self, name: &str, licence: &str) -> bool {
        self.licences.contains(licence) || self.exceptions.contains(&(name.to_owned(), licence.to_owned()))
    }

    /// Whether an SPDX expression leaves a choice that is allowed: `AND` binds more tightly than `OR`.
    fn all(&self, name: &str, expression: &str) -> bool {
        let words = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
        let words: Vec<&str> = words.split_whitespace().collect();
        let (allowed, rest) = self.either(name, &words);
        allowed && rest.is_empty()
    }

    fn either<'w>(&self, name: &str, words: &'w [&'w str]) -> (bool, &'w [&'w str]) {
        let (mut allowed, mut rest) = self.both(name, words);
        while let ["OR", after @ ..] = rest {
            let (other, after) = self.both(name, after);
            (allowed, rest) = (allowed | other, after);
        }
        (allowed, rest)
    }

    fn both<'w>(&self, name: &str, words: &'w [&'w str]) -> (bool, &'w [&'w str]) {
        let (mut allowed, mut rest) = self.term(name, words);
        while let ["AND", after @ ..] = rest {
            let (other, after) = self.term(name, after);
            (allowed, rest) = (allowed & other, after);
        }
        (allowed, rest)
    }

    fn term<'w>(&self, name: &str, words: &'w [&'w str]) -> (bool, &'w [&'w str]) {
        match words {
            ["(", inside @ ..] => match self.either(name, inside) {
                (allowed, [")", rest @ ..]) => (allowed, rest),
                (_, rest) => (false, rest),
            },
            [licence, "WITH", exception, rest @ ..] => (self.one(name, &format!("{licence} WITH {exception}")), rest),
            [licence, rest @ ..] => (self.one(name, licence), rest),
            [] => (false, words),
        }
    }
}

/// The texts in quotes of a list.
fn quoted(text: &str) -> Vec<String> {
    text.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The packages that Cargo.lock names, or those of this system; whether they are all.
fn packages() -> Option<(Vec<Value>, bool)> {
    let metadata = |more: &[&str]| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["metadata", "--format-version=1", "--locked", "--all-features"]).args(more).current_dir(root);
        let output = cargo.output().unwrap();
        let json: Value = serde_json::from_slice(&output.stdout).ok()?;
        json["packages"].as_array().cloned()
    };
    // Of other systems, a first build has fetched nothing.
    let here = ["--offline", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let all = metadata(&["--offline"]).or_else(|| metadata(&[]));
    all.map(|packages| (packages, true)).or_else(|| metadata(&here).map(|packages| (packages, false)))
}

#[test]
fn licences_and_sources_are_allowed() {
    let Some((packages, complete)) = packages() else { return skipped("cargo has not fetched the dependencies") };
    let allowed = Allowed::read();
    let text = |package: &Value, member: &str| package[member].as_str().unwrap_or_default().to_owned();
    let mut wrong = Vec::new();
    let mut registries = BTreeMap::<String, Vec<String>>::new();
    for package in packages.iter().filter(|package| text(package, "name") != "kumatp") {
        let (name, licence, source) = (text(package, "name"), text(package, "license"), text(package, "source"));
        if !allowed.all(&name, &licence) {
            wrong.push(format!("{name}: the licence '{licence}' is not allowed by .cargo/deny.toml"));
        }
        match source.strip_prefix("registry+") {
            Some(registry) => registries.entry(registry.to_owned()).or_default().push(name),
            None => wrong.push(format!("{name}: comes from '{source}', and not from a registry")),
        }
    }
    assert_eq!(registries.len(), 1, "{registries:?}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(packages.len() > 30, "{}", packages.len());
    if !complete {
        skipped("the licences of what other systems need are not known: cargo has not fetched it and cannot");
    }
}

#[test]
fn expressions_are_read_as_spdx_has_them() {
    let allowed = Allowed {
        licences: ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into(),
        exceptions: [("tool".to_owned(), "MPL-2.0".to_owned())].into(),
    };
    for (name, expression, expected) in [
        ("a", "MIT", true),
        ("a", "MIT/Apache-2.0", true),
        ("a", "GPL-3.0-only OR MIT", true),
        ("a", "GPL-3.0-only AND MIT", false),
        ("a", "(MIT OR GPL-3.0-only) AND Unicode-3.0", true),
        ("a", "MIT OR GPL-3.0-only AND BSD-3-Clause", true),
        ("a", "(MIT OR GPL-3.0-only) AND BSD-3-Clause", false),
        ("a", "Apache-2.0 WITH LLVM-exception", true),
        ("a", "MIT WITH LLVM-exception", false),
        ("a", "MPL-2.0", false),
        ("tool", "MPL-2.0", true),
        ("a", "", false),
        ("a", "(MIT", false),
    ] {
        assert_eq!(allowed.all(name, expression), expected, "{name}: {expression}");
    }
}
