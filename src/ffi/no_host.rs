//! Stands in for `host` in a build without it: every function says so.

use std::path::Path;

use super::arguments::not_built_in;
use super::state_answer::StateAnswer;
use super::status::kumatp_error;
use super::text::kumatp_text;
use crate::config::Config;
use crate::engine::Report;
use crate::error::Error;
use crate::facts::Facts;
use crate::model::{EngineName, Options, Plan};
use crate::simulate::Packets;

fn absent() -> Error {
    not_built_in("reading or changing a host", "host")
}

#[derive(Debug)]
pub(super) struct Namespace;

/// # Safety
/// None is needed.
pub(super) unsafe fn namespace(_: i32) -> Result<Namespace, kumatp_error> {
    Err(absent().into())
}

impl Namespace {
    pub(super) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
        work()
    }
}

pub(super) fn probe(_: &Config, _: EngineName) -> Result<Facts, Error> {
    Err(absent())
}

pub(super) fn check(_: &Plan, _: EngineName) -> Result<(), Error> {
    Err(absent())
}

pub(super) fn preview(_: &Plan) -> Result<String, Error> {
    Err(not_built_in("the engine ebpf", "ebpf"))
}

pub(super) fn apply(_: &Plan, _: EngineName, _: bool) -> Result<Vec<Report>, Error> {
    Err(absent())
}

pub(super) fn uninstall(_: &Options, _: Option<EngineName>) -> Result<Vec<Report>, Error> {
    Err(absent())
}

pub(super) fn state(_: Option<&Plan>) -> Result<StateAnswer, Error> {
    Err(absent())
}

pub(super) fn explain(_: &Packets) -> Result<kumatp_text, Error> {
    Err(absent())
}

pub(super) fn diff(_: &Plan) -> Result<kumatp_text, Error> {
    Err(absent())
}

pub(super) fn restore_resolv_conf(_: &Path) -> Result<Report, Error> {
    Err(absent())
}
