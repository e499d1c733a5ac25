//! What the eBPF engine does to the host in memory.

use super::host::Host;
use crate::engine::{Report, Status, ebpf_unsupported, messages};
use crate::error::Error;
use crate::facts::HostAbilities;
use crate::model::{EngineName, Note, Options, Plan};

impl Host {
    pub(super) fn abilities_by_ebpf(&self) -> HostAbilities {
        if !self.unprivileged {
            return HostAbilities::default();
        }
        let text = format!("the kernel is taken to have all that is needed: {}", no_programs());
        HostAbilities { remarks: vec![Note::info("ebpf", text)], ..HostAbilities::default() }
    }

    pub(super) fn status_by_ebpf(&self, plan: &Plan) -> Result<Status, Error> {
        match &self.programs {
            _ if self.unprivileged => Err(no_programs()),
            None => Ok(Status::Absent),
            Some(installed) if is_same(installed, plan) => Ok(Status::Current),
            Some(_) => Ok(Status::of(vec![messages::OTHER_PROGRAMS.to_owned()])),
        }
    }

    pub(super) fn install_by_ebpf(&mut self, plan: &Plan, legacy_allowed: bool) -> Result<Report, Error> {
        ebpf_unsupported::refuse(plan)?;
        let mut report = Report::new(EngineName::Ebpf);
        if self.unprivileged {
            return Err(no_programs());
        }
        self.refuse_legacy(legacy_allowed, &mut report)?;
        if plan.v6.is_some() {
            self.add_address(&mut report);
        }
        match &self.programs {
            None => report.step(messages::INSTALLED_PROGRAMS),
            Some(installed) if is_same(installed, plan) => {}
            Some(_) => report.step(messages::REPLACED_PROGRAMS),
        }
        self.programs = Some(plan.clone());
        if plan.v6.is_none() {
            self.remove_address(&mut report);
        }
        self.remove_rules(&mut report);
        Ok(report)
    }

    pub(super) fn uninstall_by_ebpf(&mut self, config: &Options) -> Result<Report, Error> {
        let mut report = Report::new(EngineName::Ebpf);
        if self.unprivileged {
            return Err(no_programs());
        }
        if config.dry_run {
            if self.programs.is_some() {
                report.steps.push(format!("would remove {}", messages::PROGRAMS));
            }
        } else {
            self.remove_programs(&mut report);
        }
        self.release_address(EngineName::Ebpf, config.dry_run, &mut report);
        Ok(report)
    }

    /// Removes the programs, whose place the rules of another engine have taken.
    pub(super) fn remove_programs(&mut self, report: &mut Report) {
        if self.programs.take().is_some() {
            report.step(format!("removed {}", messages::PROGRAMS));
        }
    }
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
