//! What an engine was asked for.

use crate::model::{Options, Plan};

/// An operation of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Engine::abilities`](crate::engine::Engine::abilities).
    Abilities,
    /// [`Engine::apply`](crate::engine::Engine::apply).
    Apply,
    /// [`Engine::uninstall`](crate::engine::Engine::uninstall).
    Uninstall,
    /// [`Fake::status`](super::Fake::status).
    Status,
}

/// What an engine was asked for, and with what.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Call {
    /// [`Engine::abilities`](crate::engine::Engine::abilities).
    Abilities(Options),
    /// [`Engine::apply`](crate::engine::Engine::apply).
    Apply(Plan),
    /// [`Engine::uninstall`](crate::engine::Engine::uninstall).
    Uninstall(Options),
    /// [`Fake::status`](super::Fake::status).
    Status(Plan),
}

impl Call {
    /// The operation.
    pub fn operation(&self) -> Operation {
        match self {
            Self::Abilities(_) => Operation::Abilities,
            Self::Apply(_) => Operation::Apply,
            Self::Uninstall(_) => Operation::Uninstall,
            Self::Status(_) => Operation::Status,
        }
    }
}
