//! `include/kumatp.h` is what the sources say. `KUMATP_BLESS=1` rewrites it.
#![cfg(feature = "capi")]

use std::path::Path;

/// The sources of the C ABI.
const SOURCES: [&str; 14] = [
    "mod",
    "error",
    "text",
    "config",
    "kubernetes",
    "dataplane",
    "facts",
    "plan",
    "simulate",
    "engine",
    "installed",
    "state",
    "save",
    "firewalld",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn committed() -> String {
    std::fs::read_to_string(root().join("include/kumatp.h")).unwrap()
}

#[test]
fn the_header_is_up_to_date() {
    let config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    let builder = cbindgen::Builder::new().with_config(config).with_src(root().join("src/ffi/mod.rs"));
    let mut generated = Vec::new();
    builder.generate().unwrap().write(&mut generated);
    let generated = String::from_utf8(generated).unwrap();
    if std::env::var_os("KUMATP_BLESS").is_some() {
        std::fs::write(root().join("include/kumatp.h"), &generated).unwrap();
    }
    assert!(generated == committed(), "include/kumatp.h is stale: run KUMATP_BLESS=1 cargo test --test header");
}

/// The exported functions: name, parameters, and whether the result is a status that has to be looked at.
fn exported() -> Vec<(String, Vec<String>, bool)> {
    let sources = SOURCES.map(|source| std::fs::read_to_string(root().join(format!("src/ffi/{source}.rs"))).unwrap());
    let mut functions = Vec::new();
    for source in &sources {
        let mut must_use = false;
        for part in source.split("#[unsafe(no_mangle)]\n") {
            if part.starts_with("pub ") {
                let (name, rest) = part.split_once("fn ").unwrap().1.split_once('(').unwrap();
                let parameters = rest.split_once(')').unwrap().0.split(',').filter_map(|part| part.split_once(':'));
                functions.push((
                    name.to_owned(),
                    parameters.map(|(name, _)| name.trim().to_owned()).collect(),
                    must_use,
                ));
            }
            must_use = part.ends_with("#[must_use]\n");
        }
    }
    functions
}

#[test]
fn every_exported_function_is_in_the_header_with_a_complete_comment() {
    let header = committed();
    let functions = exported();
    assert!(functions.len() > 40, "only {} functions were found", functions.len());
    for (name, parameters, must_use) in &functions {
        let parts = header.split("/**").filter_map(|part| part.split_once("*/\n"));
        let (comment, declaration) = parts
            .filter(|(_, rest)| rest.split(';').next().is_some_and(|first| first.contains(&format!("{name}("))))
            .last()
            .unwrap_or_else(|| panic!("{name} is not in the header, or has no comment"));
        assert!(comment.contains("Since 0."), "{name}: since when?");
        if !must_use {
            continue;
        }
        assert!(declaration.starts_with("KUMATP_MUST_USE\nkumatp_status "), "{name} may be ignored");
        assert!(comment.contains("@return"), "{name}: nothing is said of what it returns");
        for parameter in parameters {
            let said = comment.lines().any(|line| {
                let mut words = line.trim_start_matches([' ', '*']).split_ascii_whitespace();
                words.next().is_some_and(|word| word.starts_with("@param")) && words.next() == Some(parameter)
            });
            let length_of_a_text = parameter == "len" || parameter.ends_with("_len");
            assert!(said || length_of_a_text && comment.contains("length"), "{name}: nothing is said of {parameter}");
        }
    }
}

#[test]
fn one_number_of_the_abi_everywhere() {
    let number = kumatp::ffi::KUMATP_ABI_VERSION;
    assert!(committed().contains(&format!("#define KUMATP_ABI_VERSION {number}\n")));
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let library = manifest.split_once("[package.metadata.capi.library]\n").unwrap().1;
    assert!(library.starts_with(&format!("version = \"{number}.")), "cargo-c would give another soname");
}
