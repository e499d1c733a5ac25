//! Transparent redirection to be seen: `cargo run --example quickstart`, as any user, on any Linux host.
//!
//! It is what `kumatp demo` shows. How the library is used for it stands in `src/bin/kumatp/demo/mod.rs`: configure, plan,
//! install, look, re-install, uninstall.

#[cfg(target_os = "linux")]
#[path = "../src/bin/kumatp/demo/mod.rs"]
mod demo;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let done = match demo::Errand::of(&words) {
        Some(errand) => errand.run(&[], &mut std::io::stdout()),
        None => Err("it takes no arguments".into()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    eprintln!("error: the demonstration needs Linux");
    ExitCode::FAILURE
}
