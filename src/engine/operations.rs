//! The operations of the engines on the host that this process runs on: each in its turn, and with one way to the kernel.

use super::backend::Backend;
use super::by_name::by_name;
use super::contract::Engine;
#[cfg(feature = "ebpf")]
use super::ebpf::Ebpf;
use super::iptables::{self, Iptables};
use super::netlink::Netlink;
use super::presuming::first_presuming;
use super::reader::Reader;
use super::report::Report;
#[cfg(feature = "cni")]
use super::status::Status;
use super::takeover::{Backends, Programs};
use super::turn::Turn;
use crate::error::Error;
use crate::facts::{self, Facts, HostAbilities, Request};
use crate::model::{EngineName, Options, Plan};
use crate::netlink::Kernel;
use crate::netns::{self, Namespace};

/// The back ends of this host, for one operation.
pub(super) struct Here {
    netlink: Netlink,
    iptables: iptables::Programs,
    #[cfg(feature = "ebpf")]
    ebpf: Ebpf,
}

impl Here {
    /// With the programs that an engine looks for.
    fn of(iptables: &Iptables) -> Self {
        Self {
            netlink: Netlink::default(),
            iptables: iptables.programs(),
            #[cfg(feature = "ebpf")]
            ebpf: Ebpf::default(),
        }
    }

    pub(super) fn new() -> Self {
        Self::of(&Iptables::default())
    }

    /// The same in this turn, which the programs hold on to.
    fn in_turn(mut self, turn: &Turn) -> Self {
        self.iptables = self.iptables.in_turn(turn);
        self
    }

    /// Those that read rules, in the order in which their notes are given.
    pub(super) fn readers(&self) -> impl Iterator<Item = &dyn Reader> {
        #[cfg(feature = "ebpf")]
        let ebpf: Option<&dyn Reader> = Some(&self.ebpf);
        #[cfg(not(feature = "ebpf"))]
        let ebpf = None;
        let rules: [&dyn Reader; 2] = [&self.netlink, &self.iptables];
        rules.into_iter().chain(ebpf)
    }

    pub(super) fn backends(&self) -> Backends<'_, Kernel> {
        Backends {
            netlink: &self.netlink,
            iptables: &self.iptables,
            #[cfg(feature = "ebpf")]
            ebpf: Some(&self.ebpf),
            #[cfg(not(feature = "ebpf"))]
            ebpf: None,
        }
    }
}

/// Does something by one engine in its turn, in the network namespace of the calling thread.
fn alone<T>(
    engine: EngineName,
    here: Here,
    dry_run: bool,
    work: impl FnOnce(Backends<'_, Kernel>, &mut Kernel, Report) -> Result<T, Error>,
) -> Result<T, Error> {
    let mut report = Report::new(engine);
    let turn = Turn::take_unless(dry_run, &mut report)?;
    work(here.in_turn(&turn).backends(), &mut Kernel::default(), report)
}

/// What happens to what only the programs of iptables can remove, if an engine does not run them.
fn spared(allowed: bool) -> Programs {
    if allowed { Programs::Spared } else { Programs::Refused }
}

impl Engine for Netlink {
    fn name(&self) -> EngineName {
        EngineName::Netlink
    }

    /// Rehearses rules of every kind that a plan can have: the kernel looks whether it could make them,
    /// and does not. That may load modules of the kernel.
    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| Self::abilities_in(config))
    }

    /// The kernel that carries a plan out is the one that would be asked, and the question takes longer than the installation.
    fn presumed(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| Backend::presumed(self, &mut Kernel::default(), config))
    }

    /// One batch for both families. If exactly these rules are there, nothing is sent.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        let name = EngineName::Netlink;
        self.run(|| {
            alone(name, Here::new(), false, |all, kernel, report| {
                Ok(all.install(kernel, name, plan, spared(self.legacy_leftovers_allowed), report)?.0)
            })
        })
    }

    /// Removes our tables and what installations by iptables-nft have, ours or kumactl's: both are in nf_tables. What is in tables of
    /// iptables-legacy stays, and a note says so; `::6` stays where an installation of another engine needs it. Where a part cannot be removed, the others are, and
    /// the error has all that stays.
    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        let name = EngineName::Netlink;
        self.run(|| {
            alone(name, Here::new(), config.dry_run, |all, kernel, report| all.uninstall(kernel, name, config, report))
        })
    }
}

impl Netlink {
    /// What older installations left that only the iptables programs can remove, one item each, for
    /// people: rules in tables of iptables-legacy, and rules without a comment that were noted down.
    /// What cannot be looked at is not in it; [`apply`](Engine::apply) has a warning then.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    pub fn left_to_iptables(&self) -> Result<Vec<String>, Error> {
        self.run(|| Ok(Here::new().backends().left_to_iptables(&mut Kernel::default())))
    }

    /// Finds out what is needed, installs, and looks what is in force then: all in one turn and by one way to the kernel, in the
    /// network namespace of the calling thread. `plan` makes the plan from the facts; it is called once or twice.
    ///
    /// # Errors
    /// As [`presuming`](crate::engine::presuming), [`facts::probe`] and [`apply`](Engine::apply).
    #[cfg(feature = "cni")]
    pub(crate) fn install(
        &self,
        config: &Options,
        needed: &Request,
        mut plan: impl FnMut(Facts) -> Result<Plan, Error>,
    ) -> Result<(Plan, Report, Status), Error> {
        let name = EngineName::Netlink;
        alone(name, Here::new(), false, |all, kernel, waited| {
            let presumed = Backend::presumed(self, kernel, config)?;
            let (plan, report) = first_presuming(
                presumed,
                || Self::abilities_in(config),
                |found| {
                    let plan = plan(facts::probe_by(kernel, needed, found)?)?;
                    let (report, _) = all.install(kernel, name, &plan, Programs::Refused, waited.clone())?;
                    Ok((plan, report))
                },
            )?;
            let status = Self::status_in(kernel, &plan)?;
            Ok((plan, report, status))
        })
    }
}

impl Engine for Iptables {
    fn name(&self) -> EngineName {
        EngineName::Iptables
    }

    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| self.abilities_in(&mut Kernel::default(), config))
    }

    /// What the kernel says, without a program; the programs are taken to have their part of it.
    fn presumed(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| self.programs().presumed(&mut Kernel::default(), config))
    }

    /// One text for each family. What was put in force before a part is refused, another table or the other family, is put back as
    /// it was. What an older installation left in the other mode, in IPv6 where none is wanted now, or
    /// in the tables of the netlink engine, is removed once the new rules are in force.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        let name = EngineName::Iptables;
        self.run(|| {
            alone(name, Here::of(self), false, |all, kernel, report| {
                Ok(all.install(kernel, name, plan, Programs::Run, report)?.0)
            })
        })
    }

    /// Looks in both families and both modes, as far as there are programs for them. `::6` stays where an installation of another
    /// engine needs it.
    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        let name = EngineName::Iptables;
        self.run(|| {
            alone(name, Here::of(self), config.dry_run, |all, kernel, report| {
                all.uninstall(kernel, name, config, report)
            })
        })
    }
}

impl Iptables {
    /// Removes the rules and chains of all installations by iptables, ours or kumactl's, of both
    /// modes, as far as there are programs for them: what another engine has taken the place of. `::6`
    /// on the loopback interface stays, as that engine needs it.
    ///
    /// # Errors
    /// If something could not be removed.
    pub fn remove_leftovers(&self, config: &Options) -> Result<Report, Error> {
        self.run(|| {
            alone(EngineName::Iptables, Here::of(self), config.dry_run, |all, kernel, report| {
                all.remove_leftovers(kernel, config, report)
            })
        })
    }
}

#[cfg(feature = "ebpf")]
impl Engine for Ebpf {
    fn name(&self) -> EngineName {
        EngineName::Ebpf
    }

    /// Loads the programs, and lets them go again.
    fn abilities(&self, config: &Options) -> Result<HostAbilities, Error> {
        self.run(|| self.abilities_in(config))
    }

    /// What another engine has installed is removed once the programs are in force, except for what only the iptables programs can
    /// remove: rules in tables of iptables-legacy are a conflict, and rules without comments that were noted down stay, with a
    /// warning.
    fn apply(&self, plan: &Plan) -> Result<Report, Error> {
        let name = EngineName::Ebpf;
        self.run(|| {
            alone(name, Here::new(), false, |all, kernel, report| {
                let all = Backends { ebpf: Some(self), ..all };
                Ok(all.install(kernel, name, plan, spared(self.legacy_leftovers_allowed), report)?.0)
            })
        })
    }

    fn uninstall(&self, config: &Options) -> Result<Report, Error> {
        let name = EngineName::Ebpf;
        self.run(|| {
            alone(name, Here::new(), config.dry_run, |all, kernel, report| {
                Backends { ebpf: Some(self), ..all }.uninstall(kernel, name, config, report)
            })
        })
    }
}

/// [`replace_all_by`] netlink.
///
/// # Errors
/// As [`replace_all_by`].
pub fn replace_all(plan: &Plan, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    replace_all_by(EngineName::Netlink, plan, namespace)
}

/// Installs by an engine in the network namespace of the calling thread or in another one, and then has
/// the iptables programs remove what the engine cannot: an older installation, ours or kumactl's, in the
/// tables of iptables-legacy, and rules without comments that were noted down. Engines other than
/// [`Iptables`] run programs only if there is something to remove so.
///
/// One report for each engine that was at work.
///
/// # Errors
/// As the engine's [`apply`](super::Engine::apply). [`Error::Conflict`] if the new rules are in force
/// and the older ones could not be removed.
pub fn replace_all_by(engine: EngineName, plan: &Plan, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    netns::run(namespace, || {
        // Until the old rules are gone: whoever comes in between would lose what it has installed.
        alone(engine, Here::new(), false, |all, kernel, report| {
            let (report, cleared) = all.install(kernel, engine, plan, Programs::Run, report)?;
            Ok([report].into_iter().chain(cleared).collect())
        })
    })
}

/// Looks at the host, plans and installs: what [`presuming`](super::presuming), [`facts::probe`] and [`replace_all_by`] do one
/// after the other, in one turn and with one look at each fact. Nobody installs in between, and nothing is read twice.
///
/// `needed` is which facts the plan needs, and `plan` makes it from them. It is called once, and once more where the host refuses what it was presumed to have.
///
/// ```no_run
/// use kumatp::engine::install_all;
/// use kumatp::model::EngineName;
/// use kumatp::{Config, policy};
///
/// let config = Config::default();
/// let needed = policy::facts_needed(&config);
/// let (plan, reports) = install_all(EngineName::Netlink, &config.options(), &needed, None, |facts| policy::plan(&config, facts))?;
/// println!("{:?}: {}", plan.notes, reports.iter().any(|report| report.changed));
/// # Ok::<(), kumatp::Error>(())
/// ```
///
/// # Errors
/// Those of `plan`, of [`facts::probe`] and of [`replace_all_by`].
pub fn install_all(
    engine: EngineName,
    config: &Options,
    needed: &Request,
    namespace: Option<&Namespace>,
    mut plan: impl FnMut(&Facts) -> Result<Plan, Error> + Send,
) -> Result<(Plan, Vec<Report>), Error> {
    netns::run(namespace, || {
        alone(engine, Here::new(), false, |all, kernel, waited| {
            let presumed = all.of(engine)?.presumed(kernel, config)?;
            first_presuming(
                presumed,
                || by_name(engine, None)?.abilities(config),
                |found| {
                    let plan = plan(&facts::probe_by(kernel, needed, found)?)?;
                    let (report, cleared) = all.install(kernel, engine, &plan, Programs::Run, waited.clone())?;
                    Ok((plan, [report].into_iter().chain(cleared).collect()))
                },
            )
        })
    })
}

/// Removes what any version of ours, or kumactl's, has installed in the network namespace of the
/// calling thread or in another one, and nothing else: first the eBPF programs (in builds with them), then the rules, by
/// netlink and, what is left, by the iptables programs. Of the configuration only what concerns the engines themselves matters, as with
/// [`Engine::uninstall`](super::Engine::uninstall).
///
/// One report for each engine. Where an engine cannot be used, its report says why: on a host without
/// iptables programs or without nf_tables, there is usually nothing of theirs.
///
/// # Errors
/// If something could not be removed, or no engine can be used. What can be removed has been then; the error has all that is left,
/// and why.
pub fn uninstall_all(config: &Options, namespace: Option<&Namespace>) -> Result<Vec<Report>, Error> {
    netns::run(namespace, || {
        // For all parts: whoever installs in between would lose some of what it has installed, and not all.
        alone(EngineName::Netlink, Here::new(), config.dry_run, |all, kernel, waited| {
            all.uninstall_all(kernel, config, waited)
        })
    })
}
