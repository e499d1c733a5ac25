//! The CNI plugin `kumatp-cni`: what [`kumatp::cni`] answers, on standard output.

use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (output, remarks, status) = match kumatp::cni::answer(std::env::vars_os(), std::io::stdin().lock()) {
        Ok(answer) => (answer.output, answer.remarks, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(), Vec::new(), ExitCode::FAILURE),
    };
    let mut log = std::io::stderr().lock();
    for remark in remarks {
        // Nobody may be listening.
        let _ = writeln!(log, "kumatp-cni: {remark}");
    }
    match std::io::stdout().write_all(output.as_bytes()) {
        Ok(()) => status,
        // A result that is not told is none.
        Err(_) => ExitCode::FAILURE,
    }
}
