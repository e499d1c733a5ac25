//! The rules that are asked about.

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::config::kubernetes::Origin;
use kumatp::iptables_save::SavedFamilies;
use kumatp::model::{self, EngineName, Note};
use kumatp::net::FamilyName;
use kumatp::simulate::{AnyPacket, Planned, Simulator};
use kumatp::{Facts, Plan, policy};

use crate::configuration::{self, Traced};
use crate::host::{Earlier, Live, Target};
use crate::output::{self, warn};
use crate::{Failure, flags, input};

/// The word for what is installed, among files.
const LIVE: &str = "live";

/// Where rules come from; a [`Simulator`] borrows them.
pub(crate) enum RulesSource {
    /// A plan, as an engine would make it work, and where what is a pod's came from.
    Plan(Box<Plan>, EngineName, Vec<Origin>),
    /// A plan as an engine installs it.
    Planned(Box<Planned>),
    /// Text of iptables-save.
    Saved(SavedFamilies),
    /// What is installed, everybody's.
    Live(Box<Live>),
    /// What is installed, without the rules of other programs.
    LiveOurs(Box<Live>),
}

impl RulesSource {
    /// The rules that `explain` asks about.
    pub(crate) fn of(matches: &ArgMatches, packet: &AnyPacket) -> Result<Self, Failure> {
        let files = matches.get_many::<String>("rules");
        let live = matches.get_flag(LIVE);
        if let (Some(flag), true) = (flags::given(matches), live || files.is_some()) {
            return Err(Failure::Usage(format!(
                "--{flag} and --{} exclude each other: the question is what the rules of the configuration would do, or \
                 what those do that are there",
                if live { LIVE } else { "rules" }
            )));
        }
        match files {
            Some(files) => Self::saved(files, packet.family()),
            None if live => Self::live(&Target::of(matches, EngineName::Netlink)?),
            None => {
                let mut said = Vec::new();
                let Traced { config, origins, .. } = config(matches, None, &mut said)?;
                let target = Target::for_config(matches, &config, EngineName::Netlink)?;
                let facts = target.facts_for_a_question(&config)?;
                Ok(Self::Plan(Box::new(plan(&config, &facts, &mut said)?), target.engine, origins))
            }
        }
    }

    /// The rules that `diff` compares.
    pub(crate) fn two(matches: &ArgMatches, a: &str, b: &str) -> Result<(Self, Self), Failure> {
        let target = Target::of(matches, EngineName::Netlink)?;
        match (a, b) {
            (LIVE, LIVE) => Err(Failure::Usage(
                "live is given twice: give a configuration to compare it with, or ./live for a file of that name"
                    .into(),
            )),
            (LIVE, file) => Self::live_and_planned(matches, target, file),
            (file, LIVE) => Self::live_and_planned(matches, target, file).map(|(live, planned)| (planned, live)),
            _ => {
                let mut said = Vec::new();
                let (a, b) = (config(matches, Some(a), &mut said)?.config, config(matches, Some(b), &mut said)?.config);
                if target.facts_are_given() && a.kuma_dp_user != b.kuma_dp_user {
                    output::say("note: kumaDPUser is different, but --facts says who the sidecar is for both");
                }
                let (facts, others) = target.facts_of_both(&a, &b)?;
                let mut planned = |config, facts| {
                    let engine = Target::for_config(matches, config, EngineName::Netlink)?.engine;
                    Ok::<_, Failure>(Self::Plan(Box::new(plan(config, facts, &mut said)?), engine, Vec::new()))
                };
                Ok((planned(&a, &facts)?, planned(&b, &others)?))
            }
        }
    }

    /// What is installed, and what a file asks for: in the form of what is installed, if no other was asked for.
    fn live_and_planned(matches: &ArgMatches, mut target: Target, file: &str) -> Result<(Self, Self), Failure> {
        let mut said = Vec::new();
        let config = config(matches, Some(file), &mut said)?.config;
        let live = target.live()?;
        warn(live.notes(), config.verbose);
        warn(&live.earlier_note().into_iter().collect::<Vec<_>>(), config.verbose);
        if config.ebpf.enabled {
            target.engine = EngineName::Ebpf;
        } else if !target.asked {
            target.engine = live.engine().unwrap_or(target.engine);
        }
        let facts = target.facts_for_a_question(&config)?;
        let plan = plan(&config, &facts, &mut said)?;
        Ok((Self::LiveOurs(Box::new(live)), Self::Planned(Box::new(Planned::by(target.engine, plan)))))
    }

    /// What is installed, everybody's.
    fn live(target: &Target) -> Result<Self, Failure> {
        let live = target.live()?;
        warn(&live.unknown(), true);
        Ok(Self::Live(Box::new(live)))
    }

    /// The rules that files have for a family.
    fn saved<'a>(files: impl Iterator<Item = &'a String>, family: FamilyName) -> Result<Self, Failure> {
        let mut saved = SavedFamilies::default();
        for file in files {
            saved.add(&input::read(file)?).map_err(|error| {
                let lines = error.to_string();
                let lines: Vec<_> = lines.lines().map(|line| format!("--rules {file}: {line}")).collect();
                Failure::Usage(lines.join("\n"))
            })?;
        }
        let program = match family {
            _ if saved.has(family) => return Ok(Self::Saved(saved)),
            FamilyName::V4 => "iptables-save",
            FamilyName::V6 => "ip6tables-save",
        };
        Err(Failure::Usage(format!(
            "--rules: there are no rules for {family}, which the packet is of; give what {program} prints as well"
        )))
    }

    /// The nat chains of other programs that come before ours, of what is installed.
    pub(crate) fn earlier(&self) -> Vec<Earlier> {
        match self {
            Self::LiveOurs(live) => live.earlier(),
            _ => Vec::new(),
        }
    }

    /// Who asked for what a key says: the annotation of a pod, or whatever else it came from; none where that is the default, or is
    /// not known.
    pub(crate) fn asked_by(&self, key: model::Origin) -> Option<String> {
        let Self::Plan(_, _, origins) = self else { return None };
        let origin = origins.iter().find(|origin| origin.key == key.key)?;
        Some(origin.asked_by(key.index)).filter(|source| source.is_set()).map(ToString::to_string)
    }

    pub(crate) fn simulator(&self) -> Result<Simulator<'_>, Failure> {
        Ok(match self {
            Self::Plan(plan, engine, _) => Simulator::of(plan, *engine),
            Self::Planned(planned) => planned.simulator(),
            Self::Saved(saved) => Simulator::of_saved(saved.v4.as_ref(), saved.v6.as_ref())?,
            Self::Live(live) => live.simulator()?,
            Self::LiveOurs(live) => live.simulator_of_ours()?,
        })
    }
}

/// The configuration of files, environment and flags, of which nothing is installed. Notes are said that have not been.
fn config(matches: &ArgMatches, file: Option<&str>, said: &mut Vec<Note>) -> Result<Traced, Failure> {
    let mut traced = configuration::traced(matches, file)?;
    say(std::mem::take(&mut traced.notes), traced.config.verbose, said);
    traced.config.dry_run = true;
    Ok(traced)
}

fn plan(config: &Config, facts: &Facts, said: &mut Vec<Note>) -> Result<Plan, Failure> {
    let plan = policy::plan(config, facts)?;
    say(plan.notes.clone(), config.verbose, said);
    Ok(plan)
}

fn say(mut notes: Vec<Note>, verbose: bool, said: &mut Vec<Note>) {
    notes.retain(|note| !said.contains(note));
    warn(&notes, verbose);
    said.append(&mut notes);
}
