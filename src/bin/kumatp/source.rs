//! The rules that are asked about.

use clap::ArgMatches;
use kumatp::config::Config;
use kumatp::engine::EngineName;
use kumatp::net::{Family, FamilyName, Uid, V4, V6};
use kumatp::save::{self, Saved};
use kumatp::simulate::{AnyPacket, Simulator};
use kumatp::{Error, Facts, Plan, policy};

use crate::commands::warn;
use crate::host::Target;
use crate::{Failure, flags, input};

/// Where rules come from; a [`Simulator`] borrows them.
pub(crate) enum Source {
    /// A plan, as an engine would make it work.
    Plan(Box<Plan>, EngineName),
    /// Text of iptables-save, and the user that the sidecar runs as.
    Saved(Option<Saved<V4>>, Option<Saved<V6>>, Uid),
}

impl Source {
    /// The rules that `explain` asks about.
    pub(crate) fn of(matches: &ArgMatches, packet: &AnyPacket) -> Result<Self, Failure> {
        if let Some(files) = matches.get_many::<String>("rules") {
            let saved = Self::saved(matches, files)?;
            return match (&saved, packet.family()) {
                (Self::Saved(None, ..), FamilyName::V4) | (Self::Saved(_, None, _), FamilyName::V6) => {
                    Err(Failure::Usage(format!(
                        "--rules: no rules for {0}, which the packet is of; give what {1} prints as well",
                        packet.family(),
                        if packet.family() == FamilyName::V6 { "ip6tables-save" } else { "iptables-save" },
                    )))
                }
                _ => Ok(saved),
            };
        }
        let (mut config, notes) = input::layered(matches, None)?;
        warn(&notes, config.verbose);
        config.dry_run = true;
        let target = Target::of(matches, EngineName::Netlink)?;
        let facts = target.facts(&config, &*target.engine()?)?;
        Self::plan(&config, &facts, target.engine)
    }

    /// The rules that these files have, which are not the configuration's.
    fn saved<'a>(matches: &ArgMatches, files: impl Iterator<Item = &'a String>) -> Result<Self, Failure> {
        if let Some(flag) = flags::given(matches, &["kuma-dp-user", "verbose"]) {
            return Err(Failure::Usage(format!(
                "--{flag} and --rules exclude each other: the rules are the configuration's or those of the text"
            )));
        }
        let (mut v4, mut v6) = (None, None);
        for file in files {
            let text = save::families(&input::read(file)?);
            let named = |error: Error| {
                let lines = error.to_string();
                let lines: Vec<_> = lines.lines().map(|line| format!("--rules {file}: {line}")).collect();
                Failure::Usage(lines.join("\n"))
            };
            add(&mut v4, text.v4).map_err(named)?;
            add(&mut v6, text.v6).map_err(named)?;
        }
        let (config, _) = input::layered(matches, None)?;
        let sidecar = match config.kuma_dp_user.as_deref().map(str::parse::<Uid>) {
            None => Uid::SIDECAR,
            Some(Ok(uid)) => uid,
            // The rules may be another host's.
            Some(Err(error)) => {
                return Err(Failure::Usage(format!(
                    "{}, if the rules are those of a text",
                    error.at("--kuma-dp-user")
                )));
            }
        };
        Ok(Self::Saved(v4, v6, sidecar))
    }

    /// The rules that `diff` compares.
    pub(crate) fn two(matches: &ArgMatches, a: &str, b: &str) -> Result<(Self, Self), Failure> {
        let target = Target::of(matches, EngineName::Netlink)?;
        let (mut a, notes) = input::layered(matches, Some(a))?;
        warn(&notes, a.verbose);
        let (mut b, more) = input::layered(matches, Some(b))?;
        // What is wrong with the environment has been said.
        let more: Vec<_> = more.into_iter().filter(|note| !notes.contains(note)).collect();
        warn(&more, b.verbose);
        (a.dry_run, b.dry_run) = (true, true);
        let (facts, others) = target.facts_of_both(&a, &b)?;
        Ok((Self::plan(&a, &facts, target.engine)?, Self::plan(&b, &others, target.engine)?))
    }

    fn plan(config: &Config, facts: &Facts, engine: EngineName) -> Result<Self, Failure> {
        let plan = policy::plan(config, facts)?;
        warn(&plan.notes, config.verbose);
        Ok(Self::Plan(Box::new(plan), engine))
    }

    pub(crate) fn simulator(&self) -> Result<Simulator<'_>, Failure> {
        Ok(match self {
            Self::Plan(plan, engine) => Simulator::of(plan, *engine),
            Self::Saved(v4, v6, sidecar) => Simulator::of_saved(v4.as_ref(), v6.as_ref())?.with_sidecar(*sidecar),
        })
    }
}

/// Adds the tables of a text to those of the texts before it.
fn add<F: Family>(saved: &mut Option<Saved<F>>, text: Option<String>) -> Result<(), Error> {
    let Some(text) = text else { return Ok(()) };
    let more = save::parse::<F>(&text)?;
    match saved {
        None => *saved = Some(more),
        Some(saved) => saved.tables.extend(more.tables),
    }
    Ok(())
}
