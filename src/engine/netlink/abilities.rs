//! What the kernel can do, as it says itself.

use nix::libc;

use super::problem;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{
    BuiltinChain, Chain, CtState, IpFamilyMode, Match, Note, Options, Rule, Ruleset, Table, TableName, Target,
    Transport,
};
use crate::net::{Family, FamilyName, InterfacePattern, Port, Uid, V4, V6};
use crate::netlink::{Batch, DOCKER_OUTPUT, Dump, Failure, Kernel, KernelTable, Object, Socket};
use crate::nftables;

/// The table that is rehearsed with. It never comes into being.
const TABLE: &str = "kuma-mesh-rehearsal";

/// What the kernel can do, found out by a rehearsal unless the rules in force show it.
pub(super) fn look(config: &Options) -> Result<HostAbilities, Error> {
    look_by(&mut Kernel::default(), config, |kernel, found| {
        let socket = kernel.netfilter()?;
        if !is_proven(&socket.rules()?, config) {
            rehearse(socket, found)?;
        }
        let native = kernel.netfilter()?.docker()?;
        look_for_docker(kernel, &native, found)
    })
}

/// The same without a rehearsal, for a plan that is carried out at once.
pub(super) fn presumed(kernel: &mut Kernel, config: &Options) -> Result<HostAbilities, Error> {
    match config.dns {
        true => look_by(kernel, config, |kernel, found| {
            let native = kernel.netfilter()?.docker_ahead()?;
            look_for_docker(kernel, &native, found)
        }),
        // Docker's chain matters to the rules of DNS only.
        false => Ok(HostAbilities::default()),
    }
}

fn look_by(
    kernel: &mut Kernel,
    config: &Options,
    look: impl FnOnce(&mut Kernel, &mut HostAbilities) -> Result<(), Error>,
) -> Result<HostAbilities, Error> {
    let mut found = HostAbilities::default();
    match look(kernel, &mut found) {
        Ok(()) => Ok(found),
        // Not being allowed to look is not absence.
        Err(error @ Error::Permission { .. }) => {
            found.remarks.push(Note::info(
                "engine",
                format!("cannot check kernel support; assuming all features are present: {error}"),
            ));
            Ok(found)
        }
        Err(error) if config.dry_run => {
            found.remarks.push(Note::info("engine", format!("the plan is for a host that can do everything: {error}")));
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

fn look_for_docker(kernel: &mut Kernel, native: &[FamilyName], found: &mut HostAbilities) -> Result<(), Error> {
    for (family, abilities) in [(FamilyName::V4, &mut found.v4), (FamilyName::V6, &mut found.v6)] {
        abilities.docker_output = native.contains(&family)
            || kernel.legacy.chain_exists(family, "nat", DOCKER_OUTPUT).unwrap_or_else(|error| {
                found.remarks.push(Note::info(
                    "docker",
                    format!("whether Docker has its DNS chain in the {family} tables of iptables-legacy is not known: {error}"),
                ));
                false
            });
    }
    Ok(())
}

/// Whether the rules in force show that the kernel can do all that this configuration may ask for.
/// Then there is no need for a rehearsal, which takes as long as an installation.
fn is_proven(installed: &Dump, config: &Options) -> bool {
    let zones = config.conntrack_zones;
    FamilyName::ALL
        .into_iter()
        .filter(|family| *family == FamilyName::V4 || config.ip_family_mode != IpFamilyMode::Ipv4)
        .all(|family| {
            installed.of(family).is_some_and(|table| {
                table.has_base_chain("nat_")
                    && (!zones || table.has_base_chain("raw_"))
                    && (!config.drop_invalid_packets || table.has_base_chain("mangle_"))
                    && ["fib", "socket"].into_iter().all(|expression| table.uses(expression))
            })
        })
}

fn rehearse(socket: &mut Socket, found: &mut HostAbilities) -> Result<(), Error> {
    // Both families in one batch: giving a batch up takes the kernel some milliseconds.
    let mut batch = Batch::of_table(TABLE, None);
    for table in [nftables::Table::of(&every_kind::<V4>()), nftables::Table::of(&every_kind::<V6>())] {
        let mut content = KernelTable::of(&table);
        content.add_guards(table.family);
        batch.add(table.family, &content);
    }
    for failure in socket.send(&batch.rehearse())?.failures {
        let Some((family, chain)) = place(&failure) else {
            return Err(match failure.errno {
                libc::EPERM => problem::not_permitted(),
                _ => problem::explain(&failure, 0, None),
            });
        };
        let abilities = match family {
            FamilyName::V4 => &mut found.v4,
            FamilyName::V6 => &mut found.v6,
        };
        match (chain, family) {
            (Some(chain), _) if chain.starts_with("raw_") => abilities.conntrack_zones = false,
            (Some(chain), _) if chain.starts_with("mangle_") => abilities.mangle = false,
            (Some(KernelTable::ADDRESS_TYPES), _) => abilities.address_types = false,
            (Some(KernelTable::SOCKETS), _) => abilities.sockets = false,
            (_, FamilyName::V4) => return Err(problem::explain(&failure, 0, None)),
            (_, FamilyName::V6) => {
                let error = problem::explain(&failure, 0, None);
                found.v6_refused.get_or_insert_with(|| {
                    (format!("the kernel cannot redirect IPv6: {error}"), "load what is missing".to_owned())
                });
            }
        }
    }
    Ok(())
}

/// Which family a failure is about, and which chain; `None` if it is about the batch as a whole.
fn place(failure: &Failure) -> Option<(FamilyName, Option<&str>)> {
    match failure.object.as_ref()? {
        Object::Batch => None,
        Object::Table { family } | Object::Set { family, .. } => Some((*family, None)),
        Object::Chain { family, chain } | Object::Rule { family, chain, .. } => Some((*family, Some(chain))),
        // Nothing of other programs is rehearsed.
        Object::Leftover { .. } => None,
    }
}

/// Rules of every kind that a plan can have.
fn every_kind<F: Family>() -> Ruleset<F> {
    let chain = |chain: BuiltinChain, rules: Vec<Rule<F>>| {
        let mut made = Chain::builtin(chain);
        rules.into_iter().for_each(|rule| made.push(rule));
        made
    };
    let redirect = |conditions: Transport| Rule::new(Target::redirect(Port::DNS)).with(conditions);
    let query = || Transport::udp().to_port(Port::DNS);
    Ruleset::new([
        Table::new(
            TableName::Raw,
            [
                chain(BuiltinChain::Prerouting, vec![Rule::new(Target::Zone { zone: 1 }).with(query())]),
                chain(BuiltinChain::Output, vec![Rule::new(Target::Zone { zone: 1 }).with(Match::by(Uid::SIDECAR))]),
            ],
        ),
        Table::new(
            TableName::Nat,
            [
                chain(BuiltinChain::Prerouting, vec![redirect(Transport::tcp())]),
                chain(
                    BuiltinChain::Output,
                    vec![
                        Rule::new(Target::Return)
                            .with(Match::out(InterfacePattern::lo()))
                            .with(Match::not_to(F::localhost()))
                            .with(Match::by(Uid::SIDECAR)),
                        redirect(Transport::tcp().to_ports("1,3,5-7".parse().unwrap_or_default())),
                    ],
                ),
            ],
        ),
        Table::new(
            TableName::Mangle,
            [chain(
                BuiltinChain::Prerouting,
                vec![Rule::new(Target::Drop).with(Match::CtState { state: CtState::Invalid, negated: false })],
            )],
        ),
    ])
}
