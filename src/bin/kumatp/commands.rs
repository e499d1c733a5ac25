//! What each command does.

use std::io::Write as _;
use std::path::Path;

use clap::{ArgMatches, Command};
use kumatp::config::{Format, Layers};
use kumatp::engine::iptables::Iptables;
use kumatp::engine::{EngineName, Report, resolv_backup};
use kumatp::model::{Note, Plan, Severity};
use kumatp::net::{Family, V4, V6};
use kumatp::{Error, Facts, firewalld, policy, render, save};

use crate::{Failure, host, input};

/// Where firewalld keeps its direct rules.
const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

pub(crate) fn install(matches: &ArgMatches) -> Result<(), Failure> {
    let asked = host::asked(matches)?;
    let (config, notes) = input::config(matches)?;
    warn(&notes, config.verbose);
    let name = asked.unwrap_or(EngineName::Iptables);
    let engine = host::engine(name)?;
    if !config.dry_run && name == EngineName::Iptables {
        host::must_be_root("install the rules")?;
    }
    let plan = policy::plan(&config, &host::facts(&config, &*engine)?)?;
    warn(&plan.notes, config.verbose);
    if config.dry_run {
        return print(&dry_run_text(&plan));
    }
    let report = engine.apply(&plan)?;
    warn(&report.notes, config.verbose);
    if config.store_firewalld {
        firewalld::store(Path::new(DIRECT_XML), &plan).map_err(|error| {
            Failure::Other(format!("{error}; the rules are in force, but firewalld will not load them again"))
        })?;
    }
    let families = if plan.v6.is_some() { "IPv4 and IPv6" } else { "IPv4" };
    tell(&report, config.verbose, &format!("transparent proxy installed for {families}"))
}

/// What kumactl prints: the rules, and firewalld's document where it is to be stored.
fn dry_run_text(plan: &Plan) -> String {
    let mut text = render::iptables::plan(plan);
    if plan.config.store_firewalld {
        text.push('\n');
        text.push_str(&render::firewalld::plan(plan));
    }
    text
}

pub(crate) fn uninstall(matches: &ArgMatches) -> Result<(), Failure> {
    let name = host::asked(matches)?.unwrap_or(EngineName::Iptables);
    input::no_other_words(matches)?;
    let on = |name: &str| matches.get_one::<String>(name).is_some_and(|value| value == "true");
    if on("ebpf-enabled") {
        return Err(Failure::Usage("--ebpf-enabled: the eBPF engine is not part of this version; leave it out".into()));
    }
    // Of the configuration, only which programs to use and how to wait for them matters here.
    let mut layers = Layers::new();
    layers.environment(input::environment());
    let (mut config, _) = layers.finish()?;
    (config.dry_run, config.verbose) = (on("dry-run"), on("verbose"));
    if !config.dry_run && name == EngineName::Iptables {
        host::must_be_root("remove the rules")?;
    }
    let direct = Path::new(DIRECT_XML);
    let mut report = host::engine(name)?.uninstall(&config)?;
    if !config.dry_run {
        if firewalld::unstore(direct)? {
            report.step(format!("removed our entries from {DIRECT_XML}"));
        }
        resolv_backup::restore(Path::new("/etc"), &mut report)?;
    }
    warn(&report.notes, config.verbose);
    let summary = match (config.dry_run, report.steps.is_empty()) {
        (true, false) => "nothing was changed",
        (false, false) => "transparent proxy removed",
        (_, true) => "no transparent proxy is installed",
    };
    tell(&report, config.verbose || config.dry_run, summary)
}

pub(crate) fn render(matches: &ArgMatches) -> Result<(), Failure> {
    let (mut config, notes) = input::config(matches)?;
    warn(&notes, config.verbose);
    config.dry_run = true;
    let facts = match matches.get_one::<String>("facts") {
        Some(path) => read_facts(path)?,
        None => host::facts(&config, &Iptables::default())?,
    };
    let plan = policy::plan(&config, &facts)?;
    warn(&plan.notes, config.verbose);
    print(&match matches.get_one::<String>("format").map(String::as_str) {
        Some("nft") => render::nft::plan(&plan),
        Some("json") => render::json::plan(&plan),
        Some("firewalld") => render::firewalld::plan(&plan),
        _ => render::iptables::plan(&plan),
    })
}

fn read_facts(path: &str) -> Result<Facts, Failure> {
    serde_json::from_str(&input::read(path)?).map_err(|error| Failure::Usage(format!("--facts {path}: {error}")))
}

pub(crate) fn translate(matches: &ArgMatches) -> Result<(), Failure> {
    let text = input::read("-")?;
    print(&match matches.get_one::<String>("to").map(String::as_str) {
        Some("nft") => nft(&text)?,
        Some("json") => save::to_json(&text)?,
        _ => firewalld::translate(&text)?,
    })
}

/// The nft script of an iptables-restore text.
fn nft(text: &str) -> Result<String, Error> {
    fn script<F: Family>(text: &str) -> Result<String, Error> {
        let saved = save::parse::<F>(text)?;
        Ok(render::nft::ruleset(&saved.ruleset()?))
    }
    let texts = save::families(text);
    let v4 = texts.v4.as_deref().map(script::<V4>).transpose()?;
    let v6 = texts.v6.as_deref().map(script::<V6>).transpose()?;
    Ok([v4, v6].into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

pub(crate) fn validate(matches: &ArgMatches) -> Result<(), Failure> {
    let mut wrong = Vec::new();
    for path in matches.get_many::<String>("file").into_iter().flatten() {
        let mut layers = Layers::new();
        layers.document(path, &input::read(path)?, Format::Yaml);
        match layers.finish() {
            Ok((_, notes)) => {
                warn(&notes, false);
                print(&format!("{path}: valid\n"))?;
            }
            Err(error) => wrong.extend(error.to_string().lines().map(|line| format!("{path}: {line}"))),
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(Failure::Usage(wrong.join("\n"))),
    }
}

pub(crate) fn completion(matches: &ArgMatches, mut command: Command) -> Result<(), Failure> {
    if let Some(shell) = matches.get_one::<clap_complete::Shell>("shell") {
        clap_complete::generate(*shell, &mut command, "kumatp", &mut std::io::stdout());
    }
    Ok(())
}

/// Warnings always, other notes if asked for, on standard error.
fn warn(notes: &[Note], verbose: bool) {
    for note in notes {
        match note.severity {
            Severity::Warning => eprintln!("warning: {note}"),
            Severity::Info if verbose => eprintln!("note: {note}"),
            Severity::Info => {}
        }
    }
}

/// What was done, on standard output.
fn tell(report: &Report, verbose: bool, summary: &str) -> Result<(), Failure> {
    let mut text = String::new();
    if verbose {
        text.extend(report.steps.iter().map(|step| format!("{step}\n")));
    }
    text.push_str(summary);
    text.push('\n');
    print(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        // The reader has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Failure::Other(format!("cannot write to standard output: {error}"))),
    }
}
