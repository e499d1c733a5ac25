//! C and C++ programs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::library::{Library, STATIC, WARNINGS, apart, has, root, succeed, tool, tree};
use crate::netns;

/// How long the longest documents are, in bytes: as is asked for, and where every step costs.
const LARGE: &str = "10485760";
const SMALL: &str = "65536";

fn source(name: &str) -> PathBuf {
    root().join("tests/c").join(name)
}

/// C++ compilers take the C files as their own language.
fn compile(library: &Library, compiler: &str, standard: &str, program: &str, more: &[&str]) -> PathBuf {
    let std = format!("-std={standard}");
    let language = if standard.starts_with("c++") { "c++" } else { "c" };
    let mut options = vec![std.as_str(), "-x", language];
    options.extend(more);
    let (again, packets, workloads) = (source("again.c"), source("packets.c"), source("workloads.c"));
    let main = source(&format!("{program}.c"));
    let mut sources: Vec<&Path> = vec![&main];
    if program == "api" {
        sources.extend([again.as_path(), &packets, &workloads]);
    }
    // What follows the sources is no source.
    let end = ["-x", "none"].map(Path::new);
    sources.extend(end);
    library.compile(compiler, &format!("{program}-{standard}"), &sources, &options)
}

/// Programs in the place of iptables that do what the test in C expects.
fn programs(library: &Library) -> &Path {
    let version = "echo 'iptables v1.8.9 (nf_tables)'";
    let rules = "printf '%s\\n' '*nat' ':OUTPUT ACCEPT [0:0]' ':KUMA_MESH_OUTBOUND - [0:0]' ':SOMEONE - [0:0]' \
                 '-A SOMEONE -j KUMA_MESH_OUTBOUND' COMMIT";
    let refusal = "cat >/dev/null; echo 'iptables-restore: no such weather' >&2; exit 2";
    for (name, script) in [
        ("conflict/iptables", version),
        ("conflict/iptables-save", rules),
        ("conflict/iptables-restore", "cat >/dev/null"),
        ("failing/iptables", version),
        ("failing/iptables-save", ":"),
        ("failing/iptables-restore", refusal),
    ] {
        let path = library.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    }
    &library.dir
}

/// Cargo names the directory of `cargo build` in `LD_LIBRARY_PATH`, where the library of another day may be.
#[test]
fn programs_load_the_library_that_they_are_linked_with() {
    let Some(compiler) = tool("cc", "--version") else { return };
    let library = Library::new("loaded");
    let source = library.dir.join("version.c");
    let text = "#include <kumatp.h>\n#include <stdio.h>\nint main(void) { puts(kumatp_version()); return 0; }\n";
    std::fs::write(&source, text).unwrap();
    let program = library.compile(compiler, "version", &[&source], &[]);
    let stale = library.dir.join("stale");
    std::fs::create_dir(&stale).unwrap();
    std::fs::write(stale.join(format!("libkumatp.so.{}", kumatp::ffi::KUMATP_ABI_VERSION)), "of another day").unwrap();
    let said = succeed(Command::new(&program).env("LD_LIBRARY_PATH", &stale));
    assert_eq!(said.trim(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_header_is_clean_in_every_standard() {
    let Some(_) = tool("cc", "--version") else { return };
    let mut compiled = 0;
    for (compiler, standards) in [
        ("gcc", ["c99", "c11", "c17", "c2x"]),
        ("g++", ["c++11", "c++14", "c++17", "c++20"]),
        ("clang", ["c99", "c11", "c17", "c2x"]),
        ("clang++", ["c++11", "c++14", "c++17", "c++20"]),
    ] {
        if !has(compiler, "--version") {
            continue;
        }
        for standard in standards {
            let mut command = Command::new(compiler);
            command.args(WARNINGS).arg("-Wconversion").arg(format!("-std={standard}")).arg("-fsyntax-only");
            command.args(["-x", if compiler.ends_with("++") { "c++" } else { "c" }]);
            succeed(command.arg("-I").arg(root().join("include")).arg(source("again.c")));
            compiled += 1;
        }
    }
    if compiled == 0 {
        netns::skipped("neither gcc nor clang is installed");
    }
}

#[test]
fn a_c_program() {
    let Some(cc) = tool("cc", "--version") else { return };
    apart(|| {
        let library = Library::new("c");
        let program = compile(&library, cc, "c11", "api", &[]);
        assert_eq!(succeed(Command::new(program).arg(programs(&library)).arg(LARGE)), "passed\n");
    });
}

#[test]
fn a_cpp_program() {
    let Some(cpp) = tool("c++", "--version") else { return };
    apart(|| {
        let library = Library::new("cpp");
        let program = compile(&library, cpp, "c++17", "api", &[]);
        assert_eq!(succeed(Command::new(program).arg(programs(&library)).arg(SMALL)), "passed\n");
    });
}

#[test]
fn a_program_with_the_library_in_it() {
    let Some(cc) = tool("cc", "--version") else { return };
    apart(|| {
        let library = Library::new("static");
        let program = compile(&library, cc, "c99", "api", &[STATIC]);
        let needed = succeed(Command::new("readelf").arg("-d").arg(&program));
        assert!(needed.contains("NEEDED") && !needed.contains("libkumatp"), "{needed}");
        assert_eq!(succeed(Command::new(program).arg(programs(&library)).arg(SMALL)), "passed\n");
    });
}

#[test]
fn valgrind_finds_nothing() {
    let (Some(cc), Some(valgrind)) = (tool("cc", "--version"), tool("valgrind", "--version")) else { return };
    apart(|| {
        let library = Library::new("valgrind");
        let program = compile(&library, cc, "c11", "api", &[]);
        let mut command = Command::new(valgrind);
        command.args(["--quiet", "--leak-check=full", "--show-leak-kinds=definite,indirect,possible"]);
        command.args(["--errors-for-leak-kinds=definite,indirect", "--error-exitcode=9"]);
        assert_eq!(succeed(command.arg(program).arg(programs(&library)).arg(SMALL)), "passed\n");
    });
}

#[test]
fn the_sanitizers_find_nothing() {
    let Some(cc) = tool("cc", "--version") else { return };
    apart(|| {
        let library = Library::new("sanitizers");
        let probe = library.dir.join("probe.c");
        std::fs::write(&probe, "int main(void) { return 0; }\n").unwrap();
        let mut linked = Command::new(cc);
        linked.arg("-fsanitize=address,undefined").arg(&probe).arg("-o").arg(library.dir.join("probe"));
        if !linked.output().is_ok_and(|output| output.status.success()) {
            return netns::skipped("this compiler has no AddressSanitizer");
        }
        for name in ["api", "namespaces"] {
            let program =
                compile(&library, cc, "c11", name, &["-fsanitize=address,undefined", "-fno-sanitize-recover"]);
            let symbols = succeed(Command::new("nm").arg(&program));
            assert!(symbols.contains("__asan_init"), "AddressSanitizer is not in the program");
            if name == "namespaces" && !nix::unistd::geteuid().is_root() {
                continue;
            }
            assert_eq!(succeed(Command::new(program).arg(programs(&library)).arg(SMALL)), "passed\n");
        }
    });
}

#[test]
fn several_threads_in_several_namespaces() {
    let Some(cc) = tool("cc", "--version") else { return };
    netns::isolated(|| {
        let library = Library::new("namespaces");
        let program = compile(&library, cc, "c11", "namespaces", &[]);
        assert_eq!(succeed(&mut Command::new(program)), "passed\n");
    });
}

#[test]
fn the_agent_of_the_examples() {
    let (Some(_), Some(make)) = (tool("cc", "--version"), tool("make", "--version")) else { return };
    netns::isolated(|| {
        let library = Library::new("agent");
        let examples = root().join("examples/c");
        let build = |program: &str, variables: &[String]| {
            let mut command = Command::new(make);
            command.arg("-C").arg(&examples).arg(format!("OUT={}/{program}", library.dir.display())).args(variables);
            // Of the make that may have started cargo.
            succeed(command.env_remove("MAKEFLAGS").env_remove("MFLAGS"));
            library.dir.join(program).join("agent")
        };
        let tree = build("from-the-tree", &[format!("KUMATP_LIB={}", library.dir.display())]);
        let config = examples.join("transparent-proxy.yaml");
        let run = |program: &Path, library_path: &Path| {
            let mut command = Command::new(program);
            succeed(command.arg(&config).env("LD_LIBRARY_PATH", library_path))
        };
        let said = run(&tree, Path::new("/nonexistent"));
        for part in ["is valid", "-N KUMA_MESH_INBOUND", "installed", "current", "removed", "absent"] {
            assert!(said.contains(part), "nothing of '{part}' in:\n{said}");
        }
        let tests = tree.with_file_name("rules_test");
        assert_eq!(succeed(Command::new(&tests).env("LD_LIBRARY_PATH", "/nonexistent")), "");
        if has("pkg-config", "--version") {
            succeed(
                Command::new(make)
                    .arg("-C")
                    .arg(&examples)
                    .arg(format!("OUT={}/tree", library.dir.display()))
                    .arg("clean"),
            );
            let path = format!("PKG_CONFIG_PATH={}", library.pkg_config().display());
            let packaged = build("from-a-package", &[path]);
            assert!(run(&packaged, &library.dir).contains("removed"));
        }

        let wrong = library.dir.join("wrong.yaml");
        std::fs::write(&wrong, "redirect: {inbound: {port: 70000}}\n").unwrap();
        let refused = Command::new(&tree).arg(&wrong).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("redirect.inbound.port"));
    });
}

#[test]
fn expectations_of_the_examples_show_the_trace() {
    let Some(cc) = tool("cc", "--version") else { return };
    let library = Library::new("expect");
    let examples = root().join("examples/c");
    let text = std::fs::read_to_string(examples.join("rules_test.c")).unwrap();
    let include = format!("-I{}", examples.display());
    let program = |name: &str, text: &str| {
        let source = library.dir.join(format!("{name}.c"));
        std::fs::write(&source, text).unwrap();
        library.compile(cc, name, &[&source], &["-std=c99", &include])
    };
    assert_eq!(succeed(&mut Command::new(program("right", &text))), "");
    for (name, from, to, parts) in [
        (
            "verdict",
            "EXPECT_DELIVERED(plan, \"tcp 10.1.2.3:9042 uid 1000\"",
            "EXPECT_DROPPED(plan, \"tcp 10.1.2.3:9042 uid 1000\"",
            &[
                ": tcp 10.1.2.3:9042 uid 1000: expected: dropped by a rule from redirect.outbound.excludePorts[0]\n",
                "A TCP connection that uid 1000 opens to 10.1.2.3:9042 is not redirected.",
                "\n> nat KUMA_MESH_OUTBOUND 1: -p tcp --dport 9000:9100 -j RETURN  # ",
                "  # redirect.outbound.excludePorts[0]\n",
            ][..],
        ),
        ("port", "15006, NULL", "15001, NULL", &["expected: redirected to port 15001\n", "> nat KUMA_MESH_INBOUND"]),
        (
            "key",
            "\"redirect.outbound.enabled\"",
            "\"redirect.outbound.enable\"",
            &["a rule from redirect.outbound.enable\n"],
        ),
        ("item", "excludePorts[0]", "excludePorts[1]", &["a rule from redirect.outbound.excludePorts[1]\n"]),
        (
            "packet",
            "tcp [fd00::5]:8080",
            "tcp fd00::5",
            &["packet: 'fd00::5' is not valid: expected an address with a port"],
        ),
    ] {
        let wrong = text.replacen(from, to, 1);
        assert_ne!(wrong, text, "{name}");
        let output = Command::new(program(name, &wrong)).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{name}");
        let said = String::from_utf8_lossy(&output.stderr);
        for part in parts {
            assert!(said.contains(part), "{name}: nothing of '{part}' in:\n{said}");
        }
        assert_eq!(said.matches(": expected").count(), 1, "{name}: {said}");
    }
}

#[test]
fn programs_find_the_library_of_the_tree_by_its_soname() {
    let Some(compiler) = tool("cc", "--version") else { return };
    let soname = format!("libkumatp.so.{}", kumatp::ffi::KUMATP_ABI_VERSION);
    // What `cargo rustc --lib --crate-type cdylib` leaves in target/debug: the library, and the link that build.rs makes.
    let link = std::fs::read_link(tree().join(&soname)).unwrap();
    let library = Library::new("tree");
    std::fs::remove_file(library.dir.join(&soname)).unwrap();
    std::os::unix::fs::symlink(link, library.dir.join(&soname)).unwrap();
    let main = library.dir.join("main.c");
    std::fs::write(
        &main,
        "#include <kumatp.h>\nint main(void) { return kumatp_abi_version() != KUMATP_ABI_VERSION; }\n",
    )
    .unwrap();
    let program = library.compile(compiler, "main", &[&main], &[]);
    succeed(&mut Command::new(program));
}
