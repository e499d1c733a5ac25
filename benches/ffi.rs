//! What a call across the C ABI costs beside the same call in Rust, and what the library costs a program when it starts.
//!
//! `cargo bench --bench ffi`; applying needs root, and happens in a network namespace that is made for it.
//! The library is the one that cargo has built beside the bench, or that of the environment variable `KUMATP_LIBRARY`; the
//! ratios are fair for the former only.
#![expect(unsafe_code, reason = "functions of a shared library are called")]

mod common;

use std::ffi::{CStr, CString, c_char, c_void};
use std::hint::black_box;
use std::path::PathBuf;
use std::process::Command;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use common::Bench;
use common::host::{place, skipped};
use common::timing::{Sample, repeated, time, turns};
use kumatp::config::{Config, Format};
use kumatp::engine::Engine as _;
use kumatp::engine::netlink::Netlink;
use kumatp::model::EngineName;
use kumatp::net::Uid;
use kumatp::simulate::{Packets, Simulator};
use kumatp::{Facts, policy, render};
use nix::libc::{RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym};

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
    let mut bench = Bench::new("ffi");
    let library = Library::open();
    println!("{}", path().display());
    bench.part("A call across the C ABI, beside the same call in Rust");
    for (name, exclusions) in [("by default", 0), ("with 1,000 exclusions", 1_000)] {
        plan_and_render(&mut bench, &library, name, exclusions);
        explain(&mut bench, &library, name, exclusions);
    }
    if let Err(error) = place() {
        return skipped(&error);
    }
    apply(&mut bench, &library);
    start(&mut bench);
    bench.finish("");
}

fn document(exclusions: usize) -> String {
    let ports: Vec<_> = (0..exclusions).map(|i| (1 + 2 * i % 65_534).to_string()).collect();
    format!("redirect: {{inbound: {{excludePorts: \"{}\"}}}}", ports.join(","))
}

/// The figure of two ways to do the same.
fn compare(bench: &mut Bench, what: &str, rust: &mut dyn FnMut() -> Duration, c: &mut dyn FnMut() -> Duration) {
    let took = turns(bench.turns(101), [rust, c]);
    bench.ratio(what, "from C", "from Rust", took.ratio(1, 0));
}

fn plan_and_render(bench: &mut Bench, library: &Library, name: &str, exclusions: usize) {
    let text = document(exclusions);
    let (config, facts) = (Config::parse(&text, Format::Yaml).expect("valid"), Facts::capable_host(Uid::SIDECAR));
    let lengths = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    // SAFETY: functions as the header declares them, with handles that they have given out.
    let (c_config, c_facts) = unsafe {
        let config = made(|out, err| (library.config_parse)(text.as_ptr().cast(), text.len(), 2, out, err));
        (config, made(|out, err| (library.capable_host)(5678, out, err)))
    };
    compare(
        bench,
        &format!("plan and render {name}"),
        &mut repeated(|| {
            let plan = policy::plan(black_box(&config), black_box(&facts)).expect("a plan");
            lengths.0.set(black_box(render::iptables::plan(&plan)).len());
        }),
        // SAFETY: as above; what is made is freed.
        &mut repeated(|| unsafe {
            let plan = made(|out, err| (library.build)(c_config, c_facts, out, err));
            let text = made(|out, err| (library.render)(plan, 1, 0, 0, out, err));
            lengths.1.set((library.text_len)(text));
            (library.text_free)(text);
            (library.plan_free)(plan);
        }),
    );
    assert!(lengths.0.get() > 1000 && lengths.0 == lengths.1, "both have rendered the same");
}

/// One packet a call, so that each makes a simulator of the plan.
fn explain(bench: &mut Bench, library: &Library, name: &str, exclusions: usize) {
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
        bench,
        &format!("explain a packet {name}"),
        &mut repeated(|| {
            let packets: Packets = black_box(PACKET).parse().expect("a packet");
            let simulator = Simulator::of(black_box(&plan), EngineName::Netlink);
            let answers = packets.answers(|packet| simulator.explain(packet));
            // The line feed of the library's documents.
            lengths.0.set(serde_json::to_string_pretty(&answers).expect("JSON").len() + 1);
        }),
        // SAFETY: as above.
        &mut repeated(|| unsafe {
            let text = made(|out, err| (library.explain)(c_plan, 1, PACKET.as_ptr().cast(), PACKET.len(), out, err));
            lengths.1.set((library.text_len)(text));
            (library.text_free)(text);
        }),
    );
    assert!(lengths.0.get() > 300 && lengths.0 == lengths.1, "both have explained the same");
}

fn apply(bench: &mut Bench, library: &Library) {
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
        bench,
        "install and uninstall",
        &mut || {
            time(|| {
                assert!(engine.apply(&plan).expect("installed").changed);
                assert!(engine.uninstall(&config.options()).expect("uninstalled").changed);
            })
        },
        &mut || {
            // SAFETY: as above.
            time(|| unsafe {
                (library.text_free)(made(|out, err| (library.apply)(c_plan, 1, -1, 0, out, err)));
                (library.text_free)(made(|out, err| (library.uninstall)(null_mut(), 1, -1, 0, out, err)));
            })
        },
    );
    engine.apply(&plan).expect("installed");
    compare(
        bench,
        "install, unchanged",
        &mut repeated(|| assert!(!engine.apply(&plan).expect("the same").changed)),
        // SAFETY: as above.
        &mut repeated(|| unsafe { (library.text_free)(made(|out, err| (library.apply)(c_plan, 1, -1, 0, out, err))) }),
    );
    engine.uninstall(&config.options()).expect("uninstalled");
}

/// Loads the library in new processes: what a program pays before its first call.
fn start(bench: &mut Bench) {
    bench.part("Loading the library by `dlopen`, and its first call");
    let exe = std::env::current_exe().expect("this program has a path");
    let (mut times, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..bench.turns(101) {
        let output = Command::new(&exe).arg(LOAD).output().expect("this program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [nanoseconds, bytes] = numbers[..] else { panic!("two numbers: {output:?}") };
        times.push(nanoseconds / 1e9);
        memory.push(bytes);
    }
    bench.seconds("in a new process", "time", Sample::of(times.into_iter()));
    bench.bytes("in a new process", "private memory", Ok(Sample::of(memory.into_iter())));
}

/// What this process has for itself, in bytes.
fn private() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").expect("this process");
    let lines = rollup.lines().filter(|line| line.starts_with("Private_"));
    let kibibytes = |line: &str| line.split_whitespace().nth(1)?.parse::<u64>().ok();
    lines.filter_map(kibibytes).sum::<u64>() << 10
}

fn load() {
    let before = private();
    let start = Instant::now();
    let library = Library::open();
    // SAFETY: it takes nothing.
    let version = unsafe { (library.version)() };
    let took = start.elapsed();
    assert_eq!(version, kumatp::ffi::KUMATP_ABI_VERSION);
    println!("{} {}", took.as_nanos(), private() - before);
}
