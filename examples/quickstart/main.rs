//! Transparent redirection to be seen: `cargo run --example quickstart`, as any user, on any Linux
//! host.
//!
//! Everything happens in two network namespaces that the program makes for itself. Nothing of the
//! host is reached or changed, and no other program is needed.
//!
//! ```text
//!   inside, where the rules are             outside
//!   ┌─────────────────────────────────┐     ┌─────────────────────────┐
//!   │ workload 192.0.2.1:8080 and :22 │     │ client   192.0.2.2      │
//!   │ sidecar  15001, 15006, 15053    ├─────┤ web      192.0.2.2:80   │
//!   │          as a user of its own   │     │ database 192.0.2.2:5432 │
//!   └─────────────────────────────────┘     │ legacy   192.0.2.9:80   │
//!                                           │ dns      192.0.2.53:53  │
//!                                           └─────────────────────────┘
//! ```
//!
//! This file is the story: configure, plan, install, look, re-install, uninstall. `cases` has the
//! connections that are tried, `reinstall` the traffic meanwhile; the other files are the stage.

mod cases;
mod netlink;
mod reinstall;
mod role;
mod sidecar;
mod stage;
mod traffic;
mod users;
mod world;

use std::process::ExitCode;

use kumatp::config::Format;
use kumatp::engine::Engine as _;
use kumatp::engine::netlink::Netlink;
use kumatp::{Config, facts, policy};

use stage::Stage;
use traffic::{Outcome, Protocol, visit};
use world::{Remains, WEB};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// What the operator wants. All else is Kuma's default.
const CONFIG: &str = "\
kumaDPUser: '5678'
redirect:
  inbound: { excludePorts: [22] }
  outbound: { excludePorts: [5432], excludePortsForIPs: [192.0.2.9] }
  dns: { enabled: true, captureAll: true }
";

/// How often the rules are replaced under traffic.
const REINSTALLS: usize = 40;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = arguments.iter().map(String::as_str).collect();
    let result = match words[..] {
        [] => demonstrate(),
        // The program starts itself once more for what takes another process.
        ["map-users"] => users::map_users().map(|()| true),
        ["sidecar"] => sidecar::run(None).map(|()| true),
        ["sidecar", elsewhere] => sidecar::run(Some(elsewhere)).map(|()| true),
        _ => Err("it takes no arguments".into()),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The whole story. True if all was as expected.
fn demonstrate() -> Result<bool> {
    let mut stage = Stage::set()?;
    stage.describe();
    println!("The configuration, in Kuma's format:\n\n  {}\n", CONFIG.trim_end().replace('\n', "\n  "));

    // Configure and plan.
    let mut config = Config::parse(CONFIG, Format::Yaml)?;
    // Conntrack zones tell the sidecar's DNS queries from others by its uid.
    config.redirect.dns.skip_conntrack_zone_split = !stage.second_uid;
    let engine = Netlink::default();
    let mut wanted = policy::facts_needed(&config);
    wanted.cni = true; // The uid is taken as it is: no user of that number need exist.
    let facts = facts::probe(&wanted, engine.abilities(&config)?)?;
    let plan = policy::plan(&config, &facts)?;

    // Install.
    let clean = Remains::look()?;
    let report = engine.apply(&plan)?;
    println!("Install     {}", report.steps.join(", "));
    for note in plan.notes.iter().chain(&report.notes) {
        println!("            note: {note}");
    }

    // Look.
    println!("\n{:<27} {:<26} what happened", "connection", "from → to");
    println!("    why: the configuration key, and what its rule is for\n");
    let mut well = true;
    for case in cases::all() {
        well &= case.show(&plan, &mut stage);
    }

    // Re-install, in turn with another plan: the same once more would change nothing.
    config.redirect.outbound.exclude_ports = "5433".parse()?;
    let other = policy::plan(&config, &facts)?;
    let (replaced, tally) = reinstall::under_traffic(&engine, [&other, &plan], REINSTALLS, &stage.outside)?;
    println!("\nRe-install  {tally} while the rules were replaced {replaced} times");
    well &= replaced == REINSTALLS && tally.is_well();

    // Uninstall.
    let report = engine.uninstall(&config)?;
    println!("Uninstall   {}", report.steps.join(", "));
    let (left, outcome) = (Remains::look()?, visit(WEB, Protocol::Tcp));
    match left == clean && outcome == Outcome::Direct {
        true => {
            println!("            nothing left: tables and addresses are as before; workload → web:80 is {outcome}")
        }
        false => println!("            WRONG: {left:?} instead of {clean:?}; workload → web:80 is {outcome}"),
    }
    Ok(well && left == clean && outcome == Outcome::Direct)
}
