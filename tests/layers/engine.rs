//! The inside of `engine`: back ends know themselves only, and files use each other in one direction.

use std::collections::BTreeMap;
use std::path::Path;

use super::imports::Imports;

/// The back ends, each with the folders of `engine` that its files may use besides the files beside them.
const BACK_ENDS: &[(&str, &[&str])] = &[("netlink", &[]), ("iptables", &[]), ("ebpf", &[]), ("fake", &[])];

/// What ties back ends together. None of them may use it, but for the one in memory, which is a host as well.
const TIES: &[(&str, &[&str])] = &[("takeover", &["fake"]), ("operations", &[]), ("state", &[]), ("installed", &[])];

fn imports() -> Imports {
    Imports::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"))
}

/// The part of `engine` that a module is in.
fn part(module: &str) -> Option<&str> {
    module.strip_prefix("engine::")?.split("::").next()
}

#[test]
fn no_back_end_names_another() {
    let imports = imports();
    let mut wrong = Vec::new();
    for (name, allowed) in BACK_ENDS {
        let folder = format!("engine::{name}");
        assert!(imports.inside(&folder).count() > 1, "{name} has no files");
        for file in imports.inside(&folder) {
            for used in imports.of_file(file) {
                let other = part(used).filter(|other| other != name).unwrap_or_default();
                let is_other = BACK_ENDS.iter().any(|(known, _)| *known == other) && !allowed.contains(&other);
                let is_tie = TIES.iter().any(|(tie, users)| *tie == other && !users.contains(name));
                if is_other || is_tie {
                    wrong.push(format!("{file} uses {used}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_of_the_engines_use_each_other_in_a_ring() {
    let imports = imports();
    // What everything is built on is seen to be used.
    assert!(imports.of_file("engine::takeover").contains("engine::backend"));
    assert!(imports.of_file("engine::operations").contains("engine::iptables::programs"));
    let rings = imports.rings("engine");
    assert_eq!(rings.iter().map(|ring| ring.len()).sum::<usize>(), 0, "files in rings: {rings:#?}");
}

/// Whatever way one file names another, a ring is found.
#[test]
fn rings_are_found() {
    let rings = |files: &[(&str, &str)]| {
        let texts: BTreeMap<_, _> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let imports = Imports::of(&texts);
        let rings = imports.rings("e").into_iter();
        rings.map(|ring| ring.into_iter().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
    };
    let back = "use crate::e::a::A;\n";
    for forth in [
        "use super::b::B;\n",
        "use crate::e::b::B;\n",
        "use crate::{\n    e::{b::{self, B}, c},\n    f,\n};\n",
        "use super::{b, c};\n",
        "use super::c;\nfn f() -> c::B {}\n",
        "pub(super) use super::b::B as Other;\n",
        "fn f() -> super::b::B {}\n",
        "fn f(b: &crate::e::b::B) {}\n",
        // The parent only hands it on.
        "use super::B;\n",
        "use crate::e::{B};\n",
    ] {
        let files = [
            ("e", "mod a;\nmod b;\npub use b::B;\n"),
            ("e::a", forth),
            ("e::b", back),
            ("e::c", "pub use super::b::B;\n"),
        ];
        let found = rings(&files);
        assert!(found.len() == 1 && found[0].starts_with("e::a e::b"), "{forth}: {found:?}");
    }
    // What a parent defines itself and a child that it uses.
    let files = [("e", "pub struct A;\nuse self::b::B;\n"), ("e::b", "use super::A;\n")];
    assert_eq!(rings(&files), ["e e::b"]);
    // One direction, and one that only looks like another.
    let files = [
        ("e", "mod a;\nmod b;\npub use a::A;\n"),
        ("e::a", "use super::b::B;\n"),
        ("e::b", "use super::c::a;\n"),
        ("e::c", ""),
    ];
    assert!(rings(&files).is_empty());
}
