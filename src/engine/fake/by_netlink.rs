//! What the netlink engine does to the host in memory.

use super::host::Host;
use crate::engine::compare::{ExpectedTables, differences};
use crate::engine::messages::{self, tables};
use crate::engine::{Report, Status};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::{FamilyName, V4, V6};
use crate::netlink::Dump;
use crate::nftables::Native;

impl Host {
    pub(super) fn abilities_by_netlink(&self) -> HostAbilities {
        if !self.unprivileged {
            return self.abilities.clone();
        }
        // Not being allowed to look is not absence.
        let text =
            format!("cannot check kernel support; assuming all features are present: {}", messages::not_permitted());
        HostAbilities { remarks: vec![Note::info("engine", text)], ..HostAbilities::default() }
    }

    pub(super) fn status_by_netlink(&self, plan: &Plan) -> Result<Status, Error> {
        if self.unprivileged {
            return Err(messages::not_permitted());
        }
        let found = self.own.dump();
        Ok(match found == Dump::default() {
            true => Status::Absent,
            false => {
                let status = Status::of(differences(&ExpectedTables::of(&Native::of(plan)), &found));
                status.and(self.missing_address(&found.families()))
            }
        })
    }

    pub(super) fn install_by_netlink(&mut self, plan: &Plan, legacy_allowed: bool) -> Result<Report, Error> {
        let mut report = Report::new(EngineName::Netlink);
        if self.unprivileged {
            return Err(messages::not_permitted());
        }
        self.refuse_legacy(legacy_allowed, &mut report)?;
        if let (Some(_), Some((reason, remedy))) = (&plan.v6, &self.abilities.v6_refused) {
            return Err(Error::Unsupported {
                what: format!("IPv6 in nf_tables of this kernel ({reason})"),
                remedy: remedy.clone(),
            });
        }
        self.others_use_nft()?;

        if plan.v6.is_some() {
            self.add_address(&mut report);
        }
        let found = self.own.dump();
        if !differences(&ExpectedTables::of(&Native::of(plan)), &found).is_empty() {
            let before = self.own.families();
            self.own.put(plan);
            let made = self.own.families();
            let removed: Vec<_> = before.into_iter().filter(|family| !made.contains(family)).collect();
            let verb = if found == Dump::default() { "installed" } else { "replaced" };
            report.step(format!("{verb} {}", tables(&made)));
            if !removed.is_empty() {
                report.step(format!("removed {}", tables(&removed)));
            }
        }
        for what in self.remove_nft() {
            report.step(format!("removed {what}"));
        }
        self.remove_programs(&mut report);
        if plan.v6.is_none() {
            self.remove_address(&mut report);
        }
        Ok(report)
    }
    pub(super) fn uninstall_by_netlink(&mut self, config: &Options) -> Result<Report, Error> {
        let mut report = Report::new(EngineName::Netlink);
        if self.unprivileged {
            return Err(messages::not_permitted());
        }
        let families = self.own.families();
        let own = (!families.is_empty()).then(|| tables(&families));
        if config.dry_run {
            let all = own.into_iter().chain(self.describe_nft());
            report.steps.extend(all.map(|what| format!("would remove {what}")));
            self.release_address(EngineName::Netlink, true, &mut report);
        } else {
            // What can be removed is, whatever else cannot.
            let others = self.others_use_nft();
            families.into_iter().for_each(|family| self.own.remove(family));
            let nft = if others.is_ok() { self.remove_nft() } else { Vec::new() };
            own.into_iter().chain(nft).for_each(|what| report.step(format!("removed {what}")));
            self.release_address(EngineName::Netlink, false, &mut report);
            others?;
        }
        let stays = self.legacy.families().into_iter().map(|family| messages::stays(&messages::legacy(family)));
        report.notes.extend(stays.map(|text| Note::warning("iptables", text)));
        Ok(report)
    }

    /// Only the iptables engine can remove what is in tables of iptables-legacy.
    pub(super) fn refuse_legacy(&self, allowed: bool, report: &mut Report) -> Result<(), Error> {
        match messages::legacy_problem(&self.legacy.families()) {
            Some(problem) if allowed => report.notes.push(Note::info("iptables", problem)),
            Some(problem) => return Err(messages::legacy_conflict(problem)),
            None => {}
        }
        Ok(())
    }

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
