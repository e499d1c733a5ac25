//! The public Rust API is what it was: each item that a program can name, under the path that it is exported by, with its signature, its
//! methods and its traits, as the sources say it for Linux with all features. `KUMATP_BLESS=1` writes `public.txt` again; what is removed
//! or changed there needs a line in CHANGELOG.md.
//!
//! The C functions of `ffi` are left out: `tests/header.rs` and `tests/c_api` hold them.

mod cfg;
mod macros;
mod names;
mod print;
mod walk;

use std::collections::BTreeSet;
use std::path::Path;

use self::names::Crate;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/api/public.txt");

fn listed() -> String {
    let sources = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    walk::public(&sources).iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_public_items_are_those_of_the_list() {
    let now = listed();
    if std::env::var_os("KUMATP_BLESS").is_some() {
        return std::fs::write(FILE, now).unwrap();
    }
    let before = std::fs::read_to_string(FILE).unwrap();
    let (old, new): (BTreeSet<&str>, BTreeSet<&str>) = (before.lines().collect(), now.lines().collect());
    let removed = old.difference(&new).map(|line| format!("- {line}"));
    let changes: Vec<_> = removed.chain(new.difference(&old).map(|line| format!("+ {line}"))).collect();
    assert!(
        before == now,
        "the public API differs from tests/api/public.txt; if that is meant, CHANGELOG.md says so, and KUMATP_BLESS=1 cargo test \
         --features cli,cni --test api writes the list:\n{}",
        changes.join("\n")
    );
}

/// The crate's root has the few names that every program needs; everything else has one path.
#[test]
fn nothing_is_exported_twice() {
    let sources = Crate::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs"));
    let twice = walk::exported_twice(&sources);
    assert!(twice.is_empty(), "{twice:#?}");
}

/// Paths through private modules, renamed and glob re-exports, methods written elsewhere, and what is not public.
#[test]
fn items_are_listed_under_the_paths_that_they_are_exported_by() {
    let sources = Crate::parse(
        r#"
        mod inner {
            #[derive(Debug, Clone)]
            #[non_exhaustive]
            pub struct Thing { pub part: u8, rest: u8 }
            pub(crate) struct Hidden;
            impl Hidden { pub fn no(&self) {} }
            pub mod deep { pub fn f<T: Into<String>>(text: T) -> Option<u8> { None } pub const LIMIT: usize = 3; }
            trait Secret {}
            impl Secret for Thing {}
            impl std::fmt::Display for Thing { fn fmt(&self) {} }
        }
        mod more {
            use super::inner::Thing;
            impl Thing { pub fn make(part: u8) -> Self { todo!() } fn private(&self) {} }
            pub enum Kind { One, Two { a: u8 } }
            pub trait Act { type Out; fn act(&self) -> Self::Out; }
        }
        pub use inner::Thing as Renamed;
        pub use inner::deep;
        pub mod all { pub use crate::more::*; }
        #[cfg(test)]
        pub fn of_tests() {}
        macro_rules! ids { ($id:ident, $idle:literal) => { pub struct $id(u32); impl $id { pub fn of(x: $id) -> Self { todo!($idle) } } } }
        ids!(Number, "a number");
        #[cfg(any(windows, feature = "x"))]
        pub type Alias = Option<Renamed>;
        "#,
    );
    let expected = [
        "const kumatp::deep::LIMIT: usize",
        "enum kumatp::all::Kind",
        "fn kumatp::deep::f<T: Into<String>>(text: T) -> Option<u8>",
        "kumatp: ids! { Number, \"a number\" }",
        "kumatp::Number: pub fn of(x: Number) -> Self",
        "kumatp::Renamed: impl Clone (derived)",
        "kumatp::Renamed: impl Debug (derived)",
        "kumatp::Renamed: impl std::fmt::Display for Thing",
        "kumatp::Renamed: pub fn make(part: u8) -> Self",
        "kumatp::Renamed: pub part: u8",
        "kumatp::all::Act: fn act(&self) -> Self::Out",
        "kumatp::all::Act: type Out",
        "kumatp::all::Kind: One",
        "kumatp::all::Kind: Two { a: u8 }",
        "mod kumatp::all",
        "mod kumatp::deep",
        "non_exhaustive struct kumatp::Renamed { private fields }",
        "struct kumatp::Number { private fields }",
        "trait kumatp::all::Act",
        "type kumatp::Alias = Option<Renamed>",
    ];
    assert_eq!(walk::public(&sources), BTreeSet::from(expected.map(str::to_owned)));
}
