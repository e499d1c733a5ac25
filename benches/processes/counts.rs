//! What is counted: system calls, programs, and memory.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::Bench;
use crate::common::host::{namespace, run, used};
use crate::common::timing::Sample;
use crate::{INSTALL, KUMATP, Programs};

pub(crate) const NO_KUMACTL: &str = "KUMATP_BENCH_KUMACTL names no program";
const PEAK: &str = "--peak-of";

pub(crate) fn counts(bench: &mut Bench, programs: &Programs) {
    bench.part("System calls, programs and memory");
    let turns = bench.turns(5);
    let fresh: &[&str] = &INSTALL;
    let by_iptables = ["install", "transparent-proxy", "--engine", "iptables"];
    let dry_run = ["install", "transparent-proxy", "--dry-run"];
    let kumatp: &Path = &KUMATP;

    let calls = traced(programs, kumatp, fresh, turns, system_calls);
    bench.count("install in a new network namespace", "system calls behind the dynamic linker", calls);
    for (name, words) in [
        ("install in a new network namespace", fresh),
        ("install --dry-run", &dry_run),
        ("install --engine iptables", &by_iptables),
    ] {
        bench.count(name, "other programs", traced(programs, kumatp, words, turns, other_programs));
        bench.bytes(name, "peak memory", peaks(programs, kumatp, words, turns));
    }
    let kumactl = programs.kumactl.as_deref();
    let none = || Err(NO_KUMACTL.to_owned());
    let count = kumactl.map_or_else(none, |kumactl| traced(programs, kumactl, fresh, turns, other_programs));
    bench.count("kumactl install", "other programs", count);
    bench.bytes("kumactl install", "peak memory", kumactl.map_or_else(none, |it| peaks(programs, it, fresh, turns)));
}

/// Counts something in the traces of a command that runs in a new namespace each time.
fn traced(
    programs: &Programs,
    program: &Path,
    words: &[&str],
    turns: usize,
    count: fn(&str) -> usize,
) -> Result<Sample, String> {
    if !Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return Err("the program strace is not here".into());
    }
    let counted = (0..turns).map(|_| {
        let _place = namespace();
        let command = programs.command(program, words, 0);
        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/run/trace"]).arg(command.get_program()).args(command.get_args());
        run(&mut strace);
        count(&std::fs::read_to_string("/run/trace").expect("a trace")) as f64
    });
    Ok(Sample::of(counted))
}

/// Those after the dynamic linker has put away its cache, which is the last thing that it does.
fn system_calls(trace: &str) -> usize {
    let calls: Vec<_> = trace.lines().filter(|line| line.contains('(') && !line.contains(" resumed>")).collect();
    let linked = calls.iter().position(|line| line.contains(" munmap(")).expect("it is linked to libc");
    calls.len() - linked - 1
}

/// Programs that were started and were there.
fn other_programs(trace: &str) -> usize {
    let started = trace.lines().filter(|line| line.contains("execve(") || line.contains("execve resumed"));
    started.filter(|line| line.ends_with("= 0")).count() - 1
}

/// The most memory that a command had, or one of the programs that it ran.
fn peaks(programs: &Programs, program: &Path, words: &[&str], turns: usize) -> Result<Sample, String> {
    let exe = std::env::current_exe().expect("this program has a path");
    let peaks = (0..turns).map(|_| {
        let _place = namespace();
        let command = programs.command(program, words, 0);
        let output = Command::new(&exe).arg(PEAK).arg(command.get_program()).args(command.get_args()).output();
        let output = output.expect("this program runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.trim().parse().unwrap_or_else(|_| panic!("{command:?}: {output:?}"))
    });
    Ok(Sample::of(peaks))
}

pub(crate) fn is_helper() -> bool {
    std::env::args().nth(1).is_some_and(|arg| arg == PEAK)
}

/// In a process of its own: runs a command and prints how much memory it had at most, in bytes.
///
/// A process begins with what the one that started it had, so that has to be small.
pub(crate) fn help() {
    let mut arguments = std::env::args_os().skip(2);
    let mut command = Command::new(arguments.next().expect("a program"));
    let child = command.args(arguments).stdout(Stdio::null()).spawn().expect("the program starts");
    let used = used(child);
    let own = std::fs::read_to_string("/proc/self/status").expect("this process");
    let own = own.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let own: f64 = own.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(used.peak > 1024.0 * own, "this process had more: {own} KiB, not {} bytes", used.peak);
    println!("{}", used.peak);
}
