//! How the rules of an installation by iptables compare with those of a plan.

use super::host::Host;
use super::kernel::Seen;
use super::ours::Ours;
use super::programs::Programs;
use super::uncommented::unmarked as unmarked_of;
use crate::engine::compare::of_rulesets;
use crate::engine::record::Record;
use crate::error::Error;
use crate::model::{IptablesMode, Plan, Ruleset};
use crate::net::Family;
use crate::netlink::Kernel;

impl Programs {
    /// How what an installation in this mode has differs from a plan, in words; none if it is the same.
    /// Comments are not compared, so that kumactl's installation of the same plan is no other.
    pub(super) fn differences(
        &self,
        kernel: &mut Kernel,
        plan: &Plan,
        mode: IptablesMode,
        record: &Record,
    ) -> Result<Vec<String>, Error> {
        let host = Host::new(self, &plan.options, kernel);
        // What is not known to be ours for want of a record is looked for by the plan itself.
        let mut record = record.clone();
        let mut unmarked = unmarked_of(plan.iptables_v4(), mode);
        unmarked.extend(plan.iptables_v6().into_iter().flat_map(|rules| unmarked_of(rules, mode)));
        record.or_rules_anywhere(&unmarked);
        let mut list = differences_of(&host, Some(plan.iptables_v4()), mode, &record)?;
        list.extend(differences_of(&host, plan.iptables_v6(), mode, &record)?);
        Ok(list)
    }
}

fn differences_of<F: Family>(
    host: &Host<'_>,
    wanted: Option<&Ruleset<F>>,
    mode: IptablesMode,
    record: &Record,
) -> Result<Vec<String>, Error> {
    let wanted = wanted.map(Ruleset::canonical).unwrap_or_else(|| Ruleset::new([]));
    let Some(tools) = host.all().into_iter().find(|tools| (tools.family, tools.mode) == (F::NAME, mode)) else {
        // What is not wanted may well have no programs.
        return match wanted.tables.is_empty() {
            true => Ok(Vec::new()),
            false => Err(Error::Unsupported {
                what: format!(
                    "looking at the {} rules of iptables-{mode} on this host, which lacks the programs,",
                    F::NAME
                ),
                remedy: "install them, or name them (--iptables-executables)".into(),
            }),
        };
    };
    let saved = match host.seen(&tools, record) {
        Seen::Nothing => None,
        _ => host.look::<F>(&tools)?,
    };
    let found = match saved {
        Some(saved) => Ours::find(&saved, &record.of(F::NAME, mode)).ruleset::<F>(),
        None => Ok(Ruleset::new([])),
    };
    Ok(match found {
        Ok(found) => of_rulesets(&wanted, &found.canonical()),
        // Rules in our chains that no plan has.
        Err(error) => vec![format!("{}: {error}", F::NAME)],
    })
}
