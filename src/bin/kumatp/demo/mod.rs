//! Transparent redirection to be seen: `kumatp demo`, as any user, on any Linux host. The example `quickstart` runs the same.
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

use std::io::Write;

use kumatp::config::Format;
use kumatp::engine::Engine as _;
use kumatp::engine::netlink::Netlink;
use kumatp::{Config, facts, policy};

use self::stage::Stage;
use self::traffic::{ConnectionResult, Protocol, visit};
use self::world::{Remains, WEB};

/// The arguments with which a program, started once more, comes to an [`Errand`] again.
pub(crate) type Again = &'static [&'static str];

/// Any failure is told in words.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

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

/// What the program is started for.
pub(crate) enum Errand<'a> {
    /// The demonstration itself.
    Show,
    /// Another process that it needs, for which the program starts itself once more.
    MapUsers,
    /// The same, on the identity of a network namespace to stay away from, and perhaps the path of another one.
    Sidecar(&'a str, Option<&'a str>),
}

impl<'a> Errand<'a> {
    /// What the words ask for; people give none.
    pub(crate) fn of(words: &[&'a str]) -> Option<Self> {
        match *words {
            [] => Some(Self::Show),
            ["map-users"] => Some(Self::MapUsers),
            ["sidecar", host] => Some(Self::Sidecar(host, None)),
            ["sidecar", host, elsewhere] => Some(Self::Sidecar(host, Some(elsewhere))),
            _ => None,
        }
    }

    /// Does it. True if all was as expected. The words of other errands go behind `again`.
    pub(crate) fn run(&self, again: Again, out: &mut dyn Write) -> Result<bool> {
        match self {
            Self::Show => demonstrate(again, out),
            Self::MapUsers => users::map_users().map(|()| true),
            Self::Sidecar(host, elsewhere) => sidecar::run(host, *elsewhere).map(|()| true),
        }
    }
}

/// The whole story. True if all was as expected.
fn demonstrate(again: Again, out: &mut dyn Write) -> Result<bool> {
    let mut stage = Stage::set(again)?;
    stage.describe(out)?;
    writeln!(out, "The configuration, in Kuma's format:\n\n  {}\n", CONFIG.trim_end().replace('\n', "\n  "))?;

    // Configure and plan.
    let mut config = Config::parse(CONFIG, Format::Yaml)?;
    // Conntrack zones tell the sidecar's DNS queries from others by its uid.
    config.redirect.dns.skip_conntrack_zone_split = !stage.second_uid;
    let engine = Netlink::default();
    let mut wanted = policy::facts_needed(&config);
    wanted.cni = true; // The uid is taken as it is: no user of that number need exist.
    let facts = facts::probe(&wanted, engine.abilities(&config.options())?)?;
    let plan = policy::plan(&config, &facts)?;

    // Install.
    let clean = Remains::look()?;
    let report = engine.apply(&plan)?;
    writeln!(out, "Install     {}", report.steps.join(", "))?;
    for note in plan.notes.iter().chain(&report.notes) {
        writeln!(out, "            note: {note}")?;
    }

    // Look.
    writeln!(out, "\n{:<27} {:<26} what happened", "connection", "from → to")?;
    writeln!(out, "    why: the configuration key, and what its rule is for\n")?;
    let mut well = true;
    for case in cases::all() {
        well &= case.show(&plan, &mut stage, out)?;
    }

    // Re-install, in turn with another plan: the same once more would change nothing.
    config.redirect.outbound.exclude_ports = "5433".parse()?;
    let other = policy::plan(&config, &facts)?;
    let (replaced, tally) = reinstall::under_traffic(&engine, [&other, &plan], REINSTALLS, &stage.outside)?;
    writeln!(out, "\nRe-install  {tally} while the rules were replaced {replaced} times")?;
    well &= replaced == REINSTALLS && tally.is_well();

    // Uninstall.
    let report = engine.uninstall(&config.options())?;
    writeln!(out, "Uninstall   {}", report.steps.join(", "))?;
    let (left, outcome) = (Remains::look()?, visit(WEB, Protocol::Tcp));
    let as_before = left == clean && outcome == ConnectionResult::Direct;
    match as_before {
        true => writeln!(
            out,
            "            nothing left: tables and addresses are as before; workload → web:80 is {outcome}"
        )?,
        false => writeln!(out, "            WRONG: {left:?} instead of {clean:?}; workload → web:80 is {outcome}")?,
    }
    Ok(well && as_before)
}
