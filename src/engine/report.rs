//! What an operation did.

use crate::model::{EngineName, Note};

/// What an operation did.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Report {
    /// The engine that did it.
    pub engine: EngineName,
    /// Whether anything is different now.
    pub changed: bool,
    /// The steps, in order, each in the past tense: `added ::6/128 to lo`.
    pub steps: Vec<String>,
    /// What the operator should know.
    pub notes: Vec<Note>,
}

impl Report {
    /// A report of an engine that has done nothing yet.
    pub fn new(engine: EngineName) -> Self {
        Self { engine, changed: false, steps: Vec::new(), notes: Vec::new() }
    }

    /// Adds a step that changed something.
    pub fn step(&mut self, step: impl Into<String>) {
        self.changed = true;
        self.steps.push(step.into());
    }
}
