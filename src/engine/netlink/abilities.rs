//! What the kernel can do, as it says itself.

use nix::libc;

use super::problem;
use crate::config::Config;
use crate::error::Error;
use crate::facts::{Abilities, HostAbilities, Remark};
use crate::model::{BuiltinChain, Chain, CtState, Match, Rule, Ruleset, Table, TableName, Target, Transport};
use crate::net::{Family, FamilyName, InterfacePattern, Port, Uid, V4, V6};
use crate::netlink::{Batch, Content, Failure, Object, Socket, legacy_chain_exists};

/// The table that is rehearsed with. It never comes into being.
const TABLE: &str = "kuma-mesh-rehearsal";

/// The chain in which Docker translates queries to its DNS server.
const DOCKER: &str = "DOCKER_OUTPUT";

pub(super) fn look(config: &Config) -> Result<HostAbilities, Error> {
    let mut found = HostAbilities::default();
    let looked = Socket::open().map_err(Error::from).and_then(|mut socket| look_with(&mut socket, &mut found));
    match looked {
        Ok(()) => Ok(found),
        // Not being allowed to look is not absence.
        Err(error @ Error::Permission { .. }) => {
            found
                .remarks
                .push(Remark::info("engine", format!("the kernel is taken to be capable of everything: {error}")));
            Ok(found)
        }
        Err(error) if config.dry_run => {
            found
                .remarks
                .push(Remark::info("engine", format!("the plan is for a host that can do everything: {error}")));
            Ok(found)
        }
        Err(error) => Err(error),
    }
}

fn look_with(socket: &mut Socket, found: &mut HostAbilities) -> Result<(), Error> {
    let (abilities, refused) = rehearse::<V4>(socket)?;
    if let Some(failure) = refused {
        return Err(problem::explain(&failure, 0, None));
    }
    found.v4 = abilities;
    let (abilities, refused) = rehearse::<V6>(socket)?;
    found.v6 = abilities;
    found.v6_refused = refused.map(|failure| {
        let error = problem::explain(&failure, 0, None);
        (format!("the kernel cannot redirect IPv6: {error}"), "load what is missing".to_owned())
    });
    for (family, abilities) in [(FamilyName::V4, &mut found.v4), (FamilyName::V6, &mut found.v6)] {
        abilities.docker_output = socket.chain_exists(family, "nat", DOCKER)?
            || legacy_chain_exists(family, "nat", DOCKER).unwrap_or_else(|error| {
                found.remarks.push(Remark::info(
                    "docker",
                    format!("whether Docker has its DNS chain in the {family} tables of iptables-legacy is not known: {error}"),
                ));
                false
            });
    }
    Ok(())
}

/// What the kernel can do for a family, and what it refused of that without which nothing goes.
fn rehearse<F: Family>(socket: &mut Socket) -> Result<(Abilities, Option<Failure>), Error> {
    let mut batch = Batch::of_table(TABLE, None);
    batch.add(F::NAME, &Content::of(&crate::nftables::Table::of(&every_kind::<F>())));
    let outcome = socket.send(&batch.rehearse())?;
    let mut abilities = Abilities::default();
    let mut refused = None;
    for failure in outcome.failures {
        if (failure.errno, &failure.object) == (libc::EPERM, &Some(Object::Batch)) {
            return Err(problem::not_permitted());
        }
        match &failure.object {
            Some(Object::Chain { chain, .. } | Object::Rule { chain, .. }) if chain.starts_with("raw_") => {
                abilities.conntrack_zones = false;
            }
            Some(Object::Chain { chain, .. } | Object::Rule { chain, .. }) if chain.starts_with("mangle_") => {
                abilities.mangle = false;
            }
            _ => {
                refused.get_or_insert(failure);
            }
        }
    }
    Ok((abilities, refused))
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
