//! The Go package and its examples: their tests, and programs that use it.

use std::path::Path;
use std::process::Command;

use crate::library::{Library, has, root, succeed, tool};
use crate::netns;

/// The go command, with the library to be found by pkg-config.
pub(crate) struct Go<'a> {
    program: &'static str,
    library: &'a Library,
}

impl<'a> Go<'a> {
    /// Whether there is a Go that is new enough; if not, the test is skipped.
    pub(crate) fn is_there() -> bool {
        if tool("cc", "--version").is_none() || tool("pkg-config", "--version").is_none() {
            return false;
        }
        let Some(program) = program() else {
            netns::skipped("go is not installed");
            return false;
        };
        let version = succeed(Command::new(program).args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local"));
        let minor = version.trim().strip_prefix("go1.").and_then(|rest| rest.split(['.', 'r', '-', ' ']).next());
        if minor.and_then(|minor| minor.parse::<u32>().ok()).is_some_and(|minor| minor < 24) {
            netns::skipped(&format!("{} is older than 1.24", version.trim()));
            return false;
        }
        true
    }

    pub(crate) fn new(library: &'a Library) -> Self {
        Self { program: program().expect("it was there"), library }
    }

    /// A command in a directory. Nothing is fetched, and nothing outside of the target directory is written.
    pub(crate) fn command(&self, dir: &Path) -> Command {
        let mut command = Command::new(self.program);
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-cache");
        command.current_dir(dir).env("GOCACHE", cache).env("GOPATH", self.library.dir.join("go"));
        command.env("GOTOOLCHAIN", "local").env("GOPROXY", "off").env("GOFLAGS", "").env("CGO_ENABLED", "1");
        command.env("PKG_CONFIG_PATH", self.library.pkg_config()).env("GOTELEMETRY", "off");
        // For the static library, which pkg-config is not asked for.
        command.env("CGO_CFLAGS", format!("-g -O2 -I{}", root().join("include").display()));
        command.env("CGO_LDFLAGS", format!("-L{}", self.library.dir.display()));
        command
    }
}

/// Where Go is by its own installation, too.
fn program() -> Option<&'static str> {
    ["go", "/usr/local/go/bin/go"].into_iter().find(|program| has(program, "version"))
}

fn module() -> std::path::PathBuf {
    root().join("bindings/go")
}

/// The module of the examples.
fn examples() -> std::path::PathBuf {
    root().join("examples/go")
}

#[test]
fn the_tests_of_the_module() {
    if !Go::is_there() {
        return;
    }
    netns::isolated(|| {
        let library = Library::new("go");
        let go = Go::new(&library);
        succeed(go.command(&module()).args(["vet", "./..."]));
        let tests = library.dir.join("tests");
        succeed(go.command(&module()).args(["test", "-c", "-race", "-o"]).arg(&tests).arg("."));
        let mut command = Command::new(&tests);
        command.arg("-test.v").env("GODEBUG", "cgocheck=1").env("GOGC", "1").env("LD_LIBRARY_PATH", &library.dir);
        let said = succeed(&mut command);
        for name in ["TestNamespaces", "TestGoroutines", "TestSimulate", "TestSaved", "TestInstalled"] {
            assert!(said.contains(&format!("--- PASS: {name}")), "{name}: {said}");
        }
        succeed(go.command(&module()).args(["test", "-c", "-race", "-o"]).arg(&tests).arg("./kumatptest"));
        let mut command = Command::new(&tests);
        let said = succeed(command.arg("-test.v").env("LD_LIBRARY_PATH", &library.dir));
        assert!(said.contains("--- PASS: TestWhatDoesNotHoldShowsTheTrace"), "{said}");
        succeed(go.command(&examples()).args(["vet", "./..."]));
        succeed(go.command(&examples()).args(["test", "-c", "-race", "-o"]).arg(&tests).arg("."));
        let mut command = Command::new(&tests);
        let said = succeed(command.arg("-test.v").env("LD_LIBRARY_PATH", &library.dir));
        for name in ["TestRules", "TestChange"] {
            assert!(said.contains(&format!("--- PASS: {name}")), "{name}: {said}");
        }
    });
}

#[test]
fn the_agent_of_the_examples() {
    if !Go::is_there() {
        return;
    }
    netns::isolated(|| {
        let library = Library::new("go-agent");
        let go = Go::new(&library);
        let config = root().join("examples/c/transparent-proxy.yaml");
        for (name, tags) in [("shared", ""), ("static", "kumatp_static")] {
            let agent = library.dir.join(name);
            succeed(go.command(&examples()).args(["build", "-tags", tags, "-o"]).arg(&agent).arg("."));
            let mut command = Command::new(&agent);
            command.arg(&config);
            if name == "shared" {
                command.env("LD_LIBRARY_PATH", &library.dir);
            }
            let said = succeed(&mut command);
            for part in ["is valid", "-N KUMA_MESH_INBOUND", "installed the table", "state: current", "state: absent"] {
                assert!(said.contains(part), "nothing of '{part}' in:\n{said}");
            }
        }
        let wrong = library.dir.join("wrong.yaml");
        std::fs::write(&wrong, "redirect: {inbound: {port: 70000}}\n").unwrap();
        let refused = Command::new(library.dir.join("static")).arg(&wrong).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("redirect.inbound.port: \"70000\" is not valid"));
    });
}

#[test]
fn without_cgo_one_line_says_what_is_needed() {
    let Some(program) = program() else { return netns::skipped("go is not installed") };
    let library = Library::new("go-without-cgo");
    let go = Go { program, library: &library };
    let cases = [(module(), &["build", "./..."][..]), (module(), &["vet", "./..."]), (examples(), &["build", "."])];
    for (module, arguments) in cases {
        let output = go.command(&module).args(arguments).env("CGO_ENABLED", "0").output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("# ")).collect();
        let [line] = lines[..] else { panic!("{arguments:?}: {said}") };
        assert!(line.contains("set_CGO_ENABLED_to_1") && line.contains("C_compiler"), "{line}");
    }
}
