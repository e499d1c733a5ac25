//! What the netlink engine does to the host in memory.

use super::host::{Host, seen};
use crate::engine::asked::{Asked, Question};
use crate::engine::backend::{Backend, Compared, Look, Stopped, Taken, Work};
use crate::engine::compare::{ExpectedTables, differences};
use crate::engine::failures::Failures;
use crate::engine::installation::Installation;
use crate::engine::location::Location;
use crate::engine::messages::{self, tables};
use crate::engine::status::Status;
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::{FamilyName, V4, V6};
use crate::netlink::Dump;
use crate::nftables::Native;

/// The netlink engine of a host in memory.
#[derive(Debug)]
pub(super) struct ByNetlink;

impl Backend<Host> for ByNetlink {
    fn engine(&self) -> EngineName {
        EngineName::Netlink
    }

    fn has_marker(&self) -> bool {
        true
    }

    fn presumed(&self, host: &mut Host, _: &Options) -> Result<HostAbilities, Error> {
        if !host.unprivileged {
            return Ok(host.abilities.clone());
        }
        // Not being allowed to look is not absence.
        let text =
            format!("cannot check kernel support; assuming all features are present: {}", messages::not_permitted());
        Ok(HostAbilities { remarks: vec![Note::info("engine", text)], ..HostAbilities::default() })
    }

    fn look(&self, host: &mut Host, _: Question<'_>, _: Location) -> Result<Look, Error> {
        Ok(seen(host.own.families()))
    }

    fn check(&self, host: &mut Host, _: &Options, _: Option<&Plan>) -> Result<(), Error> {
        match host.unprivileged {
            true => Err(messages::not_permitted()),
            false => Ok(()),
        }
    }

    fn put(&self, work: &mut Work<'_, Host>, plan: &Plan, _: bool) -> Result<Failures, Stopped> {
        let host = &mut *work.ground;
        if let (Some(_), Some((reason, remedy))) = (&plan.v6, &host.abilities.v6_refused) {
            let what = format!("IPv6 in nf_tables of this kernel ({reason})");
            return Err(Error::Unsupported { what, remedy: remedy.clone() }.into());
        }
        host.others_use_nft()?;
        let found = host.own.dump();
        if !differences(&ExpectedTables::of(&Native::of(plan)), &found).is_empty() {
            let before = host.own.families();
            host.own.put(plan);
            let made = host.own.families();
            let removed: Vec<_> = before.into_iter().filter(|family| !made.contains(family)).collect();
            let verb = if found == Dump::default() { "installed" } else { "replaced" };
            work.report.step(format!("{verb} {}", tables(&made)));
            if !removed.is_empty() {
                work.report.step(format!("removed {}", tables(&removed)));
            }
        }
        host.remove_nft().into_iter().for_each(|what| work.report.step(format!("removed {what}")));
        Ok(Failures::default())
    }

    fn take_away(&self, work: &mut Work<'_, Host>, spared: &[Location]) -> Result<Taken, Error> {
        let host = &mut *work.ground;
        let nft_is_spared = spared.contains(&Location::IptablesNft);
        let families = host.own.families();
        let own = (!families.is_empty()).then(|| tables(&families));
        let mut taken = Taken::default();
        if work.dry_run {
            let all = own.into_iter().chain(host.describe_nft());
            work.report.steps.extend(all.map(|what| format!("would remove {what}")));
            taken.gone.extend(Location::of(EngineName::Netlink));
            return Ok(taken);
        }
        families.into_iter().for_each(|family| host.own.remove(family));
        // What can be removed is, whatever else cannot.
        let nft = match host.others_use_nft() {
            _ if nft_is_spared => Vec::new(),
            Ok(()) => host.remove_nft(),
            Err(error) => {
                taken.failures.add(error);
                Vec::new()
            }
        };
        own.into_iter().chain(nft).for_each(|what| work.report.step(format!("removed {what}")));
        Ok(taken)
    }

    fn compare(&self, host: &mut Host, asked: &Asked<'_>, _: &mut Vec<Note>) -> Result<Compared, Error> {
        let (found, families) = (host.own.dump(), host.own.families());
        Ok(match asked.expected() {
            Some(expected) if !families.is_empty() => {
                let status = Status::of(differences(expected, &found));
                Compared::of(Installation::new(EngineName::Netlink, None, families, status))
            }
            _ => Compared::default(),
        })
    }
}

impl Host {
    /// Removes what is in the tables of iptables-nft, and says what it was.
    fn remove_nft(&mut self) -> Vec<String> {
        let all = self.describe_nft();
        FamilyName::ALL.into_iter().for_each(|family| self.nft.remove(family));
        all
    }

    fn describe_nft(&self) -> Vec<String> {
        let of = |family: FamilyName| {
            let items = self.nft.describe(family).into_iter();
            items.map(move |item| format!("{item} ({family}, nft)"))
        };
        FamilyName::ALL.into_iter().flat_map(of).collect()
    }

    /// Chains of iptables-nft that others lead to cannot be removed.
    fn others_use_nft(&self) -> Result<(), Error> {
        let v4 = self.nft.in_the_way::<V4>(None).into_iter().map(|chain| (FamilyName::V4, chain));
        let v6 = self.nft.in_the_way::<V6>(None).into_iter().map(|chain| (FamilyName::V6, chain));
        match v4.chain(v6).next() {
            Some((family, chain)) => Err(messages::in_use(&messages::leftover(family, "nat", chain))),
            None => Ok(()),
        }
    }
}
