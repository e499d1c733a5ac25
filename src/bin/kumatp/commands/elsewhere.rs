//! The commands that need Linux, on another system.

use std::process::ExitCode;

use clap::ArgMatches;

use crate::Failure;
use crate::host::needs_linux;

pub(crate) fn install(_: &ArgMatches) -> Result<(), Failure> {
    Err(needs_linux("install"))
}

pub(crate) fn uninstall(_: &ArgMatches) -> Result<(), Failure> {
    Err(needs_linux("uninstall"))
}

pub(crate) fn status(_: &ArgMatches) -> Result<ExitCode, Failure> {
    Err(needs_linux("status"))
}

pub(crate) fn demo(_: &ArgMatches) -> Result<ExitCode, Failure> {
    Err(needs_linux("demo"))
}
