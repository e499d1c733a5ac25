//! The CNI plugin `kumatp-cni`: what [`kumatp::cni`] answers, on standard output.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[path = "kumatp/streams.rs"]
mod streams;

use std::process::ExitCode;

/// What somebody reads who runs the plugin by hand.
const USAGE: &str = "\
kumatp-cni is a CNI plugin. A container runtime calls it for each pod. It redirects pods to their sidecar by the annotations that
Kuma's injector gives them.

Usage: CNI_COMMAND=COMMAND kumatp-cni < NETWORK

Variables:
  CNI_COMMAND      ADD, DEL, CHECK, STATUS, GC or VERSION
  CNI_CONTAINERID  the container
  CNI_NETNS        the path of its network namespace
  CNI_IFNAME       the interface in it
  CNI_ARGS         further arguments: K8S_POD_NAMESPACE, K8S_POD_NAME
  CNI_PATH         where plugins are

Standard input has the network configuration, standard output gets the result or the error, both in JSON.
Exit status 0 done, 1 failed, 2 not called as a plugin.

Options:
      --help     Print this
      --version  Print the version
";

fn usage() -> ExitCode {
    let first = std::env::args_os().nth(1).unwrap_or_default();
    let (text, status) = match first.to_str() {
        Some("--help" | "-h" | "help") => (USAGE.to_owned(), ExitCode::SUCCESS),
        Some("--version" | "-V") => (format!("kumatp-cni {}\n", env!("CARGO_PKG_VERSION")), ExitCode::SUCCESS),
        _ => {
            streams::remark(USAGE);
            return ExitCode::from(2);
        }
    };
    match streams::result(&text) {
        Ok(()) => status,
        Err(error) => {
            streams::remark(&format!("kumatp-cni: cannot write to standard output: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn main() -> ExitCode {
    streams::prepare();
    // A runtime gives no arguments; whoever does wants to know what this is.
    if std::env::args_os().len() > 1 && std::env::var_os("CNI_COMMAND").is_none() {
        return usage();
    }
    let (output, remarks, status) = match kumatp::cni::answer(std::env::vars_os(), std::io::stdin().lock()) {
        Ok(answer) => (answer.output, answer.remarks, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(), Vec::new(), ExitCode::FAILURE),
    };
    // The runtime waits for the result, and takes what it does not see for an answer too.
    let told = streams::result(&output);
    for remark in remarks {
        streams::remark(&format!("kumatp-cni: {remark}\n"));
    }
    match told {
        Ok(()) => status,
        Err(error) => {
            streams::remark(&format!("kumatp-cni: cannot write the result to standard output: {error}\n"));
            ExitCode::FAILURE
        }
    }
}
