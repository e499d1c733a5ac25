//! What a look at a host found, before C is told.

use crate::engine::Status;
use crate::model::EngineName;

/// What was found.
#[derive(Debug)]
pub(super) struct StateAnswer {
    pub(super) status: Status,
    pub(super) engines: Vec<EngineName>,
    pub(super) json: serde_json::Value,
}
