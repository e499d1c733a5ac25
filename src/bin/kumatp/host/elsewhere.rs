//! A system that is not Linux: nothing can be looked at or installed.

use kumatp::config::Config;
use kumatp::model::{EngineName, Note};
use kumatp::simulate::Simulator;
use kumatp::{Error, Facts, Plan};

use super::Target;
use crate::Failure;

/// Facts that serve where nobody knows better.
const EXAMPLE: &str = r#"{"sidecarUid": "5678", "ipv6": {"state": "usable"}}"#;

impl Target {
    pub(super) fn ask(&self, _: &Config) -> Result<Facts, Failure> {
        Err(Failure::Other(format!(
            "looking at a host needs Linux: say by --facts FILE what rules are to be made for, for example {EXAMPLE}"
        )))
    }

    pub(crate) fn live(&self) -> Result<Live, Failure> {
        Err(needs_linux("looking at what is installed"))
    }
}

/// A nat chain of other programs that comes before ours: there is none.
pub(crate) type Earlier = ();

/// What is installed: there is nothing that could be.
pub(crate) enum Live {}

impl Live {
    pub(crate) fn notes(&self) -> &[Note] {
        match *self {}
    }

    pub(crate) fn earlier(&self) -> Vec<Earlier> {
        match *self {}
    }

    pub(crate) fn earlier_note(&self) -> Option<Note> {
        match *self {}
    }

    pub(crate) fn unknown(&self) -> Vec<Note> {
        match *self {}
    }

    pub(crate) fn engine(&self) -> Option<EngineName> {
        match *self {}
    }

    pub(crate) fn simulator(&self) -> Result<Simulator<'_>, Error> {
        match *self {}
    }

    pub(crate) fn simulator_of_ours(&self) -> Result<Simulator<'_>, Error> {
        match *self {}
    }
}

pub(crate) fn preview(_: &Plan) -> Result<String, Failure> {
    Err(needs_linux("--format ebpf"))
}

pub(crate) fn needs_linux(what: &str) -> Failure {
    Failure::Other(format!("{what} needs Linux; questions about rules and configurations are answered on any system"))
}
