//! Putting rules in force and taking them away.

use std::path::Path;

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::{Report, Status, ebpf, install_all, replace_all_by, resolv_backup, state, uninstall_all};
use kumatp::model::{EngineName, Note, Plan, Severity};
use kumatp::{Error, Facts, firewalld, policy, render};

use super::{print, warn};
use crate::host::Target;
use crate::{Failure, configuration, flags, input, output, pod};

/// Where firewalld keeps its direct rules.
const DIRECT_XML: &str = "/etc/firewalld/direct.xml";

/// The last line of kumactl's standard output after an installation. Scripts and Kuma's own instructions look for it.
const SETUP_DONE: &str = "# transparent proxy setup completed successfully. You can now run kuma-dp with the transparent-proxy \
                          feature enabled";

/// The same after a removal.
const CLEANUP_DONE: &str = "# transparent proxy cleanup completed successfully";

pub(crate) fn install(matches: &ArgMatches) -> Result<(), Failure> {
    let (config, notes) = configuration::config(matches)?;
    warn(&notes, config.verbose);
    let target = target(matches, &config)?;
    if !config.dry_run {
        target.must_be_allowed("install the rules")?;
    }
    if config.dry_run {
        let plan = policy::plan(&config, &target.facts_for_a_question(&config)?)?;
        warn(&plan.notes, config.verbose);
        note_unneeded(matches, &target);
        return dry_run(&target, &plan);
    }
    let (plan, reports) = replace_all(&target, &config)?;
    reports.iter().for_each(|report| warn(&report.notes, config.verbose));
    match &reports[..] {
        [_, by_programs] if by_programs.steps.is_empty() => output::say(
            "note: the iptables programs were run to look for rules that only they can remove; none are left",
        ),
        [_, by_programs] => output::say(format!(
            "note: the iptables programs were run, since only they can remove this: {}",
            by_programs.steps.join(", ")
        )),
        _ => note_unneeded(matches, &target),
    }
    if pod::is_given(matches) {
        verify(&target, &plan)?;
    }
    if config.store_firewalld {
        firewalld::store(direct_xml(), &plan).map_err(|error| {
            Failure::Other(format!("{error}; the rules are active, but firewalld will not load them again"))
        })?;
    }
    let families = if plan.v6.is_some() { "IPv4 and IPv6" } else { "IPv4" };
    let what = if target.engine == EngineName::Ebpf { "programs" } else { "rules" };
    let done = match reports.iter().any(|report| report.changed) {
        true => format!("transparent proxy installed for {families}"),
        false => format!("unchanged: these {what} for {families} were already active"),
    };
    let scripts = input::stands_in_for_kumactl(matches).then_some(SETUP_DONE);
    tell(&reports, config.verbose, &done, scripts)
}

/// Plans and installs, and warns of what the plan has to say.
fn replace_all(target: &Target, config: &Config) -> Result<(Plan, Vec<Report>), Failure> {
    let namespace = target.namespace()?;
    // What there is to say about the plan is said, too, where it cannot be carried out.
    let mut said = Vec::new();
    let mut make = |facts: &Facts| {
        let plan = policy::plan(config, facts)?;
        said.clone_from(&plan.notes);
        Ok(plan)
    };
    let done = match target.given_facts()? {
        Some(facts) => make(&facts).and_then(|plan| {
            let reports = replace_all_by(target.engine, &plan, namespace.as_ref())?;
            Ok((plan, reports))
        }),
        None => install_all(target.engine, &config.options(), &policy::facts_needed(config), namespace.as_ref(), make),
    };
    warn(&said, config.verbose);
    Ok(done?)
}

/// Looks whether exactly these rules are in force, before anybody lets a pod start that relies on them.
fn verify(target: &Target, plan: &Plan) -> Result<(), Failure> {
    let wrong = match state(Some(plan), target.namespace()?.as_ref())?.status {
        Status::Current => return Ok(()),
        Status::Absent => "there are none".to_owned(),
        Status::Drifted { differences } => differences.join("; "),
        Status::Uncompared { reason } => format!("they cannot be compared: {reason}"),
        other => format!("{other:?}"),
    };
    Err(Failure::Other(format!("the rules of the pod are not active: {wrong}")))
}

/// The engine to install with, and what there is to say about the choice.
fn target(matches: &ArgMatches, config: &Config) -> Result<Target, Failure> {
    // What kumactl prints in a dry run is text for iptables-restore, and firewalld's direct rules are
    // rules of iptables.
    let usual = match config.dry_run || config.store_firewalld {
        true => EngineName::Iptables,
        false => EngineName::Netlink,
    };
    let target = Target::for_config(matches, config, usual)?;
    for remark in flags::remarks(matches, target.engine == EngineName::Ebpf) {
        output::say(format_args!("note: {remark}"));
    }
    if config.store_firewalld && target.engine == EngineName::Netlink {
        return Err(Failure::Usage(
            "--store-firewalld: firewalld stores rules of iptables only; leave it out, or use --engine iptables".into(),
        ));
    }
    if config.store_firewalld && !target.asked && !config.dry_run {
        output::say("note: --store-firewalld selects the engine iptables, whose rules firewalld can load again");
    }
    Ok(target)
}

/// Says which flags are about programs, where none were run.
fn note_unneeded(matches: &ArgMatches, target: &Target) {
    let of_programs = ["wait", "wait-interval", "max-retries", "sleep-between-retries", "iptables-executables"];
    let given = of_programs.into_iter().filter(|flag| matches.contains_id(flag));
    for flag in given.filter(|_| target.engine != EngineName::Iptables) {
        output::say(format_args!("note: --{flag}: not needed, since no iptables program was run"));
    }
}

/// Prints the rules: as kumactl does, or for the engine that was asked for by name.
fn dry_run(target: &Target, plan: &Plan) -> Result<(), Failure> {
    let checked = match target.engine {
        EngineName::Netlink => {
            print(&render::nft::plan(plan))?;
            Some(("rules", target.netlink()?.check(plan)))
        }
        EngineName::Ebpf => {
            print(&ebpf::preview(plan)?)?;
            Some(("programs", target.ebpf()?.check(plan)))
        }
        _ => None,
    };
    if let Some((what, checked)) = checked {
        match checked {
            Ok(()) => output::say(format_args!("checked: the kernel would take these {what}")),
            Err(error @ Error::Permission { .. }) => output::say(format_args!("not checked: {error}")),
            Err(error) => return Err(error.into()),
        }
        return Ok(());
    }
    let mut text = render::iptables::plan(plan);
    if plan.options.store_firewalld {
        text.push('\n');
        text.push_str(&render::firewalld::plan(plan));
    }
    print(&text)
}

pub(crate) fn uninstall(matches: &ArgMatches) -> Result<(), Failure> {
    input::no_other_words(matches)?;
    let on = |name: &str| matches.get_one::<String>(name).is_some_and(|value| value == "true");
    // Of the configuration, only which programs to use, how to wait for them, and where eBPF programs are matters here.
    let mut config = configuration::of_engines(matches)?;
    (config.dry_run, config.verbose) = (on("dry-run"), on("verbose"));
    let mut target = Target::of(matches, EngineName::Netlink)?;
    // A variable that asks for the engine does not keep the rules of other programs in force.
    if matches.contains_id("ebpf-enabled") && config.ebpf.enabled {
        target = Target::for_config(matches, &config, EngineName::Ebpf)?;
    }
    let reports = match target.asked {
        true => {
            if !config.dry_run {
                target.must_be_allowed("remove the rules")?;
            }
            target.engine()?.uninstall(&config.options()).map(|report| vec![report])
        }
        false => uninstall_all(&config.options(), target.namespace()?.as_ref()),
    };
    // What fails keeps nothing else in place.
    let mut failures = Vec::new();
    let mut reports = reports.unwrap_or_else(|error| {
        failures.push(error);
        Vec::new()
    });
    let refused = failures.iter().any(|error| matches!(error.decisive(), Error::Permission { .. }));
    // The files of this host have nothing to do with the rules of another namespace.
    if !config.dry_run && !target.elsewhere() {
        let mut files = Report::new(target.engine);
        match firewalld::unstore(direct_xml()) {
            Ok(true) => files.step(format!("removed our entries from {DIRECT_XML}")),
            Ok(false) => {}
            // Whoever may not change rules is told that.
            Err(Error::Os { errno: Some(nix::libc::EACCES | nix::libc::EPERM), .. }) if refused => {}
            Err(Error::Os { errno: Some(nix::libc::EACCES | nix::libc::EPERM), message, .. }) => {
                let text = format!("cannot look for rules that firewalld would load again: {message}");
                files.notes.push(Note::warning(DIRECT_XML, text));
            }
            Err(error) => failures.push(error),
        }
        failures.extend(resolv_backup::restore(Path::new("/etc"), &mut files).err());
        reports.push(files);
    }
    reports.iter().for_each(|report| warn(&report.notes, config.verbose));
    let summary = match (config.dry_run, reports.iter().all(|report| report.steps.is_empty())) {
        (true, false) => "nothing was changed",
        (false, false) => "transparent proxy removed",
        (_, true) if target.asked || reports.iter().any(leaves_open) => "found nothing to remove",
        (_, true) => "no transparent proxy is installed",
    };
    match failures.len() {
        0 => {}
        1 => return Err(failures.remove(0).into()),
        _ => return Err(Error::Several(failures).into()),
    }
    // As of kumactl, nothing is said to scripts of what was not done.
    let scripts = (input::stands_in_for_kumactl(matches) && !config.dry_run).then_some(CLEANUP_DONE);
    tell(&reports, config.verbose || config.dry_run, summary, scripts)
}

/// Whether the report of a part does not say that there is nothing: by a warning, or since nobody could look for eBPF programs, of
/// which there is a report only then.
fn leaves_open(report: &Report) -> bool {
    report.engine == EngineName::Ebpf || report.notes.iter().any(|note| note.severity == Severity::Warning)
}

/// What was done, on standard output; at last, the line that scripts look for.
fn tell<'a>(
    reports: impl IntoIterator<Item = &'a Report>,
    steps: bool,
    summary: &str,
    scripts: Option<&str>,
) -> Result<(), Failure> {
    let mut text = String::new();
    if steps {
        text.extend(reports.into_iter().flat_map(|report| &report.steps).map(|step| format!("{step}\n")));
    }
    output::report(&text, summary, scripts)
}

fn direct_xml() -> &'static Path {
    Path::new(DIRECT_XML)
}
