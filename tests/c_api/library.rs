//! The library next to the test, and programs linked to it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::netns;

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where cargo has put the libraries that belong to this test: beside it. Building them here would wait for ever
/// for the lock that the running cargo holds.
fn built(file: &str) -> PathBuf {
    let path = std::env::current_exe().unwrap().with_file_name(file);
    assert!(path.exists(), "{} is missing: is the crate type still in Cargo.toml?", path.display());
    path
}

/// The directory in which cargo puts the libraries for others.
pub(crate) fn tree() -> PathBuf {
    let beside = built("libkumatp.so");
    beside.ancestors().nth(2).unwrap().to_owned()
}

/// A directory of a test's own with the libraries in it, as they are when installed.
pub(crate) struct Library {
    pub(crate) dir: PathBuf,
}

impl Library {
    pub(crate) fn new(test: &str) -> Self {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c-api").join(test);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        for (target, link) in [
            ("libkumatp.so", "libkumatp.so"),
            ("libkumatp.so", &*format!("libkumatp.so.{}", kumatp::ffi::KUMATP_ABI_VERSION)),
            ("libkumatp.a", "libkumatp.a"),
        ] {
            std::os::unix::fs::symlink(built(target), dir.join(link)).unwrap();
        }
        Self { dir }
    }

    pub(crate) fn shared(&self) -> PathBuf {
        self.dir.join("libkumatp.so")
    }

    /// A directory with a kumatp.pc that finds the build tree, for PKG_CONFIG_PATH.
    pub(crate) fn pkg_config(&self) -> &Path {
        let text = format!(
            "Name: kumatp\nDescription: transparent-proxy rules\nVersion: {}\nCflags: -I{}\nLibs: -L{} -lkumatp\nLibs.private: {}\n",
            env!("CARGO_PKG_VERSION"),
            root().join("include").display(),
            self.dir.display(),
            SYSTEM_LIBRARIES.join(" "),
        );
        std::fs::write(self.dir.join("kumatp.pc"), text).unwrap();
        &self.dir
    }

    /// Compiles and links a program, and returns where it is.
    pub(crate) fn compile(&self, compiler: &str, name: &str, sources: &[&Path], options: &[&str]) -> PathBuf {
        let program = self.dir.join(name);
        let mut command = Command::new(compiler);
        command.args(WARNINGS).arg("-g").arg("-I").arg(root().join("include"));
        command.args(options).args(sources).arg("-o").arg(&program).arg("-L").arg(&self.dir);
        match options.contains(&STATIC) {
            true => command.arg("-l:libkumatp.a").args(SYSTEM_LIBRARIES),
            // Cargo's LD_LIBRARY_PATH names the directory of an older build, and must not come first.
            false => command.arg("-lkumatp").arg(format!("-Wl,--disable-new-dtags,-rpath,{}", self.dir.display())),
        };
        succeed(command.arg("-pthread"));
        program
    }
}

/// Links the library into the program.
pub(crate) const STATIC: &str = "-DKUMATP_STATIC";

/// What the static library needs besides itself: `rustc --print native-static-libs`.
const SYSTEM_LIBRARIES: [&str; 6] = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl"];

pub(crate) const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"];

/// The program if it is there; else says that the test is skipped.
pub(crate) fn tool<'a>(name: &'a str, argument: &str) -> Option<&'a str> {
    if has(name, argument) {
        return Some(name);
    }
    netns::skipped(&format!("{name} is not installed"));
    None
}

pub(crate) fn has(name: &str, argument: &str) -> bool {
    let mut command = Command::new(name);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Runs a command that has to succeed, and returns what it prints.
pub(crate) fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.env("RUST_BACKTRACE", "0").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// Runs the body in namespaces of its own where that is possible. What an ordinary user runs without cannot change the host.
pub(crate) fn apart<F: FnOnce()>(body: F) {
    match nix::unistd::geteuid().is_root() {
        true => netns::isolated(body),
        false => body(),
    }
}
