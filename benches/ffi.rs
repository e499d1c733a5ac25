//! What a call across the C ABI costs beside the same call in Rust, and what the library costs a program when it starts.
//!
//! `cargo bench --features cli --bench ffi`; applying needs root, and happens in a network namespace that is made for it.
//! The library is the one that cargo has built beside the bench, or that of the environment variable `KUMATP_LIBRARY`; the
//! ratios are fair for the former only. `-- --test` runs each part once, to see that it works.
#![expect(unsafe_code, reason = "functions of a shared library are called")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use kumatp::config::{Config, Format};
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{Engine as _, EngineName};
use kumatp::net::Uid;
use kumatp::simulate::{Packets, Simulator};
use kumatp::{Facts, policy, render};
use nix::libc::{RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym};
use nix::sched::{CloneFlags, unshare};

const LOAD: &str = "--load-the-library";

type Handle = *mut c_void;

/// The functions of the library, through its symbols as a C program calls them.
#[derive(Clone, Copy)]
struct Library {
    config_parse: unsafe extern "C" fn(*const c_char, usize, u32, *mut Handle, *mut Handle) -> i32,
    capable_host: unsafe extern "C" fn(u32, *mut Handle, *mut Handle) -> i32,
    build: unsafe extern "C" fn(Handle, Handle, *mut Handle, *mut Handle) -> i32,
    render: unsafe extern "C" fn(Handle, u32, u32, u32, *mut Handle, *mut Handle) -> i32,
    explain: unsafe extern "C" fn(Handle, u32, *const c_char, usize, *mut Handle, *mut Handle) -> i32,
    apply: unsafe extern "C" fn(Handle, u32, i32, u32, *mut Handle, *mut Handle) -> i32,
    uninstall: unsafe extern "C" fn(Handle, u32, i32, u32, *mut Handle, *mut Handle) -> i32,
    version: unsafe extern "C" fn() -> u32,
    plan_free: unsafe extern "C" fn(Handle),
    text_free: unsafe extern "C" fn(Handle),
    text_len: unsafe extern "C" fn(Handle) -> usize,
}

fn path() -> PathBuf {
    let beside = || std::env::current_exe().expect("this program has a path").with_file_name("libkumatp.so");
    std::env::var_os("KUMATP_LIBRARY").map_or_else(beside, PathBuf::from)
}

impl Library {
    fn open() -> Self {
        let name = CString::new(path().into_os_string().into_encoded_bytes()).expect("a path has no NUL");
        // SAFETY: the name is a C string, and the library's initialisers are those of Rust's std.
        let library = unsafe { dlopen(name.as_ptr(), RTLD_NOW | RTLD_LOCAL) };
        if library.is_null() {
            // SAFETY: a failed dlopen leaves a message.
            panic!("{}", unsafe { CStr::from_ptr(dlerror()) }.to_string_lossy());
        }
        // SAFETY: the types are those of include/kumatp.h.
        unsafe {
            Self {
                config_parse: symbol(library, c"kumatp_config_parse"),
                capable_host: symbol(library, c"kumatp_facts_capable_host"),
                build: symbol(library, c"kumatp_plan_build"),
                render: symbol(library, c"kumatp_plan_render"),
                explain: symbol(library, c"kumatp_plan_explain"),
                apply: symbol(library, c"kumatp_plan_apply"),
                uninstall: symbol(library, c"kumatp_uninstall"),
                version: symbol(library, c"kumatp_abi_version"),
                plan_free: symbol(library, c"kumatp_plan_free"),
                text_free: symbol(library, c"kumatp_text_free"),
                text_len: symbol(library, c"kumatp_text_len"),
            }
        }
    }
}

/// # Safety
/// `F` is a pointer to a function of the type that the symbol has.
unsafe fn symbol<F: Copy>(library: Handle, name: &CStr) -> F {
    // SAFETY: the library is open, and stays so.
    let symbol = unsafe { dlsym(library, name.as_ptr()) };
    assert!(!symbol.is_null(), "no {name:?} in {}", path().display());
    // SAFETY: by the promise of this function; both are pointers.
    unsafe { std::mem::transmute_copy::<Handle, F>(&symbol) }
}

/// Calls a function with an output, which has to succeed.
fn made(function: impl FnOnce(*mut Handle, *mut Handle) -> i32) -> Handle {
    let mut out = null_mut();
    assert_eq!(function(&raw mut out, null_mut()), 0);
    out
}

fn main() {
    if std::env::args().any(|arg| arg == LOAD) {
        return load();
    }
    let once = std::env::args().any(|arg| arg == "--test");
    let rounds = |n| if once { 1 } else { n };
    let library = Library::open();
    println!("{}", path().display());
    for (name, exclusions, n) in [("by default", 0, 400), ("with 1,000 exclusions", 1_000, 60)] {
        plan_and_render(&library, name, exclusions, rounds(n));
        explain(&library, name, exclusions, rounds(n));
    }
    start(rounds(100));
    if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
        println!("skipped: a network namespace is needed, which takes root: {error}");
        assert!(std::env::var_os("KUMATP_REQUIRE_ALL").is_none());
        return;
    }
    apply(&library, rounds(60));
}

fn document(exclusions: usize) -> String {
    let ports: Vec<_> = (0..exclusions).map(|i| (1 + 2 * i % 65_534).to_string()).collect();
    format!("redirect: {{inbound: {{excludePorts: \"{}\"}}}}", ports.join(","))
}

/// Times two things in turns, so that what disturbs the machine disturbs both, and prints the medians and their ratio.
fn compare(what: &str, rounds: usize, mut rust: impl FnMut(), mut c: impl FnMut()) {
    let time = |work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let (mut of_rust, mut of_c): (Vec<_>, Vec<_>) = (0..rounds).map(|_| (time(&mut rust), time(&mut c))).unzip();
    let (rust, c) = (median(&mut of_rust), median(&mut of_c));
    println!("{what:<44} Rust {rust:>10.1?}   C {c:>10.1?}   ratio {:.3}", c.as_secs_f64() / rust.as_secs_f64());
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn plan_and_render(library: &Library, name: &str, exclusions: usize, rounds: usize) {
    let text = document(exclusions);
    let (config, facts) = (Config::parse(&text, Format::Yaml).expect("valid"), Facts::capable_host(Uid::SIDECAR));
    let lengths = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    // SAFETY: functions as the header declares them, with handles that they have given out.
    let (c_config, c_facts) = unsafe {
        let config = made(|out, err| (library.config_parse)(text.as_ptr().cast(), text.len(), 2, out, err));
        (config, made(|out, err| (library.capable_host)(5678, out, err)))
    };
    compare(
        &format!("plan and render {name}"),
        rounds,
        || {
            let plan = policy::plan(black_box(&config), black_box(&facts)).expect("a plan");
            lengths.0.set(black_box(render::iptables::plan(&plan)).len());
        },
        // SAFETY: as above; what is made is freed.
        || unsafe {
            let plan = made(|out, err| (library.build)(c_config, c_facts, out, err));
            let text = made(|out, err| (library.render)(plan, 1, 0, 0, out, err));
            lengths.1.set((library.text_len)(text));
            (library.text_free)(text);
            (library.plan_free)(plan);
        },
    );
    assert!(lengths.0.get() > 1000 && lengths.0 == lengths.1, "both have rendered the same");
}

/// One packet a call, so that each makes a simulator of the plan.
fn explain(library: &Library, name: &str, exclusions: usize, rounds: usize) {
    const PACKET: &str = "inbound tcp 10.0.0.5:8080";
    let text = document(exclusions);
    let config = Config::parse(&text, Format::Yaml).expect("valid");
    let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).expect("a plan");
    // SAFETY: as above.
    let c_plan = unsafe {
        let config = made(|out, err| (library.config_parse)(text.as_ptr().cast(), text.len(), 2, out, err));
        let facts = made(|out, err| (library.capable_host)(5678, out, err));
        made(|out, err| (library.build)(config, facts, out, err))
    };
    let lengths = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    compare(
        &format!("explain a packet {name}"),
        rounds,
        || {
            let packets: Packets = black_box(PACKET).parse().expect("a packet");
            let simulator = Simulator::of(black_box(&plan), EngineName::Netlink);
            let answers = packets.answers(|packet| simulator.explain(packet));
            // The line feed of the library's documents.
            lengths.0.set(serde_json::to_string_pretty(&answers).expect("JSON").len() + 1);
        },
        // SAFETY: as above.
        || unsafe {
            let text = made(|out, err| (library.explain)(c_plan, 1, PACKET.as_ptr().cast(), PACKET.len(), out, err));
            lengths.1.set((library.text_len)(text));
            (library.text_free)(text);
        },
    );
    assert!(lengths.0.get() > 300 && lengths.0 == lengths.1, "both have explained the same");
}

fn apply(library: &Library, rounds: usize) {
    let text = document(4);
    let config = Config::parse(&text, Format::Yaml).expect("valid");
    let plan = policy::plan(&config, &Facts::capable_host(Uid::SIDECAR)).expect("a plan");
    // SAFETY: as above.
    let c_plan = unsafe {
        let config = made(|out, err| (library.config_parse)(text.as_ptr().cast(), text.len(), 2, out, err));
        let facts = made(|out, err| (library.capable_host)(5678, out, err));
        made(|out, err| (library.build)(config, facts, out, err))
    };
    let engine = Netlink::default();
    compare(
        "install and uninstall",
        rounds,
        || {
            assert!(engine.apply(&plan).expect("installed").changed);
            assert!(engine.uninstall(&config).expect("uninstalled").changed);
        },
        // SAFETY: as above.
        || unsafe {
            (library.text_free)(made(|out, err| (library.apply)(c_plan, 1, -1, 0, out, err)));
            (library.text_free)(made(|out, err| (library.uninstall)(null_mut(), 1, -1, 0, out, err)));
        },
    );
    engine.apply(&plan).expect("installed");
    compare(
        "install what is there",
        rounds * 4,
        || assert!(!engine.apply(&plan).expect("the same").changed),
        // SAFETY: as above.
        || unsafe { (library.text_free)(made(|out, err| (library.apply)(c_plan, 1, -1, 0, out, err))) },
    );
    engine.uninstall(&config).expect("uninstalled");
}

/// Loads the library in new processes: what a program pays before its first call.
fn start(rounds: usize) {
    let exe = std::env::current_exe().expect("this program has a path");
    let mut times: Vec<_> = (0..rounds)
        .map(|_| {
            let output = Command::new(&exe).arg(LOAD).output().expect("this program runs");
            let nanoseconds = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a time");
            Duration::from_nanos(nanoseconds)
        })
        .collect();
    println!("{:<44} {:.1?}", "load the library, and its first call", median(&mut times));
}

fn load() {
    let start = Instant::now();
    let library = Library::open();
    // SAFETY: it takes nothing.
    let version = unsafe { (library.version)() };
    let took = start.elapsed();
    assert_eq!(version, kumatp::ffi::KUMATP_ABI_VERSION);
    println!("{}", took.as_nanos());
}
