//! The ABI is what it was: exported symbols, the soname, types and numbers. `KUMATP_BLESS=1` takes a change over,
//! unless it breaks programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::{Library, root, succeed, tool};

fn blessing() -> bool {
    std::env::var_os("KUMATP_BLESS").is_some()
}

fn soname() -> String {
    format!("libkumatp.so.{}", kumatp::ffi::KUMATP_ABI_VERSION)
}

fn header() -> String {
    std::fs::read_to_string(root().join("include/kumatp.h")).unwrap()
}

/// The declarations of the header's functions, each without its semicolon.
fn functions(header: &str) -> Vec<String> {
    let code: String = header.split("/*").map(|part| part.split_once("*/").map_or(part, |(_, code)| code)).collect();
    let (_, inside) = code.split_once("extern \"C\" {").unwrap();
    let (_, inside) = inside.split_once('\n').unwrap();
    let declarations = inside.split(';').filter(|part| part.contains("kumatp_") && part.contains('('));
    let line = |part: &str| part.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join(" ");
    declarations.map(|part| line(part).split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn name(declaration: &str) -> &str {
    let (before, _) = declaration.split_once('(').unwrap();
    &before[before.rfind("kumatp_").unwrap()..]
}

#[test]
fn exported_symbols_are_those_of_the_list() {
    let Some(nm) = tool("nm", "--version") else { return };
    let library = Library::new("symbols");
    let output = succeed(Command::new(nm).args(["-D", "--defined-only"]).arg(library.shared()));
    let symbols: BTreeSet<_> = output.lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert!(
        symbols.contains("kumatp_plan_apply"),
        "the library beside this test was built with other features: touch src/lib.rs and run the tests again"
    );
    let path = root().join("tests/abi/symbols.txt");
    let text: String = symbols.iter().map(|symbol| format!("{symbol}\n")).collect();
    if blessing() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, committed, "tests/abi/symbols.txt: KUMATP_BLESS=1 rewrites it, and CHANGELOG.md has to say so");
    let header = header();
    let declared: BTreeSet<_> = functions(&header).iter().map(|declaration| name(declaration).to_owned()).collect();
    assert_eq!(declared, symbols.iter().map(|symbol| (*symbol).to_owned()).collect());
}

#[test]
fn the_changelog_names_every_function() {
    let changelog = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    let sections = changelog.split("\n### C ABI\n").skip(1).map(|section| section.split("\n#").next().unwrap());
    let words: BTreeSet<_> = sections.flat_map(|section| section.split('`')).collect();
    let header = header();
    let missing: Vec<_> = functions(&header)
        .iter()
        .map(|declaration| name(declaration).to_owned())
        .filter(|name| !words.contains(name.as_str()))
        .collect();
    assert!(missing.is_empty(), "CHANGELOG.md, \"C ABI\", says nothing of {}", missing.join(", "));
}

#[test]
fn the_soname_is_that_of_the_abi() {
    let Some(readelf) = tool("readelf", "--version") else { return };
    let library = Library::new("soname");
    let dynamic = succeed(Command::new(readelf).args(["-d", "-W"]).arg(library.shared()));
    assert!(dynamic.contains(&format!("Library soname: [{}]", soname())), "{dynamic}");
}

/// A library with the functions of the header and nothing in them, whose debugging information says what a C program
/// relies on. That of the real library speaks of Rust's types, which are nobody's business.
fn stub(library: &Library) -> PathBuf {
    let header = header();
    let mut text = String::from("#include \"kumatp.h\"\n\nenum kumatp_numbers {\n");
    for line in header.lines() {
        let mut words = line.split(' ');
        if let (Some("#define"), Some(name), Some(_)) = (words.next(), words.next(), words.next()) {
            // Numbers that are no int go into the next list; attributes are no numbers.
            if !["KUMATP_MUST_USE", "KUMATP_NUL_TERMINATED", "KUMATP_ENGINE_ALL"].contains(&name) {
                writeln!(text, "    number_{name} = {name},").unwrap();
            }
        }
    }
    text.push_str(
        "};\n\n_Static_assert(KUMATP_NUL_TERMINATED == SIZE_MAX && KUMATP_ENGINE_ALL == UINT32_MAX, \"numbers\");\n",
    );
    text.push_str("enum kumatp_numbers kumatp_numbers(void) { __builtin_trap(); }\n");
    for declaration in functions(&header) {
        writeln!(text, "{declaration} {{ __builtin_trap(); }}").unwrap();
    }
    let (source, stub) = (library.dir.join("stub.c"), library.dir.join("stub.so"));
    std::fs::write(&source, text).unwrap();
    let mut command = Command::new("cc");
    command
        .args(["-std=c11", "-g", "-shared", "-fPIC", "-Wno-unused-parameter"])
        .arg(format!("-Wl,-soname,{}", soname()));
    succeed(command.arg("-I").arg(root().join("include")).arg(&source).arg("-o").arg(&stub));
    stub
}

fn snapshot(stub: &Path, to: &Path) {
    let mut command = Command::new("abidw");
    command.args(["--no-comp-dir-path", "--no-corpus-path", "--no-show-locs", "--no-elf-needed"]);
    succeed(command.arg("--out-file").arg(to).arg(stub));
    // Where it was made is of no interest, and other machines have other paths.
    let text = std::fs::read_to_string(to).unwrap();
    let dir = stub.parent().unwrap().display().to_string();
    std::fs::write(to, text.replace(&format!("{dir}/"), "").replace(&format!("{}/", root().display()), "")).unwrap();
}

/// What abidiff finds: whether anything is different, and whether more than something added is.
fn compare(old: &Path, new: &Path) -> (bool, bool, String) {
    let output = Command::new("abidiff").arg(old).arg(new).output().unwrap();
    let code = output.status.code().expect("abidiff ends by itself");
    assert_eq!(code & 3, 0, "abidiff: {}", String::from_utf8_lossy(&output.stderr));
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let added_only = report.contains("Functions changes summary: 0 Removed, 0 Changed");
    (code & 4 != 0, code & 8 != 0 || (code & 4 != 0 && !added_only), report)
}

/// Types are as wide as on the machine that the snapshot is of.
#[test]
#[cfg(target_arch = "x86_64")]
fn no_program_breaks() {
    let (Some(_), Some(_)) = (tool("cc", "--version"), tool("abidiff", "--version")) else { return };
    let library = Library::new("abidiff");
    let now = stub(&library);
    let baseline = root().join("tests/abi/kumatp.abi");
    if blessing() && !baseline.exists() {
        snapshot(&now, &baseline);
    }
    let (changed, breaks, report) = compare(&baseline, &now);
    let next = !std::fs::read_to_string(&baseline).unwrap().contains(&format!("soname='{}'", soname()));
    assert!(!breaks || next, "programs would break: raise KUMATP_ABI_VERSION, or do not do this\n{report}");
    if changed && blessing() {
        snapshot(&now, &baseline);
    } else {
        assert!(!changed, "tests/abi/kumatp.abi is stale: KUMATP_BLESS=1 rewrites it\n{report}");
    }
}

#[test]
fn what_breaks_programs_is_found() {
    let (Some(_), Some(_)) = (tool("cc", "--version"), tool("abidiff", "--version")) else { return };
    let library = Library::new("abidiff-finds");
    let now = stub(&library);
    let baseline = library.dir.join("before.abi");
    snapshot(&now, &baseline);
    let source = library.dir.join("stub.c");
    let text = std::fs::read_to_string(&source).unwrap();
    for (what, from, to, harmless) in [
        ("a function that is gone", "size_t kumatp_text_len(", "static inline size_t gone(", false),
        (
            "a narrower length",
            "const char *text, size_t len, uint32_t format",
            "const char *text, uint32_t len, uint32_t format",
            false,
        ),
        ("another number", "number_KUMATP_E_OS = KUMATP_E_OS", "number_KUMATP_E_OS = 70", false),
        ("an added function", "size_t kumatp_text_len(", "void kumatp_new(void) {}\nsize_t kumatp_text_len(", true),
        ("an added number", "number_KUMATP_E_OS = ", "number_KUMATP_E_NEW = 17, number_KUMATP_E_OS = ", true),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text, "{what}");
        std::fs::write(&source, changed).unwrap();
        // The header's own declarations would contradict the change.
        std::fs::write(library.dir.join("kumatp.h"), types_only()).unwrap();
        let other = library.dir.join("other.so");
        let mut command = Command::new("cc");
        command.args(["-std=c11", "-g", "-shared", "-fPIC", "-w"]).arg(format!("-Wl,-soname,{}", soname()));
        succeed(command.arg(&source).arg("-o").arg(&other));
        let (_, breaks, report) = compare(&baseline, &other);
        assert_eq!(breaks, !harmless, "{what}:\n{report}");
    }
}

/// The header without its functions.
fn types_only() -> String {
    let header = header();
    let (types, _) = header.split_once("#ifdef __cplusplus\nextern").unwrap();
    format!("{types}\n#endif\n")
}
