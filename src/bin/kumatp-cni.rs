//! The CNI plugin `kumatp-cni`: what [`kumatp::cni`] answers, on standard output.

#![deny(clippy::print_stdout, clippy::print_stderr)]

#[path = "kumatp/streams.rs"]
mod streams;

use std::process::ExitCode;

fn main() -> ExitCode {
    streams::prepare();
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
