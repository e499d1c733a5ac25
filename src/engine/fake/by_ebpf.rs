//! What the eBPF engine does to the host in memory.

use super::host::{Host, seen};
use crate::engine::asked::{Asked, Question};
use crate::engine::backend::{Backend, Compared, Look, Stopped, Taken, Work};
use crate::engine::failures::Failures;
use crate::engine::installation::Installation;
use crate::engine::location::Location;
use crate::engine::status::Status;
use crate::engine::{ebpf_unsupported, messages};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};
use crate::net::FamilyName;

/// The eBPF engine of a host in memory.
#[derive(Debug)]
pub(super) struct ByEbpf;

impl Backend<Host> for ByEbpf {
    fn engine(&self) -> EngineName {
        EngineName::Ebpf
    }

    fn presumed(&self, host: &mut Host, _: &Options) -> Result<HostAbilities, Error> {
        if !host.unprivileged {
            return Ok(HostAbilities::default());
        }
        let text = format!("the kernel is taken to have all that is needed: {}", no_programs());
        Ok(HostAbilities { remarks: vec![Note::info("ebpf", text)], ..HostAbilities::default() })
    }

    fn look(&self, host: &mut Host, _: Question<'_>, _: Location) -> Result<Look, Error> {
        Ok(seen(host.programs.as_ref().map(families).unwrap_or_default()))
    }

    fn check(&self, host: &mut Host, _: &Options, plan: Option<&Plan>) -> Result<(), Error> {
        plan.map_or(Ok(()), ebpf_unsupported::refuse)?;
        match host.unprivileged {
            true => Err(no_programs()),
            false => Ok(()),
        }
    }

    fn put(&self, work: &mut Work<'_, Host>, plan: &Plan, _: bool) -> Result<Failures, Stopped> {
        match work.ground.programs.replace(plan.clone()) {
            None => work.report.step(messages::INSTALLED_PROGRAMS),
            Some(before) if is_same(&before, plan) => {}
            Some(_) => work.report.step(messages::REPLACED_PROGRAMS),
        }
        Ok(Failures::default())
    }

    fn take_away(&self, work: &mut Work<'_, Host>, _: &[Location]) -> Result<Taken, Error> {
        if work.dry_run {
            let there = work.ground.programs.is_some();
            work.report.steps.extend(there.then(|| format!("would remove {}", messages::PROGRAMS)));
        } else if work.ground.programs.take().is_some() {
            work.report.step(format!("removed {}", messages::PROGRAMS));
        }
        Ok(Taken { gone: vec![Location::Programs], ..Taken::default() })
    }

    fn compare(&self, host: &mut Host, asked: &Asked<'_>, _: &mut Vec<Note>) -> Result<Compared, Error> {
        let Some((installed, plan)) = host.programs.as_ref().zip(asked.plan) else { return Ok(Compared::default()) };
        let status = match is_same(installed, plan) {
            true => Status::Current,
            false => Status::of(vec![messages::OTHER_PROGRAMS.to_owned()]),
        };
        Ok(Compared::of(Installation::new(EngineName::Ebpf, None, families(installed), status)))
    }
}

/// The families that programs for a plan deal with.
fn families(plan: &Plan) -> Vec<FamilyName> {
    FamilyName::ALL.into_iter().filter(|family| *family == FamilyName::V4 || plan.v6.is_some()).collect()
}

/// Whether the programs are told the same.
fn is_same(installed: &Plan, plan: &Plan) -> bool {
    let told = |plan: &Plan| (plan.sockets.clone(), plan.options.bpffs.clone(), plan.options.cgroup.clone());
    told(installed) == told(plan)
}

fn no_programs() -> Error {
    Error::Permission {
        action: "load programs into the kernel".to_owned(),
        needed: "CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON".to_owned(),
    }
}
