//! Engines, and looking at a host.

use kumatp::config::Config;
use kumatp::engine::ebpf::{self, Ebpf};
use kumatp::engine::netlink::Netlink;
use kumatp::engine::{EarlierChain, Engine, by_name, installed};
use kumatp::in_force::Installed;
use kumatp::model::{EngineName, Note};
use kumatp::netns::Namespace;
use kumatp::simulate::Simulator;
use kumatp::{Error, Facts, Plan, facts, policy};

use super::Target;
use crate::Failure;

impl Target {
    pub(crate) fn engine(&self) -> Result<Box<dyn Engine>, Failure> {
        Ok(by_name(self.engine, self.namespace()?)?)
    }

    pub(crate) fn netlink(&self) -> Result<Netlink, Error> {
        Ok(self.namespace()?.into_iter().fold(Netlink::default(), Netlink::in_namespace))
    }

    pub(crate) fn ebpf(&self) -> Result<Ebpf, Error> {
        Ok(self.namespace()?.into_iter().fold(Ebpf::default(), Ebpf::in_namespace))
    }

    /// Whether another namespace was asked for.
    pub(crate) fn elsewhere(&self) -> bool {
        self.namespace.is_some()
    }

    /// The namespace that was asked for.
    pub(crate) fn namespace(&self) -> Result<Option<Namespace>, Error> {
        self.namespace.as_ref().map(Namespace::open).transpose()
    }

    /// Asks the engine what it can do, and looks at the host for the facts that a plan for this configuration needs.
    pub(super) fn ask(&self, config: &Config) -> Result<Facts, Failure> {
        Ok(self.look(config, self.engine()?.abilities(&config.options())?)?)
    }

    /// Looks at the host for the facts that a plan for this configuration needs.
    pub(crate) fn look(&self, config: &Config, abilities: facts::HostAbilities) -> Result<Facts, Error> {
        facts::probe_in(self.namespace()?.as_ref(), &policy::facts_needed(config), abilities)
    }

    /// What is installed.
    pub(crate) fn live(&self) -> Result<Live, Failure> {
        Ok(Live(installed(self.namespace()?.as_ref())?))
    }

    /// # Errors
    /// If the programs of iptables are to be run, which want root, and it is not root who runs this.
    pub(crate) fn must_be_allowed(&self, action: &str) -> Result<(), Error> {
        match self.engine == EngineName::Iptables && !nix::unistd::geteuid().is_root() {
            true => Err(Error::Permission { action: action.into(), needed: "root".into() }),
            false => Ok(()),
        }
    }
}

/// A nat chain of other programs that comes before ours.
pub(crate) type Earlier = EarlierChain;

/// What is installed, whoever installed it.
pub(crate) struct Live(Installed);

impl Live {
    pub(crate) fn notes(&self) -> &[Note] {
        &self.0.notes
    }

    /// The nat chains of other programs that come before ours.
    pub(crate) fn earlier(&self) -> Vec<Earlier> {
        self.0.earlier()
    }

    /// A warning that names them.
    pub(crate) fn earlier_note(&self) -> Option<Note> {
        self.0.earlier_note()
    }

    /// What is not known of it.
    pub(crate) fn unknown(&self) -> Vec<Note> {
        self.0.unknown()
    }

    pub(crate) fn engine(&self) -> Option<EngineName> {
        self.0.engine()
    }

    pub(crate) fn simulator(&self) -> Result<Simulator<'_>, Error> {
        Simulator::of_installed(&self.0)
    }

    /// Without the rules of other programs.
    pub(crate) fn simulator_of_ours(&self) -> Result<Simulator<'_>, Error> {
        Simulator::of_installed_ours(&self.0)
    }
}

/// What eBPF programs would be told.
pub(crate) fn preview(plan: &Plan) -> Result<String, Failure> {
    Ok(ebpf::preview(plan)?)
}
